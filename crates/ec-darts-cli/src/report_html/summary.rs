//! The result, the setup of the runs, and the gaps.

use ec_darts::config::Settings;
use ec_darts::cost::NetworkCost;
use ec_darts::train::MeasuredOn;
use maud::{Markup, html};

use super::html::{cell, count, duration, percent};
use super::read::{Epoch, Material, Run};

/// The accuracy of the trained network, and its source.
fn result(material: &Material) -> Option<(f64, String)> {
    let evaluated = material.evaluation.as_ref().map(|report| {
        let evaluation = &report.evaluation;
        let images = count(evaluation.num_images as u64);
        (evaluation.top1, format!("top-1 on {}, {images} images", report.set_in_words()))
    });
    evaluated.or_else(|| {
        // The last epoch, not the best: a choice by test images would be too optimistic.
        let epochs = &material.retrain.as_ref()?.metrics;
        let epoch = epochs.iter().rev().find(|epoch| epoch.valid_accuracy.is_some())?;
        let on = match epoch.measured_on {
            Some(MeasuredOn::Test) => "test images",
            Some(MeasuredOn::Validation) => "images held out from training",
            None => "images it was not trained on",
        };
        let from = format!("top-1 on {on}, after epoch {} of the retraining", epoch.epoch + 1);
        Some((epoch.valid_accuracy?, from))
    })
}

/// The title, the result in a sentence, and the figures around it.
pub fn head(material: &Material) -> Markup {
    let result = result(material);
    html! {
        header {
            p.kind { "EC-DARTS" @if let Some(dataset) = material.dataset() { " on " (dataset.name()) } }
            h1 { (material.name) }
            p.lead {
                @match (&result, &material.retrain) {
                    (Some((accuracy, from)), _) => {
                        "The network reaches " strong { (percent(*accuracy)) } " " (from) "."
                    }
                    (None, Some(_)) => {
                        "The network is being retrained; its accuracy was not measured yet."
                    }
                    (None, None) => {
                        "A genotype was found and not retrained: "
                        strong { "there is no result yet" }
                        ", only accuracies of the search."
                    }
                }
            }
            dl.facts {
                @for (name, fact) in facts(material, result.map(|(accuracy, _)| accuracy)) {
                    div { dt { (name) } dd { (fact) } }
                }
            }
        }
    }
}

fn facts(material: &Material, accuracy: Option<f64>) -> Vec<(&'static str, Markup)> {
    let mut facts = vec![("Accuracy", cell(accuracy.map_or("not measured".into(), percent)))];
    if let Some(report) = &material.evaluation {
        let evaluation = &report.evaluation;
        facts.push(("Mean over the classes", cell(percent(evaluation.balanced_accuracy))));
        facts.extend(evaluation.top5.map(|top5| ("Top-5", cell(percent(top5)))));
        facts.push(("Test loss", cell(format!("{:.3}", evaluation.loss))));
    }
    if let (Some(genotype), Some((config, side))) = (material.genotype(), material.retrained()) {
        let cost = NetworkCost::new(genotype, &config, side).cost;
        facts.push(("Parameters", cell(count(cost.parameters))));
        facts.push(("Multiply-adds", cell(count(cost.multiply_adds))));
    }
    if let Some(report) = &material.evaluation {
        facts
            .push(("Latency, one image", cell(format!("{:.1} ms", 1e3 * report.latency.median_s))));
    }
    let search = material.search.as_ref().map(|run| about(run, |config| config.search.seed));
    let retrain = material.retrain.as_ref().map(|run| about(run, |config| config.retrain.seed));
    facts.push(("Search", search.unwrap_or_else(|| cell("not run"))));
    facts.push(("Retraining", retrain.unwrap_or_else(|| cell("not run"))));
    facts
}

/// Epochs, seed, time, device, commit.
fn about<C: Settings, E: Epoch>(run: &Run<C, E>, seed: fn(&C) -> u64) -> Markup {
    let epochs = match run.progress() {
        (done, Some(planned)) => format!("{done} of {planned} epochs"),
        (done, None) => format!("{done} epochs"),
    };
    let seed = run.config.as_ref().map(seed);
    let mut parts = vec![
        epochs,
        seed.map_or("seed not known".into(), |seed| format!("seed {seed}")),
        run.seconds().map_or("time not recorded".into(), duration),
    ];
    if let Some(last) = run.sessions.last() {
        parts.extend([last.device.clone(), format!("commit {}", last.commit)]);
    }
    html! {
        small {
            @for (place, part) in parts.iter().enumerate() { @if place > 0 { br; } (part) }
        }
    }
}

