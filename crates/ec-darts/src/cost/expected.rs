//! The expected cost of the architecture that alpha describes: the sum of mixing weights times
//! costs.
//!
//! Entry point: [`CostTable`]. Invariant: the cost of a genotype by a counted table equals that of
//! [`NetworkCost`](super::NetworkCost).

use std::collections::HashMap;

use burn::tensor::Device;
use ec_darts_space::{
    CellGenotype, CellKind, Discretization, Genotype, Limit, PerKind, Pick, SearchSpace,
};
use serde::{Deserialize, Serialize};

use super::Budget;
use crate::latency::{Latency, of_operation};
use crate::network::EvaluationConfig;
use crate::penalty::{CostWeighting, ExpectedCost};
use crate::relaxation::Relaxation;
use crate::rule::Rule;

/// The counted or measured quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CostMeasure {
    /// Number of products of convolutions and linear layers, for one image.
    MultiplyAdds,
    /// Number of trainable parameters.
    Parameters,
    /// Time of a forward pass of one image on the device of the search, in ms.
    Latency,
}

impl CostMeasure {
    /// The name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::MultiplyAdds => "multiply-adds",
            Self::Parameters => "parameters",
            Self::Latency => "latency",
        }
    }
}

/// The cost of every operation of a genotype's network, summed over the cells of its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostTable {
    /// The cost that every genotype has.
    pub fixed: f64,
    /// The cost of each operation on each edge, `[num_edges][num_primitives]`.
    pub operations: PerKind<Vec<f64>>,
}

impl CostTable {
    /// The table for a network of square images; none for [`CostMeasure::Latency`], which is
    /// measured.
    pub fn counted(
        measure: CostMeasure,
        space: &SearchSpace,
        config: &EvaluationConfig,
        image_size: usize,
    ) -> Option<Self> {
        let budget = match measure {
            CostMeasure::MultiplyAdds => {
                Budget { multiply_adds: Some(u64::MAX), ..Budget::default() }
            }
            CostMeasure::Parameters => Budget { parameters: Some(u64::MAX), ..Budget::default() },
            CostMeasure::Latency => return None,
        };
        let Limit { fixed, picks, .. } = budget.limits(space, config, image_size).pop()?;
        let count = |counts: Vec<u64>| counts.into_iter().map(|count| count as f64).collect();
        Some(Self { fixed: fixed as f64, operations: picks.map(count) })
    }

    /// Measures every operation once at each size, and a whole network for its other layers; in ms
    /// for one image. This takes some seconds, and no two measurements are equal.
    pub fn measured(
        space: &SearchSpace,
        config: &EvaluationConfig,
        image_size: usize,
        device: &Device,
    ) -> Self {
        let topology = space.topology();
        let num_joined = topology.joined().len();
        let geometry = config.stack().geometry(|_| num_joined);
        let mut known = HashMap::new();
        let operations = topology.per_kind(|kind| {
            let mut table = vec![0.0; topology.num_edges() * space.primitives().len()];
            for plan in geometry.cells.iter().filter(|plan| plan.kind == kind) {
                let cells = topology.edges().flat_map(|edge| {
                    let primitives = space.primitives().iter();
                    primitives.map(move |&primitive| (edge, primitive))
                });
                for (cost, (edge, primitive)) in table.iter_mut().zip(cells) {
                    let size = plan.state(edge.from).size([image_size; 2]);
                    let (channels, stride) = (plan.node.channels, plan.stride(edge.from));
                    let key = (primitive, channels, stride, size);
                    let time = known.entry(key).or_insert_with(|| {
                        1e3 * of_operation(primitive, channels, stride, size, device)
                    });
                    *cost += *time;
                }
            }
            table
        });
        let equal = vec![0.0; topology.num_edges() * space.primitives().len()];
        let any = ec_darts_space::discretize(space, topology.per_kind(|_| &equal[..]))
            .expect("finite strengths of the right number");
        let table = Self { fixed: 0.0, operations };
        let whole = 1e3 * Latency::measure(&any, config, image_size, 1, device).median_s;
        Self { fixed: (whole - table.of(space, &any)).max(0.0), ..table }
    }

