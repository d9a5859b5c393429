//! A factor for each image, as in drop path: compared with the same cell in double precision, whose
//! gradients are finite differences.

use super::{Cell, EdgeOperation, Isa, Isas, Memory, Values, Wanted, all, assert_near, backward};
use super::{Tape, edge, forward, numbers, plain};
use crate::cpu::graph::Graph;

/// The values of a cell, and the gradient of its output.
struct Case {
    cell: Cell,
    shape: [usize; 4],
    inputs: Vec<Vec<f32>>,
    parameters: Vec<f32>,
    mixing: Vec<f32>,
    factors: Vec<f32>,
}

/// Values and gradients of a cell: the output; the gradients of inputs, parameters and mixing
/// weights.
type Results = [Vec<f32>; 4];

impl Case {
    fn new(mut cell: Cell, shape: [usize; 4]) -> Self {
        cell.place([0; 2]);
        let graph = graph(&cell, shape);
        let last = graph.links.last().expect("edges");
        let count = shape.iter().product();
        let inputs = (0..cell.inputs.len()).map(|number| numbers(5 + number as u64, count));
        // A third is dropped.
        let factors = numbers(3, last.mixing.end * shape[0]).into_iter().enumerate();
        let factors = factors.map(|(place, each)| if place % 3 == 1 { 0.0 } else { each + 1.2 });
        Self {
            inputs: inputs.collect(),
            parameters: numbers(2, last.parameters.end),
            mixing: numbers(4, last.mixing.end),
            factors: factors.collect(),
            cell,
            shape,
        }
    }

    fn values<'a>(&'a self, factors: Option<&'a [f32]>) -> Values<'a> {
        Values {
            inputs: self.inputs.iter().map(|input| (&input[..], self.shape)).collect(),
            parameters: &self.parameters,
            mixing: &self.mixing,
            factors,
        }
    }

    fn run(&self, isa: Isa, factors: Option<&[f32]>, memory: Memory) -> Results {
        let values = self.values(factors);
        let (output, _, tape) = forward(Isas::all(isa), &self.cell, &values, None, memory);
        let gradient = numbers(1, output.len());
        let wanted =
            Wanted { inputs: vec![true; self.inputs.len()], parameters: true, mixing: true };
        let all = backward(Isas::all(isa), &self.cell, &values, &tape, &gradient, &wanted);
        let inputs = all.inputs.iter().flat_map(|input| input.to_vec()).collect();
        [output.to_vec(), inputs, all.parameters, all.mixing]
    }

    /// The results in double precision.
    fn plain(&self) -> Results {
        let wide = |all: &[f32]| all.iter().copied().map(f64::from).collect::<Vec<_>>();
        let maps = |input: &Vec<f32>| plain::Maps { shape: self.shape, values: wide(input) };
        let values = plain::Values {
            inputs: self.inputs.iter().map(maps).collect(),
            parameters: wide(&self.parameters),
            mixing: wide(&self.mixing),
            factors: wide(&self.factors),
        };
        let output = plain::cell(&self.cell, &values).values;
        let gradient = wide(&numbers(1, output.len()));
        let loss = |values: &plain::Values| -> f64 {
            let output = plain::cell(&self.cell, values).values;
            output.iter().zip(&gradient).map(|(value, gradient)| value * gradient).sum()
        };
        let slopes = |count, of: fn(&mut plain::Values, usize) -> &mut f64| -> Vec<f32> {
            let slope = |place| {
                let moved = |by: f64| {
                    let mut values = values.clone();
                    *of(&mut values, place) += by;
                    loss(&values)
                };
                ((moved(1e-6) - moved(-1e-6)) / 2e-6) as f32
            };
            (0..count).map(slope).collect()
        };
        [
            output.iter().map(|&value| value as f32).collect(),
            slopes(self.inputs.len() * self.inputs[0].len(), |values, place| {
                let len = values.inputs[0].values.len();
                &mut values.inputs[place / len].values[place % len]
            }),
            slopes(self.parameters.len(), |values, place| &mut values.parameters[place]),
            slopes(self.mixing.len(), |values, place| &mut values.mixing[place]),
        ]
    }

