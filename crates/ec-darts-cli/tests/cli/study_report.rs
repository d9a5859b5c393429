//! `ec-darts study report` of results that are known.

use std::fs;

use ec_darts_study::{
    Candidate, Cost, EpochScores, Kind, Place, Results, SearchResult, TrainingResult, Unfinished,
};

use crate::program::{Folder, project, told};

const COST: Cost = Cost { seconds: 90.0, processor_seconds: 180.0 };

/// A number in [0, 1) that looks random and is always the same.
fn noise(of: &str) -> f64 {
    let hash = of
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    f64::from(hash.wrapping_mul(0x9e37_79b1) >> 8) / f64::from(1 << 24)
}

fn candidate(variant: &str, place: Place, accuracy: f64) -> Candidate {
    let key = format!("{:08x}", (noise(&format!("{variant}{place:?}")) * 4e9) as u32);
    let training = |seed: u64| TrainingResult {
        seed,
        folder: format!("trainings/{key}-t{seed}").into(),
        accuracy: accuracy + 0.01 * noise(&format!("{key}{seed}")),
        on_test: true,
        cost: COST,
    };
    Candidate {
        variant: variant.into(),
        supernet_accuracy: Some(0.4 + 0.05 * noise(&key)),
        auxiliary_accuracy: (variant == "ec_darts").then_some(0.3 + 0.5 * (accuracy - 0.6)),
        operation_weight: matches!(place, Place::Edges { .. }).then(|| 0.2 + accuracy - 0.6),
        trainings: vec![training(0), training(1)],
        genotype: key,
        place,
    }
}

/// Places of the candidates of one variant.
fn places(kind: Kind, variant: &str) -> Vec<Place> {
    if variant == "random" {
        return (0..20).map(|seed| Place::Random { seed }).collect();
    }
    match kind {
        Kind::Ablation => (0..5).map(|seed| Place::Search { seed }).collect(),
        Kind::Searches => (0..10).map(|seed| Place::Search { seed }).collect(),
        Kind::Epochs => (1..=10).map(|epoch| Place::Epoch { seed: 0, epoch }).collect(),
        Kind::Edges => {
            let pairs = (0..5).flat_map(|to| (0..to).map(move |from| vec![from, to]));
            let of = |seed| {
                pairs.clone().map(move |from| Place::Edges { seed, kept: from == [0, 1], from })
            };
            (0..3).flat_map(of).collect()
        }
    }
}

/// Results of a study at the sizes of our own.
pub fn example(kind: Kind) -> Results {
    let mut variants = vec!["darts", "ec_darts"];
    if kind == Kind::Ablation {
        variants = vec!["darts", "darts_cen", "darts_ist", "ec_darts", "random"];
    }
    let (mut candidates, mut searches) = (Vec::new(), Vec::new());
    for (number, variant) in variants.iter().enumerate() {
        for place in places(kind, variant) {
            let spread = 0.03 * noise(&format!("{place:?}{variant}spread"));
            candidates.push(candidate(variant, place, 0.64 + 0.01 * number as f64 + spread));
        }
        let scores = |epoch| EpochScores {
            epoch,
            genotype: "0000".into(),
            supernet_accuracy: 0.4,
            auxiliary_accuracy: None,
            entropy: 0.99,
        };
        if *variant != "random" {
            searches.push(SearchResult {
                variant: variant.to_string(),
                seed: 0,
                folder: format!("searches/{variant}-s0").into(),
                genotype: "0000".into(),
                epochs: vec![scores(1), scores(2)],
                cost: COST,
            });
        }
    }
    let error = Some("no <b>memory</b> left | at\nall".into());
    Results {
        study: format!("{kind:?}_example").to_lowercase(),
        kind,
        protocol: "cpu".into(),
        training_seeds: vec![0, 1],
        variants: variants.into_iter().map(String::from).collect(),
        searches,
        candidates,
        unfinished: vec![Unfinished { trial: "searches/darts-s9".into(), error, cost: COST }],
    }
}

pub const KINDS: [Kind; 4] = [Kind::Ablation, Kind::Epochs, Kind::Searches, Kind::Edges];

