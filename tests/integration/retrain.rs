//! A retraining: the effects of its settings, and its resumption.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;
use ec_darts::Error;
use ec_darts::config::RetrainConfig;
use ec_darts::data::Datasets;
use ec_darts::snapshot::Snapshot;
use ec_darts::train::{MeasuredOn, RetrainEpochReport, RetrainEvent, Retraining};
use ec_darts_space::{Genotype, presets};

use crate::tiny;

/// Two epochs of four steps on a network of three narrow cells.
pub fn config() -> RetrainConfig {
    let mut config = RetrainConfig::cifar10();
    config.data.crop_padding = 1;
    config.data.cutout = Some(2);
    config.network.init_channels = 2;
    config.network.num_cells = 3;
    config.network.drop_path_prob = 0.5;
    config.retrain.epochs = 2;
    config.retrain.batch_size = 4;
    config.run.workers = 0;
    config
}

pub fn data() -> Datasets {
    Datasets { train: tiny::data(1), test: tiny::data(2), notices: Vec::new() }
}

pub fn genotype() -> Genotype {
    presets::DARTS_V2.genotype()
}

pub fn retraining(config: RetrainConfig) -> Retraining {
    Retraining::new(config, &genotype(), &data(), &Device::flex()).expect("its settings")
}

pub fn restore(
    config: RetrainConfig,
    genotype: &Genotype,
    bytes: &[u8],
) -> Result<Retraining, Error> {
    let path = Path::new("some.safetensors");
    Retraining::restore(config, genotype, &data(), &Device::flex(), bytes, path)
}

/// Runs to the end; returns the reports of the epochs.
fn finish(retraining: &mut Retraining) -> Vec<RetrainEpochReport> {
    let mut reports = Vec::new();
    while let Some(event) = retraining.advance().expect("a finite retraining") {
        if let RetrainEvent::Epoch(report) = event {
            reports.push(*report);
        }
    }
    reports
}

fn weights(retraining: &Retraining) -> Vec<u8> {
    let mut snapshot = Snapshot::default();
    snapshot.save(retraining.network(), "network");
    snapshot.to_bytes("")
}

/// Compares an unbroken retraining with one that is saved and restored after every event.
fn check_goes_on(change: impl Fn(&mut RetrainConfig)) {
    let mut config = config();
    change(&mut config);
    let (mut unbroken, mut broken) = (retraining(config.clone()), retraining(config.clone()));
    let mut bytes = broken.save().expect("finite");
    loop {
        broken = restore(config.clone(), &genotype(), &bytes).expect("its own bytes");
        let event = unbroken.advance().expect("a finite retraining");
        assert_eq!(broken.advance().expect("a finite retraining"), event);
        bytes = broken.save().expect("finite");
        assert!(bytes == unbroken.save().expect("finite"), "after {event:?}");
        if event.is_none() {
            break;
        }
    }
    let (step, total) = broken.position();
    assert_eq!(step, total);
}

#[test]
fn goes_on_as_unbroken() {
    check_goes_on(|_| ());
    check_goes_on(|config| {
        config.retrain.average_decay = Some(0.9);
        config.retrain.accumulation = 2;
        config.retrain.validation_fraction = Some(0.25);
        config.retrain.label_smoothing = 0.1;
        config.run.workers = 2;
    });
    check_goes_on(|config| {
        config.network.auxiliary_loss_weight = None;
        config.retrain.measure_every = 2;
        config.retrain.steps_per_epoch = Some(3);
    });
}

#[test]
fn the_last_epoch_is_measured_on_the_images_it_names() {
    let check = |change: &dyn Fn(&mut RetrainConfig), on, images, measured: &[bool]| {
        let mut config = config();
        change(&mut config);
        let mut retraining = retraining(config);
        let reports = finish(&mut retraining);
        let found: Vec<bool> =
            reports.iter().map(|report| report.valid_accuracy.is_some()).collect();
        assert_eq!(found, measured);
        let last = retraining.measured().expect("the last epoch");
        assert_eq!((last.on, last.images, last.epoch), (on, images, 1));
        let report = reports.last().expect("an epoch");
        assert_eq!(report.valid_accuracy, Some(last.accuracy));
        // With two classes, the right one is always among the first five.
        assert_eq!(report.valid_top5, Some(1.0));
    };
    check(&|_| (), MeasuredOn::Test, 16, &[true, true]);
    check(&|c| c.retrain.measure_every = 5, MeasuredOn::Test, 16, &[false, true]);
    let hold = |c: &mut RetrainConfig| c.retrain.validation_fraction = Some(0.25);
    check(&hold, MeasuredOn::Validation, 4, &[true, true]);
}

