//! From strengths to a genotype.
//!
//! Entry points: [`Discretization::genotype`], and [`discretize()`] for the rule of DARTS.
//! Invariant: every returned genotype is valid, so that a network can be built from it.

use serde::{Deserialize, Serialize};

use crate::{
    CellGenotype, CellKind, CellTopology, Edge, Error, Genotype, PerKind, Pick, Primitive,
    SearchSpace,
};

/// The rule by which strengths become a genotype.
///
/// A strength `s[i->j, o]` belongs to an edge `i->j` and a candidate `o` of that edge; `k` is the
/// number of edges that the topology lets a node keep. Ties go to the lower source, and then to the
/// earlier primitive of the space. No rule picks `none`. A node may end without a pick. Such a node
/// is no part of the cell: it is not joined to the output, and no other node reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Discretization {
    /// The `k` strongest edges of each node, each with its strongest primitive; strongest first.
    ///
    /// ```text
    /// best(i->j)  = argmax over o != none of s[i->j, o]
    /// picks(j)    = the k edges i->j with the largest s[i->j, best(i->j)]
    /// ```
    ///
    /// # Source
    /// DARTS, `cnn/model_search.py`, `genotype`, which keeps two edges and lists them by source.
    /// Deviates: picks are listed strongest first, which no network depends on.
    #[default]
    Edges,
    /// The `k` strongest pairs of source and primitive of each node, strongest first. Two picks may
    /// have the same source.
    ///
    /// # Source
    /// GDAS in the space of DARTS: AutoDL-Projects, `search_model_gdas_nasnet.py`, `genotype`.
    Pairs,
    /// Every candidate whose strength reaches a threshold, strongest first.
    ///
    /// # Source
    /// FairDARTS, `fairdarts/utils.py`, `parse`, whose threshold is 0.85 of a sigmoid.
    Threshold {
        /// The smallest strength that is kept.
        at_least: f64,
        /// The candidates that are compared with the threshold.
        form: ThresholdForm,
    },
    /// Every edge with its strongest primitive, by source. An edge whose strongest candidate is
    /// `none` is dropped.
    ///
    /// # Source
    /// SNAS: SNAS-Series, `SNAS/model_search.py`, `genotype_edge_all`.
    EveryEdge,
    /// The picks of [`Self::Edges`] with at most `at_most` skip connections in the normal cell;
    /// picks by source.
    ///
    /// While the cell has more, the weakest picked skip connection is removed from the candidates
    /// of its edge, and the picks are chosen again.
    ///
    /// # Source
    /// P-DARTS, `train_search.py`, which prints a genotype for each number from 8 down to 0; the
    /// paper allows two.
    FewSkips {
        /// The largest number of skip connections of the normal cell.
        at_most: usize,
    },
}

/// The candidates that a [`Discretization::Threshold`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThresholdForm {
    /// The candidates that [`Discretization::Edges`] would compare: `threshold_sparse` of
    /// FairDARTS.
    Sparse,
    /// The two strongest primitives of every edge: `threshold_edge` of FairDARTS.
    Edge,
}

/// The number of primitives per edge that [`ThresholdForm::Edge`] compares.
const PER_EDGE: usize = 2;

/// A pick and its strength.
type Strong = (f32, Pick);

impl Discretization {
    /// The rule of the FairDARTS paper.
    pub const FAIR_DARTS: Self = Self::Threshold { at_least: 0.85, form: ThresholdForm::Sparse };

