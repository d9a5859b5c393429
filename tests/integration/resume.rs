//! A search that is saved and restored continues as if it had not stopped, or is refused.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use ec_darts::architect::ArchitectOrder;
use ec_darts::config::{Order, SearchConfig};
use ec_darts::cost::CostMeasure;
use ec_darts::data::ImageDataset;
use ec_darts::penalty::CostForm;
use ec_darts::perturbation::Perturbation;
use ec_darts::relaxation::Relaxation;
use ec_darts::sampling::Sampling;
use ec_darts::train::{Done, Search};
use ec_darts_space::{Discretization, Eigenvalue, Schedule, Stop};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::tiny;

fn restore(
    config: SearchConfig,
    data: Arc<ImageDataset>,
    bytes: &[u8],
) -> Result<Search, ec_darts::Error> {
    Search::restore(config, data, &Device::flex(), bytes, Path::new("some.safetensors"))
}

/// Compares an unbroken search with one that is saved and restored after every event.
pub fn check(change: impl Fn(&mut SearchConfig)) {
    let mut config = tiny::config();
    change(&mut config);
    let (mut unbroken, mut broken) = (tiny::search(config.clone()), tiny::search(config.clone()));
    let mut bytes = broken.save().expect("finite");
    loop {
        broken = restore(config.clone(), tiny::data(1), &bytes).expect("its own bytes");
        let event = unbroken.advance().expect("a finite search");
        assert_eq!(broken.advance().expect("a finite search"), event);
        bytes = broken.save().expect("finite");
        assert!(bytes == unbroken.save().expect("finite"), "{:?} after {event:?}", config.search);
        if event.is_none() {
            break;
        }
    }
    let (step, total) = broken.position();
    assert_eq!(step, total);
}

#[test]
fn first_order_goes_on_as_unbroken() {
    for order in [Order::Interleaved, Order::Sequential] {
        for transition in [true, false] {
            check(|config| {
                config.search.order = order;
                config.transition.enabled = transition;
            });
        }
    }
}

#[test]
fn second_order_goes_on_as_unbroken() {
    for order in [Order::Interleaved, Order::Sequential] {
        check(|config| {
            config.search.order = order;
            config.search.architect = ArchitectOrder::Second;
            config.search.relaxation = Relaxation::Softmax;
        });
    }
}

/// The change that a rule makes to settings.
pub type Change = fn(&mut SearchConfig);

/// DARTS, the basis of the other rules.
pub fn softmax(config: &mut SearchConfig) {
    config.search.relaxation = Relaxation::Softmax;
    config.transition.enabled = false;
}

