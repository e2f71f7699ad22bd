//! What can be said of the root without writing to it.

use std::io;
use std::path::Path;

use prodigy_storage_backend::{Check, Severity};

use super::exposure::Exposed;
use super::{FORMAT, check, network};
use crate::store::Store;

/// Checks the root: its owner and mode, whether it can be written to, its file system, its format, the space left.
pub(crate) fn health(store: &Store) -> Vec<Check> {
    let root = Path::new("");
    let at = store.options.root.display().to_string();
    let mut checks = Vec::new();
    match store.fs.metadata(root) {
        Ok(found) => {
            checks.push(Check::new(
                "root",
                Severity::Ok,
                format!("{at} is there, mode {:04o}", found.mode),
            ));
            checks.extend(owner(&at, found.uid, rustix::process::geteuid().as_raw()));
            if found.mode & 0o022 != 0 {
                checks.push(
                    Check::new(
                        "mode",
                        Severity::Warning,
                        format!("others may write to {at}: mode {:04o}", found.mode),
                    )
                    .with_hint("run `chmod go-w` on it"),
                );
            }
            checks.extend(writable(store, &at));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            checks.push(Check::new(
                "root",
                Severity::Ok,
                format!("{at} is not there yet; the first write makes it"),
            ));
        }
        Err(error) => checks.push(Check::new("root", Severity::Failure, format!("{at}: {error}"))),
    }
    checks.extend(way(store));
    checks.push(file_system(store));
    match check(store) {
        Ok(()) => checks.push(Check::new("format", Severity::Ok, format!("format {FORMAT}"))),
        Err(error) => {
            let check = Check::new("format", Severity::Failure, error.to_string());
            checks.push(match error.hint() {
                Some(hint) => check.with_hint(hint.to_owned()),
                None => check,
            });
        }
    }
    if let Ok(space) = store.fs.space() {
        let found = format!("{} of {} bytes are free", space.free, space.capacity);
        let tight = space.free < (64 << 20) || space.free < space.capacity / 100;
        checks.push(if tight {
            Check::new("space", Severity::Warning, found).with_hint("free space before writes fail")
        } else {
            Check::new("space", Severity::Ok, found)
        });
    }
    checks
}

fn owner(at: &str, owner: u32, me: u32) -> Option<Check> {
    (owner != me).then(|| {
        Check::new(
            "owner",
            Severity::Warning,
            format!("{at} is of user {owner}, this is user {me}"),
        )
        .with_hint("its owner can read and change all that is written here: fine if it is meant so")
    })
}

/// That of another user's making makes [`check`] fail, unless it is allowed.
fn way(store: &Store) -> Option<Check> {
    let (found, hint) = match super::exposed(store)? {
        Exposed::Planted { folder, uid } => (
            format!(
                "user {uid} made {}, where any user may make a folder",
                folder.display()
            ),
            "use a folder that only you may write to",
        ),
        Exposed::Loose { folder, mode } => (
            format!(
                "any user may put another folder in the place of the root: {} has mode {mode:04o}",
                folder.display()
            ),
            "run `chmod o-w` or `chmod +t` on it",
        ),
    };
    Some(Check::new("way to the root", Severity::Warning, found).with_hint(hint))
}

fn writable(store: &Store, at: &str) -> Option<Check> {
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    if rustix::fs::access(&store.options.root, access).is_ok() {
        return None;
    }
    // Who only reads can live with it.
    let severity = if store.options.read_only {
        Severity::Warning
    } else {
        Severity::Failure
    };
    Some(
        Check::new(
            "writable",
            severity,
            format!("storage directory not writable: {at}"),
        )
        .with_hint("check owner and permissions of the folder"),
    )
}

fn file_system(store: &Store) -> Check {
    match super::file_system(store) {
        network::Found::Local => Check::new("file system", Severity::Ok, "of this machine"),
        network::Found::Network(name, at) => {
            let at = at.map_or_else(String::new, |at| format!(" at {}", at.display()));
            Check::new(
                "file system",
                Severity::Warning,
                format!("{name}{at}: nothing is promised on a network file system"),
            )
            .with_hint("use a local disk")
        }
        network::Found::Unknown(why) => Check::new(
            "file system",
            Severity::Warning,
            format!("whether it is a network's could not be told: {why}"),
        )
        .with_hint("nothing is promised on a network file system"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_owner_is_told() {
        assert_eq!(owner("/r", 5, 5), None);
        let check = owner("/r", 7, 5).unwrap();
        assert_eq!(check.severity, Severity::Warning);
        assert_eq!(check.found, "/r is of user 7, this is user 5");
    }
}
