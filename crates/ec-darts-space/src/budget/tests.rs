use super::*;
use crate::CellTopology;
use proptest::prelude::*;

fn small(num_nodes: usize, edges_kept: usize) -> SearchSpace {
    let primitives = vec![Primitive::None, Primitive::SkipConnect, Primitive::SepConv3x3];
    SearchSpace::new(primitives, CellTopology::new(num_nodes, edges_kept).unwrap()).unwrap()
}

/// Every list, extended by every item.
fn extend<T: Clone>(lists: Vec<Vec<T>>, by: &[T]) -> Vec<Vec<T>> {
    let with = |list: &Vec<T>, item: &T| [&list[..], std::slice::from_ref(item)].concat();
    lists.iter().flat_map(|list| by.iter().map(|item| with(list, item))).collect()
}

/// Every genotype of a space, by enumerating all choices on all edges.
fn all(space: &SearchSpace) -> Vec<Genotype> {
    let candidates = space.primitives().iter().filter(|&&each| each != Primitive::None);
    let mut cells = vec![vec![]];
    for node in 0..space.topology().num_nodes() {
        let mut nodes: Vec<Vec<Pick>> = vec![vec![]];
        for from in 0..NUM_INPUTS + node {
            let picks = candidates.clone().map(|&primitive| Pick { primitive, from });
            let with = extend(nodes.clone(), &picks.collect::<Vec<_>>());
            nodes.extend(with);
        }
        let kept = space.topology().edges_kept().min(NUM_INPUTS + node);
        nodes.retain(|picks| picks.len() == kept);
        cells = extend(cells, &nodes);
    }
    let concat: Vec<usize> = (2..2 + space.topology().num_nodes()).collect();
    let cell =
        |nodes: &Vec<Vec<Pick>>| CellGenotype { nodes: nodes.clone(), concat: concat.clone() };
    let pairs =
        cells.iter().flat_map(|normal| cells.iter().map(move |reduction| (normal, reduction)));
    pairs.map(|(a, b)| Genotype { normal: cell(a), reduction: Some(cell(b)) }).collect()
}

fn sum(space: &SearchSpace, strength: PerKind<&[f32]>, genotype: &Genotype) -> f64 {
    let of = |(kind, place, ..): (CellKind, usize, usize, Pick)| strength.cell(kind)[place];
    places(space, genotype).map(of).map(f64::from).sum()
}

/// Compares with the best of all genotypes. Strengths are small integers, so that sums are exact.
fn check(space: &SearchSpace, strength: &[i8], costs: [&[u8]; 2], at_most: [u64; 2]) {
    let size = space.topology().num_edges() * space.primitives().len();
    let strength: Vec<f32> = strength.iter().copied().map(f32::from).collect();
    let strength = PerKind::from([&strength[..size], &strength[size..2 * size]]);
    let limit = |number: usize| {
        let of = |range: std::ops::Range<usize>| {
            costs[number][range].iter().copied().map(u64::from).collect()
        };
        let picks = PerKind::both(of(0..size), of(size..2 * size));
        let name = ["parameters", "multiply-adds"][number];
        Limit { name, at_most: at_most[number], fixed: 3, picks }
    };
    let limits = [limit(0), limit(1)];
    let fits = |genotype: &&Genotype| {
        limits.iter().all(|limit| limit.cost(space, genotype) <= limit.at_most)
    };
    let genotypes = all(space);
    let sums = genotypes.iter().filter(fits).map(|genotype| sum(space, strength, genotype));
    let best = sums.reduce(f64::max);
    match discretize_within(space, strength, &limits) {
        Ok(found) => {
            found.genotype.validate().unwrap();
            assert!(fits(&&found.genotype));
            assert_eq!(Some(found.strength), best);
            assert_eq!(found.strength, sum(space, strength, &found.genotype));
            if fits(&&found.unlimited) {
                assert_eq!((&found.genotype, &found.trades[..]), (&found.unlimited, &[][..]));
            }
            let side = |side: &[(Pick, f32)]| side.iter().map(|&(_, s)| f64::from(s)).sum();
            let lost = |trade: &Trade| -> f64 {
                let [given, taken]: [f64; 2] = [side(&trade.given_up), side(&trade.taken)];
                given - taken
            };
            let lost: f64 = found.trades.iter().map(lost).sum();
            assert_eq!(lost, found.unlimited_strength - found.strength);
        }
        Err(error) => {
            assert_eq!(best, None, "{error}");
            for limit in &limits {
                let costs = genotypes.iter().map(|genotype| limit.cost(space, genotype));
                let smallest = costs.min().unwrap();
                let (most, name) = (limit.at_most, limit.name);
                let text = format!("at most {most} {name} (smallest possible: {smallest})");
                assert!(error.to_string().contains(&text), "{text}: {error}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn it_is_the_best_of_all(
        strength in prop::collection::vec(-4_i8..9, 30),
        parameters in prop::collection::vec(0_u8..9, 30),
        products in prop::collection::vec(0_u8..9, 30),
        edges_kept in 1_usize..4,
        most in [3_u64..40, 3_u64..40],
    ) {
        // 6,400 genotypes or fewer.
        check(&small(2, edges_kept), &strength, [&parameters, &products], most);
    }
}

#[test]
fn the_space_of_darts() {
    // These costs resemble the costs of networks: they depend on primitive and stride.
    let space = SearchSpace::darts();
    let cost = |edge: usize, column: usize| match column {
        4 => 20 + u64::from(edge < 2),
        5 => 23 + 3 * u64::from(edge < 2),
        6 => 10,
        7 => 12 + u64::from(edge < 2),
        _ => 0,
    };
    let matrix = |factor: u64| -> Vec<u64> {
        (0..112).map(|place| factor * cost(place / 8, place % 8)).collect()
    };
    // The low digits of powers have no order and no ties.
    let strength: Vec<f32> = (1_u64..=224).map(|n| (n.pow(5) % 1009) as f32 / 1009.0).collect();
    let (normal, reduction) = strength.split_at(112);
    let strength = PerKind::both(normal, reduction);
    let limit = |at_most| Limit {
        name: "parameters",
        at_most,
        fixed: 100,
        picks: PerKind::both(matrix(5), matrix(7)),
    };
    let mut last = f64::NEG_INFINITY;
    for at_most in (100..1500).step_by(50) {
        let limits = [limit(at_most)];
        let found = discretize_within(&space, strength, &limits).unwrap();
        assert!(limits[0].cost(&space, &found.genotype) <= at_most);
        assert!(found.strength >= last, "a larger budget is never worse");
        last = found.strength;
    }
    let unlimited = discretize_within(&space, strength, &[]).unwrap();
    assert_eq!(last, unlimited.strength);
}

#[test]
fn nothing_fits() {
    let space = small(1, 2);
    let limit = |name, at_most, skip, sep| {
        let costs = vec![0, skip, sep, 0, skip, sep];
        let picks = PerKind::both(costs.clone(), costs);
        Limit { name, at_most, fixed: 10, picks }
    };
    let error = |limits: &[Limit]| {
        let found = discretize_within(&space, PerKind::from([&[0.0; 6][..]; 2]), limits);
        found.unwrap_err().to_string()
    };
    assert_eq!(
        error(&[limit("parameters", 13, 1, 9)]),
        "no genotype keeps the budget: at most 13 parameters (smallest possible: 14)"
    );
    assert_eq!(
        error(&[limit("parameters", 15, 1, 9), limit("products", 15, 9, 1)]),
        "no genotype keeps the budget: at most 15 parameters (smallest possible: 14) and at most \
         15 products (smallest possible: 14), each of which can be kept, but not together"
    );
}
