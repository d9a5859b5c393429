//! Cells of the supernet.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ec_darts_kernels::{Cell, Edge, EdgeOperation, pick};
use ec_darts_space::{
    CellGenotype, CellKind, CellTopology, NUM_INPUTS, PerKind, Pick, Primitive, SearchSpace,
};

use super::parts::{Candidates, candidate, input_names, names, preprocess, read_by};
use super::{CellPlan, DiscreteCell, Skeleton, discrete::pick_names};
use crate::ops::{Kernels, Layout, Packed, Packs};
use crate::rule::Mixing;
use crate::skip_dropout::SkipDropout;

/// How the cells of a supernet are made of their candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellForm {
    /// A skip of constant weight stands beside every mixed operation.
    ///
    /// # Source
    /// DARTS-, section 3.3.
    pub auxiliary_skip: bool,
    /// Of so many equal parts of the channels only the first goes through the operations; the others go by.
    ///
    /// # Source
    /// PC-DARTS, section 3.2, `K`.
    pub parts: usize,
}

impl Default for CellForm {
    /// All channels through all candidates, as in DARTS.
    fn default() -> Self {
        Self { auxiliary_skip: false, parts: 1 }
    }
}

/// A cell of the supernet: every edge holds all of its candidates.
#[derive(Module, Debug)]
pub struct SearchCell {
    /// Weights and running statistics of all edges.
    pub packed: Packed,
    /// The edges: the preprocessings, and a mixed operation between states.
    #[module(skip)]
    pub cell: Arc<Cell>,
    /// Of each edge.
    #[module(skip)]
    pub(super) candidates: Arc<Vec<Candidates>>,
    /// Which edge connects what.
    #[module(skip)]
    pub topology: CellTopology,
    /// Parts of the channels, of which the first goes through the operations.
    #[module(skip)]
    pub parts: usize,
    /// How the operations are computed.
    #[module(skip)]
    pub kernels: Kernels,
}

/// What the operations of a cell are weighted with in one pass.
#[derive(Clone, Debug)]
pub struct CellWeights {
    /// Of each operation that runs, one for each preprocessing before them, `[num_operations]`.
    pub(super) operations: Tensor<1>,
    /// Of each edge, `[num_edges, 1]`, where a rule weighs them.
    pub(super) edges: Option<Tensor<2>>,
    /// The column of the one operation of each edge that runs, where it is not all.
    pub(super) path: Option<Vec<usize>>,
    /// Of the pass, and the number of the cell, where skips are dropped.
    pub(super) skip_dropout: Option<(SkipDropout, usize)>,
}

impl SearchCell {
    /// The cell of a plan.
    ///
    /// # Panics
    /// Where its channels do not fall into the parts of the form.
    pub fn new(space: &SearchSpace, plan: &CellPlan, form: CellForm, device: &Device) -> Self {
        let (cell, layout) = Self::describe(space, plan, form);
        Self {
            packed: Packed::new(layout, device),
            cell: Arc::new(cell),
            candidates: Arc::new(Candidates::of_cell(space, plan.kind, form.auxiliary_skip)),
            topology: *space.topology(),
            parts: form.parts,
            kernels: Kernels::default(),
        }
    }

    /// The edges of a plan's cell, and where their values lie.
    pub(crate) fn describe(space: &SearchSpace, plan: &CellPlan, form: CellForm) -> (Cell, Layout) {
        let topology = *space.topology();
        let candidates = Candidates::of_cell(space, plan.kind, form.auxiliary_skip);
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
        let mut cells = [Cell { inputs, nodes, concat, fixed_inputs: true }];
        let layout = Layout::place(&mut cells, &names);
        let [cell] = cells;
        (cell, layout)
    }

    /// # Shapes
    /// - `older`, `newer`: the maps of the plan's inputs, `[batch, channels, height, width]`; a cell of one input
    ///   reads `newer`
    /// - `weights`: those of the cell's kind, from [`Self::weights`]
    /// - output: `[batch, num_joined * plan.node.channels, ..]`, the joined nodes along the channels
    pub fn forward(&self, older: Tensor<4>, newer: Tensor<4>, weights: &CellWeights) -> Tensor<4> {
        let CellWeights { operations, path, .. } = weights;
        if self.parts > 1 || weights.skip_dropout.is_some() {
            return self.forward_by_edges(older, newer, weights);
        }
        let cell = match path {
            None => self.cell.clone(),
            Some(path) => Arc::new(self.along(path)),
        };
        let inputs = read_by(&cell, older, newer);
        self.kernels.run(&cell, &self.packed, inputs, operations.clone(), None)
    }

