//! The result of a search: the operations that each node of a cell keeps.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::topology::MAX_NODES;
use crate::{CellKind, Error, NUM_INPUTS, Primitive};

/// The cells of which a network of any depth and width is a stack: a pair, or in the space of
/// NAS-Bench-201 one cell.
///
/// Parsing with [`str::parse`] takes the flat and the nested Python text, the text of NAS-Bench-201 and JSON, see
/// [`text`](crate::text).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genotype {
    /// The cell that keeps height and width.
    pub normal: CellGenotype,
    /// The cell that halves height and width, where the network has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduction: Option<CellGenotype>,
}

impl Genotype {
    /// The cell of a kind.
    ///
    /// # Panics
    /// Where the genotype has no reduction cell.
    pub fn cell(&self, kind: CellKind) -> &CellGenotype {
        match kind {
            CellKind::Normal => &self.normal,
            CellKind::Reduction => {
                self.reduction.as_ref().expect("a genotype with a reduction cell")
            }
        }
    }

    /// The cells with their kinds, normal first.
    pub fn cells(&self) -> impl Iterator<Item = (CellKind, &CellGenotype)> {
        let reduction = self.reduction.iter().map(|cell| (CellKind::Reduction, cell));
        std::iter::once((CellKind::Normal, &self.normal)).chain(reduction)
    }

    /// Checks all cells.
    ///
    /// # Errors
    /// [`Error::Cell`] from [`CellGenotype::validate`], with the name of the cell.
    pub fn validate(&self) -> Result<(), Error> {
        let fault = |(kind, cell): (_, &CellGenotype)| Some(cell.fault()?.error(Some(kind)));
        self.cells().find_map(fault).map_or(Ok(()), Err)
    }
}

/// The kept operations of a cell.
///
/// The fields are public, so that a cell can be written by hand; [`Self::validate`] checks it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "CellFields")]
pub struct CellGenotype {
    /// The operations of each intermediate node, whose outputs the node adds up. A node without
    /// operations is no part of the network.
    pub nodes: Vec<Vec<Pick>>,
    /// The states whose concatenation is the output of the cell.
    pub concat: Vec<usize>,
}

/// A kept operation of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pick {
    /// The operation.
    pub primitive: Primitive,
    /// The state that the operation reads: 0 and 1 are the inputs, `2 + j` is node `j`.
    pub from: usize,
}

impl CellGenotype {
    /// The states of the intermediate nodes: 2 and up.
    pub fn node_states(&self) -> Range<usize> {
        NUM_INPUTS..NUM_INPUTS + self.nodes.len()
    }

    /// The number of picks whose primitive satisfies a condition.
    pub fn count(&self, condition: impl Fn(Primitive) -> bool) -> usize {
        self.nodes.iter().flatten().filter(|pick| condition(pick.primitive)).count()
    }

    /// The cell with these picks; its output joins all nodes that have picks.
    ///
    /// A pick that reads a node without picks is left out, because that node has no value. As a
    /// result, its own node may have no picks left.
    ///
    /// # Source
    /// FairDARTS, `fairdarts/model.py`, `DCOCell`, which skips such nodes and picks. In the code of
    /// SNAS such a node is a map of zeros; it adds only unused weights to the network.
    pub fn of_picks(nodes: Vec<Vec<Pick>>) -> Self {
        let mut cell = Self { nodes, concat: Vec::new() };
        leave_out(&mut cell.nodes, |pick| pick.from);
        cell.concat = cell.states_with_picks().collect();
        cell
    }

