//! Prints a published genotype as text and draws it.
//!
//! ```text
//! cargo run --release --example show_genotype -- pc_darts_cifar
//! ```

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use ec_darts_space::{Preset, draw};

#[derive(Parser)]
#[command(about = "Prints a published genotype and draws it")]
struct Arguments {
    /// darts_v1, darts_v2, pc_darts_cifar, pc_darts_imagenet, pdarts, ec_darts_cifar or
    /// ec_darts_imagenet.
    #[arg(default_value = "darts_v2")]
    preset: String,
    /// Picture to write.
    #[arg(long, default_value = "genotype.svg")]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let preset = Preset::find(&arguments.preset)?;
    let genotype = preset.genotype();
    println!("{} ({}): {}\n", preset.name, preset.source, preset.note);

    for (kind, cell) in genotype.cells() {
        println!("{kind} cell");
        for (node, picks) in cell.nodes.iter().enumerate() {
            let picks = picks.iter().map(|pick| format!("{} from {}", pick.primitive, pick.from));
            println!("  node {}: {}", node + 2, picks.collect::<Vec<_>>().join(", "));
        }
    }
    println!("\nflat:   {}", genotype.to_flat()?);
    println!("nested: {}", genotype.to_nested()?);

    let path = &arguments.out;
    let fail = || format!("cannot write {}", path.display());
    std::fs::write(path, draw::svg(&genotype)).with_context(fail)?;
    println!("\ndrawn in {}", path.display());
    Ok(())
}
