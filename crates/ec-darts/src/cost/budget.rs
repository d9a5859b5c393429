//! From a budget for the whole network to limits for the operations of a cell.

use ec_darts_space::{CellKind, Limit, SearchSpace};

use super::{Cost, NetworkCost, operation};
use crate::network::EvaluationConfig;

/// The largest cost of a network, without its auxiliary head.
///
/// Turn it into limits for [`discretize_within`](ec_darts_space::discretize_within):
///
/// ```
/// use ec_darts::cost::Budget;
/// use ec_darts::network::{EvaluationConfig, Skeleton, StemKind};
/// use ec_darts_space::{PerKind, SearchSpace, discretize_within};
///
/// // The mobile setting.
/// let budget = Budget { parameters: None, multiply_adds: Some(600_000_000) };
/// let stem = StemKind::Imagenet;
/// let (init_channels, num_cells, num_classes) = (48, 14, 1000);
/// let network = EvaluationConfig {
///     skeleton: Skeleton::Darts, stem, init_channels, num_cells, num_classes,
/// };
/// let space = SearchSpace::darts();
/// let limits = budget.limits(&space, &network, 224);
/// // Any strengths; of equal ones the first primitive wins, a pool.
/// let found = discretize_within(&space, PerKind::from([&[0.0; 112][..]; 2]), &limits)?;
/// assert!(found.trades.is_empty() && limits[0].cost(&space, &found.genotype) < 600_000_000);
/// # Ok::<(), ec_darts_space::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Number of trainable parameters.
    pub parameters: Option<u64>,
    /// Number of products of convolutions and linear layers, for one image.
    pub multiply_adds: Option<u64>,
}

impl Budget {
    /// The limits of this budget for a network of square images of `image_size` pixels.
    ///
    /// The cost of an operation is its cost in all cells of its kind together. Invariant: the cost
    /// by such a limit equals that of [`NetworkCost`].
    pub fn limits(
        &self,
        space: &SearchSpace,
        config: &EvaluationConfig,
        image_size: usize,
    ) -> Vec<Limit> {
        let num_joined = space.topology().joined().len();
        let geometry = config.stack().geometry(|_| num_joined);
        let size = space.topology().num_edges() * space.primitives().len();
        // The cost of a network depends only on the operations of its genotype.
        let equal = vec![0.0; size];
        let any = ec_darts_space::discretize(space, space.topology().per_kind(|_| &equal[..]))
            .expect("finite strengths of the right number");
        let network = NetworkCost::new(&any, config, image_size);
        let limit = |name, at_most: Option<u64>, count: fn(&Cost) -> u64| {
            let matrix = |kind: CellKind| -> Vec<u64> {
                let mut costs = vec![0; size];
                for plan in geometry.cells.iter().filter(|plan| plan.kind == kind) {
                    let cells = space.topology().edges().flat_map(|edge| {
                        let primitives = space.primitives().iter();
                        primitives.map(move |&primitive| (edge.from, primitive))
                    });
                    for (cost, (from, primitive)) in costs.iter_mut().zip(cells) {
                        *cost += count(&operation(plan, primitive, from, image_size));
                    }
                }
                costs
            };
            let operations = network.cells.iter().flat_map(|cell| &cell.operations);
            let picked: u64 = operations.map(|(_, cost)| count(cost)).sum();
            at_most.map(|at_most| Limit {
                name,
                at_most,
                fixed: count(&network.cost) - picked,
                picks: space.topology().per_kind(matrix),
            })
        };
        let parameters = limit("parameters", self.parameters, |cost| cost.parameters);
        let multiply_adds = limit("multiply-adds", self.multiply_adds, |cost| cost.multiply_adds);
        parameters.into_iter().chain(multiply_adds).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Skeleton, StemKind};
    use ec_darts_space::{PerKind, Preset, Primitive, discretize_within};

