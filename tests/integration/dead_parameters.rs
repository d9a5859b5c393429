//! No parameter is dead: every weight and every alpha has a gradient and moves, except `none` under
//! Cross-Edge Normalization; and the genotype is derived from the alpha that moves.

use std::path::Path;

use burn::optim::GradientsParams;
use burn::tensor::{Device, TensorData};
use ec_darts::architect::first_order_gradient;
use ec_darts::architecture::Strength;
use ec_darts::objective::Objective;
use ec_darts::ops::Packs;
use ec_darts::ops::separate;
use ec_darts::relaxation::Relaxation;
use ec_darts::rule::Rule;
use ec_darts::snapshot::Snapshot;
use ec_darts::train::Search;
use ec_darts_space::{Primitive, discretize};

use crate::tiny;

/// Checks that every parameter of a module has a gradient that is finite and not zero.
fn check_gradients<M: Packs>(module: &M, gradients: &GradientsParams) {
    let mut found = Snapshot::default();
    found.save_gradients(module, gradients, "module");
    let mut checked = 0;
    for name in tiny::state(module).into_keys().filter(|name| !name.contains("running_")) {
        let gradient = found.tensors.remove(&name);
        let gradient = gradient.unwrap_or_else(|| panic!("{name}: no gradient"));
        let gradient: Vec<f32> = gradient.try_to_vec().expect("single precision");
        let norm = tiny::dot(&gradient, &gradient);
        assert!(norm.is_finite() && norm > 0.0, "{name}: squared norm {norm}");
        checked += 1;
    }
    assert!(checked > 100, "a supernet has many parameters, not {checked}");
}

/// Checks the gradients of the first step, and the parameters that the first step of the
/// interleaved order moves.
fn check(relaxation: Relaxation) {
    let mut config = tiny::config();
    config.search.relaxation = relaxation;
    // Without decay, only a gradient moves alpha.
    config.alpha.weight_decay = 0.0;
    let mut search = tiny::search(config);
    let space = search.space().clone();
    let exempt = |place: usize| {
        let primitive = space.primitives()[place % space.primitives().len()];
        primitive == Primitive::None && relaxation == Relaxation::CrossEdge
    };

    let device = Device::flex().autodiff();
    let rule = Rule::from(relaxation);
    let model = Objective::new(&space, &rule);
    let batch = tiny::batch(2, &device);
    let supernet = separate(search.supernet());
    let loss = model.loss(&supernet, search.alpha(), &batch);
    check_gradients(&supernet, &GradientsParams::from_grads(loss.backward(), &supernet));
    let gradient = first_order_gradient(&model, &supernet, search.alpha(), &batch);
    for matrix in gradient.gradient.operations.into_values() {
        for (place, value) in tiny::values(matrix).into_iter().enumerate() {
            assert!(value.is_finite(), "{relaxation:?}: alpha {place}: {value}");
            assert_eq!(value == 0.0, exempt(place), "{relaxation:?}: alpha {place}: {value}");
        }
    }

    let before = (tiny::state(search.supernet()), tiny::state(search.alpha()));
    search.advance().expect("a step");
    let after = (tiny::state(search.supernet()), tiny::state(search.alpha()));
    for (name, value) in &before.0 {
        assert_ne!(&after.0[name], value, "{relaxation:?}: {name} did not move");
    }
    for (name, value) in before.1 {
        let floats = |data: &TensorData| data.clone().try_to_vec::<f32>().expect("floats");
        let pairs = floats(&value).into_iter().zip(floats(&after.1[&name]));
        for (place, (before, after)) in pairs.enumerate() {
            assert_eq!(before == after, exempt(place), "{relaxation:?}: {name}, {place}");
        }
    }
}

#[test]
fn every_parameter_has_a_gradient_and_moves() {
    check(Relaxation::Softmax);
    check(Relaxation::CrossEdge);
}

/// One step of Adam moves `none` too, but only because of the decay.
#[test]
fn decay_pulls_none_towards_zero() {
    let mut search = tiny::search(tiny::config());
    let none = |search: &Search| {
        let alpha = tiny::values(search.alpha().normal.val());
        alpha.into_iter().step_by(search.space().primitives().len()).collect::<Vec<f32>>()
    };
    let before = none(&search);
    search.advance().expect("a step");
    for (before, after) in before.iter().zip(none(&search)) {
        assert!((after - before) * before < 0.0, "from {before} to {after}");
    }
}

#[test]
fn a_step_on_alpha_changes_the_genotype() {
    let mut config = tiny::config();
    // This is larger than any difference between the initial values.
    config.alpha.learning_rate = 0.1;
    let mut search = tiny::search(config);
    let genotype = |search: &Search| search.genotype(Strength::Alpha).expect("finite alpha");
    let before = genotype(&search);
    search.advance().expect("a step");
    let after = genotype(&search);
    assert_ne!(after, before, "no pick changed");
    let alpha = search.alpha().values();
    assert_eq!(after, discretize(search.space(), alpha.as_deref()).expect("finite"));
}

/// The genotype is derived from the tensor in the checkpoint.
#[test]
fn the_genotype_follows_alpha() {
    let mut search = tiny::search(tiny::config());
    let (mut snapshot, description) =
        Snapshot::from_bytes(&search.save().expect("finite")).expect("a snapshot");
    let space = search.space();
    let width = space.primitives().len();
    let sep_conv = space.primitives().iter().position(|&each| each == Primitive::SepConv5x5);
    let place = space.topology().edge_number(2, 1) * width + sep_conv.expect("a primitive");
    for kind in ["alpha.normal", "alpha.reduction"] {
        let alpha = snapshot.tensors.get_mut(kind).expect("alpha is in the checkpoint");
        alpha.as_mut_slice::<f32>().expect("floats")[place] = 3.0;
    }
    let bytes = snapshot.to_bytes(&description);
    let (device, path) = (Device::flex(), Path::new("edited"));
    let edited = Search::restore(tiny::config(), tiny::data(1), &device, &bytes, path);
    let edited = edited.expect("the same shapes");
    for strength in [Strength::Mixing, Strength::Alpha] {
        let genotype = edited.genotype(strength).expect("finite alpha");
        for (_, cell) in genotype.cells() {
            let strongest = cell.nodes[1][0];
            assert_eq!((strongest.primitive, strongest.from), (Primitive::SepConv5x5, 2));
        }
    }
}
