//! Seeing other writers where file locks are off.
//!
//! A process that writes without file locks leaves a file in `locks/unlocked/` that says who it is. What needs a
//! single writer is refused while another such process is seen. A process on another host can't be seen to be gone,
//! so its file counts until someone removes it.

use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use prodigy_storage_backend::{Durability, ErrorKind, Holder, Result, StorageError};
use prodigy_storage_layout::LOCKS;

use crate::fs::OpenMode;
use crate::lockfile::{host, read_holder};
use crate::store::{Replace, Store};

/// The file by which this store shows that it writes without locks.
#[derive(Debug, Default)]
pub(crate) struct Presence(Mutex<Option<PathBuf>>);

fn folder() -> PathBuf {
    Path::new(LOCKS).join("unlocked")
}

impl Store {
    /// Refuses what needs a single writer while another process writes without locks.
    ///
    /// A process that writes *with* locks can't be seen by one without: mixing the two on one root is not safe.
    pub(crate) fn sole_writer(&self, operation: &'static str) -> Result<()> {
        if !self.options.file_locks {
            self.show_presence()?;
        }
        let folder = folder();
        let entries = match self.fs.list(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.read_fault(operation, &folder, error)),
        };
        let own = self.presence.0.lock().clone();
        for entry in entries.into_iter().filter(|entry| entry.name.ends_with(".json")) {
            let path = folder.join(&entry.name);
            if own.as_ref() == Some(&path) {
                continue;
            }
            let Ok(file) = self.fs.open(&path, OpenMode::Read) else {
                continue;
            };
            let Some(holder) = read_holder(&*file) else {
                continue;
            };
            if holder.pid == std::process::id() && holder.host == host() {
                continue;
            }
            if is_gone(&holder) {
                let _ = self.fs.unlink(&path);
                continue;
            }
            return Err(StorageError::new(
                ErrorKind::Unsupported,
                operation,
                self.absolute(&path).display(),
                format!("file locks are off, and another process writes here: {holder}"),
            )
            .with_hint(
                "set `backend_config.enable_file_locks: true`, or end the other process; if it is gone for good, remove \
                 this file",
            ));
        }
        Ok(())
    }

    /// Leaves a sign that this process writes without locks.
    pub(crate) fn show_presence(&self) -> Result<()> {
        let mut own = self.presence.0.lock();
        if own.is_some() {
            return Ok(());
        }
        let holder = Holder::new(
            std::process::id(),
            host(),
            self.now(),
            "writes without file locks".into(),
        );
        let path = folder().join(format!("{}-{}.json", holder.pid, uuid::Uuid::new_v4().simple()));
        let text = serde_json::to_vec(&holder).map_err(|error| {
            StorageError::new(
                ErrorKind::Io,
                "show presence",
                path.display(),
                "it does not serialise",
            )
            .with_source(error)
        })?;
        self.write_atomic(
            "show presence",
            &path,
            &[&text, b"\n"],
            Replace::Never,
            Durability::Relaxed,
        )?;
        *own = Some(path);
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(path) = self.presence.0.get_mut().take() {
            let _ = self.fs.unlink(&path);
        }
    }
}

/// Whether the process is known to have ended.
fn is_gone(holder: &Holder) -> bool {
    if holder.host != host() {
        return false;
    }
    let Some(pid) = i32::try_from(holder.pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    else {
        return true;
    };
    matches!(
        rustix::process::test_kill_process(pid),
        Err(rustix::io::Errno::SRCH)
    )
}
