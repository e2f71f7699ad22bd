//! Tests of the names of segments: each name is used once, and they ascend, whatever the clocks of the processes show.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prodigy_storage_backend::{AppendOptions, Deadline, ErrorKind};
use prodigy_storage_layout::{SegmentForm, SegmentName, Timestamp, events_folder};

use super::super::archive;
use super::support::{Hand, NEVER, Place, at, batch, id, ids, line, name, payloads, set_mode};
use crate::fs::{FileSystem, RealFs};
use crate::log::Logs;
use crate::log::segment_ref::SegmentRef;

const HOUR: i64 = 3_600_000;

impl Place {
    /// Opens the store as another process, with a clock that is ahead by this number of milliseconds.
    fn process(&self, ahead: i64) -> (Arc<Logs>, Arc<Hand>) {
        let clock = Arc::new(Hand::at(ahead));
        let options = self.options().clock(clock.clone()).compression(true);
        (self.with(options), clock)
    }

    /// The creation times in the names of the segments, in order. A segment in compression has two forms, whose names
    /// must have the same time.
    fn made(&self) -> Vec<Timestamp> {
        let (store, folder) = (self.store(), events_folder(&self.job));
        let files = self.files();
        let names: BTreeSet<SegmentName> = files
            .iter()
            .filter_map(|file| SegmentName::parse(file))
            .map(|(name, _)| name)
            .collect();
        for name in &names {
            let same = archive::says_the_same(SegmentRef::new(&store.root, &folder, name), SegmentForm::Zstd);
            assert!(same.unwrap(), "{name} has two forms that differ");
        }
        let mut made: Vec<_> = names.iter().map(SegmentName::made).collect();
        made.sort();
        made
    }
}

#[test]
fn a_segment_never_gets_the_name_of_a_compressed_one() {
    let place = Place::new();
    // A process with a clock that is one hour ahead creates the log.
    let (early, _) = place.process(HOUR);
    place.append(&early, &["first"]).unwrap();
    place.seal(&early);
    early.flush(NEVER).unwrap();
    drop(early);
    let ((a, _), (b, _)) = (place.process(0), place.process(0));
    place.append(&b, &["b1"]).unwrap();
    place.append(&a, &["a1"]).unwrap();
    place.seal(&a);
    a.flush(NEVER).unwrap();
    drop(a);
    place.seal(&b);
    b.flush(NEVER).unwrap();
    place.append(&b, &["b2"]).unwrap();
    let made = place.made();
    assert!(made.is_sorted_by(|one, next| one < next), "{made:?}");
    // Two processes that start from the same newest id create ids in no particular order.
    let mut stored = place.payloads(&b);
    stored.sort();
    assert_eq!(stored, ["a1", "b1", "b2", "first"]);
}

#[test]
fn a_new_name_is_above_all_others_in_every_form() {
    for form in [SegmentForm::Plain, SegmentForm::Zstd, SegmentForm::Gzip] {
        let place = Place::new();
        // A segment with a name from a clock that is a year ahead. For the order of names, its creation time counts,
        // not its lower bound.
        let ahead = SegmentName::new(at(-5), at(365 * 24 * HOUR));
        let path = place.plant(&ahead.file_name(form), b"");
        set_mode(&path, 0o400);
        let store = place.store();
        place.append(&store, &["new"]).unwrap();
        let made = place.made();
        let [first, second] = made[..] else {
            panic!("{made:?}")
        };
        assert!(first == ahead.made() && second > first, "{form:?}: {made:?}");
        let above = second.as_nanos() - first.as_nanos();
        assert!(above < 10_000_000, "{form:?}: {above} ns above the newest one");
    }
}

