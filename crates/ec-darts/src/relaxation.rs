//! Relaxations: from the architecture parameters of a cell to its mixing weights.
//!
//! Entry point: [`Relaxation::mixing`]. Invariant: a relaxation sees the whole cell, never one
//! edge, so that rules across edges have the same form as rules within one.

use burn::tensor::{Tensor, activation::softmax};
use ec_darts_kernels::{in_one_kernel, softmax_groups};
use ec_darts_space::{CellKind, CellTopology};

use crate::architecture::ArchitectureParameters;

/// How architecture parameters compete for mixing weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relaxation {
    /// DARTS: the primitives of one edge compete.
    ///
    /// ```text
    /// mixing[i->j, o] = exp(alpha[i->j, o]) / sum over o' of exp(alpha[i->j, o'])
    /// ```
    ///
    /// # Source
    /// DARTS, Eq. (2); EC-DARTS, Eq. (1).
    Softmax,
    /// Cross-Edge Normalization: the edges that enter a node compete, each primitive for itself.
    ///
    /// ```text
    /// mixing[i->j, o] = exp(alpha[i->j, o]) / sum over k<j of exp(alpha[k->j, o])
    /// ```
    /// The printed equation has no exp, Figure 2 and its text say softmax
    /// (docs/deviations.md, `cen-softmax`).
    ///
    /// # Source
    /// EC-DARTS, section 4.1, Eq. (4), Figure 2.
    CrossEdge,
}

impl Relaxation {
    /// Mixing weights of one cell.
    ///
    /// # Shapes
    /// - `alpha`, output: `[num_edges, num_primitives]`, edges ordered by target node
    ///
    /// # Units
    /// Output is a fraction in [0, 1].
    ///
    /// # Panics
    /// Where `alpha` has another number of edges than the topology.
    pub fn mixing(&self, alpha: Tensor<2>, topology: &CellTopology) -> Tensor<2> {
        let [num_edges, _] = alpha.dims();
        assert_eq!(num_edges, topology.num_edges(), "one row of alpha for each edge");
        match self {
            Self::Softmax => softmax(alpha, 1),
            Self::CrossEdge => {
                let into = |node| topology.edges_into(node).len();
                let sizes: Vec<usize> = (0..topology.num_nodes()).map(into).collect();
                softmax_groups(alpha, &sizes)
            }
        }
    }

    /// Mean entropy of the competing mixing weights, as a fraction of the largest possible.
    ///
    /// ```text
    /// mean over groups of -sum m ln m / ln(group size)
    /// ```
    /// A group is what sums to one: an edge ([`Self::Softmax`]), or a primitive at a node
    /// ([`Self::CrossEdge`]). 1 is undecided, 0 is a decision.
    ///
    /// # Shapes
    /// - `mixing`: `[num_edges, num_primitives]`, row-major
    pub fn entropy(&self, mixing: &[f32], topology: &CellTopology) -> f64 {
        let num_primitives = mixing.len() / topology.num_edges();
        let row = |edge: usize| &mixing[edge * num_primitives..(edge + 1) * num_primitives];
        let groups: Vec<Vec<f32>> = match self {
            Self::Softmax => (0..topology.num_edges()).map(|edge| row(edge).to_vec()).collect(),
            Self::CrossEdge => (0..topology.num_nodes())
                .flat_map(|node| {
                    (0..num_primitives).map(move |primitive| {
                        topology.edges_into(node).map(|edge| row(edge)[primitive]).collect()
                    })
                })
                .collect(),
        };
        let entropy = |group: &Vec<f32>| {
            let nats: f64 =
                group.iter().map(|&m| f64::from(m)).filter(|&m| m > 0.0).map(|m| -m * m.ln()).sum();
            if group.len() > 1 { nats / (group.len() as f64).ln() } else { 0.0 }
        };
        groups.iter().map(entropy).sum::<f64>() / groups.len() as f64
    }
}

/// The mixing weights of both kinds of cells.
#[derive(Clone, Debug)]
pub struct Mixing {
    /// Of the normal cells, `[num_edges, num_primitives]`.
    pub normal: Tensor<2>,
    /// Of the reduction cells, `[num_edges, num_primitives]`.
    pub reduction: Tensor<2>,
}

impl Mixing {
    /// Relaxes the architecture parameters of both kinds.
    pub fn new(
        alpha: &ArchitectureParameters,
        relaxation: Relaxation,
        topology: &CellTopology,
    ) -> Self {
        let kinds = [alpha.normal.val(), alpha.reduction.val()];
        let one_by_one = relaxation == Relaxation::Softmax || in_one_kernel(&kinds[0].device());
        let [normal, reduction] = match one_by_one {
            true => kinds.map(|alpha| relaxation.mixing(alpha, topology)),
            // Columns are relaxed each for itself, so both kinds are relaxed at once.
            false => {
                let [num_edges, num_primitives] = kinds[0].dims();
                let both = relaxation.mixing(Tensor::cat(kinds.into(), 1), topology);
                let columns = [0..num_primitives, num_primitives..2 * num_primitives];
                columns.map(|columns| both.clone().slice([0..num_edges, columns]))
            }
        };
        Self { normal, reduction }
    }

    /// The weights of one kind of cell.
    pub fn cell(&self, kind: CellKind) -> &Tensor<2> {
        match kind {
            CellKind::Normal => &self.normal,
            CellKind::Reduction => &self.reduction,
        }
    }

    /// The same weights without their history: a step on the weights moves no alpha.
    pub fn detach(self) -> Self {
        Self { normal: self.normal.detach(), reduction: self.reduction.detach() }
    }
}
