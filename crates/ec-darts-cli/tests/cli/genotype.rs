//! Genotypes and settings on the command line.

use crate::program::{Folder, project, told};

fn check(folder: &Folder, arguments: &[&str], expected: &str) {
    let (code, out, err) = told(&folder.run(arguments));
    assert_eq!(code, Some(0), "{arguments:?}: {err}");
    assert!(out.contains(expected), "{arguments:?}: {out}");
}

#[test]
fn genotypes_are_shown_converted_and_drawn() {
    let folder = Folder::new();
    check(&folder, &["genotype", "show", "presets"], "PC_DARTS_IMAGENET");
    check(&folder, &["genotype", "show", "darts_v2"], "node 5: skip_connect from 0");
    check(&folder, &["genotype", "show", "EC_DARTS_CIFAR"], "3.61 M");
    check(&folder, &["genotype", "convert", "darts_v2", "--to", "nested"], "normal=[[(");
    check(&folder, &["genotype", "convert", "pdarts", "--to", "triples"], "('dil_conv_3x3', 2, 1)");
    check(&folder, &["genotype", "convert", "pdarts", "--to", "every-edge"], "('none', 2)");
    let (_, json, _) = told(&folder.run(&["genotype", "convert", "pdarts", "--to", "json"]));
    folder.write("g.json", &json);
    let (_, flat, _) = told(&folder.run(&["genotype", "convert", "g.json", "--to", "flat"]));
    let (_, preset, _) = told(&folder.run(&["genotype", "convert", "pdarts", "--to", "flat"]));
    assert_eq!(flat, preset, "through JSON and back");
    check(&folder, &["genotype", "draw", "pdarts", "--out", "cells.svg"], "");
    let picture = std::fs::read_to_string(folder.path("cells.svg")).expect("a picture");
    assert!(picture.starts_with("<svg") || picture.starts_with("<?xml"), "{picture:.40}");
    check(&folder, &["genotype", "draw", "pdarts", "--out", "cells.dot"], "");
    // A picture does not replace the genotype that it shows.
    folder.write("g.svg", &json);
    let (code, _, err) = told(&folder.run(&["genotype", "draw", "g.svg", "--out", "./g.svg"]));
    assert!(code == Some(2) && err.contains("./g.svg: this command reads the file"), "{err}");
    assert_eq!(std::fs::read_to_string(folder.path("g.svg")).expect("there"), json);
}

#[test]
fn a_cell_of_nas_bench_201_is_shown_converted_drawn_and_counted() {
    let folder = Folder::new();
    let text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|";
    folder.write("cell.txt", text);
    let (_, shown, _) = told(&folder.run(&["genotype", "show", "cell.txt"]));
    assert!(
        shown.contains("node 4: nor_conv_1x1 from 3") && !shown.contains("reduction"),
        "{shown}"
    );
    let (_, json, _) = told(&folder.run(&["genotype", "convert", "cell.txt", "--to", "json"]));
    folder.write("cell.json", &json);
    check(&folder, &["genotype", "convert", "cell.json", "--to", "nas-bench-201"], text);
    check(&folder, &["genotype", "draw", "cell.json", "--out", "cell.svg"], "");
    let picture = std::fs::read_to_string(folder.path("cell.svg")).expect("a picture");
    assert!(picture.contains(">Cell<") && !picture.contains("Reduction"), "{picture:.400}");
    // One 3x3 and one 1x1 convolution in each cell: 73,306 + 5 (10 * 5376 + 4 * 112).
    let counted = ["cost", "--genotype", "cell.txt", "--network", "nas-bench-201"];
    check(&folder, &counted, "344346");
    for (arguments, expected_code, expected) in [
        (&["genotype", "convert", "cell.txt", "--to", "flat"][..], 1, "the form has two cells"),
        (&["genotype", "convert", "pdarts", "--to", "nas-bench-201"], 1, "it has one kind of cell"),
        (&["cost", "--genotype", "cell.txt", "--network", "cifar"], 2, "`nas-bench-201` has one"),
        (
            &["cost", "--genotype", "pdarts", "--network", "nas-bench-201"],
            2,
            "has a reduction cell",
        ),
        (&[&counted[..], &["--cells", "8"]].concat(), 2, "a multiple of 3"),
    ] {
        let (code, _, err) = told(&folder.run(arguments));
        assert!(code == Some(expected_code) && err.contains(expected), "{arguments:?}: {err}");
    }
}

#[test]
fn genotypes_are_read_as_others_left_them() {
    let folder = Folder::new();
    let (_, flat, _) = told(&folder.run(&["genotype", "convert", "pdarts", "--to", "flat"]));
    let log = format!("04/31 11:52 AM genotype = {flat}04/31 11:52 AM epoch 3 lr 2.5e-02\n");
    let log = log.replace("range(2, 6)", "list(range(2, 6))");
    folder.write("log.txt", &log);
    let sixteen: Vec<u8> =
        format!("\u{feff}{flat}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    folder.write("sixteen.txt", sixteen);
    for file in ["log.txt", "sixteen.txt"] {
        check(&folder, &["genotype", "convert", file, "--to", "flat"], &flat);
    }
    folder.write("both.txt", log.repeat(2));
    folder.write("bytes.txt", [0xff, 0xfe, 0]);
    folder.write("escape.txt", "Genotype(\u{1b}[31m)");
    for (file, expected) in [
        ("both.txt", "line 3, column 27: a second genotype begins here"),
        ("bytes.txt", "bytes.txt: neither UTF-8 nor UTF-16"),
        ("escape.txt", "| Genotype(\\u001b[31m)"),
    ] {
        let (code, _, err) = told(&folder.run(&["genotype", "show", file]));
        assert!(code == Some(1) && err.contains(expected) && !err.contains('\u{1b}'), "{err}");
    }
    check(&folder, &["genotype", "draw", "pdarts", "--out", "some/new/cells.svg"], "");
    assert!(folder.path("some/new/cells.svg").exists());
}

#[test]
fn every_file_of_settings_is_valid_and_prints_itself() {
    let folder = Folder::new();
    for entry in std::fs::read_dir(project("configs")).expect("the folder") {
        let path = entry.expect("an entry").path().display().to_string();
        check(&folder, &["config", "check", &path], "valid");
        if path.ends_with("_run.toml") {
            // Two sets of settings, one below the other, for a person to read.
            check(&folder, &["config", "print", &path], "\n# retraining\n[data]");
            continue;
        }
        let (_, printed, _) = told(&folder.run(&["config", "print", &path]));
        folder.write("again.toml", &printed);
        check(&folder, &["config", "print", "again.toml"], &printed);
    }
}

#[test]
fn help_teaches() {
    let folder = Folder::new();
    check(&folder, &["--help"], "Cross-Edge Normalization");
    check(&folder, &["search", "--help"], "--resume");
    check(&folder, &["search", "--help"], "Examples:");
}
