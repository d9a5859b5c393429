//! The loss that all passes of a step share.
//!
//! Entry point: [`Objective`]. Invariant: the loss is a function of weights, alpha, batch and draw alone.

use burn::tensor::Tensor;
use ec_darts_space::SearchSpace;

use crate::architecture::ArchitectureParameters;
use crate::network::Supernet;
use crate::rule::{Mixing, Rule};
use crate::sampling::{Draw, Sampling};
use crate::skip_dropout::SkipDropout;
use crate::tensors::ImageBatch;

/// The loss of one pass: the same function for the step on alpha, the step on the weights and the second order, each
/// with its draw.
#[derive(Clone, Debug)]
pub struct Objective<'a> {
    /// Primitives and topology.
    pub space: &'a SearchSpace,
    /// Of the epoch.
    pub rule: &'a Rule,
    /// Of the step.
    pub draw: &'a Draw,
    /// Of the step too, where skips are dropped.
    pub skip_dropout: Option<&'a SkipDropout>,
}

/// A loss of alpha.
#[derive(Clone, Debug)]
pub struct AlphaLoss {
    /// Mean cross entropy, `[1]`.
    pub cross_entropy: Tensor<1>,
    /// With the rule's terms, `[1]`.
    pub total: Tensor<1>,
}

impl<'a> Objective<'a> {
    /// Of a rule without a draw.
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
        // A gate's gradient needs the operation behind it, also where it is closed.
        let is_gated = self.rule.sampling.is_some_and(Sampling::is_gated);
        let mixing = if is_gated { mixing.whole() } else { mixing };
        let cross_entropy = cross_entropy(supernet.forward(batch.images.clone(), &mixing), batch);
        // The expected cost is one of all paths, not of the one that was drawn.
        let mixing = match is_gated {
            true => self.rule.expected().mixing(self.space, alpha, &Draw::Mode),
            false => mixing,
        };
        let penalties = &self.rule.penalties;
        let total = penalties.loss(cross_entropy.clone(), self.space, alpha, &mixing.weights);
        AlphaLoss { cross_entropy, total }
    }
}

/// Mean cross entropy of logits against a batch's labels, `[1]`.
pub fn cross_entropy(logits: Tensor<2>, batch: &ImageBatch) -> Tensor<1> {
    ec_darts_kernels::cross_entropy(logits, batch.labels.clone(), 0.0).loss
}
