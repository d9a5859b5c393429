//! Tests of the whole, one topic a file.

mod devices;
mod fixture;
mod names;
mod parity;
