//! Which cell stands where, and how wide it is.

use ec_darts_space::CellKind;

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
