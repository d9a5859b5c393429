//! Relaxations on random cells: any number of nodes, any primitives, any alpha.

use burn::tensor::{Device, Tensor, TensorData};
use ec_darts::network::{CellForm, CellPlan, Map, SearchCell};
use ec_darts::ops::draw_parameters;
use ec_darts::relaxation::Relaxation::{self, CrossEdge, Softmax};
use ec_darts_space::{CellKind, CellTopology, Primitive, SearchSpace};
use proptest::prelude::*;
use proptest::sample::subsequence;
use proptest::test_runner::TestRunner;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::tiny;

/// Alpha of one cell.
#[derive(Clone, Debug)]
struct Cell {
    space: SearchSpace,
    alpha: Vec<f32>,
}

impl Cell {
    fn topology(&self) -> &CellTopology {
        self.space.topology()
    }

    fn width(&self) -> usize {
        self.space.primitives().len()
    }

    fn shape(&self) -> [usize; 2] {
        [self.topology().num_edges(), self.width()]
    }

    fn tensor(&self, alpha: &[f32], device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(alpha.to_vec(), self.shape()), device)
    }

    fn mixing(&self, relaxation: Relaxation, alpha: &[f32]) -> Vec<f32> {
        let alpha = self.tensor(alpha, &Device::flex());
        tiny::values(relaxation.mixing(alpha, self.topology()))
    }

    /// The groups of indices that compete, each with a sum of one.
    fn groups(&self, relaxation: Relaxation) -> Vec<Vec<usize>> {
        relaxation.groups(&self.space, CellKind::Normal)
    }
}

/// A cell of at most `nodes` nodes over some of the primitives in some order.
fn cells(nodes: usize) -> impl Strategy<Value = Cell> {
    let primitives = subsequence(Primitive::DARTS.to_vec(), 1..=8).prop_shuffle();
    let space = (1..=nodes, primitives).prop_filter_map("a candidate", |(nodes, primitives)| {
        SearchSpace::new(primitives, CellTopology::new(nodes, 2).ok()?).ok()
    });
    space.prop_flat_map(|space| {
        let count = space.topology().num_edges() * space.primitives().len();
        let alpha = prop::collection::vec(-3.0f32..3.0, count);
        alpha.prop_map(move |alpha| Cell { space: space.clone(), alpha })
    })
}

/// Checks a property on random cells, for both relaxations.
fn check(cases: u32, nodes: usize, property: impl Fn(&Cell, Relaxation)) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&cells(nodes), |cell| {
        property(&cell, Softmax);
        property(&cell, CrossEdge);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

fn assert_near(actual: &[f32], expected: &[f32]) {
    let near = |(a, e): (&f32, &f32)| (a - e).abs() <= 1e-6;
    assert!(actual.iter().zip(expected).all(near), "{actual:?} is not {expected:?}");
}

#[test]
fn what_competes_sums_to_one() {
    check(64, 6, |cell, relaxation| {
        let mixing = cell.mixing(relaxation, &cell.alpha);
        for group in cell.groups(relaxation) {
            let sum: f32 = group.iter().map(|&place| mixing[place]).sum();
            assert!((sum - 1.0).abs() < 1e-5, "{relaxation:?}: sum {sum}");
        }
        assert!(mixing.iter().all(|&weight| weight > 0.0), "{relaxation:?}: {mixing:?}");
    });
}

#[test]
fn a_constant_added_to_competitors_changes_nothing() {
    check(64, 6, |cell, relaxation| {
        let mut shifted = cell.alpha.clone();
        for (number, group) in cell.groups(relaxation).into_iter().enumerate() {
            for place in group {
                shifted[place] += number as f32 % 5.0 - 2.0;
            }
        }
        let mixing = cell.mixing(relaxation, &cell.alpha);
        assert_near(&cell.mixing(relaxation, &shifted), &mixing);
    });
}

#[test]
fn permuted_edges_of_a_node_have_permuted_weights() {
    check(64, 6, |cell, relaxation| {
        let turn_last_node = |rows: &[f32]| {
            let first = cell.topology().edges_into(cell.topology().num_nodes() - 1).start;
            let mut rows = rows.to_vec();
            rows[first * cell.width()..].rotate_left(cell.width());
            rows
        };
        let mixing = cell.mixing(relaxation, &cell.alpha);
        let of_turned = cell.mixing(relaxation, &turn_last_node(&cell.alpha));
        assert_near(&of_turned, &turn_last_node(&mixing));
    });
}

#[test]
fn gradients_are_those_of_finite_differences() {
    check(24, 3, |cell, relaxation| {
        let factors = tiny::numbers(3, cell.alpha.len());
        let device = Device::flex().autodiff();
        let alpha = cell.tensor(&cell.alpha, &device).require_grad();
        let mixing = relaxation.mixing(alpha.clone(), cell.topology());
        let loss = (mixing * cell.tensor(&factors, &device)).sum();
        let gradient = tiny::values(alpha.grad(&loss.backward()).expect("alpha is tracked"));
        let expected = tiny::differences(&cell.alpha, 1e-2, |alpha| {
            tiny::dot(&cell.mixing(relaxation, &alpha), &factors)
        });
        let norm = tiny::dot(&expected, &expected).sqrt();
        let miss: Vec<f32> = gradient.iter().zip(&expected).map(|(g, e)| g - e).collect();
        let miss = tiny::dot(&miss, &miss).sqrt();
        // A primitive alone in its group has weight one and gradient zero.
        assert!(miss <= 1e-3 * norm + 1e-4, "{relaxation:?}: off by {miss} of {norm}");
    });
}

#[test]
fn only_under_softmax_the_loss_moves_none() {
    check(24, 3, |cell, relaxation| {
        let device = Device::flex().autodiff();
        let map = Map { channels: 2, shrink: 1 };
        let plan = CellPlan { inputs: vec![map; 2], kind: CellKind::Normal, node: map };
        let network = SearchCell::new(&cell.space, &plan, CellForm::default(), &device);
        let network = draw_parameters(network, &mut ChaCha8Rng::seed_from_u64(3));
        let input = |seed| tiny::tensor(seed, [2, 2, 6, 6], &device);
        let alpha = cell.tensor(&cell.alpha, &device).require_grad();
        let mixing = relaxation.mixing(alpha.clone(), cell.topology());
        let output = network.forward(input(4), input(5), &network.weights_of(&mixing));
        let loss = (output.clone() * tiny::tensor(6, output.dims(), &device)).sum();
        let gradient = tiny::values(alpha.grad(&loss.backward()).expect("alpha is tracked"));
        for (column, &primitive) in cell.space.primitives().iter().enumerate() {
            let zero = gradient.iter().skip(column).step_by(cell.width()).all(|&g| g == 0.0);
            let alone = cell.width() == 1 && relaxation == Softmax;
            let exempt = primitive == Primitive::None && relaxation == CrossEdge;
            assert_eq!(zero, alone || exempt, "{relaxation:?}: {primitive}");
        }
    });
}