    /// Compares with [`Self::plain`], with the gradients of each edge separately.
    fn check(&self) {
        let [output, inputs, parameters, mixing] = self.plain();
        for isa in Isa::available() {
            let what = |what: &str| format!("{what}, {isa:?}, {:?}", self.cell);
            let actual = self.run(isa, Some(&self.factors), Memory::Save);
            assert_near(&actual[0], &output, &what("output"));
            assert_near(&actual[1], &inputs, &what("inputs"));
            for link in graph(&self.cell, self.shape).links {
                let (of, part) = (link.parameters, format!("parameters into {}", link.to));
                assert_near(&actual[2][of.clone()], &parameters[of], &what(&part));
                let (of, part) = (link.mixing, format!("mixing into {}", link.to));
                assert_near(&actual[3][of.clone()], &mixing[of], &what(&part));
            }
        }
    }
}

fn graph(cell: &Cell, shape: [usize; 4]) -> Graph {
    Graph::new(cell, &vec![shape; cell.inputs.len()], Isas::all(Isa::best(shape[1])))
}

/// Every operation of a stride that may share an edge with others.
fn every(stride: usize) -> Vec<EdgeOperation> {
    let mut operations = all(stride);
    operations.push(EdgeOperation::MaxPool { norm: false });
    operations.push(EdgeOperation::AvgPool { norm: false });
    operations.extend((stride == 1).then_some(EdgeOperation::Pointwise));
    operations
}

/// Two inputs, and nodes with common sources. One edge reads each state without a normalization,
/// which would remove the gradient of its scale.
fn cell(channels: usize, affine: bool) -> Cell {
    let edge = |operations, stride| edge(operations, [channels; 2], stride, affine);
    Cell {
        inputs: vec![edge(every(1), 1), edge(vec![EdgeOperation::Pointwise], 1)],
        nodes: vec![
            vec![(0, edge(all(2), 2)), (1, edge(every(2), 2)), (0, edge(every(2), 2))],
            vec![(1, edge(all(2), 2)), (2, edge(every(1), 1))],
        ],
        concat: vec![2, 3],
        fixed_inputs: false,
        parts: 1,
    }
}

#[test]
fn operations_by_themselves_follow_the_definition() {
    // Enough images for a pass to take more than one at a time.
    for (stride, shape) in [(1, [17, 2, 3, 2]), (2, [17, 2, 4, 2])] {
        let mut operations = every(stride);
        operations.extend([false, true].map(|relu| EdgeOperation::Convolution { relu }));
        for operation in operations {
            for affine in [false, true] {
                let operations = vec![operation];
                let edge = edge(operations, [2, 2], stride, affine);
                Case::new(edge.into(), shape).check();
            }
        }
    }
}

#[test]
fn cells_follow_the_definition() {
    for affine in [false, true] {
        Case::new(cell(2, affine), [4, 2, 4, 4]).check();
    }
}

#[test]
fn factors_of_one_change_no_bit() {
    let case = Case::new(cell(6, true), [5, 6, 8, 8]);
    let ones = vec![1.0; case.factors.len()];
    for isa in Isa::available() {
        let expected = case.run(isa, None, Memory::Save);
        assert_eq!(case.run(isa, Some(&ones), Memory::Save), expected, "{isa:?}");
        assert_ne!(case.run(isa, Some(&case.factors), Memory::Save)[0], expected[0], "{isa:?}");
    }
}

/// Neither the maps that are kept nor the threads change a bit; 17 images are chunks of different lengths.
#[test]
fn neither_memory_nor_threads_change_a_bit() {
    let case = Case::new(cell(6, false), [17, 6, 8, 8]);
    let isa = Isa::best(6);
    let run = |threads, memory| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| case.run(isa, Some(&case.factors), memory))
    };
    let expected = run(1, Memory::Save);
    assert_eq!(run(1, Memory::Recompute), expected, "recomputed");
    for threads in [2, 3, 5] {
        assert_eq!(run(threads, Memory::Save), expected, "{threads} threads");
    }
}

/// Factors scale the normalized maps; they do not enter the statistics.
#[test]
fn statistics_are_of_the_images_as_they_are() {
    let isa = Isa::best(6);
    let edge = edge(every(1), [6, 6], 1, true);
    let case = Case::new(edge.into(), [5, 6, 8, 8]);
    let run = |factors, given| {
        forward(Isas::all(isa), &case.cell, &case.values(factors), given, Memory::Recompute)
    };
    let (output, _, tape) = run(Some(&case.factors), None);
    let statistics = |tape: &Tape| tape.edges[0].norms.statistics();
    let [mean, variance] = statistics(&tape);
    assert_eq!(statistics(&run(None, None).2), [mean.clone(), variance.clone()]);
    let (again, ..) = run(Some(&case.factors), Some([&mean, &variance]));
    assert_near(&again, &output, "with the same statistics, given");
}
