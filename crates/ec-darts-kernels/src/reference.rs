//! The operations of this crate written with plain tensor arithmetic only.

use burn::tensor::Tensor;

/// Sum of the terms, each scaled by its mixing weight, one after the other.
///
/// # Panics
/// Where there is no output, or not one weight for each.
pub fn mixed_sum(outputs: Vec<Tensor<4>>, weights: Tensor<1>) -> Tensor<4> {
    let [num_terms] = weights.dims();
    assert_eq!(outputs.len(), num_terms, "one mixing weight for each output");
    outputs
        .into_iter()
        .zip(weights.split(1, 0))
        .map(|(output, weight)| output * weight.reshape([1, 1, 1, 1]))
        .reduce(|sum, term| sum + term)
        .expect("a mixed sum has at least one term")
}
