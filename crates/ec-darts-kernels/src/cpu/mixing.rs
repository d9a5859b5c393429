//! Scales of the terms of a mixed sum: a mixing weight for each, and a factor for each image.
//!
//! ```text
//! sum over terms o of weights[o] factors[o][n] o(x)[n],  n an image
//! ```
//! A factor is multiplied with its weight where the weight becomes the scale of a map or of a
//! gradient ([`PerImage`]); the kernels read only scales.

/// The mixing weights of an edge.
#[derive(Clone, Copy, Debug)]
pub struct Mixing<'a> {
    /// One weight per term.
    pub weights: &'a [f32],
    /// The factors, `[term][batch]`; without them, all are one.
    pub factors: Option<&'a [f32]>,
}

impl<'a> Mixing<'a> {
    /// A term's factor for each image.
    pub fn factors_of(&self, term: usize) -> Option<&'a [f32]> {
        self.factors.map(|all| {
            let batch = all.len() / self.weights.len();
            &all[term * batch..(term + 1) * batch]
        })
    }
}

/// A value for each channel, padded to whole blocks: one for all images, or one per image.
#[derive(Clone, Debug)]
pub struct PerImage {
    values: Vec<f32>,
    width: usize,
    /// The distance from an image's values to those of the next; zero where all images share them.
    step: usize,
}

impl PerImage {
    /// The same values for all images, times each image's factor where there are factors.
    pub fn new(values: Vec<f32>, factors: Option<&[f32]>) -> Self {
        let width = values.len();
        let Some(factors) = factors else { return Self { values, width, step: 0 } };
        let scaled = factors.iter().flat_map(|factor| values.iter().map(move |each| factor * each));
        Self { values: scaled.collect(), width, step: width }
    }

    pub fn of(&self, image: usize) -> &[f32] {
        &self.values[image * self.step..][..self.width]
    }

    /// Adds values for the same number of images.
    pub fn add(&mut self, other: &Self) {
        assert_eq!(self.values.len(), other.values.len(), "values of the same images");
        self.values.iter_mut().zip(&other.values).for_each(|(sum, value)| *sum += value);
    }
}
