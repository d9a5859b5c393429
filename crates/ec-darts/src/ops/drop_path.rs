//! Drop path: whole operations left out for single images while training.

use burn::tensor::{Tensor, TensorData};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Leaves an operation out for an image with some probability, and scales it up otherwise.
///
/// ```text
/// y = x * keep / (1 - prob)        keep = 1 with probability 1 - prob, else 0, for each image
/// ```
/// The expected value of `y` is `x`. The draws come from a generator of ours, so they are the same
/// on every device and after an interruption.
///
/// # Source
/// DARTS, `cnn/utils.py`, `drop_path`; FractalNet (Larsson et al., 2017), section 3.
#[derive(Debug)]
pub struct DropPath {
    prob: f64,
    rng: ChaCha8Rng,
}

impl DropPath {
    /// # Panics
    /// Where `prob` is not in [0, 1).
    pub fn new(prob: f64, rng: ChaCha8Rng) -> Self {
        assert!((0.0..1.0).contains(&prob), "a probability below 1, not {prob}");
        Self { prob, rng }
    }

    /// Whether anything is ever left out.
    pub fn acts(&self) -> bool {
        self.prob > 0.0
    }

    /// # Shapes
    /// - `input`, output: `[batch, channels, height, width]`
    pub fn apply(&mut self, input: Tensor<4>) -> Tensor<4> {
        if !self.acts() {
            return input;
        }
        let [batch, ..] = input.dims();
        let (limit, scale) = (self.prob * 2_f64.powi(32), 1.0 / (1.0 - self.prob));
        let factor = |draw: u32| if f64::from(draw) < limit { 0.0 } else { scale as f32 };
        let factors: Vec<f32> = (0..batch).map(|_| factor(self.rng.next_u32())).collect();
        let factors = TensorData::new(factors, [batch, 1, 1, 1]);
        let device = input.device();
        input * Tensor::from_data(factors, &device)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use rand::SeedableRng;

    use super::*;

    fn draw(prob: f64, batch: usize) -> Vec<f32> {
        let ones = Tensor::<4>::ones([batch, 2, 1, 3], &Device::flex());
        let dropped = DropPath::new(prob, ChaCha8Rng::seed_from_u64(4)).apply(ones);
        dropped.into_data().try_to_vec().expect("single precision")
    }

    #[test]
    fn images_are_dropped_whole_and_the_mean_is_kept() {
        let (prob, batch) = (0.3, 20_000);
        let values = draw(prob, batch);
        let mut kept = 0;
        for image in values.chunks_exact(6) {
            assert!(image.iter().all(|&value| value == image[0]), "{image:?}");
            assert!(image[0] == 0.0 || (image[0] - 1.0 / 0.7).abs() < 1e-6, "{image:?}");
            kept += usize::from(image[0] > 0.0);
        }
        // Four deviations of a binomial: sqrt(0.3 * 0.7 / 20000) = 0.0032.
        let share = kept as f64 / batch as f64;
        assert!((share - 0.7).abs() < 0.013, "{share}");
        let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
    }

    #[test]
    fn without_probability_nothing_changes() {
        assert_eq!(draw(0.0, 5), [1.0; 30]);
    }
}
