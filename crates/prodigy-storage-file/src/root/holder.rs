//! The holder of a lock file.
//!
//! A lock file says who took the lock last. That process may have died, or another program may hold the file without
//! writing to it. So a process is named as the holder only if it lives and the kernel lists its lock; otherwise it is
//! the last known holder.

use std::io;

use prodigy_storage_backend::Holder;
use prodigy_storage_layout::Timestamp;

use crate::fs::FsFile;
use crate::kernel::{KernelLocks, ProcessState, host, instance, state_of};

/// This process, as it signs a lock file.
pub(crate) fn this_process(since: Timestamp, purpose: String) -> Holder {
    Holder::new(std::process::id(), host(), since, purpose).instance(instance())
}

/// The process that holds a lock file now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Nobody.
    Nobody,
    /// The process that signed the file.
    Signer,
    /// Another process; its id, if the kernel lists it.
    Unknown(Option<u32>),
}

/// Compares what a lock file says with what the kernel lists. `last`: the process that signed last; `released`: it also
/// signed its release.
pub(crate) fn who_holds(
    file: &dyn FsFile,
    last: Option<&Holder>,
    released: bool,
    kernel: &mut KernelLocks,
) -> io::Result<Who> {
    let pid = last.map(|last| last.pid);
    // The kernel does not know a file without a descriptor.
    let listed = match file.descriptor() {
        Some(_) => kernel.holder(file.metadata()?.identity, last),
        None => None,
    };
    let is_certain = file.descriptor().is_some() && kernel.is_available();
    let state = last.filter(|_| !released).map(state_of);
    Ok(match (listed, state) {
        (Some(listed), Some(ProcessState::Alive)) if Some(listed) == pid => Who::Signer,
        (Some(listed), _) => Who::Unknown(Some(listed).filter(|pid| *pid > 0)),
        (None, Some(ProcessState::OutOfSight)) => Who::Unknown(None),
        (None, Some(ProcessState::Alive)) if !is_certain => Who::Signer,
        (None, _) => Who::Nobody,
    })
}

/// The words for the holder of a lock that could not be taken. `last`: the process that took it last, by its file.
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
        _ => format!("a process that this system does not name ({known})"),
    }
}
