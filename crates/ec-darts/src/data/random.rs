//! Independent random streams by purpose, and random orders drawn from them.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The purpose of a random stream; streams of different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial values of the weights.
    Weights = 0,
    /// Initial values of alpha.
    Alpha = 1,
    /// The two halves of the training set.
    Split = 2,
    /// Batches of the supernet's weight steps.
    Train = 3,
    /// Batches of the steps on alpha.
    Valid = 4,
    /// Batches of the auxiliary model's steps.
    Auxiliary = 5,
    /// Order and augmentation of training images in a retraining.
    Retrain = 6,
    /// Augmentation of images that keep the order of their list.
    Listed = 7,
    /// Drop path of a retraining.
    DropPath = 8,
    /// A random genotype.
    Genotype = 9,
    /// Mixing weights drawn in steps on alpha.
    AlphaDraw = 10,
    /// Mixing weights drawn or perturbed in steps on the weights.
    WeightDraw = 11,
    /// Dropout masks of skip connections in steps on alpha.
    AlphaDropout = 12,
    /// Dropout masks of skip connections in steps on the weights.
    WeightDropout = 13,
    /// Starting directions of the eigenvalue measurement of the Hessian in alpha.
    Spectrum = 14,
    /// Channels that are copied where operations become wider.
    Widening = 15,
}

/// A bit in the fourth word of a key that marks the order of an epoch, to keep it apart from
/// augmentation.
const ORDER: u64 = 1 << 63;

/// The random generator of one place in a stream.
///
/// The 32-byte key is `seed`, `purpose`, `epoch` and `index` as little-endian words, so that every
/// place can be reached without drawing the numbers before it. The numbers of [`Purpose`] are part
/// of the key: a new purpose takes a new number.
pub fn stream_rng(seed: u64, purpose: Purpose, epoch: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, epoch, index]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// An unbiased whole number below `bound`, which is not 0: draws from the incomplete last run of
/// `bound` numbers are repeated.
///
/// It is our own code and not `rand`'s, whose methods may draw differently in another version: the
/// order of a search's batches must not change with an update.
pub(crate) fn below(rng: &mut impl Rng, bound: u32) -> u32 {
    let zone = u32::MAX - (u32::MAX - bound + 1) % bound;
    loop {
        let draw = rng.next_u32();
        if draw <= zone {
            return draw % bound;
        }
    }
}

/// A number in [0, 1) with 24 bits.
pub(super) fn unit(rng: &mut impl Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1 << 24) as f32
}

/// Shuffles in place (Fisher-Yates).
pub(super) fn shuffle(items: &mut [u32], rng: &mut impl Rng) {
    for last in (1..items.len()).rev() {
        let other = below(rng, last as u32 + 1) as usize;
        items.swap(last, other);
    }
}

/// The indices in the random order of an epoch.
pub fn shuffled(indices: &[u32], seed: u64, purpose: Purpose, epoch: u64) -> Vec<u32> {
    let mut order = indices.to_vec();
    shuffle(&mut order, &mut stream_rng(seed, purpose, epoch, ORDER));
    order
}

/// Two random parts of `0..len`, each in random order; the first has the share `fraction`, rounded.
///
/// # Panics
/// Where `fraction` is not in [0, 1], or where `len` does not fit into a `u32`.
///
/// # Source
/// EC-DARTS, section 5.2: "randomly separated into two parts equally".
pub fn split(len: usize, fraction: f64, seed: u64) -> (Vec<u32>, Vec<u32>) {
    assert!((0.0..=1.0).contains(&fraction), "a fraction in [0, 1], not {fraction}");
    let all: Vec<u32> = (0..u32::try_from(len).expect("images counted in 32 bits")).collect();
    let mut first = shuffled(&all, seed, Purpose::Split, 0);
    let second = first.split_off((len as f64 * fraction).round() as usize);
    (first, second)
}

