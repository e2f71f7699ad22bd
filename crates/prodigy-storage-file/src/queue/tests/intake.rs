//! Tests that two threads read a long file with the same result as one thread.

use std::time::Duration;

use prodigy_storage_backend::{Durability, ItemState, LeaseToken, QueueItem, Select};
use prodigy_storage_layout::Entry;

use super::super::Queues;
use super::super::intake::{Half, noted, read_journal};
use super::super::journal::JournalScanner;
use super::super::turn::Turn;
use super::support::{NEVER, Place, id, item_of};
use crate::fs::{FsFile, OpenMode};

const MINUTE: Duration = Duration::from_secs(60);
const COUNT: usize = 3_000;

fn name(n: usize) -> String {
    format!("n{n:05}")
}

fn items(range: std::ops::Range<usize>) -> Vec<QueueItem> {
    let data = "x".repeat(3_000);
    let item = |n| item_of(&format!(r#"{{"item_id":"{}","item_data":"{data}"}}"#, name(n)));
    range.map(item).collect()
}

/// A queue whose two files are long. Some leases are stated in the array and some in the journal, and some items were
/// removed.
fn long() -> (Place, Vec<LeaseToken>) {
    let place = Place::new();
    let store = place.store();
    let put = |range| {
        let report = store.queue_put(&place.job, &items(range), Durability::Strict, None, NEVER);
        report.unwrap()
    };
    let take = |ids: Vec<usize>| -> Vec<LeaseToken> {
        let ids = ids.into_iter().map(|n| id(&name(n)));
        let taken = store.queue_take(&place.job, &Select::ids(ids), usize::MAX, MINUTE, None, NEVER);
        let token = |entry: prodigy_storage_backend::QueueEntry| entry.lease.unwrap().token;
        taken.unwrap().into_iter().map(token).collect()
    };
    put(0..COUNT);
    let early = take(vec![7, COUNT - 7]);
    place.compact(&store);
    // Each of these pushes is merged, so the journal contains the contents of all items again.
    assert_eq!(put(10..COUNT).merged, COUNT - 10);
    let gone = take(vec![11, COUNT - 11]);
    assert_eq!(place.ack(&store, &gone).unwrap().settled.len(), 2);
    let late = take(vec![3, COUNT - 3]);
    let lens = [place.bytes().len(), place.journal().len()];
    assert!(lens.iter().all(|len| *len > 8 << 20), "{lens:?}");
    (place, [early, late].concat())
}

fn leased(place: &Place, store: &Queues) -> Vec<String> {
    let entries = place.entries(store).into_iter();
    let leased = entries.filter(|entry| entry.state(&*place.clock) == ItemState::Leased);
    leased.map(|entry| entry.id.to_string()).collect()
}

#[test]
fn two_threads_read_long_files_into_the_index_that_one_would_make() {
    let (place, tokens) = long();
    let store = place.store();
    let held = leased(&place, &store);
    assert_eq!(held, [3, 7, COUNT - 7, COUNT - 3].map(name));
    let turn = Turn::begin(&store, "test", &place.job, "a test", NEVER).unwrap();
    let births: Vec<u64> = turn
        .files
        .index
        .living()
        .map(|at| turn.files.index.birth(at))
        .collect();
    assert_eq!(births.len(), COUNT - 2);
    assert!(births.is_sorted());
    let file = std::sync::Arc::clone(&turn.files.items.as_ref().unwrap().open.file);
    let from = Half::begin(&*file, place.bytes().len() as u64).unwrap().unwrap();
    let half = Half::read(&store, file, 1 << 20, from, NEVER).unwrap();
    assert!(
        (COUNT / 3..2 * COUNT / 3).contains(&half.index.len()),
        "about a half"
    );
    drop(turn);
    let fresh = place.store();
    let taken = fresh.queue_take(&place.job, &Select::eligible(), usize::MAX, MINUTE, None, NEVER);
    let taken: Vec<String> = taken.unwrap().iter().map(|entry| entry.id.to_string()).collect();
    let gone = [11, COUNT - 11].map(name);
    let free = |name: &String| !held.contains(name) && !gone.contains(name);
    let expected: Vec<String> = (0..COUNT).map(name).filter(free).collect();
    assert_eq!(taken, expected, "in their order");
    // If a push was merged into an item during its lease, the item is kept when the lease is acknowledged.
    let settled = place.ack(&place.store(), &tokens).unwrap();
    assert_eq!((settled.settled.len(), settled.kept.len()), (3, 1));
}

#[test]
fn damage_in_either_half_of_a_long_file_costs_only_itself() {
    let (place, _) = long();
    let bytes = place.bytes();
    let store = place.store();
    let from = {
        let turn = Turn::begin(&store, "test", &place.job, "a test", NEVER).unwrap();
        let file = &turn.files.items.as_ref().unwrap().open.file;
        Half::begin(&**file, bytes.len() as u64).unwrap().unwrap() as usize
    };
    std::fs::remove_file(place.journal_path()).unwrap();
    let first = memchr::memmem::find(&bytes, b"\"item_id\"").unwrap();
    for at in [
        first + 14,
        from - 3,
        from + 5,
        from + 2_000,
        bytes.len() - 100_000,
    ] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        place.write(&damaged);
        let fresh = place.store();
        let turn = Turn::begin(&fresh, "test", &place.job, "a test", NEVER).unwrap();
        let lost = COUNT - turn.files.index.len();
        // An item may still be read if the damaged byte is in the frame of its checksum.
        assert!(lost == 1 || at == from - 3 && lost == 0, "byte {at}: {lost}");
    }
}

#[test]
fn an_error_while_a_second_thread_reads_the_journal_ends_both() {
    let (place, _) = long();
    let journal = place.journal();
    let header = b"{\"journal\":9,\"counter\":0".to_vec();
    let end = memchr::memchr(b'\n', &journal).unwrap();
    let mut line = header;
    prodigy_storage_backend::record::add_checksum(&mut line, 0);
    std::fs::write(place.journal_path(), [&line[..], &journal[end..]].concat()).unwrap();
    let store = place.store();
    let error = store
        .queue_take(&place.job, &Select::eligible(), 1, MINUTE, None, NEVER)
        .unwrap_err();
    assert_eq!(error.kind(), prodigy_storage_backend::ErrorKind::NewerFormat);
}

#[test]
fn two_threads_read_a_long_journal_as_one_would_whatever_is_damaged() {
    const PART: usize = 256 << 10;
    let (place, _) = long();
    let journal = place.journal();
    let store = place.store();
    let ends: Vec<usize> = memchr::memchr_iter(b'\n', &journal).collect();
    let flipped = |at: usize| {
        let mut bytes = journal.clone();
        bytes[at] ^= 1;
        bytes
    };
    let without = |at: usize| [&journal[..at], &journal[at + 1..]].concat();
    let with = |at: usize, more: &[u8]| [&journal[..at], more, &journal[at..]].concat();
    let border = |part: usize| *ends.iter().find(|end| **end >= part * PART).unwrap();
    let last = journal.len() - 1;
    let states = [
        journal.clone(),
        flipped(ends[0] + 30),
        flipped(PART + 7),
        flipped(3 * PART - 1),
        flipped(last - 100),
        without(border(2)),
        without(border(3)),
        without(last),
        with(border(4) + 1, b"\n"),
        with(border(5) + 1, &[b'\t'; 700]),
        with(border(6) + 1, &vec![b'x'; 2 * PART]),
        journal[..last - 1_000].to_vec(),
        [&journal[..], &[0; 900]].concat(),
    ];
    for (n, state) in states.iter().enumerate() {
        std::fs::write(place.journal_path(), state).unwrap();
        for limit in [1 << 20, 2_000] {
            let file = store
                .root
                .fs
                .open(&Entry::QueueJournal(place.job.clone()).path(), OpenMode::Read);
            let file: std::sync::Arc<dyn FsFile> = file.unwrap().into();
            let scanner = || JournalScanner::new(std::sync::Arc::clone(&file), limit, 0).unwrap();
            let end = |scanner: &JournalScanner| (scanner.end(), scanner.is_open(), scanner.tail());
            let (mut one, mut by_one) = (scanner(), Vec::new());
            while let Some(piece) = one.next().unwrap() {
                by_one.push(format!("{:?}", noted(&store, &one, piece)));
            }
            let mut by_two = Vec::new();
            let two = read_journal(&store, scanner(), |noted| {
                by_two.push(format!("{noted:?}"));
                Ok(())
            });
            assert!(by_one.len() > COUNT / 2, "state {n}");
            assert_eq!(by_two, by_one, "state {n}");
            assert_eq!(end(&two.unwrap()), end(&one), "state {n}");
        }
    }
}
