//! The real binary: what it prints, what it refuses, and what survives a kill.

mod cost;
mod crash;
mod data;
mod discretize;
mod errors;
mod genotype;
mod memory;
mod model;
mod pipeline;
mod program;
mod report;
mod retrain;
mod settings;
