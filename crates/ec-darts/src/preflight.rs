//! What memory a search or a retraining needs, told before its first step.
//!
//! Entry points: [`describe`], [`describe_retraining`]; [`Room`] says what there is. The estimate counts
//! the maps that a step keeps; on the CPU it is checked against the measured peak by the command
//! line's tests.

use burn::tensor::Device;
use ec_darts_space::{CellGenotype, CellKind, Genotype, NUM_INPUTS, Primitive};

use crate::Result;
use crate::config::{KernelSetting, MemorySetting, RetrainConfig, RunConfig, SearchConfig};
use crate::cost::NetworkCost;
use crate::data::{ImageDataset, Loader};
use crate::network::{CellPlan, StemKind, plan_cells};
use crate::ops::{Kernels, Memory};
use crate::{device, memory};

/// Program, tables and allocator, measured on Linux.
const BASE: u64 = 60 << 20;
/// Bytes of a value.
const VALUE: u64 = 4;

/// Where the tensors of a run lie, and how much memory there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Whether it is the memory of the process.
    pub is_cpu: bool,
    /// Whether cells are computed fused there.
    pub has_fused: bool,
    /// On the CPU what is free, on a GPU all that it has, in bytes; nothing where that is not told.
    pub bytes: Option<u64>,
}

impl Room {
    /// That of a device, now.
    pub fn of(device: &Device) -> Self {
        let is_cpu = device::is_cpu(device);
        Self {
            is_cpu,
            has_fused: ec_darts_kernels::has_kernels(device),
            bytes: if is_cpu { memory::available_bytes() } else { device::memory_bytes(device) },
        }
    }
}

/// Peak memory of a search or a retraining, in bytes: resident memory of the process where it
/// computes on the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Program, images, and batches that are prepared ahead: in the process whatever the device is.
    /// The others count it.
    pub host: u64,
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
        let shrink = stem.shrink();
        let mut size = [height.div_ceil(shrink), width.div_ceil(shrink)];
        need.stem(stem, channels, batch, data.size());
        let space = config.network.space()?;
        for plan in &plans {
            need.cell(plan, batch, size, num_nodes, space.primitives());
            if plan.kind == CellKind::Reduction {
                size = size.map(|side| side.div_ceil(2));
            }
        }
        // Batches for weights and alpha, prepared ahead.
        let workers = config.run.workers;
        let ahead = 2 * Loader::ahead_bytes(workers, config.search.batch_size, data.size());
        Ok(need.total(data, ahead))
    }

    /// What the retraining of a genotype needs.
    pub fn retraining(config: &RetrainConfig, genotype: &Genotype, data: &ImageDataset) -> Self {
        let batch = config.retrain.batch_size.div_ceil(config.retrain.accumulation) as u64;
        let (stem, channels) = (config.network.stem, config.network.init_channels);
        let num_cells = config.network.num_cells;
        let outputs = |kind| genotype.cell(kind).concat.len();
        let plans =
            plan_cells(num_cells, channels, outputs, stem.num_channels(channels), stem.reduces());
        let mut need = Activations::default();
        let mut size = data.size().map(|side| side.div_ceil(stem.shrink()));
        need.stem(stem, channels, batch, data.size());
        for plan in &plans {
            need.discrete_cell(plan, batch, size, genotype.cell(plan.kind));
            if plan.kind == CellKind::Reduction {
                size = size.map(|side| side.div_ceil(2));
            }
        }
        let shape = config.network.evaluation(data.num_classes());
        let side = data.size()[0];
        let parameters = NetworkCost::new(genotype, &shape, side).parameters_with_auxiliary;
        // Weights, gradients, velocities, and the average where there is one.
        let copies = 3 + u64::from(config.retrain.average_decay.is_some());
        need.kept += copies * VALUE * parameters;
        let ahead = Loader::ahead_bytes(config.run.workers, config.retrain.batch_size, data.size());
        need.total(data, ahead)
    }

    /// Bytes with these kernels, of the memory where the tensors lie.
    pub fn bytes(&self, kernels: Kernels, room: &Room) -> u64 {
        let all = match kernels {
            Kernels::Reference => self.reference,
            Kernels::Fused(Memory::Save) => self.save,
            Kernels::Fused(Memory::Recompute) => self.recompute,
        };
        if room.is_cpu { all } else { all - self.host }
    }

    /// The kernels that the settings ask for, where the device has them; `auto` keeps the maps where
    /// they fit.
    pub fn kernels(&self, run: &RunConfig, room: &Room) -> Kernels {
        match (run.kernels, run.memory) {
            (KernelSetting::Reference, _) => Kernels::Reference,
            _ if !room.has_fused => Kernels::Reference,
            (KernelSetting::Fused, MemorySetting::Save) => Kernels::Fused(Memory::Save),
            (KernelSetting::Fused, MemorySetting::Recompute) => Kernels::Fused(Memory::Recompute),
            (KernelSetting::Fused, MemorySetting::Auto) => {
                let save = Kernels::Fused(Memory::Save);
                let fits = room.bytes.is_none_or(|bytes| self.bytes(save, room) <= bytes);
                if fits { save } else { Kernels::Fused(Memory::Recompute) }
            }
        }
    }
}

