//! Relaxations: from the architecture parameters of a cell to weights that compete.
//!
//! Entry point: [`Relaxation::mixing`]. Invariant: a relaxation sees the whole cell, never one
//! edge, so that rules across edges have the same form as rules within one.

use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{Tensor, s};
use ec_darts_kernels::softmax_groups;
use ec_darts_space::{CellKind, CellTopology, SearchSpace};

/// The competition of architecture parameters for mixing weights.
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
    /// Cross-Edge Normalization: for each primitive, the edges that enter a node compete.
    ///
    /// ```text
    /// mixing[i->j, o] = exp(alpha[i->j, o]) / sum over k<j of exp(alpha[k->j, o])
    /// ```
    /// An edge that enters its node alone, such as the first edge of a cell with one input, is
    /// relaxed by [`Self::Softmax`]: across edges its weights would be one for any alpha
    /// (docs/deviations.md, `cen-lone-edge`).
    ///
    /// The printed equation has no exp; Figure 2 and its text say softmax (docs/deviations.md,
    /// `cen-softmax`).
    ///
    /// # Source
    /// EC-DARTS, section 4.1, Eq. (4), Figure 2.
    CrossEdge,
    /// FairDARTS: there is no competition.
    ///
    /// ```text
    /// mixing[i->j, o] = 1 / (1 + exp(-alpha[i->j, o]))
    /// ```
    ///
    /// # Source
    /// FairDARTS, section 3.2, Eq. (3).
    Sigmoid,
}

impl Relaxation {
    /// Mixing weights of one cell.
    ///
    /// # Shapes
    /// - `alpha`, output: `[num_edges, columns]`, edges ordered by target node
    ///
    /// # Units
    /// Output is a fraction in [0, 1].
    ///
    /// # Panics
    /// Where `alpha` does not have the topology's number of edges.
    pub fn mixing(&self, alpha: Tensor<2>, topology: &CellTopology) -> Tensor<2> {
        let [num_edges, _] = alpha.dims();
        assert_eq!(num_edges, topology.num_edges(), "one row of alpha for each edge");
        match self {
            Self::Softmax => softmax(alpha, 1),
            Self::CrossEdge => match lone_edges(topology) {
                0 => across_edges(alpha, topology),
                lone => {
                    let within = softmax(alpha.clone().slice(s![..lone]), 1);
                    let across = across_edges(alpha, topology).slice(s![lone..]);
                    Tensor::cat(vec![within, across], 0)
                }
            },
            Self::Sigmoid => sigmoid(alpha),
        }
    }

    /// Mean entropy of the mixing weights, as a fraction of the largest possible.
    ///
    /// ```text
    /// mean over groups of -sum m ln m / ln(group size)                       Softmax, CrossEdge
    /// mean over entries of -(m ln m + (1 - m) ln(1 - m)) / ln 2              Sigmoid
    /// ```
    /// A group is a set of weights that sum to one: an edge ([`Self::Softmax`]), or a primitive at
    /// a node ([`Self::CrossEdge`]). The value is 1 without any decision and 0 after a full
    /// decision.
    ///
    /// # Shapes
    /// - `mixing`: `[num_edges, num_primitives]`, row-major
    pub fn entropy(&self, mixing: &[f32], space: &SearchSpace, kind: CellKind) -> f64 {
        let entropy = |group: &[f32]| {
            let nats: f64 =
                group.iter().map(|&m| f64::from(m)).filter(|&m| m > 0.0).map(|m| -m * m.ln()).sum();
            if group.len() > 1 { nats / (group.len() as f64).ln() } else { 0.0 }
        };
        let groups = self.groups(space, kind);
        let of_group = |places: &Vec<usize>| match (self, places.as_slice()) {
            (Self::Sigmoid, &[place]) => entropy(&[mixing[place], 1.0 - mixing[place]]),
            _ => entropy(&places.iter().map(|&place| mixing[place]).collect::<Vec<f32>>()),
        };
        groups.iter().map(of_group).sum::<f64>() / groups.len() as f64
    }

    /// Indices of the mixing weights that compete, counted row by row. The weights of a group sum
    /// to one; under [`Self::Sigmoid`], every index is its own group. Primitives that are not
    /// candidates of their edge are in no group.
    ///
    /// # Shapes
    /// - output: indices into `[num_edges, num_primitives]`
    pub fn groups(&self, space: &SearchSpace, kind: CellKind) -> Vec<Vec<usize>> {
        let topology = space.topology();
        let width = space.primitives().len();
        let place = |edge: usize, column: usize| edge * width + column;
        let mut groups: Vec<Vec<usize>> = match self {
            Self::Softmax => (0..topology.num_edges())
                .map(|edge| (0..width).map(|column| place(edge, column)).collect())
                .collect(),
            Self::CrossEdge => (0..topology.num_nodes())
                .flat_map(|node| {
                    let edges = topology.edges_into(node);
                    let of_column =
                        |column| edges.clone().map(|edge| place(edge, column)).collect();
                    match edges.len() {
                        1 => vec![(0..width).map(|column| place(edges.start, column)).collect()],
                        _ => (0..width).map(of_column).collect(),
                    }
                })
                .collect(),
            Self::Sigmoid => (0..topology.num_edges() * width).map(|at| vec![at]).collect(),
        };
        let is_candidate = |at: &usize| {
            space.candidates(kind, at / width).contains(&space.primitives()[at % width])
        };
        groups.iter_mut().for_each(|group| group.retain(is_candidate));
        groups.retain(|group| !group.is_empty());
        groups
    }
}

/// The number of edges at the start of a cell that enter their node alone, without competitors
/// across edges.
fn lone_edges(topology: &CellTopology) -> usize {
    // A node has one edge more than the node before.
    usize::from(topology.edges_into(0).len() == 1)
}

/// Softmax over the edges that enter a node, column by column.
///
/// # Shapes
/// - `values`, output: `[num_edges, columns]`
pub(crate) fn across_edges(values: Tensor<2>, topology: &CellTopology) -> Tensor<2> {
    let into = |node| topology.edges_into(node).len();
    let sizes: Vec<usize> = (0..topology.num_nodes()).map(into).collect();
    softmax_groups(values, &sizes)
}
