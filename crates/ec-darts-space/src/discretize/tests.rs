use super::*;
use crate::Candidates;
use proptest::prelude::*;

/// Writes nodes apart by `|` and picks apart by `,`, strongest first.
fn check(space: &SearchSpace, strength: &[f32], expected: &str) {
    check_by(Discretization::Edges, space, strength, expected);
}

fn check_by(rule: Discretization, space: &SearchSpace, strength: &[f32], expected: &str) {
    let genotype = rule.genotype(space, PerKind::from([strength; 2])).unwrap();
    genotype.validate().unwrap();
    assert!(space.contains(&genotype));
    let cell = genotype.normal;
    let node = |picks: &Vec<Pick>| {
        let picks = picks.iter().map(|pick| format!("{} {}", pick.primitive, pick.from));
        picks.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(cell.nodes.iter().map(node).collect::<Vec<_>>().join(" | "), expected);
}

fn error(space: &SearchSpace, strength: &[f32]) -> String {
    discretize(space, PerKind::from([strength; 2])).unwrap_err().to_string()
}

// An independent PyTorch reference gave the answers of the cases below:
//
//     best = [(row[op], op, source) for source, row in enumerate(strength.tolist())
//             for op in [max(range(1, len(row)), key=lambda k: row[k])]]
//     best.sort(key=lambda entry: -entry[0])
//     picks = [(PRIMITIVES[op], source) for _, op, source in best[:2]]
//
// Random numbers (torch.randn) are rounded to two digits after the point.

#[test]
fn equal_strengths_give_the_first_primitive_and_the_first_sources() {
    let node = "max_pool_3x3 0, max_pool_3x3 1";
    check(&SearchSpace::darts(), &[0.25; 14 * 8], &[node; 4].join(" | "));
}

#[test]
fn tied_primitives_and_tied_edges() {
    let row = [-0.02, 0.11, 0.06, 2.0, 0.05, 2.0, 2.0, -0.16];
    let node = "skip_connect 0, skip_connect 1";
    check(&SearchSpace::darts(), &row.repeat(14), &[node; 4].join(" | "));
}

#[test]
fn first_and_last_edge_tie_at_the_top_and_the_others_below() {
    let space = SearchSpace::darts();
    let mut strength = vec![0.0; 14 * 8];
    for node in 0..4 {
        let edges = space.topology().edges_into(node);
        let (first, last) = (edges.start, edges.end - 1);
        edges.for_each(|edge| strength[edge * 8 + 2] = 1.0);
        strength[first * 8 + 7] = 1.5;
        strength[last * 8 + 4] = 1.5;
    }
    let node = |last| format!("dil_conv_5x5 0, sep_conv_3x3 {last}");
    check(&space, &strength, &[1, 2, 3, 4].map(node).join(" | "));
}

#[test]
fn none_does_not_count_even_where_it_is_largest() {
    #[rustfmt::skip]
    let strength = [
        9.0,  1.53,  1.99,  0.43, -1.00,  0.37,  0.81,  0.74,
        9.0,  1.40,  1.71,  0.08, -0.60, -1.46, -0.16, -0.32,

        9.0, -0.86,  0.14, -0.46,  0.11,  1.50,  0.04,  1.93,
        9.0, -1.16, -0.47, -0.39,  0.60,  0.11,  0.63,  1.47,
        9.0, -0.21,  0.79,  0.51, -0.18,  1.10,  0.09,  0.62,

        9.0, -0.95, -0.77, -0.07, -0.53,  0.41, -0.36,  0.48,
        9.0,  0.90, -0.54, -0.80, -0.27,  0.74,  1.30,  0.71,
        9.0,  0.20,  0.48, -1.52,  1.69, -1.49, -2.04,  0.63,
        9.0,  1.15, -0.42,  0.42, -0.16, -0.90,  1.38,  0.61,

        9.0,  0.44,  0.69,  0.78, -0.79,  0.58,  0.88, -0.22,
        9.0,  1.31, -0.11,  1.21, -0.66, -0.45,  1.63, -0.59,
        9.0, -2.03,  0.07,  0.40, -0.65, -0.43,  1.06,  0.48,
        9.0,  0.25,  0.07, -1.20, -1.35, -1.41,  0.57,  0.43,
        9.0, -0.56, -1.09, -0.16,  0.10,  0.48,  0.99,  2.34,
    ];
    check(
        &SearchSpace::darts(),
        &strength,
        "avg_pool_3x3 0, avg_pool_3x3 1 | dil_conv_5x5 0, dil_conv_5x5 1 | \
         sep_conv_3x3 2, dil_conv_3x3 3 | dil_conv_5x5 4, dil_conv_3x3 1",
    );
}

#[test]
fn negative_strengths_are_as_good_as_positive_ones() {
    #[rustfmt::skip]
    let strength = [
        -1.19, -1.89, -1.06, -2.17, -2.34, -1.11, -1.12, -1.07,
        -1.67, -2.09, -1.10, -1.46, -2.46, -1.97, -1.30, -1.78,

        -2.18, -1.90, -1.09, -1.81, -1.42, -2.73, -1.52, -1.94,
        -1.64, -3.10, -1.58, -1.60, -2.13, -1.17, -2.43, -1.79,
        -2.71, -1.24, -1.29, -2.16, -1.19, -1.65, -1.49, -1.30,
    ];
    let space = SearchSpace::new(Primitive::DARTS.to_vec(), CellTopology::new(2, 2).unwrap());
    let expected = "avg_pool_3x3 0, avg_pool_3x3 1 | avg_pool_3x3 0, sep_conv_5x5 1";
    check(&space.unwrap(), &strength, expected);
}

#[test]
fn other_spaces() {
    let primitives = vec![Primitive::SepConv3x3, Primitive::SkipConnect, Primitive::None];
    let space = |edges_kept| {
        let topology = CellTopology::new(2, edges_kept).unwrap();
        SearchSpace::new(primitives.clone(), topology).unwrap()
    };
    #[rustfmt::skip]
    let strength = [
        0.1, 0.1, 5.0,
        0.3, 0.2, 5.0,

        0.0, 0.4, 5.0,
        0.5, 0.6, 5.0,
        0.1, 0.2, 5.0,
    ];
    check(&space(1), &strength, "sep_conv_3x3 1 | skip_connect 1");
    // The first node has only two edges and keeps both.
    check(
        &space(9),
        &strength,
        "sep_conv_3x3 1, sep_conv_3x3 0 | skip_connect 1, skip_connect 0, skip_connect 2",
    );
}

#[test]
fn a_matrix_of_another_size_or_without_numbers_is_refused() {
    let space = SearchSpace::darts();
    assert_eq!(
        error(&space, &[0.0; 111]),
        "111 strengths, expected 14 edges times 8 primitives, which is 112"
    );
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut strength = [0.0; 112];
        strength[3 * 8 + 5] = value;
        let message = "the strength of `sep_conv_5x5` on edge 3 is";
        assert_eq!(error(&space, &strength), format!("{message} {value}, not a finite number"));
    }
}