    fn network() -> EvaluationConfig {
        let stem = StemKind::Imagenet;
        EvaluationConfig {
            skeleton: Skeleton::Darts,
            stem,
            init_channels: 48,
            num_cells: 14,
            num_classes: 1000,
        }
    }

    #[test]
    fn a_limit_counts_what_the_network_costs() {
        let space = SearchSpace::darts();
        let budget = Budget { parameters: Some(1), multiply_adds: Some(1) };
        for (stem, size) in
            [(StemKind::Imagenet, 224), (StemKind::Cifar, 32), (StemKind::Stride2, 64)]
        {
            let config = EvaluationConfig { skeleton: Skeleton::Darts, stem, ..network() };
            let limits = budget.limits(&space, &config, size);
            for preset in Preset::ALL {
                let mut genotype = preset.genotype();
                // Some presets join fewer nodes than the space does.
                genotype.normal.concat = vec![2, 3, 4, 5];
                genotype.reduction.as_mut().unwrap().concat = vec![2, 3, 4, 5];
                let cost = NetworkCost::new(&genotype, &config, size).cost;
                let counted: Vec<u64> =
                    limits.iter().map(|limit| limit.cost(&space, &genotype)).collect();
                assert_eq!(counted, [cost.parameters, cost.multiply_adds], "{}", preset.name);
            }
        }
    }

    #[test]
    fn a_network_of_nas_bench_201_is_counted_and_limited() {
        let space = SearchSpace::nas_bench_201();
        let config = EvaluationConfig::nas_bench_201(10);
        let budget = Budget { parameters: Some(600_000), multiply_adds: Some(100_000_000) };
        let limits = budget.limits(&space, &config, 32);
        for op in ["nor_conv_3x3", "nor_conv_1x1", "skip_connect"] {
            let text = format!("|{op}~0|+|{op}~0|none~1|+|none~0|{op}~1|avg_pool_3x3~2|");
            let genotype = text.parse().unwrap();
            let cost = NetworkCost::new(&genotype, &config, 32).cost;
            let counted: Vec<u64> =
                limits.iter().map(|limit| limit.cost(&space, &genotype)).collect();
            assert_eq!(counted, [cost.parameters, cost.multiply_adds], "{op}");
        }
        // Without the limit, every edge would take the 3x3 convolution.
        let strength: Vec<f32> = [0.0, 0.1, 0.2, 0.3, 0.0].repeat(6);
        let strength = PerKind { normal: &strength[..], reduction: None };
        let found = discretize_within(&space, strength, &limits).unwrap();
        let cost = NetworkCost::new(&found.genotype, &config, 32).cost;
        assert!(cost.parameters <= 600_000 && cost.multiply_adds <= 100_000_000, "{cost:?}");
        assert!(!found.trades.is_empty() && space.contains(&found.genotype));
    }

    #[test]
    fn the_mobile_setting_binds_a_cell_of_large_convolutions() {
        let space = SearchSpace::darts();
        let column = space.primitives().iter().position(|&each| each == Primitive::SepConv5x5);
        let column = column.unwrap();
        let strength = |place: usize| {
            let (edge, at) = (place / 8, place % 8);
            let of_column = if at == column { 1.0 } else { 0.1 * at as f32 };
            of_column - 0.01 * edge as f32
        };
        let strength: Vec<f32> = (0..112).map(strength).collect();
        let budget = Budget { parameters: Some(5_500_000), multiply_adds: Some(600_000_000) };
        let limits = budget.limits(&space, &network(), 224);
        let found = discretize_within(&space, PerKind::from([&strength[..]; 2]), &limits).unwrap();
        let large = NetworkCost::new(&found.unlimited, &network(), 224).cost;
        let cost = NetworkCost::new(&found.genotype, &network(), 224).cost;
        assert!(large.multiply_adds > 600_000_000, "{large:?}");
        assert!(cost.multiply_adds <= 600_000_000 && cost.parameters <= 5_500_000, "{cost:?}");
        assert!(!found.trades.is_empty() && found.strength < found.unlimited_strength);
    }
}
