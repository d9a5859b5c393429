//! The instruction sets, found at run time.

use pulp::{Simd, WithSimd};

use crate::edge::Cell;

/// An instruction set; its number of lanes is the width of a block of channels.
#[derive(Clone, Copy, Debug)]
pub enum Isa {
    /// AVX-512, 16 lanes.
    #[cfg(target_arch = "x86_64")]
    V4(pulp::x86::V4),
    /// AVX2 and FMA, 8 lanes.
    #[cfg(target_arch = "x86_64")]
    V3(pulp::x86::V3),
    /// NEON, 4 lanes.
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
    /// No intrinsics: arrays of 4 lanes that the compiler may vectorize.
    Portable(pulp::Scalar128b),
}

impl Isa {
    /// All that this machine has, the widest first.
    pub fn available() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(pulp::x86::V4::try_new().map(Self::V4));
            all.extend(pulp::x86::V3::try_new().map(Self::V3));
        }
        #[cfg(target_arch = "aarch64")]
        all.extend(pulp::aarch64::Neon::try_new().map(Self::Neon));
        all.push(Self::Portable(pulp::Scalar128b));
        all
    }

    /// For the channels of a cell's states.
    pub fn of(cell: &Cell) -> Self {
        Self::best(cell.inputs.first().map_or(1, |edge| edge.channels[1]))
    }

    /// The widest whose blocks the channels fill at least to three quarters, else the narrowest
    /// with intrinsics.
    pub fn best(num_channels: usize) -> Self {
        let all = Self::available();
        let vectors = &all[..all.len().saturating_sub(1).max(1)];
        let fits = |isa: &&Self| {
            let lanes = isa.lanes();
            4 * num_channels >= 3 * num_channels.next_multiple_of(lanes)
        };
        *vectors.iter().find(fits).unwrap_or(&vectors[vectors.len() - 1])
    }

    /// Single-precision values of one register.
    pub fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::V4(_) => 16,
            #[cfg(target_arch = "x86_64")]
            Self::V3(_) => 8,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => 4,
            Self::Portable(_) => 4,
        }
    }

    /// Runs an operation compiled for this instruction set.
    pub fn run<Op: WithSimd>(self, operation: Op) -> Op::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::V4(simd) => Simd::vectorize(simd, operation),
            #[cfg(target_arch = "x86_64")]
            Self::V3(simd) => Simd::vectorize(simd, operation),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => Simd::vectorize(simd, operation),
            Self::Portable(simd) => Simd::vectorize(simd, operation),
        }
    }
}
