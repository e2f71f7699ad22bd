//! Tests of writes and syncs that fail.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prodigy_storage_backend::{AppendOptions, Batch, Durability, ErrorKind, Result, ScanOptions};

use super::support::{NEVER, Place, batch, damage, drain, id, ids, line, mode, name, payloads};
use super::tape::Reel;
use crate::fs::OpenMode;
use crate::log::Logs;
use crate::log::active::SegmentFile;

fn strict(place: &Place, store: &Arc<Logs>, batch: &mut Batch) -> Result<()> {
    let options = AppendOptions::new(Durability::Strict);
    store.append(&place.job, batch, &options, NEVER).map(drop)
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "jsonl")
}

/// Makes the next `times` system calls of this kind on segments fail.
fn fail(reel: &Reel, kind: &'static str, times: u64) {
    let left = AtomicU64::new(times);
    reel.on(move |what, path| {
        let fails = what == kind
            && is_segment(path)
            && left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok();
        if fails {
            Err(std::io::Error::from_raw_os_error(5))
        } else {
            Ok(())
        }
    });
}

#[test]
fn after_a_failed_sync_the_outcome_is_unknown_and_a_retry_stores_once_elsewhere() {
    let place = Place::new();
    let (store, reel) = place.taped(place.options());
    place.append(&store, &["before"]).unwrap();
    let suspect = place.only();
    fail(&reel, "sync", 1);
    let mut lost = batch(&["a", "b"]);
    let error = strict(&place, &store, &mut lost).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert!(error.is_transient() && error.ids() == lost.ids() && lost.ids().len() == 2);
    assert_eq!(mode(&suspect), 0o400, "no one goes on in it");
    let before = std::fs::read(&suspect).unwrap();
    reel.take();
    strict(&place, &store, &mut lost).unwrap();
    assert_eq!(std::fs::read(&suspect).unwrap(), before);
    assert_eq!(place.files().len(), 2);
    let other = place
        .files()
        .into_iter()
        .map(|file| place.log().join(file))
        .find(|file| *file != suspect)
        .unwrap();
    let stored = std::fs::read_to_string(other).unwrap();
    assert_eq!(
        stored.lines().count(),
        2,
        "what is read from the suspect segment is not taken as stored: {stored}"
    );
    assert_eq!(place.payloads(&store), ["before", "a", "b"], "each is read once");
    // In a third append of the batch, the event is a duplicate.
    strict(&place, &store, &mut lost).unwrap();
    assert_eq!(place.items(&store).len(), 3);
}

#[test]
fn a_follower_sees_an_event_once_that_was_stored_again_after_a_failed_sync() {
    let place = Place::new();
    let (store, reel) = place.taped(place.options());
    let reader = place.store();
    place.append(&store, &["before"]).unwrap();
    fail(&reel, "sync", 1);
    let mut lost = batch(&["a", "b"]);
    strict(&place, &store, &mut lost).unwrap_err();
    let (items, end) = place.after(&reader, None);
    assert_eq!(payloads(&items), ["before", "a", "b"]);
    strict(&place, &store, &mut lost).unwrap();
    place.append(&store, &["c"]).unwrap();
    assert_eq!(payloads(&place.after(&reader, Some(end)).0), ["c"]);
}

