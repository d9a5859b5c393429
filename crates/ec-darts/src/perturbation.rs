//! Perturbed mixing weights for the training of the network's weights.
//!
//! Entry points: [`Matrix::random`], [`Matrix::adversarial`]. Invariant: the perturbed weights of
//! each group of competitors still sum to one, and alpha does not change.

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use ec_darts_space::{CellKind, PerKind, SearchSpace};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::batch::ImageBatch;
use crate::network::Supernet;
use crate::objective::cross_entropy;
use crate::ops::separate;
use crate::relaxation::Relaxation;
use crate::rule::Mixing;
use crate::tensors::to_vec;

/// The perturbation of mixing weights in steps on the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Perturbation {
    /// Uniform noise.
    ///
    /// # Source
    /// SDARTS-RS, Eq. (3).
    Random,
    /// An ascent of the loss.
    ///
    /// # Source
    /// SDARTS-ADV, Eq. (4).
    Adversarial,
}

impl Perturbation {
    /// The name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Adversarial => "adversarial",
        }
    }
}

/// Number of steps of the adversarial ascent.
///
/// # Source
/// SmoothDARTS, `attacker/perturb.py`.
pub const ASCENT_STEPS: usize = 7;

/// Mixing weights as plain values, `[num_edges][num_primitives]`, and the groups of them that
/// compete.
#[derive(Clone, Debug)]
pub struct Matrix<'a> {
    /// Primitives and topology.
    pub space: &'a SearchSpace,
    /// The relaxation, which decides which weights sum to one.
    pub relaxation: Relaxation,
}

impl Matrix<'_> {
    /// Noise of a step, uniform in (-epsilon, epsilon).
    pub fn noise(&self, epsilon: f64, rng: &mut impl Rng) -> PerKind<Vec<f32>> {
        let count = self.space.topology().num_edges() * self.space.primitives().len();
        self.space.topology().per_kind(|_| {
            let uniform = |_| (rng.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0;
            (0..count).map(uniform).map(|unit| unit * epsilon as f32).collect()
        })
    }

    /// Brings the competing weights back to the simplex.
    ///
    /// ```text
    /// clamp to [0, 1];   all zero: one at the largest value before;   divide by the sum
    /// ```
    ///
    /// # Source
    /// SmoothDARTS, `attacker/perturb.py`, `_row_clip`-like steps; across edges it is ours.
    pub fn clip(&self, kind: CellKind, values: &[f32]) -> Vec<f32> {
        let mut clipped = vec![0.0; values.len()];
        for group in self.relaxation.groups(self.space, kind) {
            let kept: Vec<f32> = group.iter().map(|&at| values[at].clamp(0.0, 1.0)).collect();
            let sum: f32 = kept.iter().sum();
            if sum > 0.0 {
                for (&at, kept) in group.iter().zip(kept) {
                    clipped[at] = kept / sum;
                }
            } else {
                let largest = group.iter().rev().max_by(|&&a, &&b| values[a].total_cmp(&values[b]));
                clipped[*largest.expect("a group has values")] = 1.0;
            }
        }
        clipped
    }

    /// Mixing weights plus noise.
    ///
    /// ```text
    /// clip(mixing + noise)
    /// ```
    pub fn random(
        &self,
        mixing: &PerKind<Vec<f32>>,
        noise: &PerKind<Vec<f32>>,
    ) -> PerKind<Vec<f32>> {
        self.space.topology().per_kind(|kind| {
            let pairs = mixing.cell(kind).iter().zip(noise.cell(kind));
            self.clip(kind, &pairs.map(|(mixing, noise)| mixing + noise).collect::<Vec<f32>>())
        })
    }

    /// Mixing weights that ascend a loss by the sign of its gradient, and stay near their start.
    ///
    /// ```text
    /// P_0 = clip(mixing + start)
    /// P_k+1 = clip(mixing + clamp(P_k + 2 epsilon / 7 sign(d loss / d P_k) - mixing, -epsilon, epsilon))
    /// ```
    /// This is the result after [`ASCENT_STEPS`] steps, or `mixing` without change where the loss
    /// fell. `loss` returns value and gradient.
    ///
    /// # Source
    /// SDARTS-ADV, Eq. (4); SmoothDARTS, `attacker/perturb.py`, `Linf_PGD_alpha`.
    pub fn adversarial(
        &self,
        mixing: &PerKind<Vec<f32>>,
        start: &PerKind<Vec<f32>>,
        epsilon: f64,
        mut loss: impl FnMut(&PerKind<Vec<f32>>) -> (f32, PerKind<Vec<f32>>),
    ) -> Ascent {
        let (before, _) = loss(mixing);
        let mut now = self.random(mixing, start);
        let (epsilon, step) = (epsilon as f32, (2.0 * epsilon / ASCENT_STEPS as f64) as f32);
        let mut trail = Vec::new();
        for _ in 0..ASCENT_STEPS {
            let (_, gradient) = loss(&now);
            now = self.space.topology().per_kind(|kind| {
                let places = mixing.cell(kind).iter().zip(now.cell(kind)).zip(gradient.cell(kind));
                let moved = places.map(|((&origin, &at), &slope)| {
                    let sign = if slope == 0.0 { 0.0 } else { slope.signum() };
                    origin + (at + step * sign - origin).clamp(-epsilon, epsilon)
                });
                self.clip(kind, &moved.collect::<Vec<f32>>())
            });
            trail.push(now.clone());
        }
        let (after, _) = loss(&now);
        let mixing = if before > after { mixing.clone() } else { now };
        Ascent { mixing, trail, losses: [before, after] }
    }
}

