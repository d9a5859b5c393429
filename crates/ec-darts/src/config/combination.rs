//! Combinations of settings of the rule: some need others, some exclude each other.

use ec_darts_space::{Discretization, Stop};

use super::rule::RuleConfig;
use super::validate::require;
use super::{Order, SearchConfig, Settings};
use crate::Result;
use crate::architect::ArchitectOrder;
use crate::cost::CostMeasure;
use crate::penalty::CostForm;
use crate::relaxation::Relaxation;
use crate::sampling::Sampling;

impl SearchConfig {
    /// Refuses settings that change nothing because the setting that they belong to is off.
    pub(super) fn validate_owners(&self, origin: &str) -> Result<()> {
        let (rule, default) = (&self.rule, RuleConfig::default());
        let is_product = rule.cost_form == CostForm::Product;
        let has_temperature =
            matches!(rule.sampling, Some(Sampling::Concrete | Sampling::StraightThrough));
        let without_cost = "as it is by default without `rule.cost`";
        let checks = [
            (
                "rule.temperature",
                rule.temperature == default.temperature || has_temperature,
                "1 without `concrete` or `straight-through` in `rule.sampling`",
            ),
            (
                "rule.zero_one",
                rule.zero_one.is_none() || self.search.relaxation == Relaxation::Sigmoid,
                "off without `search.relaxation = \"sigmoid\"`, whose weights lie between 0 and 1 each for itself",
            ),
            (
                "rule.zero_one_form",
                rule.zero_one_form == default.zero_one_form || rule.zero_one.is_some(),
                "`l2` without `rule.zero_one`",
            ),
            (
                "rule.dirichlet_kl",
                rule.dirichlet_kl.is_none() || rule.sampling == Some(Sampling::Dirichlet),
                "off without `rule.sampling = \"dirichlet\"`",
            ),
            (
                "rule.cost_form",
                rule.cost_form == default.cost_form || rule.cost.is_some(),
                without_cost,
            ),
            (
                "rule.cost_weight",
                rule.cost_weight == default.cost_weight || rule.cost.is_some(),
                without_cost,
            ),
            ("rule.cost_target", rule.cost_target.is_none() || rule.cost.is_some(), without_cost),
            (
                "rule.cost_channels",
                rule.cost_channels == default.cost_channels || rule.cost.is_some(),
                without_cost,
            ),
            (
                "rule.cost_cells",
                rule.cost_cells == default.cost_cells || rule.cost.is_some(),
                without_cost,
            ),
            (
                "rule.cost_exponent",
                rule.cost_exponent == default.cost_exponent || is_product,
                "0.3 without `rule.cost_form = \"product\"`",
            ),
            (
                "rule.eigenvalue_images",
                rule.eigenvalue_images == default.eigenvalue_images
                    || rule.eigenvalue_every.is_some(),
                "as it is by default without `rule.eigenvalue_every`",
            ),
            (
                "rule.epsilon",
                rule.epsilon == default.epsilon || rule.perturbation.is_some(),
                "0 without `rule.perturbation`",
            ),
        ];
        for (key, holds, allowed) in checks {
            require(origin, holds, key, &self.shown(key), allowed)?;
        }
        Ok(())
    }

    /// The text of a setting's value.
    fn shown(&self, key: &str) -> String {
        self.settings().get(key).map_or_else(String::new, ToString::to_string)
    }