#[test]
fn a_failed_sync_is_told_to_each_thread_it_was_for() {
    let place = Place::new();
    let (store, reel) = place.taped(place.options());
    place.append(&store, &["before"]).unwrap();
    let broken = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&broken);
    reel.on(move |what, path| {
        if what == "sync" && is_segment(path) && state.load(Ordering::Relaxed) {
            std::thread::sleep(std::time::Duration::from_millis(2));
            return Err(std::io::Error::from_raw_os_error(5));
        }
        Ok(())
    });
    let unknown: Vec<Batch> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|n| {
                let (place, store) = (&place, &store);
                scope.spawn(move || {
                    let mut batch = batch(&[&format!("{n}")]);
                    let error = strict(place, store, &mut batch).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
                    batch
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    broken.store(false, Ordering::Relaxed);
    for mut batch in unknown {
        strict(&place, &store, &mut batch).unwrap();
    }
    let mut read = place.payloads(&store);
    read.sort();
    assert_eq!(read, ["0", "1", "2", "3", "4", "5", "before"]);
}

#[test]
fn a_file_whose_sync_failed_once_is_never_synced_again() {
    let place = Place::new();
    let path = place.plant(&name(0, 0), line(id(0), "a"));
    let (store, reel) = place.taped(place.options());
    let path = path.strip_prefix(place.root()).unwrap();
    let file = SegmentFile::new(store.root.fs.open(path, OpenMode::Write).unwrap());
    fail(&reel, "sync", 1);
    assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(5));
    // On a file whose sync has failed, a second sync would succeed, because the system has forgotten the failed write.
    // So it is refused.
    reel.take();
    assert!(file.sync().is_err());
    assert_eq!(reel.take(), Vec::<String>::new());
    assert!(file.is_dirty());
}

#[test]
fn a_duplicate_is_acknowledged_whatever_became_of_another_batch() {
    let place = Place::new();
    let (store, reel) = place.taped(place.options());
    let mut stored = batch(&["stored"]);
    strict(&place, &store, &mut stored).unwrap();
    place.seal(&store);
    fail(&reel, "sync", 1);
    strict(&place, &store, &mut batch(&["lost"])).unwrap_err();
    let options = AppendOptions::default();
    let again = store.append(&place.job, &mut stored, &options, NEVER).unwrap();
    assert_eq!((again.stored, again.duplicates), (0, 1));
}

#[test]
fn a_duplicate_that_was_not_synced_yet_is_synced_before_it_is_acknowledged() {
    let place = Place::new();
    let (store, reel) = place.taped(place.options());
    place.append(&store, &["first"]).unwrap();
    let mut relaxed = batch(&["a"]);
    let options = AppendOptions::new(Durability::Relaxed);
    store.append(&place.job, &mut relaxed, &options, NEVER).unwrap();
    reel.take();
    strict(&place, &store, &mut relaxed).unwrap();
    let calls = reel.take();
    assert!(
        calls.iter().any(|call| call.starts_with("sync events")),
        "{calls:?}"
    );
    // Another process finds the event as a duplicate, and syncs it before it acknowledges it.
    let (other, tape) = place.taped(place.options());
    strict(&place, &other, &mut relaxed).unwrap();
    let calls = tape.take();
    assert!(
        calls.iter().any(|call| call.starts_with("sync events")),
        "{calls:?}"
    );
    assert!(calls.contains(&"sync-dir events/shop/j".to_owned()), "{calls:?}");
    // If that sync fails, the other process acknowledges nothing.
    let mut again = batch(&["b"]);
    store.append(&place.job, &mut again, &options, NEVER).unwrap();
    fail(&reel, "sync", 1);
    let error = strict(&place, &store, &mut again).unwrap_err();
    assert_eq!(
        (error.kind(), error.ids()),
        (ErrorKind::OutcomeUnknown, again.ids())
    );
    strict(&place, &store, &mut again).unwrap();
    assert_eq!(place.payloads(&store), ["first", "a", "b"]);
}

#[test]
fn a_seal_that_fails_is_told_to_those_whose_events_it_would_have_synced() {
    let place = Place::new();
    let (store, reel) = place.taped(place.options().max_file_size(1));
    place.append(&store, &["a"]).unwrap();
    fail(&reel, "sync", 1);
    let mut lost = batch(&["b"]);
    let error = strict(&place, &store, &mut lost).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    strict(&place, &store, &mut lost).unwrap();
    assert_eq!(place.payloads(&store), ["a", "b"]);
}

#[test]
fn one_segment_that_can_not_be_sealed_keeps_no_other_from_it() {
    let place = Place::new();
    let (store, reel) = place.taped(place.options());
    place.give(&store, &[(id(50), "main")]).unwrap();
    place.give(&store, &[(id(10), "late")]).unwrap();
    assert_eq!(place.files().len(), 2);
    place.relaxed(&store, &["not synced yet"]).unwrap();
    fail(&reel, "mode", 1);
    store.seal(&place.job, NEVER).unwrap_err();
    for file in place.files() {
        assert_eq!(mode(&place.log().join(&file)), 0o400, "{file}");
    }
    assert_eq!(place.items(&store).len(), 3);
}

#[test]
fn a_full_disk_takes_nothing_back_that_a_reader_was_given_and_the_same_handle_goes_on() {
    let events = ["does not", "fit on the disk"];
    let (mut refused, mut unclear, mut acknowledged, mut cuts) = (0, 0, 0, 0);
    for room in 1.. {
        let place = Place::new();
        let (store, reel) = place.taped(place.options());
        reel.quick.store(true, Ordering::Relaxed);
        place.append(&store, &["a"]).unwrap();
        let path = place.only();
        let reader = place.store();
        // A follower reads just before the writer cuts off the torn record.
        let (seen, follower, root) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::clone(&reader),
            place.job.clone(),
        );
        let sees = Arc::clone(&seen);
        reel.on(move |what, path| {
            if what == "cut" && is_segment(path) {
                let mut scan = follower.scan(&root, &ScanOptions::all(), NEVER).unwrap();
                *sees.lock() = ids(&drain(&mut *scan));
            }
            Ok(())
        });
        reel.room.store(room, Ordering::Relaxed);
        let mut lost = batch(&events);
        let outcome = strict(&place, &store, &mut lost);
        let (stood, _) = place.after(&reader, None);
        let stored = ids(&stood).len() - 1;
        match &outcome {
            Ok(()) => assert_eq!(stored, 2, "room {room}"),
            Err(error) if stored == 0 => {
                assert_eq!(error.kind(), ErrorKind::DiskFull, "{error}");
                assert!(lost.ids().is_empty(), "it gets new ids the next time");
                refused += 1;
            }
            Err(error) => {
                assert_eq!((error.kind(), stored), (ErrorKind::OutcomeUnknown, 1), "{error}");
                assert!(
                    error.to_string().contains("1 of 2 events were written"),
                    "{error}"
                );
                assert!(format!("{error:#}").contains("disk space full"), "{error:#}");
                assert_eq!((error.ids(), lost.ids().len()), (lost.ids(), 2));
                unclear += 1;
            }
        }
        for id in seen.lock().iter() {
            assert!(
                ids(&stood).contains(id),
                "room {room}: {id} was visible and is gone"
            );
        }
        // The cut is durable: after a power loss, the torn record does not reappear under later records.
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(
            bytes.trim_ascii_end().last(),
            Some(&b'}'),
            "room {room}: a torn record is left"
        );
        let calls = reel.take();
        if let Some(cut) = calls.iter().rposition(|call| call.starts_with("cut ")) {
            let rest = &calls[cut..];
            assert!(rest.iter().any(|call| call.starts_with("sync ")), "{calls:?}");
            cuts += 1;
        }
        reel.room.store(0, Ordering::Relaxed);
        reel.off();
        if outcome.is_err() {
            strict(&place, &store, &mut lost).unwrap();
        }
        place.append(&store, &["b"]).unwrap();
        assert_eq!(
            place.payloads(&store),
            ["a", events[0], events[1], "b"],
            "room {room}: each event is stored once"
        );
        assert_eq!(place.files().len(), 1, "room {room}");
        // The batch is complete even if its last line end is missing. The next append succeeds as well.
        if outcome.is_ok() {
            acknowledged += 1;
            if acknowledged == 2 {
                break;
            }
        }
    }
    assert!(
        refused > 100 && unclear > 100 && cuts > 200,
        "{refused} {unclear} {cuts}"
    );
}

