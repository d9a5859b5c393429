//! The values of a cell, those that it keeps for the backward pass, and its gradients.

use std::ops::Range;

use super::buffer::Buffer;
use super::context::Input;
use super::graph::{Graph, Link, Origin};
use super::mixing::Mixing;
use super::norm::Norms;
use super::run;
use super::simd::Isas;
use crate::edge::Cell;
use crate::extension::Wanted;
use crate::{MOMENTUM, unbiased};

/// The input values of a cell.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    /// `[batch][channel][position]` and the shape, of each input.
    pub inputs: Vec<(&'a [f32], [usize; 4])>,
    /// The packed parameters, at the places of each [`crate::Edge`].
    pub parameters: &'a [f32],
    /// One per operation.
    pub mixing: &'a [f32],
    /// The factors `[operation][batch]`, without gradient: an operation's output is multiplied by
    /// one for each image, besides its mixing weight. Statistics do not include them.
    pub factors: Option<&'a [f32]>,
}

/// The values that a cell's backward pass needs besides its inputs.
#[derive(Debug)]
pub struct Tape {
    /// The states that an edge reads; in a cell of several parts the first part of each.
    pub states: Blocks,
    /// All channels of the states, in planes, in a cell of several parts.
    pub planes: Blocks,
    pub edges: Vec<Kept>,
}

/// The values that an edge's backward pass needs.
#[derive(Debug)]
pub struct Kept {
    pub norms: Norms,
    pub maps: Option<Buffer>,
    /// Its part of the packed statistics.
    pub statistics: Range<usize>,
    /// Number of values of a channel behind each statistic.
    pub count: usize,
}

impl Tape {
    /// Moves packed running means and unbiased variances towards those of the batch.
    pub fn observe(&self, [mean, variance]: [&mut [f32]; 2]) {
        for Kept { norms, statistics, count, .. } in &self.edges {
            let [of_mean, of_variance] = norms.statistics();
            let unbiased = unbiased(*count);
            let variances = of_variance.into_iter().map(|each| each * unbiased);
            move_towards(&mut mean[statistics.clone()], of_mean.into_iter());
            move_towards(&mut variance[statistics.clone()], variances);
        }
    }
}

fn move_towards(running: &mut [f32], new: impl Iterator<Item = f32>) {
    let (kept, share) = ((1.0 - MOMENTUM) as f32, MOMENTUM as f32);
    running.iter_mut().zip(new).for_each(|(old, new)| *old = *old * kept + new * share);
}

impl Wanted {
    /// Whether the gradient of the state behind an input is needed.
    pub fn behind(&self, input: usize) -> bool {
        self.parameters || self.inputs.get(input).is_none_or(|&wanted| wanted)
    }
}

/// Gradients of a cell.
#[derive(Debug)]
pub struct Gradients {
    /// Gradient of each input; unspecified where it was not requested.
    pub inputs: Vec<Buffer>,
    /// Gradient of the packed parameters; zero where it was not requested.
    pub parameters: Vec<f32>,
    /// Gradient of the mixing weights.
    pub mixing: Vec<f32>,
}

impl Graph {
    pub fn of(isas: Isas, cell: &Cell, values: &Values<'_>) -> Self {
        let shapes: Vec<_> = values.inputs.iter().map(|(_, shape)| *shape).collect();
        let graph = Self::new(cell, &shapes, isas);
        let end = graph.links.iter().map(|link| link.parameters.end).max().unwrap_or(0);
        assert!(end <= values.parameters.len(), "packed parameters of this cell");
        let weights = cell.num_mixing_weights();
        assert_eq!(values.mixing.len(), weights, "one mixing weight for each operation");
        if let Some(factors) = values.factors {
            assert_eq!(factors.len(), weights * graph.batch, "a factor for each image");
            assert_eq!(cell.parts, 1, "factors of a cell of one part");
        }
        graph
    }
}

impl<'a> Values<'a> {
    /// The source of an edge, among the inputs in `blocks` and the `states`.
    pub fn input(&self, from: Origin, blocks: &'a Blocks, states: &'a Blocks) -> Input<'a> {
        match from {
            Origin::Input(number) => match &blocks[number] {
                Some(blocks) => Input::Blocks(blocks),
                None => Input::Planes(self.inputs[number].0),
            },
            Origin::State(state) => {
                Input::Blocks(states[state].as_ref().expect("states that are read are kept"))
            }
        }
    }

    /// The scales of the terms of an edge.
    pub fn mixing(&self, link: &Link, batch: usize) -> Mixing<'a> {
        let Range { start, end } = link.mixing;
        let factors = self.factors.map(|all| &all[start * batch..end * batch]);
        Mixing { weights: &self.mixing[start..end], factors }
    }

    /// The inputs that pools and identities read, in blocks.
    pub fn blocks(&self, graph: &Graph) -> Blocks {
        let inputs = self.inputs.iter().zip(&graph.links).enumerate();
        let blocks = inputs.map(|(number, ((input, _), link))| {
            graph.is_direct(Origin::Input(number)).then(|| run::to_blocks(link, input))
        });
        blocks.collect()
    }
}

/// Batches of maps; none for missing ones.
pub type Blocks = Vec<Option<Buffer>>;
