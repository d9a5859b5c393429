//! Independent random streams by purpose, and orders drawn from them.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a random stream is for; streams of different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// First values of the weights.
    Weights = 0,
    /// First values of alpha.
    Alpha = 1,
    /// The two halves of the training set.
    Split = 2,
    /// Batches of the supernet's weight steps.
    Train = 3,
    /// Batches of the steps on alpha.
    Valid = 4,
    /// Batches of the auxiliary model's steps.
    Auxiliary = 5,
    /// Order and augmentation of a retraining.
    Retrain = 6,
}

/// Set in the fourth word of a key for the order of an epoch, to keep it apart from augmentation.
const ORDER: u64 = 1 << 63;

/// The generator of one place in a stream.
///
/// The 32-byte key is `seed`, `purpose`, `epoch` and `index` as little-endian words, so every place
/// can be reached without drawing what comes before it.
pub fn stream_rng(seed: u64, purpose: Purpose, epoch: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, epoch, index]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A whole number below `bound`, unbiased.
///
/// Written out rather than taken from `rand`, whose methods may draw differently in another
/// version: the order of a search's batches must outlive an update.
pub(super) fn below(rng: &mut impl Rng, bound: u32) -> u32 {
    let zone = u32::MAX - (u32::MAX - bound + 1) % bound;
    loop {
        let draw = rng.next_u32();
        if draw <= zone {
            return draw % bound;
        }
    }
}

/// Shuffles in place (Fisher-Yates).
fn shuffle(items: &mut [u32], rng: &mut impl Rng) {
    for last in (1..items.len()).rev() {
        let other = below(rng, last as u32 + 1) as usize;
        items.swap(last, other);
    }
}

/// The indices in the order of an epoch.
pub fn shuffled(indices: &[u32], seed: u64, purpose: Purpose, epoch: u64) -> Vec<u32> {
    let mut order = indices.to_vec();
    shuffle(&mut order, &mut stream_rng(seed, purpose, epoch, ORDER));
    order
}

/// Two random parts of `0..len`; the first has `fraction` of it, rounded.
///
/// # Source
/// EC-DARTS, section 5.2: "randomly separated into two parts equally".
pub fn split(len: usize, fraction: f64, seed: u64) -> (Vec<u32>, Vec<u32>) {
    let all: Vec<u32> = (0..len as u32).collect();
    let mut first = shuffled(&all, seed, Purpose::Split, 0);
    let second = first.split_off((len as f64 * fraction).round() as usize);
    (first, second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_do_not_change_with_versions() {
        let order = shuffled(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 2, Purpose::Train, 1);
        assert_eq!(order, PINNED);
    }

    const PINNED: [u32; 10] = [7, 6, 8, 9, 5, 0, 1, 4, 2, 3];

    #[test]
    fn below_is_even() {
        let mut rng = stream_rng(1, Purpose::Train, 0, 0);
        let mut counts = [0; 9];
        for _ in 0..90_000 {
            counts[below(&mut rng, 9) as usize] += 1;
        }
        assert!(counts.iter().all(|&count: &i32| (count - 10_000).abs() < 500), "{counts:?}");
    }

    #[test]
    fn halves_are_disjoint_and_whole() {
        let (train, valid) = split(1001, 0.5, 7);
        assert_eq!((train.len(), valid.len()), (501, 500));
        let mut all: Vec<u32> = train.iter().chain(&valid).copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..1001).collect::<Vec<u32>>());
        assert_ne!(split(1001, 0.5, 8).0, train, "another seed, another split");
    }
}
