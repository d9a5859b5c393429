//! Batch normalization of a whole edge: from moments to scales, from sums of gradients to
//! coefficients.

use super::mixing::{Mixing, PerImage};
use super::plan::EdgePlan;
use crate::EPSILON;

/// Scales and coefficients of all batch normalizations of an edge, padded to whole blocks.
#[derive(Clone, Debug)]
pub struct Norms {
    width: usize,
    num_channels: usize,
    mean: Vec<f32>,
    variance: Vec<f32>,
    inverse: Vec<f32>,
    gamma: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    /// The sum of the constants that the terms add besides their scaled maps.
    shift_sum: PerImage,
    term_scale: Vec<PerImage>,
    term_backward: Vec<TermBackward>,
    inner_backward: Vec<[Vec<f32>; 3]>,
}

/// `dz = first * dy + second * z + third` per channel: from the gradient of a mixed sum to that of
/// a term's map before its normalization.
#[derive(Clone, Debug)]
pub struct TermBackward {
    /// This one has the factors of the images; the others come from statistics and are those of the
    /// whole batch.
    pub first: PerImage,
    pub second: Vec<f32>,
    pub third: Vec<f32>,
}

impl TermBackward {
    pub fn of(&self, image: usize) -> [&[f32]; 3] {
        [self.first.of(image), &self.second, &self.third]
    }
}

impl Norms {
    /// From each image's moments `[batch][norm][mean, squares][width]`, in the order of the images.
    pub fn from_moments(plan: &EdgePlan, moments: &[f32], packed: &[f32]) -> Self {
        let width = plan.width();
        let len = (plan.num_norms * 2 * width).max(1);
        let count = (plan.out_size[0] * plan.out_size[1]) as f64;
        let batch = plan.batch as f64;
        let mut centers = vec![0.0; plan.num_norms * width];
        let mut squares = centers.clone();
        for image in moments.chunks_exact(len) {
            for ((means, _), centers) in norms_of(image, width).zip(centers.chunks_exact_mut(width))
            {
                centers.iter_mut().zip(means).for_each(|(sum, &mean)| *sum += f64::from(mean));
            }
        }
        centers.iter_mut().for_each(|center| *center /= batch);
        for image in moments.chunks_exact(len) {
            let sums = squares.chunks_exact_mut(width).zip(centers.chunks_exact(width));
            for ((means, of_image), (squares, centers)) in norms_of(image, width).zip(sums) {
                let values = of_image.iter().zip(means).zip(centers);
                for (sum, ((&square, &mean), center)) in squares.iter_mut().zip(values) {
                    let off = f64::from(mean) - center;
                    *sum += f64::from(square) + count * off * off;
                }
            }
        }
        let mean = centers.iter().map(|&center| center as f32).collect();
        let variance = squares.iter().map(|sum| (sum / (count * batch)) as f32).collect();
        Self::new(plan, mean, variance, packed)
    }

    /// From given statistics `[norm][channel]`.
    pub fn given(plan: &EdgePlan, [mean, variance]: [&[f32]; 2], packed: &[f32]) -> Self {
        let spread = |from: &[f32]| {
            let mut to = vec![0.0; plan.num_norms * plan.width()];
            let channels = plan.channels[1];
            for (from, to) in from.chunks_exact(channels).zip(to.chunks_exact_mut(plan.width())) {
                to[..channels].copy_from_slice(from);
            }
            to
        };
        Self::new(plan, spread(mean), spread(variance), packed)
    }

