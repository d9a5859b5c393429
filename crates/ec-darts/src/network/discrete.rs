//! Cells of one genotype.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ec_darts_kernels::Cell;
use ec_darts_space::{CellGenotype, Pick};

use super::CellPlan;
use super::parts::{input_names, preprocess, read_by};
use crate::ops::{DropPath, Form, Kernels, Layout, Name, Packed, Packs, edge, operation};

/// Names of the picked operations, each alone on its edge.
pub(super) fn pick_names(cell: &Cell) -> Vec<Name> {
    let edges = cell.nodes.iter().flatten().enumerate();
    edges
        .map(|(number, (_, edge))| {
            Name::of_candidate(&format!("operations.{number}"), edge.operations[0])
        })
        .collect()
}

/// A cell of one genotype: only the kept operations, each with weight one.
#[derive(Module, Debug)]
pub struct DiscreteCell {
    /// Weights and running statistics; values of the picks may lie among others.
    pub packed: Packed,
    /// The edges: both preprocessings, and an edge for each pick in the order of the genotype.
    #[module(skip)]
    pub cell: Arc<Cell>,
    /// The implementation of the operations.
    #[module(skip)]
    pub kernels: Kernels,
}

impl DiscreteCell {
    /// A cell with its own weights, in the form of the network of a retraining.
    pub fn new(genotype: &CellGenotype, plan: &CellPlan, device: &Device) -> Self {
        let (cell, layout) = Self::describe(genotype, plan);
        Self {
            packed: Packed::new(layout, device),
            cell: Arc::new(cell),
            kernels: Kernels::default(),
        }
    }

    /// The edges of a plan's cell, and the places of their values.
    pub(crate) fn describe(genotype: &CellGenotype, plan: &CellPlan) -> (Cell, Layout) {
        let form = Form::Retrain;
        let inputs = preprocess(plan, form);
        let mut names = input_names(&inputs);
        let (places, missing) = (genotype.places(), plan.missing_inputs());
        let pick = |pick: &Pick| {
            let stride = plan.stride(pick.from);
            let operation = operation(pick.primitive, stride, form);
            let operation = operation.expect("a genotype picks no `none`");
            let channels = [plan.node.channels; 2];
            (places[pick.from] - missing, edge(vec![operation], channels, stride, form.affine()))
        };
        let nodes = genotype.nodes.iter().filter(|picks| !picks.is_empty());
        let nodes = nodes.map(|picks| picks.iter().map(pick).collect()).collect();
        let concat = genotype.concat.iter().map(|&state| places[state] - missing).collect();
        let mut cells = [Cell { inputs, nodes, concat, fixed_inputs: true, parts: 1 }];
        names.extend(pick_names(&cells[0]));
        let layout = Layout::place(&mut cells, &names);
        let [cell] = cells;
        (cell, layout)
    }

    /// `drop_path` acts on every picked operation except the identity.
    ///
    /// # Shapes
    /// - `older`, `newer`: the maps of the plan's inputs, `[batch, channels, height, width]`; a
    ///   cell with one input reads `newer`
    /// - output: `[batch, concat.len() * plan.node.channels, ..]`
    pub fn forward(
        &self,
        older: Tensor<4>,
        newer: Tensor<4>,
        drop_path: Option<&mut DropPath>,
    ) -> Tensor<4> {
        let [batch, ..] = older.dims();
        let factors = drop_path.map(|drop_path| Arc::new(drop_path.factors(&self.cell, batch)));
        let ones = Tensor::ones([self.cell.num_mixing_weights()], &older.device());
        let inputs = read_by(&self.cell, older, newer);
        self.kernels.run(&self.cell, &self.packed, inputs, ones, factors)
    }
}

impl Packs for DiscreteCell {
    fn packs(&self) -> Vec<&Packed> {
        vec![&self.packed]
    }
}
