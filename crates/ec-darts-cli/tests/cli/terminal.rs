//! Output on a terminal: no escape codes of foreign texts, and no line that wraps.

use std::process::Command;

use crate::program::{Folder, sample, told};

/// Colours, a title, a movement in one byte (C1), a bell.
const EVIL: &str = "x\u{1b}[31m\u{1b}]0;title\u{7}\u{9b}2J";

/// Expects only text and line ends on both outputs, and the name in them.
fn check(folder: &Folder, arguments: &[&str], code: i32) {
    let (found, out, err) = told(&folder.run(arguments));
    let told = out + &err;
    assert_eq!(found, Some(code), "{told:?}");
    let raw = |character: char| character.is_control() && !"\n\t".contains(character);
    assert!(!told.contains(raw), "{told:?}");
    // The parser of arguments removes the characters that it knows.
    assert!(told.contains("\\u001b[31m") || told.contains("\\u009b2J"), "{told:?}");
}

#[cfg(unix)]
#[test]
fn names_and_texts_with_escape_codes() {
    let folder = Folder::new();
    check(&folder, &["genotype", "show", EVIL], 2);
    check(&folder, &["data", "inspect", EVIL], 1);
    check(&folder, &["config", "check", EVIL], 2);
    check(&folder, &["report", EVIL], 1);
    check(&folder, &["classify", "--model", EVIL, "a.jpg"], 1);
    check(&folder, &["search", EVIL], 2);
    check(&folder, &["--trace", &format!("none/{EVIL}"), "config", "check", "a"], 1);
    folder.write("g.txt", format!("Genotype(normal=[('{EVIL}', 0)])"));
    check(&folder, &["genotype", "show", "g.txt"], 1);
    // As TOML escapes them.
    folder.write("c.toml", "[data]\n\"x\\u001b[31m\\u0007\\u009b2J\" = 1\n");
    check(&folder, &["config", "check", "c.toml"], 2);

    // The folders name the classes.
    let image = image::RgbImage::from_fn(8, 8, |x, y| {
        image::Rgb([20 * x as u8, 30 * y as u8, 10 * (x + y) as u8])
    });
    for class in [EVIL, "plain"] {
        for number in 0..12 {
            let path = folder.write(&format!("images/{class}/{number}.png"), "");
            image.save(path).expect("written");
        }
    }
    folder.write(&format!("images/plain/{EVIL}.png"), "broken");
    check(&folder, &["data", "inspect", "images"], 0);
    check(&folder, &["data", "inspect", "images", "--json"], 0);
    crate::model::save(&folder, "m.safetensors", |description| {
        description.class_names = (0..10).map(|class| format!("{class}{EVIL}")).collect();
    });
    let image = "images/plain/0.png";
    check(&folder, &["classify", "--model", "m.safetensors", image], 0);
    check(&folder, &["classify", "--model", "m.safetensors", image, "--json"], 0);
}

/// The program `script` gives a terminal of 40 columns.
#[cfg(unix)]
#[test]
fn the_progress_line_does_not_wrap() {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped: no `script` to make a terminal with");
        return;
    }
    let folder = Folder::new();
    let quoted: Vec<String> =
        sample(&["--out", "r"]).iter().map(|argument| format!("'{argument}'")).collect();
    let binary = env!("CARGO_BIN_EXE_ec-darts");
    let line = format!("stty cols 40 rows 20; '{binary}' {} >out.txt", quoted.join(" "));
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").current_dir(folder.path(""));
    let (code, shown, err) = told(&script.output().expect("script runs"));
    assert_eq!(code, Some(0), "{shown} {err}");
    let mut steps = 0;
    for part in plain(&shown).split(['\r', '\n']) {
        // Lines above the bar stay, and may be long.
        let Some(begin) = part.find(['█', '░']) else { continue };
        let part = &part[begin..];
        steps += usize::from(part.contains('/'));
        assert!(part.chars().count() <= 40, "{} columns: {part:?}", part.chars().count());
    }
    assert!(steps > 0, "{shown:?}");
}

/// The text without sequences that move the cursor or clear lines; each sequence counts as the end
/// of a line.
fn plain(shown: &str) -> String {
    let mut text = String::new();
    let mut characters = shown.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                characters.find(|character| character.is_ascii_alphabetic());
                text.push('\n');
            }
            other => text.push(other),
        }
    }
    text
}

#[test]
fn a_filter_that_is_not_understood() {
    let folder = Folder::new();
    let mut command = folder.command(&["genotype", "show", "presets"]);
    let (code, _, err) = told(&command.env("RUST_LOG", "ec_darts=loud").output().expect("runs"));
    assert!(
        code == Some(2) && err.contains("RUST_LOG=ec_darts=loud") && err.contains("allowed"),
        "{err}"
    );
}
