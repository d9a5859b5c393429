//! Random draws of a pass: their kinds, and the way they are drawn.
//!
//! Entry point: [`Sampling::draw`]. Invariant: a draw is made on the host from its own stream, so
//! that a pass depends only on alpha and the draw.

use ec_darts_space::PerKind;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::dirichlet;

/// The way in which a pass draws its mixing weights, where the relaxation alone does not give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// Soft concrete: the relaxation of noisy alpha.
    ///
    /// ```text
    /// mixing = relaxation((alpha + G) / temperature),   G = -ln(-ln U), U uniform in (0, 1)
    /// ```
    ///
    /// # Source
    /// SNAS, Eq. (4). The combination with [`CrossEdge`](crate::relaxation::Relaxation::CrossEdge)
    /// is ours.
    Concrete,
    /// One operation of each edge with weight one, with the gradient of the soft weights.
    ///
    /// ```text
    /// p = softmax((log softmax(alpha) + G) / temperature),   k = argmax p
    /// mixing = onehot(k) - stopgrad(p) + p
    /// ```
    /// Only operation `k` is computed, so only its entry passes a gradient on.
    ///
    /// # Source
    /// GDAS, Eq. (3)-(5).
    StraightThrough,
    /// Binary gates: one operation of each edge, drawn by the softmax.
    ///
    /// ```text
    /// k ~ softmax(alpha),   mixing = onehot(k)
    /// d loss / d alpha[i] = sum over j of d loss / d mixing[j] p[j] ([i = j] - p[i])
    /// ```
    /// A step on the weights computes operation `k` alone. A step on alpha computes all operations,
    /// each with its gate. An edge whose open operation is `none` gives no gradient.
    ///
    /// # Source
    /// ProxylessNAS, section 3.2, Eq. (4); `full_v2` of its public code.
    Gates,
    /// Binary gates of which a step on alpha sees two per edge; only these two take memory.
    ///
    /// ```text
    /// i, j ~ softmax(alpha) without replacement,   q = softmax(alpha[i], alpha[j]),   k ~ q,   mixing = onehot(k)
    /// d loss / d alpha[i] = q[i] q[j] (d loss / d mixing[i] - d loss / d mixing[j])
    /// ```
    /// After the step both values are shifted by the same number, so that `exp(alpha[i]) +
    /// exp(alpha[j])` is as before the step and the other operations keep their probabilities. A
    /// step on the weights is that of [`Self::Gates`].
    ///
    /// # Source
    /// ProxylessNAS, section 3.2.1; `two` of its public code.
    GatePairs,
    /// A sample of a Dirichlet distribution for each edge.
    ///
    /// ```text
    /// b = elu(alpha) + 1,   mixing ~ Dirichlet(b)
    /// ```
    ///
    /// # Source
    /// DrNAS, section 3.1.
    Dirichlet,
}

/// The random numbers of one pass, the same for all cells of a kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Draw {
    /// No random numbers. A rule with sampling then takes the most probable operations, or the
    /// mean.
    Mode,
    /// Standard Gumbel noise, `[num_edges][num_primitives]`.
    Gumbel(PerKind<Vec<f32>>),
    /// The column of the one operation of each edge, `[num_edges]`.
    Path(PerKind<Vec<usize>>),
    /// The columns of two operations of each edge, `[num_edges]`; the first one is open.
    Pairs(PerKind<Vec<[usize; 2]>>),
    /// Points of the simplex, `[num_edges][num_primitives]`.
    Simplex(PerKind<Vec<f32>>),
}