use Primitive::{None as Nothing, SepConv3x3 as Sep, SkipConnect as Skip};

/// Two nodes over `none`, `skip_connect` and `sep_conv_3x3`, two edges kept.
fn small() -> SearchSpace {
    SearchSpace::new(vec![Nothing, Skip, Sep], CellTopology::new(2, 2).unwrap()).unwrap()
}

#[test]
fn pairs_may_share_a_source() {
    #[rustfmt::skip]
    let strength = [
        0.9, 0.5, 0.4,
        0.9, 0.3, 0.2,

        0.9, 0.1, 0.1,
        0.9, 0.1, 0.3,
        0.9, 0.3, 0.2,
    ];
    let expected = "skip_connect 0, sep_conv_3x3 0 | sep_conv_3x3 1, skip_connect 2";
    check_by(Discretization::Pairs, &small(), &strength, expected);
}

#[test]
fn thresholds() {
    let by = |form| Discretization::Threshold { at_least: 0.5, form };
    #[rustfmt::skip]
    let strength = [
        0.9, 0.5, 0.6,
        0.9, 0.4, 0.4,

        0.9, 0.8, 0.4,
        0.9, 0.7, 0.9,
        0.9, 0.6, 0.9,
    ];
    let sparse = "sep_conv_3x3 0 | sep_conv_3x3 1, sep_conv_3x3 2";
    check_by(by(ThresholdForm::Sparse), &small(), &strength, sparse);
    let edge = "sep_conv_3x3 0, skip_connect 0 | sep_conv_3x3 1, sep_conv_3x3 2, \
                skip_connect 0, skip_connect 1, skip_connect 2";
    check_by(by(ThresholdForm::Edge), &small(), &strength, edge);
    // The first node has no pick, so that the second node cannot read it.
    let mut low = strength;
    low[1..3].fill(0.1);
    let rest = " | sep_conv_3x3 1";
    check_by(by(ThresholdForm::Sparse), &small(), &low, rest);
    let nothing = "the normal cell keeps nothing: no edges that lead from an input to the output have \
                   strengths of 0.95 or more, the largest strength is 0.9";
    let high = Discretization::Threshold { at_least: 0.95, form: ThresholdForm::Edge };
    let error = high.genotype(&small(), PerKind::from([&strength[..]; 2])).unwrap_err();
    assert_eq!(error.to_string(), nothing);
}

