//! From a list of picks to nodes: how the public code tells nodes apart.

use super::FLAT_PICKS;
use super::cursor::Cursor;
use crate::genotype::leave_out;
use crate::topology::MAX_NODES;
use crate::{Error, NUM_INPUTS, Pick, Primitive};

/// A list and the place of its closing bracket.
pub(super) type Closed<T> = (Vec<T>, usize);

/// A pick with the places of its primitive and its source.
#[derive(Clone)]
pub(super) struct PlacedPick {
    pub(super) pick: Pick,
    /// The state of its node and the place of that number, where the text names the node.
    pub(super) node: Option<(usize, usize)>,
    pub(super) primitive_at: usize,
    pub(super) source_at: usize,
}

/// The picks of each node.
pub(super) type Nodes = Vec<Vec<PlacedPick>>;

/// The picks of a cell as a text lists them.
pub(super) enum Listing {
    /// One list for each node.
    Nested(Closed<Vec<PlacedPick>>),
    /// One list for the whole cell.
    Flat(Closed<PlacedPick>),
}

impl Listing {
    /// The place of the closing bracket.
    pub(super) fn close(&self) -> usize {
        match self {
            Self::Nested((_, close)) | Self::Flat((_, close)) => *close,
        }
    }

    /// The nodes; `joined` are the states of `concat`, and the largest of them may be a node
    /// without picks.
    ///
    /// A flat list may have `none`, which is no connection, and picks that read a node without
    /// picks. Both are left out, as the public code does in effect.
    pub(super) fn nodes(&self, cursor: &Cursor<'_>, joined: &[usize]) -> Result<Nodes, Error> {
        let (picks, close) = match self {
            Self::Nested((nodes, _)) => return Ok(nodes.clone()),
            Self::Flat((picks, close)) => (picks, *close),
        };
        let bare: Vec<Pick> = picks.iter().map(|each| each.pick).collect();
        let mut nodes = if picks.iter().any(|pick| pick.node.is_some()) {
            named_nodes(cursor, picks, joined)?
        } else if let Some(num_nodes) = every_edge(&bare, joined) {
            let mut rest = picks.iter().cloned();
            (0..num_nodes).map(|node| rest.by_ref().take(NUM_INPUTS + node).collect()).collect()
        } else if picks.len() % FLAT_PICKS == 0 {
            picks.chunks_exact(FLAT_PICKS).map(<[PlacedPick]>::to_vec).collect()
        } else {
            let reason = format!(
                "expected one more pick: the flat form has two for each node, found {}",
                picks.len()
            );
            return Err(cursor.error(close, reason));
        };
        for picks in &mut nodes {
            picks.retain(|each| each.pick.primitive != Primitive::None);
        }
        leave_out(&mut nodes, |each| each.pick.from);
        Ok(nodes)
    }
}

/// The form of FairDARTS: each pick names its node.
fn named_nodes(
    cursor: &Cursor<'_>,
    picks: &[PlacedPick],
    joined: &[usize],
) -> Result<Nodes, Error> {
    let all = NUM_INPUTS..NUM_INPUTS + MAX_NODES;
    let joined = joined.iter().filter(|&state| all.contains(state));
    let mut nodes: Nodes = vec![vec![]; joined.max().map_or(0, |state| state + 1 - NUM_INPUTS)];
    for each in picks {
        let Some((state, at)) = each.node else {
            let reason = "expected the node as well, as in other picks of this list".into();
            return Err(cursor.error(each.primitive_at, reason));
        };
        if !all.contains(&state) {
            let (first, last) = (all.start, all.end - 1);
            let reason = format!("state {state} is not a node, allowed: {first} to {last}");
            return Err(cursor.error(at, reason));
        }
        let node = state - NUM_INPUTS;
        nodes.resize(nodes.len().max(node + 1), vec![]);
        nodes[node].push(each.clone());
    }
    Ok(nodes)
}

/// The number of nodes, if the picks are one for each edge of a cell whose nodes are all joined.
///
/// The function `genotype_edge_all` of SNAS lists them so: node by node, in each node in any order,
/// `none` included.
pub(super) fn every_edge(picks: &[Pick], joined: &[usize]) -> Option<usize> {
    let num_nodes = joined.len();
    // One node with two picks has the same text in both forms.
    if num_nodes < 2 || picks.len() != num_nodes * (num_nodes + 2 * NUM_INPUTS - 1) / 2 {
        return None;
    }
    let mut rest = picks;
    for states in (0..num_nodes).map(|node| NUM_INPUTS + node) {
        let (of_node, after) = rest.split_at(states);
        let reads = |from: usize| of_node.iter().any(|pick| pick.from == from);
        if joined[states - NUM_INPUTS] != states || !(0..states).all(reads) {
            return None;
        }
        rest = after;
    }
    Some(num_nodes)
}
