//! Which edges a cell has.
//!
//! States are numbered: 0 and 1 are the outputs of the two cells before, 2 and up the
//! intermediate nodes. Node `j` is state `2 + j`, and an edge enters it from every state below.

use std::ops::Range;

use crate::{CellKind, Error};

/// Number of input states of a cell: the outputs of the two cells before it.
pub const NUM_INPUTS: usize = 2;

/// Far beyond any search; keeps sizes read from a file from overflowing.
pub(crate) const MAX_NODES: usize = 64;

/// A connection between two states of a cell, `from < to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    /// The state that is read.
    pub from: usize,
    /// The state of the intermediate node that is entered, 2 or more.
    pub to: usize,
}

/// The edges of a cell, and how many of them each node keeps in the end.
///
/// Edges are numbered by target node, then by source; every matrix over the edges of a cell has
/// its rows in this order.
///
/// ```
/// use ec_darts_space::{CellTopology, Edge};
///
/// let topology = CellTopology::new(4, 2)?;
/// assert_eq!(topology.num_edges(), 14);
/// assert_eq!(topology.edges_into(1), 2..5);
/// assert_eq!(topology.edges().nth(4), Some(Edge { from: 2, to: 3 }));
/// # Ok::<(), ec_darts_space::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CellTopology {
    num_nodes: usize,
    edges_kept: usize,
}

impl CellTopology {
    /// A cell of `num_nodes` intermediate nodes that keep `edges_kept` incoming edges each.
    ///
    /// A node with fewer incoming edges than `edges_kept` keeps all of them.
    ///
    /// # Errors
    /// [`Error::Topology`] where one of the two is zero, or with more than 64 nodes.
    pub fn new(num_nodes: usize, edges_kept: usize) -> Result<Self, Error> {
        if (1..=MAX_NODES).contains(&num_nodes) && edges_kept > 0 {
            Ok(Self { num_nodes, edges_kept })
        } else {
            Err(Error::Topology { num_nodes, edges_kept, max_nodes: MAX_NODES })
        }
    }

    /// The cell of DARTS and EC-DARTS: four nodes that keep two edges each.
    pub fn darts() -> Self {
        Self { num_nodes: 4, edges_kept: 2 }
    }

    /// Number of intermediate nodes.
    pub fn num_nodes(&self) -> usize {
        self.num_nodes
    }

    /// Number of edges that a node keeps, if it has that many.
    pub fn edges_kept(&self) -> usize {
        self.edges_kept
    }

    /// Number of edges of the cell.
    ///
    /// ```text
    /// num_edges = sum over j<n of (2 + j) = n (n + 3) / 2
    /// ```
    /// `n` is the number of nodes, `2 + j` the number of edges into node `j`.
    pub fn num_edges(&self) -> usize {
        first_edge(self.num_nodes)
    }

    /// All edges in the order of their numbers: by target node, then by source.
    pub fn edges(&self) -> impl Iterator<Item = Edge> + use<> {
        let targets = NUM_INPUTS..NUM_INPUTS + self.num_nodes;
        targets.flat_map(|to| (0..to).map(move |from| Edge { from, to }))
    }

    /// The numbers of the edges that enter node `node`, counted from 0, in the order of sources.
    ///
    /// # Panics
    /// Where the cell has no such node.
    pub fn edges_into(&self, node: usize) -> Range<usize> {
        assert!(node < self.num_nodes, "node {node} of a cell with {} nodes", self.num_nodes);
        first_edge(node)..first_edge(node + 1)
    }

    /// The number of the edge from state `from` into node `node`, counted from 0.
    ///
    /// # Panics
    /// Where the cell has no such node, or the state does not lie before it.
    pub fn edge_number(&self, from: usize, node: usize) -> usize {
        let edges = self.edges_into(node);
        assert!(from < edges.len(), "node {node} reads states 0 to {}, not {from}", node + 1);
        edges.start + from
    }

    /// The stride of an edge: 2 out of the inputs of a reduction cell, else 1.
    pub fn stride(&self, kind: CellKind, edge: Edge) -> usize {
        match kind {
            CellKind::Reduction if edge.from < NUM_INPUTS => 2,
            CellKind::Normal | CellKind::Reduction => 1,
        }
    }
}

/// The number of the first edge into a node, which is the number of edges into all nodes before.
fn first_edge(node: usize) -> usize {
    node * (node + 3) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(num_nodes: usize, num_edges: usize) {
        let topology = CellTopology::new(num_nodes, 2).unwrap();
        assert_eq!(topology.num_edges(), num_edges);
        assert_eq!(topology.edges().count(), num_edges);
        for (number, edge) in topology.edges().enumerate() {
            let node = edge.to - NUM_INPUTS;
            assert!(topology.edges_into(node).contains(&number));
            assert_eq!(topology.edge_number(edge.from, node), number);
        }
        for node in 0..num_nodes {
            assert_eq!(topology.edges_into(node).len(), NUM_INPUTS + node);
        }
    }

    #[test]
    fn edges_are_numbered_by_target_then_source() {
        check(1, 2);
        check(4, 14);
        check(7, 35);
        check(64, 2144);
    }

    #[test]
    fn only_edges_from_the_inputs_of_a_reduction_cell_have_stride_two() {
        let topology = CellTopology::darts();
        let strides = |kind| -> Vec<usize> {
            topology.edges().map(|edge| topology.stride(kind, edge)).collect()
        };
        assert_eq!(strides(CellKind::Normal), [1; 14]);
        assert_eq!(strides(CellKind::Reduction), [2, 2, 2, 2, 1, 2, 2, 1, 1, 2, 2, 1, 1, 1]);
    }

    #[test]
    fn impossible_cells_are_refused() {
        for (num_nodes, edges_kept) in [(0, 2), (4, 0), (65, 2), (usize::MAX, usize::MAX)] {
            assert!(CellTopology::new(num_nodes, edges_kept).is_err());
        }
    }

    #[test]
    #[should_panic(expected = "node 1 reads states 0 to 2, not 3")]
    fn an_edge_comes_from_an_earlier_state() {
        CellTopology::darts().edge_number(3, 1);
    }
}
