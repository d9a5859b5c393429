//! Common parts of search cells and discrete cells: preprocessings, candidates of an edge, names.

use burn::tensor::Tensor;
use ec_darts_kernels::{Cell, Edge, EdgeOperation};
use ec_darts_space::{CellKind, Primitive, SearchSpace};

use super::{CellPlan, Preprocessing};
use crate::ops::{Form, Name, edge, operation};

/// The preprocessings of a cell, the older input's first: each gives an input the cell's channels
/// and size.
pub(super) fn preprocess(plan: &CellPlan, form: Form) -> Vec<Edge> {
    let edges = plan.inputs.iter().map(|&input| {
        let (operation, stride) = match plan.preprocessing(input) {
            Preprocessing::Identity => (EdgeOperation::Identity, 1),
            Preprocessing::Pointwise => (EdgeOperation::Pointwise, 1),
            Preprocessing::FactorizedReduce => (EdgeOperation::FactorizedReduce, 2),
        };
        edge(vec![operation], [input.channels, plan.node.channels], stride, form.affine())
    });
    edges.collect()
}

/// The states that a cell reads, out of the two states before it.
pub(super) fn read_by(cell: &Cell, older: Tensor<4>, newer: Tensor<4>) -> Vec<Tensor<4>> {
    match cell.inputs.len() {
        1 => vec![newer],
        _ => vec![older, newer],
    }
}

/// Names of the preprocessings.
pub(super) fn input_names(inputs: &[Edge]) -> Vec<Name> {
    let variant = |edge: &Edge| match edge.operations[0] {
        EdgeOperation::FactorizedReduce => "Reduce",
        _ => "Keep",
    };
    let inputs = inputs.iter().enumerate();
    inputs.map(|(input, edge)| Name::new(format!("preprocess{input}.{}", variant(edge)))).collect()
}

/// The candidates of an edge: its operations, and their columns in the mixing weights.
#[derive(Clone, Debug)]
pub(super) struct EdgeCandidates {
    pub(super) primitives: Vec<Primitive>,
    /// The column of each primitive.
    pub(super) columns: Vec<usize>,
    /// The index of each primitive in the space without `none`, which is its name.
    numbers: Vec<usize>,
    /// Whether a skip connection follows the candidates of every edge.
    pub(super) auxiliary_skip: bool,
}

impl EdgeCandidates {
    /// The candidates that an edge keeps of a space.
    pub(super) fn new(space: &SearchSpace, kept: &[Primitive], auxiliary_skip: bool) -> Self {
        let all = space.primitives().iter().copied().enumerate();
        let operations = all.filter(|&(_, primitive)| primitive != Primitive::None).enumerate();
        let kept = operations.filter(|(_, (_, primitive))| kept.contains(primitive));
        let mut candidates =
            Self { primitives: vec![], columns: vec![], numbers: vec![], auxiliary_skip };
        for (number, (column, primitive)) in kept {
            candidates.primitives.push(primitive);
            candidates.columns.push(column);
            candidates.numbers.push(number);
        }
        candidates
    }

    /// The candidates of all edges of a kind of cell.
    pub(super) fn of_cell(space: &SearchSpace, kind: CellKind, auxiliary_skip: bool) -> Vec<Self> {
        let of_edge = |edge| Self::new(space, space.candidates(kind, edge), auxiliary_skip);
        (0..space.topology().num_edges()).map(of_edge).collect()
    }

    /// An edge with all candidates.
    pub(super) fn edge(&self, num_channels: usize, stride: usize, form: Form) -> Edge {
        let skip = self.auxiliary_skip.then_some(Primitive::SkipConnect);
        let operations = self.primitives.iter().copied().chain(skip);
        let operations = operations.filter_map(|each| operation(each, stride, form));
        edge(operations.collect(), [num_channels; 2], stride, form.affine())
    }

    pub(super) fn position(&self, primitive: Primitive) -> Option<usize> {
        self.primitives.iter().position(|&candidate| candidate == primitive)
    }

    /// The operation of a column; none for the column of `none`.
    pub(super) fn of_column(&self, column: usize) -> Option<usize> {
        self.columns.iter().position(|&each| each == column)
    }
}

/// Names of an edge's operations below a path.
pub(super) fn names(path: &str, edge: &Edge, candidates: &EdgeCandidates) -> Vec<Name> {
    let dot = if path.is_empty() { "" } else { "." };
    let name = |(number, &operation): (usize, &EdgeOperation)| {
        let place = match candidates.numbers.get(number) {
            Some(number) => format!("{path}{dot}operations.{number}"),
            None => format!("{path}{dot}auxiliary_skip"),
        };
        Name::of_candidate(&place, operation)
    };
    edge.operations.iter().enumerate().map(name).collect()
}

/// One operation of an edge, at its place.
pub(super) fn candidate(edge: &Edge, position: usize) -> Edge {
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