#[test]
fn processes_whose_clocks_step_back_and_forth_lose_nothing_and_a_follower_gets_each_event_once() {
    let place = Place::new();
    let mut processes: Vec<_> = [0, -2_000, 1_500, HOUR]
        .into_iter()
        .map(|ahead| place.process(ahead))
        .collect();
    let follower = place.store();
    let (mut cursor, mut followed, mut written) = (None, Vec::new(), 0);
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..240 {
        let (index, step) = (random.usize(..processes.len()), random.i64(-2_000..2_500));
        let (store, clock) = &processes[index];
        clock.turn(step);
        place.append(store, &[&format!("{round}")]).unwrap();
        written += 1;
        if random.u8(..) < 60 {
            place.seal(store);
            store.flush(NEVER).unwrap();
        }
        if random.u8(..) < 25 {
            // The process ends, and another one starts with a different clock.
            processes[index] = place.process(random.i64(-5_000..5_000));
        }
        if random.u8(..) < 80 {
            let (items, end) = place.after(&follower, cursor);
            followed.extend(ids(&items));
            cursor = Some(end);
        }
        let made = place.made();
        assert!(
            made.is_sorted_by(|one, next| one < next),
            "round {round}: {made:?}"
        );
    }
    followed.extend(ids(&place.after(&follower, cursor).0));
    let mut stored = ids(&place.items(&follower));
    assert_eq!(stored.len(), written);
    assert!(stored.is_sorted_by(|one, next| one < next));
    followed.sort();
    stored.sort();
    assert_eq!(followed, stored, "each event once, none missed");
}

#[test]
fn nothing_is_synced_under_the_lock_on_the_folder_and_nobody_else_creates_meanwhile() {
    let place = Place::new();
    std::fs::create_dir_all(place.log()).unwrap();
    let (store, reel) = place.taped(place.options());
    let (root, looked) = (place.root(), Arc::new(AtomicBool::new(false)));
    let seen = Arc::clone(&looked);
    reel.on(move |what, path| {
        let folder = RealFs::new(&root).folder("events/shop/j".as_ref())?;
        let free = folder.try_lock()?;
        let is_segment = path.extension().is_some_and(|end| end == "jsonl");
        if what == "create" && is_segment {
            assert!(!free, "the name is created under the lock");
            seen.store(true, Ordering::Relaxed);
        }
        assert!(
            free || !what.starts_with("sync"),
            "{what} {path:?} under the lock"
        );
        Ok(())
    });
    place.append(&store, &["a"]).unwrap();
    reel.off();
    assert!(looked.load(Ordering::Relaxed));
    assert_eq!(place.files().len(), 1, "no lock file is left");
}

#[test]
fn waiting_for_the_lock_on_the_folder_ends_at_the_deadline_and_names_the_holder() {
    let place = Place::new();
    std::fs::create_dir_all(place.log()).unwrap();
    let holder = RealFs::new(place.root())
        .folder("events/shop/j".as_ref())
        .unwrap();
    assert!(holder.try_lock().unwrap());
    let store = place.store();
    let append = |deadline| {
        let (mut events, options) = (batch(&["a"]), AppendOptions::default());
        store.append(&place.job, &mut events, &options, deadline)
    };
    let error = append(Deadline::after(Duration::from_millis(20))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockUnavailable);
    let text = error.to_string();
    assert!(text.contains("events/shop/j"), "{text}");
    match holder.lock_holder() {
        Some(pid) => {
            assert_eq!(pid, std::process::id());
            assert!(text.contains(&format!("held by this process ({pid})")), "{text}");
        }
        None => assert!(text.contains("does not name"), "{text}"),
    }
    assert_eq!(place.files(), [] as [String; 0]);
    drop(holder);
    append(NEVER).unwrap();
    assert_eq!(place.payloads(&store), ["a"]);
}

#[test]
fn a_folder_that_is_replaced_while_a_writer_waits_is_locked_again() {
    let place = Place::new();
    std::fs::create_dir_all(place.log()).unwrap();
    let holder = RealFs::new(place.root())
        .folder("events/shop/j".as_ref())
        .unwrap();
    assert!(holder.try_lock().unwrap());
    let store = place.store();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| place.append(&store, &["a"]));
        std::fs::rename(place.log(), place.root().join("aside")).unwrap();
        drop(holder);
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(place.files().len(), 1, "in the folder that the path leads to");
    assert_eq!(std::fs::read_dir(place.root().join("aside")).unwrap().count(), 0);
}

