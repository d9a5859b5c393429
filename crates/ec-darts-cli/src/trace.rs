//! Listeners to the spans and events of the libraries: `log.txt` of the active run, the terminal
//! with `-v` or `RUST_LOG`, and the file of `--trace`.
//!
//! Without `-v`, `RUST_LOG` and `--trace`, only the log listens. It takes the events of a run from
//! `INFO` on, and spans of steps are then not even created.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_chrome::{ChromeLayerBuilder, FlushGuard};
use tracing_subscriber::fmt::format::{FmtSpan, FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{self, FmtContext};
use tracing_subscriber::layer::{Context as LayerContext, Filter, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, filter::Targets, registry};

use crate::terminal::{complain, visible};

/// The crates whose spans and events a trace contains, by the start of their names.
const TRACED: [&str; 3] = ["ec_darts", "burn", "cubecl"];

/// The open trace. It is global, because the thread of a signal must close it too.
static TRACE: Mutex<Option<FlushGuard>> = Mutex::new(None);
/// The log of the active run; the first event opens the file.
static LOG: Mutex<Log> = Mutex::new(Log::None);

static ON_TERMINAL: AtomicBool = AtomicBool::new(false);

enum Log {
    None,
    At(PathBuf),
    Open(File),
}

/// Starts the listeners.
///
/// # Errors
/// Where `RUST_LOG` is not valid, or where the file of the trace cannot be written.
pub fn open(verbose: u8, trace: Option<&Path>) -> anyhow::Result<()> {
    let terminal = terminal_filter(verbose)?.map(|filter| {
        let layer = fmt::layer().with_ansi(false).with_span_events(FmtSpan::CLOSE);
        layer.with_writer(|| Visible(io::stderr())).with_filter(filter)
    });
    ON_TERMINAL.store(terminal.is_some(), Ordering::Relaxed);
    let chrome = trace.map(chrome_file).transpose()?.map(|file| {
        let (layer, guard) = ChromeLayerBuilder::new().writer(file).include_args(true).build();
        *TRACE.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
        let targets = TRACED.map(|target| (target, LevelFilter::TRACE));
        layer.with_filter(Targets::new().with_targets(targets))
    });
    // All layers share the formatted fields of a span, so no layer may use colours.
    let log = fmt::layer().with_ansi(false).event_format(LogLine);
    let log = log.with_writer(|| Visible(LogFile)).with_filter(InRun);
    registry().with(log).with(terminal).with(chrome).try_init().context("cannot start to log")
}

/// Completes the file of the trace.
pub fn close() {
    drop(TRACE.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// Events of runs go to `log.txt` in this folder from now on.
pub fn log_into(folder: &Path) {
    *LOG.lock().unwrap_or_else(PoisonError::into_inner) = Log::At(folder.join("log.txt"));
}

/// Whether events appear on the terminal; they would break a progress bar.
pub fn is_on_terminal() -> bool {
    ON_TERMINAL.load(Ordering::Relaxed)
}

fn rust_log() -> Option<String> {
    std::env::var("RUST_LOG").ok().filter(|directives| !directives.trim().is_empty())
}

fn terminal_filter(verbose: u8) -> anyhow::Result<Option<EnvFilter>> {
    if let Some(directives) = rust_log() {
        let filter = EnvFilter::try_new(&directives).map_err(|error| {
            let reason = format!("{error}; allowed: levels and targets, such as ec_darts=debug");
            ec_darts::Error::ConfigSyntax { origin: format!("RUST_LOG={directives}"), reason }
        })?;
        return Ok(Some(filter));
    }
    let level = match verbose {
        0 => return Ok(None),
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    Ok(Some(EnvFilter::default().add_directive(level.into())))
}

/// The file of a trace. A failed write is reported once and skipped, because the run continues.
struct ChromeFile {
    path: PathBuf,
    file: Option<io::BufWriter<File>>,
}

fn chrome_file(path: &Path) -> anyhow::Result<ChromeFile> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(ChromeFile { path: path.to_path_buf(), file: Some(io::BufWriter::new(file)) })
}

impl ChromeFile {
    fn tried(&mut self, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            complain(&format!("warning: {} ends early: {error}", self.path.display()));
            self.file = None;
        }
    }
}

impl Write for ChromeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let outcome = self.file.as_mut().map_or(Ok(()), |file| file.write_all(bytes));
        self.tried(outcome);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let outcome = self.file.as_mut().map_or(Ok(()), Write::flush);
        self.tried(outcome);
        Ok(())
    }
}

/// A writer that escapes foreign text on its way to a terminal, or to a file that is shown on a
/// terminal.
struct Visible<W>(W);

impl<W: Write> Write for Visible<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(visible(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

struct LogFile;

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
        if let Log::At(path) = &*log {
            *log = Log::Open(OpenOptions::new().create(true).append(true).open(path)?);
        }
        if let Log::Open(file) = &mut *log {
            file.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Events inside a run, from `INFO` on. Events before the run has locked its folder are left out.
struct InRun;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Filter<S> for InRun {
    fn enabled(&self, metadata: &Metadata<'_>, context: &LayerContext<'_, S>) -> bool {
        let in_run = || {
            let mut spans = context.lookup_current().into_iter().flat_map(|span| span.scope());
            spans.any(|span| span.name() == "run")
        };
        *metadata.level() <= Level::INFO && (metadata.is_span() || in_run())
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        match *metadata.level() <= Level::INFO {
            true => Interest::sometimes(),
            false => Interest::never(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }
}

/// Time, level unless it is `INFO`, and message.
struct LogLine;

impl<S, N> FormatEvent<S, N> for LogLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        SystemTime.format_time(&mut line)?;
        match *event.metadata().level() {
            Level::INFO => write!(line, " ")?,
            level => write!(line, " {} ", level.as_str().to_lowercase())?,
        }
        context.format_fields(line.by_ref(), event)?;
        writeln!(line)
    }
}