    fn new(plan: &EdgePlan, mean: Vec<f32>, variance: Vec<f32>, packed: &[f32]) -> Self {
        let (width, channels) = (plan.width(), plan.channels[1]);
        let inverse: Vec<f32> =
            variance.iter().map(|&v| (1.0 / (f64::from(v) + EPSILON).sqrt()) as f32).collect();
        let mut gamma = vec![0.0; plan.num_norms * width];
        let mut beta = gamma.clone();
        for (norm, &offset) in plan.packed_gamma.iter().enumerate() {
            for channel in 0..channels {
                let place = norm * width + channel;
                (gamma[place], beta[place]) = if plan.affine {
                    (packed[offset + channel], packed[offset + channels + channel])
                } else {
                    (1.0, 0.0)
                };
            }
        }
        let scale: Vec<f32> = gamma.iter().zip(&inverse).map(|(g, i)| g * i).collect();
        let shift = (0..scale.len()).map(|i| beta[i] - mean[i] * scale[i]).collect();
        Self {
            width,
            num_channels: channels,
            mean,
            variance,
            inverse,
            gamma,
            scale,
            shift,
            shift_sum: PerImage::new(Vec::new(), None),
            term_scale: Vec::new(),
            term_backward: Vec::new(),
            inner_backward: Vec::new(),
        }
    }

    /// Sets the mixing weight of each term.
    pub fn mix(&mut self, plan: &EdgePlan, mixing: Mixing<'_>) {
        self.term_scale.clear();
        self.shift_sum = PerImage::new(vec![0.0; self.width], mixing.factors_of(0));
        for (position, term) in plan.terms.iter().enumerate() {
            let (weight, factors) = (mixing.weights[position], mixing.factors_of(position));
            let weighted = |all: &[f32]| {
                PerImage::new(all.iter().map(|each| weight * each).collect(), factors)
            };
            let scale = match plan.norm_of(term) {
                None => PerImage::new(vec![weight; self.width], factors),
                Some(norm) => {
                    let (scale, shift) = self.affine(norm);
                    let (scale, shift) = (weighted(scale), weighted(shift));
                    self.shift_sum.add(&shift);
                    scale
                }
            };
            self.term_scale.push(scale);
        }
    }

    /// Batch statistics `[norm][channel]`: mean and biased variance.
    pub fn statistics(&self) -> [Vec<f32>; 2] {
        [&self.mean, &self.variance].map(|all| {
            let channels = all.chunks_exact(self.width);
            channels.flat_map(|norm| norm[..self.num_channels].to_vec()).collect()
        })
    }

    pub fn mean(&self, norm: usize) -> &[f32] {
        &self.mean[norm * self.width..(norm + 1) * self.width]
    }

    /// Scale and shift of a normalization.
    pub fn affine(&self, norm: usize) -> (&[f32], &[f32]) {
        let range = norm * self.width..(norm + 1) * self.width;
        (&self.scale[range.clone()], &self.shift[range])
    }

    pub fn term_scale(&self, term: usize, image: usize) -> &[f32] {
        self.term_scale[term].of(image)
    }

    pub fn shift_sum(&self, image: usize) -> &[f32] {
        self.shift_sum.of(image)
    }

    pub fn term_backward(&self, term: usize) -> &TermBackward {
        &self.term_backward[term]
    }

    pub fn inner_backward(&self, place: usize) -> [&[f32]; 3] {
        self.inner_backward[place].each_ref().map(|each| &each[..])
    }

