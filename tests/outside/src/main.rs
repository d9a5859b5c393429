//! A search in another program. Images are in memory; every step runs on another thread, as in a
//! task of an async runtime. The search is stopped and resumed from bytes, its genotype is
//! retrained, and the network is used on plain and autodiff devices. All results must equal those
//! of a single thread, bit for bit.

use std::sync::Arc;
use std::thread;

use burn::module::Module;
use burn::nn::LinearConfig;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor, TensorData};
use ec_darts::batch::ImageBatch;
use ec_darts::config::{DataConfig, RetrainConfig, SearchConfig};
use ec_darts::data::{DatasetKind, Datasets, ImageDataset, Loader};
use ec_darts::model::{TrainedModel, evaluate};
use ec_darts::train::{Done, Retraining, Search};
use ec_darts_space::Genotype;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Images of 8x8 pixels; the bright side is the class.
fn images(count: usize, shift: usize) -> Result<ImageDataset> {
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for image in 0..count {
        let class = image % 2;
        for at in 0..3 * 64 {
            let is_bright = usize::from(at % 8 >= 4) == class;
            let noise = (image * 31 + at * 17 + shift * 101) % 97;
            pixels.push((noise + if is_bright { 120 } else { 0 }) as u8);
        }
        labels.push(class as u16);
    }
    Ok(ImageDataset::new([8, 8], pixels, labels, vec!["left".into(), "right".into()])?)
}

/// A mirrored image would belong to the other class.
fn data_config() -> DataConfig {
    DataConfig { crop_padding: 1, flip: false, ..DataConfig::new(DatasetKind::Memory) }
}

/// Runs on a new thread, or on this one.
fn on<T: Send>(elsewhere: bool, run: impl FnOnce() -> T + Send) -> T {
    match elsewhere {
        true => thread::scope(|scope| scope.spawn(run).join().expect("no panic")),
        false => run(),
    }
}

fn search(data: &Arc<ImageDataset>, elsewhere: bool) -> Result<(Genotype, Vec<u8>)> {
    let mut config = SearchConfig::quick();
    config.data = data_config();
    config.network.init_channels = 4;
    config.network.num_cells = 3;
    config.network.num_nodes = 2;
    config.search.epochs = 2;
    config.search.batch_size = 8;
    config.search.steps_per_epoch = None;
    let device = Device::flex();
    let mut search = on(elsewhere, || Search::new(config.clone(), data.clone(), &device))?;
    let mut steps = 0;
    while on(elsewhere, || search.work())? != Done::Everything {
        steps += 1;
        if elsewhere && steps == 7 {
            let bytes = search.save()?;
            drop(search);
            search = Search::from_bytes(config.clone(), data.clone(), &device, &bytes)?;
        }
    }
    let best = search.best().expect("a search over an epoch has a genotype");
    println!("{steps} pieces of work, {}", best.genotype);
    Ok((best.genotype.clone(), search.save()?))
}

fn retrain(data: &Datasets, genotype: &Genotype, elsewhere: bool) -> Result<TrainedModel> {
    let mut config = RetrainConfig::quick();
    config.data = data_config();
    config.network.init_channels = 4;
    config.network.num_cells = 3;
    config.retrain.epochs = 12;
    config.retrain.batch_size = 8;
    config.retrain.validation_fraction = None;
    let device = Device::flex();
    let mut retraining =
        on(elsewhere, || Retraining::new(config.clone(), genotype, data, &device))?;
    let mut steps = 0;
    while on(elsewhere, || retraining.work())? != Done::Everything {
        steps += 1;
        if elsewhere && steps == 5 {
            let bytes = retraining.save()?;
            retraining = Retraining::from_bytes(config.clone(), genotype, data, &device, &bytes)?;
        }
    }
    Ok(on(elsewhere, move || retraining.model()))
}

fn logits(model: &TrainedModel, device: &Device, elsewhere: bool) -> Result<Vec<f32>> {
    let values: Vec<f32> = (0..5 * 192).map(|at| ((at * 37 % 101) as f32 - 50.0) / 25.0).collect();
    let images = Tensor::<4>::from_data(TensorData::new(values, [5, 3, 8, 8]), device);
    let logits = on(elsewhere, || model.logits(images));
    Ok(logits.into_data().try_to_vec()?)
}

fn main() -> Result<()> {
    let train = Arc::new(images(48, 0)?);
    let (genotype, here) = search(&train, false)?;
    let (moved_genotype, moving) = search(&train, true)?;
    assert_eq!(genotype, moved_genotype);
    assert!(here == moving, "a search that moves and stops ends in the bytes of one that does not");

    let data = Datasets::new(images(48, 0)?, images(24, 1)?)?;
    let model = retrain(&data, &genotype, false)?;
    let bytes = model.to_bytes()?;
    assert!(retrain(&data, &genotype, true)?.to_bytes()? == bytes, "so does a retraining");

    let (plain, tracked) = (Device::flex(), Device::flex().autodiff());
    let expected = logits(&model, &plain, false)?;
    for loaded_on in [&plain, &tracked] {
        let model = TrainedModel::from_bytes(&bytes, loaded_on)?;
        for device in [&tracked, &plain, &tracked] {
            for elsewhere in [false, true] {
                assert_eq!(logits(&model, device, elsewhere)?, expected, "the same logits");
            }
        }
        assert!(model.to_bytes()? == bytes, "a model that was used is the same");
    }
    let found = evaluate(&model, data.test.clone(), 8, &plain, &mut |_| ())?;
    println!("top-1 {:.3} on {} images", found.top1, found.num_images);
    assert!(found.top1 > 0.9, "it has learned: {found:?}");

    // A new classifier on the frozen body.
    let (mut head, mut optimizer) = (
        LinearConfig::new(model.network.classifier.weight.dims()[0], 2).init(&tracked),
        AdamConfig::new().init(),
    );
    let loss = CrossEntropyLossConfig::new().init(&tracked);
    for batch in Loader::new(data.train.clone(), 16).epoch(0, 0) {
        let ImageBatch { images, labels } = ImageBatch::new(batch?, &tracked);
        let labels: Tensor<1, Int> = labels;
        let value = loss.forward(head.forward(model.features(images)), labels);
        let gradients = GradientsParams::from_grads(value.backward(), &head);
        head = optimizer.step(0.01, head, gradients);
    }
    assert!(model.to_bytes()? == bytes, "the body has not moved");
    // The same with a network that is frozen on the autodiff device.
    let frozen = model.network.clone().train().freeze();
    let features = frozen.features(Tensor::ones([2, 3, 8, 8], &tracked));
    let expected = model.features(Tensor::ones([2, 3, 8, 8], &plain));
    let apart = (features.inner() - expected).abs().max().into_scalar::<f32>();
    assert!(apart < 1e-4, "apart by {apart}");
    println!("outside: the same bytes and logits on one thread and on many");
    Ok(())
}
