//! Tests of backups that are made while others remove the oldest segments of the log, or checkpoints.

use std::io::{self, Cursor as Reader};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prodigy_storage_backend::{
    Body, Cursor, DocumentStore, Durability, ErrorKind, Expected, PutOptions, ScanOptions,
};
use prodigy_storage_layout::{JobAddress, Phase};

use super::removal::{cursor, marks, sealed, segments};
use super::support::{NEVER, Place, at, name, payloads, set_mode};
use super::tape::Tape;
use crate::{Backup, FileBackend};

/// More segments than one mark identifies, so that a removal writes several marks.
const SEGMENTS: i64 = 20;
/// The events before this time are removed.
const REMOVED: i64 = 18;

/// A log of sealed segments with one event each, and the cursor behind each event.
fn log() -> (Place, Vec<Cursor>) {
    let place = Place::new();
    sealed(&place, 0..SEGMENTS);
    let store = place.store();
    let cursors = (0..=SEGMENTS as usize).map(|count| cursor(&place, &store, count));
    let cursors = cursors.collect();
    (place, cursors)
}

/// Makes a backup. `hook` runs before each call that the backup makes to the file system.
fn archive(
    place: &Place,
    job: Option<&JobAddress>,
    hook: impl Fn(&str, &Path) + Send + Sync + 'static,
) -> Vec<u8> {
    let (tape, reel) = Tape::new(&place.root());
    reel.on(move |what, path| {
        hook(what, path);
        Ok(())
    });
    let mut archive = Vec::new();
    let backup = Backup::new_on(Arc::new(tape), place.options()).unwrap();
    backup.write(job, &mut archive).unwrap();
    archive
}

/// Restores an archive to a new root.
fn restored(archive: &[u8], job: Option<&JobAddress>) -> Place {
    let copy = Place::new();
    let (tape, reel) = Tape::new(&copy.root());
    reel.quick.store(true, Ordering::Relaxed);
    let backup = Backup::new_on(Arc::new(tape), copy.options()).unwrap();
    backup.restore(&mut Reader::new(archive), job).unwrap();
    copy
}

/// Restores an archive of the log. Checks that no event is missing behind the first one, that each cursor reads all events
/// that it does not cover, or gets a gap as it does in the source. Returns the restored root.
fn check(archive: &[u8], job: Option<&JobAddress>, cursors: &[Cursor], when: &str) -> Place {
    let copy = restored(archive, job);
    let store = copy.store();
    let found = copy.payloads(&store);
    let first: usize = found[0].parse().unwrap();
    let expected: Vec<String> = (first..SEGMENTS as usize)
        .map(|event| event.to_string())
        .collect();
    assert_eq!(found, expected, "{when}");
    for (read, cursor) in cursors.iter().enumerate() {
        match store.scan(&copy.job, &ScanOptions::after(cursor.clone()), NEVER) {
            Ok(_) => {
                assert!(
                    read >= first,
                    "{when}: no gap behind {read}, and {first} is the first one"
                );
                let (rest, _) = copy.after(&store, Some(cursor.clone()));
                assert_eq!(payloads(&rest), expected[read - first..], "{when}: behind {read}");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::CursorGap);
                // Behind the last event that the copy lacks, the cursor may be a gap: it is one in the source.
                assert!(
                    read <= first && read < REMOVED as usize,
                    "{when}: a gap behind {read}, and {first} is the first one"
                );
            }
        }
    }
    copy
}

/// Runs `act` at the call with this number.
fn once(
    step: u64,
    act: impl Fn() + Send + Sync + 'static,
) -> (impl Fn(&str, &Path) + Send + Sync, Arc<AtomicU64>) {
    let left = Arc::new(AtomicU64::new(step + 1));
    let counted = Arc::clone(&left);
    let hook = move |_: &str, _: &Path| {
        let before = counted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if before == Ok(1) {
            act();
        }
    };
    (hook, left)
}

