//! Memory of this process, as the operating system counts it.

/// Largest resident memory so far, in bytes; known on Linux only.
pub fn peak_bytes() -> Option<u64> {
    status("VmHWM:")
}

/// Resident memory now, in bytes; known on Linux only.
pub fn current_bytes() -> Option<u64> {
    status("VmRSS:")
}

/// Memory that a process can still get without swapping, in bytes; known on Linux only.
pub fn available_bytes() -> Option<u64> {
    field("/proc/meminfo", "MemAvailable:")
}

fn status(key: &str) -> Option<u64> {
    field("/proc/self/status", key)
}

fn field(path: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(1024 * kibibytes)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn what_is_touched_is_counted() {
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        let peak = super::peak_bytes().expect("Linux tells");
        assert!(peak >= block.len() as u64, "{peak}");
        assert!(super::current_bytes().expect("Linux tells") >= block.len() as u64);
    }
}
