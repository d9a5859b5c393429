//! Named settings: what the files in `configs/` say, as values.

use ec_darts_space::Primitive;

use super::{
    AlphaConfig, DataConfig, KernelSetting, LoopConfig, MemorySetting, NetworkConfig, Order,
    RunConfig, SearchConfig, TransitionConfig, WeightsConfig,
};
use crate::architect::ArchitectOrder;
use crate::architecture::Strength;
use crate::data::DatasetKind;
use crate::network::StemKind;
use crate::relaxation::Relaxation;

/// The name of a file in `configs/`, and its settings.
pub type Preset = (&'static str, fn() -> SearchConfig);

/// One preset for every file in `configs/`.
pub const PRESETS: &[Preset] = &[
    ("quick", SearchConfig::quick),
    ("search_cifar10", SearchConfig::cifar10),
    ("search_cifar100", SearchConfig::cifar100),
    ("search_tiny_imagenet", SearchConfig::tiny_imagenet),
    ("search_imagenet", SearchConfig::imagenet),
    ("search_cifar10_cpu", SearchConfig::cifar10_cpu),
    ("search_folder", SearchConfig::folder),
    ("darts_cpu", SearchConfig::darts_cpu),
    ("darts", SearchConfig::darts),
    ("darts_second_order", SearchConfig::darts_second_order),
    ("darts_cen", SearchConfig::darts_cen),
    ("darts_ist", SearchConfig::darts_ist),
];

impl SearchConfig {
    /// EC-DARTS on CIFAR-10 as in the paper.
    ///
    /// # Source
    /// EC-DARTS, sections 5.2 and 5.3; what it leaves open is DARTS' recipe.
    pub fn cifar10() -> Self {
        Self {
            data: DataConfig::new(DatasetKind::Cifar10),
            network: NetworkConfig {
                stem: StemKind::Cifar,
                init_channels: 16,
                num_cells: 8,
                num_nodes: 4,
                edges_kept: 2,
                primitives: Primitive::ALL.to_vec(),
            },
            search: LoopConfig {
                train_fraction: 0.5,
                valid_fraction: None,
                per_class: false,
                relaxation: Relaxation::CrossEdge,
                strength: Strength::Mixing,
                order: Order::Interleaved,
                architect: ArchitectOrder::First,
                epochs: 25,
                batch_size: 64,
                steps_per_epoch: None,
                measured_images: None,
                seed: 2,
            },
            transition: TransitionConfig { enabled: true },
            weights: WeightsConfig {
                learning_rate: 0.025,
                min_learning_rate: 0.001,
                momentum: 0.9,
                weight_decay: 3e-4,
                clip_norm: Some(5.0),
            },
            alpha: AlphaConfig {
                learning_rate: 3e-4,
                beta1: 0.5,
                beta2: 0.999,
                weight_decay: 1e-3,
                init_scale: 1e-3,
            },
            run: RunConfig {
                checkpoint_steps: 100,
                workers: 2,
                kernels: KernelSetting::Fused,
                memory: MemorySetting::Auto,
            },
        }
    }

    /// EC-DARTS on CIFAR-100 as in the paper.
    pub fn cifar100() -> Self {
        let mut config = Self::cifar10();
        config.data.dataset = DatasetKind::Cifar100;
        config
    }

    /// EC-DARTS on Tiny ImageNet as in the paper.
    ///
    /// # Source
    /// EC-DARTS, section 5.4: the settings of CIFAR, with 3x3 convolution of stride 2 before the cells.
    pub fn tiny_imagenet() -> Self {
        let mut config = Self::cifar10();
        config.data.dataset = DatasetKind::TinyImagenet;
        config.network.stem = StemKind::Stride2;
        config
    }

    /// EC-DARTS on ImageNet as in the paper.
    ///
    /// # Source
    /// EC-DARTS, section 5.5; what it leaves open is the recipe of PC-DARTS, which it follows there.
    pub fn imagenet() -> Self {
        let mut config = Self::cifar10();
        config.data.dataset = DatasetKind::Imagenet;
        config.data.resize = Some(256);
        config.data.random_resized_crop = Some(0.08);
        config.data.crop_padding = 0;
        config.network.stem = StemKind::Imagenet;
        config.search.train_fraction = 0.1;
        config.search.valid_fraction = Some(0.025);
        config.search.per_class = true;
        config.search.epochs = 30;
        config.search.batch_size = 1024;
        config.weights.learning_rate = 0.5;
        config.weights.min_learning_rate = 0.0;
        config.alpha.learning_rate = 6e-3;
        config.run.workers = 4;
        config
    }

    /// The bundled sample in about a minute on two cores.
    pub fn quick() -> Self {
        let mut config = Self::cifar10();
        config.network.init_channels = 4;
        config.network.num_cells = 4;
        config.search.epochs = 3;
        config.search.batch_size = 32;
        config.search.measured_images = Some(250);
        config.run.checkpoint_steps = 10;
        config
    }

    /// A folder of one's own images, a folder per class, on a plain computer.
    pub fn folder() -> Self {
        let mut config = Self::cifar10();
        config.data = DataConfig {
            image_size: Some(64),
            resize: Some(72),
            random_resized_crop: Some(0.35),
            crop_padding: 0,
            ..DataConfig::new(DatasetKind::Folder)
        };
        config.network.stem = StemKind::Stride2;
        config.network.init_channels = 8;
        config.network.num_cells = 5;
        config.search.epochs = 10;
        config.search.batch_size = 32;
        // An epoch of few images is short: its end of the cosine must still train an auxiliary model.
        config.weights.min_learning_rate = 0.01;
        config.run.checkpoint_steps = 50;
        config
    }

    /// All of CIFAR-10 within an hour on two cores.
    pub fn cifar10_cpu() -> Self {
        let mut config = Self::cifar10();
        config.network.stem = StemKind::Stride2;
        config.network.num_cells = 6;
        config.search.epochs = 15;
        config.search.steps_per_epoch = Some(120);
        config.search.measured_images = Some(2000);
        // An epoch is short: its end of the cosine must still train an auxiliary model.
        config.weights.min_learning_rate = 0.01;
        config
    }

    /// DARTS at the scale of [`Self::cifar10_cpu`].
    pub fn darts_cpu() -> Self {
        Self { transition: TransitionConfig { enabled: false }, ..Self::cifar10_cpu() }
            .with_relaxation(Relaxation::Softmax)
    }

    /// Ablation: neither Cross-Edge Normalization nor the transition.
    ///
    /// # Source
    /// EC-DARTS, Table 4, "Baseline (DARTS)". Its 2.76 is what Table 1 gives for the second order,
    /// [`Self::darts_second_order`]; the ablation names no order.
    pub fn darts() -> Self {
        Self { transition: TransitionConfig { enabled: false }, ..Self::cifar10() }
            .with_relaxation(Relaxation::Softmax)
    }

    /// Ablation baseline with the second-order gradient.
    pub fn darts_second_order() -> Self {
        let mut config = Self::darts();
        config.search.architect = ArchitectOrder::Second;
        config
    }

    /// Ablation: Cross-Edge Normalization alone.
    ///
    /// # Source
    /// EC-DARTS, Table 4, "Baseline + CEN".
    pub fn darts_cen() -> Self {
        Self::darts().with_relaxation(Relaxation::CrossEdge)
    }

    /// Ablation: the transition alone.
    ///
    /// # Source
    /// EC-DARTS, Table 4, "Baseline + IST".
    pub fn darts_ist() -> Self {
        Self { transition: TransitionConfig { enabled: true }, ..Self::darts() }
    }

    fn with_relaxation(mut self, relaxation: Relaxation) -> Self {
        self.search.relaxation = relaxation;
        self
    }
}
