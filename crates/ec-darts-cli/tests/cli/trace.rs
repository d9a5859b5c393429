//! The `tracing` output of a run: its log, the terminal, and a trace for Perfetto.

use std::collections::HashMap;

use serde_json::Value;

use crate::program::{Folder, sample, told};

fn run(folder: &Folder, more: &[&str]) -> (Option<i32>, String, String) {
    let arguments = sample(more);
    told(&folder.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// Every span with its path: the names of the spans around it on its thread, from outside in.
fn paths(events: &[Value]) -> Vec<String> {
    let mut open: HashMap<u64, Vec<String>> = HashMap::new();
    let mut paths = Vec::new();
    for event in events {
        let Some(thread) = event["tid"].as_u64() else { continue };
        let stack = open.entry(thread).or_default();
        match event["ph"].as_str() {
            Some("B") => {
                stack.push(event["name"].as_str().expect("a name").into());
                paths.push(stack.join("/"));
            }
            Some("E") => assert_eq!(stack.pop().as_deref(), event["name"].as_str(), "{event}"),
            _ => {}
        }
    }
    assert!(open.values().all(Vec::is_empty), "spans that do not end: {open:?}");
    paths
}

#[test]
fn a_trace_shows_where_the_time_goes() {
    let folder = Folder::new();
    let (code, _, err) = run(&folder, &["--out", "r", "--trace", "t.json", "--quiet"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let text = std::fs::read_to_string(folder.path("t.json")).expect("a trace");
    let events: Vec<Value> = serde_json::from_str(&text).expect("whole JSON");
    let paths = paths(&events);
    let count = |path: &str| paths.iter().filter(|found| *found == path).count();
    assert_eq!((count("run"), count("data"), count("run/epoch")), (1, 1, 2), "{paths:?}");
    assert_eq!(count("run/epoch/phase"), 8, "four phases in two epochs");
    let step = "run/epoch/phase/step";
    assert_eq!(count(step), 16, "four phases of two steps");
    for inner in
        ["wait for batch", "weight step/forward", "weight step/backward", "weight step/optimizer"]
    {
        assert!(count(&format!("{step}/{inner}")) >= 8, "{inner}: {paths:?}");
    }
    assert!(count(&format!("{step}/alpha step")) == 4 && count(&format!("{step}/measure")) == 8);
    let ends = |name: &str| paths.iter().filter(|path| path.ends_with(name)).count();
    assert!(ends("/read figures") > 0 && ends("prepare batch") >= 16, "{paths:?}");
    assert!(count("run/epoch/phase/checkpoint") >= 16, "{paths:?}");
}

#[test]
fn the_log_has_the_events_of_its_run() {
    let folder = Folder::new();
    for more in [&["--max-steps", "10"][..], &["--resume"]] {
        let (_, _, err) = run(&folder, &[&["--out", "r"], more].concat());
        assert_eq!(err, "", "without -v only the log is told");
    }
    let log = std::fs::read_to_string(folder.path("r/log.txt")).expect("a log");
    for text in [
        "begin at step 0 on flex",
        "stopped at step 10",
        "begin at step 10",
        "epoch 2 of 2 is over",
    ] {
        assert!(log.contains(text), "{text} in {log}");
    }
    assert!(log.ends_with("finished\n") && !log.contains("step{"), "{log}");
    assert!(log.lines().all(|line| line.starts_with("20") && line.contains("Z ")), "{log}");
    // Another run has another log, and a refused run has none.
    assert_eq!(run(&folder, &["--out", "r"]).0, Some(1));
    assert_eq!(run(&folder, &["--out", "s"]).0, Some(0));
    assert_eq!(std::fs::read_to_string(folder.path("r/log.txt")).expect("a log"), log);
    assert!(folder.path("s/log.txt").exists());
}

#[test]
fn the_terminal_is_told_what_is_asked_for() {
    let folder = Folder::new();
    let (_, _, one) = run(&folder, &["--out", "a", "-v", "--quiet"]);
    assert!(one.contains("reading images") && one.contains("finished"), "{one}");
    assert!(!one.contains("checkpoint{"), "{one}");
    let (_, _, two) = run(&folder, &["--out", "b", "-vv", "--quiet"]);
    assert!(two.contains("checkpoint{") && two.contains("time.busy"), "{two}");
    // The terminal and the log share the text of spans, so the log has no colours of the terminal.
    assert!(two.contains("run{folder=b}") && !two.contains("u001b"), "{two}");
    let mut command = folder.command(&[]);
    command.args(sample(&["--out", "c", "--quiet"])).env("RUST_LOG", "ec_darts::train=debug");
    let (_, _, directed) = told(&command.output().expect("the binary runs"));
    assert!(directed.contains("checkpoint{") && !directed.contains("reading images"), "{directed}");
}
