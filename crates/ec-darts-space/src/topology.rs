//! Which edges a cell has, and the search space made of them.
//!
//! States are numbered: 0 and 1 are the outputs of the two cells before, 2 and up the
//! intermediate nodes. Node `j` is state `2 + j`, and an edge enters it from every state below.

use std::fmt;
use std::ops::{Deref, Range};

use serde::{Deserialize, Serialize};

use crate::{Error, Genotype, Pick, Primitive};

/// Number of input states of a cell: the outputs of the two cells before it.
pub const NUM_INPUTS: usize = 2;

/// Far beyond any search; keeps sizes read from a file from overflowing.
pub(crate) const MAX_NODES: usize = 64;

/// The two kinds of cell, each with a genotype of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CellKind {
    /// Keeps the size of its input.
    Normal,
    /// Halves height and width: the edges from its inputs have stride 2.
    Reduction,
}

impl CellKind {
    /// Both kinds, normal first.
    pub const ALL: [Self; 2] = [Self::Normal, Self::Reduction];

    /// `normal` or `reduction`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Reduction => "reduction",
        }
    }
}

impl fmt::Display for CellKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A value for each kind of cell.
///
/// ```
/// use ec_darts_space::{CellKind, PerKind};
///
/// let counts = PerKind { normal: 6, reduction: 2 };
/// assert_eq!(*counts.cell(CellKind::Reduction), 2);
/// assert_eq!(counts.map(|count| 2 * count).into_array(), [12, 4]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerKind<T> {
    /// That of the normal cell.
    pub normal: T,
    /// That of the reduction cell.
    pub reduction: T,
}

impl<T> PerKind<T> {
    /// The values of a function, normal first.
    pub fn from_fn(mut of: impl FnMut(CellKind) -> T) -> Self {
        let normal = of(CellKind::Normal);
        Self { normal, reduction: of(CellKind::Reduction) }
    }

    /// The values of a function that can fail; the normal cell's error comes first.
    ///
    /// # Errors
    /// The first one of the function.
    pub fn try_from_fn<E>(mut of: impl FnMut(CellKind) -> Result<T, E>) -> Result<Self, E> {
        let normal = of(CellKind::Normal)?;
        Ok(Self { normal, reduction: of(CellKind::Reduction)? })
    }

    /// The value of a kind.
    pub fn cell(&self, kind: CellKind) -> &T {
        match kind {
            CellKind::Normal => &self.normal,
            CellKind::Reduction => &self.reduction,
        }
    }

    /// The value of a kind, to be changed.
    pub fn cell_mut(&mut self, kind: CellKind) -> &mut T {
        match kind {
            CellKind::Normal => &mut self.normal,
            CellKind::Reduction => &mut self.reduction,
        }
    }

    /// What a function makes of each value, normal first.
    pub fn map<U>(self, mut of: impl FnMut(T) -> U) -> PerKind<U> {
        let normal = of(self.normal);
        PerKind { normal, reduction: of(self.reduction) }
    }

    /// What a function that can fail makes of each value.
    ///
    /// # Errors
    /// The first one of the function, the normal cell's before the other's.
    pub fn try_map<U, E>(self, mut of: impl FnMut(T) -> Result<U, E>) -> Result<PerKind<U>, E> {
        let normal = of(self.normal)?;
        Ok(PerKind { normal, reduction: of(self.reduction)? })
    }

    /// The values of two pairs side by side.
    pub fn zip<U>(self, other: PerKind<U>) -> PerKind<(T, U)> {
        PerKind {
            normal: (self.normal, other.normal),
            reduction: (self.reduction, other.reduction),
        }
    }

    /// Both values by reference.
    pub fn as_ref(&self) -> PerKind<&T> {
        PerKind { normal: &self.normal, reduction: &self.reduction }
    }

    /// Both values by reference to what they own: slices of vectors.
    pub fn as_deref(&self) -> PerKind<&T::Target>
    where
        T: Deref,
    {
        PerKind { normal: &self.normal, reduction: &self.reduction }
    }

    /// Both values by mutable reference.
    pub fn as_mut(&mut self) -> PerKind<&mut T> {
        PerKind { normal: &mut self.normal, reduction: &mut self.reduction }
    }

    /// Both values with their kinds, normal first.
    pub fn iter(&self) -> impl Iterator<Item = (CellKind, &T)> {
        [(CellKind::Normal, &self.normal), (CellKind::Reduction, &self.reduction)].into_iter()
    }

    /// Both values, normal first.
    pub fn into_array(self) -> [T; 2] {
        [self.normal, self.reduction]
    }
}

/// Normal first.
impl<T> From<[T; 2]> for PerKind<T> {
    fn from([normal, reduction]: [T; 2]) -> Self {
        Self { normal, reduction }
    }
}

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

/// What a search chooses from: primitives for each edge, and edges for each node.
///
/// The order of the primitives is the order of the columns of every matrix over this space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchSpace {
    primitives: Vec<Primitive>,
    topology: CellTopology,
}

