//! Works on the trials of a study, one at a time, in parallel with any number of other processes.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ec_darts::{Error, Result};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::plan::Plan;
use crate::results::Cost;
use crate::study::Study;
use crate::trial::{Claim, Ended, Record, State, Trial};

/// Interval at which the cost of a trial under way is written; a kill loses no more of it.
const COST_EVERY: Duration = Duration::from_secs(20);
/// The first and the longest pause of a process that waits for others: a look reads the whole study.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(10)];
/// Interval at which a pause looks for a stop.
const LISTEN_EVERY: Duration = Duration::from_millis(100);

/// The trials that a process takes.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Only trials with these names; empty: all.
    pub only: Vec<String>,
    /// Whether to take trials that failed before.
    pub retry_failed: bool,
    /// The number of trials after which to stop.
    pub max_trials: Option<u64>,
}

impl Choice {
    /// Whether a trial is among the chosen ones.
    pub fn takes(&self, trial: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == trial)
    }
}

/// End of one process's work on a trial.
#[derive(Debug)]
pub enum Worked {
    /// The trial is done.
    Finished,
    /// The trial was asked to stop, and saved.
    Stopped,
    /// The trial cannot be done, for this reason.
    Failed(String),
}

/// News of a process while it works.
#[derive(Clone, Debug, PartialEq)]
pub enum Told<'a> {
    /// A trial begins or goes on.
    Begin {
        /// The trial.
        trial: &'a Trial,
        /// Number of finished trials.
        done: usize,
        /// Number of known trials.
        known: usize,
    },
    /// A trial is done.
    Done(&'a Trial),
    /// A trial failed.
    Failed(&'a Trial, &'a str),
    /// Other processes run all remaining searches, whose trainings are unknown.
    Waiting,
}

/// End of a process's work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// There is no trial left that the process could take.
    Nothing {
        /// Number of trials that other processes run.
        running: usize,
        /// Number of failed trials among the chosen ones.
        failed: usize,
        /// Number of known trials that are not done, because they were not chosen.
        left: usize,
        /// Number of trials that this process finished.
        finished: u64,
    },
    /// The process was asked to stop, or has taken its number of trials.
    Stopped,
}

/// Runs trials: in the program by [`ec_darts::train::run`], in tests without any work.
pub trait Worker {
    /// Errors of the worker, beside [`ec_darts::Error`].
    type Error: From<Error>;

    /// Runs a trial in its run folder, from its last checkpoint where there is one.
    ///
    /// # Errors
    /// An error that ends the process and says nothing about the trial: nobody listens any more, the disk is full.
    fn work(&mut self, trial: &Trial, folder: &Path) -> Result<Worked, Self::Error>;

    /// Tells the user.
    ///
    /// # Errors
    /// The errors of [`Self::work`].
    fn tell(&mut self, told: Told) -> Result<(), Self::Error>;
}

/// Works on the trials of a study in its folder until there is none left that this process could
/// take.
///
/// It takes the first unfinished trial that no other process has claimed. It waits for a training
/// whose search runs in another process.
///
/// # Errors
/// [`Error::Folder`] where the folder has trials with other settings; the errors of [`Worker`].
pub fn run<W: Worker>(
    study: &Study,
    folder: &Path,
    choice: &Choice,
    stop: &AtomicBool,
    worker: &mut W,
) -> Result<Ending, W::Error> {
    let (mut finished, mut taken, mut waits) = (0, BTreeSet::new(), false);
    let mut pause = PAUSES[0];
    loop {
        let plan = Plan::of(study, Some(folder))?;
        let states: Vec<State> = plan.trials.iter().map(|trial| trial.state(folder)).collect();
        let open = open(&plan, &states, choice, &taken);
        let is_unlocking = choice.only.is_empty() && is_unlocking(&plan, &states);
        let most = choice.max_trials.is_some_and(|most| taken.len() as u64 >= most);
        if (most || stop.load(Ordering::SeqCst)) && (is_unlocking || !open.is_empty()) {
            return Ok(Ending::Stopped);
        }
        let Some((trial, _claim)) = take(&open, folder, choice)? else {
            if is_unlocking {
                if !waits {
                    worker.tell(Told::Waiting)?;
                }
                waits = true;
            }
            // Without unlocking, others have claimed all open ones since the look, so it is out of date.
            if is_unlocking || !open.is_empty() {
                let until = Instant::now() + pause;
                while !stop.load(Ordering::SeqCst) && Instant::now() < until {
                    std::thread::sleep(LISTEN_EVERY);
                }
                pause = PAUSES[1].min(2 * pause);
                continue;
            }
            return Ok(nothing(&plan, &states, choice, finished));
        };
        taken.insert(trial.name.clone());
        (waits, pause) = (false, PAUSES[0]);
        let done = states.iter().filter(|state| **state == State::Done).count();
        worker.tell(Told::Begin { trial, done, known: states.len() })?;
        let run = folder.join(&trial.name);
        match metered(&run, || worker.work(trial, &run))? {
            Worked::Finished => {
                finished += 1;
                worker.tell(Told::Done(trial))?;
            }
            Worked::Failed(error) => worker.tell(Told::Failed(trial, &error))?,
            Worked::Stopped => return Ok(Ending::Stopped),
        }
    }
}

