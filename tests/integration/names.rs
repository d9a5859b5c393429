//! The names of parameters in the fixtures, from the paths of our modules.

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use ec_darts::ops::Packs;
use ec_darts::snapshot::Snapshot;
use ec_darts_space::{CellKind, Genotype, Primitive};

use crate::fixture::Fixture;

/// The naming scheme of the operations of a cell.
#[derive(Clone, Copy)]
pub enum Naming<'a> {
    /// All candidates of every edge.
    Search,
    /// Picks, under the names of the supernet's edges.
    Auxiliary(&'a Genotype, &'a [CellKind]),
    /// Picks, numbered.
    Retrain(&'a Genotype, &'a [CellKind]),
    /// One operation alone.
    Operation,
    /// One search cell alone.
    Cell,
}

impl Naming<'_> {
    /// `cells.0.edges.3.operations.2.SepConv.0.bn.gamma` to `cells.0.edges.3.sep_conv_3x3.0.bn.weight`.
    pub fn name(&self, path: &[String]) -> String {
        let mut parts: Vec<String> = Vec::new();
        let mut index = 0;
        while index < path.len() {
            let part = path[index].as_str();
            match part {
                "operations" => {
                    let number: usize = path[index + 1].parse().expect("a position");
                    parts.extend(self.operation(&parts, number));
                    // The position, and the variant of the enum.
                    index += 2;
                }
                "edges" if matches!(self, Self::Search | Self::Cell) => parts.push(part.into()),
                "Keep" | "Reduce" | "Single" | "Triple" => {}
                "MaxPool" | "AvgPool" | "FactorizedReduce" | "SepConv" | "DilConv" => {}
                "gamma" => parts.push("weight".into()),
                "beta" => parts.push("bias".into()),
                "auxiliary_head" => parts.push("auxiliary".into()),
                _ => parts.push(part.into()),
            }
            index += 1;
        }
        let name = parts.join(".");
        if path.iter().any(|part| part == "Triple") {
            return name
                .replace("stem.conv3", "stem1.conv")
                .replace("stem.bn3", "stem1.bn")
                .replace("stem.", "stem0.");
        }
        name
    }

    fn operation(&self, parts: &[String], number: usize) -> Vec<String> {
        let pick = |genotype: &Genotype, kinds: &[CellKind]| {
            let cell: usize = parts[1].parse().expect("a cell");
            let nodes = &genotype.cell(kinds[cell]).nodes;
            let (node, picks) = (number / 2, &nodes[number / 2]);
            (node, picks[number % 2])
        };
        match self {
            Self::Search | Self::Cell => vec![Primitive::DARTS[number + 1].name().into()],
            Self::Auxiliary(genotype, kinds) => {
                let (node, pick) = pick(genotype, kinds);
                let offset: usize = (0..node).map(|earlier| 2 + earlier).sum();
                let edge = (offset + pick.from).to_string();
                vec!["edges".into(), edge, pick.primitive.name().into()]
            }
            Self::Retrain(genotype, kinds) => {
                let (_, pick) = pick(genotype, kinds);
                vec!["ops".into(), number.to_string(), pick.primitive.name().into()]
            }
            Self::Operation => unreachable!("one operation has no list of operations"),
        }
    }
}

/// The weights of a linear layer transposed: PyTorch has `[out, in]`, Burn `[in, out]`.
pub fn turned(data: TensorData) -> TensorData {
    if data.shape().len() != 2 {
        return data;
    }
    Tensor::<2>::from_data(data, &Device::flex()).transpose().into_data()
}

fn is_statistic(name: &str) -> bool {
    name.ends_with("running_mean") || name.ends_with("running_var")
}

fn parts(path: &str) -> Vec<String> {
    path.split('.').map(String::from).collect()
}

