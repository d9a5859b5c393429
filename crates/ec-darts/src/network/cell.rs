//! Cells: the relaxed one of the supernet, and the discrete one of a genotype.

use std::ops::Range;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, s};
use ec_darts_kernels::{Cell, Edge, EdgeOperation, in_one_kernel, pick};
use ec_darts_space::{
    CellGenotype, CellKind, CellTopology, NUM_INPUTS, Pick, Primitive, SearchSpace,
};

use super::CellPlan;
use crate::ops::{
    DropPath, Form, Kernels, Layout, Name, Operation, Packed, Packs, edge, operation,
};

/// Both preprocessings of a cell, the older input's first: each brings an input to the cell's
/// channels and size.
fn preprocess(plan: &CellPlan, form: Form) -> Vec<Edge> {
    // Behind a reduction the older input is twice as large.
    let reduces = [plan.after_reduction, false];
    let edges = plan.inputs.into_iter().zip(reduces).map(|(inputs, reduces)| {
        let (operation, stride) = match reduces {
            true => (EdgeOperation::FactorizedReduce, 2),
            false => (EdgeOperation::Pointwise, 1),
        };
        edge(vec![operation], [inputs, plan.num_channels], stride, form.affine())
    });
    edges.collect()
}

/// Names of both preprocessings.
fn input_names(inputs: &[Edge]) -> Vec<Name> {
    let variant = |edge: &Edge| match edge.operations[0] {
        EdgeOperation::FactorizedReduce => "Reduce",
        _ => "Keep",
    };
    let inputs = inputs.iter().enumerate();
    inputs.map(|(input, edge)| Name::new(format!("preprocess{input}.{}", variant(edge)))).collect()
}

/// The candidates of a search space: the operations of an edge, and their columns in the mixing weights.
#[derive(Clone, Debug)]
struct Candidates {
    primitives: Vec<Primitive>,
    /// Columns that follow one another.
    columns: Vec<Range<usize>>,
}

impl Candidates {
    fn new(space: &SearchSpace) -> Self {
        let mut all = Self { primitives: Vec::new(), columns: Vec::new() };
        for (column, &primitive) in space.primitives().iter().enumerate() {
            if primitive == Primitive::None {
                continue;
            }
            all.primitives.push(primitive);
            match all.columns.last_mut() {
                Some(last) if last.end == column => last.end += 1,
                _ => all.columns.push(column..column + 1),
            }
        }
        all
    }

    /// An edge of all candidates.
    fn edge(&self, num_channels: usize, stride: usize) -> Edge {
        let operations = self.primitives.iter();
        let operations = operations.filter_map(|&each| operation(each, stride, Form::Search));
        edge(operations.collect(), [num_channels; 2], stride, Form::Search.affine())
    }

    /// Of a matrix of mixing weights those that belong to an operation, row after row.
    fn mixing(&self, mixing: &Tensor<2>) -> Tensor<1> {
        let columns = self.columns.iter().map(|run| mixing.clone().slice(s![.., run.clone()]));
        Tensor::cat(columns.collect(), 1).flatten(0, 1)
    }

    fn position(&self, primitive: Primitive) -> Option<usize> {
        self.primitives.iter().position(|&candidate| candidate == primitive)
    }
}

/// Names of an edge's operations below a path.
fn names<'a>(path: &'a str, edge: &'a Edge) -> impl Iterator<Item = Name> + 'a {
    edge.operations.iter().enumerate().map(move |(number, &operation)| {
        let dot = if path.is_empty() { "" } else { "." };
        Name::of_candidate(&format!("{path}{dot}operations.{number}"), operation)
    })
}

/// All candidate operations of one edge.
///
/// ```text
/// y = sum over o of mixing[o] * o(x)
/// ```
/// `none` has a mixing weight but is no operation: it adds nothing and is not computed.
///
/// # Source
/// EC-DARTS, Eq. (5); DARTS, Eq. (2).
#[derive(Module, Debug)]
pub struct MixedOperation {
    /// Weights and running statistics of all operations.
    pub packed: Packed,
    #[module(skip)]
    cell: Arc<Cell>,
    #[module(skip)]
    candidates: Arc<Candidates>,
}

impl MixedOperation {
    /// The candidates of the search space at this width and stride.
    pub fn new(space: &SearchSpace, num_channels: usize, stride: usize, device: &Device) -> Self {
        let candidates = Candidates::new(space);
        let edge = candidates.edge(num_channels, stride);
        let names: Vec<Name> = names("", &edge).collect();
        let mut cells = [Cell::from(edge)];
        let layout = Layout::place(&mut cells, &names);
        let [cell] = cells;
        Self {
            packed: Packed::new(layout, device),
            cell: Arc::new(cell),
            candidates: Arc::new(candidates),
        }
    }