impl Sampling {
    /// The name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Concrete => "concrete",
            Self::StraightThrough => "straight-through",
            Self::Gates => "gates",
            Self::GatePairs => "gate-pairs",
            Self::Dirichlet => "dirichlet",
        }
    }

    /// Whether one operation of each edge has weight one and all others zero.
    pub fn is_one_each(self) -> bool {
        matches!(self, Self::StraightThrough | Self::Gates | Self::GatePairs)
    }

    /// Whether a step on alpha computes more operations than the open one.
    pub fn is_gated(self) -> bool {
        matches!(self, Self::Gates | Self::GatePairs)
    }

    /// The sampling of a step on the weights.
    pub fn of_weights(self) -> Self {
        match self {
            Self::GatePairs => Self::Gates,
            _ => self,
        }
    }

    /// Whether a draw depends on the values of alpha.
    pub(crate) fn reads_alpha(self) -> bool {
        matches!(self, Self::Gates | Self::GatePairs | Self::Dirichlet)
    }

    /// Draws for a pass with these values of alpha.
    ///
    /// # Shapes
    /// - `alpha`: `[num_edges][num_primitives]`
    pub fn draw<R: Rng>(
        self,
        alpha: &PerKind<Vec<f32>>,
        num_primitives: usize,
        rng: &mut R,
    ) -> Draw {
        let mut of_rows = |draw: fn(&[f32], &mut R) -> Vec<f32>| {
            let of_kind = |values: &Vec<f32>| -> Vec<f32> {
                values.chunks(num_primitives).flat_map(|row| draw(row, rng)).collect()
            };
            alpha.as_ref().map(of_kind)
        };
        match self {
            Self::Concrete | Self::StraightThrough => {
                Draw::Gumbel(of_rows(|row, rng| row.iter().map(|_| gumbel(rng)).collect()))
            }
            // The index of the largest sum of alpha and Gumbel noise has the distribution of the
            // softmax.
            Self::Gates => {
                let noisy = of_rows(|row, rng| row.iter().map(|each| each + gumbel(rng)).collect());
                Draw::Path(noisy.map(|values| largest(&values, num_primitives)))
            }
            Self::GatePairs => {
                let of_kind = |values: &Vec<f32>| {
                    values.chunks(num_primitives).map(|row| pair(row, rng)).collect()
                };
                Draw::Pairs(alpha.as_ref().map(of_kind))
            }
            Self::Dirichlet => Draw::Simplex(of_rows(dirichlet::draw)),
        }
    }
}

/// Two columns, drawn without replacement, the open one first.
fn pair(alpha: &[f32], rng: &mut impl Rng) -> [usize; 2] {
    // The indices of the largest sums have the distribution of draws without replacement.
    let mut noisy: Vec<f32> = alpha.iter().map(|each| each + gumbel(rng)).collect();
    let columns = noisy.len();
    let first = largest(&noisy, columns)[0];
    noisy[first] = f32::NEG_INFINITY;
    let second = largest(&noisy, columns)[0];
    let of_pair = [first, second].map(|column| alpha[column] + gumbel(rng));
    if of_pair[0] >= of_pair[1] { [first, second] } else { [second, first] }
}

/// Standard Gumbel noise; always finite.
fn gumbel(rng: &mut impl Rng) -> f32 {
    // The middle of one of 2^53 equal parts of (0, 1).
    let uniform = ((rng.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -(-uniform.ln()).ln() as f32
}

/// The column of the largest value of each row; of equal values, the first.
pub(crate) fn largest(values: &[f32], columns: usize) -> Vec<usize> {
    let of_row = |row: &[f32]| {
        (0..row.len()).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("a row has columns")
    };
    values.chunks(columns).map(of_row).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// With three operations: both draws and the gate between them, compared with their
    /// probabilities.
    #[test]
    fn pairs_are_drawn_without_replacement_and_opened_by_their_softmax() {
        let alpha = [0.4_f32, -0.6, 0.9];
        let weights = alpha.map(|value| f64::from(value).exp());
        let sum: f64 = weights.iter().sum();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let draws = 40_000;
        let mut counts = [[0.0; 3]; 3];
        for _ in 0..draws {
            let [open, closed] = pair(&alpha, &mut rng);
            counts[open][closed] += 1.0 / f64::from(draws);
        }
        for (open, closed) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
            let chance = |first: usize, second: usize| {
                weights[first] / sum * weights[second] / (sum - weights[first])
            };
            let of_pair = chance(open, closed) + chance(closed, open);
            let expected = of_pair * weights[open] / (weights[open] + weights[closed]);
            let found = counts[open][closed];
            // Five standard deviations of a share of this number of draws.
            let tolerance = 5.0 * (expected * (1.0 - expected) / f64::from(draws)).sqrt();
            assert!((found - expected).abs() < tolerance, "{open} {closed}: {found} {expected}");
        }
        assert_eq!([0, 1, 2].map(|at| counts[at][at]), [0.0; 3]);
    }
}
