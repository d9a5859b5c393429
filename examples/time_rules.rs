//! Times the search steps of several rules, by their presets, and prints a table of their costs
//! relative to the first.
//!
//! ```text
//! cargo run --release --example time_rules -- darts gdas proxyless pc_darts
//! cargo run --release --example time_rules --features cuda -- --device cuda darts gdas
//! ```
//!
//! A step is that of the search itself: one on alpha, where the rule has one, and one on the
//! weights. All rules use the network, the batch and the images of the first preset; alpha moves
//! from the first epoch on. The rules take turns, so that a slowdown of the machine affects all of
//! them. A rule that moves alpha in every fifth step is timed over cycles of five.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use burn::tensor::Device;
use clap::Parser;
use ec_darts::config::{DataConfig, SearchConfig, Settings};
use ec_darts::data::{DatasetKind, ImageDataset, Purpose, stream_rng};
use ec_darts::device::DeviceName;
use ec_darts::train::Search;
use rand::RngExt;

#[derive(Parser)]
struct Arguments {
    /// Presets; the others are compared with the first.
    #[arg(required = true)]
    presets: Vec<String>,
    /// flex, wgpu, vulkan, metal, cuda or rocm.
    #[arg(long, default_value = "flex")]
    device: DeviceName,
    /// Number of measured turns, after one warm-up turn.
    #[arg(long, default_value_t = 5)]
    turns: usize,
    /// Steps per turn.
    #[arg(long, default_value_t = 5)]
    steps: usize,
    /// Images per batch.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Side of the images, in pixels.
    #[arg(long, default_value_t = 32)]
    size: usize,
    /// Settings for all presets, KEY=VALUE.
    #[arg(long)]
    set: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.turns > 0 && arguments.steps > 0, "a turn has steps, and some turns count");
    let opened = arguments.device.open()?;
    println!("device: {}", opened.description);
    let images = Arc::new(images(&arguments)?);
    let mut searches = Vec::new();
    for name in &arguments.presets {
        let search = search(name, &arguments, &images, &opened.device)
            .with_context(|| format!("preset {name}"))?;
        searches.push(search);
    }
    let mut times = vec![Vec::new(); searches.len()];
    for turn in 0..=arguments.turns {
        for (search, times) in searches.iter_mut().zip(&mut times) {
            let start = Instant::now();
            for _ in 0..arguments.steps {
                search.work()?;
            }
            opened.device.sync()?;
            search.take_events();
            if turn > 0 {
                times.push(start.elapsed().as_secs_f64() / arguments.steps as f64);
            }
        }
    }
    println!("| rule | median ms a step | fastest to slowest | times cheaper | least to most |");
    println!("| --- | --- | --- | --- | --- |");
    for (name, own) in arguments.presets.iter().zip(&times) {
        // In the same turn, so that a machine that slows down slows both.
        let ratios = times[0].iter().zip(own).map(|(first, own)| first / own).collect();
        let [fastest, middle, slowest] = spread(own.iter().map(|time| 1e3 * time).collect());
        let [least, ratio, most] = spread(ratios);
        println!(
            "| {name} | {middle:.0} | {fastest:.0} to {slowest:.0} | {ratio:.2} | {least:.2} to {most:.2} |"
        );
    }
    Ok(())
}

/// Smallest, median and largest.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

/// A search with the rule of a preset in the common network.
fn search(
    name: &str,
    arguments: &Arguments,
    images: &Arc<ImageDataset>,
    device: &Device,
) -> anyhow::Result<Search> {
    let mut config = SearchConfig::preset(name)?;
    config.data = DataConfig::new(DatasetKind::Memory);
    config.search.batch_size = arguments.batch;
    // The epoch must not end during the measurement.
    config.search.steps_per_epoch = None;
    config.transition.enabled = false;
    config.alpha.frozen_epochs = 0;
    let config = config.with(&arguments.set)?;
    Ok(Search::new(config, images.clone(), device)?)
}

/// Random images, enough for all turns.
fn images(arguments: &Arguments) -> anyhow::Result<ImageDataset> {
    let steps = (arguments.turns + 2) * arguments.steps;
    let (count, side) = (2 * steps * arguments.batch, arguments.size);
    let mut rng = stream_rng(0, Purpose::Listed, 0, 0);
    let pixels = (0..count * 3 * side * side).map(|_| rng.random()).collect();
    let labels = (0..count).map(|image| image as u16 % 10).collect();
    let names = (0..10).map(|class| class.to_string()).collect();
    Ok(ImageDataset::new([side, side], pixels, labels, names)?)
}
