//! What was reached, with what, and what was not run.

use ec_darts::cost::NetworkCost;
use serde_json::Value;

use super::costs::{image_size, retrained};
use super::html::{count, duration, escape, percent};
use super::read::{Material, Run};

pub fn title(material: &Material) -> String {
    format!("{}: EC-DARTS report", material.name)
}

/// Accuracy of the trained network, and where it is from.
fn result(material: &Material) -> Option<(f64, String)> {
    let evaluated = material.figures().and_then(|figures| {
        let images = figures["num_images"].as_u64();
        let on = images.map_or(String::new(), |images| format!(", {} images", count(images)));
        Some((figures["top1"].as_f64()?, format!("top-1 on the test set{on}")))
    });
    let measured = || {
        // The last one, not the best: choosing by test images would flatter.
        let lines = &material.retrain.as_ref()?.metrics;
        let line = lines.iter().rev().find(|line| line["valid_accuracy"].is_f64())?;
        let on = match line["measured_on"].as_str() {
            Some("test") => "test images",
            Some("validation") => "images held out from training",
            _ => "images it was not trained on",
        };
        let epoch = line["epoch"].as_u64().map_or("?".into(), |epoch| epoch.to_string());
        let from = format!("top-1 on {on}, after epoch {epoch} of the retraining");
        Some((line["valid_accuracy"].as_f64()?, from))
    };
    evaluated.or_else(measured)
}

/// Title, the result in a sentence, and the figures around it.
pub fn head(material: &Material) -> String {
    let run = material.retrain.as_ref().or(material.search.as_ref());
    let dataset = run.and_then(|run| run.setting("data.dataset")?.as_str());
    let on = dataset.map_or(String::new(), |name| format!(" on {}", escape(name)));
    let result = result(material);
    let sentence = match (&result, &material.retrain) {
        (Some((accuracy, from)), _) => {
            format!("The network reaches <strong>{}</strong> {from}.", percent(*accuracy))
        }
        (None, Some(_)) => {
            "The network is being retrained; its accuracy was not measured yet.".into()
        }
        (None, None) => "A genotype was found and not retrained: <strong>there is no result \
                         yet</strong>, only accuracies of the search."
            .into(),
    };
    let mut facts = vec![("Accuracy", result.map_or("not measured".into(), |(it, _)| percent(it)))];
    if let Some(top5) = material.figures().and_then(|figures| figures["top5"].as_f64()) {
        facts.push(("Top-5", percent(top5)));
    }
    if let Some(loss) = material.figures().and_then(|figures| figures["loss"].as_f64()) {
        facts.push(("Test loss", format!("{loss:.3}")));
    }
    if let (Some(genotype), Some(config)) = (material.genotype(), retrained(material)) {
        let cost = NetworkCost::new(genotype, &config, image_size(config.stem)).cost;
        facts.push(("Parameters", count(cost.parameters)));
        facts.push(("Multiply-adds", count(cost.multiply_adds)));
    }
    let latency = material.evaluation.as_ref().map(|all| &all["latency"]);
    if let Some(seconds) = latency.and_then(|latency| latency["median_s"].as_f64()) {
        facts.push(("Latency, one image", format!("{:.1} ms", 1e3 * seconds)));
    }
    for (name, run, seed) in [
        ("Search", &material.search, "search.seed"),
        ("Retraining", &material.retrain, "retrain.seed"),
    ] {
        facts.push((name, run.as_ref().map_or("not run".into(), |run| about(run, seed))));
    }
    let facts = facts
        .into_iter()
        .map(|(name, fact)| format!("<div><dt>{name}</dt><dd>{fact}</dd></div>\n"));
    format!(
        "<header>\n<p class=\"kind\">EC-DARTS{on}</p>\n<h1>{}</h1>\n<p class=\"lead\">{sentence}</p>\n\
         <dl class=\"facts\">\n{}</dl>\n</header>\n",
        escape(&material.name),
        facts.collect::<String>()
    )
}

