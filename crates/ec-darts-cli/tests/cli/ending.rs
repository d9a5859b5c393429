//! Exit codes: 0 only for finished work.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::pipeline;
use crate::program::{Folder, sample, tiny, told};

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// A search that is still running when it is stopped.
fn long(more: &[&str]) -> Vec<String> {
    sample(&[&["--out", "r", "--set", "search.epochs=5000"], more].concat())
}

fn start(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs")
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(sent.expect("kill").success());
}

fn wait_for(done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(120), "waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_was_stopped_by_its_steps_is_not_done() {
    let folder = Folder::new();
    let script = |more: &str| {
        let arguments = sample(&["--out", "r", "--resume=auto", "--quiet"]);
        let quoted: Vec<String> = arguments.iter().map(|text| format!("'{text}'")).collect();
        let binary = env!("CARGO_BIN_EXE_ec-darts");
        let line = format!("'{binary}' {} {more} && echo retraining", quoted.join(" "));
        let mut shell = Command::new("sh");
        told(&shell.current_dir(folder.path("")).args(["-c", &line]).output().expect("a shell"))
    };
    let (code, out, err) = script("--max-steps 1");
    assert_eq!(code, Some(3), "{err}");
    assert!(out.contains("stopped at step 1") && !out.contains("retraining"), "{out}");
    let (code, out, err) = script("");
    assert!(code == Some(0) && out.contains("retraining"), "{out} {err}");
}

/// The first request to stop saves; the message says how to continue.
#[cfg(unix)]
#[test]
fn a_signal_saves_and_has_its_code() {
    for (name, code, shown) in
        [("INT", 130, "SIGINT"), ("TERM", 143, "SIGTERM"), ("HUP", 129, "SIGHUP")]
    {
        if name == "HUP" && ignores_hangups() {
            eprintln!("skipped: SIGHUP; these tests run under nohup, and so would the program");
            continue;
        }
        let folder = Folder::new();
        let first = folder.path("r/checkpoints/step-000000001.safetensors");
        let child = start(folder.command(&words(&long(&[]))));
        wait_for(|| first.exists());
        signal(&child, &format!("-{name}"));
        let (found, out, err) = told(&child.wait_with_output().expect("ended"));
        assert_eq!(found, Some(code), "{err}");
        assert!(out.contains(&format!("stopped by {shown} at step")), "{out}");
        assert!(out.contains("--resume goes on"), "{out}");
        let saved = out.split("saved ").nth(1).and_then(|rest| rest.split(';').next());
        assert!(folder.path(saved.expect("a checkpoint")).exists(), "{out}");
        // The saved state is complete: the same command continues from there.
        let more = long(&["--resume", "--max-steps", "1"]);
        let (found, out, err) = told(&folder.run(&words(&more)));
        assert!(found == Some(3) && out.contains("goes on at step"), "{out} {err}");
    }
}

/// Whether this process ignores SIGHUP, as under `nohup`; its children inherit that.
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

/// A program under `nohup` ignores the end of its terminal.
#[cfg(target_os = "linux")]
#[test]
fn a_hangup_that_is_ignored_stays_ignored() {
    let folder = Folder::new();
    let mut command = Command::new("nohup");
    command.current_dir(folder.path("")).arg(env!("CARGO_BIN_EXE_ec-darts")).args(long(&[]));
    let child = start(command);
    wait_for(|| folder.path("r/checkpoints/step-000000001.safetensors").exists());
    signal(&child, "-HUP");
    let files = || std::fs::read_dir(folder.path("r/checkpoints")).expect("there").flatten();
    let newest = || files().map(|file| file.file_name()).max();
    let before = newest();
    wait_for(|| newest() > before);
    wait_for(|| newest() > before);
    signal(&child, "-TERM");
    let (code, _, err) = told(&child.wait_with_output().expect("ended"));
    assert_eq!(code, Some(143), "{err}");
}

