//! The memory, descriptors and written bytes of this process, from the kernel.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// The largest resident memory so far, in MiB (`VmHWM`).
pub(crate) fn most_resident_mib() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status").context("can't read the status of this process")?;
    high_water_mib(&status).context("the kernel does not tell the most resident memory")
}

/// Watches a process until its end, and returns its largest resident memory in MiB. The caller must not reap the
/// process meanwhile, since another process may then get its id.
pub(crate) fn watch_most_resident_mib(pid: u32) -> f64 {
    let mut most = 0.0;
    while let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status"))
        && let Some(now) = high_water_mib(&status)
    {
        most = now;
        thread::sleep(Duration::from_millis(1));
    }
    most
}

fn high_water_mib(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

/// The number of open descriptors, without the one that this function opens.
pub(crate) fn descriptors() -> Result<usize> {
    let entries = fs::read_dir("/proc/self/fd").context("can't list the descriptors of this process")?;
    Ok(entries.count().saturating_sub(1))
}

/// The bytes that this process has passed to write calls (`wchar`).
pub(crate) fn bytes_written() -> Result<u64> {
    let io = fs::read_to_string("/proc/self/io").context("can't read what this process wrote")?;
    let line = io.lines().find_map(|line| line.strip_prefix("wchar:"));
    let bytes = line.context("the kernel does not count what a process writes")?;
    Ok(bytes.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::{bytes_written, descriptors, high_water_mib, most_resident_mib};

    #[test]
    fn written_bytes_are_counted() {
        let before = bytes_written().unwrap();
        std::fs::write("/dev/null", [0; 4096]).unwrap();
        assert!(bytes_written().unwrap() >= before + 4096);
    }

    #[test]
    fn the_high_water_mark_is_read() {
        assert_eq!(
            high_water_mib("VmPeak:\t 9 kB\nVmHWM:\t   2560 kB\nVmRSS:\t 1 kB\n"),
            Some(2.5)
        );
        assert!(most_resident_mib().unwrap() > 0.1);
    }

    #[test]
    fn standard_streams_are_counted() {
        assert!(descriptors().unwrap() >= 3);
    }
}
