//! The numbers of steps of SGD and Adam.

/// The numbers of a step of SGD.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdNumbers {
    /// Factor of the velocity.
    pub learning_rate: f32,
    /// Factor of the old velocity in the new one.
    pub momentum: f32,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f32,
    /// Largest norm of all gradients, or none.
    pub clip_norm: Option<f32>,
    /// Whether the step uses Nesterov momentum.
    pub nesterov: bool,
}

/// The numbers of a step of Adam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamNumbers {
    /// Factor of the step.
    pub learning_rate: f32,
    /// Decay rate of the first moment.
    pub beta1: f32,
    /// Decay rate of the second moment.
    pub beta2: f32,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f32,
    /// The constant added to the root of the second moment.
    pub epsilon: f32,
    /// The number of the step, counted from 1.
    pub step: usize,
}

impl SgdNumbers {
    /// A step without clipping and without Nesterov momentum.
    pub fn new(learning_rate: f64, momentum: f64, weight_decay: f64) -> Self {
        let [learning_rate, momentum, weight_decay] =
            [learning_rate, momentum, weight_decay].map(|number| number as f32);
        Self { learning_rate, momentum, weight_decay, clip_norm: None, nesterov: false }
    }
}

impl AdamNumbers {
    /// The step with this number, counted from 1; epsilon is 1e-8.
    pub fn new(
        learning_rate: f64,
        [beta1, beta2]: [f64; 2],
        weight_decay: f64,
        step: usize,
    ) -> Self {
        let [learning_rate, beta1, beta2, weight_decay] =
            [learning_rate, beta1, beta2, weight_decay].map(|number| number as f32);
        Self { learning_rate, beta1, beta2, weight_decay, epsilon: 1e-8, step }
    }

    /// `1 - beta1^step`.
    pub fn first_correction(&self) -> f32 {
        1.0 - self.beta1.powi(self.step as i32)
    }

    /// `1 - beta2^step`.
    pub fn second_correction(&self) -> f32 {
        1.0 - self.beta2.powi(self.step as i32)
    }
}
