//! Searches, data and tensors that are small enough for a test, shared by the topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use ec_darts::batch::ImageBatch;
use ec_darts::config::SearchConfig;
use ec_darts::data::ImageDataset;
use ec_darts::ops::Packs;
use ec_darts::snapshot::Snapshot;
use ec_darts::train::Search;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Two epochs of two steps on a network of three narrow cells with two nodes each.
pub fn config() -> SearchConfig {
    let mut config = SearchConfig::cifar10();
    config.data.crop_padding = 1;
    config.network.init_channels = 2;
    config.network.num_cells = 3;
    config.network.num_nodes = 2;
    config.search.epochs = 2;
    config.search.batch_size = 4;
    config.search.measured_images = Some(8);
    config.run.workers = 0;
    config
}

/// Sixteen random 8x8 images of two classes.
pub fn data(seed: u64) -> Arc<ImageDataset> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = 16;
    let pixels = (0..count * 3 * 8 * 8).map(|_| rng.random()).collect();
    let labels = (0..count).map(|image| image as u16 % 2).collect();
    let names = vec!["even".into(), "odd".into()];
    Arc::new(ImageDataset::new([8, 8], pixels, labels, names).expect("a set"))
}

/// A search with these settings on Flex, at its first step.
pub fn search(config: SearchConfig) -> Search {
    Search::new(config, data(1), &Device::flex()).expect("settings for these data")
}

/// Random numbers of a normal-like spread in (-2, 2).
pub fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-2.0..2.0)).collect()
}

/// A random tensor.
pub fn tensor<const D: usize>(seed: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    let values = numbers(seed, shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Four random images of two classes.
pub fn batch(seed: u64, device: &Device) -> ImageBatch {
    let labels = Tensor::from_data([0, 1, 1, 0], device);
    ImageBatch { images: tensor(seed, [4, 3, 8, 8], device), labels }
}

/// The values of a tensor.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("single precision")
}

/// All parameters and running statistics of a module by path.
pub fn state<M: Packs>(module: &M) -> BTreeMap<String, TensorData> {
    let mut snapshot = Snapshot::default();
    snapshot.save(module, "module");
    snapshot.tensors
}

/// Central differences of `f` at `x`, one coordinate after the other.
pub fn differences(x: &[f32], radius: f32, f: impl Fn(Vec<f32>) -> f64) -> Vec<f32> {
    let moved = |index: usize, by: f32| {
        let mut x = x.to_vec();
        x[index] += by;
        (f64::from(x[index]), f(x))
    };
    let slope = |index| {
        let ((above, f_above), (below, f_below)) = (moved(index, radius), moved(index, -radius));
        ((f_above - f_below) / (above - below)) as f32
    };
    (0..x.len()).map(slope).collect()
}

/// Sum of products in double precision.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Euclidean distance of two vectors as a fraction of the second one's norm.
pub fn distance(actual: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(actual.len(), expected.len(), "number of values");
    let miss: Vec<f32> = actual.iter().zip(expected).map(|(a, e)| a - e).collect();
    (dot(&miss, &miss) / dot(expected, expected)).sqrt()
}
