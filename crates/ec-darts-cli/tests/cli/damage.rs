//! Damaged and missing files of a run: reported, restored from the checkpoint, or refused.

use std::path::{Path, PathBuf};

use crate::program::{Folder, sample, told};

fn run(folder: &Folder, more: &[&str]) -> (Option<i32>, String, String) {
    let arguments = sample(&[&["--out", "r"], more].concat());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    told(&folder.run(&arguments))
}

fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(run.join("checkpoints")).expect("checkpoints");
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    all.sort();
    all
}

/// A run of nine steps, in its second epoch.
fn begun() -> Folder {
    let folder = Folder::new();
    let (code, _, err) = run(&folder, &["--max-steps", "9", "--quiet"]);
    assert_eq!(code, Some(3), "{err}");
    folder
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("a file");
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    std::fs::write(path, bytes).expect("written");
}

fn log(folder: &Folder) -> String {
    std::fs::read_to_string(folder.path("r/log.txt")).expect("a log")
}

/// Checks that the run reaches the same result as a run without damage.
fn check_end(folder: &Folder) {
    let (code, _, err) = run(folder, &["--resume", "--quiet"]);
    assert_eq!(code, Some(0), "{err}");
    let whole = Folder::new();
    assert_eq!(run(&whole, &["--quiet"]).0, Some(0));
    for name in ["metrics.jsonl", "genotype.json", "genotypes/epoch-001.json"] {
        let read = |folder: &Folder| std::fs::read(folder.path(&format!("r/{name}"))).expect(name);
        assert!(read(folder) == read(&whole), "{name} differs");
    }
    let last = |folder: &Folder| {
        let mut all = checkpoints(&folder.path("r"));
        all.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
        std::fs::read(all.pop().expect("a checkpoint")).expect("readable")
    };
    assert!(last(folder) == last(&whole), "the last checkpoints differ");
}

#[test]
fn a_flipped_bit_is_told_wherever_one_listens() {
    for how in ["--json", "--quiet", "--set=run.workers=1"] {
        let folder = begun();
        let [older, newer] = &checkpoints(&folder.path("r"))[..] else { panic!("two checkpoints") };
        flip(newer);
        let (code, out, err) = run(&folder, &["--resume", "--max-steps", "1", how]);
        assert_eq!(code, Some(3), "{err}");
        let told = if how == "--quiet" { &err } else { &out };
        let event =
            if how == "--json" { "\"event\":\"checkpoint-skipped\"" } else { "warning: skipped" };
        let name = older.file_name().and_then(|name| name.to_str()).expect("a name");
        for text in [event, "its content is not that of its SHA-256 digest", name] {
            assert!(told.contains(text), "{how}: {text:?} in {told}");
        }
        assert!(log(&folder).contains("is not that of its SHA-256 digest; goes on from"));
        // The intact older checkpoint stays beside the new one; the damaged one gets another name.
        let names: Vec<String> = checkpoints(&folder.path("r"))
            .iter()
            .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
            .collect();
        let newer = newer.file_name().and_then(|name| name.to_str()).expect("a name");
        assert_eq!(names, [name.to_string(), newer.to_string(), format!("{newer}.damaged")]);
        check_end(&folder);
    }
}

#[test]
fn files_beside_the_checkpoints_are_written_again() {
    let damages: [(&str, Option<&str>, &str); 8] = [
        ("metrics.jsonl", None, "was missing"),
        ("metrics.jsonl", Some("{\"epoch\": 7}\n"), "was damaged"),
        ("sessions.json", None, "was missing: earlier sessions are not known"),
        ("sessions.json", Some("[{"), "was damaged, earlier sessions are not known: EOF"),
        ("config.toml", None, "was missing"),
        ("config.toml", Some("= 3"), "was damaged"),
        ("genotypes/epoch-001.json", None, "had not the genotypes of epochs 1"),
        (
            "data.json",
            Some("{}"),
            "was damaged, images that broke in earlier sessions are not known",
        ),
    ];
    for (name, content, expected) in damages {
        let folder = begun();
        let path = folder.path(&format!("r/{name}"));
        match content {
            Some(content) => std::fs::write(&path, content).expect("written"),
            None => std::fs::remove_file(&path).expect("removed"),
        }
        let (code, out, err) = run(&folder, &["--resume", "--json", "--max-steps", "1"]);
        assert_eq!(code, Some(3), "{err}");
        for text in ["\"event\":\"renewed\"", expected] {
            assert!(out.contains(text), "{name}: {text:?} in {out}");
        }
        assert!(log(&folder).contains("; written again"), "{name}");
        assert!(path.exists(), "{name}");
        check_end(&folder);
    }
}

#[test]
fn a_run_without_its_checkpoints_does_not_begin_again() {
    let folder = begun();
    std::fs::remove_dir_all(folder.path("r/checkpoints")).expect("removed");
    for resume in ["--resume", "--resume=auto"] {
        let (code, _, err) = run(&folder, &[resume]);
        assert!(
            code == Some(1) && err.contains("its checkpoints are gone: metrics.jsonl"),
            "{err}"
        );
    }
    // All are damaged: each is named with its cause.
    let folder = begun();
    checkpoints(&folder.path("r")).iter().for_each(|path| flip(path));
    let (code, _, err) = run(&folder, &["--resume"]);
    assert!(code == Some(1) && err.matches("SHA-256 digest").count() == 2, "{err}");
    assert_eq!(checkpoints(&folder.path("r")).len(), 2, "they are left as they are");
    // An intact checkpoint under the name of another.
    let folder = begun();
    let [older, newer] = &checkpoints(&folder.path("r"))[..] else { panic!("two checkpoints") };
    std::fs::copy(older, newer).expect("copied");
    let (code, _, err) = run(&folder, &["--resume", "--quiet", "--max-steps", "1"]);
    assert!(
        code == Some(3) && err.contains("its name is not that of a checkpoint after step 8"),
        "{err}"
    );
}

/// The loss of the last step is computed before its update: only the weights show the update.
#[test]
fn a_retraining_does_not_end_in_weights_that_are_no_numbers() {
    let folder = Folder::new();
    let sets = ["weights.learning_rate=1e300", "retrain.epochs=1", "retrain.steps_per_epoch=1"];
    let mut arguments = crate::retrain::tiny(&["--genotype", "darts_v2", "--out", "r"]);
    for set in sets {
        arguments.extend(["--set".into(), set.into()]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (code, out, err) = told(&folder.run(&arguments));
    assert_eq!(code, Some(1), "{out}");
    assert!(err.contains("is not finite in epoch") && err.contains("network."), "{err}");
    assert!(!folder.path("r/model.safetensors").exists(), "no model of such weights");
    assert!(!out.contains("100.00 %"), "{out}");
}
