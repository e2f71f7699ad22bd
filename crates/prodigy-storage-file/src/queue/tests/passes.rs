//! Tests that the fast path for lines in our own form gives the same results as the general parser.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prodigy_storage_backend::dead_letter::{facts, facts_of_line};
use prodigy_storage_backend::{BootId, ItemId, Lease, LeaseToken, QueueEntry, Select, Uptime};
use prodigy_storage_layout::Timestamp;
use proptest::prelude::*;

use super::super::line::{self, ItemChecksum};
use super::super::scan::{Fragment, Scanner};
use super::support::{Faulty, NEVER, Place, id, old_line, raw};
use crate::fs::{FileSystem, OpenMode, RealFs};

const LIMIT: u64 = 1 << 20;

/// The line of an item, as this backend writes it.
fn sealed(name: usize, data: &str, lease: Option<&Lease>) -> Vec<u8> {
    let body = raw(&format!("{{\"item_id\":\"i{name}\",\"item_data\":\"{data}\"}}"));
    old_line(&body, lease)
}

fn lease(token: &str, until: i64) -> Lease {
    Lease {
        token: LeaseToken::from(token.to_owned()),
        until: Timestamp::from_nanos(until),
        end: None,
    }
}

/// Random bytes for a place between two separators of the array.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let long = prop_oneof![9 => 0..300usize, 1 => 200_000..300_000usize];
    let ours = (0..9usize, long, any::<bool>()).prop_map(|(name, len, leased)| {
        let lease = lease("00ff00ff00ff00ff00ff00ff00ff00ff", 1_800_000_000_000_000_000);
        sealed(name, &"d".repeat(len), leased.then_some(&lease))
    });
    let flipped = (0..9usize, any::<prop::sample::Index>(), 0..8u32).prop_map(|(name, at, bit)| {
        let mut line = sealed(name, "data", None);
        let at = at.index(line.len());
        line[at] ^= 1 << bit;
        line
    });
    prop_oneof![
        8 => ours,
        2 => flipped,
        1 => (0..9usize).prop_map(|name| format!("{{\"item_id\":\"f{name}\"}}").into_bytes()),
        1 => (0..9usize).prop_map(|name| format!("{{\"item_id\":\n\"f{name}\"}}").into_bytes()),
        1 => (0..9usize).prop_map(|name| [&b"rubbish "[..], &sealed(name, "", None)].concat()),
        1 => Just(b"{\"item_id\":\"cut".to_vec()),
        1 => Just(b"]".to_vec()),
        1 => Just(Vec::new()),
    ]
}

/// The contents of a fragment, for comparison: the state of its checksum, and its bytes.
type Content = (Option<ItemChecksum>, Vec<u8>);

fn found(fragment: &Fragment, scanner: &Scanner, bytes: &[u8]) -> Content {
    match fragment {
        Fragment::Item {
            start,
            range,
            checksum,
        } => {
            let line = scanner.bytes(range.clone());
            assert_eq!(&bytes[*start as usize..][..line.len()], line);
            (Some(*checksum), line.to_vec())
        }
        Fragment::Damage { start, end, .. } => {
            // Damage may include separators, which differ between the compared files, so white space at line ends is
            // ignored.
            let text = bytes[*start as usize..*end as usize].to_vec();
            let parts: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
            let parts: Vec<&[u8]> = parts.into_iter().map(<[u8]>::trim_ascii).collect();
            (None, parts.join(&b'\n'))
        }
        Fragment::Foreign { start, end } => (None, bytes[*start as usize..*end as usize].to_vec()),
        Fragment::TooLarge { .. } => panic!("no item is as large as the limit"),
    }
}

fn scanner(folder: &Path, bytes: &[u8]) -> Scanner {
    std::fs::write(folder.join("file"), bytes).unwrap();
    let file = RealFs::new(folder)
        .open(Path::new("file"), OpenMode::Read)
        .unwrap();
    Scanner::new(Arc::from(file), LIMIT).unwrap()
}