impl SearchSpace {
    /// A space of these primitives on every edge of this cell.
    ///
    /// ```
    /// use ec_darts_space::{CellTopology, Primitive, SearchSpace};
    ///
    /// let small = vec![Primitive::SkipConnect, Primitive::SepConv3x3];
    /// let space = SearchSpace::new(small, CellTopology::new(3, 1)?)?;
    /// assert_eq!(space.primitives().len(), 2);
    /// # Ok::<(), ec_darts_space::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::DuplicatePrimitive`], or [`Error::NoCandidates`] where no primitive other than
    /// `none` is listed.
    pub fn new(primitives: Vec<Primitive>, topology: CellTopology) -> Result<Self, Error> {
        for (position, primitive) in primitives.iter().enumerate() {
            if primitives[..position].contains(primitive) {
                return Err(Error::DuplicatePrimitive(*primitive));
            }
        }
        if primitives.iter().all(|&primitive| primitive == Primitive::None) {
            return Err(Error::NoCandidates);
        }
        Ok(Self { primitives, topology })
    }

    /// The space of DARTS and EC-DARTS: eight primitives, four nodes, two edges kept.
    pub fn darts() -> Self {
        let topology = CellTopology { num_nodes: 4, edges_kept: 2 };
        Self { primitives: Primitive::DARTS.to_vec(), topology }
    }

    /// Whether a genotype is one of those that a search of this space can end in: as many nodes and picks,
    /// each of a candidate, and all nodes joined.
    pub fn contains(&self, genotype: &Genotype) -> bool {
        let is_pick = |pick: &Pick| self.primitives.contains(&pick.primitive);
        CellKind::ALL.iter().all(|&kind| {
            let cell = genotype.cell(kind);
            let mut nodes = cell.nodes.iter().enumerate();
            cell.validate().is_ok()
                && cell.nodes.len() == self.topology.num_nodes
                && cell.concat.iter().copied().eq(cell.node_states())
                && nodes.all(|(node, picks)| {
                    let kept = self.topology.edges_kept.min(NUM_INPUTS + node);
                    picks.len() == kept && picks.iter().all(is_pick)
                })
        })
    }

    /// The candidates of every edge, in the order of the columns.
    pub fn primitives(&self) -> &[Primitive] {
        &self.primitives
    }

    /// The edges of a cell.
    pub fn topology(&self) -> &CellTopology {
        &self.topology
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
    fn a_pair_keeps_its_kinds_apart() {
        let mut pair = PerKind::from_fn(|kind| kind.name().to_owned());
        pair.cell_mut(CellKind::Reduction).push('!');
        assert_eq!(pair.as_ref().map(String::len), PerKind { normal: 6, reduction: 10 });
        let listed: Vec<_> = pair.iter().map(|(kind, text)| (kind, text.as_str())).collect();
        assert_eq!(listed, [(CellKind::Normal, "normal"), (CellKind::Reduction, "reduction!")]);
        let both = pair.as_ref().zip(PerKind::from([1, 2]));
        assert_eq!((both.normal.1, both.reduction.0.as_str()), (1, "reduction!"));
        let failed = pair.as_ref().try_map(|text| text.parse::<u8>().map_err(|_| text.clone()));
        assert_eq!(failed, Err("normal".to_owned()));
        let json = serde_json::to_string(&PerKind { normal: 1, reduction: 2 }).unwrap();
        assert_eq!(json, r#"{"normal":1,"reduction":2}"#);
        assert!(serde_json::from_str::<PerKind<u8>>(r#"{"normal":1}"#).is_err());
    }

    #[test]
    fn only_edges_from_the_inputs_of_a_reduction_cell_have_stride_two() {
        let topology = *SearchSpace::darts().topology();
        let strides = |kind| -> Vec<usize> {
            topology.edges().map(|edge| topology.stride(kind, edge)).collect()
        };
        assert_eq!(strides(CellKind::Normal), [1; 14]);
        assert_eq!(strides(CellKind::Reduction), [2, 2, 2, 2, 1, 2, 2, 1, 1, 2, 2, 1, 1, 1]);
    }

    #[test]
    fn impossible_spaces_are_refused() {
        for (num_nodes, edges_kept) in [(0, 2), (4, 0), (65, 2), (usize::MAX, usize::MAX)] {
            assert!(CellTopology::new(num_nodes, edges_kept).is_err());
        }
        let topology = CellTopology::new(1, 9).unwrap();
        let refusal = |primitives| SearchSpace::new(primitives, topology).unwrap_err().to_string();
        let twice = vec![Primitive::SkipConnect, Primitive::None, Primitive::SkipConnect];
        assert_eq!(refusal(twice), "primitive `skip_connect` is listed twice in the search space");
        let nothing = "a search space needs a primitive other than `none`";
        assert_eq!(refusal(vec![Primitive::None]), nothing);
        assert_eq!(refusal(vec![]), nothing);
    }

    #[test]
    #[should_panic(expected = "node 1 reads states 0 to 2, not 3")]
    fn an_edge_comes_from_an_earlier_state() {
        SearchSpace::darts().topology().edge_number(3, 1);
    }
}
