//! Bad input: a clear message, exit code 1 or 2, never a panic.

use crate::program::{Folder, project, sample, tiny, told};

/// Runs the program; expects this exit code and all of these texts on standard error.
fn check(folder: &Folder, arguments: &[String], code: i32, expected: &[&str]) {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (found, _, err) = told(&folder.run(&arguments));
    println!("exit {found:?}: {}", err.trim_end());
    assert_eq!(found, Some(code), "{err}");
    assert!(!err.contains("panicked") && !err.contains("stack backtrace"), "{err}");
    for text in expected {
        assert!(err.contains(text), "{text:?} in: {err}");
    }
}

fn strings(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(ToString::to_string).collect()
}

#[test]
fn settings() {
    let folder = Folder::new();
    let set = |set: &str| sample(&["--out", "r", "--set", set]);
    check(&folder, &set("weights.momentum=1.5"), 2, &["weights.momentum", "1.5", "allowed"]);
    check(&folder, &set("weights.speed=1"), 2, &["speed"]);
    check(&folder, &set("search.relaxation=hard"), 2, &["cross-edge"]);
    check(&folder, &strings(&["config", "check", "none.toml"]), 2, &["none.toml"]);
    folder.write("latin.toml", [b'#', 0xe9]);
    check(&folder, &strings(&["config", "check", "latin.toml"]), 2, &["latin.toml", "UTF-8"]);
    check(&folder, &strings(&["config", "check", "."]), 2, &[".: cannot be read"]);
    folder.write("bad.toml", "[data]\ndataset = ");
    check(&folder, &strings(&["config", "check", "bad.toml"]), 2, &["bad.toml", "line 2"]);
    check(&folder, &sample(&[]), 2, &["--out"]);
    check(&folder, &sample(&["--out", "r", "--max-steps", "0"]), 2, &["0 is not in 1.."]);
    assert!(!folder.path("r").exists(), "nothing is made before the settings are right");
}

#[test]
fn devices() {
    let folder = Folder::new();
    let mut arguments = sample(&["--out", "r"]);
    arguments[2] = "cuda".into();
    if !cfg!(feature = "cuda") {
        check(&folder, &arguments, 1, &["device cuda", "--features cuda"]);
    }
    arguments[2] = "tpu".into();
    check(&folder, &arguments, 2, &["tpu", "flex, wgpu"]);
}

#[test]
fn data() {
    let folder = Folder::new();
    let on = |data: &str| {
        let mut arguments = tiny(data);
        arguments.extend(strings(&["--out", "r"]));
        arguments
    };
    check(&folder, &on("nowhere"), 1, &["nowhere", "no such folder"]);
    folder.write("foreign/train.bin", "x");
    check(&folder, &on("foreign"), 1, &["foreign", "looks like cifar100"]);
    let copy = |name: &str| {
        for file in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]
        {
            let from = project(&format!("data/cifar10-mini/{file}.bin"));
            folder.write(&format!("{name}/{file}.bin"), std::fs::read(from).expect("the sample"));
        }
        let test = std::fs::read(project("data/cifar10-mini/test_batch.bin")).expect("the sample");
        folder.write(&format!("{name}/test_batch.bin"), test);
    };
    copy("cut");
    folder.write("cut/data_batch_3.bin", vec![0; 5000]);
    check(&folder, &on("cut"), 1, &["data_batch_3.bin", "1146 missing"]);
    folder.write("cut/data_batch_3.bin", "");
    check(&folder, &on("cut"), 1, &["data_batch_3.bin", "empty"]);
    folder.write("cut/data_batch_3.bin", vec![77; 3073]);
    check(&folder, &on("cut"), 1, &["label of record 0 is 77, allowed: 0 to 9"]);
    std::fs::remove_file(folder.path("cut/data_batch_3.bin")).expect("removed");
    check(&folder, &on("cut"), 1, &["data_batch_3.bin", "missing"]);
}

