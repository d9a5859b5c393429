//! How the program ends: its last message and its exit code. docs/scripting.md describes both.

use std::any::Any;
use std::fmt;
use std::io::{self, ErrorKind, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::terminal::{complain, print};
use crate::trace;

/// A closed pipe ends other Unix tools with the signal SIGPIPE.
const SIGPIPE: i32 = 13;

/// A run that stopped on request before its work was done.
///
/// It is returned as an error, so that no caller takes half a run for a whole one.
#[derive(Clone, Debug, Default)]
pub struct Stopped {
    /// The signal that requested the stop; none where `--max-steps` did.
    pub signal: Option<i32>,
    /// The checkpoint for the continuation, and its steps; none where no run was active.
    pub saved: Option<(PathBuf, u64)>,
    /// Whether the same command goes on without `--resume`, as a study does.
    pub goes_on: bool,
}

impl Stopped {
    fn exit_code(&self) -> u8 {
        self.signal.map_or(3, |signal| 128 + signal as u8)
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = self.signal.map_or(String::new(), |signal| format!(" by {}", name(signal)));
        match &self.saved {
            Some((checkpoint, step)) => {
                let option = if self.goes_on { "" } else { " with --resume" };
                write!(
                    text,
                    "stopped{by} at step {step}, saved {}; the same command{option} goes on",
                    checkpoint.display()
                )
            }
            None => write!(text, "stopped{by}"),
        }
    }
}

impl std::error::Error for Stopped {}

fn name(signal: i32) -> String {
    match signal {
        1 => "SIGHUP".into(),
        2 => "SIGINT".into(),
        15 => "SIGTERM".into(),
        _ => format!("signal {signal}"),
    }
}

/// Exit code, last event and last message of the program.
pub struct Ending {
    code: u8,
    event: Value,
    words: Words,
}

enum Words {
    None,
    /// A text that the user asked for, on standard output.
    Told(String),
    Error(String),
}

impl Ending {
    /// The ending of a command that returned.
    pub fn of(done: anyhow::Result<()>) -> Self {
        let Err(error) = done else {
            return Self { code: 0, event: json!({"event": "finished"}), words: Words::None };
        };
        if let Some(stopped) = error.downcast_ref::<Stopped>() {
            return Self::stopped(stopped);
        }
        if is_closed_pipe(&error) {
            return Self::stopped(&Stopped { signal: Some(SIGPIPE), ..Stopped::default() });
        }
        let usage = error.chain().filter_map(|cause| cause.downcast_ref::<ec_darts::Error>()).any(
            |cause| {
                use ec_darts::Error::{ConfigSyntax, ConfigValue};
                matches!(cause, ConfigSyntax { .. } | ConfigValue { .. })
            },
        );
        Self::failed(if usage { 2 } else { 1 }, &format!("{error:#}"))
    }

    /// The ending of a command that was stopped.
    pub fn stopped(stopped: &Stopped) -> Self {
        let event = json!({
            "event": "stopped",
            "signal": stopped.signal.map(name),
            "checkpoint": stopped.saved.as_ref().map(|(path, _)| path.display().to_string()),
            "total_step": stopped.saved.as_ref().map(|&(_, step)| step),
        });
        // The reader is gone.
        let silent = stopped.signal == Some(SIGPIPE);
        let words = if silent { Words::None } else { Words::Told(stopped.to_string()) };
        Self { code: stopped.exit_code(), event, words }
    }

    /// The ending after a panic, whose message is already on standard error.
    pub fn panicked(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
        let reason = format!("a fault of the program: {text}");
        Self { words: Words::None, ..Self::failed(101, &reason) }
    }

    fn failed(code: u8, reason: &str) -> Self {
        let event = json!({"event": "failed", "error": reason, "exit_code": code});
        Self { code, event, words: Words::Error(format!("error: {reason}")) }
    }

    /// Prints the message, as the last event where `events` are printed, and closes the trace.
    pub fn tell(self, events: bool) -> u8 {
        trace::close();
        // A failure to print does not change how the work ended.
        match (events, self.words) {
            (true, words) => {
                let _ = print(&format!("{}\n", self.event));
                if let Words::Error(text) = words {
                    complain(&text);
                }
            }
            (false, Words::None) => {}
            (false, Words::Told(text)) => drop(print(&format!("{text}\n"))),
            (false, Words::Error(text)) => complain(&text),
        }
        self.code
    }
}

/// The ending of a command line with a mistake, or with a request for help or the version.
pub fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        // Without colours, because the message repeats the user's text.
        complain(error.render().to_string().trim_end());
        return ExitCode::from(2);
    }
    let done = match io::stdout().is_terminal() {
        true => error.print().map_err(anyhow::Error::from),
        false => print(&error.render().to_string()),
    };
    ExitCode::from(Ending::of(done).tell(false))
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == ErrorKind::BrokenPipe)
}
