//! Cells: the relaxed one of the supernet, and the discrete one of a genotype.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ec_darts_kernels::{Cell, Edge, EdgeOperation, pick};
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
    /// Of each primitive.
    columns: Vec<usize>,
    /// Whether a skip stands behind the candidates of every edge.
    auxiliary_skip: bool,
}

impl Candidates {
    fn new(space: &SearchSpace, auxiliary_skip: bool) -> Self {
        let all = space.primitives().iter().copied().enumerate();
        let (columns, primitives) =
            all.filter(|&(_, primitive)| primitive != Primitive::None).unzip();
        Self { primitives, columns, auxiliary_skip }
    }

    /// An edge of all candidates.
    fn edge(&self, num_channels: usize, stride: usize) -> Edge {
        let skip = self.auxiliary_skip.then_some(Primitive::SkipConnect);
        let operations = self.primitives.iter().copied().chain(skip);
        let operations = operations.filter_map(|each| operation(each, stride, Form::Search));
        edge(operations.collect(), [num_channels; 2], stride, Form::Search.affine())
    }

    fn position(&self, primitive: Primitive) -> Option<usize> {
        self.primitives.iter().position(|&candidate| candidate == primitive)
    }

    /// The operation of a column, unless it is that of `none`.
    fn of_column(&self, column: usize) -> Option<usize> {
        self.columns.iter().position(|&each| each == column)
    }
}

/// Names of an edge's operations below a path.
fn names(path: &str, edge: &Edge, candidates: &Candidates) -> Vec<Name> {
    let dot = if path.is_empty() { "" } else { "." };
    let name = |(number, &operation): (usize, &EdgeOperation)| {
        let place = match number < candidates.primitives.len() {
            true => format!("{path}{dot}operations.{number}"),
            false => format!("{path}{dot}auxiliary_skip"),
        };
        Name::of_candidate(&place, operation)
    };
    edge.operations.iter().enumerate().map(name).collect()
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
        let candidates = Candidates::new(space, false);
        let edge = candidates.edge(num_channels, stride);
        let names = names("", &edge, &candidates);
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
        let places: Vec<Option<usize>> =
            self.candidates.columns.iter().copied().map(Some).collect();
        let mixing = pick(mixing.unsqueeze(), &places);
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
        Self::with_skip(space, plan, false, device)
    }

    /// The cell of a plan, where it is asked for with a skip beside every mixed operation.
    ///
    /// # Source
    /// DARTS-, Eq. (7).
    pub fn with_skip(
        space: &SearchSpace,
        plan: &CellPlan,
        auxiliary_skip: bool,
        device: &Device,
    ) -> Self {
        let (cell, layout) = Self::describe(space, plan, auxiliary_skip);
        Self {
            packed: Packed::new(layout, device),
            cell: Arc::new(cell),
            candidates: Arc::new(Candidates::new(space, auxiliary_skip)),
            topology: *space.topology(),
            kernels: Kernels::default(),
        }
    }

    /// The edges of a plan's cell, and where their values lie.
    pub(crate) fn describe(
        space: &SearchSpace,
        plan: &CellPlan,
        auxiliary_skip: bool,
    ) -> (Cell, Layout) {
        let (topology, candidates) = (*space.topology(), Candidates::new(space, auxiliary_skip));
        let inputs = preprocess(plan, Form::Search);
        let mut names = input_names(&inputs);
        let mut nodes = vec![Vec::new(); topology.num_nodes()];
        for (number, edge) in topology.edges().enumerate() {
            let mixed = candidates.edge(plan.num_channels, topology.stride(plan.kind, edge));
            names.extend(self::names(&format!("edges.{number}"), &mixed, &candidates));
            nodes[edge.to - NUM_INPUTS].push((edge.from, mixed));
        }
        let concat = (NUM_INPUTS..NUM_INPUTS + topology.num_nodes()).collect();
        let mut cells = [Cell { inputs, nodes, concat, fixed_inputs: true }];
        let layout = Layout::place(&mut cells, &names);
        let [cell] = cells;
        (cell, layout)
    }

    /// All operations of all edges.
    ///
    /// # Shapes
    /// - `older`, `newer`: `[batch, plan.inputs, height, width]`
    /// - `mixing`: `[num_edges, num_primitives]`
    /// - output: `[batch, num_nodes * num_channels, ..]`, the nodes joined along the channels
    pub fn forward(&self, older: Tensor<4>, newer: Tensor<4>, mixing: &Tensor<2>) -> Tensor<4> {
        let mixing = self.operation_mixing(mixing, None, 0.0);
        self.forward_operations(older, newer, mixing, None)
    }

    /// Of the mixing weights of a cell those of its operations, or of those on a path, one for each
    /// preprocessing before them: the same for all cells of a kind.
    ///
    /// # Shapes
    /// - `mixing`: `[num_edges, num_primitives]`
    /// - `path`: `[num_edges]`, columns
    /// - output: `[num_operations]`
    pub(super) fn operation_mixing(
        &self,
        mixing: &Tensor<2>,
        path: Option<&[usize]>,
        auxiliary_skip: f64,
    ) -> Tensor<1> {
        let [num_edges, num_primitives] = mixing.dims();
        let place = |edge: usize, column: usize| (Some(edge * num_primitives + column), 1.0);
        let mut places = vec![(None, 1.0); NUM_INPUTS];
        match path {
            None => {
                let skip = self.candidates.auxiliary_skip.then_some((None, auxiliary_skip));
                for edge in 0..num_edges {
                    places
                        .extend(self.candidates.columns.iter().map(|&column| place(edge, column)));
                    places.extend(skip);
                }
            }
            Some(path) => {
                for node in 0..self.topology.num_nodes() {
                    let edges = self.topology.edges_into(node);
                    let runs =
                        edges.filter(|&edge| self.candidates.of_column(path[edge]).is_some());
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
        let picked = pick(mixing.clone(), &places);
        if factors.iter().all(|&factor| factor == 1.0) {
            return picked;
        }
        picked * Tensor::from_data(&factors[..], &mixing.device())
    }

    /// As [`Self::forward`], by the weights of [`Self::operation_mixing`] for the same path.
    pub(super) fn forward_operations(
        &self,
        older: Tensor<4>,
        newer: Tensor<4>,
        mixing: Tensor<1>,
        path: Option<&[usize]>,
    ) -> Tensor<4> {
        let cell = match path {
            None => self.cell.clone(),
            Some(path) => Arc::new(self.along(path)),
        };
        self.kernels.run(&cell, &self.packed, vec![older, newer], mixing, None)
    }

    /// The cell with one operation on each edge, that of a column; an edge of `none` is left out.
    ///
    /// # Shapes
    /// - `path`: `[num_edges]`
    pub(super) fn along(&self, path: &[usize]) -> Cell {
        assert!(!self.candidates.auxiliary_skip, "a path has no skip beside it");
        let mut path = path.iter();
        let mut node = |edges: &Vec<(usize, Edge)>| {
            let columns = edges.iter().zip(&mut path);
            let runs = columns.filter_map(|((from, edge), &column)| {
                let position = self.candidates.of_column(column)?;
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
