//! `ec-darts genotype`: show, convert, draw, discretize.

mod discretize;

use std::fmt::Write;
use std::path::Path;

use anyhow::bail;
use ec_darts::Error;
use ec_darts::architecture::random_genotype;
use ec_darts::data::{Purpose, stream_rng};
use ec_darts_space::{Discretization, Genotype, Preset, SearchSpace, draw};

use crate::args::{GenotypeCommand, TextForm};
use crate::given::read;
use crate::{output, print};

pub fn run(command: GenotypeCommand) -> anyhow::Result<()> {
    match command {
        GenotypeCommand::Show { genotype } if genotype == "presets" => {
            let lines = Preset::ALL.map(|preset| format!("{:18} {}\n", preset.name, preset.source));
            print(&lines.concat())
        }
        GenotypeCommand::Show { genotype } => {
            let mut text = String::new();
            if let (false, Ok(preset)) = (Path::new(&genotype).exists(), Preset::find(&genotype)) {
                writeln!(text, "{}: {}\n{}\n", preset.name, preset.source, preset.note)?;
            }
            text += &table(&read(&genotype)?);
            print(&text)
        }
        GenotypeCommand::Convert { genotype, to } => {
            let genotype = read(&genotype)?;
            let text = match to {
                TextForm::Flat => genotype.to_flat()?,
                TextForm::Nested => genotype.to_nested()?,
                TextForm::Triples => genotype.to_triples()?,
                TextForm::EveryEdge => genotype.to_every_edge()?,
                TextForm::NasBench201 => genotype.to_nas_bench_201()?,
                TextForm::Json => genotype.to_json(),
            };
            print(&format!("{}\n", text.trim_end()))
        }
        GenotypeCommand::Random { seed } => {
            let rng = &mut stream_rng(seed, Purpose::Genotype, 0, 0);
            print(&format!(
                "{}\n",
                random_genotype(&SearchSpace::darts(), Discretization::Edges, rng)
            ))
        }
        GenotypeCommand::Draw { genotype: name, out } => {
            let genotype = read(&name)?;
            let picture = match out.extension().and_then(|extension| extension.to_str()) {
                Some("svg") => draw::svg(&genotype),
                Some("dot") => draw::dot(&genotype),
                _ => bail!(Error::ConfigSyntax {
                    origin: format!("--out {}", out.display()),
                    reason: "the name must end in .svg or .dot".into(),
                }),
            };
            output::spare(&out, [&name])?;
            output::write(&out, picture.as_bytes())?;
            Ok(())
        }
        GenotypeCommand::Discretize(arguments) => discretize::run(arguments),
    }
}

/// One line for each node.
pub fn table(genotype: &Genotype) -> String {
    let mut text = String::new();
    for (kind, cell) in genotype.cells() {
        text += &format!("{kind} cell\n");
        for (node, picks) in cell.nodes.iter().enumerate() {
            let picks = picks.iter().map(|pick| format!("{} from {}", pick.primitive, pick.from));
            let picks: Vec<String> = picks.collect();
            let picks =
                if picks.is_empty() { "no part of the cell".into() } else { picks.join(", ") };
            text += &format!("  node {}: {picks}\n", node + 2);
        }
    }
    text
}
