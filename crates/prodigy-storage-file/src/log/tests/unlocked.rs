//! Tests of writers without file locks, and of the segments that such writers of earlier versions marked by their mode.

use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::support::{NEVER, Place, id, line, mode, name, payloads, set_mode};

#[test]
fn a_segment_that_an_earlier_version_marked_is_read_and_never_gone_on_in() {
    for locks in [true, false] {
        let place = Place::new();
        let marked = place.plant(&name(0, 0), line(id(0), "a"));
        set_mode(&marked, 0o700);
        let before = std::fs::read(&marked).unwrap();
        let store = place.with(place.options().file_locks(locks).compression(true));
        place.append(&store, &["b"]).unwrap();
        place.seal(&store);
        store.flush(NEVER).unwrap();
        assert_eq!(std::fs::read(&marked).unwrap(), before);
        assert_eq!(mode(&marked), 0o700);
        assert_eq!(payloads(&place.items(&store)), ["a", "b"]);
    }
}

#[test]
fn without_file_locks_a_writer_mends_adopts_seals_and_compresses_as_with_them() {
    let place = Place::new();
    let mut torn = line(id(0), "a");
    torn.extend_from_slice(b"{\"id\":\"");
    let path = place.plant(&name(0, 0), &torn);
    place.plant(".tmp-left", b"x");
    let options = place.options().file_locks(false).compression(true);
    let store = place.with(options.max_file_size(200));
    place.append(&store, &["b"]).unwrap();
    assert_eq!(
        place.files(),
        [name(0, 0)],
        "adopted, and what a dead writer left is swept"
    );
    assert!(std::fs::read(&path).unwrap().starts_with(&line(id(0), "a")));
    for payload in ["c", "d", "e"] {
        place.append(&store, &[payload]).unwrap();
    }
    place.seal(&store);
    store.flush(NEVER).unwrap();
    let files = place.files();
    assert!(
        files.len() >= 2 && files.iter().all(|file| file.ends_with(".zst")),
        "{files:?}"
    );
    assert_eq!(payloads(&place.items(&store)), ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_file_system_without_locks_is_written_to_by_a_process_that_promised_to_be_alone() {
    for locks in [true, false] {
        let place = Place::new();
        place.plant(&name(0, 0), line(id(0), "a"));
        let (store, reel) = place.taped(place.options().file_locks(locks).max_file_size(200));
        reel.on(|call, _| match call {
            "lock" => Err(io::ErrorKind::Unsupported.into()),
            _ => Ok(()),
        });
        let written = place
            .append(&store, &["b"])
            .and_then(|_| place.append(&store, &["c"]));
        assert_eq!(written.is_ok(), !locks, "{written:?}");
        assert_eq!(
            store
                .survey(&place.job, NEVER)
                .is_ok_and(|log| log.writer.is_some()),
            !locks
        );
        reel.off();
        let stored: &[&str] = if locks { &["a"] } else { &["a", "b", "c"] };
        assert_eq!(payloads(&place.items(&store)), stored);
    }
}

#[test]
fn a_root_that_was_closed_can_be_opened_again_while_the_process_starts_others() {
    let place = Place::new();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    Command::new("true").status().unwrap();
                }
            });
        }
        let failed = (0..200).find_map(|_| {
            let store = place.with(place.options().file_locks(false));
            place.append(&store, &["a"]).err()
        });
        is_over.store(true, Ordering::Relaxed);
        assert!(failed.is_none(), "{failed:?}");
    });
}
