//! The estimated memory of a search or a retraining, printed before its first step.
//!
//! Entry points: [`describe`], [`describe_retraining`]; [`Room`] has the available memory. The
//! estimate counts the maps that a step keeps. On the CPU, the tests of the command line compare it
//! with the measured peak.

mod activations;
mod buffers;
mod need;

pub use need::MemoryNeed;

use burn::tensor::Device;
use ec_darts_space::Genotype;

use crate::Result;
use crate::config::{RetrainConfig, RunConfig, SearchConfig};
use crate::data::ImageDataset;
use crate::ops::{Kernels, Memory};
use crate::{device, memory};

/// Bytes per value.
const VALUE: u64 = 4;

/// The memory of a run's tensors, and how much of it is available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Whether this is the memory of the process.
    pub is_cpu: bool,
    /// Whether the device has fused kernels for cells.
    pub has_fused: bool,
    /// The free memory on the CPU, the total memory on a GPU, in bytes; none where it is unknown.
    pub bytes: Option<u64>,
}

impl Room {
    /// The memory of a device, now.
    pub fn of(device: &Device) -> Self {
        let is_cpu = device::is_cpu(device);
        Self {
            is_cpu,
            has_fused: ec_darts_kernels::has_kernels(device),
            bytes: if is_cpu { memory::available_bytes() } else { device::memory_bytes(device) },
        }
    }
}

/// The estimated memory for some settings, in words, and whether it is available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// One line: the needed memory, the available memory, and smaller settings that would fit.
    pub text: String,
    /// False where more memory is needed than is available.
    pub fits: bool,
}

/// The estimate for a search: its memory, whether it fits, and settings that would fit.
///
/// # Errors
/// [`crate::Error::ConfigValue`] where the settings describe no valid search space.
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

/// The estimate for a retraining, as in [`describe`].
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

/// The estimate in words; `smaller` are settings that need less, with their memory.
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
    use crate::config::KernelSetting;

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
}
