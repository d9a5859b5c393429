//! Genotypes in trials: a canonical form, a key, and the genotypes that differ in the edges of one
//! node.

use std::path::Path;

use ec_darts::architecture::Strength;
use ec_darts::train::SavedAlpha;
use ec_darts::{Error as RunError, Result};
use ec_darts_space::{
    CellGenotype, CellKind, Discretization, Error, Genotype, NUM_INPUTS, Pick, Primitive,
};
use sha2::{Digest, Sha256};

/// Number of hexadecimal digits of a key.
const KEY_DIGITS: usize = 12;
/// Nodes of a cell whose orders are tried, at most 720.
const MOST_ORDERED: usize = 6;

/// The genotype of a finished run: the result of a search, or the trained one.
pub fn returned(run: &Path) -> Result<Genotype> {
    let path = run.join("genotype.json");
    let text = std::fs::read_to_string(&path);
    let text =
        text.map_err(|source| RunError::Io { action: "read", path: path.clone(), source })?;
    text.parse().map_err(|error: Error| RunError::Folder { path, reason: error.to_string() })
}

/// The same network written in one way: the order of a node's picks, of the joined states and, in cells of up to
/// six nodes, of the nodes themselves means nothing.
pub fn canonical(genotype: &Genotype) -> Genotype {
    let cell = |cell: &CellGenotype| {
        let count = cell.nodes.len();
        let orders = match count <= MOST_ORDERED {
            true => orders(cell, &mut Vec::new()),
            false => vec![(0..count).collect()],
        };
        let all = orders.iter().map(|order| in_order(cell, order));
        all.min_by(|a, b| (&a.nodes, &a.concat).cmp(&(&b.nodes, &b.concat)))
            .expect("the order of the cell itself is one")
    };
    let reduction = genotype.reduction.as_ref().map(cell);
    Genotype { normal: cell(&genotype.normal), reduction }
}

/// Every order of nodes that begins so and in which each node comes after those that it reads.
fn orders(cell: &CellGenotype, begin: &mut Vec<usize>) -> Vec<Vec<usize>> {
    if begin.len() == cell.nodes.len() {
        return vec![begin.clone()];
    }
    let mut all = Vec::new();
    for (node, picks) in cell.nodes.iter().enumerate() {
        let is_there =
            |state: usize| state.checked_sub(NUM_INPUTS).is_none_or(|read| begin.contains(&read));
        if !begin.contains(&node) && picks.iter().all(|pick| is_there(pick.from)) {
            begin.push(node);
            all.extend(orders(cell, begin));
            begin.pop();
        }
    }
    all
}

/// The cell with its nodes in this order, their picks and the joined states by source.
fn in_order(cell: &CellGenotype, order: &[usize]) -> CellGenotype {
    let state = |old: usize| match old.checked_sub(NUM_INPUTS) {
        None => old,
        Some(node) => {
            let place = order.iter().position(|&each| each == node);
            NUM_INPUTS + place.expect("every node has a place")
        }
    };
    let node = |&node: &usize| {
        let picks = cell.nodes[node].iter().map(|pick| Pick { from: state(pick.from), ..*pick });
        let mut picks: Vec<Pick> = picks.collect();
        picks.sort_by_key(|pick| (pick.from, pick.primitive));
        picks
    };
    let mut concat: Vec<usize> = cell.concat.iter().map(|&joined| state(joined)).collect();
    concat.sort_unstable();
    CellGenotype { nodes: order.iter().map(node).collect(), concat }
}

/// The beginning of the SHA-256 of the canonical form in JSON; equal networks have equal keys.
pub fn key(genotype: &Genotype) -> String {
    let text = serde_json::to_vec(&canonical(genotype)).expect("plain values");
    let digits: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    digits[..KEY_DIGITS].to_string()
}

/// A genotype with other edges into the last node of the normal cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OtherEdges {
    pub genotype: Genotype,
    /// States that the node reads.
    pub from: Vec<usize>,
    /// Sum of the strengths of its picks.
    pub weight: f64,
    /// Whether these are the edges that the search keeps.
    pub kept: bool,
}

/// The genotypes that differ from that of a search only in the edges into the last node of the
/// normal cell, each edge with its strongest operation: every choice of as many edges as the node
/// keeps, in the order of sources.
///
/// # Source
/// EC-DARTS, section 5.6 and Figure 3: ten choices of two among five edges.
pub(crate) fn other_edges(saved: &SavedAlpha) -> Result<Vec<OtherEdges>, Error> {
    let (genotype, _) = saved.genotype()?;
    let topology = saved.space.topology();
    let node = topology.num_nodes() - 1;
    // The paper's weights are mixing weights, whatever the genotype is derived from.
    let rule = saved.config.rule_at(saved.epoch);
    let strengths = rule.strengths(&saved.space, &saved.alpha, Strength::Mixing);
    let columns = saved.space.primitives();
    let rows: Vec<&[f32]> = strengths.cell(CellKind::Normal).chunks(columns.len()).collect();
    let strongest = topology.sources(node).filter_map(|from| {
        let edge = topology.edge_number(from, node);
        let candidates = saved.space.candidates(CellKind::Normal, edge);
        let picks = columns.iter().zip(rows[edge]).filter(|(primitive, _)| {
            **primitive != Primitive::None && candidates.contains(primitive)
        });
        let best = picks.reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.map(|(&primitive, &strength)| (Pick { primitive, from }, f64::from(strength)))
    });
    let strongest: Vec<(Pick, f64)> = strongest.collect();
    let kept: Vec<usize> = sources(&genotype.normal.nodes[node]);
    let choice = |picks: Vec<(Pick, f64)>| {
        let mut genotype = genotype.clone();
        genotype.normal.nodes[node] = picks.iter().map(|&(pick, _)| pick).collect();
        let from = sources(&genotype.normal.nodes[node]);
        let weight = picks.iter().map(|&(_, strength)| strength).sum();
        OtherEdges { genotype, kept: from == kept, from, weight }
    };
    Ok(choices(&strongest, topology.edges_kept()).into_iter().map(choice).collect())
}

