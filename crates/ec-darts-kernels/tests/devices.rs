//! The fused kernels of every device of this build and machine, compared with the plain composition
//! on the CPU: value, every gradient, running statistics, evaluation; and the same bits every time.
#![cfg(all(feature = "flex", feature = "cube"))]

mod shared;

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use ec_darts_kernels::{
    AdamNumbers, Cell, Edge, EdgeOperation as Op, Memory, SgdNumbers, adam, cell, cell_given, norm,
    pick, reference, serves, sgd, softmax_groups,
};

use shared::{numbers, tensor, values};

/// A GPU of this machine, or the software driver; where there is none, the reason is printed past
/// the capture of output.
fn gpu() -> Option<Device> {
    use burn::tensor::DeviceType;
    let kinds = [
        #[cfg(feature = "cuda")]
        DeviceType::Cuda,
        #[cfg(feature = "rocm")]
        DeviceType::Rocm,
        #[cfg(feature = "metal")]
        DeviceType::Metal,
        #[cfg(feature = "vulkan")]
        DeviceType::Vulkan,
        #[cfg(feature = "wgpu")]
        DeviceType::Wgpu,
    ];
    for kind in kinds {
        let probe = move || {
            let device = Device::enumerate(kind).into_iter().next()?;
            Tensor::<1>::ones([2], &device).sum().try_into_data().ok().map(|_| device)
        };
        if let Ok(Some(device)) = std::panic::catch_unwind(probe) {
            return Some(device);
        }
    }
    use std::io::Write;
    let _ = writeln!(
        std::io::stderr(),
        "skipped on wgpu: no GPU and no software driver of one answers"
    );
    None
}

/// A cell, its inputs, and the places of its values.
#[derive(Clone)]
struct Case {
    cell: Cell,
    shapes: Vec<[usize; 4]>,
    factors: bool,
    /// Whether inputs are rounded, so that windows have equal values.
    ties: bool,
    num_parameters: usize,
    num_statistics: usize,
}

fn edge(operations: &[Op], channels: [usize; 2], stride: usize, affine: bool) -> Edge {
    Edge { operations: operations.to_vec(), channels, stride, affine, parameters: 0, statistics: 0 }
}

impl Case {
    /// Packs the edges one after the other, with `gap` unused values before each.
    fn new(mut cell: Cell, shapes: Vec<[usize; 4]>, gap: usize) -> Self {
        let channels = cell.inputs[0].channels[1];
        let (mut parameters, mut statistics) = (gap, gap);
        let nodes = cell.nodes.iter_mut().flatten().map(|(_, edge)| edge);
        for edge in cell.inputs.iter_mut().chain(nodes) {
            (edge.parameters, edge.statistics) = (parameters, statistics);
            parameters += edge.num_parameters() + gap;
            statistics += edge.num_statistics() + gap;
        }
        Self {
            cell,
            shapes,
            factors: false,
            ties: false,
            num_parameters: parameters,
            num_statistics: statistics.max(channels),
        }
    }

    fn with_factors(mut self) -> Self {
        self.factors = true;
        self
    }

    fn with_ties(mut self) -> Self {
        self.ties = true;
        self
    }

