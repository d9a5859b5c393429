//! What a few noisy trials let one say.
//!
//! Entry points: [`Nested`] (the accuracies of one variant), [`Estimate`] (a mean and how far it can be trusted),
//! [`kendall`]. Invariant: what the values at hand cannot tell is a [`CannotTell`], never a number that is none.
//! Which interval is used where was chosen by simulation: `examples/coverage`, and the table in `docs/statistics.md`.

pub mod bootstrap;
pub mod compare;
mod estimate;
pub mod kendall;
mod nested;
mod power;
mod reliability;

pub use estimate::{Estimate, Interval};
pub use nested::{Components, Nested};
pub use power::{Design, power, searches_needed, smallest_difference};
pub use reliability::{Reliability, ceiling_of_tau, reliability_of_means};

/// Probability with which an interval holds the truth.
pub const LEVEL: f64 = 0.95;

/// Why a figure cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CannotTell {
    /// A spread needs more than one value.
    #[error("too few {what}: {found}, at least {needed} are needed")]
    TooFew {
        /// Of what there are too few.
        what: &'static str,
        /// How many it takes.
        needed: usize,
        /// How many there are.
        found: usize,
    },
    /// Equal values say nothing about the spread of others.
    #[error("all {0} are equal")]
    NoSpread(&'static str),
    /// More searches would be needed than are looked for.
    #[error("more than {0} searches are needed")]
    TooMany(usize),
    /// A value is infinite or not a number.
    #[error("a value is not finite")]
    NotFinite,
    /// The things at hand are no sample of others: epochs of one search, edges of one node.
    #[error("they are no sample of independent searches")]
    NoSample,
    /// Two sides without seeds in common.
    #[error("there are no pairs by seed")]
    NoPairs,
    /// The base of a relative figure is zero.
    #[error("the base of the relative figure is zero")]
    NoBase,
}

/// A figure, or why there is none.
pub type Told<T> = Result<T, CannotTell>;

/// Arithmetic mean; nothing of no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Unbiased variance; nothing of fewer than two values.
///
/// ```text
/// s^2 = sum over i of (x_i - mean)^2 / (n - 1)
/// ```
pub fn variance(values: &[f64]) -> Option<f64> {
    let center = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|value| (value - center).powi(2)).sum();
    Some(squares / (values.len() - 1) as f64)
}

/// Standard deviation, by [`variance`].
pub fn deviation(values: &[f64]) -> Option<f64> {
    variance(values).map(f64::sqrt)
}

/// Rounding of sums gives equal values a spread near 1e-17; that is none.
fn is_zero(variance: f64, size: f64) -> bool {
    variance <= (1e-12 * size).powi(2)
}
