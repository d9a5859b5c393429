//! What memory a search needs, told before its first step.
//!
//! Entry point: [`MemoryNeed::new`]. The estimate counts the maps that a step keeps; it is checked
//! against the measured peak by the command line's tests.

use ec_darts_space::{CellKind, NUM_INPUTS, Primitive};

use crate::Result;
use crate::config::{KernelSetting, MemorySetting, SearchConfig};
use crate::data::{ImageDataset, Loader};
use crate::network::{CellPlan, StemKind, plan_cells};
use crate::ops::{Kernels, Memory};

/// Program, tables and allocator, measured on Linux.
const BASE: u64 = 60 << 20;
/// Bytes of a value.
const VALUE: u64 = 4;

/// Peak resident memory of a search on the CPU, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Fused kernels that keep the maps before each batch normalization.
    pub save: u64,
    /// Fused kernels that compute them again.
    pub recompute: u64,
    /// Burn's own operations.
    pub reference: u64,
}

impl MemoryNeed {
    /// # Errors
    /// [`crate::Error::ConfigValue`] where the settings describe no search space.
    pub fn new(config: &SearchConfig, data: &ImageDataset) -> Result<Self> {
        let batch = config.search.batch_size as u64;
        let [height, width] = data.size();
        let mut need = Activations::default();
        let stem = config.network.stem;
        let channels = config.network.init_channels;
        let num_nodes = config.network.num_nodes;
        let plans = plan_cells(
            config.network.num_cells,
            channels,
            |_| num_nodes,
            stem.num_channels(channels),
            stem.reduces(),
        );
        let shrink = match stem {
            StemKind::Cifar => 1,
            StemKind::Stride2 => 2,
            StemKind::Imagenet => 8,
        };
        let mut size = [height.div_ceil(shrink), width.div_ceil(shrink)];
        // Convolution and normalization of the stem, each with its gradient.
        need.kept += 4 * map(batch, stem.num_channels(channels), size);
        let space = config.network.space()?;
        for plan in &plans {
            need.cell(plan, batch, size, num_nodes, space.primitives());
            if plan.kind == CellKind::Reduction {
                size = size.map(|side| side.div_ceil(2));
            }
        }
        // Batches for weights and alpha, prepared ahead.
        let run = &config.run;
        let ahead = 2 * Loader::ahead_bytes(run.workers, config.search.batch_size, data.size());
        let base = BASE + data.memory_bytes() + ahead + need.kept + need.passing;
        Ok(Self {
            save: base + need.maps,
            recompute: base + need.largest_edge,
            reference: base + need.reference,
        })
    }

    /// Bytes with these kernels.
    pub fn bytes(&self, kernels: Kernels) -> u64 {
        match kernels {
            Kernels::Reference => self.reference,
            Kernels::Fused(Memory::Save) => self.save,
            Kernels::Fused(Memory::Recompute) => self.recompute,
        }
    }

    /// The kernels that the settings ask for; `auto` keeps the maps where they fit into
    /// `available` bytes.
    pub fn kernels(&self, config: &SearchConfig, available: Option<u64>) -> Kernels {
        let run = &config.run;
        match (run.kernels, run.memory) {
            (KernelSetting::Reference, _) => Kernels::Reference,
            (KernelSetting::Fused, MemorySetting::Save) => Kernels::Fused(Memory::Save),
            (KernelSetting::Fused, MemorySetting::Recompute) => Kernels::Fused(Memory::Recompute),
            (KernelSetting::Fused, MemorySetting::Auto) => {
                let fits = available.is_none_or(|available| self.save <= available);
                Kernels::Fused(if fits { Memory::Save } else { Memory::Recompute })
            }
        }
    }
}

