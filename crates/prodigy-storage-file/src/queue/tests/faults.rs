use std::sync::atomic::Ordering;
use std::time::Duration;

use prodigy_storage_backend::{Deadline, Durability, ErrorKind, Select};

use super::super::record::Verb;
use super::super::standing::Standing;
use super::super::turn::Turn;
use super::support::{Faulty, NEVER, Place, id, item};

#[test]
fn a_full_disk_leaves_the_queue_as_it_was_and_the_handle_goes_on() {
    let place = Place::new();
    let (store, faults) = Faulty::store(&place);
    place.put(&store, &["a"]).unwrap();
    let before = place.bytes();
    let take = |limit| {
        store.queue_take(
            &place.job,
            &Select::eligible(),
            limit,
            Duration::from_secs(1),
            None,
            NEVER,
        )
    };
    for is_begun in [false, true] {
        let journal = place.journal();
        for room in [1, 2, 3, 4, 40, 200] {
            faults.room.store(room, Ordering::Relaxed);
            let error = place.put(&store, &["b", "c"]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DiskFull, "{error}");
            assert_eq!(place.bytes(), before);
            // A take, which appends records to the journal, fails as well.
            faults.room.store(room, Ordering::Relaxed);
            let error = take(1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DiskFull, "{error}");
            assert_eq!(
                (place.bytes(), place.journal()),
                (before.clone(), journal.clone())
            );
        }
        faults.room.store(0, Ordering::Relaxed);
        if !is_begun {
            let token = take(1).unwrap()[0].lease.clone().unwrap().token;
            place.nack(&store, &[token]).unwrap();
        }
    }
    faults.room.store(0, Ordering::Relaxed);
    place.put(&store, &["b", "c"]).unwrap();
    assert_eq!(place.array().len(), 3);
    let names: Vec<_> = std::fs::read_dir(place.path().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 3, "no temporary file is left: {names:?}");
}

