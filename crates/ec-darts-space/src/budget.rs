//! From strengths to the best genotype that a budget allows.
//!
//! Entry point: [`discretize_within`]. The caller gives the cost of every operation, because this
//! crate knows no networks. Invariant: the answer is exact. Where no limit binds, it is the
//! genotype of [`discretize()`].

use crate::{
    CellGenotype, CellKind, Error, Genotype, NUM_INPUTS, PerKind, Pick, Primitive, SearchSpace,
    discretize,
};

/// A cost that adds up over the picks of both cells, and its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The name of the counted quantity, for messages: `parameters`.
    pub name: &'static str,
    /// The largest cost allowed.
    pub at_most: u64,
    /// The cost that every genotype has, whichever operations it picks.
    pub fixed: u64,
    /// The cost that each pick adds, `[num_edges, num_primitives]` per kind of cell, row-major.
    pub picks: PerKind<Vec<u64>>,
}

impl Limit {
    /// The cost of a genotype of the space.
    ///
    /// # Panics
    /// Where the genotype is not of this space, or where the costs belong to another space.
    pub fn cost(&self, space: &SearchSpace, genotype: &Genotype) -> u64 {
        let costs = places(space, genotype).map(|(kind, place, ..)| self.picks.cell(kind)[place]);
        costs.fold(self.fixed, u64::saturating_add)
    }
}

/// A genotype within a budget, and how it differs from the genotype without a budget.
#[derive(Clone, Debug, PartialEq)]
pub struct Compromise {
    /// The strongest genotype within the budget.
    pub genotype: Genotype,
    /// The genotype without a budget.
    pub unlimited: Genotype,
    /// Summed strength of the picks of `genotype`.
    pub strength: f64,
    /// Summed strength of the picks of `unlimited`.
    pub unlimited_strength: f64,
    /// The nodes where the two differ; none where the budget does not bind.
    pub trades: Vec<Trade>,
}

/// The picks that one node gave up for the budget, and the picks that it got instead.
#[derive(Clone, Debug, PartialEq)]
pub struct Trade {
    /// The cell of the node.
    pub kind: CellKind,
    /// The number of the node, counted from 0.
    pub node: usize,
    /// Picks that only the genotype without a budget has, with their strengths.
    pub given_up: Vec<(Pick, f32)>,
    /// Picks that only the genotype within the budget has.
    pub taken: Vec<(Pick, f32)>,
}

/// The genotype with the largest summed strength whose costs keep all limits.
///
/// ```text
/// maximize    sum over picks of s[kind, i->j, o]
/// such that   fixed + sum over picks of cost[kind, i->j, o] <= at_most     for every limit
/// ```
/// `s` is the strength; each node picks as many edges as in [`discretize()`], each with one
/// primitive other than `none`. Without limits, the sum is largest where every node has its
/// strongest edges. So the unlimited genotype is the answer where it keeps the limits. Of two
/// genotypes with equal sums, the one with the smaller cost by the first limit is taken.
///
/// A dynamic program over the edges of both cells finds the answer. It drops every partial genotype
/// that is both weaker and costlier than another one. The number of partial genotypes kept depends
/// on how many different sums the costs can have: up to a few hundred for the space of DARTS and
/// two limits.
///
/// # Shapes
/// - `strength`, costs: `[num_edges, num_primitives]` per kind, row-major
///
/// # Errors
/// [`Error::Budget`] where no genotype keeps the limits, with the smallest costs possible;
/// otherwise the errors of [`discretize()`].
///
/// # Panics
/// Where a limit does not have one cost for each pair of edge and primitive.
pub fn discretize_within(
    space: &SearchSpace,
    strength: PerKind<&[f32]>,
    limits: &[Limit],
) -> Result<Compromise, Error> {
    let unlimited = discretize(space, strength)?;
    for limit in limits {
        let sizes = limit.picks.as_ref().map(Vec::len);
        assert_eq!(sizes, strength.map(<[f32]>::len), "a cost of {} per strength", limit.name);
    }
    let fits = |limit: &Limit| limit.cost(space, &unlimited) <= limit.at_most;
    let genotype = match limits.iter().all(fits) {
        true => unlimited.clone(),
        false => search(space, strength, limits)?,
    };
    let strength_of = |kind, place: usize| strength.cell(kind)[place];
    let sum = |genotype: &Genotype| {
        let strengths = places(space, genotype).map(|(kind, place, ..)| strength_of(kind, place));
        strengths.map(f64::from).sum()
    };
    let only = |of: &Genotype, other: &Genotype, at: (CellKind, usize)| -> Vec<(Pick, f32)> {
        places(space, of)
            .filter(|&(kind, _, node, pick)| {
                (kind, node) == at && !other.cell(kind).nodes[node].contains(&pick)
            })
            .map(|(kind, place, _, pick)| (pick, strength_of(kind, place)))
            .collect()
    };
    let kinds = space.topology().kinds().iter().copied();
    let nodes =
        kinds.flat_map(|kind| (0..space.topology().num_nodes()).map(move |node| (kind, node)));
    let trades = nodes
        .map(|(kind, node)| Trade {
            kind,
            node,
            given_up: only(&unlimited, &genotype, (kind, node)),
            taken: only(&genotype, &unlimited, (kind, node)),
        })
        .filter(|trade| !trade.taken.is_empty())
        .collect();
    let (strength, unlimited_strength) = (sum(&genotype), sum(&unlimited));
    Ok(Compromise { genotype, unlimited, strength, unlimited_strength, trades })
}

