//! Candidate operations by name, and the structure of each.
//!
//! Only this module describes a primitive: weights, costs and kernels follow from its structure,
//! [`Primitive::recipe`]. No code refers to a primitive by a bare number, because public code
//! orders the primitives of DARTS in two ways, and each search space has its own order.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// A candidate operation of an edge, without weights.
///
/// The text form is the name in the public DARTS code, such as `sep_conv_3x3`.
///
/// ```
/// use ec_darts_space::Primitive;
///
/// assert_eq!("sep_conv_3x3".parse::<Primitive>()?, Primitive::SepConv3x3);
/// assert_eq!(Primitive::SkipConnect.to_string(), "skip_connect");
/// # Ok::<(), ec_darts_space::Error>(())
/// ```
///
/// # Source
/// DARTS, `cnn/genotypes.py`, `PRIMITIVES`; NAS-Bench-201, `xautodl/models/cell_operations.py`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Primitive {
    /// Zeros: no connection. Never part of a genotype.
    #[serde(rename = "none")]
    None,
    /// Maximum of 3 by 3 pixels.
    #[serde(rename = "max_pool_3x3")]
    MaxPool3x3,
    /// Mean of 3 by 3 pixels.
    #[serde(rename = "avg_pool_3x3")]
    AvgPool3x3,
    /// Identity; at stride 2 a factorized reduction, which has weights.
    #[serde(rename = "skip_connect")]
    SkipConnect,
    /// Two 3 by 3 depthwise-separable convolutions in a row.
    #[serde(rename = "sep_conv_3x3")]
    SepConv3x3,
    /// Two 5 by 5 depthwise-separable convolutions in a row.
    #[serde(rename = "sep_conv_5x5")]
    SepConv5x5,
    /// One 3 by 3 depthwise-separable convolution of dilation 2.
    #[serde(rename = "dil_conv_3x3")]
    DilConv3x3,
    /// One 5 by 5 depthwise-separable convolution of dilation 2.
    #[serde(rename = "dil_conv_5x5")]
    DilConv5x5,
    /// One 1 by 1 convolution, between ReLU and batch normalization.
    #[serde(rename = "nor_conv_1x1")]
    NorConv1x1,
    /// One 3 by 3 convolution, between ReLU and batch normalization.
    #[serde(rename = "nor_conv_3x3")]
    NorConv3x3,
}

/// The structure of a primitive. Input and output have the same number of channels.
///
/// A block is a ReLU, a convolution and a batch normalization. The first block has the stride of
/// the edge, and padding keeps the size at stride 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Recipe {
    /// Zeros.
    Zero,
    /// The input itself; at stride 2 a factorized reduction: a block of two 1 by 1 convolutions,
    /// each to half of the channels. The second one reads its input from one pixel further down and
    /// right.
    Identity,
    /// The maximum of a window.
    MaxPool {
        /// Side of the window, in pixels.
        kernel: usize,
    },
    /// The mean of the pixels of a window that lie inside the map.
    AvgPool {
        /// Side of the window, in pixels.
        kernel: usize,
    },
    /// Blocks of a depthwise convolution and a 1 by 1 convolution.
    Separable {
        /// Side of the depthwise kernel, in taps.
        kernel: usize,
        /// The distance from one tap to the next, in pixels.
        dilation: usize,
        /// Number of blocks.
        repeats: usize,
    },
    /// One block with one convolution.
    Convolution {
        /// Side of the kernel, in taps.
        kernel: usize,
    },
}

impl Recipe {
    /// The number of blocks (ReLU, convolutions, batch normalization) at a stride.
    pub fn num_blocks(self, stride: usize) -> usize {
        match self {
            Self::Zero | Self::MaxPool { .. } | Self::AvgPool { .. } => 0,
            Self::Identity => usize::from(stride > 1),
            Self::Separable { repeats, .. } => repeats,
            Self::Convolution { .. } => 1,
        }
    }
}

impl Primitive {
    /// All primitives. No search space has all of them: see [`Self::DARTS`].
    pub const ALL: [Self; 10] = [
        Self::None,
        Self::MaxPool3x3,
        Self::AvgPool3x3,
        Self::SkipConnect,
        Self::SepConv3x3,
        Self::SepConv5x5,
        Self::DilConv3x3,
        Self::DilConv5x5,
        Self::NorConv1x1,
        Self::NorConv3x3,
    ];

    /// The candidates of DARTS and EC-DARTS, in the order of the public DARTS code.
    pub const DARTS: [Self; 8] = [
        Self::None,
        Self::MaxPool3x3,
        Self::AvgPool3x3,
        Self::SkipConnect,
        Self::SepConv3x3,
        Self::SepConv5x5,
        Self::DilConv3x3,
        Self::DilConv5x5,
    ];

