//! Memory of this process and of the machine, as the operating system counts it.

use sysinfo::{CGroupLimits, Pid, Process, ProcessRefreshKind, ProcessesToUpdate, System};

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

/// Memory that this process can still get without swapping, in bytes: the free memory of the
/// machine, or less where a control group limits the process, as in containers and batch systems.
pub fn available_bytes() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory();
    // A system that does not report its memory is not a system without memory.
    let machine = Some(system.available_memory()).filter(|_| system.total_memory() > 0)?;
    // The system's limits are those of the root group, which in a container is the container's
    // group.
    let groups = [system.cgroup_limits(), of_process(Process::cgroup_limits).flatten()];
    Some(within(machine, groups.into_iter().flatten()))
}

/// The free memory of the machine, or less where a group's limit leaves less.
fn within(machine: u64, groups: impl Iterator<Item = CGroupLimits>) -> u64 {
    let left = groups.map(|group| {
        // Pages of files count as used, but the system frees them when memory is needed.
        group.free_memory.max(group.total_memory.saturating_sub(group.rss))
    });
    left.fold(machine, u64::min)
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

    #[test]
    fn a_group_limits_what_is_free() {
        let group = |total_memory, free_memory, rss| CGroupLimits {
            total_memory,
            free_memory,
            free_swap: 0,
            rss,
        };
        assert_eq!(within(100, [].into_iter()), 100);
        assert_eq!(within(100, [group(40, 40, 0)].into_iter()), 40);
        assert_eq!(within(100, [group(40, 5, 10)].into_iter()), 30, "files of 25 can be dropped");
        assert_eq!(within(100, [group(500, 450, 50), group(60, 20, 45)].into_iter()), 20);
        assert_eq!(within(100, [group(40, 0, 50)].into_iter()), 0);
    }
}
