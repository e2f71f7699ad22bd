//! Tests of a folder below the root that is moved, removed or replaced while a process has a file in it open.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::letters::acknowledged;
use prodigy_storage_backend::{Durability, ErrorKind, LogStore, QueueStore, Select, Settled};
use prodigy_storage_file::FileBackend;

use super::replaced::{NEVER, Place, append, append_given, events, files, job, lock, save};

/// A way in which a folder or file disappears from its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Moved,
    /// It is moved away, and a copy takes its place.
    Restored,
    Removed,
    /// It is moved away, and a link to it takes its place.
    Linked,
    /// It is moved away, and an empty file takes its place.
    File,
}

const WAYS: [Way; 5] = [Way::Moved, Way::Restored, Way::Removed, Way::Linked, Way::File];

impl Way {
    /// Moves or removes a path below the root. Returns the path to which it is moved.
    fn go(self, place: &Place, below: &Path) -> PathBuf {
        let (path, away) = (place.root().join(below), place.path("away"));
        match self {
            Self::Removed if path.is_dir() => std::fs::remove_dir_all(&path).unwrap(),
            Self::Removed => std::fs::remove_file(&path).unwrap(),
            _ => std::fs::rename(&path, &away).unwrap(),
        }
        match self {
            Self::Moved | Self::Removed => {}
            Self::Restored => {
                let copied = Command::new("cp").arg("-a").args([&away, &path]).status();
                assert!(copied.unwrap().success());
            }
            Self::Linked => std::os::unix::fs::symlink(&away, path).unwrap(),
            Self::File => std::fs::write(path, "").unwrap(),
        }
        away
    }
}

/// The paths of a segment and of the folders that contain it, from the outermost folder to the segment.
fn above_the_segment(place: &Place) -> Vec<PathBuf> {
    let log = Path::new("events/shop/mapreduce-7");
    let segments = std::fs::read_dir(place.root().join(log)).unwrap();
    // Usually the log has one segment. If another test starts a process at this moment, that process inherits the first
    // writer's lock. The second writer then creates a segment of its own, which is the newest.
    let segment = log.join(
        segments
            .map(|segment| segment.unwrap().file_name())
            .max()
            .unwrap(),
    );
    let mut found: Vec<PathBuf> = segment.ancestors().map(Path::to_owned).collect();
    found.pop();
    found.reverse();
    found
}

/// The number of events in the other segments of the log; 0 if `segment` is the path of a folder. It is above 0 if the
/// second writer created a segment of its own.
fn events_beside(place: &Place, segment: &Path) -> usize {
    let is_segment = segment.extension().is_some();
    let folder = place.root().join(segment.parent().unwrap());
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let others = files.filter(|file| is_segment && !file.ends_with(segment.file_name().unwrap()));
    others
        .map(|file| std::fs::read_to_string(file).unwrap().lines().count())
        .sum()
}

type Append = fn(&FileBackend) -> prodigy_storage_backend::Result<()>;

const APPENDS: [(&str, Append); 2] = [
    ("new ids", |backend| append(backend, Durability::Strict)),
    ("given ids", |backend| append_given(backend)),
];

