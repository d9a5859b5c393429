//! Settings of the rule other than its relaxation: the section `rule` of a search.

use ec_darts_space::stop::Eigenvalue;
use ec_darts_space::{Discretization, Schedule, Stop};
use serde::{Deserialize, Serialize};

use super::validate::{check_cells, require};
use super::{SearchConfig, StagePlace};
use crate::Result;
use crate::architecture::Strength;
use crate::cost::CostMeasure;
use crate::device::DeviceName;
use crate::network::{CellForm, Skeleton};
use crate::penalty::{CostForm, Penalties, ZeroOne};
use crate::perturbation::Perturbation;
use crate::rule::Rule;
use crate::sampling::Sampling;

/// The settings of a rule of the family other than its relaxation; by default all are off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleConfig {
    /// The way in which a pass draws its mixing weights; off: the relaxation gives them.
    pub sampling: Option<Sampling>,
    /// Temperature of `concrete` and `straight-through`.
    pub temperature: Schedule,
    /// Whether edges have their own weights, which compete at each node.
    pub edge_weights: bool,
    /// Number of equal parts of the channels; only the first part passes through the operations.
    pub partial_channels: usize,
    /// Weight of a skip connection beside every mixed operation; off: there is none.
    pub auxiliary_skip: Option<Schedule>,
    /// Dropout rate behind skip connections of stride 1, for each stage; empty: no dropout.
    pub skip_dropout: Vec<Schedule>,
    /// Weight of the zero-one loss of FairDARTS.
    pub zero_one: Option<Schedule>,
    /// Form of the zero-one loss.
    pub zero_one_form: ZeroOne,
    /// Weight of the regularization of beta-DARTS.
    pub log_sum_exp: Option<Schedule>,
    /// Weight of the regularization of DrNAS.
    pub dirichlet_kl: Option<Schedule>,
    /// Cost of the architecture in the loss of alpha; off: no cost.
    pub cost: Option<CostMeasure>,
    /// The way in which the cost enters the loss.
    pub cost_form: CostForm,
    /// Weight of the cost term, or of the product.
    pub cost_weight: Schedule,
    /// Exponent of the product.
    pub cost_exponent: f64,
    /// The cost enters the loss only while the genotype costs more than this; off: always.
    pub cost_target: Option<f64>,
    /// Channels of the network that is counted.
    pub cost_channels: usize,
    /// Number of cells of the network that is counted.
    pub cost_cells: usize,
    /// The rule by which strengths become a genotype.
    pub discretization: Discretization,
    /// The rule that ends the search early; off: it runs to its last epoch.
    pub stop: Option<Stop>,
    /// Number of epochs between two measurements of the dominant eigenvalue of the Hessian in
    /// alpha; off: no measurement.
    pub eigenvalue_every: Option<usize>,
    /// Number of images of the measurement, the first of the validation half.
    pub eigenvalue_images: usize,
    /// The perturbation of the mixing weights in steps on the weights; off: none.
    pub perturbation: Option<Perturbation>,
    /// Largest change of a mixing weight by the perturbation.
    pub epsilon: Schedule,
}

impl Default for RuleConfig {
    fn default() -> Self {
        Self {
            sampling: None,
            temperature: Schedule::constant(1.0),
            edge_weights: false,
            partial_channels: 1,
            auxiliary_skip: None,
            skip_dropout: Vec::new(),
            zero_one: None,
            zero_one_form: ZeroOne::L2,
            log_sum_exp: None,
            dirichlet_kl: None,
            cost: None,
            cost_form: CostForm::Linear,
            cost_weight: Schedule::constant(1.0),
            cost_exponent: 0.3,
            cost_target: None,
            cost_channels: 36,
            cost_cells: 20,
            discretization: Discretization::Edges,
            stop: None,
            eigenvalue_every: None,
            eigenvalue_images: 16,
            perturbation: None,
            epsilon: Schedule::constant(0.0),
        }
    }
}

impl SearchConfig {
    /// The structure of the supernet's cells.
    pub fn cell_form(&self, stage: usize) -> CellForm {
        let auxiliary_skip = self.rule.auxiliary_skip.is_some();
        CellForm { auxiliary_skip, parts: self.partial_channels(stage) }
    }

    /// Dropout rate behind skip connections in an epoch, counted from 0 over all stages.
    pub fn skip_dropout_at(&self, epoch: usize) -> f64 {
        let StagePlace { stage, epoch } = self.in_stage(epoch);
        let schedule = self.rule.skip_dropout.get(stage);
        schedule.map_or(0.0, |schedule| schedule.at(epoch, self.search.epochs))
    }

    /// The rule of an epoch, counted from 0 over all stages.
    pub fn rule_at(&self, epoch: usize) -> Rule {
        let StagePlace { epoch, .. } = self.in_stage(epoch);
        let epochs = self.search.epochs;
        let value = |schedule: &Option<Schedule>| {
            schedule.as_ref().map_or(0.0, |schedule| schedule.at(epoch, epochs))
        };
        let rule = &self.rule;
        Rule {
            relaxation: self.search.relaxation,
            sampling: rule.sampling,
            temperature: rule.temperature.at(epoch, epochs),
            auxiliary_skip: value(&rule.auxiliary_skip),
            penalties: Penalties {
                zero_one: value(&rule.zero_one),
                zero_one_form: rule.zero_one_form,
                log_sum_exp: value(&rule.log_sum_exp),
                dirichlet_kl: value(&rule.dirichlet_kl),
                cost: None,
            },
            discretization: rule.discretization,
        }
    }

