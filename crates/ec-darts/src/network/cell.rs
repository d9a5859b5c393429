//! Cells: the relaxed one of the supernet, and the discrete one of a genotype.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use ec_darts_space::{CellGenotype, CellTopology, NUM_INPUTS, Pick, Primitive, SearchSpace};

use super::CellPlan;
use crate::ops::{
    CellParts, DropPath, EdgeParts, FactorizedReduce, Form, Kernels, Memory, Operation,
    ReluConvNorm,
};

/// Brings one input of a cell to the cell's channels and size.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "handles of tensors; a few dozen per network")]
pub enum Preprocess {
    /// The input has the cell's size.
    Keep(ReluConvNorm),
    /// The input is twice as large: it lies before a reduction cell.
    Reduce(FactorizedReduce),
}

impl Preprocess {
    /// Both preprocessings of a cell, the older input's first.
    fn pair(plan: &CellPlan, form: Form, device: &Device) -> [Self; 2] {
        let [older, newer] = plan.inputs.map(|inputs| [inputs, plan.num_channels]);
        let keep = |channels| Self::Keep(ReluConvNorm::new(channels, form.affine(), device));
        let first = if plan.after_reduction {
            Self::Reduce(FactorizedReduce::new(older, form.affine(), device))
        } else {
            keep(older)
        };
        [first, keep(newer)]
    }

    /// Composed of Burn's operations.
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Keep(conv) => conv.forward(input),
            Self::Reduce(reduce) => reduce.forward(input),
        }
    }

    /// Channels of the cell.
    fn num_channels(&self) -> usize {
        match self {
            Self::Keep(conv) => conv.conv.weight.dims()[0],
            Self::Reduce(reduce) => 2 * reduce.conv1.weight.dims()[0],
        }
    }

    /// For the fused kernels.
    fn parts(&self) -> EdgeParts<'_> {
        EdgeParts::of(|parts| match self {
            Self::Keep(conv) => parts.pointwise(conv),
            Self::Reduce(reduce) => parts.reduce(reduce),
        })
    }
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
    /// One per primitive other than `none`, in the order of the search space.
    pub operations: Vec<Operation>,
    /// The primitive of each operation.
    #[module(skip)]
    pub primitives: Vec<Primitive>,
    /// The column of each operation in the mixing weights.
    #[module(skip)]
    columns: Vec<usize>,
}

impl MixedOperation {
    /// The candidates of the search space at this width and stride.
    pub fn new(space: &SearchSpace, num_channels: usize, stride: usize, device: &Device) -> Self {
        let mut mixed =
            Self { operations: Vec::new(), primitives: Vec::new(), columns: Vec::new() };
        for (column, &primitive) in space.primitives().iter().enumerate() {
            if let Some(operation) =
                Operation::new(primitive, num_channels, stride, Form::Search, device)
            {
                mixed.operations.push(operation);
                mixed.primitives.push(primitive);
                mixed.columns.push(column);
            }
        }
        mixed
    }

    /// # Shapes
    /// - `input`: `[batch, num_channels, height, width]`
    /// - `mixing`: `[num_primitives]`, the edge's row of the cell's mixing weights
    /// - output: `[batch, num_channels, ceil(height / stride), ceil(width / stride)]`
    pub fn forward(&self, input: Tensor<4>, mixing: Tensor<1>, kernels: Kernels) -> Tensor<4> {
        let columns: Vec<Tensor<1>> = mixing.split(1, 0);
        let weights = self.columns.iter().map(|&column| columns[column].clone()).collect();
        kernels.mix(&self.operations, input, Tensor::cat(weights, 0))
    }

    fn parts(&self) -> EdgeParts<'_> {
        EdgeParts::of(|parts| self.operations.iter().for_each(|each| parts.operation(each)))
    }

    /// The operation of a primitive, if it is one of the candidates.
    pub fn operation(&self, primitive: Primitive) -> Option<&Operation> {
        let position = self.primitives.iter().position(|&candidate| candidate == primitive)?;
        Some(&self.operations[position])
    }
}

