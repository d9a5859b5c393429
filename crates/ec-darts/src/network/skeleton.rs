//! The skeletons of networks: the layers around the cells, and the cells that fit.

use ec_darts_space::{CellTopology, Genotype, NUM_INPUTS};
use serde::{Deserialize, Serialize};

use crate::ops::Form;

/// The layers of a network around its cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Skeleton {
    /// Cells that read the outputs of the two cells before them, two reductions among the cells,
    /// and an auxiliary head in training.
    ///
    /// # Source
    /// DARTS, `cnn/model_search.py`, `Network`; `cnn/model.py`, `NetworkCIFAR` and `NetworkImageNet`.
    #[default]
    #[serde(rename = "darts")]
    Darts,
    /// Three stages with the same number of cells, which read the output before them; residual
    /// blocks between the stages, which reduce the size; batch normalization and ReLU before the
    /// classifier.
    ///
    /// # Source
    /// NAS-Bench-201, section 2.1, Figure 1; AutoDL-Projects, `xautodl/models/cell_infers/tiny_network.py`.
    #[serde(rename = "nas-bench-201")]
    NasBench201,
}

impl Skeleton {
    /// The name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Darts => "darts",
            Self::NasBench201 => "nas-bench-201",
        }
    }

    /// The skeleton for cells of a topology.
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

    /// Whether networks in training have an auxiliary head.
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

    /// The reason why cells of a genotype do not fit into this skeleton, if so.
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
