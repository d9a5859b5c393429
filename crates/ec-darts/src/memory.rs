//! Memory of this process and of the machine, as the operating system counts it.

use sysinfo::{Pid, Process, ProcessRefreshKind, ProcessesToUpdate, System};

/// Largest resident memory so far, in bytes; known on Linux only.
pub fn peak_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(1024 * kibibytes)
}

/// Resident memory now, in bytes.
pub fn current_bytes() -> Option<u64> {
    of_process(Process::memory)
}

/// Memory that this process can still get without swapping, in bytes: what is free on the machine, or
/// less where a control group limits the process, as containers and batch systems do.
pub fn available_bytes() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory();
    // A system that does not tell is not one without memory.
    let machine = Some(system.available_memory()).filter(|_| system.total_memory() > 0)?;
    // The machine's limits are those of its root group, or of the container that the process sees as one.
    let limits = [system.cgroup_limits(), of_process(Process::cgroup_limits).flatten()];
    let free = limits.into_iter().flatten().map(|group| {
        // Pages of files count as used, and are given back when they are needed.
        group.total_memory.saturating_sub(group.rss).max(group.free_memory)
    });
    Some(free.fold(machine, u64::min))
}

fn of_process<T>(read: impl FnOnce(&Process) -> T) -> Option<T> {
    let pid = Pid::from_u32(std::process::id());
    let mut system = System::new();
    let kind = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
    system.process(pid).map(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_is_counted() {
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        let current = current_bytes().expect("every system of ours tells");
        assert!(current >= block.len() as u64, "{current}");
        if cfg!(target_os = "linux") {
            let peak = peak_bytes().expect("Linux tells");
            assert!(peak >= block.len() as u64, "{peak}");
        }
    }

    #[test]
    fn there_is_memory_and_no_more_than_the_machine_has() {
        let mut system = System::new();
        system.refresh_memory();
        let free = available_bytes().expect("every system of ours tells");
        assert!((1 << 20..=system.total_memory()).contains(&free), "{free} bytes");
    }
}
