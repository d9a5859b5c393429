//! Golden numbers of the Hessian of the validation loss in alpha.

use std::io::Write;

use burn::tensor::Device;
use ec_darts::config::{RuleConfig, SearchConfig, Settings};
use ec_darts::cost::CostMeasure;
use ec_darts::objective::Objective;
use ec_darts::ops::Kernels;
use ec_darts::relaxation::Relaxation;
use ec_darts::rule::Rule;
use ec_darts::sampling::Sampling;
use ec_darts::spectrum::{Curvature, ROUNDS as SEARCHED};
use ec_darts_space::{Eigenvalue, Schedule, Stop};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::fixture::{Fixture, manifest, rule_folder};
use crate::rule_networks::Case;
use crate::tiny;

/// Number of rounds of the reference's power iteration.
const ROUNDS: usize = 40;

fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

/// All eigenvalues of the Hessian, ascending, by a product with each unit vector.
fn eigenvalues(curvature: &Curvature) -> Vec<f64> {
    let count = curvature.point().len();
    let column = |place: usize| {
        let mut unit = vec![0.0; count];
        unit[place] = 1.0;
        curvature.product(&unit)
    };
    let products: Vec<Vec<f64>> = (0..count).map(column).collect();
    let mean = |row: usize, place: usize| 0.5 * (products[row][place] + products[place][row]);
    let row = |row: usize| (0..count).map(|place| mean(row, place)).collect();
    let hessian = (0..count).map(row).collect();
    let mut found = by_rotations(hessian);
    found.sort_by(f64::total_cmp);
    found
}

/// Eigenvalues of a symmetric matrix by Jacobi rotations. A crate for this would change the
/// features of Burn's dependencies, and so cause a second build of Burn.
fn by_rotations(mut matrix: Vec<Vec<f64>>) -> Vec<f64> {
    let count = matrix.len();
    for _ in 0..12 {
        for p in 0..count {
            for q in p + 1..count {
                if matrix[p][q].abs() < 1e-14 {
                    continue;
                }
                let angle = (matrix[q][q] - matrix[p][p]) / (2.0 * matrix[p][q]);
                let tangent = angle.signum() / (angle.abs() + angle.hypot(1.0));
                let cosine = 1.0 / tangent.hypot(1.0);
                let sine = tangent * cosine;
                let rotated = |a: f64, b: f64| (cosine * a - sine * b, sine * a + cosine * b);
                for row in &mut matrix {
                    (row[p], row[q]) = rotated(row[p], row[q]);
                }
                let (above, below) = matrix.split_at_mut(q);
                for (a, b) in above[p].iter_mut().zip(&mut below[0]) {
                    (*a, *b) = rotated(*a, *b);
                }
            }
        }
    }
    (0..count).map(|place| matrix[place][place]).collect()
}

#[test]
fn the_spectrum_is_golden() {
    let manifest = manifest(&rule_folder());
    let mut ran = 0;
    for (file, entry) in manifest.files.iter().filter(|(_, entry)| entry.case == "r7") {
        let name = file.trim_end_matches(".safetensors");
        let fixture = Fixture::read(&rule_folder().join(file), entry, &Device::flex(), 1.0);
        let case = Case::new(name, &fixture, Kernels::default());
        let relaxation = match entry.config["relaxation"].as_str() {
            Some("softmax") => Relaxation::Softmax,
            Some("cen") => Relaxation::CrossEdge,
            other => panic!("{other:?} is unknown to this test"),
        };
        let rule = Rule::from(relaxation);
        let objective = Objective::new(&case.space, &rule);
        let alpha = case.alpha.as_ref().expect("a case with alpha");
        let curvature = Curvature::new(objective, &case.supernet, alpha, &case.batch("valid"))
            .expect("a program with the CPU");
        let (loss, gradient) = curvature.gradient(&curvature.point());
        fixture.check("out.loss", &[loss as f32]);
        fixture.check("out.grad", &single(&gradient));
        let start: Vec<f64> = fixture.values("in.start").iter().map(|&each| each.into()).collect();
        fixture.check("out.product", &single(&curvature.product(&start)));
        let all = eigenvalues(&curvature);
        let dominant = all[all.len() - 1];
        fixture.check("out.eigenvalues", &single(&all));
        fixture.check("out.dominant", &[dominant as f32]);
        fixture.check("out.indicator", &[(dominant + 1e-3) as f32]);
        let found = curvature.dominant(&start, ROUNDS).expect("finite");
        fixture.check("out.power", &[found as f32]);
        let soon = curvature.dominant(&start, SEARCHED).expect("finite");
        assert!((soon / dominant - 1.0).abs() < 1e-4, "{soon} after few rounds, not {dominant}");
        fixture.finish(name);
        ran += 1;
    }
    // All eigenvalues take a minute, so the project's own folder has no such file.
    let is_own = std::env::var_os("EC_DARTS_RULE_FIXTURES").is_none();
    assert!(ran > 0 || is_own, "no spectrum among the fixtures");
    if ran == 0 {
        // This bypasses the capture of output of passing tests, in which nobody would see it.
        let _ = writeln!(
            std::io::stderr(),
            "the spectrum is not compared: EC_DARTS_RULE_FIXTURES names no folder with its files"
        );
    }
}

