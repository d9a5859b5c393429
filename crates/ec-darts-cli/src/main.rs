//! The program `ec-darts`. Exit codes: 0 done, 1 failed, 2 wrong usage or settings.

mod args;
mod cost;
mod data;
#[cfg(feature = "fetch")]
mod fetch;
mod genotype;
mod report;
mod search;

use std::io::{self, Write};
use std::process::ExitCode;

use args::{Arguments, Command, ConfigCommand};
use clap::Parser;
use ec_darts::config::SearchConfig;

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Search(arguments) => search::run(arguments),
        Command::Genotype(command) => genotype::run(command),
        Command::Cost(arguments) => cost::run(arguments),
        Command::Config(command) => config(command),
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

fn config(command: ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check { config, set } => {
            SearchConfig::load(&config, &set)?;
            print(&format!("{}: valid\n", config.display()))
        }
        ConfigCommand::Print { config, set } => {
            print(&SearchConfig::load(&config, &set)?.to_toml())
        }
    }
}

/// Standard output, where a reader may have gone away.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    Ok(output.flush()?)
}
