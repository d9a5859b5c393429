//! Tests of the whole, one topic a file.

mod architect;
mod damage;
mod dead_parameters;
mod devices;
mod documentation;
mod export;
mod fixture;
mod fused;
mod gradients;
mod memory;
mod names;
mod onnx;
mod packed;
mod parity;
mod relaxation;
mod resume;
mod retrain;
mod rule_networks;
mod rule_plain;
mod rule_values;
mod run;
mod sample;
mod search_smoke;
mod threads;
mod tiny;
mod transition;