/// A module with the stored parameters and running statistics under `prefix` (`in.`).
pub fn install<M: Packs>(module: M, fixture: &Fixture, prefix: &str, naming: Naming) -> M {
    let mut snapshot = Snapshot::default();
    snapshot.save(&module, "");
    for (path, data) in &mut snapshot.tensors {
        let name = naming.name(&parts(path));
        let kind = if is_statistic(&name) { "stat" } else { "param" };
        let stored = format!("{prefix}{kind}.{name}");
        if kind == "stat" && !fixture.has(&stored) {
            continue;
        }
        let found = turned(fixture.data(&stored));
        assert_eq!(found.shape(), data.shape(), "{stored}");
        *data = found;
    }
    snapshot.load(module, "").expect("its own names")
}

/// All parameters and running statistics of a module with their stored names and in PyTorch's
/// shapes.
fn state<M: Packs>(module: &M, naming: Naming) -> Vec<(String, String, Vec<f32>)> {
    let mut snapshot = Snapshot::default();
    snapshot.save(module, "");
    let tensors = snapshot.tensors.into_iter();
    tensors
        .map(|(path, data)| {
            let name = naming.name(&parts(&path));
            (path, name, floats(turned(data)))
        })
        .collect()
}

fn floats(data: TensorData) -> Vec<f32> {
    data.try_to_vec().expect("single precision")
}

/// Compares the gradient of every parameter with the stored one under `prefix` and its name; where
/// none is stored, it must be absent or zero.
pub fn check_gradients<M: Packs>(
    module: &M,
    gradients: &GradientsParams,
    fixture: &Fixture,
    prefix: &str,
    naming: Naming,
) {
    let mut snapshot = Snapshot::default();
    snapshot.save_gradients(module, gradients, "");
    for (path, name, value) in state(module, naming) {
        if is_statistic(&name) {
            continue;
        }
        let gradient = snapshot.tensors.remove(&path).map(|data| floats(turned(data)));
        let stored = format!("{prefix}{name}");
        if fixture.has(&stored) {
            // PyTorch stores zeros for parameters without gradient.
            fixture.check(&stored, &gradient.unwrap_or_else(|| vec![0.0; value.len()]));
        } else if let Some(gradient) = gradient {
            assert!(
                gradient.iter().all(|&g| g == 0.0),
                "{stored}: a gradient where none is stored"
            );
        }
    }
    assert!(snapshot.tensors.is_empty(), "gradients of parameters: {:?}", snapshot.tensors.keys());
}

/// Compares the gradients of a supernet's parameters that are stored.
pub fn check_stored_gradients<M: Packs>(
    module: &M,
    gradients: &GradientsParams,
    fixture: &Fixture,
    prefix: &str,
) {
    let mut snapshot = Snapshot::default();
    snapshot.save_gradients(module, gradients, "");
    for (path, name, value) in state(module, Naming::Search) {
        let stored = format!("{prefix}{name}");
        if fixture.has(&stored) {
            let gradient = snapshot.tensors.remove(&path).map(|data| floats(turned(data)));
            fixture.check(&stored, &gradient.unwrap_or_else(|| vec![0.0; value.len()]));
        }
    }
}

/// Compares the parameters of a supernet that are stored.
pub fn check_stored_parameters<M: Packs>(module: &M, fixture: &Fixture, prefix: &str) {
    for (_, name, value) in state(module, Naming::Search) {
        let stored = format!("{prefix}{name}");
        if fixture.has(&stored) {
            fixture.check(&stored, &value);
        }
    }
}

/// Compares all parameters with `prefix` and their names.
pub fn check_parameters<M: Packs>(module: &M, fixture: &Fixture, prefix: &str, naming: Naming) {
    for (_, name, value) in state(module, naming) {
        if !is_statistic(&name) {
            fixture.check(&format!("{prefix}{name}"), &value);
        }
    }
}

/// Compares all running statistics with `prefix` and their names.
pub fn check_statistics<M: Packs>(module: &M, fixture: &Fixture, prefix: &str, naming: Naming) {
    for (_, name, value) in state(module, naming) {
        if is_statistic(&name) {
            fixture.check(&format!("{prefix}{name}"), &value);
        }
    }
}