/// One line about a search: what it needs, whether that fits, and what would.
///
/// # Errors
/// [`crate::Error::ConfigValue`] where the settings describe no search space.
pub fn describe(
    config: &SearchConfig,
    data: &ImageDataset,
    available: Option<u64>,
) -> Result<String> {
    let need = MemoryNeed::new(config, data)?;
    let kernels = need.kernels(config, available);
    let policy = match kernels {
        Kernels::Reference => "reference kernels",
        Kernels::Fused(Memory::Save) => "maps kept",
        Kernels::Fused(Memory::Recompute) => "maps computed again",
    };
    let mebibytes = |bytes: u64| bytes >> 20;
    let bytes = need.bytes(kernels);
    let mut text = format!("about {} MiB, {policy}", mebibytes(bytes));
    let Some(available) = available else { return Ok(text) };
    text += &format!("; {} MiB are free", mebibytes(available));
    if bytes <= available {
        return Ok(text);
    }
    text += ": it does not fit";
    if kernels != Kernels::Fused(Memory::Recompute) && need.recompute <= available {
        let needed = mebibytes(need.recompute);
        text += &format!("; run.memory=recompute with run.kernels=fused needs about {needed} MiB");
        return Ok(text);
    }
    let mut smaller = config.clone();
    while smaller.search.batch_size > 1 {
        smaller.search.batch_size /= 2;
        let bytes = MemoryNeed::new(&smaller, data)?.bytes(kernels);
        if bytes <= available {
            let batch = smaller.search.batch_size;
            text += &format!("; search.batch_size={batch} needs about {} MiB", mebibytes(bytes));
            break;
        }
    }
    Ok(text)
}

/// Bytes that a step keeps, by kind.
#[derive(Default)]
struct Activations {
    /// States of the cells, whatever the kernels.
    kept: u64,
    /// Maps before normalization.
    maps: u64,
    /// Those of the edge that has most.
    largest_edge: u64,
    /// What Burn's own operations keep.
    reference: u64,
    /// Gradients and scratch of the largest cell.
    passing: u64,
}

/// Bytes of a map; kernels fill channels up to whole blocks of 8.
fn map(batch: u64, num_channels: usize, [height, width]: [usize; 2]) -> u64 {
    VALUE * batch * (num_channels.next_multiple_of(8) * height * width) as u64
}

impl Activations {
    fn cell(
        &mut self,
        plan: &CellPlan,
        batch: u64,
        size: [usize; 2],
        num_nodes: usize,
        primitives: &[Primitive],
    ) {
        let reduces = plan.kind == CellKind::Reduction;
        let out = if reduces { size.map(|side| side.div_ceil(2)) } else { size };
        let (input, node) =
            (map(batch, plan.num_channels, size), map(batch, plan.num_channels, out));
        // Both preprocessed inputs and their maps; the nodes, once each and once joined.
        let nodes = 2 * num_nodes as u64 * node;
        self.kept += 2 * input + nodes;
        self.maps += 2 * input;
        self.reference += 8 * input;
        for target in 0..num_nodes {
            for source in 0..NUM_INPUTS + target {
                let stride = if reduces && source < NUM_INPUTS { 2 } else { 1 };
                let blocks = primitives.iter().map(|&each| num_blocks(each, stride)).sum::<u64>();
                self.maps += blocks * node;
                self.largest_edge = self.largest_edge.max(blocks * node);
                // Depthwise, pointwise and normalized maps; pools and scaled outputs besides.
                self.reference += (3 * blocks + primitives.len() as u64) * node;
            }
        }
        // Gradients of the states and of the joined nodes, and what one edge passes on.
        self.passing = self.passing.max(2 * input + 3 * nodes + 6 * node);
    }
}

fn num_blocks(primitive: Primitive, stride: usize) -> u64 {
    match primitive {
        Primitive::SepConv3x3 | Primitive::SepConv5x5 => 2,
        Primitive::DilConv3x3 | Primitive::DilConv5x5 => 1,
        Primitive::SkipConnect => u64::from(stride == 2),
        Primitive::None | Primitive::MaxPool3x3 | Primitive::AvgPool3x3 => 0,
    }
}
