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

/// Whether images of `[height, width]` pixels go through a network: both reductions halve an even
/// number of rows and columns, and the auxiliary head of a network `with_head` has 2x2 left.
///
/// # Errors
/// [`Error::ConfigValue`] where they do not.
pub fn check_size(stem: StemKind, size: [usize; 2], with_head: bool) -> Result<()> {
    let shrink = stem.shrink();
    let least = if with_head { 8 } else { 4 };
    let fits = |side: usize| {
        let side = side.div_ceil(shrink);
        side.is_multiple_of(4) && side >= least
    };
    if size.into_iter().all(fits) {
        return Ok(());
    }
    let [height, width] = size;
    Err(Error::ConfigValue {
        origin: "the settings".into(),
        key: "network.stem".into(),
        value: format!("{stem:?} with images of {height}x{width}").to_lowercase(),
        allowed: format!(
            "images whose sides are multiples of {}, from {} up",
            4 * shrink,
            least * shrink
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_halve_twice_fit() {
        let fits = |stem, side, head| check_size(stem, [side, side], head).is_ok();
        for (stem, side) in [
            (StemKind::Cifar, 32),
            (StemKind::Cifar, 28),
            (StemKind::Stride2, 64),
            (StemKind::Imagenet, 224),
        ] {
            assert!(fits(stem, side, true), "{stem:?} {side}");
        }
        assert!(fits(StemKind::Cifar, 4, false) && !fits(StemKind::Cifar, 4, true));
        assert!(!fits(StemKind::Cifar, 30, true) && !fits(StemKind::Stride2, 50, true));
        let message = check_size(StemKind::Stride2, [64, 50], true).expect_err("odd").to_string();
        assert!(message.contains("stride2 with images of 64x50"), "{message}");
        assert!(message.contains("multiples of 8, from 16 up"), "{message}");
    }
}