/// One line about a search: what it needs, whether that fits, and what would.
///
/// # Errors
/// [`crate::Error::ConfigValue`] where the settings describe no search space.
pub fn describe(config: &SearchConfig, data: &ImageDataset, room: &Room) -> Result<String> {
    let need = MemoryNeed::new(config, data)?;
    let mut smaller = Vec::new();
    let mut batch_size = config.search.batch_size / 2;
    while batch_size > 0 {
        let mut config = config.clone();
        config.search.batch_size = batch_size;
        let setting = format!("search.batch_size={batch_size}");
        smaller.push((setting, MemoryNeed::new(&config, data)?));
        batch_size /= 2;
    }
    Ok(describe_need(&need, &smaller, &config.run, room))
}

/// One line about a retraining, as [`describe`].
pub fn describe_retraining(
    config: &RetrainConfig,
    genotype: &Genotype,
    data: &ImageDataset,
    room: &Room,
) -> String {
    let need = MemoryNeed::retraining(config, genotype, data);
    let mut smaller = Vec::new();
    let mut accumulation = 2 * config.retrain.accumulation;
    while accumulation <= config.retrain.batch_size {
        let mut config = config.clone();
        config.retrain.accumulation = accumulation;
        let setting = format!("retrain.accumulation={accumulation}");
        smaller.push((setting, MemoryNeed::retraining(&config, genotype, data)));
        accumulation *= 2;
    }
    describe_need(&need, &smaller, &config.run, room)
}

/// `smaller` are settings that need less, with what they need.
fn describe_need(
    need: &MemoryNeed,
    smaller: &[(String, MemoryNeed)],
    run: &RunConfig,
    room: &Room,
) -> String {
    let kernels = need.kernels(run, room);
    let policy = match kernels {
        Kernels::Reference => "reference kernels",
        Kernels::Fused(Memory::Save) => "maps kept",
        Kernels::Fused(Memory::Recompute) => "maps computed again",
    };
    let mebibytes = |bytes: u64| bytes >> 20;
    let bytes = need.bytes(kernels, room);
    let place = if room.is_cpu { "" } else { " on the device" };
    let mut text = format!("about {} MiB{place}, {policy}", mebibytes(bytes));
    let Some(there) = room.bytes else {
        if !room.is_cpu {
            text += "; its driver does not tell how much it has";
        }
        return text;
    };
    text += &match room.is_cpu {
        true => format!("; {} MiB are free", mebibytes(there)),
        false => format!("; it has {} MiB, used or free", mebibytes(there)),
    };
    if bytes <= there {
        return text;
    }
    text += ": it does not fit";
    let recompute = Kernels::Fused(Memory::Recompute);
    if kernels != recompute && room.has_fused && need.bytes(recompute, room) <= there {
        let needed = mebibytes(need.bytes(recompute, room));
        text += &format!("; run.memory=recompute with run.kernels=fused needs about {needed} MiB");
        return text;
    }
    let fitting = smaller.iter().find(|(_, need)| need.bytes(kernels, room) <= there);
    if let Some((setting, need)) = fitting {
        text += &format!("; {setting} needs about {} MiB", mebibytes(need.bytes(kernels, room)));
    }
    text
}

