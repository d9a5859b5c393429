//! A genotype that a command was given.

use std::path::Path;

use anyhow::Context;
use ec_darts::Error;
use ec_darts_space::{Genotype, Preset};

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