    /// The cost of a genotype of the space.
    pub fn of(&self, space: &SearchSpace, genotype: &Genotype) -> f64 {
        let num_primitives = space.primitives().len();
        let of_pick = |kind: CellKind, node: usize, pick: &Pick| {
            let column = space.primitives().iter().position(|&each| each == pick.primitive);
            let edge = space.topology().edge_number(pick.from, node);
            column.map_or(0.0, |column| self.operations.cell(kind)[edge * num_primitives + column])
        };
        let of_cell = |(kind, cell): (CellKind, &CellGenotype)| -> f64 {
            let nodes = cell.nodes.iter().enumerate();
            nodes
                .flat_map(|(node, picks)| picks.iter().map(move |pick| (node, pick)))
                .map(|(node, pick)| of_pick(kind, node, pick))
                .sum()
        };
        self.fixed + genotype.cells().map(of_cell).sum::<f64>()
    }

    /// The cost term of alpha's loss.
    ///
    /// ```text
    /// E = fixed + sum over kinds, edges, operations of share * mixing * cost
    /// ```
    /// [`ExpectedCost`] expresses it in parts of the reference.
    ///
    /// `share` is the part of a node's mixing weights that belongs to its picks. With it, `E` is
    /// the cost of a genotype that is drawn in proportion to the weights.
    ///
    /// ```text
    /// share = picks of the node / sum of its even mixing weights     Softmax, CrossEdge
    /// share = 1                                                      Sigmoid
    /// ```
    pub fn term(
        &self,
        space: &SearchSpace,
        shares: &Shares,
        weighting: CostWeighting,
    ) -> ExpectedCost {
        let reference = weighting.reference;
        let num_primitives = space.primitives().len();
        let table = space.topology().per_kind(|kind| {
            let shares = shares.shares.cell(kind);
            let rows = self.operations.cell(kind).chunks(num_primitives).zip(shares);
            rows.flat_map(|(row, share)| {
                row.iter().map(move |cost| (cost * share / reference) as f32)
            })
            .collect()
        });
        ExpectedCost { table, fixed: self.fixed / reference, weighting }
    }

    /// The average cost of a genotype while alpha is undecided: the reference where there is no
    /// target.
    pub fn even(&self, shares: &Shares) -> f64 {
        let of_kind = |(kind, costs): (CellKind, &Vec<f64>)| -> f64 {
            let even = shares.even.cell(kind);
            let width = costs.len() / shares.shares.cell(kind).len();
            let share = |place: usize| shares.shares.cell(kind)[place / width];
            (0..costs.len()).map(|place| costs[place] * even[place] * share(place)).sum()
        };
        self.fixed + self.operations.iter().map(of_kind).sum::<f64>()
    }
}

/// Mixing weights of an undecided alpha, and the share of each node's weights that belongs to its
/// picks.
#[derive(Clone, Debug, PartialEq)]
pub struct Shares {
    /// The mixing weights, `[num_edges][num_primitives]`.
    even: PerKind<Vec<f64>>,
    /// The shares, `[num_edges]`.
    shares: PerKind<Vec<f64>>,
}

