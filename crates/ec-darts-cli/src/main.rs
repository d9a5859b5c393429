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

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use args::{Arguments, Command, ConfigCommand};
use clap::Parser;
use ec_darts::config::{RetrainConfig, SearchConfig, Settings};

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
            resolved(&config, &set)?;
            print(&format!("{}: valid\n", config.display()))
        }
        ConfigCommand::Print { config, set } => print(&resolved(&config, &set)?),
    }
}

/// Settings of a search, a retraining or a whole run, whichever the file has, as they would be used.
fn resolved(path: &Path, set: &[String]) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    if pipeline::is_whole_run(&text) {
        let (search, retrain) = pipeline::settings(path, set, None)?;
        return Ok(format!("# search\n{}\n# retraining\n{}", search.to_toml(), retrain.to_toml()));
    }
    if text.lines().any(|line| line.trim() == "[retrain]") {
        return Ok(RetrainConfig::load(path, set)?.to_toml());
    }
    Ok(SearchConfig::load(path, set)?.to_toml())
}

/// Standard output, where a reader may have gone away.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    Ok(output.flush()?)
}
