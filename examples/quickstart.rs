//! The parts of EC-DARTS one after another on random images; this takes a few seconds on a CPU.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! Random images teach nothing, so the genotype has no meaning. The example `search_cifar` has the
//! loop.

use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Int, Tensor};
use ec_darts::architect::Architect;
use ec_darts::architecture::{ArchitectureParameters, Strength};
use ec_darts::batch::ImageBatch;
use ec_darts::data::{Purpose, stream_rng};
use ec_darts::device::DeviceName;
use ec_darts::network::{CellForm, StemKind, SupernetConfig};
use ec_darts::objective::{Objective, cross_entropy};
use ec_darts::optim::{AdamSettings, SgdSettings, WeightOptimizer};
use ec_darts::relaxation::Relaxation;
use ec_darts::rule::Rule;
use ec_darts::transition::induce;
use ec_darts_space::SearchSpace;

fn main() -> anyhow::Result<()> {
    let opened = DeviceName::Flex.open()?;
    println!("device: {}", opened.description);
    let device = opened.device.autodiff();

    // The space is a value without tensors; the supernet and alpha are Burn modules.
    let space = SearchSpace::darts();
    let config = SupernetConfig {
        space: space.clone(),
        stem: StemKind::Cifar,
        init_channels: 4,
        num_cells: 3,
        num_classes: 10,
        form: CellForm::default(),
    };
    let supernet = config.init(&mut stream_rng(0, Purpose::Weights, 0, 0), &device);
    let mut rng = stream_rng(0, Purpose::Alpha, 0, 0);
    let alpha = ArchitectureParameters::new(&space, 1e-3, &mut rng, &device);

    let sgd =
        SgdSettings { momentum: 0.9, weight_decay: 3e-4, clip_norm: Some(5.0), nesterov: false };
    let mut weights = WeightOptimizer::new(&sgd);
    let adam = AdamSettings { beta1: 0.5, beta2: 0.999, weight_decay: 1e-3 };
    let mut architect = Architect::new(3e-4, &adam);
    let rule = Rule::from(Relaxation::CrossEdge);
    let objective = Objective::new(&space, &rule);
    let (train, valid) = (random_images(&device), random_images(&device));

    // One step on alpha, by the validation loss.
    let (alpha, valid_loss) = architect.step(&objective, alpha, &supernet, &valid, None);
    println!("validation loss before the step on alpha: {:.3}", valid_loss.into_scalar::<f32>());

    // One step on the weights, by the training loss at the new alpha.
    let mixing = objective.mixing(&alpha).detach();
    let loss = cross_entropy(supernet.forward(train.images.clone(), &mixing), &train);
    let gradients = GradientsParams::from_grads(loss.backward(), &supernet);
    let (supernet, norm) = weights.step(0.025, supernet, gradients);
    println!("training loss before the step on the weights: {:.3}", loss.into_scalar::<f32>());
    println!("norm of its gradient: {:.3}", norm.into_scalar::<f32>());

    // The genotype, and the supernet restricted to it.
    let genotype = rule.genotype(&space, &alpha, Strength::Mixing)?;
    println!("{genotype}");
    let logits = induce(&supernet, &genotype).forward(train.images.clone());
    println!(
        "loss of the auxiliary model: {:.3}",
        cross_entropy(logits, &train).into_scalar::<f32>()
    );
    Ok(())
}

fn random_images(device: &Device) -> ImageBatch {
    let images = Tensor::random([8, 3, 16, 16], Distribution::Normal(0.0, 1.0), device);
    let labels = Tensor::<1, Int>::from_data([0, 1, 2, 3, 4, 5, 6, 7], device);
    ImageBatch { images, labels }
}
