//! Tensors of a supernet whose operations become wider.

use std::collections::BTreeMap;

use burn::tensor::TensorData;
use rand::Rng;

use crate::data::below;
use crate::snapshot::Snapshot;

/// For each pair of an old and a new number of channels, the old channel of every new one.
type Sources = BTreeMap<[usize; 2], Vec<usize>>;

/// The tensors of a supernet and of its optimizer's states in the shapes of a wider supernet.
///
/// ```text
/// wide[i, j] = narrow[source(i), source(j)],   source(i) = i below the old number of channels, else random
/// ```
/// Tensors that the wider supernet does not have are left out. A channel that is copied has the same copies in every
/// tensor of as many channels, as outputs and as inputs. The copies are not divided, so the function changes;
/// batch normalization takes the scale back.
///
/// # Source
/// DrNAS, `net2wider.py`.
pub(super) fn widened(
    before: Snapshot,
    after: &Snapshot,
    [module, states]: [&str; 2],
    mut rng: impl Rng,
) -> Snapshot {
    let mut sources = Sources::new();
    let mut kept = Snapshot { counts: before.counts, ..Snapshot::default() };
    for (name, data) in before.tensors {
        // A state is named by its parameter and a field, `states.parameter.field`.
        let parameter = match name.strip_prefix(states) {
            Some(rest) => {
                let ends = rest.char_indices().filter(|&(_, each)| each == '.').map(|(end, _)| end);
                let names = ends.map(|end| format!("{module}{}", &rest[..end]));
                names.into_iter().find(|name| after.tensors.contains_key(name))
            }
            None => Some(name.clone()),
        };
        let shape = parameter.and_then(|parameter| after.tensors.get(&parameter));
        let Some(shape) = shape.map(|data| data.shape().to_vec()) else { continue };
        let wide = gathered(&data, &shape, &mut sources, &mut rng);
        kept.tensors.insert(name, wide);
    }
    kept
}

/// A tensor with the copies of its channels in the first two dimensions.
fn gathered(
    data: &TensorData,
    shape: &[usize],
    sources: &mut Sources,
    rng: &mut impl Rng,
) -> TensorData {
    let old = data.shape().to_vec();
    if old == shape {
        return data.clone();
    }
    let values: Vec<f32> = data.iter::<f32>().collect();
    let mut source = |dimension: usize| -> Vec<usize> {
        let pair = [&old[..], shape].map(|shape| shape.get(dimension).copied().unwrap_or(1));
        sources.entry(pair).or_insert_with(|| of_channels(pair, rng)).clone()
    };
    let (outputs, inputs) = (source(0), source(1));
    let window: usize = old.iter().skip(2).product();
    let old_inputs = old.get(1).copied().unwrap_or(1);
    let mut wide = Vec::with_capacity(outputs.len() * inputs.len() * window);
    for output in outputs {
        for &input in &inputs {
            let start = (output * old_inputs + input) * window;
            wide.extend_from_slice(&values[start..start + window]);
        }
    }
    TensorData::new(wide, shape.to_vec())
}

fn of_channels([old, new]: [usize; 2], rng: &mut impl Rng) -> Vec<usize> {
    let copied = (old..new).map(|_| below(rng, old as u32) as usize);
    (0..old.min(new)).chain(copied).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn new_channels_are_copies_of_old_ones() {
        let tensor = |shape: &[usize], first: f32| {
            let count: usize = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|value| first + value as f32).collect();
            TensorData::new(values, shape.to_vec())
        };
        let snapshot = |tensors: Vec<(&str, TensorData)>| Snapshot {
            tensors: tensors.into_iter().map(|(name, data)| (name.to_string(), data)).collect(),
            ..Snapshot::default()
        };
        let before = snapshot(vec![
            ("w.conv.weight", tensor(&[2, 2, 1, 3], 0.0)),
            ("w.gone.weight", tensor(&[2], 0.0)),
            ("w.stem.weight", tensor(&[4, 3], 7.0)),
            ("o.conv.weight.momentum.velocity", tensor(&[2, 2, 1, 3], 100.0)),
            ("o.gone.weight.momentum.velocity", tensor(&[2], 0.0)),
        ]);
        let after = snapshot(vec![
            ("w.conv.weight", tensor(&[3, 3, 1, 3], 0.0)),
            ("w.stem.weight", tensor(&[4, 3], 0.0)),
        ]);
        let wide = widened(before, &after, ["w", "o"], ChaCha8Rng::seed_from_u64(2));
        let names: Vec<&str> = wide.tensors.keys().map(String::as_str).collect();
        let velocity = "o.conv.weight.momentum.velocity";
        assert_eq!(names, [velocity, "w.conv.weight", "w.stem.weight"]);
        assert_eq!(wide.tensors["w.stem.weight"], tensor(&[4, 3], 7.0));
        let values = |name: &str| wide.tensors[name].iter::<f32>().collect::<Vec<f32>>();
        let conv = values("w.conv.weight");
        // Each of the three outputs has three inputs of three values.
        let at = |output: usize, input: usize| &conv[9 * output + 3 * input..][..3];
        assert_eq!(at(0, 0), [0.0, 1.0, 2.0]);
        assert_eq!((at(0, 1), at(1, 0)), (&[3.0, 4.0, 5.0][..], &[6.0, 7.0, 8.0][..]));
        let copied = (0..2).find(|&old| at(2, 0) == at(old, 0)).expect("a copy of an output");
        for other in 0..3 {
            assert_eq!((at(2, other), at(other, 2)), (at(copied, other), at(other, copied)));
        }
        let moved: Vec<f32> = values(velocity).iter().map(|value| value - 100.0).collect();
        assert_eq!(moved, conv);
    }
}
