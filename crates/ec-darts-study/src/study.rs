//! The file of a study, read and completely checked before any trial runs.

mod check;

use std::path::Path;

#[cfg(doc)]
use ec_darts::Error;
use ec_darts::Result;
use ec_darts::architecture::random_genotype;
use ec_darts::config::{Override, RetrainConfig, SearchConfig, Settings, Source};
use ec_darts::data::{DatasetKind, Purpose, stream_rng};
use ec_darts_space::{Discretization, Genotype, Preset, SearchSpace};
use serde::Deserialize;
use toml::Table;

use crate::genotypes;
use crate::results::Kind;
use crate::source;
use check::Check;

/// Default number of epochs whose genotypes a study of the kind `epochs` retrains.
const EPOCHS: usize = 10;
/// Largest number of seeds or variants in a list.
const MOST: usize = 10_000;

/// A study: its searches and genotypes, the settings of their trainings, and the question.
#[derive(Clone, Debug, PartialEq)]
pub struct Study {
    /// The name of its file without `.toml`.
    pub name: String,
    /// The question.
    pub kind: Kind,
    /// Settings of the trainings.
    pub protocol: Protocol,
    /// Seeds of the searches of every variant.
    pub seeds: Vec<u64>,
    /// For the kind `epochs`, the number of genotypes of a search.
    pub epochs: usize,
    /// The things that the study compares.
    pub variants: Vec<Variant>,
}

/// Settings of the trainings, and so the scale of a study.
#[derive(Clone, Debug, PartialEq)]
pub struct Protocol {
    /// The name of its file without `.toml`.
    pub name: String,
    /// Seeds with which every genotype is trained.
    pub training_seeds: Vec<u64>,
    /// Settings of a training, except its seed.
    pub retrain: RetrainConfig,
}

/// One of the compared variants of a study.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// The name in the file, which names folders.
    pub name: String,
    /// Source of its genotypes.
    pub origin: Origin,
}