    /// # Shapes
    /// - `input`: `[batch, num_channels, height, width]`
    /// - `mixing`: `[num_primitives]`, the edge's row of the cell's mixing weights
    /// - output: `[batch, num_channels, ceil(height / stride), ceil(width / stride)]`
    pub fn forward(&self, input: Tensor<4>, mixing: Tensor<1>, kernels: Kernels) -> Tensor<4> {
        let mixing = self.candidates.mixing(&mixing.unsqueeze());
        kernels.run(&self.cell, &self.packed, vec![input], mixing, None)
    }

    /// The operation of a primitive with the weights it has here, if it is one of the candidates.
    pub fn operation(&self, primitive: Primitive) -> Option<Operation> {
        let position = self.candidates.position(primitive)?;
        Some(Operation::part(&self.packed, candidate(&self.cell.inputs[0], position)))
    }
}

impl Packs for MixedOperation {
    fn packs(&self) -> Vec<&Packed> {
        vec![&self.packed]
    }
}

/// One operation of an edge, at its place.
fn candidate(edge: &Edge, position: usize) -> Edge {
    let before = &edge.operations[..position];
    let parameters = before.iter().map(|each| each.num_parameters(edge.channels, edge.affine));
    let norms: usize = before.iter().map(|each| each.num_norms()).sum();
    Edge {
        operations: vec![edge.operations[position]],
        parameters: edge.parameters + parameters.sum::<usize>(),
        statistics: edge.statistics + norms * edge.channels[1],
        ..edge.clone()
    }
}

/// A cell of the supernet: every edge holds every candidate.
#[derive(Module, Debug)]
pub struct SearchCell {
    /// Weights and running statistics of all edges.
    pub packed: Packed,
    /// The edges: both preprocessings, and a mixed operation between states.
    #[module(skip)]
    pub cell: Arc<Cell>,
    #[module(skip)]
    candidates: Arc<Candidates>,
    /// Which edge connects what.
    #[module(skip)]
    pub topology: CellTopology,
    /// How the operations are computed.
    #[module(skip)]
    pub kernels: Kernels,
}

impl SearchCell {
    /// The cell of a plan.
    pub fn new(space: &SearchSpace, plan: &CellPlan, device: &Device) -> Self {
        let (cell, layout) = Self::describe(space, plan);
        Self {
            packed: Packed::new(layout, device),
            cell: Arc::new(cell),
            candidates: Arc::new(Candidates::new(space)),
            topology: *space.topology(),
            kernels: Kernels::default(),
        }
    }

    /// The edges of a plan's cell, and where their values lie.
    pub(crate) fn describe(space: &SearchSpace, plan: &CellPlan) -> (Cell, Layout) {
        let (topology, candidates) = (*space.topology(), Candidates::new(space));
        let inputs = preprocess(plan, Form::Search);
        let mut names = input_names(&inputs);
        let mut nodes = vec![Vec::new(); topology.num_nodes()];
        for (number, edge) in topology.edges().enumerate() {
            let mixed = candidates.edge(plan.num_channels, topology.stride(plan.kind, edge));
            names.extend(self::names(&format!("edges.{number}"), &mixed));
            nodes[edge.to - NUM_INPUTS].push((edge.from, mixed));
        }
        let concat = (NUM_INPUTS..NUM_INPUTS + topology.num_nodes()).collect();
        let mut cells = [Cell { inputs, nodes, concat, fixed_inputs: true }];
        let layout = Layout::place(&mut cells, &names);
        let [cell] = cells;
        (cell, layout)
    }

    /// # Shapes
    /// - `older`, `newer`: `[batch, plan.inputs, height, width]`
    /// - `mixing`: `[num_edges, num_primitives]`
    /// - output: `[batch, num_nodes * num_channels, ..]`, the nodes joined along the channels
    pub fn forward(&self, older: Tensor<4>, newer: Tensor<4>, mixing: &Tensor<2>) -> Tensor<4> {
        let mixing = self.operation_mixing(mixing);
        self.forward_operations(older, newer, mixing)
    }

    /// Of the mixing weights of a cell those of its operations, one for each preprocessing before them: the same for
    /// all cells of a kind.
    ///
    /// # Shapes
    /// - `mixing`: `[num_edges, num_primitives]`
    /// - output: `[num_operations]`
    pub(super) fn operation_mixing(&self, mixing: &Tensor<2>) -> Tensor<1> {
        if !in_one_kernel(&mixing.device()) {
            let ones = Tensor::ones([NUM_INPUTS], &mixing.device());
            return Tensor::cat(vec![ones, self.candidates.mixing(mixing)], 0);
        }
        let [num_edges, num_primitives] = mixing.dims();
        let columns = || self.candidates.columns.iter().cloned().flatten();
        let row = |edge| columns().map(move |column| Some(edge * num_primitives + column));
        let places: Vec<Option<usize>> =
            [None; NUM_INPUTS].into_iter().chain((0..num_edges).flat_map(row)).collect();
        pick(mixing.clone(), &places)
    }

