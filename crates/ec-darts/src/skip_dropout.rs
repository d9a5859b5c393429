//! Dropout behind the skip connections of a supernet.
//!
//! Entry point: [`SkipDropout`]. Invariant: the masks are a function of the stream of the pass, the
//! cell and the edge; every pass with the same stream drops the same elements.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// The dropout masks of one pass, behind every candidate skip connection of stride 1. Each element
/// is dropped independently.
///
/// ```text
/// skip(x) = x * mask / (1 - rate)
/// ```
///
/// # Source
/// P-DARTS, section 3.3; `model_search.py`, `MixedOp`: `nn.Dropout` behind the identity.
#[derive(Clone, Debug)]
pub struct SkipDropout {
    /// The dropout rate, in [0, 1).
    pub rate: f64,
    /// The masks.
    pub masks: SkipMasks,
}

/// Masks of the skip connections: 1 keeps, 0 drops.
#[derive(Clone, Debug)]
pub enum SkipMasks {
    /// Drawn from the stream of a pass when a skip connection is computed. Each edge of each cell
    /// has its own stream.
    Drawn(Box<ChaCha8Rng>),
    /// Given by the numbers of cell and edge, `[batch, channels, height, width]`.
    Given(Arc<BTreeMap<[usize; 2], Tensor<4>>>),
}

impl SkipDropout {
    /// The factors of the skip connection on an edge of a cell.
    ///
    /// # Shapes
    /// - output: `shape`
    ///
    /// # Panics
    /// Where masks are given, but not for this edge.
    pub fn factors(&self, place: [usize; 2], shape: [usize; 4], device: &Device) -> Tensor<4> {
        let scale = 1.0 / (1.0 - self.rate);
        match &self.masks {
            SkipMasks::Given(masks) => masks[&place].clone() * scale,
            SkipMasks::Drawn(stream) => {
                let mut rng = stream.clone();
                let [cell, edge] = place.map(|number| number as u64);
                rng.set_stream(cell << 32 | edge);
                let factors = drawn(self.rate, scale as f32, shape.iter().product(), &mut rng);
                Tensor::from_data(TensorData::new(factors, shape), device)
            }
        }
    }
}

/// `count` factors; each is zero with the probability `rate`, rounded to 1/65,536.
fn drawn(rate: f64, scale: f32, count: usize, rng: &mut impl Rng) -> Vec<f32> {
    let dropped = (rate * 65_536.0).round() as u32;
    let mut bytes = vec![0; 2 * count];
    rng.fill_bytes(&mut bytes);
    let draws = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]])));
    draws.map(|draw| if draw < dropped { 0.0 } else { scale }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Purpose, stream_rng};
    use crate::tensors::to_vec;

    fn factors(step: u64, place: [usize; 2]) -> Vec<f32> {
        let stream = stream_rng(1, Purpose::WeightDropout, 0, step);
        let dropout = SkipDropout { rate: 0.4, masks: SkipMasks::Drawn(Box::new(stream)) };
        to_vec(dropout.factors(place, [2, 8, 16, 16], &Device::flex()))
    }

    #[test]
    fn a_share_is_dropped_and_the_others_are_scaled() {
        let found = factors(0, [0, 3]);
        let dropped = found.iter().filter(|&&factor| factor == 0.0).count();
        // 4,096 elements: five standard deviations around 0.4.
        assert!((1482..=1795).contains(&dropped), "{dropped} of 4096");
        assert!(found.iter().all(|&factor| factor == 0.0 || (factor - 1.0 / 0.6).abs() < 1e-6));
    }

    #[test]
    fn a_mask_depends_on_step_cell_and_edge_alone() {
        let found = factors(0, [0, 3]);
        assert_eq!(found, factors(0, [0, 3]));
        for other in [factors(1, [0, 3]), factors(0, [1, 3]), factors(0, [0, 4])] {
            assert_ne!(found, other);
        }
    }
}