    /// The states of the nodes that have picks.
    pub fn states_with_picks(&self) -> impl Iterator<Item = usize> + '_ {
        self.node_states().filter(|&state| self.has_picks(state))
    }

    /// The place of each state among the states that a network computes: the inputs, and the nodes
    /// with picks.
    ///
    /// A node without picks has the place of the next node with picks.
    pub fn places(&self) -> Vec<usize> {
        let places = self.node_states().scan(NUM_INPUTS, |next, state| {
            let place = *next;
            *next += usize::from(self.has_picks(state));
            Some(place)
        });
        (0..NUM_INPUTS).chain(places).collect()
    }

    /// Whether no node reads the older input.
    pub fn reads_one_input(&self) -> bool {
        self.nodes.iter().flatten().all(|pick| pick.from > 0)
    }

    /// Whether a state is an input, or a node that has picks; false for a state that the cell does
    /// not have.
    fn has_picks(&self, state: usize) -> bool {
        let node = state.checked_sub(NUM_INPUTS);
        node.is_none_or(|node| self.nodes.get(node).is_some_and(|picks| !picks.is_empty()))
    }

    /// Checks that a network can be built.
    ///
    /// A cell has 1 to 64 nodes. A pick is not `none` and reads an earlier state: an input, or a
    /// node that has picks. No node picks the same primitive of the same state twice. The output
    /// joins at least one node, each at most once, and each of them has picks.
    ///
    /// ```
    /// use ec_darts_space::{CellGenotype, Pick, Primitive};
    ///
    /// let pick = Pick { primitive: Primitive::SepConv3x3, from: 2 };
    /// let cell = CellGenotype { nodes: vec![vec![pick]], concat: vec![2] };
    /// let message = cell.validate().unwrap_err().to_string();
    /// assert_eq!(message, "node 0, pick 0: state 2 does not exist yet, allowed: 0 to 1");
    /// ```
    ///
    /// # Errors
    /// [`Error::Cell`], with the place of the first fault.
    pub fn validate(&self) -> Result<(), Error> {
        self.fault().map_or(Ok(()), |fault| Err(fault.error(None)))
    }

    /// The first fault in the order of places, for parsers that know where in a text the place is.
    pub(crate) fn fault(&self) -> Option<Fault> {
        let fault = |place, reason: String| Some(Fault { place, reason });
        if self.nodes.is_empty() {
            return fault(CellPart::Nodes, "a cell needs at least one node".into());
        }
        if self.nodes.len() > MAX_NODES {
            let reason = format!("{} nodes, allowed: 1 to {MAX_NODES}", self.nodes.len());
            return fault(CellPart::Nodes, reason);
        }
        for (node, picks) in self.nodes.iter().enumerate() {
            for (number, pick) in picks.iter().enumerate() {
                let last = NUM_INPUTS + node - 1;
                if pick.primitive == Primitive::None {
                    let reason = "`none` cannot be picked".into();
                    return fault(CellPart::PickPrimitive(node, number), reason);
                }
                if pick.from > last {
                    let reason =
                        format!("state {} does not exist yet, allowed: 0 to {last}", pick.from);
                    return fault(CellPart::PickSource(node, number), reason);
                }
                if !self.has_picks(pick.from) {
                    let reason = format!("state {} is a node without picks", pick.from);
                    return fault(CellPart::PickSource(node, number), reason);
                }
                if picks[..number].contains(pick) {
                    let Pick { primitive, from } = pick;
                    let reason =
                        format!("`{primitive}` of state {from} is picked twice by one node");
                    return fault(CellPart::PickSource(node, number), reason);
                }
            }
        }
        if self.concat.is_empty() {
            return fault(CellPart::Concat, "the output needs at least one node".into());
        }
        let states = self.node_states();
        for (number, state) in self.concat.iter().enumerate() {
            if !states.contains(state) {
                let last = states.end - 1;
                let reason =
                    format!("state {state} is not a node, allowed: {NUM_INPUTS} to {last}");
                return fault(CellPart::ConcatState(number), reason);
            }
            if !self.has_picks(*state) {
                let reason = format!("state {state} is a node without picks");
                return fault(CellPart::ConcatState(number), reason);
            }
            if self.concat[..number].contains(state) {
                let reason = format!("state {state} is joined twice");
                return fault(CellPart::ConcatState(number), reason);
            }
        }
        None
    }
}