/// All rules by name.
pub fn rules() -> [(&'static str, Change); 20] {
    [
        ("gdas", |config| {
            config.rule.sampling = Some(Sampling::StraightThrough);
            config.rule.temperature = Schedule::line(10.0, 0.1);
            config.rule.discretization = Discretization::Pairs;
            (config.search.order, config.weights.nesterov) = (Order::WeightsFirst, true);
        }),
        ("gdas with a transition", |config| {
            config.rule.sampling = Some(Sampling::StraightThrough);
            config.transition.enabled = true;
        }),
        ("snas", |config| {
            config.rule.sampling = Some(Sampling::Concrete);
            config.rule.discretization = Discretization::EveryEdge;
            (config.search.order, config.alpha.every) = (Order::SingleLevel, 2);
        }),
        ("an alpha that rests in sequential order", |config| {
            (config.search.order, config.search.batch_size) = (Order::Sequential, 2);
            (config.alpha.frozen_epochs, config.alpha.every) = (1, 2);
        }),
        ("gates and their expected cost", |config| {
            config.rule.sampling = Some(Sampling::Gates);
            config.rule.cost = Some(CostMeasure::Parameters);
        }),
        ("fair darts", |config| {
            config.search.relaxation = Relaxation::Sigmoid;
            config.rule.zero_one = Some(Schedule::constant(10.0));
            config.rule.discretization = Discretization::FAIR_DARTS;
        }),
        ("pc-darts", |config| {
            config.rule.edge_weights = true;
            (config.rule.partial_channels, config.network.init_channels) = (2, 4);
            config.alpha.frozen_epochs = 1;
        }),
        ("drnas in two stages", |config| *config = crate::stages::progressive()),
        ("p-darts", |config| *config = crate::stages::config()),
        ("p-darts in second order with a transition", |config| {
            *config = crate::stages::config();
            config.search.architect = ArchitectOrder::Second;
            (config.transition.enabled, config.search.epochs) = (true, 1);
            config.alpha.frozen_epochs = 0;
            config.rule.skip_dropout = vec![Schedule::constant(0.3); 3];
        }),
        ("dropout of skips beside partial channels and one operation each", |config| {
            config.rule.sampling = Some(Sampling::StraightThrough);
            (config.rule.partial_channels, config.network.init_channels) = (2, 4);
            config.rule.skip_dropout = vec![Schedule::constant(0.5)];
        }),
        ("sdarts, random", |config| {
            config.rule.perturbation = Some(Perturbation::Random);
            config.rule.epsilon = Schedule::constant(0.2);
        }),
        ("sdarts, adversarial, across edges", |config| {
            config.search.relaxation = Relaxation::CrossEdge;
            config.rule.perturbation = Some(Perturbation::Adversarial);
            config.rule.epsilon = Schedule::constant(0.2);
        }),
        ("proxyless", |config| {
            config.rule.sampling = Some(Sampling::Gates);
            (config.search.order, config.alpha.every) = (Order::WeightsFirst, 2);
            config.search.batch_size = 2;
        }),
        ("pairs of gates and a product with the cost", |config| {
            config.rule.sampling = Some(Sampling::GatePairs);
            config.rule.cost = Some(CostMeasure::MultiplyAdds);
            (config.rule.cost_form, config.search.batch_size) = (CostForm::Product, 2);
        }),
        ("drnas", |config| {
            config.rule.sampling = Some(Sampling::Dirichlet);
            config.rule.dirichlet_kl = Some(Schedule::constant(1e-3));
        }),
        ("darts-, beta-darts and a cost", |config| {
            config.rule.auxiliary_skip = Some(Schedule::line(1.0, 0.0));
            config.rule.log_sum_exp = Some(Schedule::constant(0.5));
            config.rule.cost = Some(CostMeasure::MultiplyAdds);
        }),
        ("darts+", |config| {
            config.search.epochs = 3;
            config.rule.stop = Some(Stop::Ranking { patience: 1 });
        }),
        ("robust darts", |config| {
            config.search.epochs = 3;
            config.rule.stop = Some(Stop::Eigenvalue(Eigenvalue {
                window: 1,
                factor: 1e-9,
                first_epoch: 0,
                delta: 1,
            }));
            config.rule.eigenvalue_every = Some(1);
        }),
        ("the eigenvalue of a sampled rule in parts", |config| {
            config.rule.sampling = Some(Sampling::StraightThrough);
            config.rule.edge_weights = true;
            (config.rule.partial_channels, config.network.init_channels) = (2, 4);
            config.rule.eigenvalue_every = Some(2);
        }),
    ]
}

/// Every rule: draws, perturbations, second parameters and frozen values equal those of the
/// unbroken search.
#[test]
fn rules_go_on_as_unbroken() {
    for (name, rule) in rules() {
        println!("{name}");
        check(|config| {
            softmax(config);
            rule(config);
        });
    }
}

/// No two measurements of time are equal: a search continues with the one it began with.
#[test]
fn measured_costs_are_kept() {
    let mut config = tiny::config();
    config.rule.cost = Some(CostMeasure::Latency);
    let mut unbroken = tiny::search(config.clone());
    unbroken.work().expect("a step");
    let bytes = unbroken.save().expect("finite");
    let mut broken = restore(config, tiny::data(1), &bytes).expect("its own bytes");
    assert!(finish(&mut unbroken) == finish(&mut broken), "other costs");
}

/// Random augmentation, a limit of the steps, and threads that prepare batches.
#[test]
fn batches_go_on_as_unbroken() {
    check(|config| {
        config.data.cutout = Some(3);
        config.search.batch_size = 3;
        config.search.steps_per_epoch = Some(1);
        config.run.workers = 2;
    });
}

fn end(seed: u64) -> Vec<u8> {
    let mut config = tiny::config();
    config.search.seed = seed;
    let mut search = tiny::search(config);
    while search.advance().expect("a finite search").is_some() {}
    search.save().expect("finite")
}

#[test]
fn the_seed_decides() {
    let first = end(3);
    assert!(first == end(3), "same seed, other bytes");
    // Not only because of the seed in the description.
    let tensors = |bytes: &[u8]| ec_darts::snapshot::Snapshot::from_bytes(bytes).expect("own").0;
    let (first, other) = (tensors(&first).tensors, tensors(&end(4)).tensors);
    let equal = first.iter().filter(|(name, value)| other.get(*name) == Some(value)).count();
    assert_eq!(equal, 0, "tensors that the seed does not change");
}

fn read_every(steps: usize, search: Search) -> Search {
    search.with_read_every(NonZeroUsize::new(steps).expect("some steps"))
}

fn finish(search: &mut Search) -> Vec<u8> {
    while search.work().expect("a finite search") != Done::Everything {}
    search.save().expect("finite")
}

/// Losses that are read together equal losses that are read one by one, and so does the result.
#[test]
fn how_often_losses_are_read_changes_nothing() {
    for architect in [ArchitectOrder::First, ArchitectOrder::Second] {
        let mut config = tiny::config();
        (config.search.batch_size, config.search.architect) = (1, architect);
        let (mut often, seldom) = (tiny::search(config.clone()), tiny::search(config.clone()));
        let mut seldom = read_every(7, seldom);
        while let Some(event) = often.advance().expect("a finite search") {
            assert_eq!(seldom.advance().expect("a finite search"), Some(event));
        }
        assert_eq!(seldom.advance().expect("over"), None);
        let bytes = often.save().expect("finite");
        assert!(bytes == seldom.save().expect("finite"));

        // Saved between two reads.
        let mut broken = read_every(7, tiny::search(config.clone()));
        for _ in 0..10 {
            broken.work().expect("a step");
        }
        broken.take_events();
        let saved = broken.save().expect("finite");
        assert!(!broken.take_events().is_empty(), "steps that were not read before");
        let mut broken = read_every(7, restore(config, tiny::data(1), &saved).expect("its own"));
        assert!(bytes == finish(&mut broken));
    }
}

/// Ten stops give the same bytes again, with losses that are read together: every sum has a fixed
/// order.
fn goes_on_as_unbroken(name: ec_darts::device::DeviceName) {
    let Some(device) = crate::devices::gpu(name) else { return };
    let new = || Search::new(tiny::config(), tiny::data(1), &device).expect("its settings");
    let mut unbroken = new();
    let bytes = finish(&mut unbroken);
    let total = unbroken.position().1;
    // Ten of the sixteen steps, in an order unrelated to the phases.
    let mut stops: Vec<u64> = (0..10).map(|number| (number * 7 + 3) % total).collect();
    stops.sort_unstable();
    let mut broken = new();
    for stop in stops {
        while broken.position().0 < stop {
            broken.work().expect("a step");
        }
        let saved = broken.save().expect("finite");
        let path = Path::new("some.safetensors");
        broken = Search::restore(tiny::config(), tiny::data(1), &device, &saved, path)
            .expect("its own bytes");
    }
    assert!(bytes == finish(&mut broken), "other bytes after ten stops");
}

#[test]
fn on_wgpu_goes_on_as_unbroken() {
    goes_on_as_unbroken(ec_darts::device::DeviceName::Wgpu);
}

#[cfg(feature = "cuda")]
#[test]
fn on_cuda_goes_on_as_unbroken() {
    goes_on_as_unbroken(ec_darts::device::DeviceName::Cuda);
}

fn check_refused(bytes: &[u8], config: SearchConfig, data: Arc<ImageDataset>, expected: &str) {
    let error = restore(config, data, bytes).err().expect(expected).to_string();
    let named = error.starts_with("some.safetensors: ");
    assert!(named && error.contains(expected), "{error:?} does not say {expected:?}");
}

#[test]
fn bytes_of_no_search_are_refused() {
    let (config, data) = (tiny::config(), tiny::data(1));
    let bytes = tiny::search(config.clone()).save().expect("finite");
    for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        check_refused(&bytes[..length], config.clone(), data.clone(), "not a checkpoint");
    }
    let view = TensorView::new(Dtype::F32, vec![1], &[0; 4]).expect("a number");
    let foreign = safetensors::serialize([("w", view)], None).expect("a file");
    check_refused(&foreign, config, data, "no description of ec-darts in it");
}

#[test]
fn bytes_of_another_search_are_refused() {
    let (config, data) = (tiny::config(), tiny::data(1));
    let bytes = tiny::search(config.clone()).save().expect("finite");
    let mut wider = config.clone();
    wider.network.init_channels = 4;
    let expected = "network.init_channels is 4 here and 2 there";
    check_refused(&bytes, wider, data.clone(), expected);
    let mut calmer = config.clone();
    calmer.weights.momentum = 0.5;
    check_refused(&bytes, calmer, data.clone(), "weights.momentum is 0.5 here and 0.9 there");
    check_refused(&bytes, config.clone(), tiny::data(2), "other images");
    // Settings that do not change the result may differ.
    let mut busier = config;
    busier.run.workers = 1;
    busier.run.checkpoint_steps = 1;
    assert!(restore(busier, data, &bytes).is_ok());
}
