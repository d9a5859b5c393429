//! Colours, one per family of primitives.

use crate::Primitive;

/// The colour of what is joined to the output.
pub(super) const CONCAT: &str = "#8a8f98";

/// Primitives that share a colour, told apart by their labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    SepConv,
    DilConv,
    Pool,
    Skip,
}

impl Family {
    pub(super) const ALL: [Self; 4] = [Self::SepConv, Self::DilConv, Self::Pool, Self::Skip];

    pub(super) fn of(primitive: Primitive) -> Self {
        match primitive {
            Primitive::SepConv3x3 | Primitive::SepConv5x5 => Self::SepConv,
            Primitive::DilConv3x3 | Primitive::DilConv5x5 => Self::DilConv,
            Primitive::MaxPool3x3 | Primitive::AvgPool3x3 => Self::Pool,
            Primitive::SkipConnect | Primitive::None => Self::Skip,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SepConv => "separable convolution",
            Self::DilConv => "dilated convolution",
            Self::Pool => "pooling",
            Self::Skip => "skip connection",
        }
    }

    /// Of lines and frames; told apart also with the common kinds of colour blindness.
    pub(super) fn color(self) -> &'static str {
        match self {
            Self::SepConv => "#0072b2",
            Self::DilConv => "#009e73",
            Self::Pool => "#d55e00",
            Self::Skip => "#a0479b",
        }
    }

    /// Of the area behind a label.
    pub(super) fn tint(self) -> &'static str {
        match self {
            Self::SepConv => "#e3f0f9",
            Self::DilConv => "#e0f5ee",
            Self::Pool => "#fdeadd",
            Self::Skip => "#f6e8f5",
        }
    }
}