#[test]
fn a_backup_beside_a_removal_has_a_log_without_a_hole_and_a_mark_of_what_it_lacks() {
    for one in [false, true] {
        let mut firsts = std::collections::BTreeSet::new();
        for step in 0.. {
            let (place, cursors) = log();
            let job = one.then(|| place.job.clone());
            let (store, address) = (place.quick(place.options()), place.job.clone());
            let (hook, left) = once(step, move || {
                store.remove_before(&address, at(REMOVED), NEVER).unwrap();
            });
            let archive = archive(&place, job.as_ref(), hook);
            let copy = check(
                &archive,
                job.as_ref(),
                &cursors,
                &format!("removed at call {step}"),
            );
            assert_eq!(copy.findings("", false), [], "removed at call {step}");
            firsts.insert(segments(&copy).len());
            if left.load(Ordering::Relaxed) > 0 {
                break;
            }
        }
        assert_eq!(
            firsts.len() as i64,
            REMOVED + 1,
            "the removal came at each place of the copy: {firsts:?}"
        );
    }
}

#[test]
fn a_backup_beside_a_removal_that_dies_has_a_log_without_a_hole() {
    let mut calls = 0;
    for step in 0.. {
        // The calls that the removal makes before it dies: each number comes with some steps.
        calls = (calls + 7) % 64;
        let (place, cursors) = log();
        let (store, reel) = place.taped(place.options());
        let left_calls = AtomicU64::new(calls);
        reel.quick.store(true, Ordering::Relaxed);
        reel.on(move |_, _| {
            let left =
                left_calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            left.map(drop).map_err(|_| io::Error::other("dead"))
        });
        let address = place.job.clone();
        let (hook, left) = once(step, move || {
            let _ = store.remove_before(&address, at(REMOVED), NEVER);
        });
        let archive = archive(&place, None, hook);
        check(
            &archive,
            None,
            &cursors,
            &format!("removed at call {step}, died after {calls}"),
        );
        if left.load(Ordering::Relaxed) > 0 {
            break;
        }
    }
}

#[test]
fn a_backup_waits_for_the_end_of_a_removal_whose_mark_it_finds() {
    let (place, cursors) = log();
    let (store, reel) = place.taped(place.options());
    let (at_unlink, reached) = std::sync::mpsc::channel();
    let (go_on, continued) = std::sync::mpsc::channel::<()>();
    let (at_unlink, continued) = (
        parking_lot::Mutex::new(at_unlink),
        parking_lot::Mutex::new(continued),
    );
    reel.on(move |what, _| {
        if what == "unlink" {
            // Only the first one waits: then both of the other ends are gone.
            let _ = at_unlink.lock().send(());
            let _ = continued.lock().recv();
        }
        Ok(())
    });
    let address = place.job.clone();
    let removal = std::thread::spawn(move || store.remove_before(&address, at(REMOVED), NEVER).unwrap());
    reached.recv().unwrap();
    assert_eq!(
        (marks(&place).len(), segments(&place).len()),
        (1, SEGMENTS as usize)
    );
    drop(reached);
    let removal = parking_lot::Mutex::new(Some((removal, go_on)));
    // The backup looks whether the folder is locked once it has found the mark.
    let archive = archive(&place, None, move |what, path| {
        if what == "share"
            && path.ends_with("events/shop/j")
            && let Some((removal, go_on)) = removal.lock().take()
        {
            drop(go_on);
            removal.join().unwrap();
        }
    });
    let copy = check(&archive, None, &cursors, "removed meanwhile");
    assert_eq!(copy.findings("", false), []);
    assert_eq!(segments(&copy).len() as i64, SEGMENTS - REMOVED);
}

#[test]
fn the_next_removal_beside_a_backup_brings_nothing_back_that_a_killed_one_had_removed() {
    for step in 0.. {
        let (place, cursors) = log();
        let (dying, reel) = place.taped(place.options());
        reel.on(|what, _| match what {
            "unlink" => Err(io::Error::other("dead")),
            _ => Ok(()),
        });
        dying.remove_before(&place.job, at(8), NEVER).unwrap_err();
        drop(dying);
        let (store, address) = (place.quick(place.options()), place.job.clone());
        let (hook, left) = once(step, move || {
            store.remove_before(&address, at(REMOVED), NEVER).unwrap();
        });
        let archive = archive(&place, None, hook);
        let copy = check(&archive, None, &cursors, &format!("removed at call {step}"));
        let first: i64 = copy.payloads(&copy.store())[0].parse().unwrap();
        assert!(first >= 8, "{step}: {first}");
        if left.load(Ordering::Relaxed) > 0 {
            break;
        }
    }
}

