//! Studies by the real binary: killed, run by several processes, and their results.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::{Folder, project, told};

const PROTOCOL: &str = "training_seeds = [0]
[search.network]
init_channels = 2
num_cells = 3
num_nodes = 2
[search.search]
epochs = 2
batch_size = 4
steps_per_epoch = 2
measured_images = 8
[search.run]
checkpoint_steps = 1
[retrain]
base = \"retrain_quick\"
[retrain.network]
stem = \"stride2\"
init_channels = 2
num_cells = 3
[retrain.retrain]
epochs = 2
batch_size = 4
steps_per_epoch = 2
measure_every = 2
validation_fraction = 0.05
[retrain.run]
checkpoint_steps = 1
";

const STUDY: &str = "kind = \"ablation\"
protocol = \"tiny.toml\"
seeds = [0]
[[variants]]
name = \"darts\"
search = \"darts\"
[[variants]]
name = \"ec_darts\"
search = \"search_cifar10\"
[[variants]]
name = \"random\"
random = [0]
";

/// A folder with a study of two searches and three trainings, with so many steps in each of their epochs.
pub fn folder(steps: usize) -> Folder {
    let folder = Folder::new();
    folder.write("study.toml", STUDY);
    folder.write(
        "tiny.toml",
        PROTOCOL.replace("steps_per_epoch = 2", &format!("steps_per_epoch = {steps}")),
    );
    folder
}

fn arguments<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let run = ["study", "run", "study.toml", "--device", "cpu", "--threads", "1", "--data", data];
    [&run[..], &["--out", out], more].concat()
}

fn run(folder: &Folder, out: &str, more: &[&str]) -> (Option<i32>, String, String) {
    told(&folder.run(&arguments(&project("data/cifar10-mini"), out, more)))
}

fn start(folder: &Folder, out: &str) -> Child {
    let data = project("data/cifar10-mini");
    let mut command = folder.command(&arguments(&data, out, &["--quiet"]));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("runs")
}

/// Metrics of a study's trials: name and content of every file.
pub fn table(out: &Path) -> Vec<(PathBuf, String)> {
    let mut table = Vec::new();
    for kind in ["searches", "trainings"] {
        for trial in std::fs::read_dir(out.join(kind)).expect("trials") {
            let trial = trial.expect("a trial").path();
            let text = std::fs::read_to_string(trial.join("metrics.jsonl")).expect("metrics");
            table.push((trial.strip_prefix(out).expect("inside").to_path_buf(), text));
        }
    }
    table.sort();
    table
}

/// Trials in each state, by `study list --json`.
fn states(folder: &Folder, out: &str) -> Vec<(String, String)> {
    let (code, text, err) =
        told(&folder.run(&["study", "list", "study.toml", "--out", out, "--json"]));
    assert_eq!(code, Some(0), "{err}");
    let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_string();
    let trials = all["trials"].as_array().expect("a list").iter();
    trials.map(|trial| (text(&trial["trial"]), text(&trial["state"]))).collect()
}

pub fn count(folder: &Folder, out: &str, state: &str) -> usize {
    states(folder, out).iter().filter(|(_, each)| each == state).count()
}

