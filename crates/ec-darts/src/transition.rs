//! Induced Structural Transition: the supernet restricted to the current genotype.
//!
//! Entry points: [`induce`] and [`return_weights`]. Invariant: inducing copies no parameter. The
//! auxiliary model's weights and running statistics separate from the supernet's when a step writes
//! them, and return only through [`return_weights`]. Weights of operations that the genotype does
//! not pick are never written.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::container::TensorContainer;
use ec_darts_space::{CellKind, Genotype};

use crate::network::{DiscreteCell, Residuals, SearchCell, Stem, Supernet, classify, run_cells};
use crate::ops::{Packed, Packs, Path};
use crate::ops::{pick, put, separate};

/// The supernet restricted to a genotype: the same stem, preprocessing, kept operations and
/// classifier. Each kept operation has weight one, and no other operation is computed.
///
/// # Source
/// EC-DARTS, section 4.2, Algorithm 1, lines 4-6.
#[derive(Module, Debug)]
pub struct AuxiliaryModel {
    /// The supernet's stem.
    pub stem: Stem,
    /// The supernet's cells, each with the picked operations only.
    pub cells: Vec<DiscreteCell>,
    /// The residual blocks of the supernet, if its skeleton has any.
    pub residuals: Option<Residuals>,
    /// The supernet's classifier.
    pub classifier: Linear,
}

impl AuxiliaryModel {
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    /// - output: `[batch, num_classes]`, logits
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let kernels = self.cells[0].kernels;
        let states = self.stem.forward(images, kernels);
        let between = (self.residuals.as_ref(), kernels);
        let map = run_cells(states, self.cells.len(), between, |number, [older, newer]| {
            self.cells[number].forward(older, newer, None)
        });
        classify(map, &self.classifier)
    }
}

impl Packs for AuxiliaryModel {
    fn packs(&self) -> Vec<&Packed> {
        let cells = self.cells.iter().map(|cell| &cell.packed);
        let residuals = Residuals::packs(self.residuals.as_ref());
        std::iter::once(&self.stem.packed).chain(cells).chain(residuals).collect()
    }
}

/// Builds the auxiliary model as a view of the supernet: no parameter is copied.
///
/// Its cells share the supernet's packed tensors and describe the picks in them. Its first step
/// writes one new packed tensor for each cell.
///
/// # Panics
/// Where the genotype is not of the supernet's space.
///
/// # Source
/// EC-DARTS, Algorithm 1, lines 4-5.
pub fn induce(supernet: &Supernet, genotype: &Genotype) -> AuxiliaryModel {
    let restrict = |(cell, &kind): (&SearchCell, &CellKind)| cell.restrict(genotype.cell(kind));
    separate(&AuxiliaryModel {
        stem: supernet.stem.clone(),
        cells: supernet.cells.iter().zip(&supernet.kinds).map(restrict).collect(),
        residuals: supernet.residuals.clone(),
        classifier: supernet.classifier.clone(),
    })
}

/// Puts the auxiliary model's parameters and running statistics back into the supernet.
///
/// Only tensors of the auxiliary model are replaced; in packed tensors, only the ranges of the
/// picks.
///
/// # Source
/// EC-DARTS, Algorithm 1, line 9; Eq. (6).
pub fn return_weights(supernet: &Supernet, auxiliary: &AuxiliaryModel) -> Supernet {
    // Both have their packed tensors in the same order: the visit of the supernet meets the layouts
    // of the auxiliary model in this order.
    let path = Path::new(auxiliary, "");
    let mut returned = Returned { tensors: TensorContainer::new(), path };
    // Burn updates a running statistic one pass later; `separate` updates it now, on both sides.
    separate(auxiliary).visit(&mut returned);
    separate(supernet).map(&mut returned)
}

struct Returned {
    tensors: TensorContainer<ParamId>,
    path: Path,
}

impl ModuleVisitor for Returned {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.tensors.register(param.id, param.val().inner());
    }
}

impl ModuleMapper for Returned {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(tensor) = self.tensors.get::<Tensor<D>>(&param.id) else { return param };
        let met = self.path.met();
        let covered = met.as_ref().and_then(|met| met.parts().covered.as_deref());
        param.map(|old| {
            let tracked = old.is_require_grad();
            let new = match covered {
                Some([]) => old.inner(),
                Some(covered) => put(old.inner(), covered, &pick(&tensor, covered)),
                None => tensor,
            };
            Tensor::from_inner(new).set_require_grad(tracked)
        })
    }
}
