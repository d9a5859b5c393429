//! `--json`: one object in each line, and the last line says how the run ended.

use std::ffi::OsString;

use serde_json::Value;

use crate::pipeline;
use crate::program::{Folder, sample, tiny, told};

/// All lines as events; the last one has this name.
fn events(out: &str, last: &str) -> Vec<Value> {
    let parse = |line: &str| -> Value {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        assert!(event.is_object() && event["event"].is_string(), "{line}");
        event
    };
    let events: Vec<Value> = out.lines().map(parse).collect();
    let ends = ["finished", "stopped", "failed"];
    let places =
        events.iter().filter(|event| ends.contains(&event["event"].as_str().expect("text")));
    assert_eq!(places.count(), 1, "{out}");
    assert_eq!(events.last().expect("an event")["event"], last, "{out}");
    events
}

fn run(folder: &Folder, arguments: &[String]) -> (Option<i32>, String, String) {
    told(&folder.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()))
}

#[test]
fn a_whole_run() {
    let folder = Folder::new();
    let output = pipeline::command(&folder, &["--json"]).output().expect("the binary runs");
    let (code, out, err) = told(&output);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let events = events(&out, "finished");
    let has = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!((has("setup"), has("evaluation"), has("report")), (2, 1, 1), "{out}");
    assert!(has("step") > 4 && has("epoch") == 2, "{out}");
    // The run is stopped in its first stage, and refused because the folder is taken.
    let (code, out, _) = told(&pipeline::command(&folder, &["--json"]).output().expect("runs"));
    let refused = self::events(&out, "failed");
    let last = refused.last().expect("an event");
    assert!(code == Some(1) && last["exit_code"] == 1, "{last}");
    assert!(last["error"].as_str().expect("text").contains("holds a run already"), "{last}");
}

#[test]
fn what_stops_or_fails() {
    let folder = Folder::new();
    let (code, out, err) = run(&folder, &sample(&["--json", "--out", "r", "--max-steps", "1"]));
    assert_eq!((code, err.as_str()), (Some(3), ""));
    let last = events(&out, "stopped").pop().expect("an event");
    assert!(last["signal"].is_null() && last["total_step"] == 1, "{last}");
    assert!(folder.path(last["checkpoint"].as_str().expect("a path")).exists(), "{last}");

    let set = sample(&["--json", "--out", "s", "--set", "weights.momentum=2"]);
    let mut nowhere = tiny("nowhere");
    nowhere.extend(["--json", "--out", "t"].map(String::from));
    let diverged = ["--json", "--out", "u", "--set", "weights.learning_rate=1e30", "--set"];
    let diverged = sample(&[&diverged[..], &["weights.clip_norm=1e30"]].concat());
    for (arguments, code, words) in
        [(set, 2, "weights.momentum"), (nowhere, 1, "nowhere"), (diverged, 1, "not finite")]
    {
        let (found, out, err) = run(&folder, &arguments);
        assert_eq!(found, Some(code), "{out} {err}");
        let last = events(&out, "failed").pop().expect("an event");
        assert!(last["exit_code"] == code && err.contains(words), "{last} {err}");
        assert!(last["error"].as_str().expect("text").contains(words), "{last}");
    }
}

/// A name that is not UTF-8 is shown with a mark in place of the invalid bytes.
#[cfg(unix)]
#[test]
fn names_that_are_no_text() {
    use std::os::unix::ffi::OsStringExt;

    let folder = Folder::new();
    let name = OsString::from_vec(b"r\xff".to_vec());
    let search = |out: &OsString, data: Option<&OsString>| {
        let mut command = folder.command(&[]);
        let mut arguments: Vec<OsString> = sample(&["--json"]).iter().map(OsString::from).collect();
        if let Some(data) = data {
            let place = arguments.iter().position(|argument| argument == "--data").expect("there");
            arguments[place + 1] = data.clone();
        }
        command.args(arguments).arg("--max-steps").arg("1").arg("--out").arg(out);
        told(&command.output().expect("the binary runs"))
    };
    let (code, out, err) = search(&name, None);
    assert_eq!(code, Some(3), "{err}");
    let last = events(&out, "stopped").pop().expect("an event");
    assert!(last["checkpoint"].as_str().expect("text").starts_with("r\u{fffd}/"), "{last}");
    assert!(folder.path("").join(&name).join("log.txt").exists());
    let (code, out, _) = search(&OsString::from("s"), Some(&name));
    assert_eq!(code, Some(1));
    events(&out, "failed");

    crate::model::save(&folder, "m.safetensors", |_| {});
    let sure = image::RgbImage::new(8, 8);
    let image = folder.path("").join(OsString::from_vec(b"image\xff.png".to_vec()));
    sure.save_with_format(&image, image::ImageFormat::Png).expect("written");
    let mut classify = folder.command(&["classify", "--model", "m.safetensors", "--json"]);
    let (code, out, err) = told(&classify.arg(&image).arg(&name).output().expect("runs"));
    assert_eq!(code, Some(1), "{err}");
    assert!(!err.contains("panicked"), "{err}");
    let lines: Vec<Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(
        lines.len() == 2 && lines[0]["classes"].is_array() && lines[1]["error"].is_string(),
        "{out}"
    );
}

/// Where only operations without parameters can be kept, every genotype has a collapsed cell.
#[test]
fn a_collapse_is_told_once_and_not_before_alpha_has_moved() {
    let folder = Folder::new();
    let warnings = |out: &str, learning_rate: &str| -> Vec<String> {
        let rate = format!("alpha.learning_rate={learning_rate}");
        let few = "network.primitives=['skip_connect', 'max_pool_3x3']";
        let sets = ["--set", &rate, "--set", few, "--set", "search.epochs=4"];
        let (code, stdout, err) =
            run(&folder, &sample(&[&["--json", "--out", out][..], &sets].concat()));
        assert_eq!(code, Some(0), "{err}");
        let lists = events(&stdout, "finished");
        let lists = lists.iter().filter_map(|event| event["warnings"].as_array());
        lists.flatten().map(|warning| warning.as_str().expect("text").to_string()).collect()
    };
    assert_eq!(warnings("uniform", "1e-6"), [""; 0]);
    let mut moved = warnings("moved", "1.0");
    moved.sort();
    assert_eq!(moved.len(), 2, "{moved:?}");
    assert!(moved[0].contains("normal cell") && moved[1].contains("reduction cell"), "{moved:?}");
}