#[test]
fn a_killed_study_goes_on_to_the_same_table() {
    let folder = folder(2);
    let begin = Instant::now();
    let (code, text, err) = run(&folder, "whole", &[]);
    assert_eq!(code, Some(0), "{text}{err}");
    assert!(text.contains("5 trials done by this process"), "{text}");
    let best = |out: &str| std::fs::read(folder.path(out).join("reports/study/best.json"));
    assert!(text.contains("the most accurate genotype, "), "{text}");
    let whole = begin.elapsed();
    let mut killed = 0;
    for _ in 0..40 {
        if killed == 5 {
            break;
        }
        let mut child = start(&folder, "killed");
        std::thread::sleep(whole.mul_f64(0.25).max(Duration::from_millis(50)));
        killed += u32::from(child.try_wait().expect("a child").is_none());
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
    assert!(killed > 0, "no run lasted long enough to be killed");
    let (code, _, err) = run(&folder, "killed", &["--quiet"]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(table(&folder.path("killed")), table(&folder.path("whole")), "{killed} kills");
    assert_eq!(count(&folder, "killed", "done"), 5);
    assert_eq!(best("killed").expect("a genotype"), best("whole").expect("a genotype"));
}

/// The plan of such a study reads alpha of a finished search, before the device is opened with its threads.
#[test]
fn a_study_of_edges_goes_on_after_its_search() {
    let folder = folder(2);
    let variant = "[[variants]]\nname = \"darts\"\nsearch = \"darts\"\n";
    let head = "kind = \"edges\"\nprotocol = \"tiny.toml\"\nseeds = [0]\n";
    folder.write("study.toml", format!("{head}{variant}"));
    for done in 1..=3 {
        let (code, text, err) = run(&folder, "out", &["--max-trials", "1"]);
        assert_eq!(code, Some(3), "{text}{err}");
        assert_eq!(count(&folder, "out", "done"), done);
    }
}

/// A trial whose process was killed is taken over by the one that runs beside it, from its checkpoint.
#[test]
fn a_process_takes_over_what_another_was_killed_in() {
    let folder = folder(60);
    let (mut one, began) = (start(&folder, "out"), Instant::now());
    let wait = |what: &str, holds: &dyn Fn() -> bool| {
        while !holds() {
            assert!(began.elapsed() < Duration::from_secs(300), "{what}: not within five minutes");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let checkpoints = folder.path("out/searches/darts-s0/checkpoints");
    wait("a checkpoint", &|| {
        let entries = std::fs::read_dir(&checkpoints);
        // A file that is still written has another name.
        let is_whole = |name: &std::path::Path| name.extension() == Some("safetensors".as_ref());
        entries.is_ok_and(|entries| entries.flatten().any(|entry| is_whole(&entry.path())))
    });
    // It holds its trial, and does nothing any more.
    let id = one.id().to_string();
    assert!(Command::new("kill").args(["-STOP", &id]).status().expect("kill").success());
    let mut two = start(&folder, "out");
    // The other search, its training, and that of the random genotype; then it waits.
    wait("the other trials", &|| count(&folder, "out", "done") == 3);
    let first = states(&folder, "out").swap_remove(0);
    assert_eq!(first, ("searches/darts-s0".into(), "running".into()));
    assert!(two.try_wait().expect("a child").is_none(), "it does not wait");
    one.kill().expect("killed");
    one.wait().expect("ended");
    assert!(two.wait().expect("ends").success());
    assert_eq!(count(&folder, "out", "done"), 5);
    let sessions = std::fs::read(folder.path("out/searches/darts-s0/sessions.json"));
    let sessions: serde_json::Value =
        serde_json::from_slice(&sessions.expect("sessions")).expect("JSON");
    let from = |session: &serde_json::Value| session["from_step"].as_u64().expect("a step");
    let from: Vec<u64> = sessions.as_array().expect("a list").iter().map(from).collect();
    assert!(from.len() == 2 && from[0] == 0 && from[1] > 0, "{from:?}");
}

#[test]
fn limits_choices_and_refusals() {
    let folder = folder(2);
    let (code, text, err) = run(&folder, "out", &["--max-steps", "3"]);
    assert_eq!(code, Some(3), "{text}{err}");
    assert!(text.contains("the same command goes on with the study"), "{text}");
    assert!(!(text + &err).contains("--resume"), "an option of other commands");
    let listed = states(&folder, "out");
    assert_eq!(listed[0], ("searches/darts-s0".into(), "begun".into()));
    let (code, _, err) = run(&folder, "out", &["--only", "searches/x"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--only searches/x: no such trial"), "{err}");
    let (code, text, err) = run(&folder, "out", &["--only", &listed[0].0]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        text.contains("goes on at step 3") && text.contains("3 left that were not chosen"),
        "{text}"
    );
    let (code, _, err) = run(&folder, "out", &["--max-trials", "1", "--quiet"]);
    assert_eq!((code, count(&folder, "out", "done")), (Some(3), 2), "{err}");
    // Other images, then another protocol.
    let other = folder.path("images");
    std::fs::create_dir(&other).expect("made");
    for entry in std::fs::read_dir(project("data/cifar10-mini")).expect("images") {
        let path = entry.expect("a file").path();
        let mut bytes = std::fs::read(&path).expect("read");
        if path.ends_with("test_batch.bin") {
            *bytes.last_mut().expect("bytes") ^= 1;
        }
        std::fs::write(other.join(path.file_name().expect("a name")), bytes).expect("written");
    }
    let other = other.display().to_string();
    let (code, _, err) = told(&folder.run(&arguments(&other, "out", &[])));
    assert_eq!(code, Some(1));
    assert!(err.contains("its trials are on other images than these"), "{err}");
    folder.write("tiny.toml", PROTOCOL.replacen("epochs = 2", "epochs = 3", 1));
    let (code, _, err) = run(&folder, "out", &[]);
    assert_eq!(code, Some(1));
    let expected = "holds a trial with other settings: search.epochs is 3 here and 2 there";
    assert!(err.contains(expected), "{err}");
    folder.write("tiny.toml", "training_seeds = [0]\n[retrain]\nbase = \"gone\"\n");
    let (code, _, err) = run(&folder, "out", &[]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("tiny.toml: `retrain.base` is \"gone\": cannot read"), "{err}");
}

#[test]
fn every_event_is_a_line() {
    let folder = folder(2);
    let (code, text, err) = run(&folder, "out", &["--json", "--max-trials", "1"]);
    assert_eq!(code, Some(3), "{err}");
    let events: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let trials: Vec<&str> = events
        .iter()
        .filter(|event| event["event"] == "trial")
        .map(|event| event["state"].as_str().expect("text"))
        .collect();
    assert_eq!(trials, ["begin", "done"], "{text}");
    assert_eq!(events.last().expect("one")["event"], "stopped");
    let (code, text, err) = run(&folder, "out", &["--json", "--max-steps", "2"]);
    assert_eq!(code, Some(3), "{err}");
    let last: serde_json::Value =
        serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    let checkpoint = last["checkpoint"].as_str().expect("of the trial that was stopped");
    assert!(std::path::Path::new(checkpoint).is_file() || folder.path(checkpoint).is_file());
    assert_eq!((&last["event"], &last["total_step"]), (&"stopped".into(), &2.into()), "{text}");
}

#[test]
fn a_script_for_slurm() {
    let folder = folder(2);
    let submit = |more: &[&str]| {
        let all =
            ["study", "submit", "study.toml", "--data", "d", "--out", "o", "--scheduler", "slurm"];
        told(&folder.run(&[&all[..], more].concat()))
    };
    let options = [
        "--tasks",
        "3",
        "--cpus-per-task",
        "2",
        "--time",
        "1:00:00",
        "--dry-run",
        "--",
        "--gres=gpu:1",
    ];
    let (code, text, err) = submit(&options);
    assert_eq!(code, Some(0), "{err}");
    let at = folder.path("").canonicalize().expect("there").display().to_string();
    for line in [
        "#SBATCH --job-name=study",
        "#SBATCH --array=1-3",
        "#SBATCH --cpus-per-task=2",
        &format!("#SBATCH --output={at}/o/slurm/%A_%a.out"),
        "#SBATCH --time=1:00:00",
        "#SBATCH --gres=gpu:1",
    ] {
        assert!(text.lines().any(|each| each == line), "{line} is not in\n{text}");
    }
    let last = format!(" study run {at}/study.toml --data {at}/d --out {at}/o --threads 2");
    assert!(text.trim_end().ends_with(&last), "{text}");
    assert!(!folder.path("o").exists());
    let (code, _, err) = submit(&["--tasks", "3", "--dry-run", "--", "now"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("`option` is \"now\", allowed: an option of sbatch"), "{err}");
}