#[test]
fn every_edge_but_those_of_none() {
    #[rustfmt::skip]
    let strength = [
        0.2, 0.5, 0.4,
        0.9, 0.3, 0.2,

        0.2, 0.3, 0.3,
        0.1, 0.1, 0.3,
        0.2, 0.3, 0.9,
    ];
    let expected = "skip_connect 0 | skip_connect 0, sep_conv_3x3 1, sep_conv_3x3 2";
    check_by(Discretization::EveryEdge, &small(), &strength, expected);
    let mut none = [0.0; 15];
    none[..].iter_mut().step_by(3).for_each(|value| *value = 1.0);
    // An edge between nodes is not enough.
    none[12..].copy_from_slice(&[0.0, 1.0, 0.0]);
    let error = Discretization::EveryEdge.genotype(&small(), PerKind::from([&none[..]; 2]));
    assert_eq!(
        error.unwrap_err().to_string(),
        "the normal cell keeps nothing: on every way from an input to the output `none` is the \
         strongest of an edge"
    );
}

#[test]
fn skips_are_ruled_out_one_by_one() {
    #[rustfmt::skip]
    let strength = [
        0.0, 0.7, 0.3,
        0.0, 0.9, 0.1,

        0.0, 0.8, 0.2,
        0.0, 0.1, 0.6,
        0.0, 0.75, 0.25,
    ];
    let check = |at_most, expected: &str| {
        check_by(Discretization::FewSkips { at_most }, &small(), &strength, expected);
    };
    check(8, "skip_connect 0, skip_connect 1 | skip_connect 0, skip_connect 2");
    // Node 0 keeps both edges; 0.7 is the weakest.
    check(3, "sep_conv_3x3 0, skip_connect 1 | skip_connect 0, skip_connect 2");
    check(2, "sep_conv_3x3 0, skip_connect 1 | skip_connect 0, sep_conv_3x3 1");
    check(1, "sep_conv_3x3 0, skip_connect 1 | sep_conv_3x3 1, sep_conv_3x3 2");
    check(0, "sep_conv_3x3 0, sep_conv_3x3 1 | sep_conv_3x3 1, sep_conv_3x3 2");
    let both = PerKind::from([&strength[..]; 2]);
    let genotype = Discretization::FewSkips { at_most: 0 }.genotype(&small(), both).unwrap();
    assert_eq!(genotype.cell(CellKind::Reduction).count(|each| each == Skip), 4);

    let skips = vec![vec![Skip]; 5];
    let normal = vec![vec![Skip], vec![Skip], vec![Skip, Sep], vec![Sep], vec![Sep]];
    let space = small().restricted(Candidates(PerKind::both(normal, skips))).unwrap();
    check_by_normal(
        &space,
        &strength,
        2,
        "skip_connect 0, skip_connect 1 | sep_conv_3x3 1, sep_conv_3x3 2",
    );
    let error = Discretization::FewSkips { at_most: 1 }.genotype(&space, both).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the normal cell has 2 skip connections on edges without another candidate, allowed: 1"
    );
}