#[test]
fn a_failed_sync_is_an_unknown_outcome_and_the_next_call_opens_afresh() {
    let place = Place::new();
    let (store, faults) = Faulty::store(&place);
    place.put(&store, &["a"]).unwrap();
    faults.syncs.store(1, Ordering::Relaxed);
    let error = place.put(&store, &["b"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert!(error.to_string().contains("the sync failed"), "{error}");
    faults.work();
    assert_eq!(place.put(&store, &["c"]).unwrap().added, 1);
    assert!(faults.work()[0] > 100, "the queue was read again");
    // The bytes that were read may not be on the disk, and another sync would not report that. So the queue is
    // rewritten.
    let rewrites = &store.root.counters.queue_rewrites;
    assert_eq!(rewrites.load(Ordering::Relaxed), 1, "the queue was written again");
    // The first push was stored in spite of its error, so the repeated push is merged into it.
    assert_eq!(place.put(&store, &["b"]).unwrap().merged, 1);
    assert_eq!(place.ids(&store), ["a", "b", "c"]);
    assert_eq!(rewrites.load(Ordering::Relaxed), 1, "once");
}

#[test]
fn a_file_whose_sync_failed_is_not_synced_again() {
    let place = Place::new();
    let (store, faults) = Faulty::store(&place);
    place.put(&store, &["a"]).unwrap();
    let turn = || Turn::begin(&store, "test", &place.job, "a test", NEVER).unwrap();
    let mut one = turn();
    let number = one.next().unwrap();
    one.change(0, number, Verb::Remove, &Standing::default(), None);
    one.commit(Durability::Relaxed).unwrap();
    let open = one.files.journal.as_ref().unwrap().open.clone();
    open.syncer.changed(0);
    drop(one);
    faults.syncs.store(1, Ordering::Relaxed);
    open.syncer.sync(&store.root).unwrap_err();
    faults.work();
    open.syncer.sync(&store.root).unwrap_err();
    assert_eq!(
        faults.work()[3],
        0,
        "a second sync would succeed without storing the lost bytes"
    );
}

#[test]
fn a_full_disk_stops_no_settlement_that_has_room_for_its_record() {
    let place = Place::new();
    let (store, faults) = Faulty::store(&place);
    let names: Vec<String> = (0..600).map(|n| format!("n{n:03}")).collect();
    place
        .put(&store, &names.iter().map(String::as_str).collect::<Vec<_>>())
        .unwrap();
    let taken = store
        .queue_take(
            &place.job,
            &Select::eligible(),
            500,
            Duration::from_secs(60),
            None,
            NEVER,
        )
        .unwrap();
    let tokens: Vec<_> = taken
        .into_iter()
        .map(|entry| entry.lease.unwrap().token)
        .collect();
    let array = place.bytes();
    // After some of these settlements a compaction is due, but there is no space for it on the disk.
    for (done, some) in tokens.chunks(50).enumerate() {
        faults.room.store(8_000, Ordering::Relaxed);
        assert_eq!(place.ack(&store, some).unwrap().settled.len(), some.len());
        assert_eq!(place.ids(&place.store()).len(), 600 - 50 * (done + 1));
    }
    assert_eq!(place.bytes(), array);
    faults.room.store(0, Ordering::Relaxed);
    place.compact(&store);
    assert_eq!(place.array().len(), 100);
}

#[test]
fn a_failed_sync_of_a_record_is_an_unknown_outcome_and_the_next_call_opens_afresh() {
    let place = Place::new();
    let (store, faults) = Faulty::store(&place);
    place.put(&store, &["a", "b"]).unwrap();
    let take = || {
        store.queue_take(
            &place.job,
            &Select::eligible(),
            1,
            Duration::from_secs(60),
            None,
            NEVER,
        )
    };
    let token = take().unwrap()[0].lease.clone().unwrap().token;
    faults.syncs.store(1, Ordering::Relaxed);
    let error = place.ack(&store, std::slice::from_ref(&token)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    faults.work();
    // The removal was stored in spite of its error.
    assert_eq!(place.ack(&store, &[token]).unwrap().unknown.len(), 1);
    let [read, _, _, syncs] = faults.work();
    assert!(read > 300, "the queue was read again");
    assert!(syncs > 0, "the found change is synced before it is reported");
    assert_eq!(place.ids(&store), ["b"]);
}

#[test]
fn a_compaction_that_can_t_be_synced_changes_nothing() {
    let place = Place::new();
    let (store, faults) = Faulty::store(&place);
    place.put(&store, &["a", "b"]).unwrap();
    place.remove(&store, &[id("a")]).unwrap();
    let before = [place.bytes(), place.journal()];
    faults.syncs.store(1, Ordering::Relaxed);
    store.queue_compact(&place.job, NEVER).unwrap_err();
    assert_eq!([place.bytes(), place.journal()], before);
    let report = place.compact(&store);
    assert!(report.after < report.before);
    assert_eq!(place.array().len(), 1);
}

#[test]
fn a_held_lock_is_waited_for_until_the_deadline() {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["a"]).unwrap();
    let other = place.store();
    let lock = std::path::Path::new("dlq/shop/j/items.lock");
    let held = crate::root::LockedFile::take(&other.root, lock, "test", "a test", NEVER).unwrap();
    let error = store
        .queue_put(
            &place.job,
            &[item("b")],
            Durability::Strict,
            None,
            Deadline::after(Duration::ZERO),
        )
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockUnavailable);
    // Readers need no lock, so they do not wait.
    assert_eq!(place.ids(&store), ["a"]);
    drop(held);
    place.put(&store, &["b"]).unwrap();
}

#[test]
fn only_regular_files_are_written_to() {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["a"]).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target");
    std::fs::rename(place.path(), &target).unwrap();
    let bytes = std::fs::read(&target).unwrap();
    std::os::unix::fs::symlink(&target, place.path()).unwrap();
    for store in [&store, &place.store()] {
        assert_eq!(place.put(store, &["b"]).unwrap_err().kind(), ErrorKind::Refused);
        let taken = store.queue_take(&place.job, &Select::eligible(), 1, Duration::ZERO, None, NEVER);
        assert_eq!(taken.unwrap_err().kind(), ErrorKind::Refused);
        assert_eq!(
            store.queue_get(&place.job, &id("a"), NEVER).unwrap_err().kind(),
            ErrorKind::Refused
        );
    }
    assert_eq!(std::fs::read(&target).unwrap(), bytes);
    std::fs::remove_file(place.path()).unwrap();
    std::fs::create_dir(place.path()).unwrap();
    place.put(&store, &["b"]).unwrap_err();
    assert!(place.path().is_dir());
}