/// Every setting of the loop changes the result.
#[test]
fn no_setting_is_without_effect() {
    let run = |change: &dyn Fn(&mut RetrainConfig)| {
        let mut config = config();
        // For two epochs, a line and a cosine are the same.
        (config.retrain.epochs, config.retrain.steps_per_epoch) = (3, Some(3));
        change(&mut config);
        let mut retraining = retraining(config);
        finish(&mut retraining);
        weights(&retraining)
    };
    let plain = run(&|_| ());
    assert!(plain == run(&|_| ()), "the same twice");
    type Change = dyn Fn(&mut RetrainConfig);
    let changes: [(&str, &Change); 14] = [
        ("auxiliary_loss_weight", &|c| c.network.auxiliary_loss_weight = None),
        ("drop_path_prob", &|c| c.network.drop_path_prob = 0.0),
        ("accumulation", &|c| c.retrain.accumulation = 2),
        ("steps_per_epoch", &|c| c.retrain.steps_per_epoch = Some(2)),
        ("validation_fraction", &|c| c.retrain.validation_fraction = Some(0.5)),
        ("label_smoothing", &|c| c.retrain.label_smoothing = 0.1),
        ("average_decay", &|c| c.retrain.average_decay = Some(0.5)),
        ("seed", &|c| c.retrain.seed = 7),
        ("schedule", &|c| c.weights.schedule = ec_darts::optim::Decay::Linear),
        ("min_learning_rate", &|c| c.weights.min_learning_rate = 0.01),
        ("warmup_epochs", &|c| c.weights.warmup_epochs = 2),
        ("clip_norm", &|c| c.weights.clip_norm = Some(0.1)),
        ("weight_decay", &|c| c.weights.weight_decay = 0.1),
        ("cutout", &|c| c.data.cutout = None),
    ];
    let same = changes.into_iter().filter(|(_, change)| run(*change) == plain);
    let without_effect: Vec<&str> = same.map(|(name, _)| name).collect();
    assert!(without_effect.is_empty(), "{without_effect:?}");
}

#[test]
fn the_learning_rate_rises_and_drop_path_ramps() {
    let mut config = config();
    config.retrain.epochs = 4;
    config.weights.warmup_epochs = 2;
    config.weights.schedule = ec_darts::optim::Decay::Linear;
    let reports = finish(&mut retraining(config));
    let rates: Vec<f64> = reports.iter().map(|report| report.learning_rate).collect();
    // A linear schedule of four epochs from 0.025, with the first epoch halved.
    for (rate, expected) in rates.iter().zip([0.0125, 0.01875, 0.0125, 0.00625]) {
        assert!((rate - expected).abs() < 1e-12, "{rates:?}");
    }
    let drops: Vec<f64> = reports.iter().map(|report| report.drop_path).collect();
    assert_eq!(drops, [0.0, 0.125, 0.25, 0.375]);
}

/// The gradients of the parts sum to that of the batch.
#[test]
fn parts_of_equal_images_are_the_whole() {
    // All images are equal, so that every part has the batch statistics of the whole.
    let image: Vec<u8> = (0..3 * 8 * 8).map(|value| (value * 7) as u8).collect();
    let names = vec!["even".into(), "odd".into()];
    let same = ec_darts::data::ImageDataset::new([8, 8], image.repeat(8), [0, 1].repeat(4), names)
        .expect("a set");
    let same = Arc::new(same);
    let data = Datasets { train: same.clone(), test: same, notices: Vec::new() };
    let run = |accumulation| {
        let mut config = config();
        (config.data.crop_padding, config.data.flip, config.data.cutout) = (0, false, None);
        (config.retrain.accumulation, config.network.drop_path_prob) = (accumulation, 0.0);
        config.retrain.batch_size = 8;
        config.retrain.epochs = 1;
        let mut retraining =
            Retraining::new(config, &genotype(), &data, &Device::flex()).expect("its settings");
        finish(&mut retraining);
        let bias = retraining.network().classifier.bias.as_ref().expect("a bias").val();
        tiny::values(bias)
    };
    let (whole, cut) = (run(1), run(4));
    for (whole, cut) in whole.iter().zip(&cut) {
        assert!((whole - cut).abs() < 1e-6, "{whole} {cut}");
    }
}

