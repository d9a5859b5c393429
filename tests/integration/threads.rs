//! Searches, retrainings and modules that change threads at every step give the results of a single
//! thread.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ec_darts::architect::ArchitectOrder;
use ec_darts::config::{Order, RetrainConfig, SearchConfig};
use ec_darts::data::{Datasets, ImageDataset};
use ec_darts::network::{EvaluationConfig, EvaluationNetwork, StemKind};
use ec_darts::ops::{Form, Norm, Operation};
use ec_darts::train::{Done, Retraining, Search};
use ec_darts_space::{Primitive, presets};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::tiny;

/// Runs on a new thread, which ends afterwards.
fn elsewhere<R: Send>(run: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| scope.spawn(run).join().expect("no panic"))
}

fn check_search(change: impl Fn(&mut SearchConfig)) {
    let mut config = tiny::config();
    change(&mut config);
    let mut here = tiny::search(config.clone());
    let mut moving = elsewhere(|| tiny::search(config.clone()));
    loop {
        let done = here.work().expect("finite");
        assert_eq!(elsewhere(|| moving.work()).expect("finite"), done);
        let (a, b) = (here.save().expect("finite"), elsewhere(|| moving.save()).expect("finite"));
        assert!(a == b, "{:?} after {:?}", config.search, here.position());
        if done == Done::Everything {
            break;
        }
    }
    assert_eq!(here.take_events(), moving.take_events());
}

#[test]
fn a_search_may_change_threads_at_every_step() {
    check_search(|_| ());
    check_search(|config| {
        config.search.architect = ArchitectOrder::Second;
        config.search.order = Order::Sequential;
    });
    check_search(|config| config.run.workers = 2);
}

/// Two threads take steps in turn, and neither ends; one reads the results of the other.
#[test]
fn two_threads_may_take_turns() {
    let mut alone = tiny::search(tiny::config());
    while alone.work().expect("finite") != Done::Everything {}

    let (to_other, from_this) = std::sync::mpsc::sync_channel::<Search>(0);
    let (to_this, from_other) = std::sync::mpsc::sync_channel::<Search>(0);
    let other = std::thread::spawn(move || {
        while let Ok(mut search) = from_this.recv() {
            search.work().expect("finite");
            to_this.send(search).expect("received");
        }
    });
    let mut search = tiny::search(tiny::config());
    while search.work().expect("finite") != Done::Everything {
        to_other.send(search).expect("received");
        search = from_other.recv().expect("sent back");
    }
    drop(to_other);
    other.join().expect("no panic");
    assert!(search.save().expect("finite") == alone.save().expect("finite"));
}

#[test]
fn a_retraining_may_change_threads_at_every_step() {
    let mut config = RetrainConfig::cifar10();
    config.network.init_channels = 2;
    config.network.num_cells = 3;
    config.network.drop_path_prob = 0.5;
    config.retrain.epochs = 2;
    config.retrain.batch_size = 4;
    config.retrain.average_decay = Some(0.9);
    config.run.workers = 0;
    let data = Datasets { train: tiny::data(1), test: tiny::data(2), notices: Vec::new() };
    let genotype = presets::DARTS_V2.genotype();
    let new = || Retraining::new(config.clone(), &genotype, &data, &Device::flex()).expect("fits");
    let (mut here, mut moving) = (new(), elsewhere(new));
    loop {
        let done = here.work().expect("finite");
        assert_eq!(elsewhere(|| moving.work()).expect("finite"), done);
        let bytes = here.save().expect("finite");
        assert!(bytes == elsewhere(|| moving.save()).expect("finite"));
        if done == Done::Everything {
            break;
        }
        let device = Device::flex();
        let again = || Retraining::from_bytes(config.clone(), &genotype, &data, &device, &bytes);
        moving = elsewhere(again).expect("its own bytes");
    }
    let model = |retraining: &Retraining| retraining.model().to_bytes().expect("finite");
    let here = model(&here);
    assert!(here == elsewhere(move || model(&moving)));
}

/// All of our modules with running statistics: after passes on other threads, the statistics are
/// the same here.
#[test]
fn running_statistics_do_not_depend_on_the_thread() {
    let device = Device::flex().autodiff();
    let input = |seed| tiny::tensor(seed, [3, 4, 6, 6], &Device::flex().autodiff());
    let check = |name: &str, pass: &(dyn Fn(u64) + Sync), values: &dyn Fn() -> Vec<f32>| {
        let fresh = values();
        pass(1);
        let once = values();
        assert_ne!(fresh, once, "{name} moves its statistics, and they are read at once");
        elsewhere(|| pass(2));
        let twice = values();
        assert_ne!(once, twice, "{name}");
        assert_eq!(elsewhere(|| twice.clone()), values(), "{name}");
    };
    let norm = Norm::new(4, true, &device);
    check("Norm", &|seed| drop(norm.forward(input(seed))), &|| {
        tiny::values(norm.running_mean.value())
    });
    for primitive in Primitive::ALL {
        let Some(operation) = Operation::new(primitive, 4, 1, Form::Search, &device) else {
            continue;
        };
        if operation.packed.layout.statistics.parts.is_empty() {
            continue;
        }
        check(primitive.name(), &|seed| drop(operation.forward(input(seed))), &|| {
            tiny::values(operation.packed.running_var.value())
        });
    }
}

/// A set of one colour has no deviation to divide by, but a search on it works.
#[test]
fn images_of_one_colour_are_numbers() {
    let names = vec!["one".into(), "other".into()];
    let set = ImageDataset::new([8, 8], vec![7; 16 * 192], [0, 1].repeat(8), names).expect("a set");
    assert_eq!(set.normalization().std, [1.0; 3]);
    let mut search =
        Search::new(tiny::config(), Arc::new(set), &Device::flex()).expect("its settings");
    while search.work().expect("finite") != Done::Everything {}
}

fn network(device: &Device) -> EvaluationNetwork {
    let config = EvaluationConfig {
        init_channels: 4,
        num_cells: 3,
        ..EvaluationConfig::new(StemKind::Cifar, 2)
    };
    config.init(&presets::DARTS_V2.genotype(), &mut ChaCha8Rng::seed_from_u64(1), device)
}

/// A frozen body on the autodiff device, before and after trainable layers.
#[test]
fn a_frozen_network_keeps_its_running_statistics() {
    let device = Device::flex().autodiff();
    let network = network(&device);
    network.forward(tiny::tensor(1, [4, 3, 8, 8], &device));
    let frozen = network.clone().freeze();
    let before = tiny::state(&frozen);
    let images = tiny::tensor(2, [4, 3, 8, 8], &device).require_grad();
    let features = frozen.features(images.clone());
    let plain = network.valid().features(images.clone().inner());
    let (found, expected) = (tiny::values(features.clone()), tiny::values(plain));
    assert!(tiny::distance(&found, &expected) < 1e-5, "by the running statistics");
    let gradients = features.sum().backward();
    let of_images: Tensor<4> = images.grad(&gradients).expect("gradients go through");
    assert!(tiny::values(of_images).iter().any(|value| *value != 0.0));
    assert_eq!(tiny::state(&frozen), before);
    // Without the freeze, it learns again.
    let learning = frozen.unfreeze();
    learning.forward(tiny::tensor(3, [4, 3, 8, 8], &device));
    assert_ne!(tiny::state(&learning), before);
}
