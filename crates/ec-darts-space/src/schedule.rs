//! Numbers that change from epoch to epoch.
//!
//! Entry point: [`Schedule::at`]. Invariant: the value depends only on the epoch and the number of
//! epochs.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// A number for each epoch of a search.
///
/// ```
/// use ec_darts_space::Schedule;
///
/// // GDAS' temperature: 10 in the first of 250 epochs, 0.1 in the last.
/// let temperature = Schedule::line(10.0, 0.1);
/// assert_eq!(temperature.at(0, 250), 10.0);
/// assert!((temperature.at(249, 250) - 0.1).abs() < 1e-12);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a number, or a table of `from`, `to` and where needed `shape`, `end`, `over`, or one of \
                 `rate` and `frozen`"
)]
pub enum Schedule {
    /// The same number in every epoch.
    Constant(f64),
    /// A change from one number to another.
    Ramp(Ramp),
    /// The dropout rate behind skip connections of P-DARTS.
    Dropout(Dropout),
}

/// A change from one number to another, along a line or half a period of a cosine.
///
/// ```text
/// line:    from + (to - from) * s
/// cosine:  to + (from - to) * (1 + cos(pi s)) / 2
/// ```
/// `s` goes from 0 to 1, as [`End`] says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    /// The first number.
    pub from: f64,
    /// The last number.
    pub to: f64,
    /// The curve between them.
    #[serde(default)]
    pub shape: Shape,
    /// The epoch in which `to` is reached.
    #[serde(default)]
    pub end: End,
    /// The number of epochs after which `to` is reached, whatever `end` says; where absent, all
    /// epochs of the search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<usize>,
}

/// The curve of a [`Ramp`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// A straight line.
    #[default]
    Line,
    /// Half a period of a cosine.
    Cosine,
}

/// The epoch in which a [`Ramp`] of `E` epochs reaches its end; `e` is the epoch, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// In the last epoch: `s = e / (E - 1)`.
    #[default]
    Last,
    /// One epoch after the last, so that `to` is never reached: `s = e / E`.
    Behind,
    /// In the last epoch; the first epoch is already one step away from `from`: `s = (e + 1) / E`.
    Counted,
}

/// A rate that falls along a line while alpha is frozen, then starts again and falls exponentially.
///
/// ```text
/// e < frozen:  rate * (E - e - 1) / E
/// else:        rate * exp(-0.2 (e - frozen))
/// ```
///
/// # Source
/// P-DARTS, `train_search.py`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// The rate of the first epoch, nearly.
    pub rate: f64,
    /// The number of epochs in which alpha does not move.
    pub frozen: usize,
}

impl Schedule {
    /// The same number in every epoch.
    pub const fn constant(value: f64) -> Self {
        Self::Constant(value)
    }

    /// A line that reaches `to` in the last epoch.
    pub const fn line(from: f64, to: f64) -> Self {
        Self::Ramp(Ramp { from, to, shape: Shape::Line, end: End::Last, over: None })
    }

    /// The number in an epoch, counted from 0, of a search of `epochs` epochs.
    pub fn at(&self, epoch: usize, epochs: usize) -> f64 {
        match *self {
            Self::Constant(value) => value,
            Self::Ramp(ramp) => ramp.at(epoch, epochs),
            Self::Dropout(Dropout { rate, frozen }) if epoch < frozen => {
                rate * (epochs as f64 - epoch as f64 - 1.0) / epochs as f64
            }
            Self::Dropout(Dropout { rate, frozen }) => {
                rate * (-0.2 * (epoch - frozen) as f64).exp()
            }
        }
    }
}

impl Ramp {
    fn at(&self, epoch: usize, epochs: usize) -> f64 {
        let Self { from, to, shape, end, over } = *self;
        let (gone, whole) = match (over, end) {
            (Some(over), _) => (epoch, over),
            (None, End::Last) => (epoch, epochs.saturating_sub(1)),
            (None, End::Behind) => (epoch, epochs),
            (None, End::Counted) => (epoch + 1, epochs),
        };
        let share = (gone as f64 / whole.max(1) as f64).min(1.0);
        match shape {
            Shape::Line => from + (to - from) * share,
            Shape::Cosine => to + (from - to) * 0.5 * (1.0 + (PI * share).cos()),
        }
    }
}

impl From<f64> for Schedule {
    fn from(value: f64) -> Self {
        Self::Constant(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schedule: Schedule, epochs: usize, expected: &[(usize, f64)]) {
        for &(epoch, expected) in expected {
            let found = schedule.at(epoch, epochs);
            assert!((found - expected).abs() < 5e-7, "{schedule:?}, epoch {epoch}: {found}");
        }
    }

    fn ramp(from: f64, to: f64, end: End) -> Schedule {
        Schedule::Ramp(Ramp { from, to, shape: Shape::Line, end, over: None })
    }

    /// Expected: the numbers of the public code of each rule, computed by hand.
    #[test]
    fn schedules_of_the_family() {
        check(Schedule::line(10.0, 0.1), 250, &[(0, 10.0), (125, 5.030_120_5), (249, 0.1)]);
        let snas = ramp(1.0, 0.03, End::Counted);
        check(snas, 150, &[(0, 0.993_533_3), (74, 0.515), (149, 0.03)]);
        check(ramp(0.03, 0.3, End::Behind), 50, &[(0, 0.03), (25, 0.165), (49, 0.2946)]);
        check(ramp(1.0, 0.0, End::Behind), 50, &[(0, 1.0), (25, 0.5), (49, 0.02)]);
        let cosine = |from, to| {
            let (shape, end) = (Shape::Cosine, End::Behind);
            Schedule::Ramp(Ramp { from, to, shape, end, over: None })
        };
        check(cosine(1.0, 0.0), 50, &[(0, 1.0), (25, 0.5), (49, 0.000_986_6)]);
        let rate = [(0, 0.025), (1, 0.024_976_3), (25, 0.013), (49, 0.001_023_68)];
        check(cosine(0.025, 0.001), 50, &rate);
        let beta =
            Ramp { from: 0.0, to: 50.0, shape: Shape::Line, end: End::Last, over: Some(100) };
        check(Schedule::Ramp(beta), 50, &[(0, 0.0), (30, 15.0), (49, 24.5)]);
        let dropout = Schedule::Dropout(Dropout { rate: 0.4, frozen: 10 });
        let expected = [(0, 0.384), (9, 0.24), (10, 0.4), (15, 0.147_151_8), (24, 0.024_324)];
        check(dropout, 25, &expected);
        check(Schedule::line(1.0, 0.0), 1, &[(0, 1.0)]);
    }

    #[test]
    fn text_forms() {
        let read = |json: &str| serde_json::from_str::<Schedule>(json);
        assert_eq!(read("0.5").expect("a number"), Schedule::constant(0.5));
        let line = read(r#"{"from": 10.0, "to": 0.1}"#).expect("a ramp");
        assert_eq!(line, Schedule::line(10.0, 0.1));
        let again = serde_json::to_string(&line).expect("plain values");
        assert_eq!(read(&again).expect("its own"), line);
        let error = read(r#"{"from": 10.0}"#).expect_err("half a ramp").to_string();
        assert!(error.contains("a number, or a table"), "{error}");
    }
}