/// Source of a variant's genotypes.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// Searches with these settings, except the seed.
    Search(Box<SearchConfig>),
    /// Draws with these seeds.
    Random {
        /// Seeds of the draws.
        seeds: Vec<u64>,
        /// The space of the draws.
        space: SearchSpace,
        /// From random strengths to a genotype.
        discretization: Discretization,
    },
    /// Presets and files by their names in the study.
    Given(Vec<(String, Genotype)>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StudyFile {
    kind: Kind,
    protocol: String,
    #[serde(default)]
    seeds: Vec<u64>,
    epochs: Option<usize>,
    variants: Vec<VariantFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VariantFile {
    name: String,
    search: Option<String>,
    #[serde(default)]
    set: Table,
    random: Option<Vec<u64>>,
    genotype: Option<String>,
    genotypes: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProtocolFile {
    training_seeds: Vec<u64>,
    #[serde(default)]
    search: Table,
    retrain: Table,
}

/// A protocol, and the settings that it puts over those of every search.
struct Scale {
    source: Source,
    search: Table,
    protocol: Protocol,
}

impl Study {
    /// The built-in study with this name, else the study in the file at this path, checked.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::ConfigSyntax`] or [`Error::ConfigValue`]; each names file, key,
    /// value and the allowed values. Settings are checked as in [`Settings::load`].
    pub fn open(given: &Path) -> Result<Self> {
        let source = source::study(given)?;
        let file: StudyFile = source::read(&source, source::layered(&source)?)?;
        let stem = Path::new(&source.name).file_stem().unwrap_or_default();
        let scale = scale(&source, &file.protocol)?;
        let study = Self {
            name: stem.to_string_lossy().into_owned(),
            kind: file.kind,
            epochs: file.epochs.unwrap_or(EPOCHS),
            variants: variants(&source, &file, &scale)?,
            seeds: file.seeds,
            protocol: scale.protocol,
        };
        let check = Check { source: &source };
        check.variants(&study)?;
        check.seeds("seeds", &study.seeds, study.searches().next().is_some())?;
        check.kind(&study, file.epochs)?;
        Ok(study)
    }

    /// Searched variants with their settings, except the seed.
    pub fn searches(&self) -> impl Iterator<Item = (&Variant, &SearchConfig)> {
        self.variants.iter().filter_map(|variant| match &variant.origin {
            Origin::Search(config) => Some((variant, &**config)),
            Origin::Random { .. } | Origin::Given(_) => None,
        })
    }
}

fn scale(study: &Source, name: &str) -> Result<Scale> {
    let source = source::protocol(study, name)?;
    let file: ProtocolFile = source::read(&source, source.table()?)?;
    Check { source: &source }.seeds("training_seeds", &file.training_seeds, true)?;
    let mut layer = file.retrain;
    let base = match layer.remove("base") {
        Some(toml::Value::String(base)) => source.beside("retrain.base", &base)?,
        other => {
            let found = other.map_or("not set".into(), |other| other.to_string());
            let allowed = "settings of a retraining: a preset or a path, as text";
            return Err(source::value(&source, "retrain.base", &found, allowed));
        }
    };
    let seeds = ("retrain.seed", "training_seeds has them");
    let retrain = RetrainConfig::from_source(&base)?;
    let retrain = retrain.overridden(&source::overrides(&layer, &source, "retrain.", seeds)?)?;
    let dataset = retrain.data.dataset;
    if !DatasetKind::ALL.contains(&dataset) {
        let allowed = DatasetKind::ALL.map(DatasetKind::name).join(", ");
        let key = "retrain.data.dataset";
        return Err(source::value(&source, key, &dataset.name(), &allowed));
    }
    let stem = Path::new(&source.name).file_stem().unwrap_or_default();
    let name = stem.to_string_lossy().into_owned();
    let protocol = Protocol { name, training_seeds: file.training_seeds, retrain };
    Ok(Scale { source, search: file.search, protocol })
}

fn variants(source: &Source, file: &StudyFile, scale: &Scale) -> Result<Vec<Variant>> {
    let searches = file.variants.iter().map(|variant| {
        let Some(name) = &variant.search else { return Ok(None) };
        search(source, variant, name, scale).map(Some)
    });
    let searches: Vec<Option<SearchConfig>> = searches.collect::<Result<_>>()?;
    let mut spaces = searches.iter().flatten().map(|config| config.network.space());
    let space = match spaces.next() {
        Some(space) => space?,
        None => SearchConfig::cifar10().overridden(&scale.overrides()?)?.network.space()?,
    };
    let discretizations: Vec<Discretization> =
        searches.iter().flatten().map(|config| config.rule.discretization).collect();
    let same_space = spaces.all(|other| other.is_ok_and(|other| other == space));
    let origins = file.variants.iter().zip(searches).map(|(variant, search)| {
        let key = format!("variants.{}", variant.name);
        let given = variant.given(source, &key)?;
        let origin = match (search, &variant.random, given) {
            (Some(config), None, None) => Origin::Search(Box::new(config)),
            (None, Some(_), None) if !same_space => {
                let allowed = "no random genotypes: the variants search in different spaces";
                return Err(source::value(source, &key, &"random", allowed));
            }
            (None, Some(seeds), None) => {
                Check { source }.seeds(&format!("{key}.random"), seeds, true)?;
                let discretization = genotypes::of_random(&discretizations).ok_or_else(|| {
                    let allowed = "no random genotypes: those of the searches keep other numbers of operations";
                    source::value(source, &key, &"random", allowed)
                })?;
                let any = random_genotype(&space, discretization, &mut stream_rng(0, Purpose::Genotype, 0, 0));
                can_be_trained(source, &key, &any, &scale.protocol)?;
                Origin::Random { seeds: seeds.clone(), space: space.clone(), discretization }
            }
            (None, None, Some(given)) => {
                for (name, genotype) in &given {
                    let key = format!("{key}: {name}");
                    can_be_trained(source, &key, genotype, &scale.protocol)?;
                }
                Origin::Given(given)
            }
            _ => {
                let allowed = "exactly one of `search`, `random`, `genotype` and `genotypes`";
                return Err(source::value(source, &key, &variant.described(), allowed));
            }
        };
        if !variant.set.is_empty() && variant.search.is_none() {
            let (key, value) = (format!("{key}.set"), variant.set.to_string());
            return Err(source::value(source, &key, &value.trim(), "nothing without `search`"));
        }
        if let Origin::Search(config) = &origin {
            let any = random_genotype(
                &config.network.space()?,
                Discretization::Edges,
                &mut stream_rng(0, Purpose::Genotype, 0, 0),
            );
            can_be_trained(source, &key, &any, &scale.protocol)?;
        }
        Ok(Variant { name: variant.name.clone(), origin })
    });
    origins.collect()
}

impl VariantFile {
    fn described(&self) -> String {
        let given = [
            ("search", self.search.is_some()),
            ("random", self.random.is_some()),
            ("genotype", self.genotype.is_some()),
            ("genotypes", self.genotypes.is_some()),
        ];
        let names: Vec<&str> =
            given.into_iter().filter_map(|(name, is)| is.then_some(name)).collect();
        if names.is_empty() { "none of them".into() } else { names.join(" and ") }
    }

    /// The given genotypes with their names; none where the variant gives none, or in two ways.
    fn given(&self, source: &Source, key: &str) -> Result<Option<Vec<(String, Genotype)>>> {
        let (names, key) = match (&self.genotype, &self.genotypes) {
            (Some(name), None) => (std::slice::from_ref(name), format!("{key}.genotype")),
            (None, Some(names)) => {
                let key = format!("{key}.genotypes");
                Check { source }.names(&key, names)?;
                (&names[..], key)
            }
            _ => return Ok(None),
        };
        // The folder of a file means nothing to readers of the results.
        let last = |name: &str| {
            let file = Path::new(name).file_name();
            file.map_or(name.into(), |file| file.to_string_lossy().into_owned())
        };
        let of = |name: &String| Ok((last(name), genotype(source, &key, name)?));
        let given: Vec<(String, Genotype)> = names.iter().map(of).collect::<Result<_>>()?;
        let keys: Vec<String> = given.iter().map(|(_, one)| genotypes::key(one)).collect();
        for (at, own) in keys.iter().enumerate() {
            if let Some(twin) = keys[..at].iter().position(|other| other == own) {
                let (own, twin) = (format!("{:?}", names[at]), &names[twin]);
                let allowed = format!("another network than that of {twin:?}");
                return Err(source::value(source, &key, &own, &allowed));
            }
        }
        Ok(Some(given))
    }
}

/// The settings of a variant: its own over those of the protocol, over those that it names.
fn search(
    source: &Source,
    variant: &VariantFile,
    name: &str,
    scale: &Scale,
) -> Result<SearchConfig> {
    let key = format!("variants.{}", variant.name);
    let base = source.beside(&format!("{key}.search"), name)?;
    let seeds = ("search.seed", "`seeds` has them");
    let own = source::overrides(&variant.set, source, &format!("{key}.set."), seeds)?;
    // Together, so that a variant can adapt a preset to the protocol.
    let config = SearchConfig::from_source(&base)?;
    let config = config.overridden(&[scale.overrides()?, own].concat())?;
    let (ours, theirs) = (config.data.source(""), scale.protocol.retrain.data.source(""));
    if ours == theirs {
        return Ok(config);
    }
    let found = format!("{} read in another way", config.data.dataset.name());
    let allowed = format!(
        "the same set, image_size, resize, test_fraction, split_seed, broken_images, orientation and cache_mib \
         as in the trainings of {} ({})",
        scale.source.name,
        scale.protocol.retrain.data.dataset.name()
    );
    Err(source::value(source, &format!("{key}.set.data"), &found, &allowed))
}

impl Scale {
    /// The settings over those of every search.
    fn overrides(&self) -> Result<Vec<Override>> {
        let seeds = ("search.seed", "the study's `seeds` has them");
        source::overrides(&self.search, &self.source, "search.", seeds)
    }
}

/// Refuses a genotype that the network of the protocol cannot be made of.
fn can_be_trained(
    source: &Source,
    key: &str,
    genotype: &Genotype,
    protocol: &Protocol,
) -> Result<()> {
    let network = &protocol.retrain.network;
    let Some(fault) = network.skeleton.fault(genotype) else { return Ok(()) };
    let found =
        format!("beside the skeleton `{}` of protocol {}", network.skeleton.name(), protocol.name);
    Err(source::value(source, key, &found, &format!("a genotype that fits: {fault}")))
}

/// A preset, or a file beside the study.
fn genotype(source: &Source, key: &str, name: &str) -> Result<Genotype> {
    if let Ok(preset) = Preset::find(name) {
        return Ok(preset.genotype());
    }
    let text = source.beside(key, name).map_err(|error| {
        let names: Vec<&str> = Preset::ALL.iter().map(|preset| preset.name).collect();
        source::allowed(source, &error, &format!("{}, or a path", names.join(", ")))
    });
    text?.text.parse().map_err(|error| source.fail(&format!("`{key}` is {name:?}: {error}")))
}

#[cfg(test)]
mod tests;
