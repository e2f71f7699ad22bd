//! Finds the process that holds the lock on a lock file.
//!
//! A lock file names the process that took the lock last. That process may have died, or another program may hold the
//! lock without writing to the file. So the named process counts as the holder only if it is alive and the kernel lists
//! its lock. Otherwise it is called the last known holder.

use std::io;

use prodigy_storage_backend::Holder;
use prodigy_storage_layout::Timestamp;

use crate::fs::FsFile;
use crate::kernel::{KernelLocks, ProcessState, host, instance, state_of};

/// The description of this process that it writes to lock files.
pub(crate) fn this_process(since: Timestamp, purpose: String) -> Holder {
    Holder::new(std::process::id(), host(), since, purpose).instance(instance())
}

/// True if the description of a holder names this process.
pub(super) fn names_this_process(holder: &str) -> bool {
    let own = this_process(Timestamp::from_nanos(0), String::new()).to_string();
    own.split_once(" since ")
        .is_some_and(|(own, _)| holder.strip_prefix(own).is_some_and(|rest| rest.starts_with(' ')))
}

/// The process that holds a lock file now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// No process holds the lock.
    Nobody,
    /// The process that is named in the file.
    Signer,
    /// A process that is not named in the file, with its id if the kernel lists it.
    Unknown(Option<u32>),
}

/// Finds the holder of a lock from its file and the kernel's list of locks. `last` is the process that the file names.
/// `released` is true if the file states that this process released the lock.
pub(crate) fn who_holds(
    file: &dyn FsFile,
    last: Option<&Holder>,
    released: bool,
    kernel: &mut KernelLocks,
) -> io::Result<Who> {
    let pid = last.map(|last| last.pid);
    // A file without a descriptor is a simulated one, so the kernel does not list its lock.
    let listed = match file.descriptor() {
        Some(_) => kernel.holder(file.metadata()?.identity, last),
        None => None,
    };
    let is_certain = file.descriptor().is_some() && kernel.is_available();
    let state = last.filter(|_| !released).map(state_of);
    Ok(match (listed, state) {
        (Some(listed), Some(ProcessState::Alive)) if Some(listed) == pid => Who::Signer,
        // The named process may be in another container, where it has another id.
        (Some(_), Some(ProcessState::OutOfSight)) => Who::Unknown(None),
        (Some(listed), _) => Who::Unknown(Some(listed).filter(|pid| *pid > 0)),
        (None, Some(ProcessState::OutOfSight)) => Who::Unknown(None),
        (None, Some(ProcessState::Alive)) if !is_certain => Who::Signer,
        (None, _) => Who::Nobody,
    })
}

/// Describes a process of this host, for an error message. `None` is a process that the kernel does not list, or that is
/// not visible here.
pub(crate) fn process(pid: Option<u32>) -> String {
    match pid {
        Some(pid) if pid == std::process::id() => format!("this process ({pid})"),
        Some(pid) => format!("process {pid} on {}", host().escape_debug()),
        None => "a process that this system does not name".to_owned(),
    }
}

/// Describes the process that holds the lock on a file that nobody signs, such as a segment.
pub(crate) fn describe_unsigned(file: &dyn FsFile) -> String {
    match who_holds(file, None, false, &mut KernelLocks::new()) {
        Ok(Who::Unknown(pid)) => process(pid),
        _ => process(None),
    }
}

/// Describes, for an error message, the holder of a lock that could not be taken. `last` is the process that the file
/// names.
pub(crate) fn describe(file: &dyn FsFile, last: Option<&Holder>, released: bool) -> String {
    let who = who_holds(file, last, released, &mut KernelLocks::new()).unwrap_or(Who::Unknown(None));
    let known = last.map_or_else(
        || "the lock file names no earlier holder".to_owned(),
        |last| format!("last known holder: {last}"),
    );
    match (who, last) {
        (Who::Signer, Some(last)) => last.to_string(),
        (Who::Unknown(Some(pid)), _) => {
            format!("process {pid}, which did not sign the lock file ({known})")
        }
        _ => format!("{} ({known})", process(None)),
    }
}