fn check_by_normal(space: &SearchSpace, strength: &[f32], at_most: usize, expected: &str) {
    check_by(Discretization::FewSkips { at_most }, space, strength, expected);
}

#[test]
fn in_nas_bench_201_the_last_node_is_the_output() {
    let space = SearchSpace::nas_bench_201();
    let column = |edge: usize| [1, 3, 0, 4, 0, 2][edge];
    let mut strength = [0.1; 30];
    (0..6).for_each(|edge| strength[5 * edge + column(edge)] = 0.5);
    let expected = "skip_connect 1 | nor_conv_3x3 1 | avg_pool_3x3 1, nor_conv_1x1 3";
    check_by(Discretization::EveryEdge, &space, &strength, expected);
    let cell = discretize(&space, PerKind::from([&strength[..]; 2])).unwrap().normal;
    let counts: Vec<usize> = cell.nodes.iter().map(Vec::len).collect();
    assert_eq!((&counts[..], &cell.concat[..]), (&[1, 2, 3][..], &[4][..]));
    (3..6).for_each(|edge| strength[5 * edge] = 0.9);
    let nothing = Discretization::EveryEdge.genotype(&space, PerKind::from([&strength[..]; 2]));
    assert!(matches!(nothing, Err(Error::NothingKept { .. })));
}

#[test]
fn only_candidates_are_read() {
    let normal = vec![vec![Sep], vec![Nothing, Sep], vec![Skip], vec![Sep], vec![Skip, Sep]];
    let both = PerKind::both(normal.clone(), normal);
    let space = small().restricted(Candidates(both)).unwrap();
    #[rustfmt::skip]
    let strength = [
        f32::NAN, 0.9, 0.3,
        0.5, f32::INFINITY, 0.4,

        0.9, 0.2, 0.9,
        0.9, 0.9, 0.1,
        0.9, 0.3, 0.4,
    ];
    check(&space, &strength, "sep_conv_3x3 1, sep_conv_3x3 0 | sep_conv_3x3 2, skip_connect 0");
    let every = "sep_conv_3x3 0 | skip_connect 0, sep_conv_3x3 1, sep_conv_3x3 2";
    check_by(Discretization::EveryEdge, &space, &strength, every);
}

#[test]
fn text_forms() {
    for (rule, text) in [
        (Discretization::Edges, r#""edges""#),
        (Discretization::EveryEdge, r#""every-edge""#),
        (Discretization::FAIR_DARTS, r#"{"threshold":{"at_least":0.85,"form":"sparse"}}"#),
        (Discretization::FewSkips { at_most: 2 }, r#"{"few-skips":{"at_most":2}}"#),
    ] {
        assert_eq!(serde_json::to_string(&rule).unwrap(), text);
        assert_eq!(serde_json::from_str::<Discretization>(text).unwrap(), rule);
    }
}

proptest! {
    #[test]
    fn what_is_kept_is_at_least_as_strong_as_what_is_not(
        strength in prop::collection::vec(-3_i8..3, 14 * 8)
    ) {
        let space = SearchSpace::darts();
        let strength: Vec<f32> = strength.into_iter().map(f32::from).collect();
        let cell = discretize(&space, PerKind::from([&strength[..]; 2])).unwrap().normal;
        cell.validate().unwrap();
        for (node, picks) in cell.nodes.iter().enumerate() {
            let of = |from: usize, column: usize| {
                strength[space.topology().edge_number(from, node) * 8 + column]
            };
            let kept = picks.iter().map(|p| of(p.from, p.primitive as usize));
            let weakest = kept.fold(f32::INFINITY, f32::min);
            for from in (0..node + 2).filter(|&from| picks.iter().all(|p| p.from != from)) {
                prop_assert!((1..8).all(|column| of(from, column) <= weakest));
            }
        }
    }
}