/// Reads all fragments with the scanner under test.
fn stepped(folder: &Path, bytes: &[u8]) -> (Vec<Content>, Scanner) {
    let mut scanner = scanner(folder, bytes);
    let mut all = Vec::new();
    while let Some(fragment) = scanner.next().unwrap() {
        all.push(found(&fragment, &scanner, bytes));
    }
    (all, scanner)
}

/// Describes the first difference between two lists of fragments.
fn shown(some: &[Content], others: &[Content]) -> String {
    let at = some.iter().zip(others).take_while(|(a, b)| a == b).count();
    let text = |found: &[Content]| {
        found.get(at).map(|(checksum, bytes)| {
            let text: String = String::from_utf8_lossy(bytes).chars().take(200).collect();
            (*checksum, bytes.len(), text)
        })
    };
    format!("fragment {at}: {:?}, {:?}", text(some), text(others))
}

fn file(pieces: &[Vec<u8>], separator: &[u8], end: &[u8]) -> Vec<u8> {
    [b"[\n", pieces.join(separator).as_slice(), end].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn items_as_we_push_them_are_found_as_any_others(
        pieces in prop::collection::vec(piece(), 0..14),
        end in prop::sample::select(vec!["\n]\n", "\n]", "]", "", "\n", ",\n]\n"]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let bytes = file(&pieces, b",\n", end.as_bytes());
        let (plain, stepped_to) = stepped(folder.path(), &bytes);
        // A blank after each comma, so that the fast path does not apply to any item.
        let spaced = file(&pieces, b", \n", end.as_bytes());
        let (general, walked_to) = stepped(folder.path(), &spaced);
        prop_assert!(plain == general, "{}", shown(&plain, &general));
        let (ours, theirs) = (stepped_to.array(), walked_to.array());
        prop_assert_eq!(
            (ours.any, ours.plain, ours.closed, ours.tail.is_some()),
            (theirs.any, theirs.plain, theirs.closed, theirs.tail.is_some())
        );
    }

    #[test]
    fn a_lease_is_read_as_it_was_written(
        until in 0i64..4_000_000_000_000_000_000, boot: u128, seconds: u64, nanos in 0u32..1_000_000_000, old: bool,
    ) {
        let end = Uptime { boot: BootId::from_u128(boot), since: Duration::new(seconds, nanos) };
        let lease = Lease { end: (!old).then_some(end), ..lease("00ff00ff00ff00ff00ff00ff00ff00ff", until) };
        let line = sealed(1, "d", Some(&lease));
        let entry = line::read(&line, ItemChecksum::Valid);
        prop_assert_eq!(entry.and_then(|stored| stored.entry.lease), Some(lease.clone()));
    }

    #[test]
    fn the_facts_of_a_line_are_those_of_its_item(
        fields in prop::collection::vec(
            (
                prop::sample::select(vec![
                    "error_signature", "reprocess_eligible", "last_attempt", "failure_count", "item_data",
                    "lease_token", "lease_until", "x",
                ]),
                prop::sample::select(vec![
                    "\"timeout\"", "true", "false", "\"2027-01-15T08:00:00Z\"", "3", "null", "[1,{\"a\":2}]",
                    "{\"error_signature\":\"b\"}", "\"\\\"\"", "\"open", "1.", "[", "}", "",
                ]),
            ),
            0..6,
        ),
        leased in any::<bool>(),
    ) {
        let mut line = b"{\"item_id\":\"a\"".to_vec();
        for (name, value) in fields {
            line.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
        }
        if leased {
            let lease = "\"lease_token\":\"00\",\"lease_until\":\"2027-01-15T08:00:00.000000000Z\"";
            line.extend_from_slice(format!(",{lease}").as_bytes());
        }
        prodigy_storage_backend::record::add_checksum(&mut line, 0);
        let entry = line::read(&line, ItemChecksum::Valid);
        let told = entry.map(|entry| facts(&entry.entry.body).map_err(|error| error.to_string()));
        // For bytes that are not an item, the expected result is an error.
        let told = told.unwrap_or_else(|| Err(facts_of_line(b"").unwrap_err().to_string()));
        prop_assert_eq!(facts_of_line(&line).map_err(|error| error.to_string()), told);
    }
}

/// A queue with this number of items, and the ids of the items.
fn queue(items: usize) -> (Place, Vec<String>) {
    let place = Place::new();
    let names: Vec<String> = (0..items).map(|n| format!("n{n:05}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    place.put(&place.store(), &all).unwrap();
    (place, names)
}

fn tokens(taken: Vec<QueueEntry>) -> Vec<LeaseToken> {
    taken
        .into_iter()
        .map(|entry| entry.lease.unwrap().token)
        .collect()
}

#[test]
fn whatever_happens_to_items_costs_one_write_and_one_sync_however_long_the_queue_is() {
    let mut costs = Vec::new();
    for items in [1_000, 20_000] {
        let (place, names) = queue(items);
        let (store, faults) = Faulty::store(&place);
        place.put(&store, &["last"]).unwrap();
        let minute = Duration::from_secs(60);
        let take = |limit| {
            let taken = store.queue_take(&place.job, &Select::eligible(), limit, minute, None, NEVER);
            taken.unwrap()
        };
        // The first take creates the journal, with blanks at its end.
        let first = [tokens(take(2)), tokens(take(1))].concat();
        let before = place.bytes();
        faults.work();
        let mut cost = Vec::new();
        let mut count = |what: &str| {
            let [read, written, writes, syncs] = faults.work();
            assert_eq!((writes, syncs), (1, 1), "{what}");
            assert!(
                read < 10_000 && written < 4_000,
                "{what}: {read} read, {written} written"
            );
            cost.push(read);
        };
        let taken = take(10);
        count("take");
        place.nack(&store, &first).unwrap();
        count("release");
        place.ack(&store, &tokens(taken)).unwrap();
        count("acknowledgement");
        place.put(&store, &[&names[500], &names[501]]).unwrap();
        count("push of known items");
        place.remove(&store, &[id(&names[700])]).unwrap();
        count("removal");
        assert_eq!(place.bytes(), before, "the array is unchanged");
        let mut left = place.ids(&store);
        assert_eq!(left.pop().as_deref(), Some("last"));
        assert_eq!(left.len(), items - 11);
        costs.push(cost);
    }
    for (short, long) in costs[0].iter().zip(&costs[1]) {
        assert!(long.abs_diff(*short) < 200, "{costs:?}");
    }
}

#[test]
fn emptying_a_queue_writes_a_bounded_multiple_of_its_size() {
    for size in [1_000, 4_000] {
        let (place, names) = queue(size);
        let (store, faults) = Faulty::store(&place);
        place.put(&store, &["last"]).unwrap();
        let len = place.bytes().len() as u64;
        faults.work();
        let mut done = 0;
        loop {
            let taken = store.queue_take(
                &place.job,
                &Select::eligible(),
                50,
                Duration::from_secs(60),
                None,
                NEVER,
            );
            let taken = taken.unwrap();
            if taken.is_empty() {
                break;
            }
            done += taken.len();
            place.ack(&store, &tokens(taken)).unwrap();
        }
        assert_eq!(done, names.len() + 1);
        let [_, written, ..] = faults.work();
        // The items are so short that half of the bytes are records. Most of them overwrite existing blanks.
        assert!(written <= 4 * len, "{written} of {len}");
    }
}

#[test]
fn a_compaction_leaves_every_other_line_as_it_is() {
    let (place, names) = queue(2_000);
    let store = place.store();
    let chosen: Vec<ItemId> = names.iter().step_by(7).map(|name| id(name)).collect();
    let lines = || -> Vec<String> {
        let text = String::from_utf8(place.bytes()).unwrap();
        let lines = text.lines().map(|line| line.trim_end_matches(',').to_owned());
        lines.filter(|line| line.len() > 1).collect()
    };
    let before = lines();
    let taken = store
        .queue_take(
            &place.job,
            &Select::ids(chosen.clone()),
            usize::MAX,
            Duration::from_secs(60),
            None,
            NEVER,
        )
        .unwrap();
    assert_eq!(taken.len(), chosen.len());
    assert_eq!(lines(), before);
    place.compact(&store);
    let leased = lines();
    assert_eq!(leased.len(), before.len());
    for (at, (old, new)) in before.iter().zip(&leased).enumerate() {
        assert_eq!(old == new, at % 7 != 0, "line {at}");
    }
    assert_eq!(place.array().len(), before.len());
    let settled = place.nack(&store, &tokens(taken)).unwrap();
    assert_eq!(settled.settled.len(), chosen.len());
    place.remove(&store, &chosen).unwrap();
    place.compact(&store);
    let rest: Vec<String> = before
        .iter()
        .enumerate()
        .filter(|(at, _)| at % 7 != 0)
        .map(|(_, line)| line.clone())
        .collect();
    assert_eq!(lines(), rest);
    assert_eq!(place.array().len(), rest.len());
}

#[test]
fn ids_are_known_after_a_change_and_those_of_removed_items_are_not() {
    let (place, names) = queue(50);
    let (store, faults) = Faulty::store(&place);
    place.put(&store, &["last"]).unwrap();
    let taken = store
        .queue_take(
            &place.job,
            &Select::eligible(),
            5,
            Duration::from_secs(60),
            None,
            NEVER,
        )
        .unwrap();
    let report = place.put(&store, &[&names[0], &names[30], "last"]).unwrap();
    assert_eq!((report.added, report.merged), (0, 3));
    let settled = place.ack(&store, &tokens(taken)).unwrap();
    assert_eq!((settled.settled.len(), settled.kept.len()), (4, 1));
    let report = place.put(&store, &[&names[40]]).unwrap();
    assert_eq!((report.added, report.merged), (0, 1));
    faults.work();
    let report = place.put(&store, &[&names[3], &names[4]]).unwrap();
    assert_eq!((report.added, report.merged), (2, 0));
    assert!(faults.work()[0] < 2_000, "the file was not read for that");
}

#[test]
fn what_ends_at_the_end_of_a_read_is_what_it_is_elsewhere() {
    const READ: usize = 256 << 10;
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = [sealed(1, "", None), sealed(2, "", None)];
    let cut = &one[..20];
    for to in READ - 60..READ + 60 {
        // The length of the first item is chosen so that its separator begins at the offset `to`.
        let filler = sealed(0, &"d".repeat(to - 2 - sealed(0, "", None).len()), None);
        let bytes = [b"[\n", &filler[..], b",\n", &one, b",\n", &two, b",\n", cut].concat();
        assert_eq!(&bytes[to..to + 2], b",\n");
        let whole = [&filler, &one, &two].map(|line| (Some(ItemChecksum::Valid), line.clone()));
        {
            let (all, scanner) = stepped(folder.path(), &bytes);
            assert!(all == whole, "{to}");
            assert_eq!(
                scanner.array().tail,
                Some((bytes.len() - cut.len()) as u64),
                "{to}"
            );
            assert!(scanner.array().plain, "{to}");
        }
        // The cut item directly follows the first one.
        let bytes = [b"[\n", &filler[..], b",\n", cut].concat();
        let (_, scanner) = stepped(folder.path(), &bytes);
        assert_eq!(scanner.array().tail, Some(to as u64 + 2));
    }
}

#[test]
fn an_item_whose_bytes_are_spoilt_since_they_were_indexed_is_not_given_out() {
    let (place, _) = queue(3);
    let (store, faults) = Faulty::store(&place);
    place.put(&store, &["last"]).unwrap();
    faults.spoilt.store(20, Ordering::Relaxed);
    let taken = store
        .queue_take(
            &place.job,
            &Select::eligible(),
            2,
            Duration::from_secs(60),
            None,
            NEVER,
        )
        .unwrap();
    let names: Vec<&str> = taken.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(names, ["n00001", "n00002"]);
    faults.spoilt.store(0, Ordering::Relaxed);
    assert_eq!(place.ids(&store).len(), 4);
    let taken = place
        .store()
        .queue_take(
            &place.job,
            &Select::eligible(),
            2,
            Duration::from_secs(60),
            None,
            NEVER,
        )
        .unwrap();
    assert_eq!(
        taken[0].id.as_str(),
        "n00000",
        "a process with a larger limit can take the item"
    );
}