    /// The candidates of NAS-Bench-201, in the order of its code.
    pub const NAS_BENCH_201: [Self; 5] =
        [Self::None, Self::SkipConnect, Self::NorConv1x1, Self::NorConv3x3, Self::AvgPool3x3];

    /// The name in text.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::MaxPool3x3 => "max_pool_3x3",
            Self::AvgPool3x3 => "avg_pool_3x3",
            Self::SkipConnect => "skip_connect",
            Self::SepConv3x3 => "sep_conv_3x3",
            Self::SepConv5x5 => "sep_conv_5x5",
            Self::DilConv3x3 => "dil_conv_3x3",
            Self::DilConv5x5 => "dil_conv_5x5",
            Self::NorConv1x1 => "nor_conv_1x1",
            Self::NorConv3x3 => "nor_conv_3x3",
        }
    }

    /// The structure.
    pub fn recipe(self) -> Recipe {
        match self {
            Self::None => Recipe::Zero,
            Self::MaxPool3x3 => Recipe::MaxPool { kernel: 3 },
            Self::AvgPool3x3 => Recipe::AvgPool { kernel: 3 },
            Self::SkipConnect => Recipe::Identity,
            Self::SepConv3x3 => Recipe::Separable { kernel: 3, dilation: 1, repeats: 2 },
            Self::SepConv5x5 => Recipe::Separable { kernel: 5, dilation: 1, repeats: 2 },
            Self::DilConv3x3 => Recipe::Separable { kernel: 3, dilation: 2, repeats: 1 },
            Self::DilConv5x5 => Recipe::Separable { kernel: 5, dilation: 2, repeats: 1 },
            Self::NorConv1x1 => Recipe::Convolution { kernel: 1 },
            Self::NorConv3x3 => Recipe::Convolution { kernel: 3 },
        }
    }

    /// Whether this is a pool.
    pub fn is_pool(self) -> bool {
        matches!(self.recipe(), Recipe::MaxPool { .. } | Recipe::AvgPool { .. })
    }

    /// Whether this primitive is not a convolution: `none`, a pool or `skip_connect`.
    ///
    /// A search that collapses ends in a cell full of these. The term is exact at stride 1; at
    /// stride 2 `skip_connect` has weights.
    pub fn is_parameter_free(self) -> bool {
        self.recipe().num_blocks(1) == 0
    }
}

impl fmt::Display for Primitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Primitive {
    type Err = Error;

    /// # Errors
    /// [`Error::UnknownName`], with all names.
    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|primitive| primitive.name() == name);
        found.ok_or_else(|| Error::UnknownName {
            what: "primitive",
            name: name.to_owned(),
            allowed: Self::ALL.map(Self::name).join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_json_use_the_same_name() {
        for primitive in Primitive::ALL {
            assert_eq!(primitive.name().parse::<Primitive>().unwrap(), primitive);
            let json = serde_json::to_string(&primitive).unwrap();
            assert_eq!(json, format!("\"{}\"", primitive.name()));
            assert_eq!(serde_json::from_str::<Primitive>(&json).unwrap(), primitive);
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let message = "conv_7x7".parse::<Primitive>().unwrap_err().to_string();
        assert_eq!(
            message,
            "unknown primitive `conv_7x7`, expected one of none, max_pool_3x3, avg_pool_3x3, \
             skip_connect, sep_conv_3x3, sep_conv_5x5, dil_conv_3x3, dil_conv_5x5, nor_conv_1x1, \
             nor_conv_3x3"
        );
    }

    #[test]
    fn families() {
        let names = |is: fn(Primitive) -> bool| {
            let found = Primitive::ALL.into_iter().filter(|&primitive| is(primitive));
            found.map(Primitive::name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(Primitive::is_pool), "max_pool_3x3 avg_pool_3x3");
        assert_eq!(
            names(Primitive::is_parameter_free),
            "none max_pool_3x3 avg_pool_3x3 skip_connect"
        );
    }

    /// The number in a name is the side of the kernel.
    #[test]
    fn recipes_follow_the_names() {
        for primitive in Primitive::ALL {
            let side = match primitive.recipe() {
                Recipe::Zero | Recipe::Identity => None,
                Recipe::MaxPool { kernel } | Recipe::AvgPool { kernel } => Some(kernel),
                Recipe::Separable { kernel, dilation, repeats } => {
                    assert_eq!(dilation * repeats, 2, "{primitive}");
                    Some(kernel)
                }
                Recipe::Convolution { kernel } => Some(kernel),
            };
            let suffix = side.map_or(String::new(), |side| format!("_{side}x{side}"));
            assert!(primitive.name().ends_with(&suffix), "{primitive}");
        }
        let blocks = |stride| Primitive::ALL.map(|each| each.recipe().num_blocks(stride));
        assert_eq!(blocks(1), [0, 0, 0, 0, 2, 2, 1, 1, 1, 1]);
        assert_eq!(blocks(2), [0, 0, 0, 1, 2, 2, 1, 1, 1, 1]);
    }
}