impl Shares {
    /// The shares of a rule, with or without weights of edges.
    pub fn new(space: &SearchSpace, rule: &Rule, weighs_edges: bool) -> Self {
        let topology = space.topology();
        let num_primitives = space.primitives().len();
        let place_of =
            |place: usize| (place / num_primitives, space.primitives()[place % num_primitives]);
        let nodes: Vec<_> =
            (0..topology.num_nodes()).map(|node| topology.edges_into(node)).collect();
        let node_of = |edge: usize| {
            nodes.iter().find(|edges| edges.contains(&edge)).expect("an edge into a node").clone()
        };
        let even = topology.per_kind(|kind| {
            let is_candidate = |edge, primitive| space.candidates(kind, edge).contains(&primitive);
            let value = |place: usize| {
                let (edge, primitive) = place_of(place);
                if !is_candidate(edge, primitive) {
                    return 0.0;
                }
                let rivals = match rule.relaxation {
                    Relaxation::Sigmoid => 2,
                    Relaxation::CrossEdge if node_of(edge).len() > 1 => {
                        node_of(edge).filter(|&other| is_candidate(other, primitive)).count()
                    }
                    Relaxation::Softmax | Relaxation::CrossEdge => {
                        space.candidates(kind, edge).len()
                    }
                };
                let of_edge = if weighs_edges { node_of(edge).len() } else { 1 };
                1.0 / (rivals * of_edge) as f64
            };
            (0..topology.num_edges() * num_primitives).map(value).collect::<Vec<f64>>()
        });
        let shares = even.as_ref().map(|even| {
            let share = |edge: usize| {
                let edges = node_of(edge);
                if rule.relaxation == Relaxation::Sigmoid {
                    return 1.0;
                }
                let picks = match rule.discretization {
                    Discretization::EveryEdge => edges.len(),
                    _ => topology.edges_kept().min(edges.len()),
                };
                let all = &even[edges.start * num_primitives..edges.end * num_primitives];
                picks as f64 / all.iter().sum::<f64>()
            };
            (0..topology.num_edges()).map(share).collect()
        });
        Self { even, shares }
    }
}

#[cfg(test)]
mod tests {
    use ec_darts_space::Preset;

    use super::*;
    use crate::cost::NetworkCost;
    use crate::network::{Skeleton, StemKind};
    use crate::penalty::CostForm;

    #[test]
    fn a_table_costs_what_the_network_costs() {
        let space = SearchSpace::darts();
        let config = EvaluationConfig {
            skeleton: Skeleton::Darts,
            stem: StemKind::Cifar,
            init_channels: 36,
            num_cells: 20,
            num_classes: 10,
        };
        let table = CostTable::counted(CostMeasure::MultiplyAdds, &space, &config, 32);
        let table = table.expect("it is counted");
        let genotype = Preset::find("darts_v2").expect("known").genotype();
        let whole = NetworkCost::new(&genotype, &config, 32).cost.multiply_adds as f64;
        assert!((table.of(&space, &genotype) - whole).abs() < 0.5);
        // Equal mixing weights give the even cost under any relaxation.
        let everything = table.operations.as_ref().map(|costs| -> f64 {
            let rows = costs.chunks(8).zip(space.topology().edges());
            rows.map(|(row, edge)| row.iter().sum::<f64>() / 8.0 * 2.0 / edge.to as f64).sum()
        });
        let expected = table.fixed + everything.into_values().sum::<f64>();
        for (relaxation, mixing) in
            [(Relaxation::Softmax, vec![1.0 / 8.0; 112]), (Relaxation::CrossEdge, across(&space))]
        {
            let shares = Shares::new(&space, &Rule::from(relaxation), false);
            assert!((table.even(&shares) / expected - 1.0).abs() < 1e-9, "{relaxation:?}");
            let weighed = Shares::new(&space, &Rule::from(relaxation), true);
            assert!((table.even(&weighed) / expected - 1.0).abs() < 1e-9, "{relaxation:?}");
            let form = CostForm::Linear;
            let plain = CostWeighting { form, weight: 1.0, reference: 1.0, exponent: 1.0 };
            let term = table.term(&space, &shares, plain);
            let sum = |table: &Vec<f32>| -> f64 {
                table.iter().zip(&mixing).map(|(cost, m)| f64::from(*cost) * m).sum()
            };
            let found = term.fixed + term.table.as_ref().map(sum).into_values().sum::<f64>();
            assert!((found / expected - 1.0).abs() < 1e-5, "{relaxation:?}");
        }
    }

    /// Equal weights under Cross-Edge Normalization: one divided by the number of edges into the
    /// node.
    fn across(space: &SearchSpace) -> Vec<f64> {
        space.topology().edges().flat_map(|edge| vec![1.0 / edge.to as f64; 8]).collect()
    }
}
