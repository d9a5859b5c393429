//! The memory of a search or a retraining, counted from the geometry of its network.

use ec_darts_kernels::{Cell, EdgeOperation};
use ec_darts_space::{Candidates, Genotype, Primitive, SearchSpace};

use super::activations::Activations;
use super::buffers::Buffers;
use super::{Room, VALUE};
use crate::Result;
use crate::architect::ArchitectOrder;
use crate::config::{KernelSetting, MemorySetting, Order, RetrainConfig, RunConfig, SearchConfig};
use crate::cost::NetworkCost;
use crate::data::{ImageDataset, Loader};
use crate::network::{DiscreteCell, SearchCell};
use crate::ops::{Kernels, Memory};
use crate::perturbation::Perturbation;
use crate::sampling::Sampling;

/// Memory of program, tables and allocator, measured on Linux.
const BASE: u64 = 60 << 20;

/// Peak memory of a search or a retraining, in bytes. On the CPU this is the resident memory of the
/// process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Program, images, and batches that are prepared ahead: in the process, whatever the device.
    /// The other fields include it.
    pub host: u64,
    /// With fused kernels that keep the maps before each batch normalization.
    pub save: u64,
    /// With fused kernels that compute the maps again.
    pub recompute: u64,
    /// With Burn's own operations.
    pub reference: u64,
    /// The kernels' buffers on a GPU, by their plans: with maps kept, and with maps computed again.
    pub gpu: [u64; 2],
    /// A copy of the network in double precision for measurements of the Hessian in alpha, between
    /// steps; on the CPU, whatever the device.
    pub measuring: u64,
}

impl MemoryNeed {
    /// The need of the largest stage.
    ///
    /// # Errors
    /// [`crate::Error::ConfigValue`] where the settings describe no valid search space.
    pub fn new(config: &SearchConfig, data: &ImageDataset) -> Result<Self> {
        let mut largest = Self::of_stage(config, 0, data)?;
        for stage in 1..config.num_stages() {
            largest = largest.max(Self::of_stage(config, stage, data)?);
        }
        Ok(largest)
    }

    /// The need of a network's maps beside `host` bytes, which the process takes in any case.
    fn of_maps(host: u64, maps: &Activations, buffers: &Buffers) -> Self {
        // Buffers of different sizes leave about a tenth unused, as measured.
        let need = |own: u64| host + (maps.kept + maps.passing + own) * 11 / 10;
        Self {
            host,
            save: need(maps.maps),
            recompute: need(maps.largest_node),
            reference: need(maps.reference),
            gpu: buffers.total(),
            measuring: 0,
        }
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
        let space = heaviest(&network.space()?, config.num_candidates(stage));
        let geometry = network.geometry()?;
        let (mut need, mut buffers) = (Activations::default(), Buffers::default());
        need.beside_cells(&geometry, batch as u64, data.size());
        buffers.beside_cells(&geometry, batch, data.size());
        // One operation of each edge is computed, and the kernels support each operation alone.
        // A step on alpha by `gates` computes all of them.
        let sampling = config.rule.sampling.filter(|&sampling| sampling != Sampling::Gates);
        let one_each = sampling.is_some_and(Sampling::is_one_each);
        let mut is_fused = true;
        for plan in &geometry.cells {
            let described = SearchCell::describe(&space, plan, config.cell_form(stage));
            need.cell(plan, batch as u64, data.size(), &space, described.0.parts);
            is_fused &= is_served(&described.0);
            buffers.cell(&described, plan, batch, data.size());
        }
        // Batches prepared ahead for weights and alpha: those of an epoch, and those of an endless
        // pass.
        let (search, bytes) = (&config.search, batch_bytes(batch, data));
        let train = most_ahead(&config.run, Some(train.div_ceil(batch)));
        let endless = most_ahead(&config.run, None);
        let batches = match (search.order, search.architect) {
            (Order::Interleaved | Order::WeightsFirst, _) => train + endless,
            (Order::SingleLevel, _) => train,
            (Order::Sequential, ArchitectOrder::First) => train.max(endless),
            (Order::Sequential, ArchitectOrder::Second) => 2 * endless,
        };
        let host = host_bytes(&config.run, data) + batches * bytes;
        let mut need = Self::of_maps(host, &need, &buffers);
        if config.rule.perturbation == Some(Perturbation::Adversarial) || !(is_fused || one_each) {
            // The ascent runs on the plain composition, and so do cells without kernels.
            need.save = need.save.max(need.reference);
            need.recompute = need.recompute.max(need.reference);
        }
        let images = config.rule.eigenvalue_images.min(valid) as u64;
        let measures = u64::from(config.rule.eigenvalue_every.is_some());
        let measuring = measures * 2 * (need.reference - need.host) * images / batch as u64;
        Ok(Self { measuring, ..need })
    }