    fn run(&self, device: &Device, seed: u64, fused: Option<Memory>) -> Vec<(String, Vec<f32>)> {
        let device = device.clone().autodiff();
        let inputs: Vec<Tensor<4>> = (0..self.shapes.len())
            .map(|number| tensor(seed + number as u64, self.shapes[number], &device))
            .map(|input: Tensor<4>| if self.ties { input.round() } else { input })
            .map(|input| input.detach().require_grad())
            .collect();
        let parameters = (tensor(seed + 10, [self.num_parameters], &device) * 0.3).require_grad();
        let parameters = parameters.detach().require_grad();
        let mixing = tensor(seed + 11, [self.cell.num_mixing_weights()], &device).require_grad();
        let running = [
            tensor(seed + 12, [self.num_statistics], &device),
            tensor(seed + 13, [self.num_statistics], &device).abs() + 0.5,
        ];
        let batch = self.shapes[0][0];
        let factors = self.factors.then(|| {
            let all = numbers(seed + 14, self.cell.num_mixing_weights() * batch);
            let all = all.into_iter().map(|x| if x < -1.0 { 0.0 } else { 1.25 });
            Arc::new(all.collect::<Vec<f32>>())
        });
        let description = Arc::new(self.cell.clone());
        let (tensors, weights, mix) = (inputs.clone(), parameters.clone(), mixing.clone());
        let out = match fused {
            Some(memory) => {
                assert!(serves(&device, &description), "{description:?}");
                cell(tensors, weights, mix, running.clone(), factors, description.clone(), memory)
            }
            None => reference::cell(tensors, weights, mix, running.clone(), factors, &description),
        };
        let random = tensor(seed + 20, out.output.dims(), &device);
        let gradients = (out.output.clone() * random).sum().backward();
        let mut all = vec![("output".to_string(), values(out.output))];
        for (number, input) in inputs.iter().enumerate() {
            let gradient = input.grad(&gradients).expect("tracked");
            all.push((format!("gradient of input {number}"), values(gradient)));
        }
        all.push(("gradient of mixing".into(), values(mixing.grad(&gradients).expect("tracked"))));
        let of_parameters = parameters.grad(&gradients);
        all.push(("gradient of parameters".into(), of_parameters.map_or(vec![], values)));
        let [mean, variance] = out.running;
        all.push(("running mean".into(), values(mean)));
        all.push(("running variance".into(), values(variance)));
        let inputs = inputs.into_iter().map(Tensor::inner).collect();
        let (parameters, mixing) = (parameters.inner(), mixing.inner());
        let running = running.map(Tensor::inner);
        let evaluated = match fused {
            Some(_) => cell_given(inputs, parameters, mixing, running, description),
            None => reference::cell_given(inputs, parameters, mixing, running, &description),
        };
        all.push(("evaluation".into(), values(evaluated)));
        all
    }

    /// The first difference beyond rounding from the plain composition on the CPU.
    fn difference(&self, device: &Device, seed: u64) -> Option<String> {
        let expected = self.run(&Device::flex(), seed, None);
        // A single edge has no maps to compute again.
        let policies = match self.cell.nodes.is_empty() {
            true => &[Memory::Save][..],
            false => &[Memory::Save, Memory::Recompute],
        };
        for &memory in policies {
            let actual = self.run(device, seed, Some(memory));
            for ((name, actual), (_, expected)) in actual.iter().zip(&expected) {
                assert_eq!(actual.len(), expected.len(), "values of {name}");
                if expected.is_empty() {
                    continue;
                }
                let square = |x: f64| x * x;
                let norm: f64 = expected.iter().map(|&e| square(e.into())).sum::<f64>().sqrt();
                let miss = actual.iter().zip(expected);
                let miss: f64 = miss.map(|(&a, &e)| square(f64::from(a) - f64::from(e))).sum();
                // The error of a sum that cancels is that of a sum of as many values.
                let usual = 1e-2 * (expected.len() as f64).sqrt();
                let miss = miss.sqrt() / norm.max(usual);
                if miss.is_nan() || miss > 3e-5 {
                    let first = (0..actual.len())
                        .max_by(|&i, &j| {
                            let off = |i: usize| (actual[i] - expected[i]).abs();
                            off(i).total_cmp(&off(j))
                        })
                        .unwrap_or(0);
                    return Some(format!(
                        "{memory:?}: {name} is off by {miss:.2e} of its norm, most at {first} of {}: {} not {}",
                        actual.len(),
                        actual[first],
                        expected[first]
                    ));
                }
            }
        }
        None
    }

    /// Expects one of three draws to agree: in the others an activation may lie within rounding of
    /// its ReLU's kink.
    fn check(&self, title: &str, device: &Device) {
        let differences: Vec<String> =
            (0..3).map_while(|draw| self.difference(device, 100 * draw + 1)).collect();
        assert!(differences.len() < 3, "{title}: {differences:#?}");
    }
}

