//! `report.html` in a browser, on a screen as narrow as a phone's.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{Folder, told};
use crate::{pipeline, study_report};

/// Chromium under one of its usual names; a name in `EC_DARTS_CHROMIUM` must exist.
fn browser() -> Option<String> {
    let runs = |name: &String| Command::new(name).arg("--version").output().is_ok();
    if let Ok(named) = std::env::var("EC_DARTS_CHROMIUM") {
        assert!(runs(&named), "EC_DARTS_CHROMIUM={named} does not run");
        return Some(named);
    }
    ["chromium", "chromium-browser", "google-chrome"].map(String::from).into_iter().find(runs)
}

/// The content of the page after its scripts ran, and the log.
fn open(browser: &str, folder: &Folder, page: &str) -> (String, String) {
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]);
    command.args(["--virtual-time-budget=10000", "--enable-logging=stderr", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", folder.path("profile").display()));
    command.arg(format!("file://{}", folder.path(page).display()));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("the browser starts");
    let (id, done) = (child.id(), std::thread::spawn(|| child.wait_with_output()));
    let begin = Instant::now();
    while !done.is_finished() {
        if begin.elapsed() > Duration::from_secs(120) {
            let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
            panic!("the browser does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let (code, out, err) = told(&done.join().expect("no panic").expect("ended"));
    assert_eq!(code, Some(0), "{err}");
    (out, err)
}

/// The layout of a page, `report.html` in a folder, on a screen as narrow as a phone's.
fn measured(browser: &str, folder: &Folder, of: &str) -> Value {
    let page = format!("{of}/browser.html");
    folder.write(&page, include_str!("browser.html"));
    let (shown, log) = open(browser, folder, &page);
    let messages: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(messages.is_empty(), "{messages:?}");
    let measured =
        shown.split("<pre id=\"measured\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    let measured = measured.unwrap_or_default().replace("&lt;", "<").replace("&gt;", ">");
    serde_json::from_str(&measured).unwrap_or_else(|_| panic!("{shown}"))
}

fn names(measured: &Value, key: &str) -> Vec<String> {
    serde_json::from_value(measured[key].clone()).expect("a list of names")
}

#[test]
fn the_report_of_a_study_on_a_narrow_screen() {
    let Some(browser) = browser() else {
        eprintln!("skipped: no Chromium is installed");
        return;
    };
    let folder = Folder::new();
    for kind in study_report::KINDS {
        study_report::report(&folder, "r", &study_report::example(kind));
        let measured = measured(&browser, &folder, "r");
        // A scroll bar may take a part of the width.
        assert!(measured["width"].as_u64() <= Some(390), "{kind:?} scrolls sideways: {measured}");
        assert_eq!(names(&measured, "empty"), [""; 0], "{kind:?}");
        assert!(measured["svgs"].as_u64() >= Some(2), "{measured}");
        for section in ["claims", "not-run", "accuracy", "agreement", "costs", "trials"] {
            let sections = names(&measured, "sections");
            assert!(sections.iter().any(|found| found == section), "{section} of {kind:?}");
        }
    }
}

#[test]
fn the_report_on_a_narrow_screen() {
    let Some(browser) = browser() else {
        eprintln!("skipped: no Chromium is installed");
        return;
    };
    let folder = Folder::new();
    let (code, _, err) = told(&pipeline::command(&folder, &["--quiet"]).output().expect("runs"));
    assert_eq!(code, Some(0), "{err}");
    let measured = measured(&browser, &folder, "r");
    let names = |key: &str| names(&measured, key);
    let sections = names("sections");
    for section in
        ["not-run", "cells", "search", "changes", "retraining", "accuracy", "costs", "settings"]
    {
        assert!(sections.iter().any(|found| found == section), "{section} in {sections:?}");
    }
    assert_eq!(names("empty"), [""; 0]);
    assert!(measured["svgs"].as_u64() > Some(2), "{measured}");
    // A scroll bar may take a part of the width.
    assert!(measured["width"].as_u64() <= Some(390), "the page scrolls sideways: {measured}");
    // The cells keep their drawn width and can be scrolled sideways, as can the picture of their
    // changes over many epochs.
    let others = names("scrolling");
    let cells = |name: &String| name.starts_with("cells: <div") || name.starts_with("changes:");
    assert!(others.iter().all(cells), "{others:?}");
}