/// Conclusions that a reader must not draw, and faults of the runs.
pub fn not_run(material: &Material) -> Markup {
    let warnings = warnings(material);
    html! {
        section id="not-run" {
            h2 { "What was not run" }
            ul { @for gap in gaps(material) { li { (gap) } } }
            @if !warnings.is_empty() {
                h2 { "Warnings" }
                ul.warnings { @for warning in warnings { li { (warning) } } }
            }
        }
    }
}

fn gaps(material: &Material) -> Vec<String> {
    let Material { search, retrain, evaluation, .. } = material;
    let mut gaps: Vec<String> = Vec::new();
    for (name, progress) in [
        ("search", search.as_ref().map(Run::progress)),
        ("retraining", retrain.as_ref().map(Run::progress)),
    ] {
        match progress {
            None => gaps.push(format!("The {name}.")),
            Some((0, _)) => gaps.push(format!("The {name}: it has begun, no epoch is over.")),
            Some((done, Some(planned))) if done < planned => {
                gaps.push(format!("The rest of the {name}: {done} of {planned} epochs are over."));
            }
            Some(_) => {}
        }
    }
    if evaluation.is_none() {
        gaps.push("An evaluation on the test images: no accuracy by class, no latency.".into());
    }
    gaps.push(
        "Other seeds: there is one run of each stage, so nothing is known about the spread. \
         Differences of a few tenths of a percent are within what seeds do."
            .into(),
    );
    gaps.push(
        "Comparisons: neither random genotypes nor those of other methods were retrained with these \
         settings, so it is not known what the search added."
            .into(),
    );
    let searched = search.as_ref().and_then(|run| run.config.as_ref());
    if let Some(epochs) = searched.map(|config| config.num_epochs()).filter(|epochs| *epochs < 25) {
        gaps.push(format!("A search at the paper's scale: {epochs} epochs here, 25 there."));
    }
    let retrained = retrain.as_ref().and_then(|run| run.config.as_ref());
    if let Some(epochs) =
        retrained.map(|config| config.retrain.epochs).filter(|epochs| *epochs < 250)
    {
        gaps.push(format!(
            "A retraining at the paper's scale: {epochs} epochs here, at least 250 there \
             (600 on CIFAR). Accuracies cannot be compared with the paper's."
        ));
    }
    gaps
}

fn warnings(material: &Material) -> Vec<String> {
    let mut found = material.problems.clone();
    let searched = material.search.as_ref().and_then(|run| run.genotype.as_ref());
    let retrained = material.retrain.as_ref().and_then(|run| run.genotype.as_ref());
    if let (Some(searched), Some(retrained)) = (searched, retrained)
        && searched != retrained
    {
        found.push(
            "The genotype that was retrained is not the one that the search returned.".into(),
        );
    }
    found.extend(material.search.iter().flat_map(of_run));
    found.extend(material.retrain.iter().flat_map(of_run));
    found
}

/// Remarks about several commits, and the warnings of the epochs; a warning of many epochs appears
/// once.
fn of_run<C, E: Epoch>(run: &Run<C, E>) -> Vec<String> {
    let mut found = Vec::new();
    let commits: Vec<&str> = run.sessions.iter().map(|session| &session.commit[..]).collect();
    if commits.windows(2).any(|pair| pair[0] != pair[1]) {
        found.push(format!("A run was made by several commits: {}.", commits.join(", ")));
    }
    let mut told: Vec<(&str, Vec<String>)> = Vec::new();
    for epoch in &run.metrics {
        let number = (epoch.number() + 1).to_string();
        for warning in epoch.warnings() {
            match told.iter_mut().find(|(text, _)| text == warning) {
                Some((_, epochs)) => epochs.push(number.clone()),
                None => told.push((warning, vec![number.clone()])),
            }
        }
    }
    found.extend(told.into_iter().map(|(text, epochs)| {
        let word = if epochs.len() == 1 { "Epoch" } else { "Epochs" };
        format!("{word} {}: {text}.", epochs.join(", "))
    }));
    found
}