#[test]
fn an_empty_segment_with_the_highest_name_is_adopted_and_others_but_the_first_go() {
    let place = Place::new();
    let first = place.plant(&name(1, 1), b"");
    let older = place.plant(&name(3, 3), b"");
    let path = place.plant(&name(5, 5), line(id(5), "a"));
    set_mode(&path, 0o400);
    let highest = place.plant(&name(7, 7), b"");
    let store = place.store();
    place.append(&store, &["b"]).unwrap();
    assert!(std::fs::metadata(highest).unwrap().len() > 0);
    // A second writer does not continue the older segment, because a cursor may already cover it.
    let other = place.store();
    place.append(&other, &["c"]).unwrap();
    assert!(!older.exists());
    assert!(first.exists(), "cursors know the log by its first segment");
    assert_eq!(payloads(&place.items(&store)), ["a", "b", "c"]);
}

#[test]
fn an_older_format_is_taken_over_before_anything_else_is_written() {
    let place = Place::new();
    place.append(&place.store(), &["old"]).unwrap();
    std::fs::write(place.root().join("format.json"), "{\"format\":1}").unwrap();
    let (store, reel) = place.taped(place.options());
    place.append(&store, &["new"]).unwrap();
    let calls = reel.take();
    let written: Vec<&String> = calls
        .iter()
        .filter(|call| {
            ["create ", "open ", "write ", "rename ", "mkdir "]
                .iter()
                .any(|what| call.starts_with(what))
        })
        .collect();
    // The temporary file of the new `format.json` and its rename come first, and only then the log.
    let taken_over = written
        .iter()
        .position(|call| call.ends_with("format.json"))
        .unwrap();
    let log = written.iter().position(|call| call.contains("events/")).unwrap();
    assert!(taken_over < log, "{calls:?}");
    assert!(
        written[..taken_over].iter().all(|call| call.contains(".tmp-")),
        "{calls:?}"
    );
    let format = std::fs::read_to_string(place.root().join("format.json")).unwrap();
    assert!(format.starts_with("{\"format\":2,"), "{format}");
}

/// Stops a process between creating and locking a segment, lets another process adopt the segment, and then runs
/// `let_go`.
fn a_segment_is_adopted_before_its_creator_locks_it(
    let_go: impl Fn(&Place, Arc<Logs>) + Send + Sync + 'static,
) {
    let place = Arc::new(Place::new());
    let (creator, reel) = place.taped(place.options());
    let (there, met) = (Arc::clone(&place), AtomicBool::new(false));
    reel.on(move |what, path| {
        let is_segment = path.extension().is_some_and(|end| end == "jsonl");
        if what == "lock" && is_segment && !met.swap(true, Ordering::SeqCst) {
            let other = there.with(there.options().compression(true));
            there.append(&other, &["b1", "b2"]).unwrap();
            let_go(&there, other);
        }
        Ok(())
    });
    // A relaxed append does not sync, so it does not notice that the name of the file is gone.
    place.relaxed(&creator, &["a"]).unwrap();
    reel.off();
    let mut read = place.payloads(&place.store());
    read.sort();
    assert_eq!(read, ["a", "b1", "b2"]);
}

#[test]
fn a_created_segment_that_another_writer_filled_meanwhile_is_not_overwritten() {
    a_segment_is_adopted_before_its_creator_locks_it(|_, other| drop(other));
}

#[test]
fn a_created_segment_that_was_compressed_meanwhile_is_not_written_to() {
    a_segment_is_adopted_before_its_creator_locks_it(|place, other| {
        place.seal(&other);
        other.flush(NEVER).unwrap();
    });
}
