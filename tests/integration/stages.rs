//! Stages: fewer candidates on each edge, other networks, and a genotype at the end.

use burn::tensor::Device;
use ec_darts::architecture::{ArchitectureParameters, Strength};
use ec_darts::config::{SearchConfig, StagesConfig};
use ec_darts::network::StemKind;
use ec_darts::perturbation::Matrix;
use ec_darts::relaxation::Relaxation;
use ec_darts::rule::Rule;
use ec_darts::sampling::{Draw, Sampling};
use ec_darts::train::{Done, Event, Retraining};
use ec_darts_space::schedule::Dropout;
use ec_darts_space::{
    Candidates, CellKind, CellTopology, Discretization, PerKind, Primitive, Schedule, SearchSpace,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{retrain, tiny};

/// P-DARTS on a tiny network: three stages of two epochs of two steps.
pub fn config() -> SearchConfig {
    let mut config = tiny::config();
    config.search.relaxation = Relaxation::Softmax;
    config.transition.enabled = false;
    config.stages = StagesConfig {
        cells: vec![3, 4, 5],
        drop: vec![3, 2],
        added_channels: vec![0, 0, 2],
        ..StagesConfig::default()
    };
    let dropout = |rate| Schedule::Dropout(Dropout { rate, frozen: 1 });
    config.rule.skip_dropout = vec![dropout(0.1), dropout(0.4), dropout(0.7)];
    config.rule.discretization = Discretization::FewSkips { at_most: 2 };
    (config.alpha.frozen_epochs, config.alpha.clip_norm) = (1, Some(5.0));
    config
}

/// DrNAS on a tiny network: two stages, of which the second goes on with the weights of the first.
pub fn progressive() -> SearchConfig {
    let mut config = tiny::config();
    config.search.relaxation = Relaxation::Softmax;
    config.transition.enabled = false;
    config.rule.sampling = Some(Sampling::Dirichlet);
    (config.rule.partial_channels, config.network.init_channels) = (4, 4);
    config.stages = StagesConfig {
        cells: vec![3, 3],
        drop: vec![3],
        partial_channels: vec![4, 2],
        keep_weights: true,
        ..StagesConfig::default()
    };
    config.network.num_cells = 3;
    config.alpha.frozen_epochs = 1;
    config
}

#[test]
fn kept_weights_go_on_wider() {
    let config = progressive();
    let epochs = config.search.epochs;
    let mut search = tiny::search(config);
    let mut before = None;
    let mut rates = Vec::new();
    loop {
        let done = search.work().expect("a finite search");
        for event in search.take_events() {
            if let Event::Step(report) = event {
                rates.push((report.epoch, report.learning_rate));
            }
        }
        if done == Done::Epoch && search.epoch() == epochs {
            break;
        }
        before = Some((tiny::state(search.supernet()), search.alpha().values()));
    }
    let (old, alpha) = before.expect("a stage of several steps");
    let new = tiny::state(search.supernet());
    let (mut same, mut wider) = (0, 0);
    for (name, new) in &new {
        let old = &old[name];
        let (from, to) = (old.shape().to_vec(), new.shape().to_vec());
        let [old, new] = [old, new].map(|data| data.iter::<f32>().collect::<Vec<f32>>());
        if from == to {
            assert_eq!(old, new, "{name}");
            same += 1;
            continue;
        }
        // The first output keeps the values of the inputs that it had.
        let inner: usize = from.iter().skip(1).product();
        let kept = inner.min(to.iter().skip(1).product());
        assert!(to[0] > from[0], "{name}: {from:?} {to:?}");
        assert_eq!(old[..kept], new[..kept], "{name}");
        wider += 1;
    }
    assert!(same > 10 && wider > 50, "{same} {wider}");
    assert!(new.len() < old.len(), "candidates are dropped");
    // Alpha of the candidates that are left has not moved.
    let left: Vec<f32> = search.alpha().values().normal;
    let kept = left.iter().zip(&alpha.normal).filter(|(now, before)| now == before).count();
    let dropped = left.iter().filter(|&&now| now == 0.0).count();
    assert_eq!((kept, dropped), (left.len() * 5 / 8, left.len() * 3 / 8));
    while search.work().expect("a finite search") != Done::Everything {}
    for event in search.take_events() {
        if let Event::Step(report) = event {
            rates.push((report.epoch, report.learning_rate));
        }
    }
    assert!(rates.is_sorted_by(|before, after| before.1 >= after.1), "{rates:?}");
    search.best().expect("an end").genotype.validate().expect("a genotype");
}

fn counts(space: &SearchSpace) -> Vec<usize> {
    let edges = space.all_candidates().0.iter().flat_map(|(_, edges)| edges);
    let mut counts: Vec<usize> = edges.map(Vec::len).collect();
    counts.dedup();
    counts
}

#[test]
fn three_stages_end_in_a_genotype_that_is_retrained() {
    let mut search = tiny::search(config());
    let mut stages = Vec::new();
    while search.work().expect("a finite search") != Done::Everything {
        let cells = search.supernet().cells.len();
        let channels = search.supernet().cells[0].cell.inputs[0].channels[1];
        stages.push((cells, channels, counts(search.space())));
        for event in search.take_events() {
            match event {
                Event::Step(report) => assert_eq!(report.stage, Some(report.epoch / 2 + 1)),
                Event::Epoch(report) => {
                    assert_eq!((report.stage, report.epochs), (Some(report.epoch / 2 + 1), 6));
                    assert_eq!(report.alpha.candidates.is_some(), report.epoch >= 2);
                }
                Event::Transition(_) => panic!("no transition"),
            }
        }
    }
    stages.dedup();
    assert_eq!(stages, [(3, 2, vec![8]), (4, 2, vec![5]), (5, 4, vec![3])]);
    let best = search.best().expect("an epoch is over");
    assert_eq!(best.epoch, 5);
    assert!(search.space().contains(&best.genotype));
    let skips = best.genotype.normal.count(|each| each == Primitive::SkipConnect);
    assert!(skips <= 2, "{skips} skips");
    let data = retrain::data();
    let retraining = Retraining::new(retrain::config(), &best.genotype, &data, &Device::flex());
    retraining.expect("a genotype").advance().expect("a finite step");
}

/// The first epoch of a stage has the learning rate and the frozen alpha of the first epoch of all.
#[test]
fn every_stage_starts_anew() {
    let mut search = tiny::search(config());
    let mut rates = Vec::new();
    let mut moved = Vec::new();
    let mut before = search.alpha().values();
    while let Some(event) = search.advance().expect("a finite search") {
        let Event::Epoch(report) = event else { continue };
        rates.push(report.learning_rate);
        moved.push(report.alpha.normal.concat() != before.normal);
        // After the last epoch of a stage, the space is that of the next stage.
        before = search.alpha().values();
    }
    assert_eq!(rates[..2], rates[2..4]);
    assert_eq!(rates[..2], rates[4..]);
    assert_eq!(moved, [false, true, false, true, false, true]);
}

/// Exactly the weakest candidates by alpha are dropped.
#[test]
fn the_weakest_go_at_the_border() {
    let mut search = tiny::search(config());
    let mut last = None;
    while counts(search.space()) == [8] {
        match search.advance().expect("a finite search") {
            Some(Event::Epoch(report)) => last = Some(report.alpha),
            Some(_) => {}
            None => panic!("no second stage"),
        }
    }
    let alpha = last.expect("an epoch");
    for (kind, rows) in (PerKind { normal: alpha.normal, reduction: alpha.reduction }).iter() {
        for (edge, row) in rows.iter().enumerate() {
            let mut order: Vec<usize> = (0..8).collect();
            order.sort_by(|&a, &b| row[a].total_cmp(&row[b]));
            let mut kept: Vec<usize> = order[3..].to_vec();
            kept.sort_unstable();
            let kept: Vec<Primitive> = kept.into_iter().map(|at| Primitive::DARTS[at]).collect();
            assert_eq!(search.space().candidates(kind, edge), kept, "edge {edge} of {kind}");
        }
    }
}

fn restricted() -> SearchSpace {
    use Primitive::{AvgPool3x3, DilConv3x3, None as Nothing, SepConv3x3, SkipConnect};
    let space =
        SearchSpace::new(Primitive::DARTS.to_vec(), CellTopology::new(2, 2).expect("a cell"));
    let lists: [&[Primitive]; 5] = [
        &[Nothing, SkipConnect],
        &[AvgPool3x3, SepConv3x3],
        &[SepConv3x3],
        &[Nothing, SkipConnect, SepConv3x3],
        &[SkipConnect, DilConv3x3],
    ];
    let edges: Vec<Vec<Primitive>> = lists.iter().map(|list| list.to_vec()).collect();
    let candidates = Candidates(PerKind::both(edges.clone(), edges));
    space.expect("a space").restricted(candidates).expect("some of each edge")
}

/// Under every rule: primitives that are no candidates have weight exactly zero and no gradient;
/// the others have the values that they would have alone.
#[test]
fn only_candidates_have_weight() {
    let space = restricted();
    let device = Device::flex().autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let alpha = ArchitectureParameters::new(&space, 1.0, &mut rng, &device);
    let is_candidate = |place: usize| {
        let primitive = Primitive::DARTS[place % 8];
        space.candidates(CellKind::Normal, place / 8).contains(&primitive)
    };
    let rules = [
        (Relaxation::Softmax, None),
        (Relaxation::CrossEdge, None),
        (Relaxation::Sigmoid, None),
        (Relaxation::CrossEdge, Some(Sampling::Concrete)),
        (Relaxation::Softmax, Some(Sampling::Concrete)),
        (Relaxation::Softmax, Some(Sampling::StraightThrough)),
        (Relaxation::Softmax, Some(Sampling::Dirichlet)),
    ];
    for (relaxation, sampling) in rules {
        let rule = Rule { sampling, temperature: 0.5, ..Rule::from(relaxation) };
        let draws = (0..20).map(|_| match sampling {
            Some(sampling) => sampling.draw(&alpha.values(), 8, &mut rng),
            None => Draw::Mode,
        });
        for draw in draws.collect::<Vec<_>>() {
            let mixing = rule.mixing(&space, &alpha, &draw);
            let weights = tiny::values(mixing.weights.normal.clone());
            for (place, &weight) in weights.iter().enumerate() {
                assert!(weight.is_finite() && (is_candidate(place) || weight == 0.0), "{rule:?}");
            }
            for group in relaxation.groups(&space, CellKind::Normal) {
                let sum: f32 = group.iter().map(|&place| weights[place]).sum();
                assert!(relaxation == Relaxation::Sigmoid || (sum - 1.0).abs() < 1e-5, "{rule:?}");
            }
            let upstream = tiny::tensor::<2>(3, [5, 8], &device);
            let loss = (mixing.weights.normal * upstream).sum();
            let gradients = loss.backward();
            let Some(gradient) = alpha.normal.val().grad(&gradients) else { continue };
            for (place, value) in tiny::values(gradient).into_iter().enumerate() {
                assert!(value.is_finite() && (is_candidate(place) || value == 0.0), "{rule:?}");
            }
        }
        let genotype = rule.genotype(&space, &alpha, Strength::Mixing).expect("finite");
        assert!(space.contains(&genotype));
    }
    // An edge with one candidate is decided; an edge with two equal candidates is fully undecided.
    let even = [0.5, 0.5].repeat(20);
    let groups = Relaxation::Softmax.groups(&space, CellKind::Normal);
    assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1, 3, 2]);
    let matrix = Matrix { space: &space, relaxation: Relaxation::Softmax };
    let clipped = matrix.clip(CellKind::Normal, &even);
    assert!((0..40).all(|place| is_candidate(place) == (clipped[place] > 0.0)), "{clipped:?}");
}

/// Operations that an edge does not keep have no weights in the network.
#[test]
fn only_candidates_have_parameters() {
    let space = restricted();
    let config = ec_darts::network::SupernetConfig {
        space: space.clone(),
        init_channels: 2,
        num_cells: 3,
        ..ec_darts::network::SupernetConfig::new(StemKind::Cifar, 2)
    };
    let supernet = config.init(&mut ChaCha8Rng::seed_from_u64(0), &Device::flex());
    let mut operations: Vec<(usize, usize)> = Vec::new();
    for name in tiny::state(&supernet).into_keys() {
        let parts: Vec<&str> = name.split('.').collect();
        if let ["module", "cells", "0", "edges", edge, "operations", operation, ..] = parts[..] {
            operations.push([edge, operation].map(|part| part.parse().expect("a number")).into());
        }
    }
    operations.sort_unstable();
    operations.dedup();
    // Pools have statistics; a skip connection of stride 1 has none. The numbers are those of the
    // space without `none`.
    assert_eq!(operations, [(1, 1), (1, 3), (2, 3), (3, 3), (4, 5)]);
}
