//! A description of the machine of a measurement.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The machine, and the file system of the benchmarks' folder.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) file_system: String,
    pub(crate) mount_options: String,
    pub(crate) device: String,
}

/// The number of programs that were ready to run in the minute before: above a few tenths, other programs were running.
pub(crate) fn load() -> f64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ')
        .next()
        .and_then(|load| load.parse().ok())
        .unwrap_or_default()
}

impl Machine {
    /// Describes this machine, and the file system of a folder.
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let system = rustix::system::uname();
        let folder = folder
            .canonicalize()
            .with_context(|| format!("can't find {}", folder.display()))?;
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let mount = mount_of(&mounts, &folder).unwrap_or_default();
        Ok(Self {
            cpu: field(
                &fs::read_to_string("/proc/cpuinfo").unwrap_or_default(),
                "model name",
            ),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: memory_gib(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
            kernel: format!(
                "{} {}",
                system.sysname().to_string_lossy(),
                system.release().to_string_lossy()
            ),
            file_system: mount.kind,
            mount_options: mount.options,
            device: mount.device,
        })
    }

    /// The description in one line.
    pub(crate) fn line(&self) -> String {
        format!(
            "{}, {} cores, {} GiB, {}; {} on {} ({})",
            self.cpu,
            self.cores,
            self.memory_gib,
            self.kernel,
            self.file_system,
            self.device,
            self.mount_options
        )
    }

    #[cfg(test)]
    pub(crate) fn sample() -> Self {
        Self {
            cpu: "Example CPU".to_owned(),
            cores: 2,
            memory_gib: 8,
            kernel: "Linux 6.1".to_owned(),
            file_system: "ext4".to_owned(),
            mount_options: "rw".to_owned(),
            device: "/dev/example".to_owned(),
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Mount {
    device: String,
    kind: String,
    options: String,
}

/// The mount that contains a folder: the deepest, and of several at the same path the last, which hides the others.
fn mount_of(mounts: &str, folder: &Path) -> Option<Mount> {
    let parsed = mounts.lines().filter_map(|line| {
        let mut parts = line.split(' ');
        let (device, point) = (parts.next()?, parts.next()?);
        folder.starts_with(point).then_some((point.len(), device, parts))
    });
    let (_, device, mut rest) = parsed.max_by_key(|(length, _, _)| *length)?;
    Some(Mount {
        device: device.to_owned(),
        kind: rest.next()?.to_owned(),
        options: rest.next()?.to_owned(),
    })
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> String {
    let found = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    });
    found.unwrap_or_else(|| "unknown CPU".to_owned())
}

fn memory_gib(meminfo: &str) -> u64 {
    let total = field(meminfo, "MemTotal");
    let kib: u64 = total
        .split(' ')
        .next()
        .and_then(|kib| kib.parse().ok())
        .unwrap_or_default();
    (kib + (1 << 19)) >> 20
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{field, memory_gib, mount_of};

    #[test]
    fn the_deepest_mount_counts_and_of_two_the_last() {
        let mounts = "/dev/a / ext4 rw 0 0\nold /data xfs ro 0 0\nnew /data btrfs rw 0 0\ntmpfs /data/deep tmpfs rw 0 0\n";
        let kind = |folder: &str| mount_of(mounts, Path::new(folder)).unwrap().kind;
        assert_eq!(kind("/srv"), "ext4");
        assert_eq!(kind("/data/x"), "btrfs");
        assert_eq!(kind("/data/deep/x"), "tmpfs");
        assert_eq!(kind("/database"), "ext4");
    }

    #[test]
    fn fields_of_the_kernels_tables_are_read() {
        assert_eq!(
            field("processor\t: 0\nmodel name\t: A: B\n", "model name"),
            "A: B"
        );
        assert_eq!(memory_gib("MemTotal:       24651404 kB\n"), 24);
    }
}