/// Bytes that a step keeps, by kind.
#[derive(Default)]
struct Activations {
    /// States of the cells, whatever the kernels.
    kept: u64,
    /// Maps before normalization.
    maps: u64,
    /// Those of all edges into the node that has most.
    largest_node: u64,
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
    /// With the images in memory and the batches prepared ahead.
    fn total(&self, data: &ImageDataset, ahead: u64) -> MemoryNeed {
        let base = BASE + data.memory_bytes() + ahead;
        // Buffers of unlike sizes leave about a tenth unused, as measured.
        let need = |maps: u64| base + (self.kept + self.passing + maps) * 11 / 10;
        MemoryNeed {
            host: base,
            save: need(self.maps),
            recompute: need(self.largest_node),
            reference: need(self.reference),
        }
    }

    /// Of each convolution: its output, and the map before its normalization.
    fn stem(&mut self, kind: StemKind, channels: usize, batch: u64, size: [usize; 2]) {
        for (num_channels, shrink) in kind.layers(channels) {
            let size = size.map(|side| side.div_ceil(shrink));
            let layer = map(batch, num_channels, size);
            self.kept += layer;
            self.maps += layer;
            self.largest_node = self.largest_node.max(layer);
            self.reference += 3 * layer;
            // Two cells give the output's gradient, which is summed.
            self.passing = self.passing.max(3 * layer);
        }
    }

    fn discrete_cell(
        &mut self,
        plan: &CellPlan,
        batch: u64,
        size: [usize; 2],
        genotype: &CellGenotype,
    ) {
        let reduces = plan.kind == CellKind::Reduction;
        let out = if reduces { size.map(|side| side.div_ceil(2)) } else { size };
        let (input, node) =
            (map(batch, plan.num_channels, size), map(batch, plan.num_channels, out));
        let picks = || genotype.nodes.iter().flatten();
        // States that an operation reads, and the joined ones.
        let is_read = |state: &usize| picks().any(|pick| pick.from == *state);
        let inner = (NUM_INPUTS..NUM_INPUTS + genotype.nodes.len()).filter(is_read).count() as u64;
        let inputs = (0..NUM_INPUTS).filter(is_read).count() as u64;
        let joined = genotype.concat.len() as u64 * node;
        self.kept += inputs * input + inner * node + joined;
        self.maps += 2 * input;
        self.reference += 8 * input;
        for picks in &genotype.nodes {
            let mut of_node = 0;
            for pick in picks {
                let stride = if reduces && pick.from < NUM_INPUTS { 2 } else { 1 };
                let blocks = num_blocks(pick.primitive, stride);
                of_node += blocks * node;
                self.reference += (3 * blocks + 1) * node;
            }
            self.maps += of_node;
            self.largest_node = self.largest_node.max(of_node);
        }
        self.gradients(plan, batch, size, joined + genotype.nodes.len() as u64 * node, node);
    }

