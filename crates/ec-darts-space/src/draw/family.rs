//! Colours, one per family of primitives.

use crate::{Primitive, Recipe};

/// The colour of the states that are joined to the output.
pub(super) const CONCAT: &str = "#8a8f98";

/// A family of primitives with one colour; labels tell the primitives apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    SepConv,
    DilConv,
    Convolution,
    Pool,
    Skip,
}

impl Family {
    pub(super) const ALL: [Self; 5] =
        [Self::SepConv, Self::DilConv, Self::Convolution, Self::Pool, Self::Skip];

    pub(super) fn of(primitive: Primitive) -> Self {
        match primitive.recipe() {
            Recipe::Separable { dilation: 1, .. } => Self::SepConv,
            Recipe::Separable { .. } => Self::DilConv,
            Recipe::Convolution { .. } => Self::Convolution,
            Recipe::MaxPool { .. } | Recipe::AvgPool { .. } => Self::Pool,
            Recipe::Identity | Recipe::Zero => Self::Skip,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SepConv => "separable convolution",
            Self::DilConv => "dilated convolution",
            Self::Convolution => "convolution",
            Self::Pool => "pooling",
            Self::Skip => "skip connection",
        }
    }

    /// The colour of lines and frames. Readers with the common kinds of colour blindness can tell
    /// the families apart.
    pub(super) fn color(self) -> &'static str {
        match self {
            Self::SepConv => "#0072b2",
            Self::DilConv => "#009e73",
            Self::Convolution => "#7a6a00",
            Self::Pool => "#d55e00",
            Self::Skip => "#a0479b",
        }
    }

    /// The colour of the area behind a label.
    pub(super) fn tint(self) -> &'static str {
        match self {
            Self::SepConv => "#e3f0f9",
            Self::DilConv => "#e0f5ee",
            Self::Convolution => "#f4f0d6",
            Self::Pool => "#fdeadd",
            Self::Skip => "#f6e8f5",
        }
    }
}
