//! The checks of a study beyond those of types.

use ec_darts::Result;
use ec_darts::config::{Settings, Source};
use ec_darts_space::Discretization;

use super::{MOST, Origin, Study};
use crate::results::Kind;
use crate::source;

/// The checks, with errors that name the file.
pub struct Check<'a> {
    pub source: &'a Source,
}

impl Check<'_> {
    fn require(&self, holds: bool, key: &str, value: &dyn ToString, allowed: &str) -> Result<()> {
        if holds { Ok(()) } else { Err(source::value(self.source, key, value, allowed)) }
    }

    pub fn seeds(&self, key: &str, seeds: &[u64], needed: bool) -> Result<()> {
        let value = format!("{seeds:?}");
        let least = usize::from(needed);
        let fits = (least..=MOST).contains(&seeds.len());
        let allowed = format!("{least} to {MOST} different numbers");
        self.require(fits && is_distinct(seeds), key, &value, &allowed)?;
        let fits = seeds.iter().all(|&seed| i64::try_from(seed).is_ok());
        self.require(fits, key, &value, "numbers of 0 to 9223372036854775807")
    }

    /// Names of several given genotypes.
    pub fn names(&self, key: &str, names: &[String]) -> Result<()> {
        let fits = (2..=MOST).contains(&names.len());
        let allowed = format!("2 to {MOST} names; `genotype` gives one");
        self.require(fits, key, &format!("{} names", names.len()), &allowed)?;
        let odd = names.iter().find(|name| name.chars().any(char::is_control));
        let value = odd.map(|name| format!("{name:?}")).unwrap_or_default();
        self.require(odd.is_none(), key, &value, "names without control characters")
    }

    pub fn variants(&self, study: &Study) -> Result<()> {
        let names: Vec<&str> = study.variants.iter().map(|variant| &*variant.name).collect();
        let count = names.len();
        self.require((1..=MOST).contains(&count), "variants", &count, "1 to 10000")?;
        for name in &names {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
            let fits = (1..=64).contains(&name.len()) && name.chars().all(plain);
            let allowed = "1 to 64 characters of a-z, 0-9, _ and -, as it names folders";
            self.require(fits, "variants.name", &format!("{name:?}"), allowed)?;
        }
        let value = format!("{names:?}");
        self.require(is_distinct(&names), "variants.name", &value, "different names")?;
        let searches: Vec<_> = study.searches().collect();
        for (index, (variant, config)) in searches.iter().enumerate() {
            let twin =
                searches[..index].iter().find(|(_, other)| config.difference(other).is_none());
            let key = format!("variants.{}", variant.name);
            if let Some((twin, _)) = twin {
                let allowed = format!("other settings than those of `{}`", twin.name);
                return Err(source::value(self.source, &key, &"the same search", &allowed));
            }
        }
        Ok(())
    }

    pub fn kind(&self, study: &Study, epochs: Option<usize>) -> Result<()> {
        let of_epochs = study.kind == Kind::Epochs;
        if let Some(epochs) = epochs {
            let allowed = "a number in a study of the kind `epochs` alone";
            self.require(of_epochs, "epochs", &epochs, allowed)?;
            self.require((2..=MOST).contains(&epochs), "epochs", &epochs, "2 to 10000")?;
        }
        if study.kind == Kind::Ablation {
            return Ok(());
        }
        for variant in &study.variants {
            let key = format!("variants.{}", variant.name);
            let Origin::Search(config) = &variant.origin else {
                let allowed = "`search`: this kind of study asks about searches alone";
                return Err(source::value(self.source, &key, &"no search", allowed));
            };
            if of_epochs {
                let allowed = "a search of 2 epochs or more";
                let epochs = config.num_epochs();
                self.require(epochs >= 2, &format!("{key}.search.epochs"), &epochs, allowed)?;
            }
            if study.kind == Kind::Edges {
                // As the file spells it.
                let found = toml::Value::try_from(config.rule.discretization);
                let found = found.map_or_else(|error| error.to_string(), |found| found.to_string());
                let allowed = "edges: a node of the genotype must keep a fixed number of edges";
                let fits = config.rule.discretization == Discretization::Edges;
                self.require(fits, &format!("{key}.rule.discretization"), &found, allowed)?;
                let space = config.network.space()?;
                let (topology, kept) = (space.topology(), config.network.edges_kept);
                let sources = topology.sources(topology.num_nodes() - 1).len();
                let allowed = format!("fewer than {sources}, the edges into the last node");
                self.require(
                    kept < sources,
                    &format!("{key}.network.edges_kept"),
                    &kept,
                    &allowed,
                )?;
            }
        }
        let enough = study.kind != Kind::Searches || study.seeds.len() >= 2;
        let allowed = "two or more: the kind `searches` ranks searches";
        self.require(enough, "seeds", &format!("{:?}", study.seeds), allowed)
    }
}

fn is_distinct<T: Ord + Clone>(all: &[T]) -> bool {
    let mut sorted = all.to_vec();
    sorted.sort();
    sorted.windows(2).all(|pair| pair[0] != pair[1])
}
