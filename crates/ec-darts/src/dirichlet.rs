//! Samples of Dirichlet distributions, and the gradient of a sample with respect to alpha.
//!
//! Entry points: `draw`, [`passed_on`]. Invariant: all values are computed on the host in double
//! precision; a tensor gets a value and a matrix of derivatives.

use burn::tensor::activation::relu;
use burn::tensor::{Tensor, TensorData};
use ec_darts_space::PerKind;
use rand::Rng;
use rand_distr::{Distribution, Gamma as GammaDistribution};
use special::Gamma;

use crate::tensors::to_vec;

/// Smallest entry of a sample, because the gradient uses its logarithm.
const SMALLEST: f32 = 1e-6;

/// The concentration of a Dirichlet distribution by alpha.
///
/// ```text
/// b = elu(alpha) + 1
/// ```
///
/// # Source
/// DrNAS, section 3.1.
pub fn concentration(alpha: f32) -> f32 {
    if alpha > 0.0 { alpha + 1.0 } else { alpha.exp() }
}

/// `d b / d alpha`.
fn slope(alpha: f32) -> f64 {
    if alpha > 0.0 { 1.0 } else { f64::from(alpha).exp() }
}

/// A sample for one row of alpha.
pub(crate) fn draw(alpha: &[f32], rng: &mut impl Rng) -> Vec<f32> {
    let gamma = |&value: &f32| {
        let shape = f64::from(concentration(value)).max(f64::from(SMALLEST));
        GammaDistribution::new(shape, 1.0).expect("a shape above 0").sample(rng)
    };
    let gammas: Vec<f64> = alpha.iter().map(gamma).collect();
    let sum = gammas.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let clamped: Vec<f32> = gammas.iter().map(|each| ((each / sum) as f32).max(SMALLEST)).collect();
    let sum: f32 = clamped.iter().sum();
    clamped.into_iter().map(|each| each / sum).collect()
}

/// The mean of each row's distribution.
///
/// ```text
/// mean[k] = b[k] / sum over j of b[j]
/// ```
pub(crate) fn mean(alpha: Tensor<2>) -> Tensor<2> {
    // `elu(alpha) + 1` as two terms, of which one sees a clamped alpha of zero.
    let concentration = relu(alpha.clone()) + alpha.clamp_max(0.0).exp();
    concentration.clone() / concentration.sum_dim(1)
}

/// A sample that passes the gradient of its entries on to alpha.
///
/// ```text
/// d L / d b[j] = r[j] (u[j] - sum over k of theta[k] u[k])
/// r[j] = -(d F(theta[j]; b[j], B - b[j]) / d b[j]) / (f(theta[j]) (1 - theta[j])),   B = sum of b
/// ```
/// `u = d L / d theta`. `F` and `f` are the distribution function and the density of the Beta
/// distribution that is the marginal distribution of `theta[j]`.
///
/// # Shapes
/// - `alpha`, `sample`, output: `[num_edges, num_primitives]`
///
/// # Source
/// DrNAS, `DARTS-space/model_search.py`; PyTorch, `torch.distributions.Dirichlet`. PyTorch
/// approximates the derivative; here the integral itself is computed.
pub fn passed_on(alpha: Tensor<2>, sample: &[f32]) -> Tensor<2> {
    let [rows, columns] = alpha.dims();
    let values = to_vec(alpha.clone());
    let rates = values.chunks(columns).zip(sample.chunks(columns)).flat_map(|(alpha, sample)| {
        let total: f64 = alpha.iter().map(|&value| f64::from(concentration(value))).sum();
        let rate = move |(&value, &theta): (&f32, &f32)| {
            let b = f64::from(concentration(value));
            (rate(f64::from(theta), b, total) * slope(value)) as f32
        };
        alpha.iter().zip(sample).map(rate).collect::<Vec<f32>>()
    });
    let device = alpha.device();
    let matrix = |values: Vec<f32>| {
        Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), &device)
    };
    let (rates, theta) = (matrix(rates.collect()), matrix(sample.to_vec()));
    // A tensor of zeros that has the derivatives with respect to alpha.
    let change = (alpha.clone() - alpha.detach()) * rates;
    let spread = theta.clone() * change.clone().sum_dim(1);
    theta + change - spread
}

