//! The parts of a search that move: supernet and alpha after every event, in both orders; and the
//! costs of the auxiliary model.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use ec_darts::config::Order;
use ec_darts::network::{CellForm, StemKind, SupernetConfig};
use ec_darts::train::{Event, Phase, Search};
use ec_darts::transition::induce;
use ec_darts_space::{
    CellTopology, Genotype, NUM_INPUTS, PerKind, Pick, Primitive, SearchSpace, discretize,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{memory, tiny};

type State = BTreeMap<String, TensorData>;

/// Whether the auxiliary model of a genotype contains a parameter or statistic of the supernet:
/// stem, preprocessing, classifier, and the picked operations.
fn is_held(name: &str, search: &Search, genotype: &Genotype) -> bool {
    let parts: Vec<&str> = name.split('.').collect();
    let ["module", "cells", cell, "edges", edge, "operations", operation, ..] = parts[..] else {
        return true;
    };
    let [cell, edge, operation] =
        [cell, edge, operation].map(|number| number.parse::<usize>().expect("a position"));
    let supernet = search.supernet();
    let primitive = supernet.cells[cell].primitives(edge)[operation];
    let edge = search.space().topology().edges().nth(edge).expect("an edge");
    let picks = &genotype.cell(supernet.kinds[cell]).nodes[edge.to - NUM_INPUTS];
    picks.contains(&Pick { primitive, from: edge.from })
}

fn check_returned(search: &Search, genotype: &Genotype, before: &State, after: &State) {
    let mut held = 0;
    for (name, value) in before {
        let expected = is_held(name, search, genotype);
        assert_eq!(after[name] != *value, expected, "{name} moved, or did not");
        held += usize::from(expected);
    }
    assert!(0 < held && held < before.len(), "{held} of {} held", before.len());
}

/// After every event, the parts that may move have moved, and all others are the same bit for bit.
fn check(order: Order) {
    let mut config = tiny::config();
    config.search.order = order;
    config.search.epochs = 6;
    let mut search = tiny::search(config);
    let state = |search: &Search| (tiny::state(search.supernet()), tiny::state(search.alpha()));
    let (mut supernet, mut alpha) = state(&search);
    let mut verdicts = Vec::new();
    while let Some(event) = search.advance().expect("a finite search") {
        let (new_supernet, new_alpha) = state(&search);
        let interleaved = order == Order::Interleaved;
        let (moves_supernet, moves_alpha) = match &event {
            Event::Step(report) if report.phase == Phase::Supernet => (true, interleaved),
            Event::Step(report) if report.phase == Phase::Alpha => (false, true),
            Event::Step(_) | Event::Epoch(_) => (false, false),
            Event::Transition(report) => {
                verdicts.push(report.accepted);
                if report.accepted {
                    check_returned(&search, &report.genotype, &supernet, &new_supernet);
                }
                (report.accepted, false)
            }
        };
        assert_eq!(new_supernet != supernet, moves_supernet, "supernet: {order:?}, {event:?}");
        assert_eq!(new_alpha != alpha, moves_alpha, "alpha: {order:?}, {event:?}");
        (supernet, alpha) = (new_supernet, new_alpha);
    }
    assert_eq!(verdicts.len(), 6, "a transition in each epoch");
    assert!(verdicts.contains(&true) && verdicts.contains(&false), "{verdicts:?}");
}

#[test]
fn interleaved_steps_move_what_they_should() {
    check(Order::Interleaved);
}

#[test]
fn sequential_steps_move_what_they_should() {
    check(Order::Sequential);
}

/// A copy whose parameters and running statistics have their own memory.
fn deep_copy<M: Module>(module: &M) -> M {
    struct Copy;
    impl ModuleMapper for Copy {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| {
                let data = TensorData::new(tiny::values(tensor.clone()), tensor.dims());
                Tensor::from_data(data, &tensor.device()).set_require_grad(tensor.is_require_grad())
            })
        }
    }
    module.clone().map(&mut Copy)
}

#[test]
fn inducing_allocates_no_parameter_memory() {
    let primitives = vec![Primitive::SkipConnect, Primitive::SepConv3x3];
    let topology = CellTopology::new(2, 2).expect("a cell");
    let space = SearchSpace::new(primitives, topology).expect("a space");
    let config = SupernetConfig {
        space: space.clone(),
        stem: StemKind::Cifar,
        // A wide network, so that parameters take much more memory than a module's bookkeeping.
        init_channels: 256,
        num_cells: 3,
        num_classes: 10,
        form: CellForm::default(),
    };
    let device = Device::flex().autodiff();
    let supernet = config.init(&mut ChaCha8Rng::seed_from_u64(0), &device);
    let convolutions = [0.0, 1.0].repeat(topology.num_edges());
    let genotype = discretize(&space, PerKind::from([&convolutions[..]; 2])).expect("finite");

    let (auxiliary, induced) = memory::allocated(|| induce(&supernet, &genotype));
    let parameters = 4 * auxiliary.num_params();
    let (_, copied) = memory::allocated(|| deep_copy(&auxiliary));
    println!("{parameters} bytes of parameters, {induced} allocated, {copied} by a deep copy");
    assert!(copied >= parameters, "a copy must be seen: {copied} of {parameters} bytes");
    assert!(induced < parameters / 20, "{induced} bytes for {parameters} of parameters");
}
