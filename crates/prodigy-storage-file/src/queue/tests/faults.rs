use std::sync::atomic::Ordering;
use std::time::Duration;

use prodigy_storage_backend::{Deadline, Durability, ErrorKind, Select};

use super::support::{Faulty, NEVER, Place, id, item};

#[test]
fn a_full_disk_leaves_the_queue_as_it_was_and_the_handle_goes_on() {
    let place = Place::new();
    let (store, faults) = Faulty::store(&place);
    place.put(&store, &["a"]).unwrap();
    let before = place.bytes();
    for room in [1, 2, 3, 4, 40, 300] {
        faults.room.store(room, Ordering::Relaxed);
        let error = place.put(&store, &["b", "c"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DiskFull, "{error}");
        assert_eq!(place.bytes(), before);
        // Rewrites, too.
        faults.room.store(room, Ordering::Relaxed);
        let error = store
            .queue_take(&place.job, &Select::all(), 1, Duration::from_secs(1), NEVER)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DiskFull, "{error}");
        assert_eq!(place.bytes(), before);
    }
    faults.room.store(0, Ordering::Relaxed);
    place.put(&store, &["b", "c"]).unwrap();
    assert_eq!(place.array().len(), 3);
    let names: Vec<_> = std::fs::read_dir(place.path().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "no temporary file is left: {names:?}");
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
    assert!(faults.work()[0] > 100, "it was read afresh");
    // The same push again is merged: it was stored after all.
    assert_eq!(place.put(&store, &["b"]).unwrap().merged, 1);
    assert_eq!(place.ids(&store), ["a", "b", "c"]);
}

#[test]
fn a_rewrite_that_can_t_be_synced_changes_nothing() {
    let place = Place::new();
    let (store, faults) = Faulty::store(&place);
    place.put(&store, &["a"]).unwrap();
    let before = place.bytes();
    faults.syncs.store(1, Ordering::Relaxed);
    store
        .queue_take(&place.job, &Select::all(), 1, Duration::from_secs(1), NEVER)
        .unwrap_err();
    assert_eq!(place.bytes(), before);
    assert_eq!(
        store
            .queue_take(&place.job, &Select::all(), 1, Duration::from_secs(1), NEVER)
            .unwrap()
            .len(),
        1
    );
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
            Deadline::after(Duration::ZERO),
        )
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockUnavailable);
    // Readers do not mind.
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
        let taken = store.queue_take(&place.job, &Select::all(), 1, Duration::ZERO, NEVER);
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
