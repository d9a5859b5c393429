//! EC-DARTS: differentiable architecture search with Cross-Edge Normalization and Induced
//! Structural Transition (Zhou et al., ICCV 2021), on Burn.

pub mod error;
pub mod ops;
pub mod relaxation;
pub mod architecture;
pub mod network;
pub mod tensors;
pub mod optim;
pub mod architect;
pub mod transition;
pub mod snapshot;
pub mod rank;
pub mod data;
pub mod config;
pub mod device;
pub mod train;
pub use error::{Error, Result};

/// Version of this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Commit it was built from, or `unknown` outside a checkout.
pub const COMMIT: &str = env!("EC_DARTS_COMMIT");