/// Removes picks that read a node without picks. A pick of a state that does not exist stays, so
/// that it is reported as a fault.
pub(crate) fn leave_out<P>(nodes: &mut [Vec<P>], source: impl Fn(&P) -> usize) {
    for node in 0..nodes.len() {
        let (before, from_here) = nodes.split_at_mut(node);
        from_here[0].retain(|pick| {
            let read = source(pick).checked_sub(NUM_INPUTS).and_then(|read| before.get(read));
            read.is_none_or(|picks| !picks.is_empty())
        });
    }
}

/// A fault of a cell, and its place.
pub(crate) struct Fault {
    pub(crate) place: CellPart,
    pub(crate) reason: String,
}

/// A part of a cell; nodes, picks and states to join are counted from 0.
#[derive(Clone, Copy)]
pub(crate) enum CellPart {
    Nodes,
    PickPrimitive(usize, usize),
    PickSource(usize, usize),
    Concat,
    ConcatState(usize),
}

impl Fault {
    fn error(self, kind: Option<CellKind>) -> Error {
        let place = match kind {
            Some(kind) => format!("{kind} cell, {}", self.place),
            None => self.place.to_string(),
        };
        Error::Cell { place, reason: self.reason }
    }
}

impl fmt::Display for CellPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes => f.write_str("nodes"),
            Self::PickPrimitive(node, pick) | Self::PickSource(node, pick) => {
                write!(f, "node {node}, pick {pick}")
            }
            Self::Concat => f.write_str("concat"),
            Self::ConcatState(number) => write!(f, "concat, entry {number}"),
        }
    }
}

/// A cell before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CellFields {
    nodes: Vec<Vec<Pick>>,
    concat: Vec<usize>,
}

impl TryFrom<CellFields> for CellGenotype {
    type Error = Error;