/// The cell, the index in the matrix, the node and the pick, for every pick.
fn places<'a>(
    space: &'a SearchSpace,
    genotype: &'a Genotype,
) -> impl Iterator<Item = (CellKind, usize, usize, Pick)> + 'a {
    let primitives = space.primitives();
    let column = |pick: &Pick| {
        let found = primitives.iter().position(|&primitive| primitive == pick.primitive);
        found.expect("a genotype of this space")
    };
    genotype.cells().flat_map(move |(kind, cell)| {
        cell.nodes.iter().enumerate().flat_map(move |(node, picks)| {
            picks.iter().map(move |pick| {
                let edge = space.topology().edge_number(pick.from, node);
                (kind, edge * primitives.len() + column(pick), node, *pick)
            })
        })
    })
}

/// An edge, on which a pick is to be decided.
struct Decision {
    kind: CellKind,
    node: usize,
    from: usize,
    /// The number of picks that the node must have.
    picks: usize,
    /// Whether this is the last edge into its node.
    last: bool,
    options: Vec<PickOption>,
}

struct PickOption {
    primitive: Primitive,
    strength: f32,
    costs: Vec<u64>,
}

/// The picks of all steps so far.
#[derive(Clone)]
struct Partial {
    /// The number of picks of the current node.
    count: usize,
    costs: Vec<u64>,
    strength: f64,
    /// The last pick, as an index into the list of all picks.
    trail: Option<usize>,
}

/// The best genotype where the unlimited genotype exceeds a limit.
fn search(
    space: &SearchSpace,
    strength: PerKind<&[f32]>,
    limits: &[Limit],
) -> Result<Genotype, Error> {
    let steps: Vec<Decision> =
        strength.iter().flat_map(|(kind, strength)| steps(space, kind, strength, limits)).collect();
    let cheapest: Vec<Vec<Vec<u64>>> =
        (0..limits.len()).map(|limit| cheapest(&steps, limit)).collect();
    let fixed = limits.iter().map(|limit| limit.fixed).collect();
    let mut partials = vec![Partial { count: 0, costs: fixed, strength: 0.0, trail: None }];
    // Each pick with the index of the pick before it.
    let mut trails: Vec<(Option<usize>, usize, Primitive)> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let fits = |partial: &Partial| {
            partial.costs.iter().zip(&cheapest).zip(limits).all(|((&cost, cheapest), limit)| {
                let rest = after(step, &cheapest[number + 1], partial.count);
                cost.saturating_add(rest) <= limit.at_most
            })
        };
        let mut next: Vec<Partial> =
            partials.iter().filter(|&partial| fits(partial)).cloned().collect();
        for partial in partials.iter().filter(|partial| partial.count < step.picks) {
            for option in &step.options {
                let taken = Partial {
                    count: partial.count + 1,
                    costs: partial.costs.iter().zip(&option.costs).map(|(a, b)| a + b).collect(),
                    strength: partial.strength + f64::from(option.strength),
                    trail: Some(trails.len()),
                };
                if fits(&taken) {
                    trails.push((partial.trail, number, option.primitive));
                    next.push(taken);
                }
            }
        }
        if step.last {
            next.iter_mut().for_each(|partial| partial.count = 0);
        }
        partials = undominated(next);
    }
    let Some(best) = partials.first() else {
        return Err(nothing_fits(limits, &cheapest));
    };
    let mut picked = Vec::new();
    let mut trail = best.trail;
    while let Some(place) = trail {
        let (before, step, primitive) = trails[place];
        picked.push((&steps[step], primitive));
        trail = before;
    }
    picked.reverse();
    let PerKind { normal, reduction } =
        space.topology().per_kind(|kind| cell(space, &picked, kind));
    Ok(Genotype { normal, reduction })
}

