//! Rows of a block of channels at a time, so that the outputs of pools stay in the first level of
//! cache.

use pulp::Simd;

use super::buffer::Buffer;
use super::context::Context;
use super::image;
use super::plan::{EdgePlan, Strip, Term};

/// Memory for the outputs of an edge's pools for one strip.
pub struct Strips {
    pools: Vec<Buffer>,
}

impl Strips {
    pub fn new(plan: &EdgePlan) -> Self {
        let len = Strip::most_rows(plan) * plan.out_size[1] * plan.lanes;
        let room = |term: &Term| if matches!(term, Term::Pool { .. }) { len } else { 0 };
        Self { pools: plan.terms.iter().map(|term| Buffer::new(room(term))).collect() }
    }

    /// A strip of each term's map, before its normalization.
    #[inline(always)]
    pub fn terms<'a, S: Simd>(
        &'a mut self,
        simd: S,
        context: Context<'a>,
        image: usize,
        maps: &'a [f32],
        strip: &Strip,
    ) -> impl Iterator<Item = &'a [f32]> {
        let plan = context.plan;
        let range = strip.range(plan);
        for (term, pooled) in plan.terms.iter().zip(&mut self.pools) {
            if let Term::Pool { pool, .. } = *term {
                let to = &mut pooled[..range.len()];
                image::pool_rows(simd, plan, pool, context.blocks(image), strip, to);
            }
        }
        plan.terms.iter().zip(&self.pools).map(move |(term, pooled)| match *term {
            Term::Identity => &context.blocks(image)[range.clone()],
            Term::Pool { .. } => &pooled[..range.len()],
            Term::Conv { block } => &maps[block * plan.map_len()..][range.clone()],
        })
    }
}
