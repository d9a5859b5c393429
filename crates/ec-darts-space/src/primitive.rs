//! The eight candidate operations of DARTS, by name.
//!
//! A primitive is never addressed by a bare number: public code orders them in two ways.

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
/// DARTS, `cnn/genotypes.py`, `PRIMITIVES`.
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
}

impl Primitive {
    /// All primitives, in the order of the public DARTS code.
    pub const ALL: [Self; 8] = [
        Self::None,
        Self::MaxPool3x3,
        Self::AvgPool3x3,
        Self::SkipConnect,
        Self::SepConv3x3,
        Self::SepConv5x5,
        Self::DilConv3x3,
        Self::DilConv5x5,
    ];

    /// The text form.
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
        }
    }

    /// Whether this is one of the two pools.
    pub fn is_pool(self) -> bool {
        matches!(self, Self::MaxPool3x3 | Self::AvgPool3x3)
    }

    /// Whether this is no convolution: `none`, a pool or `skip_connect`.
    ///
    /// Searches that collapse end in cells full of these. The name holds at stride 1; at stride 2
    /// `skip_connect` has weights.
    pub fn is_parameter_free(self) -> bool {
        self.is_pool() || matches!(self, Self::None | Self::SkipConnect)
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
             skip_connect, sep_conv_3x3, sep_conv_5x5, dil_conv_3x3, dil_conv_5x5"
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
}