    /// The weights of all operations from a matrix, `[num_edges, num_primitives]`.
    pub fn weights_of(&self, mixing: &Tensor<2>) -> CellWeights {
        let mixing = PerKind { normal: mixing.clone(), reduction: None };
        self.weights(&Mixing::of(mixing), CellKind::Normal)
    }

    /// The weights of a cell's operations by a pass: the same for all cells of a kind.
    pub fn weights(&self, mixing: &Mixing, kind: CellKind) -> CellWeights {
        let path = mixing.path.as_ref().map(|path| path.cell(kind).clone());
        let matrix = mixing.weights.cell(kind);
        let [_, num_primitives] = matrix.dims();
        let place = |edge: usize, column: usize| (Some(edge * num_primitives + column), 1.0);
        let mut places = vec![(None, 1.0); self.cell.inputs.len()];
        match &path {
            None => {
                for (edge, candidates) in self.candidates.iter().enumerate() {
                    places.extend(candidates.columns.iter().map(|&column| place(edge, column)));
                    let skip = candidates.auxiliary_skip;
                    places.extend(skip.then_some((None, mixing.auxiliary_skip)));
                }
            }
            Some(path) => {
                for node in 0..self.topology.num_nodes() {
                    let edges = self.topology.edges_into(node);
                    let runs = edges.filter(|&edge| self.position(edge, path[edge]).is_some());
                    let before = places.len();
                    places.extend(runs.map(|edge| place(edge, path[edge])));
                    if places.len() == before {
                        places.push((None, 0.0));
                    }
                }
            }
        }
        let (places, factors): (Vec<_>, Vec<f32>) =
            places.into_iter().map(|(place, factor)| (place, factor as f32)).unzip();
        let mut operations = pick(matrix.clone(), &places);
        if factors.iter().any(|&factor| factor != 1.0) {
            let like = (&matrix.device(), matrix.dtype());
            operations = operations * Tensor::from_data(&factors[..], like);
        }
        let edges = mixing.edges.as_ref().map(|edges| edges.cell(kind).clone());
        CellWeights { operations, edges, path, skip_dropout: None }
    }

    /// The cell with one operation on each edge, that of a column; an edge of `none` is left out.
    ///
    /// # Shapes
    /// - `path`: `[num_edges]`
    pub(super) fn along(&self, path: &[usize]) -> Cell {
        assert!(!self.candidates[0].auxiliary_skip, "a path has no skip beside it");
        let mut path = path.iter().enumerate();
        let mut node = |edges: &Vec<(usize, Edge)>| {
            let columns = edges.iter().zip(&mut path);
            let runs = columns.filter_map(|((from, edge), (number, &column))| {
                let position = self.position(number, column)?;
                Some((*from, candidate(edge, position)))
            });
            let mut runs: Vec<(usize, Edge)> = runs.collect();
            if runs.is_empty() {
                // A node without operations is zero: its place is held by a pool of weight zero.
                let (from, edge) = &edges[0];
                let operations = vec![EdgeOperation::AvgPool { norm: false }];
                runs.push((*from, Edge { operations, ..edge.clone() }));
            }
            runs
        };
        let nodes = self.cell.nodes.iter().map(&mut node).collect();
        Cell { nodes, ..(*self.cell).clone() }
    }

    /// The place of a column's operation on an edge, unless the column is that of `none`.
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
    /// Where a pick is no candidate of its edge, or the genotype has another number of nodes, or one without
    /// picks, whose channels the next cell would miss; and of a cell in parts, whose operations are narrower
    /// than its states.
    pub fn restrict(&self, genotype: &CellGenotype) -> DiscreteCell {
        assert_eq!(self.parts, 1, "a cell whose operations see all channels");
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
        };
        // What is picked lies among what is not.
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