const SEPARABLE: [Op; 4] = [
    Op::Separable { kernel: 3, dilation: 1, repeats: 2 },
    Op::Separable { kernel: 5, dilation: 1, repeats: 2 },
    Op::Separable { kernel: 3, dilation: 2, repeats: 1 },
    Op::Separable { kernel: 5, dilation: 2, repeats: 1 },
];

/// All candidates of an edge of the search space.
fn candidates(stride: usize, norm: bool) -> Vec<Op> {
    let mut all = vec![Op::MaxPool { norm }, Op::AvgPool { norm }];
    all.push(if stride == 1 { Op::Identity } else { Op::FactorizedReduce });
    all.extend(SEPARABLE);
    all
}

/// A cell of `num_nodes` with all candidates on all edges.
fn whole(
    batch: usize,
    channels: usize,
    [height, width]: [usize; 2],
    stride: usize,
    num_nodes: usize,
    affine: bool,
) -> Case {
    let before = [channels + 1, 2 * channels];
    let inputs = before.map(|from| edge(&[Op::Pointwise], [from, channels], 1, affine));
    let nodes = (0..num_nodes).map(|node| {
        let edges = (0..2 + node).map(|state| {
            let stride = if state < 2 { stride } else { 1 };
            (state, edge(&candidates(stride, !affine), [channels; 2], stride, affine))
        });
        edges.collect()
    });
    let cell = Cell {
        inputs: inputs.into(),
        nodes: nodes.collect(),
        concat: (2..2 + num_nodes).collect(),
        fixed_inputs: false,
        parts: 1,
    };
    Case::new(cell, before.map(|from| [batch, from, height, width]).into(), 0)
}

fn check_all(device: &Device) {
    for op in candidates(1, true).into_iter().chain([Op::AvgPool { norm: false }]) {
        let single = edge(&[op], [5; 2], 1, false);
        Case::new(single.into(), vec![[2, 5, 5, 6]], 0).check(&format!("{op:?}"), device);
    }
    for op in candidates(2, true) {
        let single = edge(&[op], [6; 2], 2, true);
        Case::new(single.into(), vec![[3, 6, 8, 6]], 3).check(&format!("{op:?}, halved"), device);
    }
    for (channels, stride, relu) in [([3, 7], 1, false), ([4, 6], 2, true)] {
        let single = edge(&[Op::Convolution { relu }], channels, stride, true);
        let case = Case::new(single.into(), vec![[2, channels[0], 7, 9]], 0);
        case.check("a convolution", device);
    }
    whole(2, 4, [7, 7], 1, 2, false).check("a cell", device);
    whole(3, 6, [8, 10], 2, 2, true).with_factors().check("a cell that reduces", device);
    whole(1, 4, [8, 6], 1, 1, false).check("a batch of one", device);
    for op in [Op::MaxPool { norm: true }, Op::MaxPool { norm: false }] {
        for stride in [1, 2] {
            let single = edge(&[op], [3; 2], stride, false);
            let case = Case::new(single.into(), vec![[2, 3, 7, 5]], 0).with_ties();
            case.check(&format!("{op:?} of equal values, stride {stride}"), device);
        }
    }
    // Beyond the search spaces: other strides, dilations and numbers of channels.
    let separable = |dilation, repeats| Op::Separable { kernel: 3, dilation, repeats };
    for (op, channels, stride) in [
        (separable(1, 1), 4, 3),
        (separable(3, 1), 4, 1),
        (separable(3, 2), 4, 1),
        (separable(1, 2), 136, 1),
        (Op::Convolution { relu: true }, 4, 3),
    ] {
        let single = edge(&[op], [channels; 2], stride, true);
        let case = Case::new(single.into(), vec![[2, channels, 7, 6]], 0);
        case.check(&format!("{op:?}, {channels} channels, stride {stride}"), device);
    }
    // Several tiles of pools, below each other, the last one in part.
    whole(2, 4, [18, 21], 1, 1, true).check("several tiles of pools", device);
    whole(1, 4, [34, 30], 2, 1, true).check("several tiles of pools, halved", device);
    // Several tiles of windows: below each other, side by side, and both, also in the parts of a source at stride 2.
    for [height, width] in [[37, 32], [9, 37], [35, 37], [40, 64]] {
        let single = edge(&candidates(1, true), [2; 2], 1, false);
        let case = Case::new(single.into(), vec![[2, 2, height, width]], 0);
        case.check(&format!("several tiles of {height}x{width}"), device);
    }
    let single = edge(&candidates(2, true), [2; 2], 2, true);
    Case::new(single.into(), vec![[1, 2, 76, 70]], 0).check("several tiles, halved", device);
    whole(3, 3, [1, 1], 1, 1, false).check("a single pixel", device);
    // Several chunks of images, the last one in part.
    let windows = [separable(1, 2), Op::Separable { kernel: 5, dilation: 2, repeats: 1 }];
    let single = edge(&windows, [2; 2], 1, false);
    Case::new(single.into(), vec![[9, 2, 30, 32]], 0).check("several chunks", device);
    // A window from a tile before and after a convolution without.
    let mixed = [separable(1, 1), Op::Pointwise, separable(1, 2), separable(3, 1), separable(1, 1)];
    let single = edge(&mixed, [4; 2], 1, true);
    Case::new(single.into(), vec![[3, 4, 16, 16]], 0).check("windows of both kinds", device);
    // Enough channels for several groups of units.
    whole(2, 20, [8, 8], 1, 1, true).check("20 channels", device);
    // Rows of whole quads, also in the parts at stride 2; one tile, and two side by side.
    whole(2, 4, [8, 16], 2, 2, false).with_factors().check("halved whole quads", device);
    let single = edge(&candidates(1, true), [3; 2], 1, true);
    Case::new(single.into(), vec![[2, 3, 9, 64]], 0).check("two tiles of whole quads", device);
    let single = edge(&candidates(2, true), [2; 2], 2, true);
    Case::new(single.into(), vec![[3, 2, 10, 128]], 0).check("two tiles, halved", device);
}