#[test]
fn short_writes_are_gone_on_with() {
    let place = Place::new();
    let (store, reel) = place.taped(place.options());
    reel.most.store(7, Ordering::Relaxed);
    place.append(&store, &["a", "b"]).unwrap();
    assert_eq!(place.items(&store).len(), 2);
    assert!(
        reel.take()
            .iter()
            .filter(|call| call.starts_with("write events"))
            .count()
            > 20
    );
}

#[test]
fn what_can_not_be_taken_back_is_of_unknown_outcome_with_its_ids() {
    let place = Place::new();
    let (store, reel) = place.taped(place.options());
    place.append(&store, &["a"]).unwrap();
    reel.room.store(180, Ordering::Relaxed);
    fail(&reel, "cut", 1);
    let mut lost = batch(&["whole", "half"]);
    let error = strict(&place, &store, &mut lost).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(error.ids().len(), 2);
    assert_eq!(error.ids(), lost.ids());
    reel.room.store(0, Ordering::Relaxed);
    strict(&place, &store, &mut lost).unwrap();
    let items = place.items(&store);
    assert_eq!(payloads(&items), ["a", "whole", "half"]);
    assert_eq!(ids(&items)[1..], *lost.ids());
}

#[test]
fn half_a_record_that_can_not_be_taken_back_is_a_tail_and_no_damage() {
    let place = Place::new();
    let (store, reel) = place.taped(place.options());
    place.append(&store, &["a"]).unwrap();
    let torn = place.only();
    reel.room.store(180, Ordering::Relaxed);
    fail(&reel, "cut", 1);
    let mut lost = batch(&["whole", "half"]);
    strict(&place, &store, &mut lost).unwrap_err();
    reel.room.store(0, Ordering::Relaxed);
    assert!(!std::fs::read(&torn).unwrap().ends_with(b"\n"));
    assert_eq!(mode(&torn), 0o600, "the next writer may mend it");
    // The store continues in another segment. It reports no damage, since the torn bytes were never acknowledged.
    place.append(&store, &["b"]).unwrap();
    assert_eq!(place.files().len(), 2);
    assert_eq!(damage(&place.items(&store)), []);
    drop(store);
    let next = place.store();
    place.append(&next, &["c"]).unwrap();
    assert_eq!(damage(&place.items(&next)), []);
}

