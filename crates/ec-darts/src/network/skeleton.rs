//! The skeletons of networks: what stands around the cells, and which cells fit.

use ec_darts_space::{CellTopology, Genotype, NUM_INPUTS};
use serde::{Deserialize, Serialize};

use crate::ops::Form;

/// Which layers a network has around its cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Skeleton {
    /// Cells that read the two outputs before them, two of them reductions, and an auxiliary head in training.
    ///
    /// # Source
    /// DARTS, `cnn/model_search.py`, `Network`; `cnn/model.py`, `NetworkCIFAR` and `NetworkImageNet`.
    #[default]
    #[serde(rename = "darts")]
    Darts,
    /// Three stages of equally many cells that read the output before them, residual blocks that reduce between the
    /// stages, batch normalization and ReLU before the classifier.
    ///
    /// # Source
    /// NAS-Bench-201, section 2.1, Figure 1; AutoDL-Projects, `xautodl/models/cell_infers/tiny_network.py`.
    #[serde(rename = "nas-bench-201")]
    NasBench201,
}

impl Skeleton {
    /// As settings have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Darts => "darts",
            Self::NasBench201 => "nas-bench-201",
        }
    }

    /// The skeleton that cells of a topology stand in.
    pub fn of(topology: &CellTopology) -> Self {
        match topology.inputs().len() {
            NUM_INPUTS => Self::Darts,
            _ => Self::NasBench201,
        }
    }

    /// The cell of a skeleton.
    ///
    /// # Errors
    /// As [`CellTopology::new`].
    pub fn topology(
        self,
        num_nodes: usize,
        edges_kept: usize,
    ) -> Result<CellTopology, ec_darts_space::Error> {
        match self {
            Self::Darts => CellTopology::new(num_nodes, edges_kept),
            Self::NasBench201 => CellTopology::single_input(num_nodes, edges_kept),
        }
    }

    /// Whether an auxiliary head stands in networks that are trained.
    pub fn has_head(self) -> bool {
        self == Self::Darts
    }

    /// The form of the operations in a supernet.
    pub(crate) fn search_form(self) -> Form {
        match self {
            Self::Darts => Form::Search,
            Self::NasBench201 => Form::SearchBarePools,
        }
    }

    /// Why cells of a genotype cannot stand in this skeleton, if they cannot.
    pub fn fault(self, genotype: &Genotype) -> Option<String> {
        match (self, &genotype.reduction) {
            (Self::Darts, Some(_)) => None,
            (Self::Darts, None) => Some(
                "the genotype has one kind of cell, the skeleton `darts` needs a normal and a reduction cell; \
                 `nas-bench-201` has one"
                    .into(),
            ),
            (Self::NasBench201, Some(_)) => Some(
                "the genotype has a reduction cell, the skeleton `nas-bench-201` has one kind of cell; `darts` \
                 has both"
                    .into(),
            ),
            (Self::NasBench201, None) => {
                let cell = &genotype.normal;
                let fits = cell.reads_one_input() && cell.concat.len() == 1;
                (!fits).then(|| {
                    "the skeleton `nas-bench-201` needs a cell that reads the newer input alone and whose output \
                     is one node"
                        .into()
                })
            }
        }
    }
}