/// A cell of the supernet: every edge holds every candidate.
#[derive(Module, Debug)]
pub struct SearchCell {
    /// Of the output of the cell before the previous one.
    pub preprocess0: Preprocess,
    /// Of the output of the previous cell.
    pub preprocess1: Preprocess,
    /// One mixed operation per edge, ordered by target node.
    pub edges: Vec<MixedOperation>,
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
        let topology = *space.topology();
        let [preprocess0, preprocess1] = Preprocess::pair(plan, Form::Search, device);
        let edges = topology
            .edges()
            .map(|edge| {
                let stride = topology.stride(plan.kind, edge);
                MixedOperation::new(space, plan.num_channels, stride, device)
            })
            .collect();
        Self { preprocess0, preprocess1, edges, topology, kernels: Kernels::default() }
    }

    /// # Shapes
    /// - `older`, `newer`: `[batch, plan.inputs, height, width]`
    /// - `mixing`: `[num_edges, num_primitives]`
    /// - output: `[batch, num_nodes * num_channels, ..]`, the nodes joined along the channels
    pub fn forward(&self, older: Tensor<4>, newer: Tensor<4>, mixing: &Tensor<2>) -> Tensor<4> {
        if let Some(memory) = self.kernels.fused(&older.device()) {
            return self.fused([older, newer], mixing, memory);
        }
        let rows: Vec<Tensor<1>> =
            mixing.clone().split(1, 0).into_iter().map(|row| row.squeeze_dim(0)).collect();
        let mut states = self.inputs(older, newer);
        for node in 0..self.topology.num_nodes() {
            let edges = self.topology.edges_into(node);
            let sum = edges
                .zip(&states)
                .map(|(edge, state)| {
                    let row = rows[edge].clone();
                    self.edges[edge].forward(state.clone(), row, self.kernels)
                })
                .reduce(|sum, term| sum + term)
                .expect("every node has incoming edges");
            states.push(sum);
        }
        Tensor::cat(states.split_off(NUM_INPUTS), 1)
    }

    /// The whole cell as one operation.
    fn fused(&self, inputs: [Tensor<4>; 2], mixing: &Tensor<2>, memory: Memory) -> Tensor<4> {
        let (num_nodes, device) = (self.topology.num_nodes(), inputs[0].device());
        let concat = (NUM_INPUTS..NUM_INPUTS + num_nodes).collect();
        let mut parts = CellParts::new(self.preprocess1.num_channels(), concat);
        parts.input(self.preprocess0.parts(), &inputs[0]);
        parts.input(self.preprocess1.parts(), &inputs[1]);
        // Of the matrix of mixing weights, those that belong to an operation.
        let [_, num_primitives] = mixing.dims();
        let mut places: Vec<i32> = Vec::new();
        for node in 0..num_nodes {
            let edges = self.topology.edges_into(node).enumerate().map(|(state, edge)| {
                let columns = self.edges[edge].columns.iter();
                places.extend(columns.map(|column| (edge * num_primitives + column) as i32));
                (state, self.edges[edge].parts())
            });
            let edges = edges.collect();
            parts.node(edges);
        }
        let places = Tensor::<1, Int>::from_data(&places[..], &device);
        let mixing = mixing.clone().flatten::<1>(0, 1).select(0, places);
        let ones = Tensor::ones([NUM_INPUTS], &device);
        parts.forward(inputs.into(), Tensor::cat(vec![ones, mixing], 0), memory)
    }

    fn inputs(&self, older: Tensor<4>, newer: Tensor<4>) -> Vec<Tensor<4>> {
        vec![self.preprocess0.forward(older), self.preprocess1.forward(newer)]
    }

    /// The same cell restricted to the picks of a genotype; parameters are shared, not copied.
    ///
    /// # Panics
    /// Where a pick is no candidate of its edge, or the genotype has another number of nodes.
    pub fn restrict(&self, genotype: &CellGenotype) -> DiscreteCell {
        assert_eq!(genotype.nodes.len(), self.topology.num_nodes(), "a genotype of these cells");
        let pick = |node: usize, pick: &Pick| {
            let edge = self.topology.edge_number(pick.from, node);
            let operation = self.edges[edge].operation(pick.primitive);
            operation.expect("a picked primitive is one of the candidates").clone()
        };
        let operations = genotype.nodes.iter().enumerate();
        DiscreteCell {
            preprocess0: self.preprocess0.clone(),
            preprocess1: self.preprocess1.clone(),
            operations: operations
                .flat_map(|(node, picks)| picks.iter().map(move |p| pick(node, p)))
                .collect(),
            genotype: genotype.clone(),
            kernels: self.kernels,
        }
    }
}

