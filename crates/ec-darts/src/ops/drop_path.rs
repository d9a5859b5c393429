//! Drop path: operations that are left out for single images during training.

use ec_darts_kernels::{Cell, EdgeOperation};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Leaves out an operation for an image with some probability, and scales it up otherwise.
///
/// ```text
/// y = x * keep / (1 - prob)        keep = 1 with probability 1 - prob, else 0, for each image
/// ```
/// The expected value of `y` is `x`. Our own generator makes the draws, so they are the same on
/// every device and after an interruption.
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

    /// Whether any operation is ever left out.
    pub fn acts(&self) -> bool {
        self.prob > 0.0
    }

    /// The factor of each operation of a cell for each image; 1 for preprocessings and identities,
    /// which are never left out.
    ///
    /// # Shapes
    /// - output: `[num_mixing_weights][batch]`
    pub fn factors(&mut self, cell: &Cell, batch: usize) -> Vec<f32> {
        let (limit, scale) = (self.prob * 2_f64.powi(32), 1.0 / (1.0 - self.prob));
        let factor = |draw: u32| if f64::from(draw) < limit { 0.0 } else { scale as f32 };
        let mut factors = Vec::new();
        for (number, edge) in cell.edges().enumerate() {
            for &operation in &edge.operations {
                let stays = number < cell.inputs.len() || operation == EdgeOperation::Identity;
                factors.extend((0..batch).map(|_| match stays || !self.acts() {
                    true => 1.0,
                    false => factor(self.rng.next_u32()),
                }));
            }
        }
        factors
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::ops::edge;

    /// Factors of a cell with a preprocessing, a convolution and an identity.
    fn draw(prob: f64, batch: usize) -> Vec<f32> {
        let edge = |operation| edge(vec![operation], [2; 2], 1, true);
        let nodes = vec![
            vec![(0, edge(EdgeOperation::Separable { kernel: 3, dilation: 1, repeats: 2 }))],
            vec![(1, edge(EdgeOperation::Identity))],
        ];
        let cell = Cell {
            inputs: vec![edge(EdgeOperation::Pointwise)],
            nodes,
            concat: vec![2],
            fixed_inputs: true,
            parts: 1,
        };
        DropPath::new(prob, ChaCha8Rng::seed_from_u64(4)).factors(&cell, batch)
    }

    #[test]
    fn images_are_dropped_and_the_mean_is_kept() {
        let (prob, batch) = (0.3, 20_000);
        let all = draw(prob, batch);
        let [preprocessing, values, identity] =
            [0, 1, 2].map(|operation: usize| &all[operation * batch..(operation + 1) * batch]);
        assert_eq!((preprocessing, identity), (&vec![1.0; batch][..], &vec![1.0; batch][..]));
        for &value in values {
            assert!(value == 0.0 || (value - 1.0 / 0.7).abs() < 1e-6, "{value}");
        }
        let kept = values.iter().filter(|&&value| value > 0.0).count();
        // Four standard deviations of a binomial: sqrt(0.3 * 0.7 / 20000) = 0.0032.
        let share = kept as f64 / batch as f64;
        assert!((share - 0.7).abs() < 0.013, "{share}");
        let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
    }

    #[test]
    fn without_probability_nothing_changes() {
        assert_eq!(draw(0.0, 5), [1.0; 15]);
    }
}