/// Writes the report of results into a folder of its own.
pub fn report(folder: &Folder, name: &str, results: &Results) {
    let text = serde_json::to_string(results).expect("plain values");
    let file = folder.write(&format!("{name}/results.json"), text);
    let file = file.to_string_lossy();
    let (code, out, err) = told(&folder.run(&["study", "report", &file]));
    assert_eq!((code, &err[..]), (Some(0), ""), "{out}");
}

fn read(folder: &Folder, name: &str) -> String {
    fs::read_to_string(folder.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn all_kinds_have_a_report_without_holes() {
    let folder = Folder::new();
    for kind in KINDS {
        let results = example(kind);
        report(&folder, "r", &results);
        let files = ["report.html", "report.md", "figures.csv", "trainings.csv", "searches.csv"];
        for file in files {
            let text = read(&folder, &format!("r/{file}"));
            for hole in ["NaN", "inf", "None", "Err(", "Ok("] {
                assert!(!text.contains(hole), "{hole} in {file} of {kind:?}");
            }
        }
        let page = read(&folder, "r/report.html");
        assert!(!page.contains("<script") && !page.contains("src=\"http"), "{kind:?}");
        assert!(page.contains("no &lt;b&gt;memory&lt;/b&gt; left"), "{kind:?}");
        let (markdown, table) = (read(&folder, "r/report.md"), read(&folder, "r/trainings.csv"));
        for training in results.candidates.iter().flat_map(|candidate| &candidate.trainings) {
            let name = training.folder.to_string_lossy();
            assert!(page.matches(&*name).count() >= 2, "a dot and a row of {name}");
            assert!(markdown.contains(&*name) && table.contains(&*name), "{name}");
        }
        for picture in markdown.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(read(&folder, &format!("r/{picture}")).starts_with("<svg "), "{picture}");
        }
        let figures = read(&folder, "r/figures.csv");
        let mut names: Vec<String> = csv::Reader::from_reader(figures.as_bytes())
            .records()
            .map(|record| record.expect("a row"))
            .map(|row| format!("{}, {}, {}", &row[0], &row[1], &row[2]))
            .collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "every figure of {kind:?} has a name of its own");
        let again: Results =
            serde_json::from_str(&read(&folder, "r/results.json")).expect("results");
        assert_eq!(again, results);
    }
}

/// The value, or the ends of the interval, of one cell of `figures.csv`.
fn figure(table: &str, row: &str, name: &str, text: &str) -> Vec<f64> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let mut rows = reader.records().map(|record| record.expect("a row"));
    let found = rows.find(|r| [&r[0], &r[1], &r[2]] == [table, row, name]);
    let found = found.unwrap_or_else(|| panic!("{table}, {row}, {name} in {text}"));
    (3..6).filter_map(|column| found[column].parse().ok()).collect()
}

#[test]
fn figures_are_those_of_the_trials() {
    let mut results = example(Kind::Ablation);
    // Differences by seed of 6, 7 and 8 points; random genotypes at 50 %.
    results.variants = ["darts", "ec_darts", "random"].map(String::from).into();
    results.candidates = (0..3)
        .flat_map(|seed| {
            let search = Place::Search { seed };
            let accuracy = 0.60 + 0.06 + 0.01 * seed as f64;
            [
                (candidate("darts", search.clone(), 0.0), 0.60),
                (candidate("ec_darts", search, 0.0), accuracy),
                (candidate("random", Place::Random { seed }, 0.0), 0.49 + 0.01 * seed as f64),
            ]
        })
        .map(|(mut candidate, accuracy)| {
            candidate.trainings[0].accuracy = accuracy - 0.01;
            candidate.trainings[1].accuracy = accuracy + 0.01;
            candidate
        })
        .collect();
    let folder = Folder::new();
    report(&folder, "r", &results);
    let text = read(&folder, "r/figures.csv");
    let close = |found: Vec<f64>, wanted: &[f64]| {
        assert_eq!(found.len(), wanted.len(), "{found:?} {wanted:?}");
        let near = found.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-3);
        assert!(near, "{found:?} {wanted:?}");
    };
    close(figure("accuracy", "ec_darts", "mean, %", &text), &[67.0]);
    close(figure("accuracy", "ec_darts", "over random, %", &text), &[34.0]);
    close(figure("accuracy", "darts", "between searches", &text), &[0.0]);
    // t(0.975, 2) = 4.302653, a standard error of 1 / sqrt(3) points.
    let name = "ec_darts \u{2212} darts";
    close(figure("differences", name, "mean, points", &text), &[7.0]);
    let half = 4.302_653 / 3.0_f64.sqrt();
    close(figure("differences", name, "95 % interval", &text), &[7.0 - half, 7.0 + half]);
    close(figure("differences", name, "p of sign flips", &text), &[0.25]);
    close(figure("differences", name, "seeds needed", &text), &[10.0]);
    // 18 trainings of 180 processor seconds, 4 searches of as many.
    close(figure("costs", "all finished trials", "trainings", &text), &[0.9]);
    let markdown = read(&folder, "r/report.md");
    let claim =
        "| Genotypes of ec_darts are more accurate than those of darts. | Table 4 | holds |";
    assert!(markdown.contains(claim), "{markdown}");
    // Three searches with means of 60 % without any spread.
    assert!(markdown.contains("cannot be told: all searches are equal"), "{markdown}");
}

