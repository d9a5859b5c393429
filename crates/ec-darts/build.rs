//! Notes the commit that is built, for run folders and figures.

use std::path::Path;
use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_string())
}

/// The commit of a package from a registry: `cargo package` leaves it there.
fn of_package() -> Option<String> {
    let text = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    let sha1 = rest.split('"').nth(1)?;
    Some(sha1.get(..12)?.to_string())
}

/// The commit of the checkout, where it is one of this project: a copy of the crate in another repository has that
/// one's commits around it.
fn of_checkout() -> Option<String> {
    let root = git(&["rev-parse", "--show-toplevel"])?;
    let manifest = std::fs::read_to_string(Path::new(&root).join("Cargo.toml")).ok()?;
    let is_own = manifest.contains("name = \"ec-darts-workspace\"")
        && git(&["rev-parse", "--show-prefix"])? == "crates/ec-darts/";
    if !is_own {
        return None;
    }
    if let Some(head) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={head}");
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=Cargo.toml");
    let commit = of_package().or_else(of_checkout).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=EC_DARTS_COMMIT={commit}");
}
