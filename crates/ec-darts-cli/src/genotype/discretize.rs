//! `ec-darts genotype discretize`: a genotype from a checkpoint, within a budget.

use std::path::Path;

use ec_darts::Error;
use ec_darts::config::Order;
use ec_darts::cost::{Budget, NetworkCost};
use ec_darts::device::DeviceName;
use ec_darts::network::Skeleton;
use ec_darts::train::SavedAlpha;
use ec_darts_space::{Compromise, Discretization, Pick, Trade, discretize_within};

use super::table;
use crate::args::DiscretizeArguments;
use crate::cost::network;
use crate::{output, print};

pub fn run(arguments: DiscretizeArguments) -> anyhow::Result<()> {
    if let Some(out) = &arguments.out {
        let read = ["config.toml", "metrics.jsonl"].map(|file| arguments.run.join(file));
        output::spare(out, read)?;
    }
    let (config, image_size) = network(&arguments.network)?;
    let saved = saved_alpha(&arguments.run, arguments.epoch)?;
    let skeleton = Skeleton::of(saved.space.topology());
    anyhow::ensure!(
        skeleton == config.skeleton,
        Error::ConfigSyntax {
            origin: "--network".into(),
            reason: format!(
                "a network of the skeleton `{}`, the search has the skeleton `{}`",
                config.skeleton.name(),
                skeleton.name()
            ),
        }
    );
    let budget =
        Budget { parameters: arguments.max_parameters, multiply_adds: arguments.max_multiply_adds };
    let strengths = saved.strengths();
    let limits = budget.limits(&saved.space, &config, image_size);
    let mut found = discretize_within(&saved.space, strengths.as_deref(), &limits)?;
    let (discretization, mut without) = (saved.config.rule.discretization, None);
    if limits.is_empty() && discretization != Discretization::Edges {
        let (genotype, reason) = saved.genotype()?;
        found = Compromise { unlimited: genotype.clone(), genotype, ..found };
        without = reason;
    }
    let epochs = saved.config.num_epochs();
    let mut text = format!("alpha at the end of epoch {} of {epochs}\n", saved.epoch + 1);
    text += &note(&saved);
    if let Some(reason) = without {
        text += &format!("note: {reason}; the genotype is that of the strongest edges instead\n");
    }
    if !limits.is_empty() && discretization != Discretization::Edges {
        text += "note: a budget is kept by choosing among the strongest edges, not by `rule.discretization`\n";
    }
    text += &format!("\n{}\n", table(&found.genotype));
    let costs = [&found.genotype, &found.unlimited]
        .map(|genotype| NetworkCost::new(genotype, &config, image_size).cost);
    text +=
        &format!("{:14} {:>14} {:>16} {:>14}\n", "", "this genotype", "without budget", "budget");
    for (name, [this, without], budget) in [
        ("parameters", costs.map(|cost| cost.parameters), budget.parameters),
        ("multiply-adds", costs.map(|cost| cost.multiply_adds), budget.multiply_adds),
    ] {
        let budget = budget.map_or("none".into(), |budget| budget.to_string());
        text += &format!("{name:14} {this:>14} {without:>16} {budget:>14}\n");
    }
    let Compromise { strength, unlimited_strength, .. } = found;
    text += &format!("{:14} {strength:>14.4} {unlimited_strength:>16.4}\n\n", "strength");
    text += &given_up(&found);
    if let Some(out) = &arguments.out {
        output::write(out, found.genotype.to_json().as_bytes())?;
    }
    print(&text)
}

/// Alpha at the end of an epoch, counted from 1.
fn saved_alpha(run: &Path, epoch: Option<u32>) -> anyhow::Result<SavedAlpha> {
    // Alpha is two small matrices, for which no GPU has to start.
    let cpu = DeviceName::Flex;
    let device = DeviceName::open_or_best(cpu.is_compiled().then_some(cpu))?.device;
    Ok(SavedAlpha::read(run, epoch.map(|epoch| epoch as usize - 1), &device)?)
}

/// Tells where alpha of the best genotype is, if the best epoch is another one.
fn note(saved: &SavedAlpha) -> String {
    let search = &saved.config.search;
    let best = saved.best_epoch + 1;
    // In the sequential order, alpha moves after the auxiliary model was induced.
    let moves_later = search.order == Order::Sequential && saved.config.transition.enabled;
    match best - usize::from(moves_later) {
        read if read == saved.epoch + 1 => String::new(),
        0 => format!(
            "note: the best genotype, of epoch {best}, is that of alpha before the first epoch\n"
        ),
        read => format!(
            "note: the best genotype of the search is that of epoch {best}; --epoch {read} reads its alpha\n"
        ),
    }
}

fn given_up(found: &Compromise) -> String {
    if found.trades.is_empty() {
        return "nothing was given up: the genotype without a budget keeps it\n".into();
    }
    let side = |side: &[(Pick, f32)]| {
        let picks = side.iter().map(|(pick, strength)| {
            format!("{} from {} ({strength:.4})", pick.primitive, pick.from)
        });
        picks.collect::<Vec<_>>().join(", ")
    };
    let line = |Trade { kind, node, given_up, taken }: &Trade| {
        format!("  {kind} cell, node {}: {} for {}\n", node + 2, side(given_up), side(taken))
    };
    let lines: String = found.trades.iter().map(line).collect();
    let lost = found.unlimited_strength - found.strength;
    let percent = 100.0 * lost / found.unlimited_strength.abs();
    format!("given up for the budget\n{lines}  strength lost: {lost:.4} ({percent:.1} %)\n")
}