    /// From each image's sums `[batch][1 + terms][width]` to the gradients of the mixing weights
    /// and the affine parts, and to the coefficients of the backward pass.
    pub fn take_sums(
        &mut self,
        plan: &EdgePlan,
        sums: &[f32],
        mixing: Mixing<'_>,
        packed: &mut [f32],
    ) -> Vec<f32> {
        let (width, channels) = (self.width, plan.channels[1]);
        let len = (1 + plan.terms.len()) * width;
        let alike = totals(sums, len, None);
        let mut gradient = Vec::new();
        for (position, term) in plan.terms.iter().enumerate() {
            let factors = mixing.factors_of(position);
            let own = factors.map(|factors| totals(sums, len, Some(factors)));
            let (total, products) = own.as_ref().unwrap_or(&alike).split_at(width);
            let product = &products[position * width..(position + 1) * width];
            let weight = f64::from(mixing.weights[position]);
            let Some(norm) = plan.norm_of(term) else {
                gradient.push(product.iter().sum::<f64>() as f32);
                self.term_backward.push(TermBackward {
                    first: self.term_scale[position].clone(),
                    second: vec![0.0; width],
                    third: vec![0.0; width],
                });
                continue;
            };
            let mut sum = 0.0;
            for channel in 0..channels {
                let place = norm * width + channel;
                let normalized = product[channel] * f64::from(self.inverse[place]);
                let beta = f64::from(self.shift[place])
                    + f64::from(self.mean[place]) * f64::from(self.scale[place]);
                let beta = if plan.affine { beta } else { 0.0 };
                sum += f64::from(self.gamma[place]) * normalized + beta * total[channel];
                if plan.affine {
                    let offset = plan.packed_gamma[norm] + channel;
                    packed[offset] = (weight * normalized) as f32;
                    packed[offset + channels] = (weight * total[channel]) as f32;
                }
            }
            gradient.push(sum as f32);
            let [first, second, third] = self.coefficients(plan, norm, weight, total, product);
            let first = PerImage::new(first, factors);
            self.term_backward.push(TermBackward { first, second, third });
        }
        gradient
    }

    /// The same for the normalizations inside an operation: `[batch][inner][2][width]`.
    pub fn take_inner_sums(&mut self, plan: &EdgePlan, sums: &[f32], packed: &mut [f32]) {
        let (width, channels) = (self.width, plan.channels[1]);
        let totals = totals(sums, plan.num_inner * 2 * width, None);
        for block in &plan.blocks {
            let Some(place) = block.inner else { continue };
            let (total, product) = totals[place * 2 * width..][..2 * width].split_at(width);
            if plan.affine {
                for channel in 0..channels {
                    let offset = plan.packed_gamma[block.norm] + channel;
                    let inverse = f64::from(self.inverse[block.norm * width + channel]);
                    packed[offset] = (product[channel] * inverse) as f32;
                    packed[offset + channels] = total[channel] as f32;
                }
            }
            let coefficients = self.coefficients(plan, block.norm, 1.0, total, product);
            self.inner_backward.push(coefficients);
        }
    }

    /// ```text
    /// dz = g (dy - mean(dy) - xhat mean(dy xhat)),  g = weight gamma / sqrt(var + epsilon)
    /// ```
    /// as `first * dy + second * z + third`.
    fn coefficients(
        &self,
        plan: &EdgePlan,
        norm: usize,
        weight: f64,
        total: &[f64],
        product: &[f64],
    ) -> [Vec<f32>; 3] {
        let count = (plan.batch * plan.out_size[0] * plan.out_size[1]) as f64;
        let mut all = [(); 3].map(|()| vec![0.0f32; self.width]);
        for channel in 0..self.width {
            let place = norm * self.width + channel;
            let inverse = f64::from(self.inverse[place]);
            let factor = weight * f64::from(self.gamma[place]) * inverse;
            let slope = factor * inverse * inverse * product[channel] / count;
            all[0][channel] = factor as f32;
            all[1][channel] = -slope as f32;
            all[2][channel] =
                (slope * f64::from(self.mean[place]) - factor * total[channel] / count) as f32;
        }
        all
    }
}

/// Means and squares of each normalization, from an image's moments.
fn norms_of(image: &[f32], width: usize) -> impl Iterator<Item = (&[f32], &[f32])> {
    image.chunks_exact(2 * width).map(move |of| of.split_at(width))
}

/// Sums over the images, in their order, each times its factor where there are factors.
fn totals(sums: &[f32], len: usize, factors: Option<&[f32]>) -> Vec<f64> {
    let mut totals = vec![0.0; len];
    for (number, image) in sums.chunks_exact(len.max(1)).enumerate() {
        let factor = factors.map_or(1.0, |all| f64::from(all[number]));
        for (total, &value) in totals.iter_mut().zip(image) {
            *total += factor * f64::from(value);
        }
    }
    totals
}
