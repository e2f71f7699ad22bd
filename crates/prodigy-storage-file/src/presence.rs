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
use crate::holder::{host, is_alive, this_process};
use crate::lockfile::read_holder;
use crate::store::{Replace, Store};

/// The file by which this store shows that it writes without locks.
#[derive(Debug, Default)]
pub(crate) struct Presence(Mutex<Option<PathBuf>>);

/// What a file among the signs says.
enum Sign {
    /// Nothing: it is none, or gone.
    None,
    /// Its process is gone.
    Gone,
    /// Its process may be at work.
    Lives(Holder),
    /// It is damaged.
    Unclear,
}

pub(crate) fn folder() -> PathBuf {
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
            let who = match self.sign(&path) {
                Sign::None => continue,
                Sign::Gone => {
                    let _ = self.fs.unlink(&path);
                    continue;
                }
                Sign::Lives(holder) if holder.pid == std::process::id() && holder.host == host() => continue,
                Sign::Lives(holder) => holder.to_string(),
                Sign::Unclear => "one whose file is damaged".to_owned(),
            };
            return Err(StorageError::new(
                ErrorKind::Unsupported,
                operation,
                self.absolute(&path).display(),
                format!("file locks are off, and another process writes here: {who}"),
            )
            .with_hint(
                "set `backend_config.enable_file_locks: true`, or end the other process; if it is gone for good, remove \
                 this file",
            ));
        }
        Ok(())
    }

    /// What a file among the signs says. Its name has the process's id as well: a damaged one must not pass for that of a
    /// process that is gone.
    fn sign(&self, path: &Path) -> Sign {
        let Ok(file) = self.fs.open(path, OpenMode::Read) else {
            return Sign::None;
        };
        let pid = path
            .file_name()
            .and_then(|name| name.to_str()?.split_once('-')?.0.parse::<u32>().ok());
        match (read_holder(&*file), pid) {
            (Some(holder), pid) if pid.is_none_or(|pid| pid == holder.pid) => {
                if is_gone(&holder) {
                    Sign::Gone
                } else {
                    Sign::Lives(holder)
                }
            }
            (None, None) => Sign::None,
            // Written relaxed: a loss of power leaves the name alone, and no process.
            (None, Some(pid)) if file.metadata().is_ok_and(|found| found.len == 0) && !is_alive(pid) => {
                Sign::Gone
            }
            _ => Sign::Unclear,
        }
    }

    /// Whether the process of a file among the signs may still be at work; `None` if the file is damaged.
    pub(crate) fn presence_at(&self, path: &Path) -> Option<bool> {
        match self.sign(path) {
            Sign::Lives(_) => Some(true),
            Sign::Gone | Sign::None => Some(false),
            Sign::Unclear => None,
        }
    }

    /// Leaves a sign that this process writes without locks.
    pub(crate) fn show_presence(&self) -> Result<()> {
        let mut own = self.presence.0.lock();
        if own.is_some() {
            return Ok(());
        }
        let holder = this_process(self.now(), "writes without file locks".into());
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
    holder.host == host() && !is_alive(holder.pid)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::FileOptions;
    use crate::fs::RealFs;

    #[test]
    fn no_flipped_byte_hides_a_process_that_writes_without_locks() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let store = |locks: bool| {
            let options = FileOptions::new(&root).file_locks(locks);
            Store::new(Arc::new(RealFs::new(&root)), options)
        };
        let other = store(true);
        other.prepare_write("test", &"x").unwrap();
        // The first process of the host, which is alive and is not this one.
        let name = format!("1-{}.json", "0".repeat(32));
        let path = root.join(super::folder()).join(&name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let holder = Holder::new(1, host(), other.now(), "test".into());
        let bytes = serde_json::to_vec(&holder).unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                std::fs::write(&path, &flipped).unwrap();
                let error = other.sole_writer("test").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unsupported, "byte {at} bit {bit}");
                assert!(path.exists(), "byte {at} bit {bit}");
            }
        }
        // What a loss of power leaves: a name without contents, and no process.
        std::fs::write(&path, b"").unwrap();
        let gone = path.with_file_name(format!("{}-{}.json", i32::MAX, "0".repeat(32)));
        std::fs::rename(&path, &gone).unwrap();
        other.sole_writer("test").unwrap();
        assert!(!gone.exists());
    }
}
