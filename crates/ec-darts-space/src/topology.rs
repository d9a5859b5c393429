//! The edges of a cell.
//!
//! States are numbered: 0 and 1 are the outputs of the two cells before, 2 and up are the
//! intermediate nodes. Node `j` is state `2 + j`, and an edge enters it from every state with a
//! smaller number.

use std::ops::Range;

use crate::{CellGenotype, CellKind, Error, PerKind};

/// Number of input states of a cell: the outputs of the two cells before it.
pub const NUM_INPUTS: usize = 2;

/// Far above any real search; the limit keeps sizes read from a file from overflowing.
pub(crate) const MAX_NODES: usize = 64;

/// A connection between two states of a cell, `from < to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    /// The state that the edge reads.
    pub from: usize,
    /// The state of the intermediate node that the edge enters, 2 or more.
    pub to: usize,
}

/// The edges of a cell, and how many of them each node keeps in the genotype.
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
    /// The first input that edges read, 0 or 1.
    first_input: usize,
    num_nodes: usize,
    edges_kept: usize,
    joins_last: bool,
}

impl CellTopology {
    /// A cell of `num_nodes` intermediate nodes, each of which keeps `edges_kept` incoming edges.
    ///
    /// A node with fewer incoming edges than `edges_kept` keeps all of them.
    ///
    /// # Errors
    /// [`Error::Topology`] where one of the two is zero, or with more than 64 nodes.
    pub fn new(num_nodes: usize, edges_kept: usize) -> Result<Self, Error> {
        if (1..=MAX_NODES).contains(&num_nodes) && edges_kept > 0 {
            Ok(Self { first_input: 0, num_nodes, edges_kept, joins_last: false })
        } else {
            Err(Error::Topology { num_nodes, edges_kept, max_nodes: MAX_NODES })
        }
    }

    /// The cell of DARTS and EC-DARTS: four nodes that keep two edges each.
    pub fn darts() -> Self {
        Self { first_input: 0, num_nodes: 4, edges_kept: 2, joins_last: false }
    }

    /// A cell with one input whose last node is its output, as in NAS-Bench-201.
    ///
    /// The input is the newer of the two inputs here, so that nodes have the same numbers as in
    /// other cells. Such cells keep the size: they are of one kind, and fixed blocks between them
    /// reduce the size.
    ///
    /// ```
    /// use ec_darts_space::{CellTopology, Edge};
    ///
    /// let topology = CellTopology::single_input(3, 3)?;
    /// assert_eq!((topology.num_edges(), topology.joined()), (6, 4..5));
    /// assert_eq!(topology.edges().next(), Some(Edge { from: 1, to: 2 }));
    /// # Ok::<(), ec_darts_space::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::new`].
    ///
    /// # Source
    /// NAS-Bench-201, section 2.1, whose nodes 0 to 3 are the states 1 to 4 here.
    pub fn single_input(num_nodes: usize, edges_kept: usize) -> Result<Self, Error> {
        let topology = Self::new(num_nodes, edges_kept)?;
        Ok(Self { first_input: 1, joins_last: true, ..topology })
    }

    /// The cell of NAS-Bench-201: three nodes that may keep all their edges.
    pub fn nas_bench_201() -> Self {
        Self { first_input: 1, num_nodes: 3, edges_kept: 3, joins_last: true }
    }