    /// The genotype of two matrices of strengths, one per kind of cell.
    ///
    /// The strength can be the mixing weights or alpha itself. Under Cross-Edge Normalization the
    /// two can give different genotypes, because each primitive has its own normalizer. A threshold
    /// applies to mixing weights.
    ///
    /// ```
    /// use ec_darts_space::{CellTopology, Discretization, PerKind, Pick, Primitive, SearchSpace};
    ///
    /// let primitives = vec![Primitive::SkipConnect, Primitive::SepConv3x3];
    /// let space = SearchSpace::new(primitives, CellTopology::new(1, 2)?)?;
    /// let strength = PerKind::from([&[0.2, 0.3, 0.6, 0.5][..]; 2]);
    /// let genotype = Discretization::Pairs.genotype(&space, strength)?;
    /// let pick = |primitive| Pick { primitive, from: 1 };
    /// assert_eq!(genotype.normal.nodes, [[pick(Primitive::SkipConnect), pick(Primitive::SepConv3x3)]]);
    /// # Ok::<(), ec_darts_space::Error>(())
    /// ```
    ///
    /// # Shapes
    /// - `strength`: `[num_edges, num_primitives]` per kind, row-major, edges ordered by target
    ///   node; the values of primitives that are not candidates of their edge are not read
    ///
    /// # Errors
    /// [`Error::StrengthLength`], [`Error::StrengthNotFinite`], [`Error::NothingKept`] where no
    /// node of a cell has a pick, and [`Error::ManySkips`] where edges have no candidate but a skip
    /// connection.
    pub fn genotype(
        self,
        space: &SearchSpace,
        strength: PerKind<&[f32]>,
    ) -> Result<Genotype, Error> {
        let cell = |kind| self.cell(space, kind, strength.cell(kind));
        let PerKind { normal, reduction } = space.topology().try_per_kind(cell)?;
        Ok(Genotype { normal, reduction })
    }

    fn cell(
        self,
        space: &SearchSpace,
        kind: CellKind,
        strength: &[f32],
    ) -> Result<CellGenotype, Error> {
        check_strengths(space, kind, strength)?;
        let topology = space.topology();
        let mut rows = rows(space, kind, strength);
        if let (Self::FewSkips { at_most }, CellKind::Normal) = (self, kind) {
            rule_out_skips(topology, &mut rows, at_most)?;
        }
        let node = |node| self.node(topology.edges_kept(), &rows[topology.edges_into(node)]);
        let mut cell = CellGenotype::of_picks((0..topology.num_nodes()).map(node).collect());
        cell.concat = topology.joined_of(&cell);
        match cell.concat.is_empty() {
            false => Ok(cell),
            true => Err(Error::NothingKept { kind, reason: self.nothing(&rows) }),
        }
    }

    /// The picks of one node, from the rows of its incoming edges in the order of sources.
    fn node(self, edges_kept: usize, rows: &[Vec<Strong>]) -> Vec<Pick> {
        let mut strong = match self {
            Self::Edges
            | Self::FewSkips { .. }
            | Self::Threshold { form: ThresholdForm::Sparse, .. } => {
                strongest_edges(edges_kept, rows)
            }
            Self::Pairs => strongest_of(edges_kept, rows.iter().flatten()),
            Self::Threshold { form: ThresholdForm::Edge, .. } => {
                let of_edges: Vec<Strong> =
                    rows.iter().flat_map(|row| strongest_of(PER_EDGE, row)).collect();
                strongest_of(of_edges.len(), &of_edges)
            }
            Self::EveryEdge => rows.iter().filter_map(strongest).collect(),
        };
        match self {
            Self::Threshold { at_least, .. } => {
                strong.retain(|&(strength, _)| f64::from(strength) >= at_least);
            }
            Self::EveryEdge => strong.retain(|(_, pick)| pick.primitive != Primitive::None),
            Self::FewSkips { .. } => strong.sort_by_key(|(_, pick)| pick.from),
            Self::Edges | Self::Pairs => {}
        }
        strong.into_iter().map(|(_, pick)| pick).collect()
    }

    /// The reason why no joined node has a pick that leads back to an input.
    fn nothing(self, rows: &[Vec<Strong>]) -> String {
        match self {
            Self::Threshold { at_least, .. } => {
                let (largest, _) = strongest_of(1, rows.iter().flatten())[0];
                format!(
                    "no edges that lead from an input to the output have strengths of {at_least} or more, \
                     the largest strength is {largest}"
                )
            }
            _ => {
                "on every way from an input to the output `none` is the strongest of an edge".into()
            }
        }
    }
}

/// The genotype of two matrices of strengths by the rule of DARTS, [`Discretization::Edges`].
///
/// ```
/// use ec_darts_space::{CellTopology, PerKind, Pick, Primitive, SearchSpace, discretize};
///
/// let primitives = vec![Primitive::None, Primitive::SkipConnect, Primitive::SepConv3x3];
/// let space = SearchSpace::new(primitives, CellTopology::new(1, 1)?)?;
/// let strength = PerKind::from([&[0.9, 0.1, 0.0, 0.0, 0.2, 0.3][..]; 2]);
/// let cell = discretize(&space, strength)?.normal;
/// assert_eq!(cell.nodes, [[Pick { primitive: Primitive::SepConv3x3, from: 1 }]]);
/// # Ok::<(), ec_darts_space::Error>(())
/// ```
///
/// # Shapes
/// - `strength`: `[num_edges, num_primitives]` per kind, row-major
///
/// # Errors
/// [`Error::StrengthLength`] or [`Error::StrengthNotFinite`].
pub fn discretize(space: &SearchSpace, strength: PerKind<&[f32]>) -> Result<Genotype, Error> {
    Discretization::Edges.genotype(space, strength)
}