    /// As [`Self::forward`], by the weights of [`Self::operation_mixing`].
    pub(super) fn forward_operations(
        &self,
        older: Tensor<4>,
        newer: Tensor<4>,
        mixing: Tensor<1>,
    ) -> Tensor<4> {
        self.kernels.run(&self.cell, &self.packed, vec![older, newer], mixing, None)
    }

    /// The candidates of each edge, without `none`.
    pub fn primitives(&self) -> &[Primitive] {
        &self.candidates.primitives
    }

    /// The same cell restricted to the picks of a genotype; packed tensors are shared, not copied.
    ///
    /// # Panics
    /// Where a pick is no candidate of its edge, or the genotype has another number of nodes.
    pub fn restrict(&self, genotype: &CellGenotype) -> DiscreteCell {
        assert_eq!(genotype.nodes.len(), self.topology.num_nodes(), "a genotype of these cells");
        let pick = |pick: &Pick, edges: &[(usize, Edge)]| {
            let edge = edges.iter().find(|(from, _)| *from == pick.from);
            let position = self.candidates.position(pick.primitive);
            let (Some((_, edge)), Some(position)) = (edge, position) else {
                panic!("a picked primitive is one of the candidates of its edge")
            };
            (pick.from, candidate(edge, position))
        };
        let nodes = genotype.nodes.iter().zip(&self.cell.nodes);
        let cell = Cell {
            inputs: self.cell.inputs.clone(),
            nodes: nodes
                .map(|(picks, edges)| picks.iter().map(|each| pick(each, edges)).collect())
                .collect(),
            concat: genotype.concat.clone(),
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

/// Names of the picked operations, each alone on its edge.
fn pick_names(cell: &Cell) -> Vec<Name> {
    let edges = cell.nodes.iter().flatten().enumerate();
    edges
        .map(|(number, (_, edge))| {
            Name::of_candidate(&format!("operations.{number}"), edge.operations[0])
        })
        .collect()
}

/// A cell of one genotype: only the kept operations, each with weight one.
#[derive(Module, Debug)]
pub struct DiscreteCell {
    /// Weights and running statistics; those of the picks may lie among others.
    pub packed: Packed,
    /// The edges: both preprocessings, and an edge for each pick in the order of the genotype.
    #[module(skip)]
    pub cell: Arc<Cell>,
    /// How the operations are computed.
    #[module(skip)]
    pub kernels: Kernels,
}

impl DiscreteCell {
    /// A cell with weights of its own, in the form of the network that is retrained.
    pub fn new(genotype: &CellGenotype, plan: &CellPlan, device: &Device) -> Self {
        let (cell, layout) = Self::describe(genotype, plan);
        Self {
            packed: Packed::new(layout, device),
            cell: Arc::new(cell),
            kernels: Kernels::default(),
        }
    }

    /// The edges of a plan's cell, and where their values lie.
    pub(crate) fn describe(genotype: &CellGenotype, plan: &CellPlan) -> (Cell, Layout) {
        let form = Form::Retrain;
        let inputs = preprocess(plan, form);
        let mut names = input_names(&inputs);
        let pick = |pick: &Pick| {
            let reduces = plan.kind == CellKind::Reduction;
            let stride = if reduces && pick.from < NUM_INPUTS { 2 } else { 1 };
            let operation = operation(pick.primitive, stride, form);
            let operation = operation.expect("a genotype picks no `none`");
            let channels = [plan.num_channels; 2];
            (pick.from, edge(vec![operation], channels, stride, form.affine()))
        };
        let nodes = genotype.nodes.iter().map(|picks| picks.iter().map(pick).collect());
        let (nodes, concat) = (nodes.collect(), genotype.concat.clone());
        let mut cells = [Cell { inputs, nodes, concat, fixed_inputs: true }];
        names.extend(pick_names(&cells[0]));
        let layout = Layout::place(&mut cells, &names);
        let [cell] = cells;
        (cell, layout)
    }

    /// `drop_path` acts on every picked operation but the identity.
    ///
    /// # Shapes
    /// - `older`, `newer`: `[batch, plan.inputs, height, width]`
    /// - output: `[batch, concat.len() * num_channels, ..]`
    pub fn forward(
        &self,
        older: Tensor<4>,
        newer: Tensor<4>,
        drop_path: Option<&mut DropPath>,
    ) -> Tensor<4> {
        let [batch, ..] = older.dims();
        let factors = drop_path.map(|drop_path| Arc::new(drop_path.factors(&self.cell, batch)));
        let ones = Tensor::ones([self.cell.num_operations()], &older.device());
        self.kernels.run(&self.cell, &self.packed, vec![older, newer], ones, factors)
    }
}

impl Packs for DiscreteCell {
    fn packs(&self) -> Vec<&Packed> {
        vec![&self.packed]
    }
}