#[test]
fn run_folders() {
    let folder = Folder::new();
    let run = |more: &[&str]| sample(&[&["--out", "r"], more].concat());
    let first = run(&["--max-steps", "1"]);
    let arguments: Vec<&str> = first.iter().map(String::as_str).collect();
    let (code, out, err) = told(&folder.run(&arguments));
    assert_eq!(code, Some(3), "{err}");
    assert!(out.contains("stopped at step 1") && out.contains("--resume"), "{out}");
    check(&folder, &first, 1, &["holds a run already", "--resume"]);
    check(
        &folder,
        &run(&["--resume", "--set", "weights.momentum=0.5"]),
        1,
        &["weights.momentum is 0.5 here and 0.9 there"],
    );
    let held = std::fs::File::options().write(true).open(folder.path("r/lock")).expect("a lock");
    held.lock().expect("held");
    check(&folder, &run(&["--resume"]), 1, &["another process"]);
    drop(held);
    folder.write("file", "");
    check(&folder, &sample(&["--out", "file/r"]), 1, &["file/r"]);
    for step in [0, 1] {
        let name = format!("r/checkpoints/step-{step:09}.safetensors");
        if folder.path(&name).exists() {
            folder.write(&name, "damaged");
        }
    }
    check(&folder, &run(&["--resume"]), 1, &["not a checkpoint"]);
    std::fs::remove_dir_all(folder.path("r/checkpoints")).expect("removed");
    for resume in ["--resume", "--resume=auto"] {
        check(&folder, &run(&[resume]), 1, &["its checkpoints are gone: sessions.json tells"]);
    }
    // The folder looks as if a run was stopped before its first checkpoint.
    std::fs::remove_file(folder.path("r/sessions.json")).expect("removed");
    check(&folder, &run(&["--resume"]), 1, &["nothing to resume", "no checkpoint yet"]);
    let other = run(&["--resume=auto", "--set", "weights.momentum=0.5"]);
    check(&folder, &other, 1, &["holds a run with other settings", "weights.momentum"]);
    check(&folder, &run(&["--resume=auto", "--quiet"]), 0, &[]);

    let mistyped = sample(&["--out", "nowhere", "--resume"]);
    check(&folder, &mistyped, 1, &["nowhere: there is no run to resume", "--resume=auto"]);
    assert!(!folder.path("nowhere").exists(), "nothing is made by mistake");
}

#[test]
fn genotypes() {
    let folder = Folder::new();
    folder.write("g.txt", "Genotype(normal=[('sep_conv_9x9', 0)])");
    check(&folder, &strings(&["genotype", "show", "g.txt"]), 1, &["g.txt", "sep_conv_9x9", "^"]);
    check(&folder, &strings(&["genotype", "show", "nothing"]), 2, &["nothing", "DARTS_V1"]);
    check(
        &folder,
        &strings(&["genotype", "draw", "pdarts", "--out", "a.png"]),
        2,
        &[".svg or .dot"],
    );
}

/// A limit on the size of files stands in for a full disk: writes fail in the middle of a file.
#[cfg(unix)]
#[test]
fn a_full_disk_loses_nothing() {
    let folder = Folder::new();
    let whole: Vec<String> = sample(&["--out", "r", "--max-steps", "2"]);
    let arguments: Vec<&str> = whole.iter().map(String::as_str).collect();
    assert_eq!(folder.run(&arguments).status.code(), Some(3));
    let kept = || {
        let mut names: Vec<_> = std::fs::read_dir(folder.path("r/checkpoints"))
            .expect("the folder")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        names.sort();
        names.iter().map(|path| std::fs::read(path).expect("readable")).collect::<Vec<_>>()
    };
    let before = kept();
    // 20 blocks of 1,024 bytes: less than a checkpoint.
    let rest = sample(&["--out", "r", "--resume"]);
    let quoted: Vec<String> = rest.iter().map(|argument| format!("'{argument}'")).collect();
    let binary = env!("CARGO_BIN_EXE_ec-darts");
    let script = format!("trap '' XFSZ; ulimit -f 20; exec '{binary}' {}", quoted.join(" "));
    let mut shell = std::process::Command::new("bash");
    let output = shell.current_dir(folder.path("")).args(["-c", &script]).output().expect("bash");
    let (code, _, err) = told(&output);
    println!("exit {code:?}: {err}");
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("cannot write") && err.contains("last checkpoint"), "{err}");
    assert!(!err.contains("panicked"), "{err}");
    assert_eq!(kept(), before, "the checkpoints from before are untouched");
}

/// A folder that can be read but not written. The superuser may write everywhere, so that the
/// search then runs as another user.
#[cfg(unix)]
#[test]
fn a_read_only_folder() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;

    let folder = Folder::new();
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
    };
    let there = folder.path("there");
    std::fs::create_dir(&there).expect("created");
    mode(&folder.path(""), 0o755);
    mode(&there, 0o555);
    let arguments = sample(&["--out", "there/r"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = folder.command(&arguments);
    if std::fs::metadata(&there).expect("there").uid() == 0 {
        command.uid(65534).gid(65534);
    }
    let output = match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            println!("skipped: another user than root may not run the binary where it lies");
            return;
        }
        output => output.expect("the binary runs"),
    };
    let (code, _, err) = told(&output);
    println!("exit {code:?}: {}", err.trim_end());
    if err.contains("configs/quick.toml: Permission denied") {
        println!("skipped: another user than root may not read the checkout");
        return;
    }
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("there/r") && err.contains("Permission denied"), "{err}");
    assert_eq!(std::fs::read_dir(&there).expect("readable").count(), 0, "nothing was made");
}
