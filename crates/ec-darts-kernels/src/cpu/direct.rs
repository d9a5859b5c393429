//! The backward pass of operations without weights, for all edges that read the same state.
//!
//! A pool and its adjoint are linear in the gradient, and so is the backward pass of a batch
//! normalization. So the gradients of all edges of a group are summed first:
//!
//! ```text
//! dx = sum over edges of w dy + pool'( sum over edges of (first dy + second z + third) ),  z = pool(x)
//! ```

use pulp::Simd;

use super::buffer::Buffer;
use super::context::Context;
use super::image;
use super::mixing::PerImage;
use super::norm::{Norms, TermBackward};
use super::plan::{EdgePlan, Pool, Term};

/// An edge of a group.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub plan: &'a EdgePlan,
    /// With the coefficients of its backward pass.
    pub norms: &'a Norms,
    /// The gradient of the edge's node, for the whole batch.
    pub gradient: &'a [f32],
}

/// Gradients of the whole batch, each with its scale.
type Scaled<'a> = Vec<(&'a [f32], &'a PerImage)>;

/// The gradients that reach the input of a group, without those of convolutions.
pub struct Direct<'a> {
    identities: Scaled<'a>,
    pools: Vec<PoolGradient<'a>>,
}

struct PoolGradient<'a> {
    pool: Pool,
    gradients: Scaled<'a>,
    /// Sums over the edges: the factor of the pool's output, and the constant that is added.
    second: Vec<f32>,
    third: Vec<f32>,
}

impl<'a> Direct<'a> {
    pub fn new(readers: &[Reader<'a>]) -> Self {
        let mut direct = Self { identities: Vec::new(), pools: Vec::new() };
        for &Reader { plan, norms, gradient } in readers {
            for (position, term) in plan.terms.iter().enumerate() {
                let TermBackward { first, second, third } = norms.term_backward(position);
                match *term {
                    Term::Identity => direct.identities.push((gradient, first)),
                    Term::Pool { pool, .. } => {
                        let sum = direct.pool(pool, plan.width());
                        sum.gradients.push((gradient, first));
                        add(&mut sum.second, second);
                        add(&mut sum.third, third);
                    }
                    Term::Conv { .. } => {}
                }
            }
        }
        direct
    }

    fn pool(&mut self, pool: Pool, width: usize) -> &mut PoolGradient<'a> {
        let place = self.pools.iter().position(|each| each.pool == pool);
        let place = place.unwrap_or_else(|| {
            let [second, third] = [(); 2].map(|()| vec![0.0; width]);
            self.pools.push(PoolGradient { pool, gradients: Vec::new(), second, third });
            self.pools.len() - 1
        });
        &mut self.pools[place]
    }

    /// The gradient of the images from `start` on, added to the existing values where `add`.
    #[inline(always)]
    pub fn backward<S: Simd>(
        &self,
        simd: S,
        context: Context<'_>,
        start: usize,
        (to, add): (&mut [f32], bool),
    ) {
        let plan = context.plan;
        let (map_len, blocks) = (plan.map_len(), plan.blocks_of[1]);
        let zeros = vec![0.0; plan.width()];
        let mut pooled = Buffer::new(map_len);
        let mut gradient = Buffer::new(map_len);
        for (number, to) in to.chunks_exact_mut(plan.input_len()).enumerate() {
            let image = start + number;
            let range = image * map_len..(image + 1) * map_len;
            let of_image = |all: &Scaled<'a>| -> Vec<(&[f32], &[f32])> {
                all.iter().map(|(each, scale)| (&each[range.clone()], scale.of(image))).collect()
            };
            if !add {
                to.fill(0.0);
            }
            if !self.identities.is_empty() {
                let identities = of_image(&self.identities);
                image::weighted_sum(simd, &identities, &zeros, blocks, (&mut *to, true));
            }
            let raw = context.blocks(image);
            for PoolGradient { pool, gradients, second, third } in &self.pools {
                image::pool(simd, plan, *pool, raw, &mut pooled);
                let mut terms = of_image(gradients);
                terms.push((&pooled, second));
                image::weighted_sum(simd, &terms, third, blocks, (&mut gradient, false));
                image::pool_backward(simd, plan, *pool, raw, [&pooled, &gradient], to);
            }
        }
    }
}

fn add(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}
