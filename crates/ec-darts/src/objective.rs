//! The loss of all passes of a step.
//!
//! Entry point: [`Objective`]. Invariant: the loss is a function of weights, alpha, batch and draw
//! alone.

use burn::tensor::Tensor;
use ec_darts_space::SearchSpace;

use crate::architecture::ArchitectureParameters;
use crate::batch::ImageBatch;
use crate::network::Supernet;
use crate::rule::{Mixing, Rule};
use crate::sampling::{Draw, Sampling};
use crate::skip_dropout::SkipDropout;

/// The loss of one pass. The step on alpha, the step on the weights and the second order use the
/// same function, each with its own draw.
#[derive(Clone, Debug)]
pub struct Objective<'a> {
    /// Primitives and topology.
    pub space: &'a SearchSpace,
    /// The rule of the epoch.
    pub rule: &'a Rule,
    /// The draw of the step.
    pub draw: &'a Draw,
    /// The dropout masks of the step, where skip connections have dropout.
    pub skip_dropout: Option<&'a SkipDropout>,
}

/// A loss of alpha.
#[derive(Clone, Debug)]
pub struct AlphaLoss {
    /// The mean cross entropy, `[1]`.
    pub cross_entropy: Tensor<1>,
    /// The cross entropy with the rule's terms, `[1]`.
    pub total: Tensor<1>,
}

impl<'a> Objective<'a> {
    /// The loss of a rule without a draw.
    pub fn new(space: &'a SearchSpace, rule: &'a Rule) -> Self {
        Self { space, rule, draw: &Draw::Mode, skip_dropout: None }
    }

    /// Mixing weights of all cells.
    pub fn mixing(&self, alpha: &ArchitectureParameters) -> Mixing {
        let mixing = self.rule.mixing(self.space, alpha, self.draw);
        Mixing { skip_dropout: self.skip_dropout.cloned(), ..mixing }
    }

    /// Mean cross entropy of the relaxed supernet, `[1]`, as a function of alpha.
    pub fn loss(
        &self,
        supernet: &Supernet,
        alpha: &ArchitectureParameters,
        batch: &ImageBatch,
    ) -> Tensor<1> {
        self.alpha_loss(supernet, alpha, batch).cross_entropy
    }

    /// The loss of a step on alpha.
    ///
    /// ```text
    /// L(w, alpha) + sum over the rule's terms of weight * term(alpha)              and the cost: see ExpectedCost
    /// ```
    pub fn alpha_loss(
        &self,
        supernet: &Supernet,
        alpha: &ArchitectureParameters,
        batch: &ImageBatch,
    ) -> AlphaLoss {
        let mixing = self.mixing(alpha);
        // The gradient of a gate needs the output of its operation, also where the gate is closed.
        let is_gated = self.rule.sampling.is_some_and(Sampling::is_gated);
        let needs_all = self.rule.sampling == Some(Sampling::Gates);
        let mixing = if needs_all { mixing.whole() } else { mixing };
        let cross_entropy = cross_entropy(supernet.forward(batch.images.clone(), &mixing), batch);
        // The expected cost is that of all paths, not of the drawn path.
        let mixing = match is_gated {
            true => self.rule.expected().mixing(self.space, alpha, &Draw::Mode),
            false => mixing,
        };
        let penalties = &self.rule.penalties;
        let total = penalties.loss(cross_entropy.clone(), self.space, alpha, &mixing.weights);
        AlphaLoss { cross_entropy, total }
    }
}

/// Mean cross entropy of logits and a batch's labels, `[1]`.
pub fn cross_entropy(logits: Tensor<2>, batch: &ImageBatch) -> Tensor<1> {
    ec_darts_kernels::cross_entropy(logits, batch.labels.clone(), 0.0).loss
}
