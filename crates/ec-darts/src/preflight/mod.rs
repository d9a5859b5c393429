//! What memory a search or a retraining needs, told before its first step.
//!
//! Entry points: [`describe`], [`describe_retraining`]; [`Room`] says what there is. The estimate counts
//! the maps that a step keeps; on the CPU it is checked against the measured peak by the command
//! line's tests.

mod activations;
mod buffers;

use burn::tensor::Device;
use ec_darts_space::{Candidates, CellKind, Genotype, PerKind, Primitive, SearchSpace};

use activations::Activations;
use buffers::Buffers;

use crate::Result;
use crate::architect::ArchitectOrder;
use crate::config::{KernelSetting, MemorySetting, Order, RetrainConfig, RunConfig, SearchConfig};
use crate::cost::NetworkCost;
use crate::data::{ImageDataset, Loader};
use crate::network::{DiscreteCell, SearchCell, plan_cells};
use crate::ops::{Kernels, Memory};
use crate::perturbation::Perturbation;
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
    /// What the kernels of a GPU take there, maps kept and computed again: the buffers of their plans.
    pub gpu: [u64; 2],
    /// A copy of the network in double precision that the Hessian in alpha is measured on, between steps; on the
    /// CPU whatever the device is.
    pub measuring: u64,
}

impl MemoryNeed {
    /// That of the largest stage.
    ///
    /// # Errors
    /// [`crate::Error::ConfigValue`] where the settings describe no search space.
    pub fn new(config: &SearchConfig, data: &ImageDataset) -> Result<Self> {
        let mut largest = Self::of_stage(config, 0, data)?;
        for stage in 1..config.num_stages() {
            largest = largest.max(Self::of_stage(config, stage, data)?);
        }
        Ok(largest)
    }

    fn max(self, other: Self) -> Self {
        Self {
            host: self.host.max(other.host),
            save: self.save.max(other.save),
            recompute: self.recompute.max(other.recompute),
            reference: self.reference.max(other.reference),
            gpu: [0, 1].map(|place| self.gpu[place].max(other.gpu[place])),
            measuring: self.measuring.max(other.measuring),
        }
    }

    fn of_stage(config: &SearchConfig, stage: usize, data: &ImageDataset) -> Result<Self> {
        let network = config.network_of(stage);
        let [train, valid] = halves(config, data.len());
        let batch = config.search.batch_size.min(train.max(valid)).max(1);
        let [height, width] = data.size();
        let mut need = Activations::default();
        let stem = network.stem;
        let channels = network.init_channels;
        let num_nodes = network.num_nodes;
        let plans = plan_cells(
            network.num_cells,
            channels,
            |_| num_nodes,
            stem.num_channels(channels),
            stem.reduces(),
        );
        let shrink = stem.shrink();
        let mut size = [height.div_ceil(shrink), width.div_ceil(shrink)];
        need.stem(stem, channels, batch as u64, data.size());
        let mut buffers = Buffers::default();
        buffers.stem(stem, channels, batch, data.size());
        let space = heaviest(&network.space()?, config.num_candidates(stage));
        for plan in &plans {
            need.cell(plan, batch as u64, size, &space);
            buffers.cell(
                &SearchCell::describe(&space, plan, config.cell_form()),
                plan,
                batch,
                size,
            );
            if plan.kind == CellKind::Reduction {
                size = size.map(|side| side.div_ceil(2));
            }
        }
        // Prepared ahead for weights and alpha: those of an epoch, and those of a pass without end.
        let (search, bytes) = (&config.search, batch_bytes(batch, data));
        let train = most_ahead(&config.run, Some(train.div_ceil(batch)));
        let endless = most_ahead(&config.run, None);
        let batches = match (search.order, search.architect) {
            (Order::Interleaved | Order::WeightsFirst, _) => train + endless,
            (Order::SingleLevel, _) => train,
            (Order::Sequential, ArchitectOrder::First) => train.max(endless),
            (Order::Sequential, ArchitectOrder::Second) => 2 * endless,
        };
        let mut need = need.total(host_bytes(&config.run, data) + batches * bytes, &buffers);
        if config.rule.perturbation == Some(Perturbation::Adversarial) {
            // The ascent runs on the plain composition.
            need.save = need.save.max(need.reference);
            need.recompute = need.recompute.max(need.reference);
        }
        let images = config.rule.eigenvalue_images.min(valid) as u64;
        let measures = u64::from(config.rule.eigenvalue_every.is_some());
        let measuring = measures * 2 * (need.reference - need.host) * images / batch as u64;
        Ok(Self { measuring, ..need })
    }