#[test]
fn others_are_refused() {
    let mut retraining = retraining(config());
    for _ in 0..3 {
        retraining.advance().expect("finite");
    }
    let bytes = retraining.save().expect("finite");
    let check = |config: RetrainConfig, genotype: &Genotype, bytes: &[u8], expected: &str| {
        let error = restore(config, genotype, bytes).err().expect(expected).to_string();
        assert!(error.starts_with("some.safetensors: "), "{error}");
        assert!(error.contains(expected), "{expected:?} in {error}");
    };
    let mut other = config();
    other.weights.momentum = 0.5;
    check(other, &genotype(), &bytes, "weights.momentum is 0.5 here and 0.9 there");
    let v1 = presets::DARTS_V1.genotype();
    check(config(), &v1, &bytes, "a checkpoint of another network: its genotype is Genotype(");
    check(config(), &genotype(), &bytes[..100], "not a checkpoint of a retraining");
    let search = tiny::search(tiny::config()).save().expect("finite");
    check(config(), &genotype(), &search, "not a checkpoint of a retraining");

    let path = Path::new("some.safetensors");
    let moved = Datasets { train: tiny::data(5), test: tiny::data(2), notices: Vec::new() };
    let error =
        Retraining::restore(config(), &genotype(), &moved, &Device::flex(), &bytes, path).err();
    assert!(error.expect("other images").to_string().contains("other images"));
}

#[test]
fn settings_that_do_not_fit_the_images() {
    let mut config = config();
    config.network.stem = ec_darts::network::StemKind::Stride2;
    let error = Retraining::new(config, &genotype(), &data(), &Device::flex()).err();
    let error = error.expect("4x4 behind the stem is too small").to_string();
    assert!(error.contains("stride2 with images of 8x8"), "{error}");
}

/// The average follows the weights, and is measured and saved.
#[test]
fn the_average_is_kept() {
    let mut config = config();
    config.retrain.average_decay = Some(0.999_999);
    let mut averaged = retraining(config.clone());
    let start = weights(&averaged);
    finish(&mut averaged);
    config.retrain.average_decay = None;
    let mut plain = retraining(config);
    assert!(start == weights(&plain), "the average begins as the weights");
    finish(&mut plain);
    assert!(weights(&averaged) != start && weights(&averaged) != weights(&plain));
    assert_eq!(averaged.network().num_params(), plain.network().num_params());
}

fn read_every(steps: usize, retraining: Retraining) -> Retraining {
    retraining.with_read_every(NonZeroUsize::new(steps).expect("some steps"))
}

/// Losses that are read together equal losses that are read one by one, and so does the result.
#[test]
fn how_often_losses_are_read_changes_nothing() {
    let mut config = config();
    config.retrain.batch_size = 2;
    config.retrain.accumulation = 2;
    let (mut often, seldom) = (retraining(config.clone()), retraining(config.clone()));
    let mut seldom = read_every(7, seldom);
    let mut steps = 0;
    while let Some(event) = often.advance().expect("a finite retraining") {
        assert_eq!(seldom.advance().expect("a finite retraining"), Some(event));
        steps += 1;
        if steps == 3 {
            // Seven steps are queued and read; the others were told already.
            assert_eq!(seldom.position().0, 7);
        }
    }
    assert_eq!(seldom.advance().expect("over"), None);
    let bytes = often.save().expect("finite");
    assert!(bytes == seldom.save().expect("finite"));

    let mut broken = read_every(7, retraining(config.clone()));
    for _ in 0..3 {
        broken.work().expect("a step");
    }
    assert!(broken.take_events().is_empty());
    let saved = broken.save().expect("finite");
    assert_eq!(broken.take_events().len(), 3);
    let mut broken = read_every(5, restore(config, &genotype(), &saved).expect("its own bytes"));
    finish(&mut broken);
    assert!(bytes == broken.save().expect("finite"));
}

#[test]
fn a_diverged_retraining_is_not_saved() {
    let mut config = config();
    config.weights.learning_rate = 1e30;
    config.weights.clip_norm = None;
    config.retrain.batch_size = 2;
    let mut retraining = read_every(7, retraining(config));
    for _ in 0..4 {
        retraining.work().expect("a step that is not read yet");
    }
    for _ in 0..2 {
        let error = retraining.save().expect_err("weights beyond single precision");
        assert!(matches!(error, Error::NonFinite { step: 1, .. }), "{error}");
    }
    assert!(matches!(retraining.advance(), Ok(Some(RetrainEvent::Step(step))) if step.step == 0));
    assert!(matches!(retraining.advance(), Err(Error::NonFinite { step: 1, .. })));
}
