//! Which cell stands where, and how wide it is.

use ec_darts_space::CellKind;

use super::StemKind;
use crate::{Error, Result};

/// Inputs, width and kind of one cell of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellPlan {
    /// Channels of the cell before the previous one, and of the previous one.
    pub inputs: [usize; 2],
    /// Channels of each node.
    pub num_channels: usize,
    /// Normal or reduction.
    pub kind: CellKind,
    /// Whether the older input is twice as large as the newer one.
    pub after_reduction: bool,
}

impl CellPlan {
    /// Channels and size of both inputs, where the cell works at `size`; the older one first.
    pub(crate) fn input_maps(&self, size: [usize; 2]) -> [(usize, [usize; 2]); 2] {
        let [older, newer] = self.inputs;
        let scale = if self.after_reduction { 2 } else { 1 };
        [(older, size.map(|side| scale * side)), (newer, size)]
    }
}

/// Whether the cell at this position is a reduction cell.
///
/// # Source
/// DARTS, `cnn/model_search.py`, `Network`: cells `L / 3` and `2 L / 3`.
pub fn is_reduction(position: usize, num_cells: usize) -> bool {
    position == num_cells / 3 || position == 2 * num_cells / 3
}

/// Plans a stack of cells whose output joins `num_outputs` nodes; channels double at reductions.
///
/// `stem_channels` are those of both states that the first cell reads, `stem_reduces` tells
/// whether the older of the two is twice as large, as behind the ImageNet stem.
pub fn plan_cells(
    num_cells: usize,
    init_channels: usize,
    num_outputs: impl Fn(CellKind) -> usize,
    stem_channels: usize,
    stem_reduces: bool,
) -> Vec<CellPlan> {
    let mut inputs = [stem_channels; 2];
    let mut num_channels = init_channels;
    let mut after_reduction = stem_reduces;
    (0..num_cells)
        .map(|position| {
            let reduces = is_reduction(position, num_cells);
            let kind = if reduces { CellKind::Reduction } else { CellKind::Normal };
            num_channels *= if reduces { 2 } else { 1 };
            let plan = CellPlan { inputs, num_channels, kind, after_reduction };
            inputs = [inputs[1], num_outputs(kind) * num_channels];
            after_reduction = reduces;
            plan
        })
        .collect()
}

/// Whether images of `[height, width]` pixels go through a network: stem and reductions halve an even number
/// of rows and columns, and the auxiliary head of a network `with_head` has 2x2 left.
///
/// # Errors
/// [`Error::ConfigValue`] where they do not.
pub fn check_size(stem: StemKind, size: [usize; 2], with_head: bool) -> Result<()> {
    // Both reductions halve; the head reads 2x2, a classifier alone 1x1.
    let (step, least) = (4 * stem.shrink(), if with_head { 8 } else { 4 } * stem.shrink());
    if size.into_iter().all(|side| side.is_multiple_of(step) && side >= least) {
        return Ok(());
    }
    let [height, width] = size;
    Err(Error::ConfigValue {
        origin: "the settings".into(),
        key: "network.stem".into(),
        value: format!("{stem:?} with images of {height}x{width}").to_lowercase(),
        allowed: format!("images whose sides are multiples of {step}, from {least} up"),
    })
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};
    use ec_darts_space::{CellTopology, Primitive, SearchSpace};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::architecture::ArchitectureParameters;
    use crate::network::SupernetConfig;
    use crate::relaxation::Relaxation;
    use crate::rule::Rule;
    use crate::sampling::Draw;

    const STEMS: [StemKind; 3] = [StemKind::Cifar, StemKind::Stride2, StemKind::Imagenet];

    fn fits(stem: StemKind, side: usize, with_head: bool) -> bool {
        check_size(stem, [side, side], with_head).is_ok()
    }

    #[test]
    fn what_fits_is_what_the_message_says() {
        assert!(fits(StemKind::Cifar, 28, true) && fits(StemKind::Imagenet, 224, true));
        for stem in STEMS {
            for with_head in [true, false] {
                let told = check_size(stem, [1, 1], with_head).expect_err("too small").to_string();
                let mut numbers =
                    told.split("multiples of ").nth(1).expect("a rule").split(", from ");
                let step: usize = numbers.next().expect("a step").parse().expect("a number");
                let least = numbers.next().expect("a least side").trim_end_matches(" up");
                let least: usize = least.parse().expect("a number");
                for side in 1..=1024 {
                    let expected = side % step == 0 && side >= least;
                    assert_eq!(fits(stem, side, with_head), expected, "{stem:?} {side}");
                    let stacked = side / stem.shrink() / 4;
                    assert!(!expected || stacked >= if with_head { 2 } else { 1 });
                }
            }
        }
        let message = check_size(StemKind::Stride2, [64, 50], true).expect_err("odd").to_string();
        assert!(message.contains("stride2 with images of 64x50"), "{message}");
    }

    /// A skip connection is what halves no odd size.
    #[test]
    fn every_side_that_fits_goes_through_a_network() {
        let device = Device::default();
        let topology = CellTopology::new(1, 1).expect("a topology");
        let space = SearchSpace::new(vec![Primitive::SkipConnect], topology).expect("a space");
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let alpha = ArchitectureParameters::new(&space, 1e-3, &mut rng, &device);
        let mixing = Rule::from(Relaxation::Softmax).mixing(&space, &alpha, &Draw::Mode);
        for stem in STEMS {
            let (init_channels, num_cells, num_classes) = (2, 3, 2);
            let space = space.clone();
            let config = SupernetConfig {
                space,
                init_channels,
                num_cells,
                ..SupernetConfig::new(stem, num_classes)
            };
            let network = config.init(&mut rng, &device);
            for side in (1..=128).filter(|&side| fits(stem, side, false)) {
                let images = Tensor::zeros([1, 3, side, side], &device);
                assert_eq!(network.forward(images, &mixing).dims(), [1, num_classes], "{side}");
            }
        }
    }
}
