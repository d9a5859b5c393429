//! The real binary: its output, its refusals, and its files after a kill.

mod browser;
mod compare;
mod cost;
mod crash;
mod damage;
mod data;
mod discretize;
mod ending;
mod errors;
mod events;
mod genotype;
mod memory;
mod model;
mod pipeline;
mod program;
mod report;
mod retrain;
mod settings;
mod slurm;
mod study;
mod study_report;
mod terminal;
mod trace;
