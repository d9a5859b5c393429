//! Checkpoints and model files whose bytes have changed: they are refused, whatever the damage.

use std::path::Path;

use burn::tensor::{Device, TensorData};
use ec_darts::Error;
use ec_darts::model::TrainedModel;
use ec_darts::snapshot::Snapshot;
use ec_darts::train::{Done, Phase, Retraining, Search};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::{retrain, tiny};

/// A number from the environment: tests are short by default, and long on request.
fn count(name: &str, default: u32) -> u32 {
    let set = std::env::var(name);
    set.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: no number")))
}

fn path() -> &'static Path {
    Path::new("some.safetensors")
}

/// A search during the auxiliary model's steps of its second epoch, when its state is largest.
fn search() -> Vec<u8> {
    let mut config = tiny::config();
    config.search.batch_size = 2;
    let mut search = tiny::search(config);
    loop {
        search.work().expect("finite");
        let in_auxiliary = search.take_events().iter().any(|event| {
            matches!(event, ec_darts::train::Event::Step(step)
                if (step.epoch, step.phase, step.step) == (1, Phase::Auxiliary, 1))
        });
        if in_auxiliary {
            return search.save().expect("finite");
        }
    }
}

fn restore_search(bytes: &[u8]) -> Result<Search, Error> {
    let mut config = tiny::config();
    config.search.batch_size = 2;
    Search::restore(config, tiny::data(1), &Device::flex(), bytes, path())
}

fn end_of_search(mut search: Search) -> Vec<u8> {
    while search.work().expect("finite") != Done::Everything {}
    search.save().expect("finite")
}

/// A retraining with an average, in its second epoch.
fn retraining() -> Vec<u8> {
    let mut retraining = retrain::retraining(averaged());
    while retraining.position().0 < 10 {
        retraining.work().expect("finite");
    }
    retraining.save().expect("finite")
}

fn averaged() -> ec_darts::config::RetrainConfig {
    let mut config = retrain::config();
    config.retrain.average_decay = Some(0.9);
    config
}

fn restore_retraining(bytes: &[u8]) -> Result<Retraining, Error> {
    retrain::restore(averaged(), &retrain::genotype(), bytes)
}

fn end_of_retraining(mut retraining: Retraining) -> Vec<u8> {
    while retraining.work().expect("finite") != Done::Everything {}
    retraining.save().expect("finite")
}

fn model() -> Vec<u8> {
    restore_retraining(&retraining()).expect("its own bytes").model().to_bytes().expect("finite")
}

/// Flips random bits, one at a time; each file is refused, or the work restored from it reaches the
/// same result.
fn check_flips<T>(
    bytes: &[u8],
    seed: u64,
    read: impl Fn(&[u8]) -> Result<T, String>,
    end: impl Fn(T) -> Vec<u8>,
) -> [u32; 2] {
    let expected = end(read(bytes).expect("its own bytes"));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut refused, mut harmless) = (0, 0);
    for _ in 0..count("EC_DARTS_FLIPS", 300) {
        let bit = rng.random_range(0..8 * bytes.len());
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match read(&flipped) {
            Err(_) => refused += 1,
            Ok(taken) => {
                assert!(end(taken) == expected, "bit {bit} of {} was taken", bytes.len());
                harmless += 1;
            }
        }
    }
    [refused, harmless]
}

#[test]
fn single_bits_are_refused_or_harmless() {
    let text = |error: Error| error.to_string();
    let found = [
        ("search", check_flips(&search(), 1, |b| restore_search(b).map_err(text), end_of_search)),
        (
            "retraining",
            check_flips(
                &retraining(),
                2,
                |b| restore_retraining(b).map_err(text),
                end_of_retraining,
            ),
        ),
        (
            "model",
            check_flips(
                &model(),
                3,
                |b| TrainedModel::from_bytes(b, &Device::flex()).map_err(|error| error.to_string()),
                |model: TrainedModel| model.to_bytes().expect("finite"),
            ),
        ),
    ];
    for (name, [refused, harmless]) in found {
        println!("{name}: {refused} flips refused, {harmless} harmless");
    }
}

/// The file with changed content and a matching digest: damage that the digest cannot detect.
fn sealed(bytes: &[u8], change: impl FnOnce(&mut Snapshot, &mut Value)) -> Vec<u8> {
    let (mut snapshot, text) = Snapshot::from_bytes(bytes).expect("its own bytes");
    let mut description = serde_json::from_str(&text).expect("JSON");
    change(&mut snapshot, &mut description);
    snapshot.to_bytes(&description.to_string())
}

