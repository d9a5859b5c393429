//! EC-DARTS: differentiable architecture search with Cross-Edge Normalization and Induced
//! Structural Transition (Zhou et al., ICCV 2021), on Burn.
//!
//! Start at [`train::run::search`] for a search in a folder, at [`train::Search`] for the loop alone, or
//! at the parts: [`relaxation`], [`network`], [`architect`], [`transition`]. The loop reads and
//! writes no file; only [`data`], [`config`], [`model`] and [`train::folder`] do.
#![forbid(unsafe_code)]
#![deny(missing_docs, clippy::print_stdout, clippy::print_stderr)]

// The method, in reading order.
pub mod relaxation;

pub mod sampling;

pub mod dirichlet;

pub mod architecture;

pub mod penalty;

pub mod rule;

pub mod skip_dropout;

pub mod ops;

pub mod network;

pub mod objective;

pub mod architect;

pub mod perturbation;

pub mod spectrum;

pub mod transition;

pub mod cost;

pub mod latency;

// Running a search or a retraining.
pub mod optim;

pub mod data;

pub mod config;

pub mod train;

pub mod model;

// Underneath.
pub mod batch;
pub mod device;
pub mod error;
pub mod files;
pub mod memory;
pub mod preflight;
pub mod snapshot;
pub(crate) mod tensors;

pub use error::{Error, Result};

/// Version of this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Commit of the build, or `unknown` outside a checkout.
pub const COMMIT: &str = env!("EC_DARTS_COMMIT");

/// Compiles the example in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