    /// Gradients of the nodes, of the preprocessed inputs and of the inputs themselves, and what one
    /// edge passes on.
    fn gradients(&mut self, plan: &CellPlan, batch: u64, size: [usize; 2], nodes: u64, node: u64) {
        let passed = plan.input_maps(size).map(|(channels, size)| map(batch, channels, size));
        let inputs = 2 * map(batch, plan.num_channels, size) + passed.iter().sum::<u64>();
        self.passing = self.passing.max(nodes + inputs + 2 * node);
    }

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
        let mut parameters = plan.inputs.iter().sum::<usize>() * plan.num_channels;
        self.reference += 8 * input;
        for target in 0..num_nodes {
            let mut of_node = 0;
            for source in 0..NUM_INPUTS + target {
                let stride = if reduces && source < NUM_INPUTS { 2 } else { 1 };
                let blocks = primitives.iter().map(|&each| num_blocks(each, stride)).sum::<u64>();
                let weights = primitives.iter().map(|&each| num_weights(each, plan, stride));
                parameters += weights.sum::<usize>();
                of_node += blocks * node;
                // Depthwise, pointwise and normalized maps; pools and scaled outputs besides.
                self.reference += (3 * blocks + primitives.len() as u64) * node;
            }
            self.maps += of_node;
            self.largest_node = self.largest_node.max(of_node);
        }
        // Weights before and after a step, gradients and velocities.
        self.kept += 4 * VALUE * parameters as u64;
        self.gradients(plan, batch, size, nodes, node);
    }
}

/// Weights of an operation of the search space.
fn num_weights(primitive: Primitive, plan: &CellPlan, stride: usize) -> usize {
    let channels = plan.num_channels;
    let block = |kernel: usize| channels * (kernel * kernel + channels);
    match primitive {
        Primitive::SepConv3x3 => 2 * block(3),
        Primitive::SepConv5x5 => 2 * block(5),
        Primitive::DilConv3x3 => block(3),
        Primitive::DilConv5x5 => block(5),
        Primitive::SkipConnect if stride == 2 => channels * channels,
        _ => 0,
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

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn check(kernels: KernelSetting, room: Room, expected: &str) {
        let run = RunConfig { kernels, ..SearchConfig::quick().run };
        let need = |scale: u64| MemoryNeed {
            host: 100 * MIB,
            save: (100 + 80 * scale) * MIB,
            recompute: (100 + 20 * scale) * MIB,
            reference: (100 + 200 * scale) * MIB,
        };
        let smaller = [("search.batch_size=8".to_string(), need(5))];
        assert_eq!(describe_need(&need(10), &smaller, &run, &room), expected);
    }

    #[test]
    fn what_there_is_depends_on_where_the_tensors_lie() {
        let room = |is_cpu, has_fused, mebibytes: Option<u64>| Room {
            is_cpu,
            has_fused,
            bytes: mebibytes.map(|mebibytes| mebibytes * MIB),
        };
        use KernelSetting::{Fused, Reference};
        check(Fused, room(true, true, Some(900)), "about 900 MiB, maps kept; 900 MiB are free");
        check(Fused, room(true, true, None), "about 900 MiB, maps kept");
        let again = "about 300 MiB, maps computed again; 899 MiB are free";
        check(Fused, room(true, true, Some(899)), again);
        let kept = "about 800 MiB on the device, maps kept; it has 800 MiB, used or free";
        check(Fused, room(false, true, Some(800)), kept);
        let again =
            "about 200 MiB on the device, maps computed again; it has 799 MiB, used or free";
        check(Fused, room(false, true, Some(799)), again);
        let unknown = "about 2000 MiB on the device, reference kernels; its driver does not tell how \
                       much it has";
        check(Fused, room(false, false, None), unknown);
        let too_large = "about 2000 MiB on the device, reference kernels; it has 1000 MiB, used or \
                         free: it does not fit; search.batch_size=8 needs about 1000 MiB";
        check(Fused, room(false, false, Some(1000)), too_large);
        let fused = "about 2000 MiB on the device, reference kernels; it has 1000 MiB, used or free: it \
                     does not fit; run.memory=recompute with run.kernels=fused needs about 200 MiB";
        check(Reference, room(false, true, Some(1000)), fused);
    }
}
