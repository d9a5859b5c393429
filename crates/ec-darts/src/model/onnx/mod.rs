//! A trained network as an ONNX graph.
//!
//! Entry point: [`to_bytes`]. The graph is written node by node from the cells' own description of
//! their operations, not captured from a forward pass. So a batch normalization stays one node,
//! which runtimes fold into its convolution, and tensors keep their names of the model file.
//! Invariant: equal models give equal bytes.

mod proto;

use std::collections::BTreeMap;

use burn::tensor::TensorData;
use ec_darts_kernels::{Cell, Edge, EdgeOperation};
use prost::Message;
use serde_json::json;

use self::proto::{
    AttributeProto, AttributeType, Dimension, DimensionProto, FLOAT, GraphProto, ModelProto,
    NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};
use super::{DESCRIPTION, ModelDescription, NETWORK, TrainedModel};
use crate::network::ResidualBlock;
use crate::ops::{EPSILON, Packed, Part};
use crate::{COMMIT, VERSION};

/// Operator set of ONNX 1.12, with the IR version of that release; runtimes since 2022 read both.
const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;
/// Names of the graph's input and output.
const IMAGES: &str = "images";
const LOGITS: &str = "logits";
/// `TensorProto.DataType.INT64`.
const INT64: i32 = 7;
/// The required form of the first input.
const INPUT: &str = "float32 [batch, 3, height, width], RGB; values in [0, 1], then minus `mean`, divided \
                     by `std`, channel by channel";

/// The file's bytes; the auxiliary head, which inference does not need, is left out.
///
/// # Errors
/// Where the network is larger than 2 GiB, the limit of one protobuf file.
pub(super) fn to_bytes(model: &TrainedModel) -> Result<Vec<u8>, String> {
    let message = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "ec-darts".into(),
        producer_version: format!("{VERSION} ({COMMIT})"),
        doc_string: "A network found by EC-DARTS; metadata_props describe its input and output."
            .into(),
        graph: Some(graph(model)),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: metadata(&model.description),
    };
    let len = message.encoded_len();
    match i32::try_from(len) {
        Ok(_) => Ok(message.encode_to_vec()),
        Err(_) => Err(format!("{len} bytes as ONNX, which has files up to 2147483647 bytes")),
    }
}

/// The values necessary to use the network without our code; all but `input` and `version` are
/// JSON.
fn metadata(description: &ModelDescription) -> Vec<StringStringEntryProto> {
    let entries = [
        ("classes", json!(description.class_names).to_string()),
        ("mean", serde_json::to_string(&description.mean).expect("numbers")),
        ("std", serde_json::to_string(&description.std).expect("numbers")),
        ("image_size", json!(description.image_size).to_string()),
        ("genotype", json!(description.genotype).to_string()),
        ("input", INPUT.into()),
        ("version", description.version.clone()),
        (DESCRIPTION, description.to_json()),
    ];
    let entry = |(key, value): (&str, String)| StringStringEntryProto { key: key.into(), value };
    entries.into_iter().map(entry).collect()
}