/// Epochs, seed, time, device, commit.
fn about(run: &Run, seed: &str) -> String {
    let epochs = match run.progress() {
        (done, Some(planned)) => format!("{done} of {planned} epochs"),
        (done, None) => format!("{done} epochs"),
    };
    let seed = run.integer(seed).map_or("seed not known".into(), |seed| format!("seed {seed}"));
    let mut parts = vec![epochs, seed];
    if let Some(images) = run.sessions.last().and_then(|session| session["images"].as_u64()) {
        parts.push(format!("{} images", count(images)));
    }
    parts.push(run.seconds().map_or("time not recorded".into(), duration));
    parts.extend(run.session("device").map(escape));
    parts.extend(run.session("commit").map(|commit| format!("commit {}", escape(commit))));
    format!("<small>{}</small>", parts.join("<br>"))
}

/// What a reader must not conclude, and what went wrong.
pub fn not_run(material: &Material) -> String {
    let Material { search, retrain, evaluation, .. } = material;
    let mut gaps: Vec<String> = Vec::new();
    for (name, run) in [("search", search), ("retraining", retrain)] {
        match run.as_ref().map(Run::progress) {
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
    let scale = |run: &Option<Run>, key: &str, paper: usize| {
        let epochs = run.as_ref()?.integer(key)? as usize;
        (epochs < paper).then_some((epochs, paper))
    };
    if let Some((epochs, paper)) = scale(search, "search.epochs", 25) {
        gaps.push(format!("A search at the paper's scale: {epochs} epochs here, {paper} there."));
    }
    if let Some((epochs, paper)) = scale(retrain, "retrain.epochs", 250) {
        gaps.push(format!(
            "A retraining at the paper's scale: {epochs} epochs here, at least {paper} there \
             (600 on CIFAR). Accuracies cannot be compared with the paper's."
        ));
    }
    let items =
        |all: &[String]| all.iter().map(|each| format!("<li>{each}</li>\n")).collect::<String>();
    let mut text = format!(
        "<section id=\"not-run\">\n<h2>What was not run</h2>\n<ul>\n{}</ul>\n",
        items(&gaps)
    );
    let warnings = warnings(material);
    if !warnings.is_empty() {
        text += &format!("<h2>Warnings</h2>\n<ul class=\"warnings\">\n{}</ul>\n", items(&warnings));
    }
    text + "</section>\n"
}

fn warnings(material: &Material) -> Vec<String> {
    let mut found: Vec<String> = material.problems.iter().map(|problem| escape(problem)).collect();
    let of = |run: &Option<Run>| run.as_ref().and_then(|run| run.genotype.clone());
    if let (Some(searched), Some(retrained)) = (of(&material.search), of(&material.retrain))
        && searched != retrained
    {
        found.push(
            "The genotype that was retrained is not the one that the search returned.".into(),
        );
    }
    // A warning of many epochs is told once.
    let mut told: Vec<(String, Vec<String>)> = Vec::new();
    for run in [&material.search, &material.retrain].into_iter().flatten() {
        for line in &run.metrics {
            let epoch = line["epoch"].as_u64().map_or("?".into(), |epoch| epoch.to_string());
            for warning in
                line["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str)
            {
                match told.iter_mut().find(|(text, _)| text == warning) {
                    Some((_, epochs)) => epochs.push(epoch.clone()),
                    None => told.push((warning.into(), vec![epoch.clone()])),
                }
            }
        }
        let commits: Vec<&str> =
            run.sessions.iter().filter_map(|session| session["commit"].as_str()).collect();
        if commits.windows(2).any(|pair| pair[0] != pair[1]) {
            found.push(format!(
                "A run was made by several commits: {}.",
                escape(&commits.join(", "))
            ));
        }
    }
    found.extend(told.into_iter().map(|(text, epochs)| {
        let word = if epochs.len() == 1 { "Epoch" } else { "Epochs" };
        format!("{word} {}: {}.", epochs.join(", "), escape(&text))
    }));
    found
}