    fn try_from(CellFields { nodes, concat }: CellFields) -> Result<Self, Error> {
        let cell = Self { nodes, concat };
        cell.validate()?;
        Ok(cell)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::subsequence;

    /// Any valid cell of at most six nodes.
    pub(crate) fn any_cell() -> impl Strategy<Value = CellGenotype> {
        (1_usize..=6).prop_flat_map(|num_nodes| {
            let nodes: Vec<_> = (0..num_nodes).map(any_node).collect();
            let some = nodes.prop_map(CellGenotype::of_picks);
            let some = some.prop_filter("a node with picks", |cell| !cell.concat.is_empty());
            some.prop_flat_map(|CellGenotype { nodes, concat }| {
                let concat = subsequence(concat.clone(), 1..=concat.len()).prop_shuffle();
                concat.prop_map(move |concat| CellGenotype { nodes: nodes.clone(), concat })
            })
        })
    }

    fn any_node(node: usize) -> impl Strategy<Value = Vec<Pick>> {
        let picks = (0..NUM_INPUTS + node).flat_map(|from| {
            Primitive::ALL[1..].iter().map(move |&primitive| Pick { primitive, from })
        });
        subsequence(picks.collect::<Vec<_>>(), 0..=NUM_INPUTS + node).prop_shuffle()
    }

    /// Any valid genotype, flat or not.
    pub(crate) fn any_genotype() -> impl Strategy<Value = Genotype> {
        (any_cell(), prop::option::weighted(0.8, any_cell()))
            .prop_map(|(normal, reduction)| Genotype { normal, reduction })
    }

    /// Each list is a node and each pair a pick; the expected text is empty for a valid cell.
    fn check(nodes: &[&[(Primitive, usize)]], concat: &[usize], expected: &str) {
        let pick = |&(primitive, from): &(Primitive, usize)| Pick { primitive, from };
        let nodes = nodes.iter().map(|picks| picks.iter().map(pick).collect()).collect();
        let cell = CellGenotype { nodes, concat: concat.to_vec() };
        let message = cell.validate().map_or_else(|error| error.to_string(), |()| String::new());
        assert_eq!(message, expected);

        let json = serde_json::to_string(&cell).unwrap();
        let read = serde_json::from_str::<CellGenotype>(&json);
        assert_eq!(read.is_ok(), expected.is_empty(), "json: {read:?}");

        let genotype = Genotype { normal: cell.clone(), reduction: Some(cell) };
        let message =
            genotype.validate().map_or_else(|error| error.to_string(), |()| String::new());
        let named = |text: &str| format!("normal cell, {text}");
        assert_eq!(message, if expected.is_empty() { String::new() } else { named(expected) });
    }

    use Primitive::{None as Nothing, SepConv3x3 as Sep, SkipConnect as Skip};

    #[test]
    fn valid_cells() {
        check(&[&[(Sep, 0)]], &[2], "");
        check(&[&[(Sep, 1), (Skip, 0)], &[(Sep, 2), (Sep, 0), (Sep, 1)]], &[3, 2], "");
        check(&[&[(Sep, 1)], &[(Sep, 2)]], &[3], "");
        check(&[&[(Sep, 0), (Skip, 0)], &[], &[(Sep, 2)], &[]], &[4], "");
    }

    #[test]
    fn faults_have_a_place() {
        check(&[], &[], "nodes: a cell needs at least one node");
        check(&[&[(Sep, 0)], &[]], &[2, 3], "concat, entry 1: state 3 is a node without picks");
        check(
            &[&[], &[(Sep, 0), (Sep, 2)]],
            &[3],
            "node 1, pick 1: state 2 is a node without picks",
        );
        check(&[&[], &[]], &[], "concat: the output needs at least one node");
        check(&[&[(Sep, 0), (Nothing, 1)]], &[2], "node 0, pick 1: `none` cannot be picked");
        check(
            &[&[(Sep, 0)], &[(Sep, 3)]],
            &[2, 3],
            "node 1, pick 0: state 3 does not exist yet, allowed: 0 to 2",
        );
        check(
            &[&[(Sep, 0), (Skip, 0), (Sep, 0)]],
            &[2],
            "node 0, pick 2: `sep_conv_3x3` of state 0 is picked twice by one node",
        );
        check(&[&[(Sep, 0)]], &[], "concat: the output needs at least one node");
        check(&[&[(Sep, 0)]], &[2, 2], "concat, entry 1: state 2 is joined twice");
        for state in [1, 3, usize::MAX] {
            let message = format!("concat, entry 0: state {state} is not a node, allowed: 2 to 2");
            check(&[&[(Sep, 0)]], &[state], &message);
        }
    }

    #[test]
    fn what_reads_nothing_is_left_out() {
        let pick = |from| Pick { primitive: Sep, from };
        let nodes = vec![vec![], vec![pick(2)], vec![pick(3), pick(0)], vec![pick(4), pick(2)]];
        let cell = CellGenotype::of_picks(nodes);
        assert_eq!(cell.nodes, [vec![], vec![], vec![pick(0)], vec![pick(4)]]);
        assert_eq!((&cell.concat[..], cell.validate().is_ok()), (&[4, 5][..], true));
        assert_eq!(cell.places(), [0, 1, 2, 2, 2, 3]);
        assert_eq!(CellGenotype::of_picks(vec![vec![pick(2)]]).nodes, [[pick(2)]]);
    }

    #[test]
    fn counting() {
        let pick = |primitive, from| Pick { primitive, from };
        let nodes = vec![vec![pick(Skip, 0), pick(Sep, 1)], vec![pick(Skip, 1), pick(Skip, 2)]];
        let cell = CellGenotype { nodes, concat: vec![2, 3] };
        assert_eq!(cell.count(|primitive| primitive == Skip), 3);
        assert_eq!(cell.count(Primitive::is_pool), 0);
        assert_eq!(cell.count(|_| true), 4);
    }

    proptest! {
        #[test]
        fn generated_genotypes_are_valid(genotype in any_genotype()) {
            prop_assert!(genotype.validate().is_ok());
        }
    }
}