/// Cells beyond those of the search spaces: sources that are read in several ways.
fn check_mixed(device: &Device) {
    let inputs = |channels: usize| vec![edge(&[Op::Pointwise], [channels; 2], 1, false); 2];
    let read = |ops: &[Op], stride| edge(ops, [4; 2], stride, false);
    let cell = |nodes: Vec<Vec<(usize, Edge)>>, concat: Vec<usize>| Cell {
        inputs: inputs(4),
        nodes,
        concat,
        fixed_inputs: false,
        parts: 1,
    };
    let shapes = |size: [usize; 2]| vec![[2, 4, size[0], size[1]]; 2];
    let all = candidates(1, true);
    // Two edges from one state to one node.
    let twice =
        cell(vec![vec![(0, read(&all, 1)), (0, read(&all, 1)), (1, read(&all, 1))]], vec![2]);
    Case::new(twice, shapes([7, 8]), 0).check("two edges from one state", device);
    // A state that is read at strides 1 and 2, and pools of maps of both sizes.
    let halved = candidates(2, true);
    let sizes = cell(
        vec![
            vec![(0, read(&all, 1)), (1, read(&all, 1))],
            vec![(0, read(&halved, 2)), (2, read(&halved, 2))],
            vec![(3, read(&all, 1)), (1, read(&halved, 2))],
        ],
        vec![3, 4],
    );
    Case::new(sizes, shapes([8, 12]), 0).check("nodes of two sizes", device);
    // Pools with and without a normalization on one state.
    let [plain, normed] = [false, true].map(|norm| [Op::MaxPool { norm }, Op::AvgPool { norm }]);
    let pools = cell(
        vec![
            vec![(0, read(&normed, 1)), (1, read(&plain, 1))],
            vec![(0, read(&plain, 1)), (1, read(&normed, 1)), (2, read(&normed, 1))],
        ],
        vec![2, 3],
    );
    Case::new(pools, shapes([6, 6]), 0).check("pools of both kinds", device);
    // Strides 2 and 3 in one node, whose sources have different sizes of parts.
    let windows = SEPARABLE.map(|op| read(&[op], 3));
    let strides = cell(
        vec![vec![(0, read(&halved[..2], 2)), (1, windows[0].clone()), (0, windows[1].clone())]],
        vec![2],
    );
    Case::new(strides, vec![[2, 4, 2, 2], [2, 4, 3, 3]], 0).check("strides 2 and 3", device);
}