/// Many copies of an image that is slow to decode.
fn slow_images(folder: &Folder) {
    let image = image::RgbImage::from_fn(2400, 2400, |x, y| {
        image::Rgb([(x / 9) as u8, (y / 9) as u8, ((x + y) / 18) as u8])
    });
    let first = folder.write("images/a/0.png", "");
    image.save(&first).expect("written");
    // They are copies, because a file with several names counts as one image.
    for number in 1..400 {
        let class = if number % 2 == 0 { "a" } else { "b" };
        let copy = folder.write(&format!("images/{class}/{number}.png"), "");
        std::fs::copy(&first, copy).expect("copied");
    }
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_reading_of_images() {
    let folder = Folder::new();
    slow_images(&folder);
    let mut arguments = tiny("images");
    for more in ["--set", "data.dataset=folder", "--set", "data.image_size=16", "--out", "r", "-v"]
    {
        arguments.push(more.into());
    }
    let mut child = start(folder.command(&words(&arguments)));
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let reading =
        lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("reading images")));
    assert!(reading.is_some(), "the log tells what it does");
    let begin = Instant::now();
    signal(&child, "-TERM");
    let (code, out, _) = told(&child.wait_with_output().expect("ended"));
    assert_eq!(code, Some(143), "{out}");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert!(out.contains("stopped by SIGTERM") && !folder.path("r").exists(), "{out}");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_evaluation_of_a_run() {
    let folder = Folder::new();
    // This is large enough for the measurement to take a while.
    let larger = ["--set", "retrain.network.init_channels=12"];
    let mut child = start(pipeline::command(&folder, &larger));
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let evaluating =
        lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("3 of 4: eval")));
    assert!(evaluating.is_some());
    signal(&child, "-INT");
    let rest: String = lines.map_while(Result::ok).collect();
    let (code, _, err) = told(&child.wait_with_output().expect("ended"));
    assert_eq!(code, Some(130), "{err}");
    assert!(rest.contains("stopped by SIGINT") && !rest.contains("4 of 4"), "{rest}");
    assert!(
        folder.path("r/retrain/model.safetensors").exists()
            && !folder.path("r/report.html").exists()
    );
}

/// The run is saved, and the exit code is that of a tool ended by SIGPIPE.
#[cfg(unix)]
#[test]
fn a_closed_pipe_stops_and_saves() {
    let folder = Folder::new();
    let mut child = start(folder.command(&words(&long(&["--json"]))));
    let output = child.stdout.take().expect("piped");
    let lines = BufReader::new(output).lines().take(3);
    assert_eq!(lines.map_while(Result::ok).count(), 3);
    let (code, _, err) = told(&child.wait_with_output().expect("ended"));
    assert_eq!(code, Some(141), "{err}");
    assert_eq!(err, "");
    assert!(std::fs::read_dir(folder.path("r/checkpoints")).expect("there").count() > 0);
    for short in [vec!["genotype", "show", "presets"], vec!["--help"]] {
        // The pipe is closed before the program begins, which may be faster than this test.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let child = folder.command(&short).stdout(writer).stderr(Stdio::piped()).spawn();
        let (code, _, err) = told(&child.expect("runs").wait_with_output().expect("ended"));
        assert!(code == Some(141) && err.is_empty(), "{short:?}: {code:?} {err}");
    }
}

#[test]
fn completions_for_every_shell() {
    let folder = Folder::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, out, err) = told(&folder.run(&["completions", shell]));
        assert_eq!(code, Some(0), "{err}");
        for text in ["retrain", "max-steps", "completions"] {
            assert!(out.contains(text), "{text} for {shell}");
        }
        if shell == "bash" {
            let script = folder.write("ec-darts", out);
            let asked = "COMP_WORDS=(ec-darts re); COMP_CWORD=1; \
                         complete=($(complete -p ec-darts)); function=${complete[@]: -2:1}; \
                         $function ec-darts re ec-darts; echo \"${COMPREPLY[@]}\"";
            let line = format!("source '{}'; {asked}", script.display());
            let (code, out, err) =
                told(&Command::new("bash").args(["-c", &line]).output().expect("bash"));
            assert!(code == Some(0) && out.trim() == "retrain report", "{out} {err}");
        }
    }
    assert_eq!(folder.run(&["completions", "csh"]).status.code(), Some(2));
}

/// A search, stopped and resumed: one row per epoch, with the figures of the metrics.
#[test]
fn results_are_a_table_of_the_metrics() {
    let folder = Folder::new();
    for more in [&["--max-steps", "9"][..], &[]] {
        let run = sample(&[&["--out", "r", "--resume=auto", "--quiet"], more].concat());
        folder.run(&words(&run));
    }
    let read = |name: &str| std::fs::read_to_string(folder.path("r").join(name)).expect("there");
    let (table, metrics) = (read("results.csv"), read("metrics.jsonl"));
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    let reports: Vec<Value> =
        metrics.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((rows.len(), reports.len()), (3, 2), "{table}");
    for name in ["epoch", "train_loss", "normal.entropy", "transition.valid_accuracy"] {
        let column = rows[0].iter().position(|column| *column == name).expect(name);
        let pointer = format!("/{}", name.replace('.', "/"));
        for (row, report) in rows[1..].iter().zip(&reports) {
            assert_eq!(row[column], report.pointer(&pointer).expect("there").to_string(), "{name}");
        }
    }
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{table}");
}