#[test]
fn all_that_a_backup_had_listed_may_be_removed_before_it_is_copied() {
    let place = Place::new();
    sealed(&place, 0..4);
    let store = place.store();
    let cursors: Vec<Cursor> = (0..=4).map(|count| cursor(&place, &store, count)).collect();
    for step in 0.. {
        let place = Place::new();
        sealed(&place, 0..4);
        let (store, address) = (place.quick(place.options()), place.job.clone());
        let folder = place.log();
        let (hook, left) = once(step, move || {
            let newest = folder.join(name(4, 4));
            std::fs::write(&newest, super::support::line(super::support::id(4), "4")).unwrap();
            set_mode(&newest, 0o400);
            store.remove_before(&address, at(4), NEVER).unwrap();
        });
        let archive = archive(&place, None, hook);
        let copy = restored(&archive, None);
        let (store, found) = (copy.store(), copy.payloads(&copy.store()));
        let first: usize = found[0].parse().unwrap();
        assert!(
            found.len() == 5 - first || found.len() == 4 - first,
            "{step}: {found:?}"
        );
        assert_eq!(copy.findings("", false), [], "{step}");
        for (read, cursor) in cursors.iter().enumerate() {
            let scan = store.scan(&copy.job, &ScanOptions::after(cursor.clone()), NEVER);
            match scan {
                Ok(_) => assert!(read >= first, "{step}: behind {read} of {found:?}"),
                Err(_) => assert!(read < 4, "{step}: behind {read} of {found:?}"),
            }
        }
        if left.load(Ordering::Relaxed) > 0 {
            break;
        }
    }
}

#[test]
fn the_mark_in_an_archive_names_a_segment_that_a_restore_brings_back() {
    let place = Place::new();
    sealed(&place, 0..2);
    // Its writer died before the first event.
    place.plant(&name(2, 2), "");
    sealed(&place, 3..5);
    let store = place.store();
    let cursors: Vec<Cursor> = (0..=4).map(|count| cursor(&place, &store, count)).collect();
    assert_eq!(
        store.remove_before(&place.job, at(100), NEVER).unwrap().segments,
        2
    );
    let archive = archive(&place, None, |_, _| {});
    let copy = restored(&archive, None);
    assert_eq!(copy.findings("", false), []);
    let store = copy.store();
    for (read, cursor) in cursors.iter().enumerate() {
        let scan = store.scan(&copy.job, &ScanOptions::after(cursor.clone()), NEVER);
        assert_eq!(scan.is_ok(), read >= 2, "behind {read}");
    }
}

#[test]
fn a_backup_beside_a_removal_of_old_checkpoints_has_the_newest_one() {
    for one in [false, true] {
        for step in 0.. {
            let place = Place::new();
            let job = place.job.clone();
            let documents = Arc::new(FileBackend::open(place.options()).unwrap());
            let add = |documents: &FileBackend, body: &[u8]| {
                let body = Body::parse(body).unwrap();
                let options = PutOptions::default();
                documents
                    .add(&place.job, Phase::Map, body, &options, NEVER)
                    .unwrap()
            };
            let first = add(&documents, br#"{"n":1}"#);
            let (other, address) = (Arc::clone(&documents), job.clone());
            // Another process saves a checkpoint, and keeps no other one.
            let (hook, left) = once(step, move || {
                let body = Body::parse(br#"{"n":2}"#).unwrap();
                let options = PutOptions::default();
                other.add(&address, Phase::Map, body, &options, NEVER).unwrap();
                let kept = Durability::Strict;
                let deleted = other.delete(&first.document, Expected::Any, kept, None, NEVER);
                assert!(deleted.unwrap());
            });
            let only = one.then_some(&job);
            let copy = restored(&archive(&place, only, hook), only);
            let newest = FileBackend::open(copy.options())
                .unwrap()
                .newest(&job, Phase::Map, None, NEVER);
            assert!(newest.unwrap().is_some(), "one job: {one}, at call {step}");
            if left.load(Ordering::Relaxed) > 0 {
                break;
            }
        }
    }
}
