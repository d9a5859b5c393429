//! The fixtures' names of parameters, from the paths of our modules.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use ec_darts_space::{CellKind, Genotype, Primitive};

use crate::fixture::Fixture;

/// How the operations of a cell are named.
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
            Self::Search | Self::Cell => vec![Primitive::ALL[number + 1].name().into()],
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

/// PyTorch keeps linear weights as `[out, in]`, Burn as `[in, out]`.
fn turn<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if D == 2 { tensor.transpose() } else { tensor }
}

fn is_statistic(name: &str) -> bool {
    name.ends_with("running_mean") || name.ends_with("running_var")
}

/// Gives a module the stored parameters and running statistics under `prefix` (`in.`).
pub fn install<M: Module>(module: M, fixture: &Fixture, prefix: &str, naming: Naming) -> M {
    struct Install<'a> {
        fixture: &'a Fixture,
        prefix: &'a str,
        naming: Naming<'a>,
        path: Vec<String>,
    }
    impl ModuleMapper for Install<'_> {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let name = self.naming.name(&self.path);
            let kind = if is_statistic(&name) { "stat" } else { "param" };
            let stored = format!("{}{kind}.{name}", self.prefix);
            if kind == "stat" && !self.fixture.has(&stored) {
                return param;
            }
            param.map(|old| {
                let tensor: Tensor<D> = self.fixture.tensor(&stored);
                let tensor = turn(tensor).inner();
                assert_eq!(tensor.dims(), old.dims(), "{stored}");
                let (tracked, device) = (old.is_require_grad(), old.device());
                Tensor::from_data(tensor.into_data(), &device).set_require_grad(tracked)
            })
        }
    }
    module.map(&mut Install { fixture, prefix, naming, path: Vec::new() })
}

/// Every parameter or running statistic with its stored name.
fn visit<M: Module>(module: &M, naming: Naming, each: &mut dyn FnMut(&str, Named)) {
    struct Visit<'a, 'b> {
        naming: Naming<'a>,
        each: &'b mut dyn FnMut(&str, Named),
        path: Vec<String>,
    }
    impl ModuleVisitor for Visit<'_, '_> {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let name = self.naming.name(&self.path);
            let value = turn(param.val()).into_data();
            let rank = D;
            (self.each)(&name, Named { id: param.id, rank, value });
        }
    }
    module.visit(&mut Visit { naming, each, path: Vec::new() });
}

struct Named {
    id: burn::module::ParamId,
    rank: usize,
    value: TensorData,
}

fn floats(data: TensorData) -> Vec<f32> {
    data.try_to_vec().expect("single precision")
}

/// Compares the gradient of every parameter with `prefix` and its name; a gradient that is not
/// stored must be absent or zero.
pub fn check_gradients<M: Module>(
    module: &M,
    gradients: &GradientsParams,
    fixture: &Fixture,
    prefix: &str,
    naming: Naming,
) {
    visit(module, naming, &mut |name, named| {
        if is_statistic(name) {
            return;
        }
        let gradient = match named.rank {
            1 => gradients.get::<1>(named.id).map(|tensor| tensor.into_data()),
            2 => gradients.get::<2>(named.id).map(|tensor| turn(tensor).into_data()),
            4 => gradients.get::<4>(named.id).map(|tensor| tensor.into_data()),
            rank => panic!("{name} has rank {rank}"),
        };
        let gradient = gradient.map(floats);
        let stored = format!("{prefix}{name}");
        if fixture.has(&stored) {
            // Where nothing flows, PyTorch stores zeros.
            let zeros = || vec![0.0; named.value.shape().num_elements()];
            fixture.check(&stored, &gradient.unwrap_or_else(zeros));
        } else if let Some(gradient) = gradient {
            assert!(
                gradient.iter().all(|&g| g == 0.0),
                "{stored}: a gradient where none is stored"
            );
        }
    });
}

/// Compares all parameters with `prefix` and their names.
pub fn check_parameters<M: Module>(module: &M, fixture: &Fixture, prefix: &str, naming: Naming) {
    visit(module, naming, &mut |name, named| {
        if !is_statistic(name) {
            fixture.check(&format!("{prefix}{name}"), &floats(named.value));
        }
    });
}

/// Compares all running statistics with `prefix` and their names.
pub fn check_statistics<M: Module>(module: &M, fixture: &Fixture, prefix: &str, naming: Naming) {
    let settled = ec_darts::tensors::separate(module);
    visit(&settled, naming, &mut |name, named| {
        if is_statistic(name) {
            fixture.check(&format!("{prefix}{name}"), &floats(named.value));
        }
    });
}
