//! Runs the binary in a temporary folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(&path, content).expect("written");
        path
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ec-darts"));
        command.current_dir(self.0.path()).args(arguments).env("RUST_BACKTRACE", "1");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary runs")
    }
}

/// The exit code, standard output and standard error.
pub fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

pub fn project(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(path).display().to_string()
}

/// A search of a few seconds: two epochs of two steps of each kind.
pub fn tiny(data: &str) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["search", "--device", "flex", "--threads", "1", "--data"].map(String::from).into();
    arguments.extend([data.to_string(), "--config".into(), project("configs/quick.toml")]);
    for set in [
        "network.init_channels=2",
        "network.num_cells=3",
        "network.num_nodes=2",
        "search.epochs=2",
        "search.batch_size=4",
        "search.steps_per_epoch=2",
        "search.measured_images=8",
        "run.checkpoint_steps=1",
    ] {
        arguments.extend(["--set".into(), set.to_string()]);
    }
    arguments
}

/// `tiny` on the bundled sample, with more arguments.
pub fn sample(more: &[&str]) -> Vec<String> {
    let mut arguments = tiny(&project("data/cifar10-mini"));
    arguments.extend(more.iter().map(ToString::to_string));
    arguments
}