fn check_refused<T>(
    outcome: Result<T, Error>,
    is_expected: impl Fn(&Error) -> bool,
    expected: &str,
) {
    let error = outcome.err().unwrap_or_else(|| panic!("taken, expected {expected:?}"));
    let text = error.to_string();
    assert!(
        text.starts_with("some.safetensors: ") && text.contains(expected),
        "{text}, expected {expected:?}"
    );
    assert!(is_expected(&error), "{error:?}");
}

fn is_damaged(error: &Error) -> bool {
    matches!(error, Error::Damaged { .. })
}

#[test]
fn what_a_search_does_not_hold_or_lacks() {
    let bytes = search();
    let damaged = |change: &dyn Fn(&mut Snapshot, &mut Value), expected: &str| {
        let changed = sealed(&bytes, change);
        check_refused(restore_search(&changed), is_damaged, expected);
    };
    let velocity = "weight_optimizer.stem.Single.conv.weight.momentum.velocity";
    let remove = |snapshot: &mut Snapshot, start: &str| {
        snapshot.tensors.retain(|name, _| !name.starts_with(start));
    };
    damaged(
        &|all, _| remove(all, velocity),
        &format!("{velocity}: expected [6, 3, 3, 3], found nothing"),
    );
    damaged(&|all, _| remove(all, "weight_optimizer."), "found nothing");
    damaged(&|all, _| remove(all, "alpha_optimizer."), "alpha_optimizer.");
    damaged(&|all, _| remove(all, "auxiliary_optimizer."), "auxiliary_optimizer.");
    damaged(&|all, _| remove(all, "auxiliary."), "auxiliary.");
    damaged(&|all, _| remove(all, "alpha.normal"), "alpha.normal: expected [5, 8], found nothing");
    let reshape = |snapshot: &mut Snapshot, name: &str, shape: &[usize]| {
        let old = snapshot.tensors.remove(name).unwrap_or_else(|| panic!("no {name}"));
        let values = old.try_to_vec::<f32>().expect("single precision");
        snapshot.tensors.insert(name.into(), TensorData::new(values, shape.to_vec()));
    };
    damaged(&|all, _| reshape(all, velocity, &[162]), "expected [6, 3, 3, 3], found [162]");
    let moment = "alpha_optimizer.normal.momentum.moment_1";
    damaged(&|all, _| reshape(all, moment, &[8, 5]), "expected [5, 8], found [8, 5]");
    damaged(&|all, _| reshape(all, "alpha.normal", &[8, 5]), "expected [5, 8], found [8, 5]");
    let add = |snapshot: &mut Snapshot, name: &str| {
        snapshot.tensors.insert(name.into(), TensorData::from([1.0_f32]));
    };
    damaged(&|all, _| add(all, "w"), "it holds w, which this search does not have");
    let stray = "weight_optimizer.stem.Single.conv.weight.momentum.speed";
    damaged(&|all, _| add(all, stray), stray);
    damaged(
        &|all, _| {
            all.tensors.insert("alpha.normal".into(), TensorData::new(vec![f32::NAN; 40], [5, 8]));
        },
        "alpha.normal has values that are not finite",
    );

    damaged(&|_, all| all["place"]["step"] = 99.into(), "step 99 of the 4 of phase Auxiliary");
    damaged(&|_, all| all["place"]["epoch"] = 7.into(), "phase Auxiliary of epoch 8 of 2");
    damaged(&|_, all| all["place"]["epoch"] = 0.into(), "1 reports of 0 epochs");
    damaged(&|_, all| all["place"]["phase"] = "alpha".into(), "phase Alpha of epoch 2 of 2");
    damaged(
        &|_, all| all["place"]["phase"] = "supernet".into(),
        "no auxiliary model, or one too many",
    );
    damaged(&|_, all| all["history"] = json!([]), "0 reports of 1 epochs");
    damaged(&|_, all| all["counts"] = json!({}), "expected 8 steps, found nothing");
    damaged(&|_, all| all["counts"]["stray"] = 1.into(), "it holds stray");
    damaged(
        &|_, all| all["progress"]["induced"] = Value::Null,
        "no auxiliary model, or one too many",
    );
    damaged(&|_, all| all["progress"]["best"] = Value::Null, "no best epoch");
    damaged(
        &|_, all| all["progress"]["best"]["epoch"] = 5.into(),
        "a best epoch that is still to come",
    );
    damaged(&|_, all| all["progress"]["train"]["correct"] = 9999.into(), "9999 right of");
    damaged(&|_, all| all["progress"]["speed"] = 1.into(), "unknown field `speed`");
    damaged(
        &|_, all| {
            let genotype = retrain::genotype().to_json();
            all["progress"]["induced"] = serde_json::from_str(&genotype).expect("JSON");
        },
        "a genotype of another space",
    );

    let other = |change: &dyn Fn(&mut Snapshot, &mut Value), expected: &str| {
        let is_other = |error: &Error| matches!(error, Error::Checkpoint { .. });
        check_refused(restore_search(&sealed(&bytes, change)), is_other, expected);
    };
    other(
        &|_, all| all["format"] = 3.into(),
        "format 3 of ec-darts 0.1.0; ec-darts 0.1.0 reads format 2",
    );
    other(&|_, all| all["work"] = Value::Null, "not a checkpoint of a search");
    other(&|_, all| all["identity"]["data"] = "".into(), "a checkpoint of other images");
    check_refused(
        restore_search(&retraining()),
        |error| matches!(error, Error::Checkpoint { .. }),
        "not a checkpoint of a search, but of a retraining",
    );
}