fn nothing(plan: &Plan, states: &[State], choice: &Choice, finished: u64) -> Ending {
    let count = |of: fn(&State) -> bool| states.iter().filter(|&state| of(state)).count();
    let failed = plan.trials.iter().zip(states).filter(|(trial, state)| {
        matches!(state, State::Failed { .. }) && choice.takes(&trial.name)
    });
    Ending::Nothing {
        failed: failed.count(),
        running: count(|state| matches!(state, State::Running { .. })),
        left: count(|state| matches!(state, State::Ready | State::Begun)),
        finished,
    }
}

/// Trials that this process may take. A trial that failed in it is not tried again by it.
fn open<'a>(
    plan: &'a Plan,
    states: &[State],
    choice: &Choice,
    taken: &BTreeSet<String>,
) -> Vec<&'a Trial> {
    let is_open = |(trial, state): &(&Trial, &State)| {
        let is_open = match state {
            State::Ready | State::Begun => true,
            State::Failed { .. } => choice.retry_failed,
            State::Running { .. } | State::Done => false,
        };
        choice.takes(&trial.name) && is_open && !taken.contains(&trial.name)
    };
    plan.trials.iter().zip(states).filter(is_open).map(|(trial, _)| trial).collect()
}

/// The first of some trials that no other process has claimed since, and the claim on it.
fn take<'a>(
    open: &[&'a Trial],
    folder: &Path,
    choice: &Choice,
) -> Result<Option<(&'a Trial, Claim)>> {
    for &trial in open {
        let run = folder.join(&trial.name);
        let Some(claim) = Claim::take(&run)? else { continue };
        // Another process may have finished it between the look and the claim.
        let is_open = match Record::read(&run).unwrap_or_default().ending {
            None => true,
            Some(Ended::Done) => false,
            Some(Ended::Failed(_)) => choice.retry_failed,
        };
        if is_open {
            return Ok(Some((trial, claim)));
        }
    }
    Ok(None)
}

/// Whether another process runs a search, whose trainings are unknown before it is done. It may also
/// have finished it since the plan was made.
fn is_unlocking(plan: &Plan, states: &[State]) -> bool {
    let mut both = plan.trials.iter().zip(states);
    both.any(|(trial, state)| {
        let is_taken = matches!(state, State::Running { .. } | State::Done);
        is_taken && plan.waiting.contains(&trial.name)
    })
}

/// Works, and writes cost and outcome into the trial's record, also during the work.
fn metered<E: From<Error>>(
    run: &Path,
    work: impl FnOnce() -> Result<Worked, E>,
) -> Result<Worked, E> {
    let before = Record::read(run).unwrap_or_default().cost;
    let meter = Meter { before, began: Instant::now(), processor_began: processor_seconds() };
    let record = |ending| Record { ending, cost: meter.cost() }.write(run);
    record(None)?;
    let worked = std::thread::scope(|scope| {
        let (ended, end) = mpsc::channel::<()>();
        scope.spawn(move || {
            while end.recv_timeout(COST_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                // The record of the end is the important one; its error is reported.
                let _ = Record { ending: None, cost: meter.cost() }.write(run);
            }
        });
        let worked = work();
        drop(ended);
        worked
    });
    match &worked {
        Ok(Worked::Finished) => record(Some(Ended::Done))?,
        Ok(Worked::Failed(error)) => record(Some(Ended::Failed(error.clone())))?,
        Ok(Worked::Stopped) | Err(_) => record(None)?,
    }
    worked
}

/// Cost of a trial in earlier sessions, and the clocks when this one began.
#[derive(Clone, Copy)]
struct Meter {
    before: Cost,
    began: Instant,
    processor_began: f64,
}

impl Meter {
    fn cost(&self) -> Cost {
        let rounded = |seconds: f64| (seconds * 10.0).round() / 10.0;
        Cost {
            seconds: rounded(self.before.seconds + self.began.elapsed().as_secs_f64()),
            processor_seconds: rounded(
                self.before.processor_seconds + processor_seconds() - self.processor_began,
            ),
        }
    }
}

/// Processor time of this process on all processors together; 0 where the system does not report
/// it.
fn processor_seconds() -> f64 {
    let (mut system, this) = (System::new(), Pid::from_u32(std::process::id()));
    let kind = ProcessRefreshKind::nothing().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[this]), false, kind);
    system.process(this).map_or(0.0, |process| process.accumulated_cpu_time() as f64 / 1000.0)
}

#[cfg(test)]
mod tests;
