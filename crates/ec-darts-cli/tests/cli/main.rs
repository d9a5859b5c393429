//! The real binary: what it prints, what it refuses, and what survives a kill.

mod cost;
mod crash;
mod data;
mod errors;
mod genotype;
mod memory;
mod program;
