//! The maps of one image that a training step keeps, as
//! [`NetworkCost::activation_bytes`](super::NetworkCost::activation_bytes) defines them.

use ec_darts_space::{CellGenotype, Pick};

use crate::network::{CellPlan, Geometry, Map, Preprocessing, ResidualPlan};

/// Bytes of a map in single precision.
pub(super) fn bytes(channels: usize, positions: usize) -> u64 {
    4 * (channels * positions) as u64
}

/// The maps outside the cells: for the stem, the image and the output of each convolution,
/// normalization and ReLU; for residual blocks, the output of every layer; and the input of the
/// classifier.
pub(super) fn beside_cells(geometry: &Geometry, image_size: usize) -> u64 {
    let map = |map: Map| bytes(map.channels, map.positions(image_size));
    let layers = geometry.stem.iter().enumerate();
    let last = geometry.stem.len() - 1;
    let of_stem = layers.map(|(number, &layer)| if number < last { 3 } else { 2 } * map(layer));
    // Two convolutions with their normalizations, the 1x1 convolution of the shortcut, the sum, and
    // the output of the pool.
    let of_block = |block: &ResidualPlan| {
        6 * map(block.output) + map(Map { channels: block.input.channels, ..block.output })
    };
    let behind = if geometry.last_norm { 2 * map(geometry.last) } else { 0 };
    map(Map { channels: 3, shrink: 1 })
        + of_stem.sum::<u64>()
        + geometry.residuals.iter().map(of_block).sum::<u64>()
        + behind
        + bytes(geometry.last.channels, 1)
}

/// The preprocessed inputs and the inputs of their normalizations; the nodes, alone and joined; the
/// inputs of the operations' normalizations.
pub(super) fn cell(genotype: &CellGenotype, plan: &CellPlan, image_size: usize) -> u64 {
    let map = |map: Map| bytes(map.channels, map.positions(image_size));
    let of_input = |&input: &Map| match plan.preprocessing(input) {
        Preprocessing::Identity => 0,
        Preprocessing::Pointwise | Preprocessing::FactorizedReduce => 2 * map(plan.preprocessed()),
    };
    let of_inputs: u64 = plan.inputs.iter().map(of_input).sum();
    let nodes = (genotype.states_with_picks().count() + genotype.concat.len()) as u64;
    // Batch normalizations of the operations; all have the output's size.
    let norms = |pick: &Pick| pick.primitive.recipe().num_blocks(plan.stride(pick.from)) as u64;
    let norms: u64 = genotype.nodes.iter().flatten().map(norms).sum();
    of_inputs + (nodes + norms) * map(plan.node)
}

#[cfg(test)]
mod tests {
    use super::super::NetworkCost;
    use crate::network::{EvaluationConfig, Skeleton, StemKind};
    use ec_darts_space::Genotype;

    /// Counted by hand: 2 channels, 3 cells, two reductions, one node.
    #[test]
    fn a_small_network() {
        let text = "Genotype(normal=[[('sep_conv_3x3', 0), ('skip_connect', 1)]], \
                    normal_concat=[2], \
                    reduce=[[('skip_connect', 0), ('max_pool_3x3', 1)]], reduce_concat=[2])";
        let genotype: Genotype = text.parse().unwrap();
        let (stem, num_classes) = (StemKind::Cifar, 10);
        let config = EvaluationConfig {
            skeleton: Skeleton::Darts,
            stem,
            init_channels: 2,
            num_cells: 3,
            num_classes,
        };
        let cost = NetworkCost::new(&genotype, &config, 8);
        // Image; 6 channels after convolution and normalization, 64 pixels.
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
