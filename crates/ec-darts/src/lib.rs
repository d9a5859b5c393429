//! EC-DARTS: differentiable architecture search with Cross-Edge Normalization and Induced
//! Structural Transition (Zhou et al., ICCV 2021), on Burn.

pub mod architect;
pub mod architecture;
pub mod config;
pub mod data;
pub mod device;
pub mod error;
pub mod memory;
pub mod network;
pub mod ops;
pub mod optim;
pub mod rank;
pub mod relaxation;
pub mod snapshot;
pub mod tensors;
pub mod train;
pub mod transition;
pub use error::{Error, Result};

/// Version of this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Commit it was built from, or `unknown` outside a checkout.
pub const COMMIT: &str = env!("EC_DARTS_COMMIT");