#[test]
fn kernels_agree_on_wgpu() {
    if let Some(device) = gpu() {
        check_all(&device);
        check_mixed(&device);
    }
}

/// The number of channels of the last cells of the paper's network.
#[test]
fn wide_edges_agree_on_wgpu() {
    if let Some(device) = gpu() {
        let single = edge(&candidates(1, true), [64; 2], 1, false);
        Case::new(single.into(), vec![[4, 64, 4, 4]], 0).check("64 channels", &device);
    }
}

/// There are no atomics, and every sum has a fixed order.
#[test]
fn bits_repeat_on_wgpu() {
    if let Some(device) = gpu() {
        let case = whole(5, 8, [6, 5], 1, 2, true).with_factors();
        let first = case.run(&device, 3, Some(Memory::Save));
        for memory in [Memory::Save, Memory::Recompute] {
            assert!(case.run(&device, 3, Some(memory)) == first, "{memory:?} differs");
        }
    }
}

/// Three steps of both optimizers, with a norm that clips, and the mixing weights with their gradients.
fn small_tensors(device: &Device) -> Vec<Vec<f32>> {
    let tensor = |seed| tensor(seed, [7, 45], device);
    let gradient = |step: u64| tensor(10 + step);
    let mut all = Vec::new();
    let (mut weights, mut velocity) = (tensor(1), None);
    for step in 0..3 {
        let gradients = vec![gradient(step).flatten(0, 1), tensor(5).flatten(0, 1)];
        let norm = norm(gradients);
        all.push(values(norm.clone()));
        let mut numbers = SgdNumbers::new(0.1, 0.9, 0.01);
        numbers.clip_norm = (step > 0).then_some(5.0);
        let [moved, new] = sgd(weights, gradient(step), velocity, Some(norm), numbers, None);
        (weights, velocity) = (moved, Some(new));
    }
    all.push(values(weights));
    let (mut weights, mut moments) = (tensor(2), None);
    for step in 0..3 {
        let numbers = AdamNumbers::new(0.1, [0.5, 0.999], 0.01, step as usize + 1);
        let [moved, first, second] = adam(weights, gradient(step), moments, numbers, None);
        (weights, moments) = (moved, Some([first, second]));
    }
    all.push(values(weights));
    let device = device.clone().autodiff();
    let alpha = Tensor::<2>::from_inner(tensor(3)).to_device(&device).require_grad();
    let mixing = softmax_groups(alpha.clone(), &[2, 1, 4]);
    let places: Vec<Option<usize>> =
        (0..150).map(|place| (place % 5 > 0).then_some(place * 2)).collect();
    let picked = pick(mixing.clone(), &places);
    let random: Tensor<1> = self::tensor(4, [150], &device);
    let gradients = (picked.clone() * random).sum().backward();
    all.extend([values(mixing), values(picked), values(alpha.grad(&gradients).expect("tracked"))]);
    all
}

#[test]
fn steps_and_mixing_agree_on_wgpu() {
    if let Some(device) = gpu() {
        let expected = small_tensors(&Device::flex());
        for (number, (actual, expected)) in small_tensors(&device).iter().zip(&expected).enumerate()
        {
            assert_eq!(actual.len(), expected.len());
            for (actual, expected) in actual.iter().zip(expected) {
                let off = (actual - expected).abs();
                assert!(off <= 2e-6 * expected.abs().max(1.0), "{number}: {actual} not {expected}");
            }
        }
    }
}
