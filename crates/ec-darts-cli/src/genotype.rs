//! `ec-darts genotype`: show, convert, draw, discretize.

mod discretize;

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, bail};
use ec_darts::Error;
use ec_darts::architecture::random_genotype;
use ec_darts::data::{Purpose, stream_rng};
use ec_darts_space::{Discretization, Genotype, Preset, SearchSpace, draw};

use crate::args::{GenotypeCommand, TextForm};
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

/// A genotype from a file, or a preset by name.
///
/// # Errors
/// [`Error::ConfigSyntax`] where there is neither; others where the file has no genotype.
pub fn read(name: &str) -> anyhow::Result<Genotype> {
    let path = Path::new(name);
    if path.exists() {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
        let text = decoded(&bytes).with_context(|| format!("{name}: neither UTF-8 nor UTF-16"))?;
        return text.parse().with_context(|| name.to_string());
    }
    let preset = Preset::find(name).map_err(|error| Error::ConfigSyntax {
        origin: name.into(),
        reason: format!("no such file: {error}"),
    })?;
    Ok(preset.genotype())
}

/// Text in UTF-8, or in UTF-16 with its byte-order mark, as PowerShell writes the output of a
/// program.
fn decoded(bytes: &[u8]) -> Option<String> {
    let number = match bytes {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return String::from_utf8(bytes.to_vec()).ok(),
    };
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units: Vec<u16> = pairs.iter().map(|&pair| number(pair)).collect();
    String::from_utf16(&units).ok().filter(|_| rest.is_empty())
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
