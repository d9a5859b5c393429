//! The search space: primitives, a cell, and the primitives that each edge may take.

use serde::{Deserialize, Serialize};

use crate::{
    CellKind, CellTopology, Error, Genotype, PerKind, Pick, Primitive, discretize::check_strengths,
};

/// The choices of a search: primitives for each edge, and edges for each node.
///
/// The order of the primitives is the order of the columns of every matrix over this space. Every
/// edge may take every primitive, unless [`Self::restricted`] says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchSpace {
    primitives: Vec<Primitive>,
    topology: CellTopology,
    candidates: Candidates,
}

/// The primitives that each edge may take, by kind of cell and number of the edge.
///
/// The primitives of an edge stand in the order of the space's columns. The text form is two lists
/// of lists of names, so that a run folder can record the candidates of each stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Candidates(pub PerKind<Vec<Vec<Primitive>>>);

impl SearchSpace {
    /// The space in which every edge of this cell may take all these primitives.
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
        Ok(Self::of_all(primitives, topology))
    }

    /// The space of DARTS and EC-DARTS: eight primitives, four nodes, two edges kept.
    pub fn darts() -> Self {
        Self::of_all(Primitive::DARTS.to_vec(), CellTopology::darts())
    }

    /// The space of NAS-Bench-201: five primitives on the six edges of its cell, 15,625 cells.
    ///
    /// # Source
    /// AutoDL-Projects, `xautodl/models/cell_operations.py`, `NAS_BENCH_201`.
    pub fn nas_bench_201() -> Self {
        Self::of_all(Primitive::NAS_BENCH_201.to_vec(), CellTopology::nas_bench_201())
    }

    fn of_all(primitives: Vec<Primitive>, topology: CellTopology) -> Self {
        let edges = topology.per_kind(|_| vec![primitives.clone(); topology.num_edges()]);
        Self { primitives, topology, candidates: Candidates(edges) }
    }

    /// The same space with fewer candidates on its edges.
    ///
    /// Primitives and columns stay: a matrix over one of the two spaces fits the other too.
    ///
    /// # Errors
    /// [`Error::Candidates`] where a list is not a sublist of the primitives in their order, where
    /// it has no primitive besides `none`, or where the number of lists is not the number of edges.
    pub fn restricted(&self, candidates: Candidates) -> Result<Self, Error> {
        let num_edges = self.topology.num_edges();
        let kinds = candidates.0.iter().map(|(kind, _)| kind);
        if !kinds.eq(self.topology.kinds().iter().copied()) {
            let (kind, edge) = (CellKind::Reduction, 0);
            let reason = "lists for it, and for it alone, where the space has such a cell".into();
            return Err(Error::Candidates { kind, edge, reason });
        }
        for (kind, edges) in candidates.0.iter() {
            let fault = |edge, reason: String| Err(Error::Candidates { kind, edge, reason });
            if edges.len() != num_edges {
                let reason =
                    format!("{} lists, expected one for each of {num_edges} edges", edges.len());
                return fault(num_edges.min(edges.len()), reason);
            }
            for (edge, list) in edges.iter().enumerate() {
                let mut columns = self.primitives.iter();
                if let Some(odd) = list.iter().find(|&each| !columns.any(|column| column == each)) {
                    let all: Vec<&str> = self.primitives.iter().map(|each| each.name()).collect();
                    let all = all.join(", ");
                    return fault(edge, format!("`{odd}`, allowed: some of {all}, in this order"));
                }
                if list.iter().all(|&each| each == Primitive::None) {
                    return fault(edge, "nothing but `none` is left to choose".into());
                }
            }
        }
        Ok(Self { candidates, ..self.clone() })
    }

    /// The same space without the weakest candidates of each edge: the end of a stage of P-DARTS.
    ///
    /// On each edge the `count` candidates with the smallest strengths are removed; of equal
    /// strengths, the first column is removed. With `none_first`, `none` is removed before all
    /// others, however strong it is. The last stage needs this, because its candidates become the
    /// genotype.
    ///
    /// ```
    /// use ec_darts_space::{CellKind, PerKind, Primitive, SearchSpace};
    ///
    /// let space = SearchSpace::darts();
    /// let strength: Vec<f32> = (0..112).map(|place| (place % 8) as f32).collect();
    /// let left = space.without_weakest(PerKind::from([&strength[..]; 2]), 5, false)?;
    /// assert_eq!(left.candidates(CellKind::Normal, 13), &Primitive::DARTS[5..]);
    /// # Ok::<(), ec_darts_space::Error>(())
    /// ```
    ///
    /// # Shapes
    /// - `strength`: `[num_edges, num_primitives]` per kind, row-major: alpha, or its softmax over
    ///   the candidates of an edge, which has the same order; values of other primitives are not
    ///   read
    ///
    /// # Errors
    /// The errors of [`discretize`](crate::discretize()) for the strengths; [`Error::Candidates`]
    /// where an edge has fewer candidates than `count`, or would keep only `none`.
    ///
    /// # Source
    /// P-DARTS, `train_search.py`: three stages that drop 3, 2 and 2 of eight candidates.
    pub fn without_weakest(
        &self,
        strength: PerKind<&[f32]>,
        count: usize,
        none_first: bool,
    ) -> Result<Self, Error> {
        let left = |kind: CellKind| -> Result<Vec<Vec<Primitive>>, Error> {
            check_strengths(self, kind, strength.cell(kind))?;
            let edge = |edge: usize| {
                let row = self.candidate_strengths(kind, edge, strength.cell(kind));
                if count > row.len() {
                    let reason = format!("{} candidates, {count} cannot go", row.len());
                    return Err(Error::Candidates { kind, edge, reason });
                }
                let mut order: Vec<usize> = (0..row.len()).collect();
                let last = |&at: &usize| !(none_first && row[at].1 == Primitive::None);
                order.sort_by(|a, b| row[*a].0.total_cmp(&row[*b].0));
                order.sort_by_key(last);
                let gone = &order[..count];
                let kept = row.iter().enumerate().filter(|(at, _)| !gone.contains(at));
                Ok(kept.map(|(_, &(_, primitive))| primitive).collect())
            };
            (0..self.topology.num_edges()).map(edge).collect()
        };
        self.restricted(Candidates(self.topology.try_per_kind(left)?))
    }

    /// The candidates of an edge with their strengths, in the order of the columns.
    pub(crate) fn candidate_strengths(
        &self,
        kind: CellKind,
        edge: usize,
        strength: &[f32],
    ) -> Vec<(f32, Primitive)> {
        let width = self.primitives.len();
        let row = &strength[edge * width..][..width];
        let candidates = self.candidates(kind, edge);
        let columns = row.iter().copied().zip(self.primitives.iter().copied());
        columns.filter(|(_, primitive)| candidates.contains(primitive)).collect()
    }

    /// Whether this space contains a genotype: the same number of nodes, all nodes with picks
    /// joined, and on each edge only candidates of the edge.
    ///
    /// The [`Discretization`](crate::Discretization) decides how many picks a node has.
    pub fn contains(&self, genotype: &Genotype) -> bool {
        let mut cells = genotype.cells();
        let kinds = genotype.cells().map(|(kind, _)| kind);
        kinds.eq(self.topology.kinds().iter().copied())
            && cells.all(|(kind, cell)| {
                let is_candidate = |node: usize, pick: &Pick| {
                    self.topology.sources(node).contains(&pick.from) && {
                        let edge = self.topology.edge_number(pick.from, node);
                        self.candidates(kind, edge).contains(&pick.primitive)
                    }
                };
                let mut nodes = cell.nodes.iter().enumerate();
                cell.validate().is_ok()
                    && cell.nodes.len() == self.topology.num_nodes()
                    && cell.concat == self.topology.joined_of(cell)
                    && nodes.all(|(node, picks)| picks.iter().all(|pick| is_candidate(node, pick)))
            })
    }

    /// The primitives, in the order of the columns.
    pub fn primitives(&self) -> &[Primitive] {
        &self.primitives
    }

    /// The primitives that an edge may take, in the order of the columns.
    ///
    /// # Panics
    /// Where the cell has no such edge.
    pub fn candidates(&self, kind: CellKind, edge: usize) -> &[Primitive] {
        &self.candidates.0.cell(kind)[edge]
    }

    /// The candidates of all edges.
    pub fn all_candidates(&self) -> &Candidates {
        &self.candidates
    }

    /// The edges of a cell.
    pub fn topology(&self) -> &CellTopology {
        &self.topology
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_spaces_are_refused() {
        let topology = CellTopology::new(1, 9).unwrap();
        let refusal = |primitives| SearchSpace::new(primitives, topology).unwrap_err().to_string();
        let twice = vec![Primitive::SkipConnect, Primitive::None, Primitive::SkipConnect];
        assert_eq!(refusal(twice), "primitive `skip_connect` is listed twice in the search space");
        let nothing = "a search space needs a primitive other than `none`";
        assert_eq!(refusal(vec![Primitive::None]), nothing);
        assert_eq!(refusal(vec![]), nothing);
    }

    use Primitive::{None as Nothing, SepConv3x3 as Sep, SkipConnect as Skip};

    fn small() -> SearchSpace {
        let topology = CellTopology::new(1, 2).unwrap();
        SearchSpace::new(vec![Nothing, Skip, Sep], topology).unwrap()
    }

    #[test]
    fn impossible_candidates_are_refused() {
        let check = |normal: &[&[Primitive]], expected: &str| {
            let lists = normal.iter().map(|list| list.to_vec()).collect();
            let reduction = vec![vec![Skip]; 2];
            let found = small().restricted(Candidates(PerKind::both(lists, reduction)));
            let message = found.map_or_else(|error| error.to_string(), |_| String::new());
            assert_eq!(message, expected);
        };
        check(&[&[Nothing, Sep], &[Skip]], "");
        check(&[&[Sep]], "edge 1 of the normal cell: 1 lists, expected one for each of 2 edges");
        check(
            &[&[Sep], &[Sep, Skip]],
            "edge 1 of the normal cell: `skip_connect`, allowed: some of none, skip_connect, \
             sep_conv_3x3, in this order",
        );
        check(
            &[&[Primitive::MaxPool3x3], &[Sep]],
            "edge 0 of the normal cell: `max_pool_3x3`, allowed: some of none, skip_connect, \
             sep_conv_3x3, in this order",
        );
        let nothing = "edge 0 of the normal cell: nothing but `none` is left to choose";
        check(&[&[Nothing], &[Sep]], nothing);
        check(&[&[], &[Sep]], nothing);
    }

    #[test]
    fn the_weakest_go() {
        let drop = |space: &SearchSpace, count, none_first| {
            let strength = PerKind::both(&[0.5, 0.2, 0.3, 0.1, 0.4, 0.4][..], &[0.0; 6]);
            space.without_weakest(strength, count, none_first)
        };
        let edges = |space: &SearchSpace| space.all_candidates().0.normal.clone();
        let left = drop(&small(), 1, false).unwrap();
        assert_eq!(edges(&left), [vec![Nothing, Sep], vec![Skip, Sep]]);
        // Of equal strengths the first is removed.
        assert_eq!(left.candidates(CellKind::Reduction, 0), [Skip, Sep]);
        let last = drop(&small(), 2, true).unwrap();
        assert_eq!(edges(&last), [vec![Sep], vec![Sep]]);
        // Each of the two stages alone.
        let both = drop(&left, 1, true).unwrap();
        assert_eq!(edges(&both), [vec![Sep], vec![Sep]]);
        assert_eq!(
            drop(&small(), 2, false).unwrap_err().to_string(),
            "edge 0 of the normal cell: nothing but `none` is left to choose"
        );
        assert_eq!(
            drop(&last, 2, false).unwrap_err().to_string(),
            "edge 0 of the normal cell: 1 candidates, 2 cannot go"
        );
    }

    #[test]
    fn candidates_are_lists_of_names() {
        let text = r#"{"normal":[["skip_connect"],["none","sep_conv_3x3"]],"reduction":[]}"#;
        let candidates: Candidates = serde_json::from_str(text).unwrap();
        assert_eq!(candidates.0.normal, [vec![Skip], vec![Nothing, Sep]]);
        assert_eq!(serde_json::to_string(&candidates).unwrap(), text);
    }
}