fn sources(picks: &[Pick]) -> Vec<usize> {
    let mut from: Vec<usize> = picks.iter().map(|pick| pick.from).collect();
    from.sort_unstable();
    from
}

/// Every choice of `count` items, in their order; all items where there are not more.
fn choices<T: Clone>(of: &[T], count: usize) -> Vec<Vec<T>> {
    match of {
        _ if count == 0 => vec![Vec::new()],
        _ if of.len() <= count => vec![of.to_vec()],
        [first, rest @ ..] => {
            let with = choices(rest, count - 1).into_iter().map(|mut choice| {
                choice.insert(0, first.clone());
                choice
            });
            with.chain(choices(rest, count)).collect()
        }
        [] => Vec::new(),
    }
}

/// How random genotypes are read from random strengths, so that they are of the kind that the searches find; nothing
/// where these are of several kinds, or keep as many operations as reach a threshold.
pub(crate) fn of_random(searched: &[Discretization]) -> Option<Discretization> {
    let of_every_edge = searched.iter().filter(|each| matches!(each, Discretization::EveryEdge));
    let by_threshold = searched.iter().any(|each| matches!(each, Discretization::Threshold { .. }));
    match of_every_edge.count() {
        _ if by_threshold => None,
        0 => Some(Discretization::Edges),
        count => (count == searched.len()).then_some(Discretization::EveryEdge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ec_darts_space::presets::DARTS_V2;

    #[test]
    fn order_means_nothing() {
        let genotype = DARTS_V2.genotype();
        let mut other = genotype.clone();
        other.normal.nodes.iter_mut().for_each(|picks| picks.reverse());
        other.reduction.as_mut().expect("a pair").concat.reverse();
        assert_ne!(other, genotype);
        assert_eq!((canonical(&other), key(&other)), (canonical(&genotype), key(&genotype)));
        canonical(&other).validate().expect("a genotype");
        other.normal.nodes[0][0].primitive = Primitive::MaxPool3x3;
        assert_ne!(key(&other), key(&genotype));
    }

    #[test]
    fn names_of_nodes_mean_nothing() {
        use Primitive::{SepConv3x3 as Sep, SkipConnect as Skip};
        let genotype = |nodes: [[(Primitive, usize); 2]; 3]| {
            let pick = |(primitive, from)| Pick { primitive, from };
            let nodes = nodes.map(|picks| picks.map(pick).to_vec()).to_vec();
            let normal = CellGenotype { nodes, concat: vec![2, 3, 4] };
            normal.validate().expect("a cell");
            Genotype { normal, reduction: None }
        };
        let one = genotype([[(Sep, 0), (Sep, 1)], [(Skip, 0), (Sep, 1)], [(Sep, 2), (Skip, 3)]]);
        let swapped =
            genotype([[(Skip, 0), (Sep, 1)], [(Sep, 0), (Sep, 1)], [(Skip, 2), (Sep, 3)]]);
        let other = genotype([[(Sep, 0), (Sep, 1)], [(Skip, 0), (Sep, 1)], [(Skip, 2), (Sep, 3)]]);
        assert_eq!(key(&one), key(&swapped));
        assert_ne!(key(&one), key(&other));
        for each in [&one, &other] {
            let again = canonical(&canonical(each));
            assert_eq!((again.validate().is_ok(), &again), (true, &canonical(each)));
        }
        // Two nodes of the same picks, read once each or one of them twice.
        let twins = [[(Sep, 0), (Sep, 1)], [(Sep, 0), (Sep, 1)]];
        let both = genotype([twins[0], twins[1], [(Skip, 2), (Sep, 3)]]);
        let one = genotype([twins[0], twins[1], [(Skip, 3), (Sep, 3)]]);
        let same = genotype([twins[0], twins[1], [(Sep, 2), (Skip, 2)]]);
        assert_ne!(key(&both), key(&one));
        assert_eq!(key(&one), key(&same));
    }

    #[test]
    fn choices_of_edges() {
        assert_eq!(choices(&[0, 1, 2, 3, 4], 2).len(), 10);
        assert_eq!(choices(&[0, 1, 2], 2), [[0, 1], [0, 2], [1, 2]]);
        assert_eq!(choices(&[0, 1], 3), [[0, 1]]);
    }
}