#[test]
fn a_batch_of_given_ids_that_is_stored_in_part_is_of_unknown_outcome() {
    let place = Place::new();
    let (store, reel) = place.taped(place.options());
    place.give(&store, &[(id(50), "main")]).unwrap();
    let main = place.only();
    place.give(&store, &[(id(10), "late")]).unwrap();
    // The first of two events goes to the segment for late ids, the second to the main segment, whose write fails.
    reel.on(move |what, path| {
        if what == "write" && main.ends_with(path) {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        Ok(())
    });
    let events = [(id(20), "b"), (id(60), "c")];
    let error = place.give(&store, &events).unwrap_err();
    assert_eq!((error.kind(), error.ids().len()), (ErrorKind::OutcomeUnknown, 2));
    reel.off();
    let again = place.give(&store, &events).unwrap();
    assert_eq!((again.stored, again.duplicates), (1, 1));
    assert_eq!(place.payloads(&store), ["late", "b", "main", "c"]);
}

#[test]
fn a_read_only_handle_and_an_absent_root_are_left_as_they_are() {
    let place = Place::new();
    let (store, reel) = place.taped(place.options().read_only(true));
    let (items, cursor) = place.after(&store, None);
    assert_eq!(items, []);
    assert_eq!(place.after(&store, Some(cursor)).0, []);
    store.log_summary(&place.job, NEVER).unwrap();
    assert!(!place.root().exists());
    // A handle that may write still changes nothing while it only reads: torn tails, temporary files and partly
    // compressed segments stay.
    let mut torn = super::support::line(id(0), "a");
    torn.extend_from_slice(b"{\"id\":\"");
    place.plant(&super::support::name(0, 0), &torn);
    place.plant(".tmp-left", b"x");
    place.plant(&(super::support::name(0, 0) + ".zst"), b"x");
    let (writer, wrote) = place.taped(place.options().compression(true));
    for store in [&store, &writer] {
        let (items, cursor) = place.after(store, None);
        assert_eq!(payloads(&items), ["a"]);
        assert_eq!(place.after(store, Some(cursor)).0, []);
        store.log_summary(&place.job, NEVER).unwrap();
    }
    let allowed = ["read ", "get ", "list ", "stat "];
    for call in reel.take().into_iter().chain(wrote.take()) {
        assert!(allowed.iter().any(|prefix| call.starts_with(prefix)), "{call}");
    }
    let error = place.append(&store, &["x"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
}

#[test]
fn first_appends_that_fail_one_after_the_other_look_like_no_emptied_segment() {
    let place = Place::new();
    let (store, reel) = place.taped(place.options());
    for _ in 0..2 {
        // A write that puts a part of the record into the file, and then none.
        for room in [21, 1] {
            reel.room.store(room, Ordering::Relaxed);
            place.append(&store, &["a"]).unwrap_err();
            let path = place.only();
            let found = std::fs::metadata(&path).unwrap();
            assert_eq!(
                (found.len(), found.modified().unwrap()),
                (0, found.created().unwrap())
            );
            assert_eq!(place.findings("events", false), []);
            // The next one comes a minute later.
            let later = found.created().unwrap() + Duration::from_secs(60);
            std::fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(later)
                .unwrap();
        }
    }
    reel.room.store(0, Ordering::Relaxed);
    place.append(&store, &["b"]).unwrap();
    assert_eq!(place.payloads(&place.store()), ["b"]);
    // A process cuts off the bytes that another one left, and its write fails as well.
    let place = Place::new();
    let path = place.plant(&name(0, 0), &line(id(0), "torn")[..20]);
    let (store, reel) = place.taped(place.options());
    reel.room.store(1, Ordering::Relaxed);
    place.append(&store, &["a"]).unwrap_err();
    let found = std::fs::metadata(&path).unwrap();
    assert_eq!(
        (found.len(), found.modified().unwrap()),
        (0, found.created().unwrap())
    );
}
