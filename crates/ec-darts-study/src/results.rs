//! Results of a study's finished trials; a report is made of them alone.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The question that a study asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A comparison of variants with each other and with random genotypes.
    ///
    /// # Source
    /// EC-DARTS, Table 4.
    Ablation,
    /// Genotypes of some epochs of one search: the rank by search accuracy against the rank after
    /// retraining.
    ///
    /// # Source
    /// EC-DARTS, Figures 1 and 4.
    Epochs,
    /// Genotypes of independent searches: the same two ranks.
    ///
    /// # Source
    /// EC-DARTS, Figure 5.
    Searches,
    /// Genotypes that differ only in the edges into the last node of the normal cell: the mixing weights of these
    /// edges against accuracy after retraining.
    ///
    /// # Source
    /// EC-DARTS, Figure 3.
    Edges,
}

impl Kind {
    /// The name in the file of a study.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ablation => "ablation",
            Self::Epochs => "epochs",
            Self::Searches => "searches",
            Self::Edges => "edges",
        }
    }
}

/// All results of a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Name of the study: its file without `.toml`.
    pub study: String,
    /// The question.
    pub kind: Kind,
    /// The protocol's name.
    pub protocol: String,
    /// Seeds with which every genotype is trained.
    pub training_seeds: Vec<u64>,
    /// Names of the variants in the order of the file.
    pub variants: Vec<String>,
    /// Finished searches, in the order of variants and seeds.
    pub searches: Vec<SearchResult>,
    /// The known genotypes of the study's question, in the same order, each with its finished
    /// trainings.
    pub candidates: Vec<Candidate>,
    /// Unfinished trials.
    pub unfinished: Vec<Unfinished>,
}

impl Results {
    /// The most accurate genotype on average over its trainings, of equal ones the first; none
    /// before every genotype is trained with every seed.
    pub fn best(&self) -> Option<&Candidate> {
        let is_whole = |one: &&Candidate| !one.trainings.is_empty() && self.unfinished.is_empty();
        // Of equal ones the last, here from the end.
        let all = self.candidates.iter().filter(is_whole).rev();
        all.max_by(|a, b| rounded(a.accuracy()).total_cmp(&rounded(b.accuracy())))
    }

    /// Number of different genotypes.
    pub fn num_genotypes(&self) -> usize {
        self.candidates.iter().map(|one| &one.genotype).collect::<BTreeSet<_>>().len()
    }
}

/// A finished search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchResult {
    /// Name of the variant.
    pub variant: String,
    /// Seed of the search.
    pub seed: u64,
    /// Path of the run folder in the folder of the study.
    pub folder: PathBuf,
    /// Key of its resulting genotype; see [`Candidate::genotype`].
    pub genotype: String,
    /// Measurements of every epoch.
    pub epochs: Vec<EpochScores>,
    /// Its cost.
    pub cost: Cost,
}

impl SearchResult {
    /// The epoch whose genotype the search returned.
    pub fn returned(&self) -> Option<&EpochScores> {
        EpochScores::returned(&self.epochs, &self.genotype)
    }
}

/// Measurements of one epoch of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochScores {
    /// The number of the epoch, counted from 1.
    pub epoch: usize,
    /// Key of its genotype.
    pub genotype: String,
    /// Accuracy of the supernet on the validation half, fraction in [0, 1].
    pub supernet_accuracy: f64,
    /// The accuracy of the auxiliary model, where there is one.
    pub auxiliary_accuracy: Option<f64>,
    /// Mean entropy of the mixing weights of all kinds of cell, as a fraction of the largest possible.
    pub entropy: f64,
}

