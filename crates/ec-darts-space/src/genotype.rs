//! What a search found: which operations each node of a cell keeps.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::topology::MAX_NODES;
use crate::{CellKind, Error, NUM_INPUTS, Primitive};

/// A pair of cells, from which a network of any depth and width is stacked.
///
/// Parsing with [`str::parse`] takes the flat and the nested Python text and JSON, see
/// [`text`](crate::text).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genotype {
    /// The cell that keeps the size.
    pub normal: CellGenotype,
    /// The cell that halves height and width.
    pub reduction: CellGenotype,
}

impl Genotype {
    /// The cell of a kind.
    pub fn cell(&self, kind: CellKind) -> &CellGenotype {
        match kind {
            CellKind::Normal => &self.normal,
            CellKind::Reduction => &self.reduction,
        }
    }

    /// Checks both cells.
    ///
    /// # Errors
    /// [`Error::Cell`], as of [`CellGenotype::validate`], naming the cell.
    pub fn validate(&self) -> Result<(), Error> {
        for kind in CellKind::ALL {
            if let Some(fault) = self.cell(kind).fault() {
                return Err(fault.error(Some(kind)));
            }
        }
        Ok(())
    }
}

/// The kept operations of a cell.
///
/// The fields are open, so that a cell can be written down by hand; [`Self::validate`] tells
/// whether it makes sense.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "CellFields")]
pub struct CellGenotype {
    /// Per intermediate node, the operations whose outputs it adds up.
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
    /// The state it reads: 0 and 1 are the inputs, `2 + j` is node `j`.
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

    /// Checks that a network can be built.
    ///
    /// There are 1 to 64 nodes; every node has picks, each of another, earlier state, none of them
    /// `none`; the output joins at least one node, each at most once.
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

    /// The first fault, by place, for readers that know where in a text the place is.
    pub(crate) fn fault(&self) -> Option<Fault> {
        let fault = |place, reason: String| Some(Fault { place, reason });
        if self.nodes.is_empty() {
            return fault(Place::Nodes, "a cell needs at least one node".into());
        }
        if self.nodes.len() > MAX_NODES {
            let reason = format!("{} nodes, allowed: 1 to {MAX_NODES}", self.nodes.len());
            return fault(Place::Nodes, reason);
        }
        for (node, picks) in self.nodes.iter().enumerate() {
            if picks.is_empty() {
                return fault(Place::Node(node), "a node needs at least one pick".into());
            }
            for (number, pick) in picks.iter().enumerate() {
                let last = NUM_INPUTS + node - 1;
                if pick.primitive == Primitive::None {
                    let reason = "`none` cannot be picked".into();
                    return fault(Place::PickPrimitive(node, number), reason);
                }
                if pick.from > last {
                    let reason =
                        format!("state {} does not exist yet, allowed: 0 to {last}", pick.from);
                    return fault(Place::PickSource(node, number), reason);
                }
                if picks[..number].iter().any(|earlier| earlier.from == pick.from) {
                    let reason = format!("state {} is picked twice by one node", pick.from);
                    return fault(Place::PickSource(node, number), reason);
                }
            }
        }
        if self.concat.is_empty() {
            return fault(Place::Concat, "the output needs at least one node".into());
        }
        let states = self.node_states();
        for (number, state) in self.concat.iter().enumerate() {
            if !states.contains(state) {
                let last = states.end - 1;
                let reason =
                    format!("state {state} is not a node, allowed: {NUM_INPUTS} to {last}");
                return fault(Place::ConcatState(number), reason);
            }
            if self.concat[..number].contains(state) {
                let reason = format!("state {state} is joined twice");
                return fault(Place::ConcatState(number), reason);
            }
        }
        None
    }
}

/// What is wrong with a cell, and where.
pub(crate) struct Fault {
    pub(crate) place: Place,
    pub(crate) reason: String,
}

/// A part of a cell; nodes, picks and states to join are counted from 0.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    Nodes,
    Node(usize),
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

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes => f.write_str("nodes"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::PickPrimitive(node, pick) | Self::PickSource(node, pick) => {
                write!(f, "node {node}, pick {pick}")
            }
            Self::Concat => f.write_str("concat"),
            Self::ConcatState(number) => write!(f, "concat, entry {number}"),
        }
    }
}

/// A cell as it is read, before it is checked.
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
            let states: Vec<usize> = (NUM_INPUTS..NUM_INPUTS + num_nodes).collect();
            let concat = subsequence(states, 1..=num_nodes).prop_shuffle();
            (nodes, concat).prop_map(|(nodes, concat)| CellGenotype { nodes, concat })
        })
    }

    fn any_node(node: usize) -> impl Strategy<Value = Vec<Pick>> {
        let sources: Vec<usize> = (0..NUM_INPUTS + node).collect();
        let last = sources.len();
        subsequence(sources, 1..=last).prop_shuffle().prop_flat_map(|sources| {
            let pick = |from| {
                (1..Primitive::ALL.len())
                    .prop_map(move |number| Pick { primitive: Primitive::ALL[number], from })
            };
            sources.into_iter().map(pick).collect::<Vec<_>>()
        })
    }

    /// Any valid genotype, flat or not.
    pub(crate) fn any_genotype() -> impl Strategy<Value = Genotype> {
        (any_cell(), any_cell()).prop_map(|(normal, reduction)| Genotype { normal, reduction })
    }

    /// A node per list, a pick per pair; the answer is empty for a valid cell.
    fn check(nodes: &[&[(Primitive, usize)]], concat: &[usize], expected: &str) {
        let pick = |&(primitive, from): &(Primitive, usize)| Pick { primitive, from };
        let nodes = nodes.iter().map(|picks| picks.iter().map(pick).collect()).collect();
        let cell = CellGenotype { nodes, concat: concat.to_vec() };
        let message = cell.validate().map_or_else(|error| error.to_string(), |()| String::new());
        assert_eq!(message, expected);

        let json = serde_json::to_string(&cell).unwrap();
        let read = serde_json::from_str::<CellGenotype>(&json);
        assert_eq!(read.is_ok(), expected.is_empty(), "json: {read:?}");

        let genotype = Genotype { normal: cell.clone(), reduction: cell };
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
    }

    #[test]
    fn faults_have_a_place() {
        check(&[], &[], "nodes: a cell needs at least one node");
        check(&[&[(Sep, 0)], &[]], &[2, 3], "node 1: a node needs at least one pick");
        check(&[&[(Sep, 0), (Nothing, 1)]], &[2], "node 0, pick 1: `none` cannot be picked");
        check(
            &[&[(Sep, 0)], &[(Sep, 3)]],
            &[2, 3],
            "node 1, pick 0: state 3 does not exist yet, allowed: 0 to 2",
        );
        check(
            &[&[(Sep, 0), (Skip, 0)]],
            &[2],
            "node 0, pick 1: state 0 is picked twice by one node",
        );
        check(&[&[(Sep, 0)]], &[], "concat: the output needs at least one node");
        check(&[&[(Sep, 0)]], &[2, 2], "concat, entry 1: state 2 is joined twice");
        for state in [1, 3, usize::MAX] {
            let message = format!("concat, entry 0: state {state} is not a node, allowed: 2 to 2");
            check(&[&[(Sep, 0)]], &[state], &message);
        }
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