#[test]
fn what_a_retraining_does_not_hold_or_lacks() {
    let bytes = retraining();
    let damaged = |change: &dyn Fn(&mut Snapshot, &mut Value), expected: &str| {
        check_refused(restore_retraining(&sealed(&bytes, change)), is_damaged, expected);
    };
    let remove = |snapshot: &mut Snapshot, start: &str| {
        snapshot.tensors.retain(|name, _| !name.starts_with(start));
    };
    damaged(&|all, _| remove(all, "optimizer."), "found nothing");
    damaged(&|all, _| remove(all, "optimizer.auxiliary_head."), "optimizer.auxiliary_head.");
    damaged(&|all, _| remove(all, "average."), "average.");
    damaged(&|all, _| remove(all, "network.classifier.bias"), "network.classifier.bias");
    damaged(&|_, all| all["place"]["step"] = 9.into(), "step 9 of the");
    damaged(&|_, all| all["progress"]["valid_top5"] = 1.into(), "more right classes than images");
    damaged(
        &|_, all| {
            all["place"] = json!({"epoch": 2, "phase": "train", "step": 0});
            let report = all["history"][0].clone();
            all["history"].as_array_mut().expect("reports").push(report);
            all["progress"]["measured"] = Value::Null;
        },
        "no accuracy at its end",
    );
    // Without a loss the auxiliary head has no steps and no states.
    let mut config = retrain::config();
    config.network.auxiliary_loss_weight = None;
    let mut plain = retrain::retraining(config.clone());
    plain.work().expect("a step");
    let saved = plain.save().expect("finite");
    assert!(retrain::restore(config.clone(), &retrain::genotype(), &saved).is_ok());
    let stray = sealed(&saved, |all, _| {
        let name = "optimizer.auxiliary_head.conv1.weight.momentum.velocity";
        let like = all.tensors["network.auxiliary_head.conv1.weight"].clone();
        all.tensors.insert(name.into(), like);
    });
    let outcome = retrain::restore(config, &retrain::genotype(), &stray);
    check_refused(outcome, is_damaged, "which this retraining does not have");
}

/// One change of a checkpoint's content.
#[derive(Clone, Debug)]
enum Change {
    /// Replaces a value of the description, given by its number, by another value.
    Value(usize, Value),
    /// Removes a value.
    Remove(usize),
    /// Replaces a byte of the description.
    Byte(usize, u8),
    /// Drops a tensor, or changes its shape, name or value.
    Drop(usize),
    Flatten(usize),
    Rename(usize, String),
    Number(usize, usize, u32),
}