/// A cell of one genotype: only the kept operations, each with weight one.
#[derive(Module, Debug)]
pub struct DiscreteCell {
    /// Of the output of the cell before the previous one.
    pub preprocess0: Preprocess,
    /// Of the output of the previous cell.
    pub preprocess1: Preprocess,
    /// The picked operations, in the order of the genotype.
    pub operations: Vec<Operation>,
    /// Which state each operation reads, and which states are joined.
    #[module(skip)]
    pub genotype: CellGenotype,
    /// How the operations are computed.
    #[module(skip)]
    pub kernels: Kernels,
}

impl DiscreteCell {
    /// A cell with weights of its own, in the form of the network that is retrained.
    pub fn new(genotype: &CellGenotype, plan: &CellPlan, device: &Device) -> Self {
        let [preprocess0, preprocess1] = Preprocess::pair(plan, Form::Retrain, device);
        let operation = |pick: &Pick| {
            let reduces = plan.kind == ec_darts_space::CellKind::Reduction;
            let stride = if reduces && pick.from < NUM_INPUTS { 2 } else { 1 };
            Operation::new(pick.primitive, plan.num_channels, stride, Form::Retrain, device)
                .expect("a genotype picks no `none`")
        };
        Self {
            preprocess0,
            preprocess1,
            operations: genotype.nodes.iter().flatten().map(operation).collect(),
            genotype: genotype.clone(),
            kernels: Kernels::default(),
        }
    }

    /// `drop_path` acts on every operation but the identity; with it the operations of a cell are
    /// fused one by one.
    ///
    /// # Shapes
    /// - `older`, `newer`: `[batch, plan.inputs, height, width]`
    /// - output: `[batch, concat.len() * num_channels, ..]`
    pub fn forward(
        &self,
        older: Tensor<4>,
        newer: Tensor<4>,
        mut drop_path: Option<&mut DropPath>,
    ) -> Tensor<4> {
        if let (None, Some(memory)) = (&drop_path, self.kernels.fused(&older.device())) {
            return self.fused([older, newer], memory);
        }
        let mut states = self.inputs(older, newer);
        let mut operations = self.operations.iter();
        for picks in &self.genotype.nodes {
            let sum = picks
                .iter()
                .zip(operations.by_ref())
                .map(|(pick, operation)| {
                    let output = self.kernels.operation(operation, states[pick.from].clone());
                    match &mut drop_path {
                        Some(drop_path) if !matches!(operation, Operation::Identity(_)) => {
                            drop_path.apply(output)
                        }
                        _ => output,
                    }
                })
                .reduce(|sum, term| sum + term)
                .expect("every node keeps an edge");
            states.push(sum);
        }
        let joined = self.genotype.concat.iter().map(|&state| states[state].clone());
        Tensor::cat(joined.collect(), 1)
    }

    /// The whole cell as one operation.
    fn fused(&self, inputs: [Tensor<4>; 2], memory: Memory) -> Tensor<4> {
        let concat = self.genotype.concat.clone();
        let mut parts = CellParts::new(self.preprocess1.num_channels(), concat);
        parts.input(self.preprocess0.parts(), &inputs[0]);
        parts.input(self.preprocess1.parts(), &inputs[1]);
        let mut operations = self.operations.iter();
        for picks in &self.genotype.nodes {
            let picked = picks.iter().zip(operations.by_ref());
            let edge = |operation| EdgeParts::of(|parts| parts.operation(operation));
            parts.node(picked.map(|(pick, operation)| (pick.from, edge(operation))).collect());
        }
        let ones = Tensor::ones([NUM_INPUTS + self.operations.len()], &inputs[0].device());
        parts.forward(inputs.into(), ones, memory)
    }

    /// Both inputs at the cell's width and size.
    fn inputs(&self, older: Tensor<4>, newer: Tensor<4>) -> Vec<Tensor<4>> {
        let input = |preprocess: &Preprocess, input| {
            self.kernels.edge(|| preprocess.parts(), |input| preprocess.forward(input), input)
        };
        vec![input(&self.preprocess0, older), input(&self.preprocess1, newer)]
    }
}
