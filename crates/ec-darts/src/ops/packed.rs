//! The weights and running statistics of a cell, each in one tensor, and the names of their parts.
//!
//! Entry points: [`Packed::new`], [`Packed::part`]. Invariant: a layout has the name, shape and
//! place of every part. Files have parts under their names; all other code works on whole tensors.

use std::ops::Range;
use std::sync::Arc;

use burn::module::{Flag, Module, Param, RunningState};
use burn::tensor::{Device, Tensor};
use ec_darts_kernels::{Cell, Edge, EdgeOperation};

/// Weights and running statistics of one or more cells, each in one tensor.
#[derive(Module, Debug)]
pub struct Packed {
    /// Weights of convolutions, scales and shifts, `[layout.weights.len]`.
    pub weights: Param<Tensor<1>>,
    /// Running means, `[layout.statistics.len]`.
    pub running_mean: RunningState<Tensor<1>>,
    /// Running unbiased variances, `[layout.statistics.len]`.
    pub running_var: RunningState<Tensor<1>>,
    /// Whether a pass on an autodiff device normalizes by the statistics of its batch and updates
    /// the running statistics; [`Module::freeze`] switches this off.
    pub training: Param<Flag>,
    /// The places of the parts.
    #[module(skip)]
    pub layout: Arc<Layout>,
}

impl Packed {
    /// Packed tensors with weights of zero, scales of one and shifts of zero; running means 0 and
    /// variances 1.
    pub fn new(layout: Layout, device: &Device) -> Self {
        let mut weights = vec![0.0_f32; layout.weights.len];
        for part in layout.weights.parts.iter().filter(|part| part.role == Role::Scale) {
            weights[part.range()].fill(1.0);
        }
        let num_statistics = layout.statistics.len;
        Self {
            weights: Param::from_data(&weights[..], device),
            running_mean: RunningState::new(Tensor::zeros([num_statistics], device)),
            running_var: RunningState::new(Tensor::ones([num_statistics], device)),
            training: Param::from_bool(true),
            layout: Arc::new(layout),
        }
    }

    /// The same tensors, of which `layout` describes a part; no value is copied.
    pub fn part(&self, layout: Layout) -> Self {
        Self { layout: Arc::new(layout), ..self.clone() }
    }
}

/// A module with packed tensors in it.
pub trait Packs: Module {
    /// The packed tensors, in the order in which a visitor meets them.
    fn packs(&self) -> Vec<&Packed>;
}

impl Packs for burn::nn::Linear {
    fn packs(&self) -> Vec<&Packed> {
        Vec::new()
    }
}

/// The role of a part of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Weights of a convolution, `[out, in, height, width]`.
    Convolution,
    /// Scale of a batch normalization.
    Scale,
    /// Shift of a batch normalization.
    Shift,
    /// A running statistic of a batch normalization.
    Statistic,
}

/// One named part of a packed tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The name after the path of the module with the packed tensors.
    pub name: String,
    /// The role of the part.
    pub role: Role,
    /// The shape of the part alone.
    pub shape: Vec<usize>,
    /// The index of its first value.
    pub start: usize,
}

impl Part {
    /// The range of the part.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.shape.iter().product::<usize>()
    }
}

/// The parts of a packed tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The parts in the order of the cell's edges.
    pub parts: Vec<Part>,
    /// Number of values of the packed tensor.
    pub len: usize,
    /// The covered ranges, where the parts do not cover all values: ranges in ascending order, none
    /// of them empty and no two of them adjacent.
    pub covered: Option<Vec<Range<usize>>>,
}

impl Parts {
    fn new(parts: Vec<Part>, len: usize) -> Self {
        let mut ranges: Vec<Range<usize>> = parts.iter().map(Part::range).collect();
        ranges.retain(|range| !range.is_empty());
        ranges.sort_by_key(|range| range.start);
        let mut covered: Vec<Range<usize>> = Vec::new();
        for range in ranges {
            match covered.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => covered.push(range),
            }
        }
        let is_whole = covered.len() == 1 && covered[0] == (0..len);
        Self { parts, len, covered: (!is_whole).then_some(covered) }
    }

    /// The index of a place of the packed tensor among the covered values alone.
    pub fn among_covered(&self, place: usize) -> usize {
        let Some(covered) = &self.covered else { return place };
        let before = covered.iter().filter(|range| range.start <= place);
        before.map(|range| place.min(range.end) - range.start).sum()
    }

    /// Number of values that the parts cover.
    pub fn num_covered(&self) -> usize {
        let all = |covered: &Vec<Range<usize>>| covered.iter().map(Range::len).sum();
        self.covered.as_ref().map_or(self.len, all)
    }
}

