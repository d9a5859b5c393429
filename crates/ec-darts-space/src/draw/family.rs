//! Colours, one per family of primitives.

use crate::{Primitive, Recipe};

/// The colour of what is joined to the output.
pub(super) const CONCAT: &str = "#8a8f98";

/// Primitives that share a colour, told apart by their labels.
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

    /// Of lines and frames; told apart also with the common kinds of colour blindness.
    pub(super) fn color(self) -> &'static str {
        match self {
            Self::SepConv => "#0072b2",
            Self::DilConv => "#009e73",
            Self::Convolution => "#7a6a00",
            Self::Pool => "#d55e00",
            Self::Skip => "#a0479b",
        }
    }

    /// Of the area behind a label.
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
