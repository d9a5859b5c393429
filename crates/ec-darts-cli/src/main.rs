//! The program `ec-darts`. Exit codes: 0 done, 1 failed, 2 wrong usage or settings.

mod args;
mod classify;
mod confusion;
mod cost;
mod data;
mod evaluate;
mod export;
#[cfg(feature = "fetch")]
mod fetch;
mod genotype;
mod pipeline;
mod report;
mod report_html;
mod retrain;
mod search;
mod session;
mod settings;

use std::io::{self, Write};
use std::process::ExitCode;

use args::{Arguments, Command};
use clap::Parser;

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(arguments) => pipeline::run(arguments),
        Command::Search(arguments) => search::run(arguments),
        Command::Retrain(arguments) => retrain::run(arguments),
        Command::Genotype(command) => genotype::run(command),
        Command::Cost(arguments) => cost::run(arguments),
        Command::Report(arguments) => report_html::run(arguments),
        Command::Evaluate(arguments) => evaluate::run(arguments),
        Command::Classify(arguments) => classify::run(arguments),
        Command::Export(arguments) => export::export(arguments),
        Command::Import(arguments) => export::import(arguments),
        Command::Config(command) => settings::run(command),
        Command::Data(command) => data::run(command),
    };
    let Err(error) = done else {
        return ExitCode::SUCCESS;
    };
    let broken_pipe = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe);
    if broken_pipe {
        return ExitCode::SUCCESS;
    }
    // Nothing can be done where standard error is closed too.
    let _ = writeln!(io::stderr(), "error: {error:#}");
    let usage =
        error.chain().filter_map(|cause| cause.downcast_ref::<ec_darts::Error>()).any(|cause| {
            use ec_darts::Error::{ConfigSyntax, ConfigValue};
            matches!(cause, ConfigSyntax { .. } | ConfigValue { .. })
        });
    ExitCode::from(if usage { 2 } else { 1 })
}

/// Standard output, where a reader may have gone away.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    Ok(output.flush()?)
}