/// The derivatives of a network's loss agree with its values, and the Hessian is symmetric.
#[test]
fn products_are_second_derivatives() {
    let search = tiny::search(tiny::config());
    let rule = Rule::from(Relaxation::CrossEdge);
    let objective = Objective::new(search.space(), &rule);
    let batch = tiny::batch(5, &Device::flex().autodiff());
    let curvature = Curvature::new(objective, search.supernet(), search.alpha(), &batch)
        .expect("a program with the CPU");
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let [one, other] = [0; 2].map(|_| curvature.direction(rng));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let loss = |by: f64| {
        let at: Vec<f64> = curvature.point().iter().zip(&one).map(|(at, v)| at + by * v).collect();
        curvature.gradient(&at).0
    };
    let slope = (loss(1e-6) - loss(-1e-6)) / 2e-6;
    let (_, gradient) = curvature.gradient(&curvature.point());
    assert!((dot(&gradient, &one) / slope - 1.0).abs() < 1e-5, "{slope}");
    let (along_one, along_other) = (curvature.product(&one), curvature.product(&other));
    let (there, back) = (dot(&along_one, &other), dot(&along_other, &one));
    assert!((there / back - 1.0).abs() < 1e-4, "{there} and {back}");
    let largest = curvature.dominant(&one, SEARCHED).expect("finite");
    assert!(largest > dot(&along_one, &one).max(dot(&along_other, &other)), "{largest}");
}

/// The reports of a search of the tiny network at the end of each epoch.
fn measured(change: impl Fn(&mut SearchConfig)) -> Vec<Option<f64>> {
    let mut config = tiny::config();
    config.transition.enabled = false;
    config.search.relaxation = Relaxation::Softmax;
    config.search.epochs = 3;
    (config.rule.eigenvalue_every, config.rule.eigenvalue_images) = (Some(2), 4);
    change(&mut config);
    let mut search = tiny::search(config);
    while search.advance().expect("a finite search").is_some() {}
    search.history().iter().map(|report| report.eigenvalue).collect()
}

/// Every rule has a curvature, also a rule that computes a single operation in its steps.
#[test]
fn every_rule_is_measured_at_its_interval() {
    type Change = fn(&mut SearchConfig);
    let rules: [(&str, Change); 9] = [
        ("softmax", |_| ()),
        ("cross-edge", |config| config.search.relaxation = Relaxation::CrossEdge),
        ("sigmoid", |config| {
            config.search.relaxation = Relaxation::Sigmoid;
            config.rule.zero_one = Some(Schedule::constant(10.0));
        }),
        ("concrete", |config| config.rule.sampling = Some(Sampling::Concrete)),
        ("straight-through", |config| config.rule.sampling = Some(Sampling::StraightThrough)),
        ("gates", |config| config.rule.sampling = Some(Sampling::Gates)),
        ("dirichlet", |config| {
            config.rule.sampling = Some(Sampling::Dirichlet);
            config.rule.dirichlet_kl = Some(Schedule::constant(1e-3));
        }),
        ("a skip beside, and a cost", |config| {
            config.rule.auxiliary_skip = Some(Schedule::line(1.0, 0.0));
            config.rule.cost = Some(CostMeasure::Parameters);
        }),
        ("parts and weights of edges", |config| {
            config.rule.edge_weights = true;
            (config.rule.partial_channels, config.network.init_channels) = (2, 4);
        }),
    ];
    for (name, rule) in rules {
        let found = measured(rule);
        println!("{name}: {found:?}");
        assert!(matches!(found[..], [Some(_), None, Some(_)]), "{name}: {found:?}");
        // The value is more than the weight decay alone, which would be equal in both measurements.
        assert_ne!(found[0], found[2], "{name}");
    }
}

/// A search with a measurement takes the same steps as one without.
#[test]
fn measuring_moves_nothing() {
    let end = |every| {
        let config = SearchConfig {
            rule: RuleConfig { eigenvalue_every: every, ..RuleConfig::default() },
            ..tiny::config()
        };
        let mut search = tiny::search(config);
        while search.advance().expect("a finite search").is_some() {}
        (tiny::state(search.supernet()), search.alpha().values())
    };
    assert!(end(Some(1)) == end(None));
}

/// An early stop that always fires, after the second measurement.
#[test]
fn a_growing_eigenvalue_ends_a_search() {
    let stop = Eigenvalue { window: 1, factor: 1e-9, first_epoch: 0, delta: 1 };
    let found = measured(|config| {
        config.search.epochs = 5;
        config.rule.eigenvalue_every = Some(1);
        config.rule.stop = Some(Stop::Eigenvalue(stop));
    });
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn settings_of_the_measurement_are_checked() {
    let refused = |change: fn(&mut RuleConfig), words: [&str; 2]| {
        let mut config = tiny::config();
        change(&mut config.rule);
        let error = config.validate("some.toml").expect_err("a fault").to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    refused(|rule| rule.eigenvalue_every = Some(0), ["rule.eigenvalue_every", "1 or more"]);
    refused(|rule| rule.eigenvalue_images = 1, ["rule.eigenvalue_images", "2 to 4096"]);
    refused(
        |rule| rule.stop = Some(Stop::Eigenvalue(Eigenvalue::default())),
        ["rule.stop", "without `rule.eigenvalue_every`"],
    );
}
