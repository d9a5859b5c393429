//! Signals that ask a run to end. The first one saves it where there is something to save, and ends the
//! program where there is not; the second one always ends it, at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// How often the watcher looks for a signal.
const EVERY: Duration = Duration::from_millis(20);

/// What came, and what is to be done about it.
#[derive(Clone, Debug)]
pub struct Signals {
    /// The number of the last one; 0 before one came.
    caught: Arc<AtomicUsize>,
    /// Asks the run under way to save and stop.
    pub stop: Arc<AtomicBool>,
    /// Whether a run is under way, which saves when it is asked to stop.
    saves: Arc<AtomicBool>,
}

impl Signals {
    /// Takes over Ctrl-C, SIGTERM and SIGHUP. `leave` must end the program, and runs on another thread.
    ///
    /// A SIGHUP that the program was started to ignore, as by `nohup`, stays ignored.
    pub fn watch(leave: impl Fn(i32) + Send + 'static) -> io::Result<Self> {
        let signals = Self { caught: Arc::default(), stop: Arc::default(), saves: Arc::default() };
        let again = Arc::new(AtomicBool::new(false));
        for signal in kinds() {
            // In this order: the first one finds the flag unset.
            flag::register_conditional_shutdown(signal, 128 + signal, again.clone())?;
            flag::register(signal, again.clone())?;
            flag::register_usize(signal, signals.caught.clone(), signal as usize)?;
        }
        let watched = signals.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            let signal = loop {
                match watched.caught() {
                    Some(signal) => break signal,
                    None => std::thread::sleep(EVERY),
                }
            };
            watched.stop.store(true, Ordering::SeqCst);
            // A run that saves ends by itself; what follows it does not.
            while watched.saves.load(Ordering::SeqCst) {
                std::thread::sleep(EVERY);
            }
            leave(signal);
        })?;
        Ok(signals)
    }

    /// The signal that came, if one did.
    pub fn caught(&self) -> Option<i32> {
        match self.caught.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal as i32),
        }
    }

    /// Does work that saves and ends when [`Self::stop`] is set, instead of being cut off by a signal.
    pub fn saving<T>(&self, work: impl FnOnce() -> T) -> T {
        self.saves.store(true, Ordering::SeqCst);
        let done = work();
        // After a signal it stays set: whoever did the work tells how it ended.
        if self.caught().is_none() {
            self.saves.store(false, Ordering::SeqCst);
        }
        done
    }
}

#[cfg(unix)]
fn kinds() -> Vec<i32> {
    let hangup = signal_hook::consts::SIGHUP;
    let mut kinds = vec![SIGINT, SIGTERM];
    kinds.extend((!ignored(hangup)).then_some(hangup));
    kinds
}

#[cfg(not(unix))]
fn kinds() -> Vec<i32> {
    vec![SIGINT, SIGTERM]
}

/// Whether the program was started with this signal ignored; Linux tells, of other systems it is not
/// known.
#[cfg(unix)]
fn ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
