//! `ec-darts genotype discretize`: a genotype from a checkpoint, within a budget.

use std::path::Path;

use anyhow::bail;
use ec_darts::cost::{Budget, NetworkCost};
use ec_darts::device::DeviceName;
use ec_darts::train::{SavedAlpha, folder};
use ec_darts_space::{Compromise, Pick, Trade, discretize_within};

use super::table;
use crate::args::DiscretizeArguments;
use crate::cost::network;
use crate::{output, print};

pub fn run(arguments: DiscretizeArguments) -> anyhow::Result<()> {
    let (config, image_size) = network(&arguments.network)?;
    let saved = saved_alpha(&arguments.run, arguments.epoch)?;
    let budget =
        Budget { parameters: arguments.max_parameters, multiply_adds: arguments.max_multiply_adds };
    let [normal, reduction] = saved.strengths();
    let limits = budget.limits(&saved.space, &config, image_size);
    let found = discretize_within(&saved.space, &normal, &reduction, &limits)?;
    let mut text = format!("alpha {}\n", moment(&saved));
    if let Some(best) = saved.best.as_ref().filter(|best| best.epoch + 1 != saved.epochs_done) {
        text += &format!(
            "note: the best genotype of the search is that of epoch {}, whose alpha is not kept\n",
            best.epoch + 1
        );
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

/// Alpha of the newest checkpoint, or of the end of an epoch, counted from 1.
fn saved_alpha(run: &Path, epoch: Option<u32>) -> anyhow::Result<SavedAlpha> {
    // Two small matrices: no reason to start a GPU.
    let cpu = DeviceName::Flex;
    let device = DeviceName::open_or_best(cpu.is_compiled().then_some(cpu))?.device;
    let mut kept = Vec::new();
    for path in folder::checkpoints(run)? {
        let saved = SavedAlpha::read(&path, &device)?;
        match epoch {
            Some(epoch) if saved.within_epoch || saved.epochs_done != epoch as usize => {}
            _ => return Ok(saved),
        }
        kept.push(moment(&saved));
    }
    match (epoch, kept.is_empty()) {
        (Some(epoch), false) => bail!(
            "{}: no checkpoint of the end of epoch {epoch}, there is alpha {}",
            run.display(),
            kept.join(" and ")
        ),
        _ => bail!("{}: no checkpoint of a search in its folder checkpoints", run.display()),
    }
}

fn moment(saved: &SavedAlpha) -> String {
    let (done, epochs) = (saved.epochs_done, saved.config.search.epochs);
    match saved.within_epoch {
        true => format!("within epoch {} of {epochs}", done + 1),
        false => format!("at the end of epoch {done} of {epochs}"),
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
