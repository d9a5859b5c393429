//! Statistics of a few noisy trials.
//!
//! Entry points: [`Nested`] (the accuracies of one variant), [`Estimate`] (a mean and its
//! reliability), [`kendall`]. Invariant: a figure that the values cannot give is a [`CannotTell`],
//! never NaN. Each interval was chosen by simulation: `examples/coverage`, and the table in
//! `docs/statistics.md`.

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

/// Probability with which an interval contains the true value.
pub const LEVEL: f64 = 0.95;

/// The reason why a figure cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CannotTell {
    /// A spread needs more than one value.
    #[error("too few {what}: {found}, at least {needed} are needed")]
    TooFew {
        /// The name of the values of which there are too few.
        what: &'static str,
        /// The number of values needed.
        needed: usize,
        /// The number of values found.
        found: usize,
    },
    /// Equal values say nothing about the spread of other values.
    #[error("all {0} are equal")]
    NoSpread(&'static str),
    /// The number of searches needed is above the largest one that is tried.
    #[error("more than {0} searches are needed")]
    TooMany(usize),
    /// A value is infinite or not a number.
    #[error("a value is not finite")]
    NotFinite,
    /// The values are no random sample: epochs of one search, edges of one node.
    #[error("they are no sample of independent searches")]
    NoSample,
    /// The two sides have no common seeds.
    #[error("there are no pairs by seed")]
    NoPairs,
    /// The base of a relative figure is zero.
    #[error("the base of the relative figure is zero")]
    NoBase,
}

/// A figure, or the reason why there is none.
pub type Told<T> = Result<T, CannotTell>;

/// Arithmetic mean; none for no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Unbiased variance; none for fewer than two values.
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

/// Whether a variance is zero up to rounding: sums of equal values have a spread near 1e-17.
fn is_zero(variance: f64, size: f64) -> bool {
    variance <= (1e-12 * size).powi(2)
}
