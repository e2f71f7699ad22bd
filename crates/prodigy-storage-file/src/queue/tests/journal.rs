//! Tests of the journal: after a crash, a write of another process, or damage, and with a second hard link.

use std::time::Duration;

use prodigy_storage_backend::{
    Change, Claim, Deadline, ErrorKind, QueueStep, Select, Settled, Settlement, Severity,
};
use serde_json::Value;

use super::support::{NEVER, Place, id, item, item_of, value};
use crate::queue::Queues;

const MINUTE: Duration = Duration::from_secs(60);

fn take(place: &Place, store: &Queues, limit: usize) -> Vec<prodigy_storage_backend::LeaseToken> {
    let taken = store
        .queue_take(&place.job, &Select::eligible(), limit, MINUTE, None, NEVER)
        .unwrap();
    taken
        .into_iter()
        .map(|entry| entry.lease.unwrap().token)
        .collect()
}

fn records(place: &Place) -> Vec<Value> {
    let text = String::from_utf8(place.journal()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A queue with six items and every kind of change. Returns the ids of the items that remain.
fn lively() -> (Place, Vec<&'static str>) {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["a", "b", "c", "d", "e", "f"]).unwrap();
    let tokens = take(&place, &store, 4);
    let lease = |at: usize, change| Settlement::new(Claim::Lease(tokens[at].clone()), change);
    let changes = [
        lease(0, Change::Remove),
        lease(1, Change::Extend(MINUTE * 2)),
        lease(2, Change::Fail(item("c"))),
        lease(3, Change::Release { delay: MINUTE }),
        Settlement::new(
            Claim::Item(id("e")),
            Change::Park {
                reason: Some("why".into()),
            },
        ),
    ];
    assert_eq!(
        store.queue_settle(&place.job, &changes, None, NEVER).unwrap(),
        [Settled::Done; 5]
    );
    assert_eq!(place.put(&store, &["f"]).unwrap().merged, 1);
    (place, vec!["b", "c", "d", "e", "f"])
}

fn seen(place: &Place, store: &Queues) -> Vec<(String, Value, String)> {
    let shown = |entry: &prodigy_storage_backend::QueueEntry| {
        let rest = format!(
            "{:?} {:?} {:?} {:?}",
            entry.lease, entry.delay, entry.place, entry.revision
        );
        (entry.id.to_string(), value(entry), rest)
    };
    place.entries(store).iter().map(shown).collect()
}

#[test]
fn a_compaction_changes_nothing_that_is_read_and_empties_the_journal() {
    let (place, ids) = lively();
    let store = place.store();
    let before = seen(&place, &store);
    let reader = place.store();
    place.compact(&store);
    for store in [&store, &reader, &place.store()] {
        assert_eq!(seen(&place, store), before);
        assert_eq!(place.ids(store), ids);
    }
    assert_eq!(records(&place).len(), 1, "the journal has only its first line");
    assert_eq!(records(&place)[0]["counter"], 16);
    assert_eq!(place.array().len(), 5);
    assert_eq!(place.array()[1]["queue_change"], 16);
    // A second compaction changes nothing, since nothing happened since the first one.
    let files = [place.bytes(), place.journal()];
    place.compact(&store);
    assert_eq!([place.bytes(), place.journal()], files);
}

#[test]
fn every_pending_item_is_in_the_array_at_any_moment() {
    let (place, ids) = lively();
    let names: Vec<Value> = place.array().iter().map(|item| item["item_id"].clone()).collect();
    for id in ids {
        assert!(names.contains(&Value::from(id)), "{id}");
    }
}

#[test]
fn a_record_that_was_cut_anywhere_is_cut_off_and_costs_nothing_before_it() {
    let (place, _) = lively();
    let (array, journal) = (place.bytes(), place.journal());
    let ends: Vec<usize> = memchr::memchr_iter(b'\n', &journal).collect();
    for cut in (ends[0] + 1..journal.len()).step_by(7) {
        let place = Place::holding(&array);
        std::fs::write(place.journal_path(), &journal[..cut]).unwrap();
        let store = place.store();
        let before = seen(&place, &store);
        assert_eq!(place.journal(), journal[..cut], "readers change nothing");
        place.put(&store, &["next"]).unwrap();
        let after = seen(&place, &store);
        assert_eq!(after[..after.len() - 1], before[..], "cut at {cut}");
        let (summary, _) = survey(&place);
        assert!(
            summary.spots.is_empty() && summary.journal.unwrap().torn.is_none(),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_crash_between_the_two_files_of_a_compaction_makes_no_change_twice_and_none_undone() {
    let (place, _) = lively();
    let store = place.store();
    let before = seen(&place, &store);
    let journal = place.journal();
    place.compact(&store);
    // The state between the two renames of a compaction: the new array, and the old journal.
    std::fs::write(place.journal_path(), &journal).unwrap();
    let store = place.store();
    assert_eq!(seen(&place, &store), before);
    let removed = place.remove(&store, &[id("a"), id("b")]).unwrap();
    assert_eq!(removed.unknown, [id("a")]);
    place.put(&store, &["a", "c"]).unwrap();
    for store in [&store, &place.store()] {
        assert_eq!(place.ids(store), ["c", "d", "e", "f", "a"]);
    }
    place.compact(&store);
    assert_eq!(place.ids(&place.store()), ["c", "d", "e", "f", "a"]);
}

#[test]
fn a_removed_id_that_is_pushed_again_is_another_item() {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["a", "b"]).unwrap();
    let tokens = take(&place, &store, 1);
    place.remove(&store, &[id("a")]).unwrap();
    place.put(&store, &["a"]).unwrap();
    for store in [&store, &place.store()] {
        assert_eq!(place.ids(store), ["b", "a"]);
        assert_eq!(
            place.ack(store, &tokens).unwrap().unknown.len(),
            1,
            "the token belongs to the first lease"
        );
    }
    let births: Vec<Value> = place
        .array()
        .iter()
        .map(|item| item["queue_birth"].clone())
        .collect();
    assert!(
        births.windows(2).all(|pair| pair[0].as_u64() < pair[1].as_u64()),
        "{births:?}"
    );
}

#[test]
fn a_queue_of_an_earlier_version_is_taken_over_at_its_first_change() {
    let ours = Place::new();
    ours.put(&ours.store(), &["a", "b", "c"]).unwrap();
    let lines: Vec<Vec<u8>> = ours
        .entries(&ours.store())
        .iter()
        .map(|entry| super::support::old_line(&entry.body, None))
        .collect();
    let old = [b"[\n", lines.join(&b",\n"[..]).as_slice(), b"\n]\n"].concat();
    let place = Place::holding(&old);
    let store = place.store();
    let marks = |store: &Queues| -> Vec<u64> {
        place
            .entries(store)
            .iter()
            .map(|entry| entry.revision.0)
            .collect()
    };
    assert_eq!(marks(&store), [1, 2, 3]);
    // A push leaves the lines of the earlier version unchanged.
    place.put(&store, &["d"]).unwrap();
    assert!(place.bytes().starts_with(old.strip_suffix(b"\n]\n").unwrap()));
    assert_eq!(place.array()[3]["queue_birth"], 4);
    assert!(place.array()[0].get("queue_birth").is_none());
    // A change on condition of the item's earlier revision is still accepted.
    let other = place.store();
    let edit = Settlement::new(
        Claim::Revision(id("b"), prodigy_storage_backend::QueueMark(2)),
        Change::Edit(item_of(r#"{"item_id":"b","item_data":7}"#).body),
    );
    assert_eq!(
        other.queue_settle(&place.job, &[edit], None, NEVER).unwrap(),
        [Settled::Done]
    );
    for store in [&store, &other, &place.store()] {
        assert_eq!(marks(store), [1, 5, 3, 4]);
        assert_eq!(value(&place.entries(store)[1])["item_data"], 7);
    }
    let births: Vec<Value> = place
        .array()
        .iter()
        .map(|item| item["queue_birth"].clone())
        .collect();
    assert_eq!(births, [1, 2, 3, 4]);
    assert!(place.entries(&store).iter().all(|entry| entry.verified));
}

#[test]
fn a_journal_with_a_second_name_is_copied_before_it_is_written_to() {
    let (place, _) = lively();
    let outside = tempfile::tempdir().unwrap();
    let other = outside.path().join("other");
    let known = place.store();
    place.remove(&known, &[id("b")]).unwrap();
    let before = place.journal();
    std::fs::hard_link(place.journal_path(), &other).unwrap();
    place.remove(&known, &[id("c")]).unwrap();
    place.remove(&place.store(), &[id("d")]).unwrap();
    assert_eq!(std::fs::read(&other).unwrap(), before);
    assert_eq!(place.ids(&known), ["e", "f"]);
}

#[test]
fn a_journal_of_a_later_version_is_refused_and_left() {
    let place = Place::new();
    let store = place.store();
    place.put(&store, &["a"]).unwrap();
    let mut line = b"{\"journal\":3,\"counter\":1,\"more\":true".to_vec();
    prodigy_storage_backend::record::add_checksum(&mut line, 0);
    line.push(b'\n');
    std::fs::write(place.journal_path(), &line).unwrap();
    for store in [&store, &place.store()] {
        for error in [
            place.put(store, &["b"]).unwrap_err(),
            store.queue_get(&place.job, &id("a"), NEVER).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::NewerFormat, "{error}");
        }
    }
    assert_eq!(place.journal(), line);
}

#[test]
fn a_reader_that_began_before_a_compaction_reads_the_queue_of_its_beginning() {
    let (place, ids) = lively();
    let store = place.store();
    let mut scan = store.queue_scan(&place.job, &Select::any(), NEVER).unwrap();
    let first = scan.next().unwrap().unwrap();
    assert!(matches!(&first, QueueStep::Entry(entry) if entry.id == id("b")));
    place.remove(&store, &[id("c")]).unwrap();
    place.compact(&store);
    place.put(&store, &["c", "new"]).unwrap();
    let rest: Vec<String> = scan
        .map(|step| match step.unwrap() {
            QueueStep::Entry(entry) => entry.id.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(rest, ids[1..]);
    assert_eq!(place.ids(&store), ["b", "d", "e", "f", "c", "new"]);
}

fn survey(place: &Place) -> (crate::queue::Survey, Vec<(u64, u64)>) {
    let survey = place
        .store()
        .queue_survey_at(&place.job, Deadline::never())
        .unwrap()
        .unwrap();
    let gaps = survey.journal.as_ref().map(|journal| journal.gaps.clone());
    (survey, gaps.unwrap_or_default())
}

#[test]
fn a_doctor_finds_lost_changes_a_lost_beginning_and_a_lost_journal() {
    let (place, _) = lively();
    let (whole, gaps) = survey(&place);
    assert!(!whole.is_damaged() && gaps.is_empty());
    let journal = place.journal();
    let lines: Vec<&[u8]> = journal.split_inclusive(|byte| *byte == b'\n').collect();
    let without = |gone: &[usize]| {
        let kept = lines.iter().enumerate().filter(|(at, _)| !gone.contains(at));
        let bytes: Vec<u8> = kept.flat_map(|(_, line)| line.iter().copied()).collect();
        std::fs::write(place.journal_path(), bytes).unwrap();
        survey(&place)
    };
    // The first record after the header has the number 7.
    assert_eq!(without(&[3]).1, [(9, 9)]);
    assert_eq!(without(&[2, 3, 5]).1, [(8, 9), (11, 11)]);
    assert!(!without(&[0]).0.journal.unwrap().has_header);
    let doubled = [journal.as_slice(), lines[4]].concat();
    std::fs::write(place.journal_path(), doubled).unwrap();
    assert_eq!(survey(&place).0.journal.unwrap().doubles, 1);
    std::fs::write(place.journal_path(), &journal).unwrap();
    place.compact(&place.store());
    assert!(!survey(&place).0.is_damaged());
    std::fs::remove_file(place.journal_path()).unwrap();
    assert!(survey(&place).0.has_lost_journal);
}

#[test]
fn a_repair_keeps_what_is_damaged_in_both_files_and_leaves_the_items_as_they_are_known() {
    let (place, _) = lively();
    let (mut array, mut journal) = (place.bytes(), place.journal());
    let at = memchr::memmem::find(&array, b"{\"item_id\":\"d\"").unwrap();
    array[at + 30] ^= 1;
    let record = memchr::memmem::find(&journal, b"{\"change\":11,").unwrap();
    journal[record + 20] ^= 1;
    place.write(&array);
    std::fs::write(place.journal_path(), &journal).unwrap();
    let store = place.store();
    let known = |store: &Queues| -> Vec<String> {
        place
            .steps(store)
            .into_iter()
            .filter_map(|step| match step {
                QueueStep::Entry(entry) => Some(entry.id.to_string()),
                QueueStep::Damage(_) | QueueStep::TooLarge(_) => None,
            })
            .collect()
    };
    let before = known(&store);
    let mut kept = Vec::new();
    let is_repaired = store.queue_rebuild(&place.job, NEVER, |path, _, spots| {
        kept.push((path.to_owned(), spots.len()));
        Ok(())
    });
    assert!(is_repaired.unwrap());
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(!survey(&place).0.is_damaged());
    assert_eq!(known(&place.store()), before);
    assert!(!store.queue_rebuild(&place.job, NEVER, |_, _, _| Ok(())).unwrap());
}

#[test]
fn a_damaged_record_is_reported_by_readers_and_goes_to_the_quarantine_with_the_next_compaction() {
    let (place, _) = lively();
    let mut journal = place.journal();
    let start = memchr::memmem::find(&journal, b"{\"change\":11,").unwrap();
    journal[start + 20] ^= 1;
    std::fs::write(place.journal_path(), &journal).unwrap();
    let damage: Vec<_> = place
        .steps(&place.store())
        .into_iter()
        .filter_map(|step| match step {
            QueueStep::Damage(damage) => Some(damage),
            QueueStep::Entry(_) | QueueStep::TooLarge(_) => None,
        })
        .collect();
    assert_eq!(damage.len(), 1);
    assert_eq!(damage[0].offset, start as u64);
    assert!(damage[0].place.ends_with("items.journal"));
    // The lost record was the removal of the item, which now appears again, still leased.
    assert!(
        place
            .store()
            .queue_get(&place.job, &id("a"), NEVER)
            .unwrap()
            .is_some()
    );
    place.compact(&place.store());
    let kept = place.quarantined().concat();
    assert!(
        memchr::memmem::find(&kept, b"\"change\":11").is_some(),
        "{}",
        String::from_utf8_lossy(&kept)
    );
    assert_eq!(place.entries(&place.store()).len(), 6);
}

#[test]
fn an_array_without_its_file_leaves_numbers_that_no_record_means() {
    let (place, _) = lively();
    std::fs::remove_file(place.path()).unwrap();
    let store = place.store();
    let damaged = |store: &Queues| store.queue_summary(&place.job, NEVER).unwrap().damaged;
    assert_eq!(damaged(&store), 1, "the journal counts items that are gone");
    place.put(&store, &["a", "b"]).unwrap();
    for store in [&store, &place.store()] {
        let summary = store.queue_summary(&place.job, NEVER).unwrap();
        assert_eq!((summary.items, summary.damaged), (2, 1));
    }
    // The missing items still count as missing after a compaction, but not after a repair.
    place.compact(&store);
    assert_eq!(damaged(&place.store()), 1);
    assert!(store.queue_rebuild(&place.job, NEVER, |_, _, _| Ok(())).unwrap());
    assert_eq!(place.ids(&place.store()), ["a", "b"]);
    assert_eq!(
        place.array()[0]["queue_birth"],
        17,
        "the birth is greater than the last change"
    );
}

#[test]
fn a_process_shows_exactly_the_items_in_a_small_array_when_it_has_done_with_it() {
    let (place, ids) = lively();
    let names = |place: &Place| -> Vec<String> {
        let array = place.array();
        array
            .iter()
            .map(|item| item["item_id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&place).len(), 6);
    // One process has the queue open, and another one compacts it, as a process does that finds it left uncompacted.
    let store = place.store();
    place.store().tidy(NEVER).unwrap();
    assert_eq!(names(&place), ids);
    place.remove(&store, &[id("b")]).unwrap();
    store.tidy(NEVER).unwrap();
    assert_eq!(names(&place), ids[1..]);
    // A process was killed, and another process makes its first change.
    place.remove(&store, &[id("c")]).unwrap();
    place.remove(&place.store(), &[id("x")]).unwrap();
    assert_eq!(names(&place), ids[2..]);
}

#[test]
fn a_cap_refuses_a_push_and_no_settlement() {
    let place = Place::new();
    let store = Queues::new(crate::root::Root::new(
        std::sync::Arc::new(crate::fs::RealFs::new(place.folder.path())),
        place.options().max_queue_size(4_000),
    ));
    let names: Vec<String> = (0..20).map(|n| format!("n{n:02}")).collect();
    let mut pushed = 0;
    let error = loop {
        match place.put(&store, &[&names[pushed]]) {
            Ok(_) => pushed += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::QueueFull);
    assert!(error.hint().unwrap().contains("compact"), "{error}");
    let size = |place: &Place| place.bytes().len() + place.journal().len();
    assert!(pushed > 5 && size(&place) <= 4_000, "{pushed}");
    let check = store.health().unwrap();
    assert_eq!(check.severity, Severity::Warning, "{check:?}");
    assert!(
        check.found.contains(&format!("{} of 4000 bytes", size(&place))),
        "{check:?}"
    );
    assert!(place.store().health().is_none(), "without a cap");
    let tokens = take(&place, &store, pushed);
    assert_eq!(tokens.len(), pushed);
    assert_eq!(place.ack(&store, &tokens).unwrap().settled.len(), pushed);
    // A push compacts the queue if it needs the space.
    place.put(&store, &["again"]).unwrap();
    assert!(size(&place) <= 4_000);
}
