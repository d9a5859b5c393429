//! Packed weights and their parts in files: names, shapes and first values; and the values of its
//! packed tensors that a cell does not use.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, TensorData};
use ec_darts::architecture::Strength;
use ec_darts::data::Datasets;
use ec_darts::objective::cross_entropy;
use ec_darts::ops::Packed;
use ec_darts::ops::separate;
use ec_darts::optim::{SgdSettings, WeightOptimizer};
use ec_darts::snapshot::Snapshot;
use ec_darts::train::{Event, Phase, Retraining};
use ec_darts::transition::{induce, return_weights};
use ec_darts_space::presets;

use crate::{memory, tiny};

/// FNV-1a over the bytes of a tensor.
fn checksum(data: &TensorData) -> u64 {
    data.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// One line per tensor: name and shape, and a checksum of the values where they are drawn alone.
fn lines(checkpoint: &[u8], with_values: bool) -> Vec<String> {
    let (snapshot, _) = Snapshot::from_bytes(checkpoint).expect("a checkpoint");
    let line = |(name, data): (&String, &TensorData)| {
        let shape: Vec<String> = data.shape().iter().map(ToString::to_string).collect();
        let values = if with_values { format!(" {:016x}", checksum(data)) } else { String::new() };
        format!("{name} {}{values}", shape.join("x"))
    };
    snapshot.tensors.iter().map(line).collect()
}

fn check(file: &str, found: &[String]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/names").join(file);
    let text = std::fs::read_to_string(&path).expect("a list of names");
    let expected: Vec<&str> = text.lines().collect();
    let first = found.iter().zip(&expected).find(|(found, expected)| found != expected);
    assert_eq!(first, None, "{file}");
    assert_eq!(found.len(), expected.len(), "{file}");
}

/// Files are the same as before weights were packed (commit 82175df), including initial values.
#[test]
fn files_have_the_names_they_always_had() {
    let mut search = tiny::search(tiny::config());
    check("search_start.txt", &lines(&search.save().expect("finite"), true));
    loop {
        let event = search.advance().expect("a finite search").expect("an auxiliary step");
        if matches!(event, Event::Step(report) if report.phase == Phase::Auxiliary) {
            break;
        }
    }
    check("search_auxiliary.txt", &lines(&search.save().expect("finite"), false));

    let mut config = ec_darts::config::RetrainConfig::cifar10();
    (config.network.init_channels, config.network.num_cells) = (2, 3);
    (config.network.drop_path_prob, config.retrain.batch_size) = (0.0, 4);
    config.retrain.average_decay = Some(0.9);
    config.run.workers = 0;
    let data = Datasets { train: tiny::data(1), test: tiny::data(2), notices: Vec::new() };
    let genotype = presets::DARTS_V2.genotype();
    let mut retraining =
        Retraining::new(config, &genotype, &data, &Device::flex()).expect("its settings");
    check("retraining_start.txt", &lines(&retraining.save().expect("finite"), true));
    retraining.advance().expect("a finite step");
    check("retraining_step.txt", &lines(&retraining.save().expect("finite"), false));
}

/// The parts that the genotype picks, by the names of the supernet, and all packed values.
fn packed_values(packed: &Packed) -> [Vec<u32>; 3] {
    let settled = packed.valid();
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    [settled.weights.val(), settled.running_mean.value(), settled.running_var.value()]
        .map(|tensor| bits(tiny::values(tensor)))
}

/// An auxiliary model neither reads nor changes the values beside its picks; here they are NaN.
#[test]
fn what_is_not_picked_is_left_alone_bit_for_bit() {
    let device = Device::flex().autodiff();
    let search = tiny::search(tiny::config());
    let genotype = search.genotype(Strength::Mixing).expect("finite alpha");
    let picked = induce(search.supernet(), &genotype);
    // All values that are not picked become a NaN with a mark in it.
    let mark = |place: usize| f32::from_bits(0x7fc0_0000 | (place as u32 & 0xffff));
    let mut snapshot = Snapshot::default();
    snapshot.save(search.supernet(), "supernet");
    let kept = kept_ranges(&picked, search.supernet());
    for (name, data) in &mut snapshot.tensors {
        if !kept.contains(name) {
            let values = data.as_mut_slice::<f32>().expect("single precision");
            values.iter_mut().enumerate().for_each(|(place, value)| *value = mark(place));
        }
    }
    let marked = snapshot.load(separate(search.supernet()), "supernet").expect("its own names");
    let before: Vec<_> = marked.cells.iter().map(|cell| packed_values(&cell.packed)).collect();

    let mut auxiliary = induce(&marked, &genotype);
    let settings =
        SgdSettings { momentum: 0.9, weight_decay: 0.1, clip_norm: Some(0.5), nesterov: false };
    let mut optimizer = WeightOptimizer::new(&settings);
    for step in 0..3 {
        let batch = tiny::batch(7 + step, &device);
        let loss = cross_entropy(auxiliary.forward(batch.images.clone()), &batch);
        let gradients = GradientsParams::from_grads(loss.backward(), &auxiliary);
        let norm;
        (auxiliary, norm) = optimizer.step(0.1, auxiliary, gradients);
        let norm = tiny::values(norm)[0];
        assert!(norm.is_finite(), "{norm}");
    }
    let mut states = Snapshot::default();
    optimizer.stepper.save(&auxiliary, "sgd", &mut states);
    assert!(states.tensors.values().all(|data| data.iter::<f32>().all(f32::is_finite)));
    let unchanged = |after: &[[Vec<u32>; 3]], moved: bool| {
        for ((cell, before), after) in auxiliary.cells.iter().zip(&before).zip(after) {
            let layout = &cell.packed.layout;
            let parts = [&layout.weights, &layout.statistics, &layout.statistics];
            for ((parts, before), after) in parts.into_iter().zip(before).zip(after) {
                let covered = parts.covered.as_ref().expect("a part");
                for (place, (before, after)) in before.iter().zip(after).enumerate() {
                    if !covered.iter().any(|range| range.contains(&place)) {
                        assert_eq!(before, after, "beside the picks, at {place}");
                    }
                }
                assert_eq!(before != after, moved, "what is picked has moved, or not");
            }
        }
    };
    let of_auxiliary: Vec<_> =
        auxiliary.cells.iter().map(|cell| packed_values(&cell.packed)).collect();
    unchanged(&of_auxiliary, true);
    let of_marked: Vec<_> = marked.cells.iter().map(|cell| packed_values(&cell.packed)).collect();
    unchanged(&of_marked, false);
    let returned = return_weights(&marked, &auxiliary);
    let of_returned: Vec<_> =
        returned.cells.iter().map(|cell| packed_values(&cell.packed)).collect();
    unchanged(&of_returned, true);
}

/// Names of the supernet's tensors that an auxiliary model has too: tensors whose ranges it covers.
fn kept_ranges(
    auxiliary: &ec_darts::transition::AuxiliaryModel,
    supernet: &ec_darts::network::Supernet,
) -> BTreeSet<String> {
    let mut kept: BTreeMap<String, bool> =
        tiny::state(supernet).into_keys().map(|name| (name, true)).collect();
    for (number, (own, all)) in auxiliary.cells.iter().zip(&supernet.cells).enumerate() {
        let (own, all) = (&own.packed.layout, &all.packed.layout);
        for (own, all, ends) in [
            (&own.weights, &all.weights, &[""][..]),
            (&own.statistics, &all.statistics, &[".running_mean", ".running_var"]),
        ] {
            let covered = own.covered.as_ref().expect("a part");
            for part in &all.parts {
                let is_own = covered.iter().any(|range| range.contains(&part.start));
                for end in ends {
                    let name = format!("module.cells.{number}.{}{end}", part.name);
                    assert!(kept.insert(name.clone(), is_own).is_some(), "{name}");
                }
            }
        }
    }
    let names = kept.into_iter().filter(|(_, kept)| *kept).map(|(name, _)| name);
    names.map(|name| name.replacen("module.", "supernet.", 1)).collect()
}

/// The first step of an auxiliary model writes a packed tensor for each cell; inducing it writes
/// none.
#[test]
fn inducing_copies_no_packed_tensor() {
    let mut config = tiny::config();
    config.network.init_channels = 32;
    let search = tiny::search(config);
    let genotype = search.genotype(Strength::Mixing).expect("finite alpha");
    let parameters: usize =
        search.supernet().cells.iter().map(|cell| 4 * cell.packed.layout.weights.len).sum();
    let (auxiliary, induced) = memory::allocated(|| induce(search.supernet(), &genotype));
    assert!(induced < parameters / 10, "{induced} bytes for {parameters} of parameters");
    for (own, all) in auxiliary.cells.iter().zip(&search.supernet().cells) {
        assert_eq!(own.packed.layout.weights.len, all.packed.layout.weights.len);
    }
}
