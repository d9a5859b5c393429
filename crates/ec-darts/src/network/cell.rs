//! Cells of the supernet.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ec_darts_kernels::{Cell, Edge, EdgeOperation, pick};
use ec_darts_space::{
    CellGenotype, CellKind, CellTopology, NUM_INPUTS, PerKind, Pick, Primitive, SearchSpace,
};

use super::parts::{EdgeCandidates, candidate, input_names, names, preprocess, read_by};
use super::{CellPlan, DiscreteCell, Skeleton, discrete::pick_names};
use crate::ops::{Kernels, Layout, Packed, Packs};
use crate::rule::Mixing;
use crate::skip_dropout::SkipDropout;

/// The structure of a supernet's cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellForm {
    /// Whether a skip connection of constant weight stands beside every mixed operation.
    ///
    /// # Source
    /// DARTS-, section 3.3.
    pub auxiliary_skip: bool,
    /// Number of equal parts of the channels. Only the first part passes through the operations;
    /// the others bypass them.
    ///
    /// # Source
    /// PC-DARTS, section 3.2, `K`.
    pub parts: usize,
}

impl Default for CellForm {
    /// All channels pass through all candidates, as in DARTS.
    fn default() -> Self {
        Self { auxiliary_skip: false, parts: 1 }
    }
}

/// A cell of the supernet: every edge has all of its candidates.
#[derive(Module, Debug)]
pub struct SearchCell {
    /// Weights and running statistics of all edges.
    pub packed: Packed,
    /// The edges: the preprocessings, and a mixed operation between states.
    #[module(skip)]
    pub cell: Arc<Cell>,
    /// The candidates of each edge.
    #[module(skip)]
    pub(super) candidates: Arc<Vec<EdgeCandidates>>,
    /// The states that each edge connects.
    #[module(skip)]
    pub topology: CellTopology,
    /// The implementation of the operations.
    #[module(skip)]
    pub kernels: Kernels,
}

/// The weights of a cell's operations in one pass.
#[derive(Clone, Debug)]
pub struct CellWeights {
    /// The mixing weights of the computed cell: those of each preprocessing and each operation, and
    /// in a cell of several parts those of the bypassing channels on each edge,
    /// `[num_mixing_weights]`.
    pub(super) mixing: Tensor<1>,
    /// The columns of the computed operations of each edge; none where all are computed.
    pub(super) path: Option<Vec<Vec<usize>>>,
    /// The dropout masks of the pass, and the number of the cell, where skip connections have
    /// dropout.
    pub(super) skip_dropout: Option<(SkipDropout, usize)>,
}

impl SearchCell {
    /// The cell of a plan.
    ///
    /// # Panics
    /// Where its channels cannot be divided into the parts of the form.
    pub fn new(space: &SearchSpace, plan: &CellPlan, form: CellForm, device: &Device) -> Self {
        let (cell, layout) = Self::describe(space, plan, form);
        Self {
            packed: Packed::new(layout, device),
            cell: Arc::new(cell),
            candidates: Arc::new(EdgeCandidates::of_cell(space, plan.kind, form.auxiliary_skip)),
            topology: *space.topology(),
            kernels: Kernels::default(),
        }
    }

    /// The edges of a plan's cell, and the places of their values.
    pub(crate) fn describe(space: &SearchSpace, plan: &CellPlan, form: CellForm) -> (Cell, Layout) {
        let topology = *space.topology();
        let candidates = EdgeCandidates::of_cell(space, plan.kind, form.auxiliary_skip);
        let (channels, parts) = (plan.node.channels, form.parts);
        assert!(channels.is_multiple_of(parts), "{channels} channels are no {parts} equal parts");
        let operations = Skeleton::of(&topology).search_form();
        let inputs = preprocess(plan, operations);
        let (mut names, missing) = (input_names(&inputs), plan.missing_inputs());
        let mut nodes = vec![Vec::new(); topology.num_nodes()];
        for ((number, edge), candidates) in topology.edges().enumerate().zip(&candidates) {
            let mixed = candidates.edge(channels / parts, plan.stride(edge.from), operations);
            names.extend(self::names(&format!("edges.{number}"), &mixed, candidates));
            nodes[edge.to - NUM_INPUTS].push((edge.from - missing, mixed));
        }
        let concat = topology.joined().map(|state| state - missing).collect();
        let mut cells = [Cell { inputs, nodes, concat, fixed_inputs: true, parts }];
        let layout = Layout::place(&mut cells, &names);
        let [cell] = cells;
        (cell, layout)
    }