impl EpochScores {
    /// Of a search's epochs with this genotype, the one whose auxiliary model was the most accurate,
    /// of equal ones the first; without auxiliary models the last.
    pub(crate) fn returned<'a>(epochs: &'a [Self], genotype: &str) -> Option<&'a Self> {
        let of_genotype = || epochs.iter().filter(|epoch| epoch.genotype == genotype);
        let accuracy = |of: &Self| of.auxiliary_accuracy.unwrap_or_default();
        match of_genotype().any(|epoch| epoch.auxiliary_accuracy.is_some()) {
            // Of equal ones the last, here from the end.
            true => of_genotype().rev().max_by(|a, b| accuracy(a).total_cmp(&accuracy(b))),
            false => of_genotype().next_back(),
        }
    }
}

/// Source of a genotype.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "place")]
pub enum Place {
    /// A search returned it.
    Search {
        /// Seed of the search.
        seed: u64,
    },
    /// The genotype of one epoch of a search.
    Epoch {
        /// Seed of the search.
        seed: u64,
        /// The number of the epoch, counted from 1.
        epoch: usize,
    },
    /// The last genotype of a search with other edges into the last node of the normal cell.
    Edges {
        /// Seed of the search.
        seed: u64,
        /// States that the node reads: 0 and 1 are the inputs, `2 + j` is node `j`.
        from: Vec<usize>,
        /// Whether these are the edges that the search keeps.
        kept: bool,
    },
    /// A random genotype.
    Random {
        /// Seed of the draw.
        seed: u64,
    },
    /// A preset or a file.
    Given {
        /// Its name in the study, where the variant has several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
}

impl Place {
    /// Seed of the search or draw, the independent unit; none for a given genotype.
    pub fn seed(&self) -> Option<u64> {
        match *self {
            Self::Search { seed }
            | Self::Epoch { seed, .. }
            | Self::Edges { seed, .. }
            | Self::Random { seed } => Some(seed),
            Self::Given { .. } => None,
        }
    }
}

/// A mean of accuracies without its rounding, so that equal means are equal.
pub(crate) fn rounded(accuracy: f64) -> f64 {
    (accuracy * 1e9).round() / 1e9
}

/// A genotype of the study's question. Equal genotypes from several places share their trainings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Name of the variant.
    pub variant: String,
    /// Its source.
    #[serde(flatten)]
    pub place: Place,
    /// Key of the genotype in its canonical form: equal keys are equal networks.
    pub genotype: String,
    /// Accuracy of the supernet in the genotype's epoch, fraction in [0, 1]; only for searches.
    pub supernet_accuracy: Option<f64>,
    /// The accuracy of the auxiliary model, where there is one.
    pub auxiliary_accuracy: Option<f64>,
    /// Sum of the mixing weights of the operations on the edges in question; only for
    /// [`Place::Edges`].
    pub operation_weight: Option<f64>,
    /// Finished trainings, in the order of the protocol's seeds.
    pub trainings: Vec<TrainingResult>,
}

impl Candidate {
    /// Mean accuracy of its trainings, fraction in [0, 1]; not a number where it has none.
    pub fn accuracy(&self) -> f64 {
        let of = self.trainings.iter().map(|training| training.accuracy);
        of.sum::<f64>() / self.trainings.len() as f64
    }
}

/// A finished training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingResult {
    /// Seed of the training.
    pub seed: u64,
    /// Path of the run folder in the folder of the study.
    pub folder: PathBuf,
    /// Accuracy after the last epoch, fraction in [0, 1].
    pub accuracy: f64,
    /// Whether `accuracy` is that of the test images; otherwise of held-out training images.
    pub on_test: bool,
    /// Its cost.
    pub cost: Cost,
}

/// Cost of a trial over all its sessions; of a killed session all but its last 20 seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Wall time, in s.
    pub seconds: f64,
    /// Processor time of all processors together, in s.
    pub processor_seconds: f64,
}

/// An unfinished trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unfinished {
    /// Path of its run folder in the folder of the study. Trainings of an unfinished search are
    /// unknown.
    pub trial: String,
    /// The reason of its failure; none where it did not run, or not to its end.
    pub error: Option<String>,
    /// Its cost so far.
    #[serde(default)]
    pub cost: Cost,
}
