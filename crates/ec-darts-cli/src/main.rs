//! The program `ec-darts`. Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 stopped by
//! `--max-steps`, 128 and the number of the signal that stopped it.

mod args;
mod classify;
mod compare;
mod confusion;
mod cost;
mod data;
mod ending;
mod evaluate;
mod export;
#[cfg(feature = "fetch")]
mod fetch;
mod genotype;
mod given;
mod images;
mod mistakes;
mod output;
mod pipeline;
mod report;
mod report_html;
mod retrain;
mod search;
mod session;
mod settings;
mod signals;
mod study;
mod terminal;
mod trace;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use args::{Arguments, Command};
use clap::{CommandFactory, Parser};
use ending::Ending;

pub(crate) use terminal::print;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return ending::usage(&error),
    };
    let events = arguments.command.prints_events();
    // A panic of the program ends a script's run as any error does.
    let done = catch_unwind(AssertUnwindSafe(|| run(arguments)));
    let ending = done.map_or_else(|payload| Ending::panicked(&*payload), Ending::of);
    ExitCode::from(ending.tell(events))
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    trace::open(arguments.verbose, arguments.trace.as_deref())?;
    match arguments.command {
        Command::Run(arguments) => pipeline::run(arguments),
        Command::Search(arguments) => search::run(arguments),
        Command::Retrain(arguments) => retrain::run(arguments),
        Command::Genotype(command) => genotype::run(command),
        Command::Cost(arguments) => cost::run(arguments),
        Command::Report(arguments) => report_html::run(arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Study(command) => study::run(command),
        Command::Evaluate(arguments) => evaluate::run(arguments),
        Command::Classify(arguments) => classify::run(arguments),
        Command::Export(arguments) => export::export(arguments),
        Command::Import(arguments) => export::import(arguments),
        Command::Config(command) => settings::run(command),
        Command::Data(command) => data::run(command),
        Command::Completions { shell } => completions(shell),
    }
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "ec-darts", &mut script);
    print(&String::from_utf8(script)?)
}
