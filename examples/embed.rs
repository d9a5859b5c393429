//! A searched network inside another Burn program: its body stays unchanged, and a new classifier
//! on top learns other classes.
//!
//! ```text
//! cargo run --release --example embed -- model.safetensors
//! ```
//!
//! Without a file the body has random weights, which is enough to show the method.

use std::path::Path;
use std::sync::Arc;

use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::Device;
use ec_darts::batch::ImageBatch;
use ec_darts::data::{self, DatasetKind, Loader, Purpose, Source};
use ec_darts::device::DeviceName;
use ec_darts::model::{ModelDescription, TrainedModel};
use ec_darts::network::{EvaluationConfig, Skeleton, StemKind};
use ec_darts_space::Preset;

/// Number of steps of the new classifier.
const STEPS: usize = 100;
/// The animal classes of CIFAR-10; the new classifier tells animals from machines.
const ANIMALS: [i32; 6] = [2, 3, 4, 5, 6, 7];

fn main() -> anyhow::Result<()> {
    let device = DeviceName::Flex.open()?.device;
    let kind = DatasetKind::Cifar10;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/cifar10-mini");
    let images = data::load(&Source::new(kind, &folder))?;

    // A trained model is frozen: it tracks no gradient, and its batch normalization uses the
    // running statistics.
    let model = match std::env::args_os().nth(1) {
        Some(path) => TrainedModel::load(path.as_ref(), &device)?,
        None => random(images.train.class_names().to_vec(), &device)?,
    };
    model.check_data(&images.train, &folder)?;
    let before = model.to_bytes()?;

    // Only the classifier is on the device with autodiff.
    let training = device.clone().autodiff();
    let width = model.network.classifier.weight.dims()[0];
    let mut classifier: Linear = LinearConfig::new(width, 2).init(&training);
    let mut optimizer = AdamConfig::new().init();
    let loss = CrossEntropyLossConfig::new().init(&training);

    let normalization = model.description.normalization();
    let loader =
        |dataset: Arc<data::ImageDataset>| Loader { normalization, ..Loader::new(dataset, 32) };
    let animals = |mut batch: data::Batch| {
        batch.labels.iter_mut().for_each(|label| *label = i32::from(ANIMALS.contains(label)));
        ImageBatch::new(batch, &training)
    };
    let train = Loader { order: Some(Purpose::Train), ..loader(images.train) };
    for (step, batch) in train.endless(0).take(STEPS).enumerate() {
        let batch = animals(batch?);
        let logits = classifier.forward(model.features(batch.images));
        let value = loss.forward(logits, batch.labels);
        if step % 20 == 0 {
            println!("step {step}: loss {:.3}", value.clone().into_scalar::<f32>());
        }
        let gradients = GradientsParams::from_grads(value.backward(), &classifier);
        classifier = optimizer.step(0.01, classifier, gradients);
    }

    assert!(model.to_bytes()? == before, "the body has not moved");
    let (mut correct, mut count) = (0, 0);
    for batch in loader(images.test).epoch(0, 0) {
        let batch = animals(batch?);
        let logits = classifier.forward(model.features(batch.images));
        let found = logits.argmax(1).flatten::<1>(0, 1);
        count += batch.labels.dims()[0];
        correct += found.equal(batch.labels).int().sum().into_scalar::<i64>() as usize;
    }
    println!(
        "animal or machine: {correct} of {count} test images; the body is as before, bit for bit"
    );
    Ok(())
}

fn random(class_names: Vec<String>, device: &Device) -> anyhow::Result<TrainedModel> {
    let genotype = Preset::find("EC_DARTS_CIFAR")?.genotype();
    let config = EvaluationConfig {
        skeleton: Skeleton::Darts,
        stem: StemKind::Cifar,
        init_channels: 8,
        num_cells: 5,
        num_classes: 10,
    };
    let kind = DatasetKind::Cifar10;
    let normalization = kind.normalization().expect("published figures");
    let description =
        ModelDescription::new(genotype, &config, class_names, [32; 2], &normalization, kind.name());
    let network = description.build(device);
    Ok(TrainedModel::new(description, network)?)
}
