//! The health check of the locks that other processes hold: a process that was stopped, or hangs, keeps its locks, and every
//! other process waits.

use std::path::Path;

use prodigy_storage_backend::{Check, Holder, Severity};
use prodigy_storage_layout::{Entry, Folder};

use super::Root;
use super::locked_file::read_holder;
use crate::fs::OpenMode;
use crate::kernel::{KernelLocks, is_stopped};

/// A lock of the store itself is held for one call. One that is held for longer than this may be held by a process that hangs.
/// In nanoseconds.
const LONG: i64 = 5_000_000_000;

/// A check for each process that is stopped while it holds a lock, and for each lock of the store itself that is held for long.
pub(super) fn held(root: &Root) -> Vec<Check> {
    let top = root.absolute(Path::new(""));
    let mut checks = Vec::new();
    for (pid, path) in KernelLocks::new().below(&top) {
        let Ok(below) = path.strip_prefix(&top) else {
            continue;
        };
        let is_named = matches!(Entry::parse(below), Some(Entry::Lock(_)));
        let is_of_store = matches!(
            Entry::parse(below),
            Some(Entry::QueueLock(_) | Entry::StateLock(_) | Entry::DocumentsLock(_) | Entry::RegistryLock)
        ) || matches!(Folder::parse(below), Some(Folder::Job(_)));
        if !is_named && !is_of_store {
            continue;
        }
        let holder = match is_of_store {
            true => signer(root, below).filter(|holder| holder.pid == pid),
            false => None,
        };
        let who = holder
            .as_ref()
            .map_or_else(|| format!("process {pid}"), ToString::to_string);
        let found = format!("{} is held by {who}", path.display());
        if is_stopped(pid) {
            checks.push(stopped(&found, pid, is_named));
        } else if holder.is_some_and(|holder| root.now().as_nanos() - holder.since.as_nanos() > LONG) {
            checks.push(long(&found, pid));
        }
    }
    checks
}

/// The process that a lock file names as its holder.
fn signer(root: &Root, path: &Path) -> Option<Holder> {
    read_holder(&*root.fs.open(path, OpenMode::Read).ok()?)
}

fn stopped(found: &str, pid: u32, is_named: bool) -> Check {
    let severity = match is_named {
        true => Severity::Warning,
        false => Severity::Failure,
    };
    Check::new(
        "lock",
        severity,
        format!("{found}, which is stopped: every process that needs it waits"),
    )
    .with_hint(format!(
        "let it continue; or end it with `kill -KILL {pid}`, which frees the lock"
    ))
    .with_command(format!("kill -CONT {pid}"))
}

fn long(found: &str, pid: u32) -> Check {
    Check::new(
        "lock",
        Severity::Warning,
        format!("{found}, and is needed for a moment only: every process that needs it waits"),
    )
    .with_hint(format!(
        "look at the process: `ps -fp {pid}`; if it hangs, `kill {pid}` frees the lock, and no acknowledged data is lost"
    ))
}
