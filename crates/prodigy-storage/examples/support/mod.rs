//! Shared parts of the examples.
#![allow(dead_code, reason = "each example uses a part of it")]

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use prodigy_storage::Storage;
use tempfile::TempDir;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The variables that set the location of the data. If all are unset, an example works in a temporary folder.
const PLACES: [&str; 6] = [
    "PRODIGY_HOME",
    "PRODIGY_CONFIG",
    "PRODIGY_STORAGE_BASE_PATH",
    "PRODIGY_STORAGE_DIR",
    "PRODIGY_STORAGE_PATH",
    "PRODIGY__STORAGE__BACKEND_CONFIG__BASE_DIR",
];

/// Opens the configured storage; also returns the temporary folder, which must be kept until the end.
pub(crate) fn open() -> Outcome<(Storage, Option<TempDir>)> {
    let set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if PLACES.iter().any(set) {
        return Ok((Storage::open()?, None));
    }
    let folder = tempfile::tempdir()?;
    // The backend is set by a flag, since a backend without a folder accepts no `base_dir`.
    let in_memory =
        std::env::var("PRODIGY_STORAGE_TYPE").is_ok_and(|kind| kind.eq_ignore_ascii_case("memory"));
    let builder = Storage::builder();
    let builder = if in_memory {
        builder
    } else {
        builder.base_dir(folder.path())
    };
    Ok((builder.open()?, Some(folder)))
}

/// A new name for a job.
pub(crate) fn new_job(what: &str) -> Outcome<String> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    Ok(format!("{what}-{}-{nanos}", std::process::id()))
}

/// Fails the example unless the condition holds.
pub(crate) fn check(holds: bool, what: &str) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(format!("check failed: {what}").into())
    }
}