    /// The need of the retraining of a genotype.
    pub fn retraining(config: &RetrainConfig, genotype: &Genotype, data: &ImageDataset) -> Self {
        let held_out = config.retrain.validation_fraction.unwrap_or(0.0);
        let images = data.len() - (data.len() as f64 * held_out) as usize;
        let images = images.min(config.data.train_images.unwrap_or(usize::MAX));
        let whole = config.retrain.batch_size.min(images).max(1);
        let batch = whole.div_ceil(config.retrain.accumulation) as u64;
        let shape = config.network.evaluation(data.num_classes());
        let geometry = shape.geometry(genotype);
        let (mut need, mut buffers) = (Activations::default(), Buffers::default());
        need.beside_cells(&geometry, batch, data.size());
        buffers.beside_cells(&geometry, batch as usize, data.size());
        for plan in &geometry.cells {
            let cell = genotype.cell(plan.kind);
            need.discrete_cell(plan, batch, data.size(), cell);
            let described = DiscreteCell::describe(cell, plan);
            buffers.cell(&described, plan, batch as usize, data.size());
        }
        let side = data.size()[0];
        let parameters = NetworkCost::new(genotype, &shape, side).parameters_with_auxiliary;
        // Weights, gradients, velocities, and the average where there is one.
        let copies = 3 + u64::from(config.retrain.average_decay.is_some());
        need.kept += copies * VALUE * parameters;
        let ahead = most_ahead(&config.run, Some(images.div_ceil(whole)));
        let host = host_bytes(&config.run, data) + ahead * batch_bytes(whole, data);
        Self::of_maps(host, &need, &buffers)
    }

    /// Bytes with these kernels, in the memory of the tensors.
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

    /// The kernels of the settings, where the device has them; `auto` keeps the maps where they
    /// fit.
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

/// The same space with `count` candidates on each edge, those that keep the most maps: the
/// candidates of a stage are unknown before it begins.
fn heaviest(space: &SearchSpace, count: usize) -> SearchSpace {
    let mut heavy = space.primitives().to_vec();
    heavy.sort_by_key(|primitive| std::cmp::Reverse(primitive.recipe().num_blocks(1)));
    heavy.truncate(count);
    let kept: Vec<Primitive> =
        space.primitives().iter().copied().filter(|each| heavy.contains(each)).collect();
    let edges = vec![kept; space.topology().num_edges()];
    let candidates = Candidates(space.topology().per_kind(|_| edges.clone()));
    space.restricted(candidates).expect("some primitives, the heaviest among them")
}

/// Whether the fused kernels of the CPU support all edges of a cell: a 3x3 convolution only alone
/// on its edge.
fn is_served(cell: &Cell) -> bool {
    let is_convolution = |each: &EdgeOperation| matches!(each, EdgeOperation::Convolution { .. });
    cell.edges()
        .all(|edge| edge.operations.len() == 1 || !edge.operations.iter().any(is_convolution))
}

/// Number of images that move the weights, and alpha, out of `images` in the training set.
fn halves(config: &SearchConfig, images: usize) -> [usize; 2] {
    let images = config.data.train_images.unwrap_or(usize::MAX).min(images) as f64;
    let train = config.search.train_fraction;
    [train, config.search.valid_fraction.unwrap_or(1.0 - train)]
        .map(|share| (images * share).ceil() as usize)
}

/// Number of batches that workers hold at most, with `steps` batches in an epoch, or endless ones.
fn most_ahead(run: &RunConfig, steps: Option<usize>) -> u64 {
    Loader::most_ahead(run.workers).min(steps.unwrap_or(usize::MAX)) as u64
}

fn batch_bytes(batch: usize, data: &ImageDataset) -> u64 {
    let [height, width] = data.size();
    VALUE * (batch * 3 * height * width) as u64
}

/// Program, images, and the memory of workers that decode.
fn host_bytes(run: &RunConfig, data: &ImageDataset) -> u64 {
    BASE + data.memory_bytes() + run.workers.max(1) as u64 * data.decoding_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_cell_of_several_parts_keeps_smaller_maps() {
        let (mut config, data) = (SearchConfig::quick(), images(500));
        let save = |config: &SearchConfig| {
            let need = MemoryNeed::new(config, &data).expect("a space");
            need.save - need.recompute
        };
        let whole = save(&config);
        config.network.init_channels = 32;
        let wide = save(&config);
        config.rule.partial_channels = 4;
        assert!(whole < wide && 3 * save(&config) < wide, "{whole}, {wide}, {}", save(&config));
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
