//! The maps that a training step keeps of one image, as
//! [`NetworkCost::activation_bytes`](super::NetworkCost::activation_bytes) defines them.

use ec_darts_space::{CellGenotype, NUM_INPUTS, Pick};

use super::Place;
use crate::network::StemKind;

/// A map in single precision.
pub(super) fn bytes(channels: usize, positions: usize) -> u64 {
    4 * (channels * positions) as u64
}

/// The image, and the output of each convolution, normalization and ReLU.
pub(super) fn stem(kind: StemKind, channels: usize, size: usize) -> u64 {
    let image = bytes(3, size * size);
    let half = size.div_ceil(2);
    image
        + match kind {
            StemKind::Cifar => 2 * bytes(kind.num_channels(channels), size * size),
            StemKind::Stride2 => 2 * bytes(kind.num_channels(channels), half * half),
            StemKind::Imagenet => {
                let quarter = half.div_ceil(2);
                let eighth = quarter.div_ceil(2);
                3 * bytes(channels / 2, half * half)
                    + 3 * bytes(channels, quarter * quarter)
                    + 2 * bytes(channels, eighth * eighth)
            }
        }
}

/// Both preprocessed inputs with what their normalizations read; the nodes, by themselves and joined;
/// what the normalizations of the operations read.
pub(super) fn cell(genotype: &CellGenotype, place: &Place) -> u64 {
    let channels = place.plan.num_channels;
    let inputs = 2 * NUM_INPUTS as u64 * bytes(channels, place.positions);
    let nodes = (genotype.states_with_picks().count() + genotype.concat.len()) as u64;
    // Batch normalizations of the operations; all work at the output's size.
    let norms = |pick: &Pick| {
        let stride = if place.input(pick.from) == place.out { 1 } else { 2 };
        pick.primitive.recipe().num_blocks(stride) as u64
    };
    let norms: u64 = genotype.nodes.iter().flatten().map(norms).sum();
    inputs + (nodes + norms) * bytes(channels, place.out)
}

#[cfg(test)]
mod tests {
    use super::super::NetworkCost;
    use super::*;
    use crate::network::EvaluationConfig;
    use ec_darts_space::Genotype;

    /// Counted by hand: 2 channels, 3 cells, two reductions, one node.
    #[test]
    fn a_small_network() {
        let text = "Genotype(normal=[[('sep_conv_3x3', 0), ('skip_connect', 1)]], \
                    normal_concat=[2], \
                    reduce=[[('skip_connect', 0), ('max_pool_3x3', 1)]], reduce_concat=[2])";
        let genotype: Genotype = text.parse().unwrap();
        let (stem, num_classes) = (StemKind::Cifar, 10);
        let config = EvaluationConfig { stem, init_channels: 2, num_cells: 3, num_classes };
        let cost = NetworkCost::new(&genotype, &config, 8);
        // Image; 6 channels behind convolution and normalization, 64 pixels.
        let stem = 3 * 64 + 2 * 6 * 64;
        // Two inputs twice, a node, joined, two normalizations of the separable convolution.
        let normal = 2 * 64 * (4 + 2 + 2);
        // Inputs at the old size; node, joined, one normalization of the factorized reduction.
        let first = 4 * (64 * 4 + 16 * 3);
        let second = 8 * (16 * 4 + 4 * 3);
        let cells: Vec<u64> = cost.cells.iter().map(|cell| cell.activation_bytes).collect();
        assert_eq!(cells, [4 * normal, 4 * first, 4 * second]);
        assert_eq!(cost.activation_bytes, 4 * (stem + normal + first + second + 8));
    }
}