/// An adversarial perturbation, and its course.
#[derive(Clone, Debug)]
pub struct Ascent {
    /// The perturbed mixing weights; the original ones where the loss fell.
    pub mixing: PerKind<Vec<f32>>,
    /// The mixing weights after each step.
    pub trail: Vec<PerKind<Vec<f32>>>,
    /// The losses before and after the ascent.
    pub losses: [f32; 2],
}

/// The training loss of a supernet in evaluation mode as a function of its mixing weights.
pub struct Attacked<'a> {
    supernet: Supernet,
    mixing: &'a Mixing,
    batch: &'a ImageBatch,
}

impl<'a> Attacked<'a> {
    /// The supernet, normalized by the running statistics, which do not change. The fused kernels
    /// have no gradient in this mode, so the cells use the plain composition of operations.
    pub fn new(supernet: &Supernet, mixing: &'a Mixing, batch: &'a ImageBatch) -> Self {
        Self { supernet: separate(supernet).freeze(), mixing, batch }
    }

    /// The loss at some mixing weights, and its gradient there.
    pub fn loss(&self, weights: &PerKind<Vec<f32>>) -> (f32, PerKind<Vec<f32>>) {
        let shape = self.mixing.weights.normal.dims();
        let device = self.batch.images.device();
        let leaf = |values: &Vec<f32>| {
            Tensor::<2>::from_data(TensorData::new(values.clone(), shape), &device).require_grad()
        };
        let leaves = weights.as_ref().map(leaf);
        // There is no dropout in evaluation mode.
        let mixing = Mixing { skip_dropout: None, ..self.mixing.clone() };
        let mixing = Mixing { weights: leaves.clone(), ..mixing };
        let logits = self.supernet.forward(self.batch.images.clone(), &mixing);
        let loss = cross_entropy(logits, self.batch);
        let gradients = loss.backward();
        let of_leaf = |leaf: Tensor<2>| match leaf.grad(&gradients) {
            Some(gradient) => to_vec(gradient),
            None => vec![0.0; shape[0] * shape[1]],
        };
        (to_vec(loss)[0], leaves.map(of_leaf))
    }
}
