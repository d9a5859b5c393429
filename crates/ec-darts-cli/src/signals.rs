//! Signals that ask a run to end. The first signal saves an active run, and ends the program where
//! there is none. The second signal ends the program at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The interval at which the watcher looks for a signal.
const EVERY: Duration = Duration::from_millis(20);

/// The signals received, and the requests that follow from them.
#[derive(Clone, Debug)]
pub struct Signals {
    /// The number of the last signal; 0 before the first.
    caught: Arc<AtomicUsize>,
    /// Asks the active run to save and stop.
    pub stop: Arc<AtomicBool>,
    /// Whether a run is active that saves when it is asked to stop.
    saves: Arc<AtomicBool>,
}

impl Signals {
    /// Handles Ctrl-C, SIGTERM and SIGHUP. `leave` must end the program; it runs on another thread.
    ///
    /// A SIGHUP stays ignored where the program was started so, as by `nohup`.
    pub fn watch(leave: impl Fn(i32) + Send + 'static) -> io::Result<Self> {
        let signals = Self { caught: Arc::default(), stop: Arc::default(), saves: Arc::default() };
        let again = Arc::new(AtomicBool::new(false));
        for signal in kinds() {
            // The order matters: the first one finds the flag unset.
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
            // A run that saves ends by itself; the program ends after it.
            while watched.saves.load(Ordering::SeqCst) {
                std::thread::sleep(EVERY);
            }
            leave(signal);
        })?;
        Ok(signals)
    }

    /// The signal that was received, if any.
    pub fn caught(&self) -> Option<i32> {
        match self.caught.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal as i32),
        }
    }

    /// Does work that saves and ends when [`Self::stop`] is set, so that no signal interrupts it.
    pub fn saving<T>(&self, work: impl FnOnce() -> T) -> T {
        self.saves.store(true, Ordering::SeqCst);
        let done = work();
        // The flag stays set after a signal: the caller reports how the work ended.
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

/// Whether the program was started with this signal ignored. Linux tells; on other systems it is
/// unknown.
#[cfg(unix)]
fn ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