#[test]
fn a_study_without_results_says_so() {
    let mut empty = example(Kind::Ablation);
    empty.candidates.clear();
    empty.searches.clear();
    let folder = Folder::new();
    report(&folder, "r", &empty);
    let page = read(&folder, "r/report.html");
    for said in ["no genotype is known yet", "cannot be told", "searches/darts-s9 failed"] {
        assert!(page.contains(said), "{said}");
    }
}

#[test]
fn what_a_report_refuses() {
    let folder = Folder::new();
    folder.write("bad.json", "{\"study\": 1}");
    let cases: [(&[&str], i32, &str); 7] = [
        (&["ablation_cpu"], 2, "--out: expected the folder of the study"),
        (&["ablation_cpu", "--out", "nowhere"], 1, "nowhere: no such folder"),
        (&["none", "--out", "."], 2, "none: no such file, and no built-in study"),
        (&["bad.json"], 1, "bad.json: expected results that a report wrote"),
        (&["none.json"], 1, "none.json"),
        (&["bad.json", "--difference", "0"], 2, "expected a number of 0.001 to 100"),
        (&["bad.json", "--power", "1"], 2, "expected a number of 0.1 to 0.999"),
    ];
    for (arguments, expected, said) in cases {
        let all = [&["study", "report"], arguments].concat();
        let (code, _, err) = told(&folder.run(&all));
        assert!(code == Some(expected) && err.contains(said), "{arguments:?}: {code:?} {err}");
    }
}

/// The trials of all committed studies in one folder give the committed results.
#[test]
fn committed_trials_give_the_committed_results() {
    let folder = Folder::new();
    let studies = project("docs/studies");
    let all = std::fs::read_dir(&studies).expect("studies").map(|each| each.expect("one").path());
    for kind in all.flat_map(|study| ["searches", "trainings"].map(|kind| study.join(kind))) {
        let Ok(trials) = std::fs::read_dir(&kind) else { continue };
        let name = kind.file_name().expect("a name").to_str().expect("text");
        for trial in trials.map(|each| each.expect("one").path()) {
            let trial_name = trial.file_name().expect("a name").to_str().expect("text");
            for file in std::fs::read_dir(&trial).expect("a trial") {
                let file = file.expect("one").path();
                let to = format!(
                    "all/{name}/{trial_name}/{}",
                    file.file_name().expect("a name").display()
                );
                folder.write(&to, std::fs::read(&file).expect("read"));
            }
        }
    }
    for study in ["ablation_cpu", "searches_cpu"] {
        let (code, _, err) = told(&folder.run(&["study", "report", study, "--out", "all"]));
        assert_eq!(code, Some(0), "{err}");
        let read = |path: &str| std::fs::read_to_string(path).expect("results");
        let found = folder.path(&format!("all/reports/{study}/results.json"));
        let committed = format!("{studies}/{study}/results.json");
        assert_eq!(read(&found.display().to_string()), read(&committed), "{study}");
    }
}