fn steps(space: &SearchSpace, kind: CellKind, strength: &[f32], limits: &[Limit]) -> Vec<Decision> {
    let (topology, primitives) = (space.topology(), space.primitives());
    let step = |(edge, at): (usize, crate::Edge)| {
        let candidates = space.candidates(kind, edge);
        let is_option = |each: &Primitive| *each != Primitive::None && candidates.contains(each);
        let options = primitives
            .iter()
            .enumerate()
            .filter(|&(_, primitive)| is_option(primitive))
            .map(|(column, &primitive)| {
                let place = edge * primitives.len() + column;
                let costs = limits.iter().map(|limit| limit.picks.cell(kind)[place]).collect();
                PickOption { primitive, strength: strength[place], costs }
            })
            .collect();
        Decision {
            kind,
            node: at.to - NUM_INPUTS,
            from: at.from,
            picks: topology.edges_kept().min(topology.edges_into(at.to - NUM_INPUTS).len()),
            last: at.from + 1 == at.to,
            options,
        }
    };
    topology.edges().enumerate().map(step).collect()
}

/// The least that the steps from one on can cost, by step and picks of the node so far; the largest
/// number where the node cannot be completed.
fn cheapest(steps: &[Decision], limit: usize) -> Vec<Vec<u64>> {
    let mut table = vec![vec![0]; steps.len() + 1];
    for (number, step) in steps.iter().enumerate().rev() {
        let least = step.options.iter().map(|option| option.costs[limit]).min();
        let least = least.expect("a search space has a primitive other than `none`");
        table[number] = (0..=step.picks)
            .map(|count| {
                let skip = after(step, &table[number + 1], count);
                let take = after(step, &table[number + 1], count + 1);
                skip.min(take.saturating_add(least))
            })
            .collect();
    }
    table
}

/// The least that follows a step which leaves its node with `count` picks.
fn after(step: &Decision, next: &[u64], count: usize) -> u64 {
    match step.last {
        true if count == step.picks => next[0],
        false if count <= step.picks => next[count],
        _ => u64::MAX,
    }
}

/// Drops every partial genotype that is neither stronger nor cheaper than another; the strongest
/// comes first.
fn undominated(mut partials: Vec<Partial>) -> Vec<Partial> {
    partials.sort_by(|a, b| {
        let strength = b.strength.total_cmp(&a.strength);
        a.count.cmp(&b.count).then(strength).then_with(|| a.costs.cmp(&b.costs))
    });
    let mut kept: Vec<Partial> = Vec::new();
    let mut first = 0;
    for partial in partials {
        if kept.last().is_some_and(|last| last.count != partial.count) {
            first = kept.len();
        }
        let cheaper = |other: &Partial| other.costs.iter().zip(&partial.costs).all(|(a, b)| a <= b);
        if !kept[first..].iter().any(cheaper) {
            kept.push(partial);
        }
    }
    kept
}

fn nothing_fits(limits: &[Limit], cheapest: &[Vec<Vec<u64>>]) -> Error {
    let smallest: Vec<u64> = limits
        .iter()
        .zip(cheapest)
        .map(|(limit, cheapest)| limit.fixed.saturating_add(cheapest[0][0]))
        .collect();
    let together = limits.iter().zip(&smallest).all(|(limit, &smallest)| smallest <= limit.at_most);
    let each = limits.iter().zip(&smallest).map(|(limit, smallest)| {
        format!("at most {} {} (smallest possible: {smallest})", limit.at_most, limit.name)
    });
    let mut limits = each.collect::<Vec<_>>().join(" and ");
    if together {
        limits += ", each of which can be kept, but not together";
    }
    Error::Budget { limits }
}

/// The picks of one cell, the strongest of each node first.
fn cell(space: &SearchSpace, picked: &[(&Decision, Primitive)], kind: CellKind) -> CellGenotype {
    let mut nodes = vec![Vec::new(); space.topology().num_nodes()];
    for &(step, primitive) in picked.iter().filter(|(step, _)| step.kind == kind) {
        let option = step.options.iter().find(|option| option.primitive == primitive);
        let strength = option.expect("a picked option").strength;
        nodes[step.node].push((strength, Pick { primitive, from: step.from }));
    }
    let sorted = |mut picks: Vec<(f32, Pick)>| {
        // The sort is stable, so equal strengths stay in the order of sources.
        picks.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        picks.into_iter().map(|(_, pick)| pick).collect()
    };
    let concat = space.topology().joined().collect();
    CellGenotype { nodes: nodes.into_iter().map(sorted).collect(), concat }
}

#[cfg(test)]
mod tests;