    /// What the retraining of a genotype needs.
    pub fn retraining(config: &RetrainConfig, genotype: &Genotype, data: &ImageDataset) -> Self {
        let held_out = config.retrain.validation_fraction.unwrap_or(0.0);
        let images = data.len() - (data.len() as f64 * held_out) as usize;
        let images = images.min(config.data.train_images.unwrap_or(usize::MAX));
        let whole = config.retrain.batch_size.min(images).max(1);
        let batch = whole.div_ceil(config.retrain.accumulation) as u64;
        let (stem, channels) = (config.network.stem, config.network.init_channels);
        let num_cells = config.network.num_cells;
        let outputs = |kind| genotype.cell(kind).concat.len();
        let plans =
            plan_cells(num_cells, channels, outputs, stem.num_channels(channels), stem.reduces());
        let mut need = Activations::default();
        let mut size = data.size().map(|side| side.div_ceil(stem.shrink()));
        need.stem(stem, channels, batch, data.size());
        let mut buffers = Buffers::default();
        buffers.stem(stem, channels, batch as usize, data.size());
        for plan in &plans {
            let cell = genotype.cell(plan.kind);
            need.discrete_cell(plan, batch, size, cell);
            buffers.cell(&DiscreteCell::describe(cell, plan), plan, batch as usize, size);
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
        let ahead = most_ahead(&config.run, Some(images.div_ceil(whole)));
        need.total(host_bytes(&config.run, data) + ahead * batch_bytes(whole, data), &buffers)
    }

    /// Bytes with these kernels, of the memory where the tensors lie.
    pub fn bytes(&self, kernels: Kernels, room: &Room) -> u64 {
        let step = match (kernels, room.is_cpu) {
            (Kernels::Reference, true) => self.reference,
            (Kernels::Reference, false) => self.reference - self.host,
            (Kernels::Fused(Memory::Save), true) => self.save,
            (Kernels::Fused(Memory::Recompute), true) => self.recompute,
            (Kernels::Fused(Memory::Save), false) => self.gpu[0],
            (Kernels::Fused(Memory::Recompute), false) => self.gpu[1],
        };
        if room.is_cpu { step.max(self.host + self.measuring) } else { step }
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

/// The same space with so many candidates of each edge, those that keep most maps: which ones a stage keeps is not
/// known before it begins.
fn heaviest(space: &SearchSpace, count: usize) -> SearchSpace {
    let mut heavy = space.primitives().to_vec();
    heavy.sort_by_key(|primitive| std::cmp::Reverse(primitive.recipe().num_blocks(1)));
    heavy.truncate(count);
    let kept: Vec<Primitive> =
        space.primitives().iter().copied().filter(|each| heavy.contains(each)).collect();
    let edges = vec![kept; space.topology().num_edges()];
    let candidates = Candidates(PerKind::from_fn(|_| edges.clone()));
    space.restricted(candidates).expect("some primitives, the heaviest among them")
}

/// Images that move the weights and alpha, of so many in the training set.
fn halves(config: &SearchConfig, images: usize) -> [usize; 2] {
    let images = config.data.train_images.unwrap_or(usize::MAX).min(images) as f64;
    let train = config.search.train_fraction;
    [train, config.search.valid_fraction.unwrap_or(1.0 - train)]
        .map(|share| (images * share).ceil() as usize)
}

/// Batches that workers hold at most, of so many in an epoch or without end.
fn most_ahead(run: &RunConfig, steps: Option<usize>) -> u64 {
    Loader::most_ahead(run.workers).min(steps.unwrap_or(usize::MAX)) as u64
}

fn batch_bytes(batch: usize, data: &ImageDataset) -> u64 {
    let [height, width] = data.size();
    VALUE * (batch * 3 * height * width) as u64
}

/// Program, images, and what workers decode.
fn host_bytes(run: &RunConfig, data: &ImageDataset) -> u64 {
    BASE + data.memory_bytes() + run.workers.max(1) as u64 * data.decoding_bytes()
}

/// What settings need, in words, and whether that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// One line: what is needed, what there is, and what would fit.
    pub text: String,
    /// False where more is needed than there is.
    pub fits: bool,
}

/// About a search: what it needs, whether that fits, and what would.
///
/// # Errors
/// [`crate::Error::ConfigValue`] where the settings describe no search space.
pub fn describe(config: &SearchConfig, data: &ImageDataset, room: &Room) -> Result<Estimate> {
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

/// About a retraining, as [`describe`].
pub fn describe_retraining(
    config: &RetrainConfig,
    genotype: &Genotype,
    data: &ImageDataset,
    room: &Room,
) -> Estimate {
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
) -> Estimate {
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
        return Estimate { text, fits: true };
    };
    text += &match room.is_cpu {
        true => format!("; {} MiB are free", mebibytes(there)),
        false => format!("; it has {} MiB, used or free", mebibytes(there)),
    };
    if bytes <= there {
        return Estimate { text, fits: true };
    }
    text += ": it does not fit";
    let recompute = Kernels::Fused(Memory::Recompute);
    if kernels != recompute && room.has_fused && need.bytes(recompute, room) <= there {
        let needed = mebibytes(need.bytes(recompute, room));
        text += &format!("; run.memory=recompute with run.kernels=fused needs about {needed} MiB");
        return Estimate { text, fits: false };
    }
    let fitting = smaller.iter().find(|(_, need)| need.bytes(kernels, room) <= there);
    if let Some((setting, need)) = fitting {
        text += &format!("; {setting} needs about {} MiB", mebibytes(need.bytes(kernels, room)));
    }
    Estimate { text, fits: false }
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
            gpu: [80 * scale * MIB, 20 * scale * MIB],
            measuring: 0,
        };
        let smaller = [("search.batch_size=8".to_string(), need(5))];
        let estimate = describe_need(&need(10), &smaller, &run, &room);
        assert_eq!(estimate.text, expected);
        assert_eq!(estimate.fits, !expected.contains("does not fit"));
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

    fn images(count: usize) -> ImageDataset {
        let names = ["a".to_string(), "b".to_string()].to_vec();
        let labels = (0..count).map(|image| (image % 2) as u16).collect();
        ImageDataset::new([8, 8], vec![1; count * 192], labels, names).expect("a set")
    }

    #[test]
    fn a_batch_is_no_larger_than_the_images_there_are() {
        let mut config = SearchConfig::quick();
        let data = images(500);
        let need = |config: &SearchConfig| MemoryNeed::new(config, &data).expect("a space").save;
        config.search.batch_size = 250;
        let all = need(&config);
        config.search.batch_size = 65_536;
        assert_eq!(need(&config), all);
        config.search.batch_size = 125;
        assert!(need(&config) < all);
        let mut retrain = RetrainConfig::quick();
        let genotype = ec_darts_space::presets::DARTS_V2.genotype();
        let need = |config: &RetrainConfig| MemoryNeed::retraining(config, &genotype, &data).save;
        retrain.retrain.batch_size = 500;
        let all = need(&retrain);
        retrain.retrain.batch_size = 65_536;
        assert_eq!(need(&retrain), all);
        retrain.retrain.validation_fraction = Some(0.5);
        assert!(need(&retrain) < all);
    }

    #[test]
    fn measuring_the_hessian_needs_the_more_the_more_images() {
        let (mut config, data) = (SearchConfig::quick(), images(500));
        let measuring =
            |config: &SearchConfig| MemoryNeed::new(config, &data).expect("a space").measuring;
        assert_eq!(measuring(&config), 0);
        config.rule.eigenvalue_every = Some(1);
        let few = measuring(&config);
        config.rule.eigenvalue_images *= 2;
        assert_eq!(measuring(&config).div_ceil(few), 2);
    }

    #[test]
    fn workers_hold_no_more_batches_than_an_epoch_has() {
        let data = images(64);
        let host = |workers: usize, batch_size: usize| {
            let mut config = RetrainConfig::quick();
            (config.run.workers, config.retrain.batch_size) = (workers, batch_size);
            let genotype = ec_darts_space::presets::DARTS_V2.genotype();
            MemoryNeed::retraining(&config, &genotype, &data).host
        };
        assert_eq!(host(64, 64) - host(1, 64), 0, "one batch whoever prepares it");
        assert_eq!(host(64, 16) - host(1, 16), 2 * 16 * 192 * VALUE, "4 of them instead of 2");
    }
}