    /// Refuses combinations that make no sense.
    pub(super) fn validate_combination(&self, origin: &str) -> Result<()> {
        let require = |holds, key: &str, value: &str, allowed: &str| {
            require(origin, holds, key, &value, allowed)
        };
        let (rule, search) = (&self.rule, &self.search);
        let sampling = rule.sampling.map_or("none", Sampling::name);
        let is_plain = rule.sampling.is_none();
        let one_each = rule.sampling.is_some_and(Sampling::is_one_each);
        let competes = search.relaxation != Relaxation::Sigmoid;
        let allowed = "none under `sigmoid`, whose operations do not compete";
        require(competes || is_plain, "rule.sampling", sampling, allowed)?;
        let dirichlet = rule.sampling == Some(Sampling::Dirichlet);
        let edges = search.relaxation == Relaxation::Softmax;
        let allowed =
            "none or `concrete` under `cross-edge`: a sample of an edge sums to one on that edge";
        require(edges || !dirichlet, "rule.sampling", sampling, allowed)?;
        let on_edges = search.relaxation == Relaxation::Softmax;
        let allowed = "none or `concrete` under `cross-edge`, where the operations of one edge do not compete, so that \
                       none of them can be drawn";
        require(on_edges || !one_each, "rule.sampling", sampling, allowed)?;
        let second = search.architect == ArchitectOrder::Second;
        let gates = rule.sampling.is_some_and(Sampling::is_gated);
        let allowed = "another one in second order: gates compute one operation in a step on the weights and all of \
                       them in a step on alpha, so no step can be unrolled";
        require(!(second && gates), "rule.sampling", sampling, allowed)?;
        let single = search.order == Order::SingleLevel;
        let allowed = "`first` in single-level order, where one loss moves weights and alpha";
        require(!(single && second), "search.architect", "second", allowed)?;
        let allowed = "`interleaved`, `sequential` or `weights-first` with gates, whose two steps compute different operations";
        require(!(single && gates), "search.order", "single-level", allowed)?;
        let allowed = "off beside a rule that computes one operation of each edge";
        require(rule.auxiliary_skip.is_none() || !one_each, "rule.auxiliary_skip", "on", allowed)?;
        let every_node = match rule.discretization {
            Discretization::Threshold { .. } | Discretization::EveryEdge => false,
            Discretization::Edges | Discretization::Pairs | Discretization::FewSkips { .. } => true,
        };
        let allowed = "`edges`, `pairs` or `few-skips` with `transition.enabled`: an induced model needs picks in every node";
        let name = format!("{:?}", rule.discretization);
        require(every_node || !self.transition.enabled, "rule.discretization", &name, allowed)?;
        let product = rule.cost_form == CostForm::Product;
        let allowed = "`linear` or `log` in single-level order: a factor of the loss would scale the step on the weights";
        require(!(single && product), "rule.cost_form", "product", allowed)?;
        let is_latency = rule.cost == Some(CostMeasure::Latency);
        let fits = match rule.cost_target {
            Some(target) => target > 1.0,
            None => !is_latency,
        };
        let allowed =
            "another one without a `rule.cost_target` above 1, whose logarithm is the divisor";
        require(!product || fits, "rule.cost_form", "product", allowed)?;
        let epochs = search.epochs;
        let is_zero = (0..epochs).any(|epoch| rule.cost_weight.at(epoch, epochs) == 0.0);
        let allowed =
            "above 0 in every epoch with `rule.cost_form = \"product\"`, which it multiplies";
        require(!product || !is_zero, "rule.cost_weight", "0", allowed)?;
        let operations = self.network.primitives.len();
        let pairs = rule.sampling == Some(Sampling::GatePairs);
        let allowed = "another one with a single primitive, of which no pair can be drawn";
        require(!pairs || operations > 1, "rule.sampling", sampling, allowed)?;
        let by_eigenvalue = matches!(rule.stop, Some(Stop::Eigenvalue(_)));
        let allowed = "another one without `rule.eigenvalue_every`, which says when there is an eigenvalue to judge";
        require(
            !by_eigenvalue || rule.eigenvalue_every.is_some(),
            "rule.stop",
            "eigenvalue",
            allowed,
        )?;
        let allowed = "none with `stages.cells`, which say how many epochs there are";
        let runs_on = rule.stop.is_none() || self.num_stages() == 1;
        require(runs_on, "rule.stop", &format!("{:?}", rule.stop), allowed)?;
        if let Some(perturbation) = rule.perturbation {
            let name = perturbation.name();
            let allowed = "none beside a rule that draws its mixing weights";
            require(is_plain, "rule.perturbation", name, allowed)?;
            let allowed =
                "none under `sigmoid`, whose weights do not compete and have no fixed sum";
            require(competes, "rule.perturbation", name, allowed)?;
            let allowed = "none with weights of edges, whose sums are not one";
            require(!rule.edge_weights, "rule.perturbation", name, allowed)?;
            let allowed =
                "none in single-level order, where the step on the weights moves alpha too";
            require(!single, "rule.perturbation", name, allowed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ec_darts_space::Schedule;

    use super::*;
    use crate::penalty::ZeroOne;

    fn check(change: impl Fn(&mut SearchConfig), expected: &str) {
        let mut config = SearchConfig::quick();
        (config.search.relaxation, config.transition.enabled) = (Relaxation::Softmax, false);
        config.validate("a.toml").expect("a search by the softmax");
        change(&mut config);
        let error = config.validate("a.toml").expect_err(expected).to_string();
        assert_eq!(error, format!("a.toml: {expected}"));
    }

    #[test]
    fn settings_that_change_nothing_are_refused() {
        let two = || Schedule::constant(2.0);
        check(
            |c| c.rule.temperature = two(),
            "`rule.temperature` is 2.0, allowed: 1 without `concrete` or `straight-through` in `rule.sampling`",
        );
        check(
            |c| {
                (c.rule.sampling, c.rule.temperature) =
                    (Some(Sampling::Gates), Schedule::line(2.0, 1.0));
            },
            "`rule.temperature` is {\"end\":\"last\",\"from\":2.0,\"shape\":\"line\",\"to\":1.0}, allowed: 1 \
             without `concrete` or `straight-through` in `rule.sampling`",
        );
        check(
            |c| c.rule.zero_one = Some(two()),
            "`rule.zero_one` is 2.0, allowed: off without `search.relaxation = \"sigmoid\"`, whose weights lie between 0 \
             and 1 each for itself",
        );
        check(
            |c| c.rule.zero_one_form = ZeroOne::L1,
            "`rule.zero_one_form` is \"l1\", allowed: `l2` without `rule.zero_one`",
        );
        check(
            |c| c.rule.dirichlet_kl = Some(two()),
            "`rule.dirichlet_kl` is 2.0, allowed: off without `rule.sampling = \"dirichlet\"`",
        );
        let without_cost = "allowed: as it is by default without `rule.cost`";
        type Change = fn(&mut RuleConfig);
        let costs: [(Change, &str); 5] = [
            (|rule| rule.cost_form = CostForm::Log, "`rule.cost_form` is \"log\""),
            (|rule| rule.cost_weight = Schedule::constant(0.5), "`rule.cost_weight` is 0.5"),
            (|rule| rule.cost_target = Some(3e6), "`rule.cost_target` is 3000000.0"),
            (|rule| rule.cost_channels = 16, "`rule.cost_channels` is 16"),
            (|rule| rule.cost_cells = 8, "`rule.cost_cells` is 8"),
        ];
        for (change, told) in costs {
            check(|c| change(&mut c.rule), &format!("{told}, {without_cost}"));
        }
        check(
            |c| {
                (c.rule.cost, c.rule.cost_exponent) = (Some(CostMeasure::Parameters), 0.6);
            },
            "`rule.cost_exponent` is 0.6, allowed: 0.3 without `rule.cost_form = \"product\"`",
        );
        check(
            |c| c.rule.eigenvalue_images = 32,
            "`rule.eigenvalue_images` is 32, allowed: as it is by default without `rule.eigenvalue_every`",
        );
        check(
            |c| c.rule.epsilon = two(),
            "`rule.epsilon` is 2.0, allowed: 0 without `rule.perturbation`",
        );
    }

    #[test]
    fn products_need_costs_whose_logarithm_is_positive() {
        let target = "`rule.cost_form` is product, allowed: another one without a `rule.cost_target` above 1, whose \
                      logarithm is the divisor";
        let product = |c: &mut SearchConfig, cost| {
            (c.rule.cost, c.rule.cost_form) = (Some(cost), CostForm::Product);
        };
        check(|c| product(c, CostMeasure::Latency), target);
        check(
            |c| {
                product(c, CostMeasure::MultiplyAdds);
                c.rule.cost_target = Some(1.0);
            },
            target,
        );
        check(
            |c| {
                product(c, CostMeasure::Parameters);
                c.rule.cost_weight = Schedule::line(0.0, 1.0);
            },
            "`rule.cost_weight` is 0, allowed: above 0 in every epoch with `rule.cost_form = \"product\"`, which it \
             multiplies",
        );
    }

    #[test]
    fn a_pair_needs_two_primitives() {
        check(
            |c| {
                c.network.primitives = vec![ec_darts_space::Primitive::SepConv3x3];
                c.rule.sampling = Some(Sampling::GatePairs);
            },
            "`rule.sampling` is gate-pairs, allowed: another one with a single primitive, of which no pair can be drawn",
        );
    }

    #[test]
    fn a_product_is_none_of_a_single_level() {
        check(
            |c| {
                (c.rule.cost, c.rule.cost_form) =
                    (Some(CostMeasure::Parameters), CostForm::Product);
                c.search.order = Order::SingleLevel;
            },
            "`rule.cost_form` is product, allowed: `linear` or `log` in single-level order: a factor of the loss would \
             scale the step on the weights",
        );
    }
}