    /// # Shapes
    /// - `older`, `newer`: the maps of the plan's inputs, `[batch, channels, height, width]`; a
    ///   cell with one input reads `newer`
    /// - `weights`: those of the cell's kind, from [`Self::weights`]
    /// - output: `[batch, num_joined * plan.node.channels, ..]`, the joined nodes along the channels
    pub fn forward(&self, older: Tensor<4>, newer: Tensor<4>, weights: &CellWeights) -> Tensor<4> {
        let CellWeights { mixing, path, skip_dropout } = weights;
        let cell = match path {
            None => self.cell.clone(),
            Some(path) => Arc::new(self.along(path)),
        };
        let inputs = read_by(&cell, older, newer);
        let is_whole = cell.parts == 1 || self.kernels.serve(&inputs[0].device(), &cell);
        if !is_whole || skip_dropout.is_some() {
            return self.forward_by_edges(&cell, inputs, weights);
        }
        self.kernels.run(&cell, &self.packed, inputs, mixing.clone(), None)
    }

    /// The weights of all operations from a matrix, `[num_edges, num_primitives]`.
    pub fn weights_of(&self, mixing: &Tensor<2>) -> CellWeights {
        let mixing = PerKind { normal: mixing.clone(), reduction: None };
        self.weights(&Mixing::of(mixing), CellKind::Normal)
    }

    /// The weights of a cell's operations in a pass, the same for all cells of a kind.
    pub fn weights(&self, mixing: &Mixing, kind: CellKind) -> CellWeights {
        let path = mixing.path.as_ref().map(|path| path.cell(kind).clone());
        let goes_by = self.cell.parts > 1;
        let edges = mixing.edges.as_ref().filter(|_| goes_by).map(|edges| edges.cell(kind).clone());
        // The weights of the edges are a column after those of the operations.
        let matrix = mixing.weights.cell(kind).clone();
        let [_, num_primitives] = matrix.dims();
        let (matrix, num_columns) = match edges {
            Some(edges) => (Tensor::cat(vec![matrix, edges], 1), num_primitives + 1),
            None => (matrix, num_primitives),
        };
        let place = |edge: usize, column: usize| Some(edge * num_columns + column);
        let is_weighed = num_columns > num_primitives;
        let mut places = vec![(None, 1.0); self.cell.inputs.len()];
        for node in 0..self.topology.num_nodes() {
            let before = places.len();
            for edge in self.topology.edges_into(node) {
                let candidates = &self.candidates[edge];
                let around = is_weighed.then(|| place(edge, num_primitives)).flatten();
                let Some(path) = &path else {
                    places.extend(candidates.columns.iter().map(|&o| (place(edge, o), 1.0)));
                    let skip = candidates.auxiliary_skip;
                    places.extend(skip.then_some((None, mixing.auxiliary_skip)));
                    places.extend(goes_by.then_some((around, 1.0)));
                    continue;
                };
                for (number, &column) in path[edge].iter().enumerate() {
                    let runs = candidates.of_column(column).is_some();
                    places.extend(runs.then(|| (place(edge, column), 1.0)));
                    // Each operation is a separate edge, and channels bypass them once.
                    let around = if number == 0 { (around, 1.0) } else { (None, 0.0) };
                    places.extend(goes_by.then_some(around));
                }
            }
            if places.len() == before {
                // The placeholder of a node without operations.
                places.push((None, 0.0));
            }
        }
        let (places, factors): (Vec<_>, Vec<f32>) =
            places.into_iter().map(|(place, factor)| (place, factor as f32)).unzip();
        let like = (&matrix.device(), matrix.dtype());
        let mut mixing = pick(matrix, &places);
        if factors.iter().any(|&factor| factor != 1.0) {
            mixing = mixing * Tensor::from_data(&factors[..], like);
        }
        CellWeights { mixing, path, skip_dropout: None }
    }