    /// Checks the section `rule`, and its conditions on other sections.
    pub(super) fn validate_rule(&self, origin: &str) -> Result<()> {
        let require = |holds, key: &str, value: &dyn ToString, allowed: &str| {
            require(origin, holds, key, value, allowed)
        };
        let epochs = self.search.epochs;
        let rule = &self.rule;
        let schedules = [
            ("rule.temperature", Some(&rule.temperature), f64::MIN_POSITIVE),
            ("rule.auxiliary_skip", rule.auxiliary_skip.as_ref(), 0.0),
            ("rule.zero_one", rule.zero_one.as_ref(), 0.0),
            ("rule.log_sum_exp", rule.log_sum_exp.as_ref(), 0.0),
            ("rule.dirichlet_kl", rule.dirichlet_kl.as_ref(), 0.0),
            ("rule.cost_weight", Some(&rule.cost_weight), 0.0),
            ("rule.epsilon", Some(&rule.epsilon), 0.0),
        ];
        for (key, schedule, least) in schedules {
            let Some(schedule) = schedule else { continue };
            for epoch in 0..epochs {
                let value = schedule.at(epoch, epochs);
                let allowed = if least > 0.0 { "numbers above 0" } else { "numbers of 0 or more" };
                let fits = value.is_finite() && value >= least;
                require(fits, key, &format!("{value} in epoch {}", epoch + 1), allowed)?;
            }
        }
        let (rates, stages) = (rule.skip_dropout.len(), self.num_stages());
        let allowed = format!("none, or {stages}, one for each stage");
        let fits = rates == 0 || rates == stages;
        require(fits, "rule.skip_dropout", &format!("a list of {rates}"), &allowed)?;
        for epoch in 0..self.num_epochs() {
            let rate = self.skip_dropout_at(epoch);
            let value = format!("{rate} in epoch {}", epoch + 1);
            let fits = (0.0..1.0).contains(&rate);
            require(fits, "rule.skip_dropout", &value, "rates of 0 to below 1")?;
        }
        if let Some(target) = rule.cost_target {
            let fits = target.is_finite() && target > 0.0;
            let allowed = "a number above 0 in the unit of `rule.cost`, or none";
            require(fits, "rule.cost_target", &target, allowed)?;
        }
        let fits = rule.cost_exponent.is_finite() && rule.cost_exponent > 0.0;
        require(fits, "rule.cost_exponent", &rule.cost_exponent, "a number above 0")?;
        let (channels, cells) = (rule.cost_channels, rule.cost_cells);
        let fits = (2..=4096).contains(&channels) && channels.is_multiple_of(2);
        require(fits, "rule.cost_channels", &channels, "2 to 4096, even")?;
        let skeleton = rule.cost.map_or(Skeleton::Darts, |_| self.network.skeleton);
        check_cells(origin, "rule.cost_cells", skeleton, cells)?;
        if let Some(every) = rule.eigenvalue_every {
            require(every > 0, "rule.eigenvalue_every", &every, "1 or more epochs, or none")?;
            let allowed =
                "none in a program built without the feature `flex`: it is measured on the CPU";
            require(DeviceName::Flex.is_compiled(), "rule.eigenvalue_every", &every, allowed)?;
        }
        let images = rule.eigenvalue_images;
        require((2..=4096).contains(&images), "rule.eigenvalue_images", &images, "2 to 4096")?;
        self.validate_ends(origin)?;
        self.validate_owners(origin)?;
        self.validate_combination(origin)
    }

    /// Checks the derivation of the genotype and the early stop.
    fn validate_ends(&self, origin: &str) -> Result<()> {
        let require = |holds, key: &str, value: String, allowed: &str| {
            require(origin, holds, key, &value, allowed)
        };
        let (rule, search) = (&self.rule, &self.search);
        if let Discretization::Threshold { at_least, .. } = rule.discretization {
            let key = "rule.discretization";
            let fits = at_least.is_finite() && at_least > 0.0;
            require(fits, key, format!("a threshold of {at_least}"), "a threshold above 0")?;
            let allowed = "another one with `search.strength = \"alpha\"` or weights of edges: a threshold is one of \
                           mixing weights that do not depend on other edges";
            let fits = search.strength == Strength::Mixing && !rule.edge_weights;
            require(fits, key, "threshold".into(), allowed)?;
        }
        let allowed = "`mixing` with `rule.edge_weights`, which alpha does not hold";
        let fits = search.strength == Strength::Mixing || !rule.edge_weights;
        require(fits, "search.strength", "alpha".into(), allowed)?;
        let fits = match rule.stop {
            None | Some(Stop::LateSkips { .. }) => true,
            Some(Stop::Skips { at_least }) => at_least > 0,
            Some(Stop::Ranking { patience }) => patience > 0,
            Some(Stop::Eigenvalue(Eigenvalue { window, factor, delta, .. })) => {
                window > 0 && delta > 0 && factor.is_finite() && factor > 0.0
            }
        };
        let allowed = "counts of 1 or more, a factor above 0";
        require(fits, "rule.stop", format!("{:?}", rule.stop), allowed)?;
        let epochs = search.epochs;
        let is_still = (0..epochs).all(|epoch| rule.epsilon.at(epoch, epochs) == 0.0);
        let allowed = "above 0 in some epoch with `rule.perturbation`";
        let fits = rule.perturbation.is_none() || !is_still;
        require(fits, "rule.epsilon", "0 in every epoch".into(), allowed)
    }
}