fn graph(model: &TrainedModel) -> GraphProto {
    let ModelDescription { image_size: [height, width], num_classes, .. } = model.description;
    let mut builder = Builder { tensors: model.snapshot().tensors, ..Builder::default() };
    let network = &model.network;

    let mut states = vec![IMAGES.to_string()];
    let mut values = Values::new("stem", &network.stem.packed);
    for layer in network.stem.layers() {
        let input = states[states.len() - 1].clone();
        states.push(builder.cell(layer, &[input], &mut values));
    }
    // A single convolution gives both states of the first cell.
    let newer = states.len() - 1;
    let [mut older, mut newer] = [(newer - 1).max(1), newer].map(|state| states[state].clone());
    for (number, cell) in network.cells.iter().enumerate() {
        let block = network.residuals.as_ref().and_then(|all| all.block_before(number));
        if let Some((place, block)) = block {
            newer = builder.residual(&format!("residuals.blocks.{place}"), block, newer);
        }
        let mut values = Values::new(&format!("cells.{number}"), &cell.packed);
        let states = match cell.cell.inputs.len() {
            1 => vec![newer.clone()],
            _ => vec![older, newer.clone()],
        };
        let output = builder.cell(&cell.cell, &states, &mut values);
        (older, newer) = (newer, output);
    }
    if network.residuals.is_some() {
        let parts = ["gamma", "beta", "running_mean", "running_var"];
        let normalized = builder.norm(newer, parts.map(|part| format!("residuals.norm.{part}")));
        newer = builder.node("Relu", &[normalized], vec![]);
    }
    let pooled = builder.node("GlobalAveragePool", &[newer], vec![]);
    let flat = builder.node("Flatten", &[pooled], vec![int("axis", 1)]);
    let [weight, bias] =
        ["weight", "bias"].map(|part| builder.tensor(&format!("classifier.{part}")));
    builder.node("Gemm", &[flat, weight, bias], vec![]);
    let mut graph = builder.graph;
    let last = graph.node.last_mut().expect("the classifier");
    last.output = vec![LOGITS.into()];

    let image = [height, width].map(|side| Dimension::Fixed(side as i64));
    let [height, width] = image;
    let batch = || Dimension::Named("batch".into());
    graph.name = "ec-darts".into();
    graph.input = vec![value(IMAGES, vec![batch(), Dimension::Fixed(3), height, width])];
    graph.output = vec![value(LOGITS, vec![batch(), Dimension::Fixed(num_classes as i64)])];
    graph
}

/// A float32 tensor that is an input or an output.
fn value(name: &str, dimensions: Vec<Dimension>) -> ValueInfoProto {
    let dim = dimensions.into_iter().map(|value| DimensionProto { value: Some(value) }).collect();
    let shape = Some(TensorShapeProto { dim });
    let tensor_type = Some(TensorTypeProto { elem_type: FLOAT, shape });
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }) }
}

fn int(name: &str, value: i64) -> AttributeProto {
    let kind = AttributeType::Int.into();
    AttributeProto { name: name.into(), i: Some(value), kind, ..AttributeProto::default() }
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().map(|&value| value as i64).collect();
    let kind = AttributeType::Ints.into();
    AttributeProto { name: name.into(), ints, kind, ..AttributeProto::default() }
}

/// The attributes of a convolution or pool with a square window.
fn window(kernel: usize, stride: usize, padding: usize) -> Vec<AttributeProto> {
    vec![
        ints("kernel_shape", &[kernel; 2]),
        ints("strides", &[stride; 2]),
        ints("pads", &[padding; 4]),
    ]
}

/// The parts of packed tensors, taken one after the other in the order of the operations.
struct Values<'a> {
    /// Path of the module that has them.
    path: String,
    weights: std::slice::Iter<'a, Part>,
    statistics: std::slice::Iter<'a, Part>,
}

impl<'a> Values<'a> {
    fn new(path: &str, packed: &'a Packed) -> Self {
        let layout = &packed.layout;
        Self {
            path: path.into(),
            weights: layout.weights.parts.iter(),
            statistics: layout.statistics.parts.iter(),
        }
    }

    /// Path of the next weight.
    fn weight(&mut self) -> String {
        format!("{}.{}", self.path, self.weights.next().expect("weights of every operation").name)
    }

    /// Paths of the next running mean and variance.
    fn statistics(&mut self) -> [String; 2] {
        let part = self.statistics.next().expect("statistics of every operation");
        ["running_mean", "running_var"].map(|which| format!("{}.{}.{which}", self.path, part.name))
    }
}

/// A growing graph; every method adds nodes and returns the name of their output.
#[derive(Default)]
struct Builder {
    /// The tensors that the graph has not taken yet.
    tensors: BTreeMap<String, TensorData>,
    graph: GraphProto,
}