    /// The cell with the operations of the given columns of each edge, every operation as a separate edge. `none`
    /// is left out, unless channels bypass the operations on its edge.
    ///
    /// # Shapes
    /// - `path`: `[num_edges][num_operations]`
    pub(super) fn along(&self, path: &[Vec<usize>]) -> Cell {
        assert!(!self.candidates[0].auxiliary_skip, "a path has no skip beside it");
        let mut path = path.iter().enumerate();
        let mut node = |edges: &Vec<(usize, Edge)>| {
            let columns = edges.iter().zip(&mut path).flat_map(|(edge, (number, columns))| {
                columns.iter().map(move |&column| (edge, number, column))
            });
            let runs = columns.filter_map(|((from, edge), number, column)| {
                let runs = match self.position(number, column) {
                    Some(position) => candidate(edge, position),
                    None if self.cell.parts > 1 => Edge { operations: vec![], ..edge.clone() },
                    None => return None,
                };
                Some((*from, runs))
            });
            let mut runs: Vec<(usize, Edge)> = runs.collect();
            if runs.is_empty() {
                // A node without operations is zero: a pool with weight zero takes its place.
                let (from, edge) = &edges[0];
                let operations = vec![EdgeOperation::AvgPool { norm: false }];
                runs.push((*from, Edge { operations, ..edge.clone() }));
            }
            runs
        };
        let nodes = self.cell.nodes.iter().map(&mut node).collect();
        Cell { nodes, ..(*self.cell).clone() }
    }

    /// The index of a column's operation on an edge; none for the column of `none`.
    pub(super) fn position(&self, edge: usize, column: usize) -> Option<usize> {
        self.candidates[edge].of_column(column)
    }

    /// The candidates of an edge, without `none`.
    pub fn primitives(&self, edge: usize) -> &[Primitive] {
        &self.candidates[edge].primitives
    }

    /// The same cell restricted to the picks of a genotype; packed tensors are shared, not copied.
    ///
    /// # Panics
    /// Where a pick is no candidate of its edge, where the genotype has another number of nodes, or
    /// has a node without picks, whose channels the next cell would miss; and for a cell in parts,
    /// whose operations have fewer channels than its states.
    pub fn restrict(&self, genotype: &CellGenotype) -> DiscreteCell {
        assert_eq!(self.cell.parts, 1, "a cell whose operations see all channels");
        let (num_nodes, expected) =
            (genotype.states_with_picks().count(), self.topology.num_nodes());
        assert_eq!(num_nodes, expected, "nodes with picks of a genotype of these cells");
        let pick = |node: usize, pick: &Pick| {
            let number = self.topology.edge_number(pick.from, node);
            let first = self.topology.edges_into(node).start;
            let (from, edge) = &self.cell.nodes[node][number - first];
            let candidates = &self.candidates[number];
            let position = candidates.position(pick.primitive);
            let position = position.expect("a pick is one of the candidates of its edge");
            (*from, candidate(edge, position))
        };
        let nodes = genotype.nodes.iter().enumerate();
        let missing = NUM_INPUTS - self.cell.inputs.len();
        let cell = Cell {
            inputs: self.cell.inputs.clone(),
            nodes: nodes
                .map(|(node, picks)| picks.iter().map(|each| pick(node, each)).collect())
                .collect(),
            concat: genotype.concat.iter().map(|state| state - missing).collect(),
            fixed_inputs: true,
            parts: 1,
        };
        // The picked values lie between values that are not picked.
        let own = &self.packed.layout;
        let lengths = [own.weights.len, own.statistics.len];
        let mut names = input_names(&cell.inputs);
        names.extend(pick_names(&cell));
        let layout = Layout::of(cell.edges(), &names, lengths);
        DiscreteCell {
            packed: self.packed.part(layout),
            cell: Arc::new(cell),
            kernels: self.kernels,
        }
    }
}

impl Packs for SearchCell {
    fn packs(&self) -> Vec<&Packed> {
        vec![&self.packed]
    }
}
