//! The instruction sets, chosen at run time.

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
    /// AVX2 and FMA in registers of half the width, 4 lanes.
    #[cfg(target_arch = "x86_64")]
    V3Half(pulp::x86::V3_128b),
    /// NEON, 4 lanes.
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
    /// No intrinsics: arrays of 4 lanes that the compiler may vectorize.
    Portable(pulp::Scalar128b),
}

impl Isa {
    /// All instruction sets of this machine, the widest first.
    pub fn available() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(pulp::x86::V4::try_new().map(Self::V4));
            let v3 = pulp::x86::V3::try_new();
            all.extend(v3.map(Self::V3));
            all.extend(v3.map(pulp::x86::V3_128b).map(Self::V3Half));
        }
        #[cfg(target_arch = "aarch64")]
        all.extend(pulp::aarch64::Neon::try_new().map(Self::Neon));
        all.push(Self::Portable(pulp::Scalar128b));
        all
    }

    /// The widest set whose blocks the channels fill to at least three quarters, else the narrowest
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

    /// Number of single-precision values of one register.
    pub fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::V4(_) => 16,
            #[cfg(target_arch = "x86_64")]
            Self::V3(_) => 8,
            #[cfg(target_arch = "x86_64")]
            Self::V3Half(_) => 4,
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
            #[cfg(target_arch = "x86_64")]
            Self::V3Half(simd) => apart(simd, operation),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => Simd::vectorize(simd, operation),
            Self::Portable(simd) => Simd::vectorize(simd, operation),
        }
    }
}

/// Runs a part of an operation as a function of its own. It is compiled once for an instruction set;
/// inlined, an innermost loop would be compiled again for each of its callers.
#[inline(always)]
pub fn apart<S: Simd, Op: WithSimd>(simd: S, operation: Op) -> Op::Output {
    simd.vectorize(Apart { simd, operation })
}

/// An operation on given registers; pulp's own `vectorize` would give half registers whole ones.
struct Apart<S, Op> {
    simd: S,
    operation: Op,
}

impl<S: Simd, Op: WithSimd> WithSimd for Apart<S, Op> {
    type Output = Op::Output;

    #[inline(always)]
    fn with_simd<Other: Simd>(self, _: Other) -> Op::Output {
        self.operation.with_simd(self.simd)
    }
}

/// The instruction sets of a cell.
#[derive(Clone, Copy, Debug)]
pub struct Isas {
    /// For the edges behind the inputs, and for the states that they make.
    pub inputs: Isa,
    /// For the edges into nodes, which have fewer channels in a cell of several parts.
    pub nodes: Isa,
}

impl Isas {
    /// The sets for the channels of a cell.
    pub fn of(cell: &Cell) -> Self {
        let channels = cell.inputs.first().map_or(1, |edge| edge.channels[1]);
        Self { inputs: Isa::best(channels), nodes: Isa::best(channels / cell.parts) }
    }

    /// One set for all.
    #[cfg(test)]
    pub fn all(isa: Isa) -> Self {
        Self { inputs: isa, nodes: isa }
    }
}