/// `r` of [`passed_on`], by an integral over the side of `theta` with the nearer end.
///
/// ```text
/// d F / d b = integral from 0 to theta of f(t) (ln t - psi(b) + psi(B)) dt
/// ```
/// A substitution removes the power at that end, which leaves an integral over (0, 1) for the
/// tanh-sinh rule.
fn rate(theta: f64, b: f64, total: f64) -> f64 {
    let rest = total - b;
    if rest <= 0.0 {
        // The only operation of an edge has weight one, whatever its alpha.
        return 0.0;
    }
    let shift = total.digamma() - b.digamma();
    let near_zero = |v: f64| {
        let power = ((1.0 - theta * v.powf(1.0 / b)) / (1.0 - theta)).powf(rest - 1.0);
        -(theta / b) * power / (1.0 - theta) * (theta.ln() + v.ln() / b + shift)
    };
    let near_one = |v: f64| {
        let t = 1.0 - (1.0 - theta) * v.powf(1.0 / rest);
        (t / theta).powf(b - 1.0) * (t.ln() + shift) / rest
    };
    match theta < 0.5 {
        true => integral(near_zero),
        false => integral(near_one),
    }
}

/// The integral of a function over (0, 1), by the tanh-sinh rule.
fn integral(of: impl Fn(f64) -> f64) -> f64 {
    const STEP: f64 = 1.0 / 32.0;
    let term = |number: i32| {
        let at = f64::from(number) * STEP;
        let inner = 0.5 * std::f64::consts::PI * at.sinh();
        let v = 1.0 / (1.0 + (-2.0 * inner).exp());
        let weight = STEP * 0.25 * std::f64::consts::PI * at.cosh() / inner.cosh().powi(2);
        if v > 0.0 && v < 1.0 && weight > 0.0 { of(v) * weight } else { 0.0 }
    };
    (-128..=128).map(term).sum()
}

/// Called by its full path: the standard library plans a method with the same name.
fn ln_gamma(value: f64) -> f64 {
    Gamma::ln_gamma(value).0
}

/// The regularization of alpha in DrNAS, `[1]`.
///
/// ```text
/// sum over the edges of both kinds of KL(Dirichlet(b) | Dirichlet(1))
/// KL = ln Gamma(B) - sum of ln Gamma(b) - ln Gamma(n) + sum of (b - 1) (psi(b) - psi(B))
/// ```
///
/// # Shapes
/// - `alpha`: `[num_edges, num_primitives]` each
///
/// # Source
/// DrNAS, Eq. (6); `DARTS-space/architect.py`, `kl`.
pub fn divergence(alpha: PerKind<Tensor<2>>) -> Tensor<1> {
    let of_kind = |alpha: Tensor<2>| {
        let [_, columns] = alpha.dims();
        let values = to_vec(alpha.clone());
        let (mut sum, mut slopes) = (0.0, Vec::new());
        for row in values.chunks(columns) {
            let b: Vec<f64> = row.iter().map(|&value| f64::from(concentration(value))).collect();
            let (total, count) = (b.iter().sum::<f64>(), columns as f64);
            sum += ln_gamma(total) - ln_gamma(count);
            for (&b, &value) in b.iter().zip(row) {
                sum += (b - 1.0) * (b.digamma() - total.digamma()) - ln_gamma(b);
                let pull = (b - 1.0) * b.trigamma() - (total - count) * total.trigamma();
                slopes.push((pull * slope(value)) as f32);
            }
        }
        let slopes = Tensor::from_data(TensorData::new(slopes, alpha.dims()), &alpha.device());
        ((alpha.clone() - alpha.detach()) * slopes).sum() + sum
    };
    let of_kinds = alpha.map(of_kind).into_values();
    of_kinds.reduce(|sum, of_kind| sum + of_kind).expect("a normal cell")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: 40-digit arithmetic for the first, the derivative of the mean for the second.
    #[test]
    fn rates_of_a_sample() {
        let b = [1.0, 1.5, 0.606_530_66];
        let total = b.iter().sum();
        let expected = [0.528_126, 0.307_327, 0.462_870];
        for ((theta, b), expected) in [0.5, 0.3, 0.2].into_iter().zip(b).zip(expected) {
            let found = rate(theta, b, total);
            assert!((found - expected).abs() < 1e-6, "{found}");
        }
        // On average, a sample's derivative is that of the mean: (B - b) / B^2.
        let mut rng = crate::data::stream_rng(1, crate::data::Purpose::AlphaDraw, 0, 0);
        let alpha = [0.0, 0.5, -0.5];
        let draws = 20_000;
        let sum: f64 = (0..draws)
            .map(|_| {
                let theta = f64::from(draw(&alpha, &mut rng)[0]);
                rate(theta, 1.0, total) * (1.0 - theta)
            })
            .sum();
        let (found, expected) = (sum / f64::from(draws), (total - 1.0) / total.powi(2));
        assert!((found - expected).abs() < 0.01, "{found}, {expected}");
    }
}
