//! Named settings: the files in `presets/`, which are part of the program.

use super::{RetrainConfig, SearchConfig, Settings};
use crate::Result;

/// A file of `presets/`: its name without `.toml`, and its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// The name that `base` and the command line use.
    pub name: &'static str,
    /// TOML that may build on another preset. Its first line is a comment that describes the
    /// preset.
    pub text: &'static str,
}

macro_rules! presets {
    ($($name:literal)*) => {
        &[$(Preset { name: $name, text: include_str!(concat!("../../presets/", $name, ".toml")) }),*]
    };
}

/// All presets: searches of EC-DARTS, of its ablation and of other rules of the family;
/// retrainings; whole runs.
pub const PRESETS: &[Preset] = presets![
    "quick"
    "search_folder"
    "search_cifar10"
    "search_cifar100"
    "search_tiny_imagenet"
    "search_imagenet"
    "search_cifar10_cpu"
    "darts_cpu"
    "darts"
    "darts_second_order"
    "darts_cen"
    "darts_ist"
    "gdas"
    "gdas_cpu"
    "snas"
    "snas_cpu"
    "fair_darts"
    "fair_darts_cpu"
    "pc_darts"
    "pc_darts_cpu"
    "pc_darts_imagenet"
    "pdarts"
    "pdarts_cpu"
    "sdarts_rs"
    "sdarts_rs_cpu"
    "sdarts_adv"
    "sdarts_adv_cpu"
    "proxyless"
    "proxyless_cpu"
    "proxyless_latency"
    "darts_plus"
    "darts_plus_cpu"
    "robust_darts"
    "robust_darts_cpu"
    "beta_darts"
    "beta_darts_cpu"
    "darts_minus"
    "darts_minus_cpu"
    "drnas"
    "drnas_cpu"
    "mobile_cpu"
    "nas_bench_201_darts"
    "nas_bench_201_darts_cpu"
    "nas_bench_201_gdas"
    "nas_bench_201_gdas_cpu"
    "nas_bench_201_cen"
    "nas_bench_201_cen_cpu"
    "retrain_quick"
    "retrain_folder"
    "retrain_cifar10"
    "retrain_cifar100"
    "retrain_tiny_imagenet"
    "retrain_imagenet"
    "retrain_cifar10_cpu"
    "retrain_nas_bench_201"
    "retrain_nas_bench_201_cpu"
    "quick_run"
    "folder_run"
];

impl Preset {
    /// The preset of this name.
    pub fn named(name: &str) -> Option<Self> {
        PRESETS.iter().find(|preset| preset.name == name).copied()
    }

    /// The description of the preset in one line.
    pub fn summary(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches(['#', ' '])
    }
}

impl SearchConfig {
    /// EC-DARTS on CIFAR-10 as in the paper.
    ///
    /// # Source
    /// EC-DARTS, sections 5.2 and 5.3; where the paper gives no value, the value of DARTS.
    pub fn cifar10() -> Self {
        Self::paper()
    }

    /// The bundled sample in about a minute on two cores.
    pub fn quick() -> Self {
        built_in(Self::preset("quick"))
    }
}

impl RetrainConfig {
    /// CIFAR-10 as in the paper.
    ///
    /// # Source
    /// EC-DARTS, section 5.3; where the paper gives no value, DARTS, `cnn/train.py`.
    pub fn cifar10() -> Self {
        Self::paper()
    }

    /// The bundled sample in about a minute on two cores.
    pub fn quick() -> Self {
        built_in(Self::preset("retrain_quick"))
    }
}

fn built_in<C>(config: Result<C>) -> C {
    config.unwrap_or_else(|error| unreachable!("a test reads every preset: {error}"))
}
