//! A study on a Slurm cluster: a job array whose tasks all work on the same folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ec_darts::{Error, Result};

use crate::trial::io;

/// A job array. Each task runs the same command, which takes one trial after the other until none is left or the
/// task's time ends.
///
/// With a task for each trial, each would wait in the queue, the number of trainings would have to
/// be known in advance, and each task would need the time of the longest trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The name of the job.
    pub name: String,
    /// Number of tasks of the array, the processes that work at a time.
    pub tasks: u32,
    /// Number of processors of each task.
    pub cpus_per_task: u16,
    /// Other options of `sbatch`, each as one argument: `--time=1:00:00`.
    pub options: Vec<String>,
    /// Folder of the output of tasks, and of the script.
    pub logs: PathBuf,
    /// Program and arguments.
    pub command: Vec<String>,
}

/// Time before the end of a task at which it is asked to save, in s.
const WARNING_S: u32 = 60;

impl Job {
    /// The script that `sbatch` reads.
    ///
    /// # Errors
    /// [`Error::ConfigValue`] where an option, a path or the name has a line end or another
    /// character that a script cannot contain, and where `tasks` or `cpus_per_task` is 0.
    pub fn script(&self) -> Result<String> {
        let fail = |key: &str, value: &str, allowed: &str| Error::ConfigValue {
            origin: "the job".into(),
            key: key.into(),
            value: value.into(),
            allowed: allowed.into(),
        };
        for (key, count) in [("tasks", self.tasks), ("cpus-per-task", self.cpus_per_task.into())] {
            if count == 0 {
                return Err(fail(key, "0", "1 or more"));
            }
        }
        // In a file name of Slurm's, % begins a pattern.
        let logs = self.logs.display().to_string().replace('%', "%%");
        let own = [
            format!("--job-name={}", self.name),
            format!("--array=1-{}", self.tasks),
            format!("--cpus-per-task={}", self.cpus_per_task),
            format!("--output={logs}/%A_%a.out"),
            // The signal goes to the program itself, which replaces the shell through `exec`.
            format!("--signal=B:TERM@{WARNING_S}"),
        ];
        let mut script = String::from("#!/bin/sh\n");
        for option in own.iter().chain(&self.options) {
            let allowed = "one line of text";
            let plain = !option.chars().any(char::is_control);
            if !plain {
                return Err(fail("option", &format!("{option:?}"), allowed));
            }
            if !option.starts_with('-') {
                let allowed = "an option of sbatch that begins with - and has its value behind =";
                return Err(fail("option", &format!("{option:?}"), allowed));
            }
            script += &format!("#SBATCH {}\n", in_directive(option));
        }
        let words = self.command.iter().map(|word| {
            let quoted = shlex::try_quote(word);
            quoted.map_err(|_| fail("command", &format!("{word:?}"), "text without zero bytes"))
        });
        let words: Result<Vec<_>> = words.collect();
        Ok(script + &format!("exec {}\n", words?.join(" ")))
    }

    /// Writes the script beside the logs and passes it to `sbatch`; returns the number of the job.
    ///
    /// # Errors
    /// The errors of [`Self::script`]; [`Error::Io`] where the script cannot be written or `sbatch`
    /// does not exist; [`Error::Folder`] with the message of `sbatch` where it refuses the job.
    pub fn submit(&self) -> Result<String> {
        let script = self.script()?;
        std::fs::create_dir_all(&self.logs).map_err(io("create the folder", &self.logs))?;
        let path = self.logs.join("job.sh");
        ec_darts::files::write(&path, script.as_bytes())?;
        let mut command = Command::new("sbatch");
        command.arg("--parsable").arg(&path).stdin(Stdio::null());
        let output = command.output().map_err(io("run", Path::new("sbatch")))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
        if !output.status.success() {
            let reason = format!("sbatch refused it: {}", text(&output.stderr));
            return Err(Error::Folder { path, reason });
        }
        // On several clusters the number is followed by the name of one.
        let told = text(&output.stdout);
        Ok(told.split(';').next().unwrap_or_default().to_string())
    }
}

/// An option in the form of a directive: Slurm reads quotes and backslashes there as a shell does.
fn in_directive(option: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=:,./%+@[]".contains(c);
    if option.chars().all(is_plain) {
        return option.to_string();
    }
    let escaped = option.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job {
            name: "ablation".into(),
            tasks: 4,
            cpus_per_task: 2,
            options: vec!["--time=1:00:00".into(), "--comment=it's \"one\" of \\ many".into()],
            logs: "/shared/a b/100%".into(),
            command: ["/opt/ec-darts", "study", "run", "it's.toml", "$HOME"]
                .map(String::from)
                .into(),
        }
    }

    #[test]
    fn everything_is_quoted() {
        let expected = "#!/bin/sh\n\
            #SBATCH --job-name=ablation\n\
            #SBATCH --array=1-4\n\
            #SBATCH --cpus-per-task=2\n\
            #SBATCH \"--output=/shared/a b/100%%/%A_%a.out\"\n\
            #SBATCH --signal=B:TERM@60\n\
            #SBATCH --time=1:00:00\n\
            #SBATCH \"--comment=it's \\\"one\\\" of \\\\ many\"\n\
            exec /opt/ec-darts study run \"it's.toml\" '$HOME'\n";
        assert_eq!(job().script().expect("a script"), expected);
    }

    #[test]
    fn what_no_script_can_hold_is_refused() {
        let check = |change: &dyn Fn(&mut Job), expected: &str| {
            let mut job = job();
            change(&mut job);
            assert_eq!(job.script().expect_err("refused").to_string(), expected);
        };
        check(&|job| job.tasks = 0, "the job: `tasks` is 0, allowed: 1 or more");
        check(&|job| job.cpus_per_task = 0, "the job: `cpus-per-task` is 0, allowed: 1 or more");
        check(
            &|job| job.options.push("--time=1\nrm".into()),
            "the job: `option` is \"--time=1\\nrm\", allowed: one line of text",
        );
        check(
            &|job| job.options.push("1:00".into()),
            "the job: `option` is \"1:00\", allowed: an option of sbatch that begins with - and has its value \
             behind =",
        );
        check(
            &|job| job.command.push("a\0b".into()),
            "the job: `command` is \"a\\0b\", allowed: text without zero bytes",
        );
    }
}