fn change() -> impl Strategy<Value = Change> {
    let values = prop_oneof![
        Just(Value::Null),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_u64..20).prop_map(Value::from),
        prop_oneof![Just(1e300), Just(-1.0), Just(0.5)].prop_map(Value::from),
        "[a-z_]{0,12}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([[0, 1], "none"])),
    ];
    let at = any::<usize>;
    prop_oneof![
        4 => (at(), values).prop_map(|(at, value)| Change::Value(at, value)),
        2 => at().prop_map(Change::Remove),
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        1 => at().prop_map(Change::Drop),
        1 => at().prop_map(Change::Flatten),
        1 => (at(), "[a-z.]{0,20}").prop_map(|(at, name)| Change::Rename(at, name)),
        2 => (at(), at(), any::<u32>()).prop_map(|(at, place, bits)| Change::Number(at, place, bits)),
    ]
}

/// Pointers to all values inside a value.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let keys: Vec<String> = match value {
        Value::Object(map) => map.keys().cloned().collect(),
        Value::Array(all) => (0..all.len()).map(|index| index.to_string()).collect(),
        _ => Vec::new(),
    };
    for key in keys {
        let pointer = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        let inner = value.pointer(&pointer[at.len()..]).expect("it is there");
        pointers(inner, &pointer, found);
        found.push(pointer);
    }
}

fn changed(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    let (mut snapshot, mut text) = Snapshot::from_bytes(bytes).expect("its own bytes");
    for change in changes {
        let names: Vec<String> = snapshot.tensors.keys().cloned().collect();
        let name = |at: &usize| names.get(at % names.len().max(1)).cloned().unwrap_or_default();
        let mut value: Value = serde_json::from_str(&text).unwrap_or_default();
        let mut all = Vec::new();
        pointers(&value, "", &mut all);
        match change {
            Change::Value(at, new) if !all.is_empty() => {
                *value.pointer_mut(&all[at % all.len()]).expect("it is there") = new.clone();
                text = value.to_string();
            }
            Change::Remove(at) if !all.is_empty() => {
                let (parent, key) = all[at % all.len()].rsplit_once('/').expect("a pointer");
                match value.pointer_mut(parent).expect("it is there") {
                    Value::Object(map) => drop(map.remove(key)),
                    Value::Array(list) => drop(list.remove(key.parse().expect("a number"))),
                    _ => unreachable!("a parent has children"),
                }
                text = value.to_string();
            }
            Change::Byte(at, byte) => {
                let mut bytes = text.into_bytes();
                let at = at % bytes.len().max(1);
                if let Some(there) = bytes.get_mut(at) {
                    *there = *byte;
                }
                text = String::from_utf8_lossy(&bytes).into_owned();
            }
            Change::Drop(at) => drop(snapshot.tensors.remove(&name(at))),
            Change::Flatten(at) => {
                if let Some(data) = snapshot.tensors.get_mut(&name(at)) {
                    let values = data.clone().try_to_vec::<f32>().expect("single precision");
                    let len = values.len();
                    *data = TensorData::new(values, [1, len]);
                }
            }
            Change::Rename(at, new) => {
                if let Some(data) = snapshot.tensors.remove(&name(at))
                    && new != "sha256"
                {
                    snapshot.tensors.insert(new.clone(), data);
                }
            }
            Change::Number(at, place, bits) => {
                let data = snapshot.tensors.get_mut(&name(at));
                let values = data.and_then(|data| data.as_mut_slice::<f32>().ok());
                if let Some(values) = values.filter(|values| !values.is_empty()) {
                    let place = place % values.len();
                    values[place] = f32::from_bits(*bits);
                }
            }
            Change::Value(..) | Change::Remove(_) => {}
        }
    }
    snapshot.to_bytes(&text)
}

/// A file with a matching digest is refused or can continue, whatever its content; there is never a
/// panic.
fn check_no_panic<T>(bytes: &[u8], read: impl Fn(&[u8]) -> Result<T, Error>, go_on: impl Fn(T)) {
    let cases = count("PROPTEST_CASES", 100);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let changes = proptest::collection::vec(change(), 1..3);
    proptest!(config, |(changes in changes)| {
        if let Ok(taken) = read(&changed(bytes, &changes)) {
            go_on(taken);
        }
    });
}

#[test]
fn no_content_of_a_checkpoint_panics() {
    check_no_panic(&search(), restore_search, |mut search| {
        // One of these numbers may be large: then the error says so.
        let done = (0..4).try_for_each(|_| search.work().map(drop));
        let _ = done.and_then(|()| search.save());
    });
    check_no_panic(&retraining(), restore_retraining, |mut retraining| {
        let done = (0..4).try_for_each(|_| retraining.work().map(drop));
        let _ = done.and_then(|()| retraining.save());
    });
}
