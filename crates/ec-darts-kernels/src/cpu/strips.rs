//! Rows of a block of channels at a time: what pools make of them stays in the first level of cache.

use std::ops::Range;

use pulp::Simd;

use super::buffer::Buffer;
use super::image;
use super::pass::Context;
use super::plan::{Plan, Term};

/// Values of a strip of one pool: two of them and what else is read fit a small first level.
const STRIP: usize = 2048;

/// Rows of one block of an edge's output.
#[derive(Clone, Debug)]
pub struct Part {
    pub block: usize,
    pub rows: Range<usize>,
}

impl Part {
    /// All parts of an output.
    pub fn all(plan: &Plan) -> impl Iterator<Item = Self> {
        let [rows, step] = [plan.out_size[0], Self::most_rows(plan)];
        (0..plan.blocks_of[1]).flat_map(move |block| {
            let strips = (0..rows).step_by(step);
            strips.map(move |first| Self { block, rows: first..(first + step).min(rows) })
        })
    }

    fn most_rows(plan: &Plan) -> usize {
        (STRIP / (plan.out_size[1] * plan.lanes)).max(1)
    }

    /// Its values, of a map.
    pub fn range(&self, plan: &Plan) -> Range<usize> {
        let [rows, columns] = plan.out_size;
        let row = |row: usize| (self.block * rows + row) * columns * plan.lanes;
        row(self.rows.start)..row(self.rows.end)
    }
}

/// Room for what the pools of an edge make of a part.
pub struct Strips {
    pools: Vec<Buffer>,
}

impl Strips {
    pub fn new(plan: &Plan) -> Self {
        let len = Part::most_rows(plan) * plan.out_size[1] * plan.lanes;
        let room = |term: &Term| if matches!(term, Term::Pool { .. }) { len } else { 0 };
        Self { pools: plan.terms.iter().map(|term| Buffer::new(room(term))).collect() }
    }

    /// A part of each term's map, before its normalization.
    #[inline(always)]
    pub fn terms<'a, S: Simd>(
        &'a mut self,
        simd: S,
        context: Context<'a>,
        image: usize,
        maps: &'a [f32],
        part: &Part,
    ) -> impl Iterator<Item = &'a [f32]> {
        let plan = context.plan;
        let range = part.range(plan);
        for (term, pooled) in plan.terms.iter().zip(&mut self.pools) {
            if let Term::Pool { pool, .. } = *term {
                let to = &mut pooled[..range.len()];
                image::pool_rows(simd, plan, pool, context.blocks(image), part, to);
            }
        }
        plan.terms.iter().zip(&self.pools).map(move |(term, pooled)| match *term {
            Term::Identity => &context.blocks(image)[range.clone()],
            Term::Pool { .. } => &pooled[..range.len()],
            Term::Conv { block } => &maps[block * plan.map_len()..][range.clone()],
        })
    }
}