impl Builder {
    /// Adds a node with one output.
    fn node(&mut self, kind: &str, input: &[String], attribute: Vec<AttributeProto>) -> String {
        let name = format!("{kind}_{}", self.graph.node.len());
        self.graph.node.push(NodeProto {
            input: input.to_vec(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: kind.into(),
            attribute,
        });
        name
    }

    /// Adds a tensor of the network, under its path there.
    fn tensor(&mut self, path: &str) -> String {
        let data = self.tensors.remove(&format!("{NETWORK}.{path}"));
        let data = data.expect("the network's own tensors, each read once");
        self.graph.initializer.push(TensorProto {
            dims: data.shape().iter().map(|&length| length as i64).collect(),
            data_type: FLOAT,
            name: path.into(),
            raw_data: data.iter::<f32>().flat_map(f32::to_le_bytes).collect(),
        });
        path.into()
    }

    /// Adds whole numbers, once for all nodes that use them.
    fn indices(&mut self, name: &str, values: &[i64]) -> String {
        if self.graph.initializer.iter().all(|known| known.name != name) {
            self.graph.initializer.push(TensorProto {
                dims: vec![values.len() as i64],
                data_type: INT64,
                name: name.into(),
                raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            });
        }
        name.into()
    }

    fn cell(&mut self, cell: &Cell, inputs: &[String], values: &mut Values) -> String {
        let own = cell.inputs.iter().zip(inputs);
        let mut states: Vec<String> =
            own.map(|(edge, input)| self.edge(edge, input, values)).collect();
        for edges in &cell.nodes {
            let terms: Vec<String> =
                edges.iter().map(|(from, edge)| self.edge(edge, &states[*from], values)).collect();
            let sum = terms.into_iter().reduce(|sum, term| self.node("Add", &[sum, term], vec![]));
            states.push(sum.expect("every node has an edge"));
        }
        let joined: Vec<String> = cell.concat.iter().map(|&state| states[state].clone()).collect();
        match &joined[..] {
            [one] => one.clone(),
            _ => self.node("Concat", &joined, vec![int("axis", 1)]),
        }
    }

    /// An edge of a discrete cell, which has one operation.
    /// Both 3x3 convolutions, and parallel to them the 1x1 convolution of the mean over 2x2 pixels.
    fn residual(&mut self, path: &str, block: &ResidualBlock, input: String) -> String {
        let mut values = Values::new(path, &block.packed);
        let run = |map, layer: &Cell| self.cell(layer, &[map], &mut values);
        let convolved = block.layers().fold(input.clone(), run);
        let pooled = self.node("AveragePool", &[input], window(2, 2, 0));
        let weight = self.tensor(&format!("{path}.shortcut.weight"));
        let beside = self.node("Conv", &[pooled, weight], window(1, 1, 0));
        self.node("Add", &[convolved, beside], vec![])
    }

    fn edge(&mut self, edge: &Edge, input: &str, values: &mut Values) -> String {
        let &[operation] = &edge.operations[..] else { unreachable!("one operation on an edge") };
        let (stride, input) = (edge.stride, input.to_string());
        match operation {
            EdgeOperation::Identity => input,
            EdgeOperation::MaxPool { norm } => {
                let pooled = self.node("MaxPool", &[input], window(3, stride, 1));
                if norm { self.normalized(pooled, values) } else { pooled }
            }
            EdgeOperation::AvgPool { norm } => {
                let mut attributes = window(3, stride, 1);
                attributes.push(int("count_include_pad", 0));
                let pooled = self.node("AveragePool", &[input], attributes);
                if norm { self.normalized(pooled, values) } else { pooled }
            }
            EdgeOperation::Pointwise => {
                let active = self.node("Relu", &[input], vec![]);
                let map = self.convolution(active, window(1, stride, 0), values);
                self.normalized(map, values)
            }
            EdgeOperation::Convolution { relu } => {
                let input = if relu { self.node("Relu", &[input], vec![]) } else { input };
                let map = self.convolution(input, window(3, stride, 1), values);
                self.normalized(map, values)
            }
            EdgeOperation::FactorizedReduce => self.factorized_reduction(input, values),
            EdgeOperation::Separable { kernel, dilation, repeats } => {
                let shape = (kernel, dilation, edge.channels[0]);
                (0..repeats).fold(input, |input, block| {
                    let stride = if block == 0 { stride } else { 1 };
                    self.separable(input, shape, stride, values)
                })
            }
        }
    }

    /// Two 1x1 convolutions of stride 2; the second one reads one pixel further down and right.
    fn factorized_reduction(&mut self, input: String, values: &mut Values) -> String {
        let active = self.node("Relu", &[input], vec![]);
        let [starts, ends, axes] = [
            ("slice.starts", [1, 1]),
            ("slice.ends", [i64::MAX, i64::MAX]),
            ("slice.axes", [2, 3]),
        ]
        .map(|(name, indices)| self.indices(name, &indices));
        let shifted = self.node("Slice", &[active.clone(), starts, ends, axes], vec![]);
        let halves = [active, shifted].map(|half| self.convolution(half, window(1, 2, 0), values));
        let map = self.node("Concat", &halves, vec![int("axis", 1)]);
        self.normalized(map, values)
    }

    /// One block of a separable convolution; `shape` is kernel, dilation and channels.
    fn separable(
        &mut self,
        input: String,
        (kernel, dilation, channels): (usize, usize, usize),
        stride: usize,
        values: &mut Values,
    ) -> String {
        let active = self.node("Relu", &[input], vec![]);
        let mut depthwise = window(kernel, stride, dilation * (kernel - 1) / 2);
        depthwise.push(ints("dilations", &[dilation; 2]));
        depthwise.push(int("group", channels as i64));
        let filtered = self.convolution(active, depthwise, values);
        let map = self.convolution(filtered, window(1, 1, 0), values);
        self.normalized(map, values)
    }

    /// A convolution with the next weight.
    fn convolution(
        &mut self,
        input: String,
        attributes: Vec<AttributeProto>,
        values: &mut Values,
    ) -> String {
        let weight = self.tensor(&values.weight());
        self.node("Conv", &[input, weight], attributes)
    }

    /// Batch normalization with the next scale, shift and running statistics.
    fn normalized(&mut self, input: String, values: &mut Values) -> String {
        let [gamma, beta] = [(); 2].map(|()| values.weight());
        let [mean, variance] = values.statistics();
        self.norm(input, [gamma, beta, mean, variance])
    }

    /// A batch normalization with scale, shift, mean and variance by their names.
    fn norm(&mut self, input: String, parts: [String; 4]) -> String {
        let tensors = parts.map(|path| self.tensor(&path));
        let epsilon = AttributeProto {
            name: "epsilon".into(),
            f: Some(EPSILON as f32),
            kind: AttributeType::Float.into(),
            ..AttributeProto::default()
        };
        self.node("BatchNormalization", &[&[input][..], &tensors].concat(), vec![epsilon])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::tests::{nas_bench_201, small};
    use super::*;
    use crate::network::StemKind;

    #[test]
    fn the_graph_has_every_tensor_and_names_nothing_twice() {
        let stems = [(StemKind::Cifar, 16), (StemKind::Stride2, 16), (StemKind::Imagenet, 64)];
        let models = stems.map(|(stem, size)| small(stem, size));
        for model in models.into_iter().chain([nas_bench_201()]) {
            let bytes = to_bytes(&model).expect("a small network");
            assert_eq!(bytes, to_bytes(&model).expect("a small network"));
            let graph = ModelProto::decode(&bytes[..]).expect("a message").graph.expect("a graph");
            let names = |path: String| path[NETWORK.len() + 1..].to_string();
            let expected = model.snapshot().tensors.into_keys().map(names);
            let expected: BTreeSet<String> =
                expected.filter(|name| !name.starts_with("auxiliary_head.")).collect();
            let floats = graph.initializer.iter().filter(|tensor| tensor.data_type == FLOAT);
            let found: Vec<String> = floats.map(|tensor| tensor.name.clone()).collect();
            assert_eq!(found.len(), expected.len());
            assert_eq!(BTreeSet::from_iter(found), expected);

            // Nodes read outputs of earlier nodes, and every output has a new name.
            let mut known: BTreeSet<&str> = BTreeSet::from([IMAGES]);
            known.extend(graph.initializer.iter().map(|tensor| tensor.name.as_str()));
            for node in &graph.node {
                for input in &node.input {
                    assert!(known.contains(input.as_str()), "{} reads {input}", node.name);
                }
                assert!(known.insert(&node.output[0]), "{} twice", node.output[0]);
            }
            assert!(known.contains(LOGITS));
        }
    }
}