#[test]
fn no_event_is_acknowledged_in_a_folder_that_was_moved_away() {
    for (what, append) in APPENDS {
        for way in WAYS {
            for depth in 0..4 {
                let place = Place::filled();
                let backend = place.open(1 << 20);
                append(&backend).unwrap();
                let below = above_the_segment(&place).swap_remove(depth);
                let case = format!("{what}, {way:?} {}", below.display());
                let others = events_beside(&place, &below);
                let away = way.go(&place, &below);
                let before = files(&away);
                let error = append(&backend).unwrap_err();
                let why = error.why();
                assert!(error.hint().is_some(), "{case}: {error}");
                if way == Way::Linked && depth < 3 {
                    // An append under given ids notices the link when it lists the log. Any other append notices it
                    // after the write, before it acknowledges the event.
                    let expected = if what == "given ids" {
                        (ErrorKind::Refused, "a symbolic link")
                    } else {
                        (ErrorKind::OutcomeUnknown, "while this process wrote to it")
                    };
                    assert_eq!(error.kind(), expected.0, "{case}: {error}");
                    assert!(why.contains(expected.1), "{case}: {error}");
                } else {
                    assert_eq!(error.kind(), ErrorKind::Replaced, "{case}: {error}");
                    assert!(why.contains("while this process wrote to it"), "{case}: {error}");
                    assert_eq!(files(&away), before, "{case}");
                }
                // The next append uses the folder that the path now leads to.
                match append(&backend) {
                    Ok(()) => {
                        let found = events(&place.open(5 << 20)).unwrap();
                        let expected = if way == Way::Restored { 3 } else { 1 + others };
                        assert_eq!(found, expected, "{case}");
                    }
                    Err(error) => {
                        assert!(matches!(way, Way::Linked | Way::File), "{case}: {error}");
                        assert_eq!(error.kind(), ErrorKind::Refused, "{case}: {error}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_relaxed_append_and_a_flush_notice_a_moved_folder() {
    for way in WAYS {
        let place = Place::filled();
        let backend = place.open(1 << 20);
        append(&backend, Durability::Relaxed).unwrap();
        way.go(&place, Path::new("events"));
        let error = backend_flush(&backend).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{way:?}");
        assert!(error.why().contains("moved"), "{way:?}: {error}");

        let place = Place::filled();
        let backend = place.open(1 << 20);
        append(&backend, Durability::Relaxed).unwrap();
        way.go(&place, Path::new("events"));
        place.second_passes();
        let error = append(&backend, Durability::Relaxed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Replaced, "{way:?}");
    }
}

fn backend_flush(backend: &FileBackend) -> prodigy_storage_backend::Result<()> {
    prodigy_storage_backend::Catalog::flush(backend, NEVER)
}

#[test]
fn a_lock_is_lost_with_a_folder_above_its_file_and_stays_lost() {
    for way in WAYS {
        for below in ["locks", "locks/2", "locks/2/shop", "locks/2/shop/resume.lock"] {
            let place = Place::filled();
            let backend = place.open(1 << 20);
            let guard = lock(&backend).unwrap();
            guard.check().unwrap();
            let away = way.go(&place, Path::new(below));
            let error = guard.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Replaced, "{way:?} {below}: {error}");
            if way == Way::Moved {
                std::fs::rename(away, place.root().join(below)).unwrap();
            }
            assert_eq!(guard.check().unwrap_err().kind(), ErrorKind::Replaced);
            assert_eq!(guard.release().unwrap_err().kind(), ErrorKind::Replaced);
        }
    }
}

#[test]
fn a_lease_that_went_with_its_folder_is_not_settled() {
    for way in [Way::Moved, Way::Removed] {
        for below in [
            "dlq",
            "dlq/shop",
            "dlq/shop/mapreduce-7",
            "dlq/shop/mapreduce-7/items.json",
        ] {
            let place = Place::filled();
            let backend = place.open(1 << 20);
            let lease = std::time::Duration::from_secs(600);
            let taken = backend
                .queue_take(&job(), &Select::eligible(), 1, lease, None, NEVER)
                .unwrap();
            let token = taken[0].lease.as_ref().unwrap().token.clone();
            way.go(&place, Path::new(below));
            let settled = backend
                .queue_settle(&job(), &[acknowledged(&token)], None, NEVER)
                .unwrap();
            assert_eq!(settled, [Settled::Unknown], "{way:?} {below}");
        }
    }
}

#[test]
fn what_holds_nothing_below_the_root_goes_on_with_what_is_there() {
    for below in ["state", "state/shop", "locks", "dlq"] {
        for way in [Way::Moved, Way::Restored, Way::Removed] {
            let place = Place::filled();
            let backend = place.open(1 << 20);
            save(&backend, Durability::Strict).unwrap();
            way.go(&place, Path::new(below));
            save(&backend, Durability::Strict).unwrap();
            super::replaced::push(&backend).unwrap();
            lock(&backend).unwrap().release().unwrap();
        }
    }
    // A process that has sealed its segment holds nothing in the folder, so its next append succeeds.
    for way in [Way::Moved, Way::Restored, Way::Removed] {
        let place = Place::filled();
        let backend = place.open(1 << 20);
        append_given(&backend).unwrap();
        backend.seal(&job(), NEVER).unwrap();
        way.go(&place, Path::new("events"));
        append_given(&backend).unwrap();
        let stored = if way == Way::Restored { 3 } else { 1 };
        assert_eq!(events(&backend).unwrap(), stored, "{way:?}");
    }
}
