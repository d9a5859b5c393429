//! A study as a job array of a real Slurm: its controller and a node of it, on this machine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::{Folder, project, told};
use crate::study;

const PROGRAMS: [&str; 7] =
    ["munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue", "sinfo"];

/// A controller and a node with a folder, a key and ports of their own; ended when dropped.
struct Cluster {
    folder: Folder,
    daemons: Vec<Child>,
}

impl Cluster {
    fn start() -> Self {
        let folder = Folder::new();
        let [controller_port, node_port] = ports();
        let at = folder.path("").canonicalize().expect("a folder").display().to_string();
        let host = told(&Command::new("hostname").output().expect("hostname")).1.trim().to_string();
        let user = told(&Command::new("id").arg("-un").output().expect("id")).1.trim().to_string();
        let cores = std::thread::available_parallelism().expect("processors");
        for name in ["state", "spool"] {
            std::fs::create_dir(folder.path(name)).expect("made");
        }
        // Any 1,024 bytes; munged wants a file that nobody else can read.
        folder.write("key", [7_u8; 1024]);
        set_mode(&folder.path("key"), 0o400);
        set_mode(&folder.path("spool"), 0o755);
        folder.write("cgroup.conf", "CgroupPlugin=autodetect\n");
        folder.write(
            "slurm.conf",
            format!(
                "ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={controller_port}\n\
                 SlurmdPort={node_port}\nSlurmUser={user}\nSlurmdUser={user}\n\
                 AuthType=auth/munge\nAuthInfo=socket={at}/munge.socket\nCryptoType=crypto/munge\n\
                 StateSaveLocation={at}/state\nSlurmdSpoolDir={at}/spool\n\
                 SlurmctldPidFile={at}/slurmctld.pid\nSlurmdPidFile={at}/slurmd.pid\n\
                 ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nMpiDefault=none\n\
                 JobAcctGatherType=jobacct_gather/none\nAccountingStorageType=accounting_storage/none\n\
                 SelectType=select/cons_tres\nSelectTypeParameters=CR_Core\nSchedulerType=sched/backfill\n\
                 ReturnToService=2\nSlurmctldParameters=enable_configless\nKillWait=20\n\
                 NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN\n\
                 PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP\n"
            ),
        );
        let mut cluster = Self { folder, daemons: Vec::new() };
        let socket = format!("--socket={at}/munge.socket");
        let files =
            ["key-file=key", "log-file=munged.log", "pid-file=munged.pid", "seed-file=seed"];
        let files = files.map(|file| {
            let (name, file) = file.split_once('=').expect("name and file");
            format!("--{name}={at}/{file}")
        });
        let munge: Vec<&str> = files.iter().map(String::as_str).collect();
        cluster.daemon("munged", &[&["--foreground", "--force", &socket], &munge[..]].concat());
        cluster.wait("munged listens", |cluster| cluster.folder.path("munge.socket").exists());
        cluster.daemon("slurmctld", &["-D", "-i"]);
        cluster.daemon("slurmd", &["-D"]);
        cluster.wait("the node is idle", |cluster| {
            cluster.slurm("sinfo", &["--noheader", "--format=%T"]).1.trim() == "idle"
        });
        cluster
    }

    fn daemon(&mut self, program: &str, arguments: &[&str]) {
        let log =
            std::fs::File::create(self.folder.path(&format!("{program}.out"))).expect("a log");
        let mut command = self.command(program, arguments);
        command.stdout(log.try_clone().expect("a log")).stderr(log).stdin(Stdio::null());
        self.daemons.push(command.spawn().unwrap_or_else(|error| panic!("{program}: {error}")));
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env("SLURM_CONF", self.folder.path("slurm.conf"));
        command.env("PATH", path());
        command
    }

    fn slurm(&self, program: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
        told(&self.command(program, arguments).output().expect("runs"))
    }

    fn wait(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            let late = began.elapsed() > Duration::from_secs(300);
            assert!(!late, "{what}: not within five minutes\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn is_empty(&self) -> bool {
        let (code, jobs, _) = self.slurm("squeue", &["--noheader"]);
        code == Some(0) && jobs.trim().is_empty()
    }

    fn logs(&self) -> String {
        let log = |name: &str| {
            let text = std::fs::read_to_string(self.folder.path(name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(15).collect();
            format!("{name}:\n{}\n", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        ["munged.out", "slurmctld.out", "slurmd.out"].map(log).concat()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.slurm("scancel", &["--name=study"]);
        for daemon in self.daemons.iter_mut().rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// Daemons lie where a plain user's path may not lead.
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Free ports; another program could take them before the daemons do.
fn ports() -> [u16; 2] {
    let sockets = [0, 1].map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
    sockets.map(|socket| socket.local_addr().expect("an address").port())
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
}

#[cfg(not(unix))]
fn set_mode(_: &Path, _: u32) {}

fn is_there(program: &str) -> bool {
    path().split(':').any(|folder| PathBuf::from(folder).join(program).is_file())
}

#[test]
fn a_job_array_that_is_cancelled_half_way_comes_to_the_same_table() {
    if let Some(missing) = PROGRAMS.into_iter().find(|program| !is_there(program)) {
        assert!(std::env::var_os("EC_DARTS_SLURM").is_none(), "{missing} is not installed");
        println!("not run on Slurm: {missing} is not installed");
        return;
    }
    let (cluster, folder) = (Cluster::start(), study::folder(100));
    let data = project("data/cifar10-mini");
    let plain = ["study", "run", "study.toml", "--data", &data, "--out", "plain", "--threads", "1"];
    let (code, _, err) = told(&folder.run(&[&plain[..], &["--quiet"]].concat()));
    assert_eq!(code, Some(0), "{err}");
    let submit = || {
        let mut command = folder.command(&[
            "study",
            "submit",
            "study.toml",
            "--data",
            &data,
            "--out",
            "out",
            "--scheduler",
            "slurm",
            "--tasks",
            "2",
            "--time",
            "10",
            "--device",
            "cpu",
        ]);
        command.env("SLURM_CONF", cluster.folder.path("slurm.conf"));
        let (code, text, err) = told(&command.output().expect("runs"));
        assert_eq!(code, Some(0), "{text}{err}{}", cluster.logs());
        let number = text.strip_prefix("submitted job ").and_then(|rest| rest.split(' ').next());
        number.expect("the number of the job").to_string()
    };
    let number = submit();
    cluster.wait("a trial is done", |_| study::count(&folder, "out", "done") > 0);
    let (code, _, err) = cluster.slurm("scancel", &[&number]);
    assert_eq!(code, Some(0), "{err}");
    cluster.wait("the job is gone", Cluster::is_empty);
    let before = study::count(&folder, "out", "done");
    assert!(before < 5, "the job was too fast to be cancelled half way");
    println!("{before} of 5 trials were done when the job was cancelled");
    submit();
    cluster.wait("the second job is done", Cluster::is_empty);
    let tasks = std::fs::read_dir(folder.path("out/slurm"))
        .expect("logs")
        .map(|entry| std::fs::read_to_string(entry.expect("an entry").path()).expect("text"));
    let logs: String = tasks.collect::<Vec<_>>().join("\n");
    assert_eq!(study::count(&folder, "out", "done"), 5, "{logs}\n{}", cluster.logs());
    assert_eq!(study::table(&folder.path("out")), study::table(&folder.path("plain")));
}
