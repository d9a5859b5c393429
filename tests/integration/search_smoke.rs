//! A small search on the bundled images, to its end on Flex and for two steps on GPUs.

use std::path::Path;

use burn::tensor::Device;
use ec_darts::config::{KernelSetting, SearchConfig};
use ec_darts::data;
use ec_darts::device::DeviceName;
use ec_darts::optim::cosine_learning_rate;
use ec_darts::train::{Event, Search};

use crate::tiny;

fn config() -> SearchConfig {
    let mut config = SearchConfig::quick();
    config.data.train_images = Some(64);
    config.network.init_channels = 2;
    config.network.num_cells = 3;
    config.network.num_nodes = 2;
    config.search.batch_size = 2;
    config.search.epochs = 2;
    config.search.steps_per_epoch = Some(2);
    config.search.measured_images = Some(8);
    config
}

/// The first events of a search, or all of them.
fn check(device: &Device, most: usize) -> (Search, Vec<Event>) {
    let config = config();
    // A relative path, because on a machine with a GPU the project may be in another place than at
    // build time.
    let images = data::load(&config.data.source(Path::new("data/cifar10-mini")))
        .expect("the bundled images")
        .train;
    let mut search = Search::new(config, images, device).expect("its settings");
    let mut events = Vec::new();
    while events.len() < most
        && let Some(event) = search.advance().expect("a finite search")
    {
        if let Event::Step(report) = &event {
            let losses = [report.train_loss, report.valid_loss];
            for loss in losses.into_iter().flatten() {
                assert!(loss > 0.0 && loss < 20.0, "{report:?}");
            }
            assert!(report.images > 0, "{report:?}");
        }
        events.push(event);
    }
    (search, events)
}

#[test]
fn on_flex_to_the_end() {
    let (search, events) = check(&Device::flex(), usize::MAX);
    let epochs = events.iter().filter_map(|event| match event {
        Event::Epoch(report) => Some(report),
        _ => None,
    });
    let mut count = 0;
    for (number, report) in epochs.enumerate() {
        assert_eq!(report.epoch, number);
        let transition = report.transition.as_ref().expect("a transition in every epoch");
        for accuracy in [report.supernet_accuracy, transition.valid_accuracy] {
            assert_eq!((accuracy * 8.0).fract(), 0.0, "{accuracy} of 8 images");
        }
        for cell in [Some(&report.normal), report.reduction.as_ref()].into_iter().flatten() {
            assert!(cell.entropy > 0.9 && cell.entropy <= 1.0, "{cell:?}");
        }
        count += 1;
    }
    assert_eq!(count, 2);
    search.best().expect("a genotype").genotype.validate().expect("a network");
}

#[test]
fn the_learning_rate_rises_first() {
    let mut config = tiny::config();
    (config.search.epochs, config.weights.warmup_epochs) = (4, 2);
    let mut search = tiny::search(config);
    let mut rates = Vec::new();
    while let Some(event) = search.advance().expect("a finite search") {
        if let Event::Epoch(report) = event {
            rates.push(report.learning_rate);
        }
    }
    let cosine = |epoch| cosine_learning_rate(0.025, 0.001, epoch, 4);
    assert_eq!(rates, [cosine(0) / 2.0, cosine(1), cosine(2), cosine(3)]);
}

#[test]
fn two_steps_on_wgpu() {
    two_steps(DeviceName::Wgpu);
}

#[cfg(feature = "cuda")]
#[test]
fn two_steps_on_cuda() {
    two_steps(DeviceName::Cuda);
}

/// The same weights and images as on Flex give the same losses up to rounding.
fn two_steps(name: DeviceName) {
    let Some(device) = crate::devices::gpu(name) else { return };
    let losses = |device: &Device| -> Vec<f64> {
        let (_, events) = check(device, 2);
        let both = |event: &Event| match event {
            Event::Step(report) => [report.train_loss, report.valid_loss].map(Option::unwrap),
            other => panic!("{other:?}"),
        };
        events.iter().flat_map(both).collect()
    };
    let (actual, expected) = (losses(&device), losses(&Device::flex()));
    for (actual, expected) in actual.iter().zip(&expected) {
        assert!((actual - expected).abs() < 1e-3 * expected, "{actual} is not {expected}");
    }
}

/// Fused kernels and Burn's operations give the same losses up to rounding, and the same genotype.
#[test]
fn both_kernels_find_the_same() {
    let run = |kernels| {
        let mut config = config();
        config.run.kernels = kernels;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/cifar10-mini");
        let images = data::load(&config.data.source(&folder)).expect("the bundled images").train;
        let mut search = Search::new(config, images, &Device::flex()).expect("settings");
        let mut losses = Vec::new();
        while let Some(event) = search.advance().expect("a finite search") {
            if let Event::Step(report) = event {
                losses.extend(report.train_loss);
            }
        }
        (losses, search.best().expect("a genotype").genotype.clone())
    };
    let (fused, genotype) = run(KernelSetting::Fused);
    let (reference, expected) = run(KernelSetting::Reference);
    assert_ne!(fused, reference, "two ways of computing do not round alike");
    for (actual, expected) in fused.iter().zip(&reference) {
        assert!((actual - expected).abs() < 1e-2 * expected, "{actual} is not {expected}");
    }
    assert_eq!(genotype, expected);
}