/// The places of the parts in the packed tensors of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The parts of the weights.
    pub weights: Parts,
    /// The parts of the running means; those of the variances are the same. The names are without
    /// `running_mean` and `running_var`.
    pub statistics: Parts,
}

/// The names of the parts of one operation, `prefix.part` and `suffix`; for example `Triple.conv`
/// and `2`.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    prefix: String,
    suffix: &'static str,
}

impl Name {
    /// A name without a suffix.
    pub(crate) fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), suffix: "" }
    }

    pub(crate) fn with_suffix(self, suffix: &'static str) -> Self {
        Self { suffix, ..self }
    }

    /// The name of a candidate: the path of its place, and the variant in files.
    pub(crate) fn of_candidate(path: &str, operation: EdgeOperation) -> Self {
        let variant = match operation {
            EdgeOperation::Identity => "Identity",
            EdgeOperation::MaxPool { .. } => "MaxPool",
            EdgeOperation::AvgPool { .. } => "AvgPool",
            EdgeOperation::FactorizedReduce => "FactorizedReduce",
            EdgeOperation::Separable { repeats: 1, .. } => "DilConv",
            EdgeOperation::Separable { .. } => "SepConv",
            EdgeOperation::Pointwise | EdgeOperation::Convolution { .. } => "NorConv",
        };
        Self::new(if path.is_empty() { variant.into() } else { format!("{path}.{variant}") })
    }

    fn part(&self, part: &str) -> String {
        format!("{}.{part}{}", self.prefix, self.suffix)
    }
}

/// Names of the convolutions of each block of an operation, and of the normalization after it.
fn block_names(operation: EdgeOperation) -> Vec<(Vec<String>, String)> {
    let block = |convolutions: &[&str]| {
        (convolutions.iter().map(ToString::to_string).collect(), "bn".to_string())
    };
    match operation {
        EdgeOperation::Identity => vec![],
        EdgeOperation::MaxPool { norm } | EdgeOperation::AvgPool { norm } => {
            if norm {
                vec![block(&[])]
            } else {
                vec![]
            }
        }
        EdgeOperation::Pointwise | EdgeOperation::Convolution { .. } => vec![block(&["conv"])],
        EdgeOperation::FactorizedReduce => vec![block(&["conv1", "conv2"])],
        EdgeOperation::Separable { repeats: 1, .. } => vec![block(&["depthwise", "pointwise"])],
        EdgeOperation::Separable { repeats, .. } => {
            let numbered = |number: usize| {
                let names = ["depthwise", "pointwise"].map(|part| format!("{number}.{part}"));
                (names.to_vec(), format!("{number}.bn"))
            };
            (0..repeats).map(numbered).collect()
        }
    }
}

impl Layout {
    /// Gives the edges of cells places one after the other, in the order of their targets, and
    /// names the parts; `names` has one name per operation.
    pub(crate) fn place(cells: &mut [Cell], names: &[Name]) -> Self {
        let ends = cells.iter_mut().fold([0; 2], |start, cell| cell.place(start));
        // Some devices have no empty tensors.
        Self::of(cells.iter().flat_map(Cell::edges), names, ends.map(|end| end.max(1)))
    }

    /// The parts of edges whose places in packed tensors of these lengths are set.
    pub(crate) fn of<'a>(
        edges: impl Iterator<Item = &'a Edge>,
        names: &[Name],
        [num_weights, num_statistics]: [usize; 2],
    ) -> Self {
        let (mut weights, mut statistics) = (Vec::new(), Vec::new());
        let mut names = names.iter();
        for edge in edges {
            let [mut weight, mut statistic] = [edge.parameters, edge.statistics];
            let mut add = |name: String, role, shape: &[usize]| {
                let part = Part { name, role, shape: shape.to_vec(), start: weight };
                weight = part.range().end;
                weights.push(part);
            };
            for &operation in &edge.operations {
                let name = names.next().expect("a name for each operation");
                let blocks = operation.blocks(edge.channels).into_iter();
                for (shapes, (convolutions, norm)) in blocks.zip(block_names(operation)) {
                    for (shape, part) in shapes.iter().zip(convolutions) {
                        add(format!("{}.weight", name.part(&part)), Role::Convolution, shape);
                    }
                    let (norm, channels) = (name.part(&norm), [edge.channels[1]]);
                    if edge.affine {
                        add(format!("{norm}.gamma"), Role::Scale, &channels);
                        add(format!("{norm}.beta"), Role::Shift, &channels);
                    }
                    let shape = channels.to_vec();
                    let part = Part { name: norm, role: Role::Statistic, shape, start: statistic };
                    statistic = part.range().end;
                    statistics.push(part);
                }
            }
        }
        Self {
            weights: Parts::new(weights, num_weights),
            statistics: Parts::new(statistics, num_statistics),
        }
    }
}