/// Two random parts of the images with these labels, each in random order. Each part has its share
/// of every class, rounded.
///
/// # Panics
/// Where a share is below 0 or both together are above 1.
///
/// # Source
/// PC-DARTS, `train_search_imagenet.py`: "random sample 10% and 2.5% from training set (each class)".
pub fn sample_per_class(labels: &[u16], shares: [f64; 2], seed: u64) -> (Vec<u32>, Vec<u32>) {
    let whole = shares[0] + shares[1];
    assert!(shares.iter().all(|&share| share >= 0.0) && whole <= 1.0 + 1e-9, "shares of a class");
    let mut classes = vec![Vec::new(); labels.iter().max().map_or(0, |&most| most as usize + 1)];
    for (image, &label) in (0..).zip(labels) {
        classes[usize::from(label)].push(image);
    }
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (class, images) in (1..).zip(&classes) {
        // Epoch 0 of the purpose orders a whole set.
        let order = shuffled(images, seed, Purpose::Split, class);
        let count = |share: f64| (images.len() as f64 * share).round() as usize;
        let (one, both) = (count(shares[0]), count(whole).min(order.len()));
        first.extend(&order[..one]);
        second.extend(&order[one..both.max(one)]);
    }
    (shuffled(&first, seed, Purpose::Split, 0), shuffled(&second, seed, Purpose::Split, 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Expected: ChaCha with 8 rounds, counter and nonce 0, written in Python from its definition
    /// with `struct.pack("<4Q", seed, purpose, epoch, index)` as the key; the orders by the loops
    /// above over its words.
    #[test]
    fn draws_do_not_change_with_versions() {
        let mut rng = stream_rng(1, Purpose::Train, 2, 5);
        let words: [u32; 18] = std::array::from_fn(|_| rng.next_u32());
        assert_eq!(words[..4], [0x30c6_db8b, 0xb068_612c, 0xdf79_96ee, 0x15ac_ae09]);
        assert_eq!(words[16..], [0x50fd_3817, 0x70ec_3412], "the second block");
        let order = shuffled(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 2, Purpose::Train, 1);
        assert_eq!(order, [7, 6, 8, 9, 5, 0, 1, 4, 2, 3]);
        assert_eq!(split(8, 0.5, 7), (vec![0, 6, 1, 2], vec![3, 7, 5, 4]));
    }

    #[test]
    fn below_is_even() {
        let mut rng = stream_rng(1, Purpose::Train, 0, 0);
        let mut counts = [0; 9];
        for _ in 0..90_000 {
            counts[below(&mut rng, 9) as usize] += 1;
        }
        assert!(counts.iter().all(|&count: &i32| (count - 10_000).abs() < 500), "{counts:?}");
    }

    /// Without the repetition, five eighths of the draws would lie below half of this bound.
    #[test]
    fn below_is_even_at_a_large_bound() {
        let mut rng = stream_rng(1, Purpose::Train, 0, 0);
        let bound = 3 << 30;
        let low = (0..10_000).filter(|_| below(&mut rng, bound) < bound / 2).count();
        assert!(low.abs_diff(5_000) < 250, "{low}");
    }

    #[test]
    fn streams_differ_in_every_part_of_their_place() {
        let places = [
            (0, Purpose::Train, 0, 0),
            (1, Purpose::Train, 0, 0),
            (0, Purpose::Valid, 0, 0),
            (0, Purpose::Train, 1, 0),
            (0, Purpose::Train, 0, 1),
            (0, Purpose::Train, 0, ORDER),
        ];
        let firsts: std::collections::BTreeSet<u64> =
            places.iter().map(|&(s, p, e, i)| stream_rng(s, p, e, i).next_u64()).collect();
        assert_eq!(firsts.len(), places.len());
    }

    proptest! {
        #[test]
        fn parts_are_disjoint_and_whole(len in 0..2000_usize, fraction in 0.0..=1.0, seed: u64) {
            let (first, second) = split(len, fraction, seed);
            prop_assert_eq!(first.len(), (len as f64 * fraction).round() as usize);
            let mut all = [first, second].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..len as u32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn samples_hold_their_share_of_every_class() {
        let labels: Vec<u16> = (0..1000).map(|image| (image % 10).min(5)).collect();
        let (first, second) = sample_per_class(&labels, [0.1, 0.025], 3);
        let count = |part: &[u32], class: u16| {
            part.iter().filter(|&&image| labels[image as usize] == class).count()
        };
        for class in 0..5 {
            // A fortieth of 100 is 2.5; with the tenth, it makes 12.5, rounded.
            assert_eq!((count(&first, class), count(&second, class)), (10, 3), "class {class}");
        }
        assert_eq!((count(&first, 5), count(&second, 5)), (50, 13));
        let all: std::collections::BTreeSet<u32> = first.iter().chain(&second).copied().collect();
        assert_eq!(all.len(), first.len() + second.len(), "no image twice");
        assert!(!first[..20].is_sorted_by_key(|&image| labels[image as usize]), "classes mixed");
        assert_eq!(sample_per_class(&labels, [0.1, 0.025], 3), (first.clone(), second));
        assert_ne!(sample_per_class(&labels, [0.1, 0.025], 4).0, first);
        let (first, second) = sample_per_class(&labels, [0.5, 0.5], 3);
        assert_eq!(first.len() + second.len(), 1000);
    }

    #[test]
    fn another_seed_makes_another_split() {
        assert_ne!(split(1000, 0.5, 7).0, split(1000, 0.5, 8).0);
    }
}