    /// The kinds of cell in a network of such cells, normal first.
    pub fn kinds(&self) -> &'static [CellKind] {
        match self.inputs().len() {
            NUM_INPUTS => &CellKind::ALL,
            _ => &[CellKind::Normal],
        }
    }

    /// The values of a function for each kind of cell in the network, normal first.
    pub fn per_kind<T>(&self, mut of: impl FnMut(CellKind) -> T) -> PerKind<T> {
        let normal = of(CellKind::Normal);
        let has_reduction = self.kinds().contains(&CellKind::Reduction);
        PerKind { normal, reduction: has_reduction.then(|| of(CellKind::Reduction)) }
    }

    /// The values of a function that can fail, for each kind of cell in the network.
    ///
    /// # Errors
    /// The error of the normal cell, else that of the reduction cell.
    pub fn try_per_kind<T, E>(
        &self,
        of: impl FnMut(CellKind) -> Result<T, E>,
    ) -> Result<PerKind<T>, E> {
        self.per_kind(of).try_map(|value| value)
    }

    /// The inputs that edges read.
    pub fn inputs(&self) -> Range<usize> {
        self.first_input..NUM_INPUTS
    }

    /// The states whose concatenation is the output.
    pub fn joined(&self) -> Range<usize> {
        let end = NUM_INPUTS + self.num_nodes;
        if self.joins_last { end - 1..end } else { NUM_INPUTS..end }
    }

    /// Number of intermediate nodes.
    pub fn num_nodes(&self) -> usize {
        self.num_nodes
    }

    /// The states that the output of these picks joins: the states of [`Self::joined`] that have
    /// picks.
    pub(crate) fn joined_of(&self, cell: &CellGenotype) -> Vec<usize> {
        cell.states_with_picks().filter(|state| self.joined().contains(state)).collect()
    }

    /// Number of edges that a node keeps; a node with fewer incoming edges keeps all of them.
    pub fn edges_kept(&self) -> usize {
        self.edges_kept
    }

    /// Number of edges of the cell.
    ///
    /// ```text
    /// num_edges = sum over j<n of (i + j) = n (n + 2 i - 1) / 2
    /// ```
    /// `n` is the number of nodes, `i` the number of inputs, `i + j` the number of edges into node
    /// `j`.
    pub fn num_edges(&self) -> usize {
        self.first_edge(self.num_nodes)
    }

    /// All edges in the order of their numbers: by target node, then by source.
    pub fn edges(&self) -> impl Iterator<Item = Edge> + use<> {
        let (targets, first) = (NUM_INPUTS..NUM_INPUTS + self.num_nodes, self.first_input);
        targets.flat_map(move |to| (first..to).map(move |from| Edge { from, to }))
    }

    /// The numbers of the edges that enter node `node`, counted from 0, in the order of sources.
    ///
    /// # Panics
    /// Where the cell has no such node.
    pub fn edges_into(&self, node: usize) -> Range<usize> {
        assert!(node < self.num_nodes, "node {node} of a cell with {} nodes", self.num_nodes);
        self.first_edge(node)..self.first_edge(node + 1)
    }

    /// The states that node `node`, counted from 0, may read.
    pub fn sources(&self, node: usize) -> Range<usize> {
        self.first_input..NUM_INPUTS + node
    }

    /// The number of the edge from state `from` into node `node`, counted from 0.
    ///
    /// # Panics
    /// Where the cell has no such node, or where the state is not below the node's state.
    pub fn edge_number(&self, from: usize, node: usize) -> usize {
        let edges = self.edges_into(node);
        let Range { start, end } = self.sources(node);
        let reads = (start..end).contains(&from);
        assert!(reads, "node {node} reads states {start} to {}, not {from}", end - 1);
        edges.start + from - start
    }

    /// The number of the first edge into a node, which is the number of edges into all earlier
    /// nodes.
    fn first_edge(&self, node: usize) -> usize {
        node * (2 * self.inputs().len() + node).saturating_sub(1) / 2
    }

    /// The stride of an edge: 2 from the inputs of a reduction cell, else 1.
    pub fn stride(&self, kind: CellKind, edge: Edge) -> usize {
        match kind {
            CellKind::Reduction if edge.from < NUM_INPUTS => 2,
            CellKind::Normal | CellKind::Reduction => 1,
        }
    }
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
    fn the_cell_of_nas_bench_201() {
        let topology = CellTopology::nas_bench_201();
        let edges: Vec<(usize, usize)> =
            topology.edges().map(|edge| (edge.from, edge.to)).collect();
        assert_eq!(edges, [(1, 2), (1, 3), (2, 3), (1, 4), (2, 4), (3, 4)]);
        let into: Vec<_> = (0..3).map(|node| topology.edges_into(node)).collect();
        assert_eq!(into, [0..1, 1..3, 3..6]);
        for (number, edge) in topology.edges().enumerate() {
            assert_eq!(topology.edge_number(edge.from, edge.to - NUM_INPUTS), number);
        }
        assert_eq!((CellTopology::darts().joined(), CellTopology::darts().inputs()), (2..6, 0..2));
        assert_eq!(topology, CellTopology::single_input(3, 3).unwrap());
        assert_eq!(
            (topology.kinds(), CellTopology::darts().kinds()),
            (&[CellKind::Normal][..], &CellKind::ALL[..])
        );
    }

    #[test]
    #[should_panic(expected = "node 1 reads states 0 to 2, not 3")]
    fn an_edge_comes_from_an_earlier_state() {
        CellTopology::darts().edge_number(3, 1);
    }
}
