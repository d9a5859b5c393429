//! What a cell is computed from, what it keeps, and what it gives back.

use std::ops::Range;

use super::buffer::Buffer;
use super::context::Input;
use super::layout::{From, Layout, Link};
use super::mixing::Mixing;
use super::norm::Norms;
use super::run;
use super::simd::Isas;
use crate::edge::Cell;
use crate::extension::Wanted;
use crate::{MOMENTUM, unbiased};

/// Values that a cell is computed from.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    /// `[batch][channel][position]` and the shape, of each input.
    pub inputs: Vec<(&'a [f32], [usize; 4])>,
    /// Packed, each edge's where [`crate::Edge`] says.
    pub parameters: &'a [f32],
    /// One per operation.
    pub mixing: &'a [f32],
    /// `[operation][batch]`, without gradient: what an operation's output is multiplied by for each
    /// image, besides its mixing weight. Statistics are of all images as they are.
    pub factors: Option<&'a [f32]>,
}

/// What a cell's backward pass needs besides its inputs.
#[derive(Debug)]
pub struct Tape {
    /// Those that an edge reads; in a cell of several parts the first part of each.
    pub states: Blocks,
    /// All channels of them, in planes, in a cell of several parts.
    pub planes: Blocks,
    pub edges: Vec<Kept>,
}

/// What an edge's backward pass needs.
#[derive(Debug)]
pub struct Kept {
    pub norms: Norms,
    pub maps: Option<Buffer>,
    /// Its part of the packed statistics.
    pub statistics: Range<usize>,
    /// Values of a channel that each of them is taken over.
    pub count: usize,
}

impl Tape {
    /// Moves running means and unbiased variances, packed, towards those of the batch.
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
    /// Whether the gradient of the state behind an input leads anywhere.
    pub fn behind(&self, input: usize) -> bool {
        self.parameters || self.inputs.get(input).is_none_or(|&wanted| wanted)
    }
}

/// Gradients of a cell.
#[derive(Debug)]
pub struct Gradients {
    /// Of each input; unspecified where it was not asked for.
    pub inputs: Vec<Buffer>,
    /// Of the packed parameters; zero where they were not asked for.
    pub parameters: Vec<f32>,
    /// Of the mixing weights.
    pub mixing: Vec<f32>,
}

impl Layout {
    pub fn of(isas: Isas, cell: &Cell, values: &Values<'_>) -> Self {
        let shapes: Vec<_> = values.inputs.iter().map(|(_, shape)| *shape).collect();
        let layout = Self::new(cell, &shapes, isas);
        let end = layout.links.iter().map(|link| link.parameters.end).max().unwrap_or(0);
        assert!(end <= values.parameters.len(), "packed parameters of this cell");
        let weights = cell.num_mixing_weights();
        assert_eq!(values.mixing.len(), weights, "one mixing weight for each operation");
        if let Some(factors) = values.factors {
            assert_eq!(factors.len(), weights * layout.batch, "a factor for each image");
            assert_eq!(cell.parts, 1, "factors of a cell of one part");
        }
        layout
    }
}

impl<'a> Values<'a> {
    /// What an edge reads; `blocks` are the inputs and `states` the states that it may read there.
    pub fn input(&self, from: From, blocks: &'a Blocks, states: &'a Blocks) -> Input<'a> {
        match from {
            From::Input(number) => match &blocks[number] {
                Some(blocks) => Input::Blocks(blocks),
                None => Input::Planes(self.inputs[number].0),
            },
            From::State(state) => {
                Input::Blocks(states[state].as_ref().expect("states that are read are kept"))
            }
        }
    }

    /// What scales the terms of an edge.
    pub fn mixing(&self, link: &Link, batch: usize) -> Mixing<'a> {
        let Range { start, end } = link.mixing;
        let factors = self.factors.map(|all| &all[start * batch..end * batch]);
        Mixing { weights: &self.mixing[start..end], factors }
    }

    /// The inputs that pools and identities read, in blocks.
    pub fn blocks(&self, layout: &Layout) -> Blocks {
        let inputs = self.inputs.iter().zip(&layout.links).enumerate();
        let blocks = inputs.map(|(number, ((input, _), link))| {
            layout.is_direct(From::Input(number)).then(|| run::to_blocks(link, input))
        });
        blocks.collect()
    }
}

/// Batches of maps, where they are there.
pub type Blocks = Vec<Option<Buffer>>;