/// Whether a matrix has a finite strength for each candidate of each edge.
pub(crate) fn check_strengths(
    space: &SearchSpace,
    kind: CellKind,
    strength: &[f32],
) -> Result<(), Error> {
    let (num_edges, num_primitives) = (space.topology().num_edges(), space.primitives().len());
    if strength.len() != num_edges * num_primitives {
        return Err(Error::StrengthLength { found: strength.len(), num_edges, num_primitives });
    }
    for edge in 0..num_edges {
        for (value, primitive) in space.candidate_strengths(kind, edge, strength) {
            if !value.is_finite() {
                return Err(Error::StrengthNotFinite { edge, primitive, value });
            }
        }
    }
    Ok(())
}

/// The candidates of each edge with their strengths, `none` included.
fn rows(space: &SearchSpace, kind: CellKind, strength: &[f32]) -> Vec<Vec<Strong>> {
    let row = |(edge, at): (usize, Edge)| {
        let candidates = space.candidate_strengths(kind, edge, strength).into_iter();
        let from = at.from;
        candidates.map(|(strength, primitive)| (strength, Pick { primitive, from })).collect()
    };
    space.topology().edges().enumerate().map(row).collect()
}

/// The first of the strongest candidates; it may be `none`.
fn strongest<'a>(of: impl IntoIterator<Item = &'a Strong>) -> Option<Strong> {
    of.into_iter().copied().reduce(|best, next| if next.0 > best.0 { next } else { best })
}

/// At most `count` candidates without `none`, strongest first.
fn strongest_of<'a>(count: usize, of: impl IntoIterator<Item = &'a Strong>) -> Vec<Strong> {
    let is_pick = |(_, pick): &Strong| pick.primitive != Primitive::None;
    let mut all: Vec<Strong> = of.into_iter().copied().filter(is_pick).collect();
    // The sort is stable, so equal strengths stay in the order of sources and columns.
    all.sort_by(|(a, _), (b, _)| b.partial_cmp(a).expect("strengths are finite"));
    all.truncate(count);
    all
}

/// The strongest edges of a node, each with its strongest primitive.
fn strongest_edges(edges_kept: usize, rows: &[Vec<Strong>]) -> Vec<Strong> {
    let of_edges: Vec<Strong> = rows.iter().flat_map(|row| strongest_of(1, row)).collect();
    strongest_of(edges_kept, &of_edges)
}

/// Removes skip connections from the candidates of edges, until the strongest edges pick at most
/// `at_most` of them.
fn rule_out_skips(
    topology: &CellTopology,
    rows: &mut [Vec<Strong>],
    at_most: usize,
) -> Result<(), Error> {
    let is_skip = |(_, pick): &Strong| pick.primitive == Primitive::SkipConnect;
    loop {
        let picked = (0..topology.num_nodes()).flat_map(|node| {
            let strong = strongest_edges(topology.edges_kept(), &rows[topology.edges_into(node)]);
            let skips = strong.into_iter().filter(is_skip);
            skips.map(move |(strength, pick)| (strength, topology.edge_number(pick.from, node)))
        });
        let mut skips: Vec<(f32, usize)> = picked.collect();
        if skips.len() <= at_most {
            return Ok(());
        }
        let found = skips.len();
        skips.retain(|&(_, edge)| strongest_of(2, &rows[edge]).len() > 1);
        let weakest = skips.into_iter().min_by(|(a, first), (b, second)| {
            a.partial_cmp(b).expect("strengths are finite").then(first.cmp(second))
        });
        let Some((_, edge)) = weakest else {
            return Err(Error::ManySkips { found, at_most });
        };
        rows[edge].retain(|strong| !is_skip(strong));
    }
}

#[cfg(test)]
mod tests;
