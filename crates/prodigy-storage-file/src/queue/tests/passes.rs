//! Items that are as we push them are read a shorter way, with the same results and decisions.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prodigy_storage_backend::dead_letter::{facts, facts_of_line};
use prodigy_storage_backend::{BootId, ErrorKind, ItemId, Lease, LeaseToken, Select, Uptime};
use prodigy_storage_layout::Timestamp;
use proptest::prelude::*;

use super::super::line::{self, ItemChecksum};
use super::super::scan::{Fragment, Scanner};
use super::support::{Faulty, Hand, NEVER, Place, raw};
use crate::fs::{FileSystem, OpenMode, RealFs};

const LIMIT: u64 = 1 << 20;

/// The line of an item, as we write it.
fn sealed(name: usize, data: &str, lease: Option<&Lease>) -> Vec<u8> {
    let body = raw(&format!("{{\"item_id\":\"i{name}\",\"item_data\":\"{data}\"}}"));
    line::encoded(&body, lease)
}

fn lease(token: &str, until: i64) -> Lease {
    Lease {
        token: LeaseToken::from(token.to_owned()),
        until: Timestamp::from_nanos(until),
        end: None,
    }
}

/// The bytes that may be between two separators.
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

/// A fragment by its contents.
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
            // It may go over a separator.
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

/// One by one.
fn stepped(folder: &Path, bytes: &[u8]) -> (Vec<Content>, Scanner) {
    let mut scanner = scanner(folder, bytes);
    let mut all = Vec::new();
    while let Some(fragment) = scanner.next().unwrap() {
        all.push(found(&fragment, &scanner, bytes));
    }
    (all, scanner)
}

/// As a rewrite goes: every item whose number says so is stopped at.
fn run(folder: &Path, bytes: &[u8], stops: usize) -> (Vec<Content>, Scanner) {
    let mut scanner = scanner(folder, bytes);
    let mut all = Vec::new();
    loop {
        let mut kept = Vec::new();
        let mut count = all.len();
        let run = scanner.run(|start, line| {
            assert_eq!(&bytes[start as usize..][..line.len()], line);
            count += 1;
            let keeps = !count.is_multiple_of(stops);
            if keeps {
                kept.push((Some(ItemChecksum::Valid), line.to_vec()));
            }
            keeps
        });
        let run = run.unwrap();
        let lines: Vec<u8> = kept
            .iter()
            .flat_map(|(_, line)| [b",\n", line.as_slice()].concat())
            .collect();
        assert!(scanner.bytes(run.kept) == lines, "kept as they stand");
        all.extend(kept);
        let fragment = match run.other {
            Some(fragment) => Some(fragment),
            None => scanner.next().unwrap(),
        };
        match fragment {
            Some(fragment) => all.push(found(&fragment, &scanner, bytes)),
            None => return (all, scanner),
        }
    }
}

/// The first difference.
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
    fn a_run_finds_what_single_steps_find(
        pieces in prop::collection::vec(piece(), 0..14),
        end in prop::sample::select(vec!["\n]\n", "\n]", "]", "", "\n", ",\n]\n"]),
        stops in 1..6usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let bytes = file(&pieces, b",\n", end.as_bytes());
        let (plain, stepped_to) = stepped(folder.path(), &bytes);
        let (runs, ran_to) = run(folder.path(), &bytes, stops);
        prop_assert!(plain == runs, "{}", shown(&plain, &runs));
        prop_assert_eq!(stepped_to.array(), ran_to.array());
        prop_assert_eq!(stepped_to.len(), ran_to.len());
        // A blank is behind the comma, so no item is as we push it.
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
    fn what_is_said_to_be_held_is_not_taken(
        token in "[0-9a-fA-F]{31,33}|[0-9a-f]{32}|[0-9a-f]{20}\"[0-9a-f]{11}",
        until in prop_oneof![
            (-3..3i64).prop_map(|by| line::nanos_text(Timestamp::from_nanos(NOW + by))),
            "2027-01-15T0[78]:[0-9]{2}:[0-6]{2}\\.[0-9]{9}[Zz]",
            "2027-02-3[0-9]T08:00:00\\.000000000Z",
            "2027-01-15T0[78]:00:00\\.[0-9]{4}[+-]0[0-2]:00",
            ".{0,40}",
        ],
        name in prop::sample::select(vec!["lease_token", "lease_tokem", "x\\\",\\\"lease_token"]),
        data in prop::collection::vec(any::<u8>(), 0..4),
        valid in any::<bool>(),
        framed in any::<bool>(),
    ) {
        let data = if valid { b"d".to_vec() } else { data };
        let mut line = [
            &b"{\"item_id\":\"a\",\"item_data\":\""[..], &data, b"\",\"", name.as_bytes(), b"\":\"",
            token.as_bytes(), b"\",\"lease_until\":\"", until.as_bytes(), b"\"",
        ].concat();
        prodigy_storage_backend::record::add_checksum(&mut line, 0);
        let checksum = if framed { ItemChecksum::BadFrame } else { ItemChecksum::Valid };
        let clock = Hand::new(NOW);
        if line::is_held(&line, checksum, &clock) {
            prop_assert!(line::read(&line, checksum).is_none_or(|entry| !entry.is_pending(&clock)));
        }
        prop_assert!(!line::is_held(&line, ItemChecksum::Missing, &clock));
    }

    #[test]
    fn a_lease_is_read_as_it_was_written(
        until in 0i64..4_000_000_000_000_000_000, boot: u128, seconds: u64, nanos in 0u32..1_000_000_000, old: bool,
    ) {
        let end = Uptime { boot: BootId::from_u128(boot), since: Duration::new(seconds, nanos) };
        let lease = Lease { end: (!old).then_some(end), ..lease("00ff00ff00ff00ff00ff00ff00ff00ff", until) };
        let line = sealed(1, "d", Some(&lease));
        let entry = line::read(&line, ItemChecksum::Valid);
        prop_assert_eq!(entry.and_then(|entry| entry.lease), Some(lease.clone()));
        let clock = Hand::new(NOW);
        prop_assert_eq!(line::is_held(&line, ItemChecksum::Valid, &clock), !lease.has_ended(&clock));
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
        let told = entry.map(|entry| facts(&entry.body).map_err(|error| error.to_string()));
        // Bytes that can't be read have no facts.
        let told = told.unwrap_or_else(|| Err(facts_of_line(b"").unwrap_err().to_string()));
        prop_assert_eq!(facts_of_line(&line).map_err(|error| error.to_string()), told);
    }
}

const NOW: i64 = 1_800_000_000_000_000_000;

#[test]
fn a_lease_of_ours_is_seen_from_the_end_of_its_line() {
    let token = LeaseToken::random();
    for (by, held) in [(-1, false), (0, false), (1, true), (1_000_000_000, true)] {
        let line = sealed(1, "data", Some(&lease(token.as_str(), NOW + by)));
        assert_eq!(
            line::is_held(&line, ItemChecksum::Valid, &Hand::new(NOW)),
            held,
            "{by}"
        );
    }
    assert!(!line::is_held(
        &sealed(1, "data", None),
        ItemChecksum::Valid,
        &Hand::new(NOW)
    ));
}

/// A queue of this number of items, as a handle knows it; and the bytes of its file.
fn queue(items: usize) -> (Place, Vec<String>) {
    let place = Place::new();
    let names: Vec<String> = (0..items).map(|n| format!("n{n:05}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    place.put(&place.store(), &all).unwrap();
    (place, names)
}

#[test]
fn a_take_from_the_front_and_its_acknowledgement_read_the_file_about_once() {
    let (place, names) = queue(20_000);
    let (store, faults) = Faulty::store(&place);
    place.put(&store, &["last"]).unwrap();
    let len = place.bytes().len() as u64;
    assert!(len > 8 << 18, "many reads of 256 KiB");
    let about_once = len..len + len / 4;
    faults.work();
    let taken = store
        .queue_take(&place.job, &Select::all(), 3, Duration::from_secs(60), NEVER)
        .unwrap();
    let [read, written, writes, syncs] = faults.work();
    assert!(about_once.contains(&read), "{read} of {len}");
    assert_eq!(written, place.bytes().len() as u64);
    assert!(writes < 2 + written / (200 << 10), "{writes} writes");
    assert_eq!(syncs, 1);
    let tokens: Vec<_> = taken
        .into_iter()
        .map(|entry| entry.lease.unwrap().token)
        .collect();
    store.queue_nack(&place.job, &tokens[..1], NEVER).unwrap();
    assert!(about_once.contains(&faults.work()[0]));
    let settled = store.queue_ack(&place.job, &tokens[1..], NEVER).unwrap();
    assert_eq!(settled.settled, tokens[1..]);
    assert!(about_once.contains(&faults.work()[0]));
    let mut left = place.ids(&store);
    assert_eq!(left.pop().as_deref(), Some("last"));
    assert_eq!(left[0], names[0]);
    assert_eq!(left[1..], names[3..]);
}

#[test]
fn a_change_leaves_every_other_line_as_it_is() {
    let (place, names) = queue(2_000);
    let store = place.store();
    let ids: Vec<ItemId> = names.iter().map(|name| ItemId::new(name).unwrap()).collect();
    let chosen: Vec<ItemId> = ids.iter().step_by(7).cloned().collect();
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
            NEVER,
        )
        .unwrap();
    assert_eq!(taken.len(), chosen.len());
    let leased = lines();
    assert_eq!(leased.len(), before.len());
    for (at, (old, new)) in before.iter().zip(&leased).enumerate() {
        assert_eq!(old == new, at % 7 != 0, "line {at}");
    }
    assert_eq!(place.array().len(), before.len());
    let tokens: Vec<_> = taken
        .into_iter()
        .map(|entry| entry.lease.unwrap().token)
        .collect();
    store.queue_nack(&place.job, &tokens, NEVER).unwrap();
    assert_eq!(lines(), before);
    store.queue_remove(&place.job, &chosen, NEVER).unwrap();
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
        .queue_take(&place.job, &Select::all(), 5, Duration::from_secs(60), NEVER)
        .unwrap();
    let report = place.put(&store, &[&names[0], &names[30], "last"]).unwrap();
    assert_eq!((report.added, report.merged), (0, 3));
    let tokens: Vec<_> = taken
        .into_iter()
        .map(|entry| entry.lease.unwrap().token)
        .collect();
    store.queue_ack(&place.job, &tokens, NEVER).unwrap();
    let report = place.put(&store, &[&names[40]]).unwrap();
    assert_eq!((report.added, report.merged), (0, 1));
    faults.work();
    let report = place.put(&store, &[&names[0], &names[4]]).unwrap();
    assert_eq!((report.added, report.merged), (2, 0));
    assert!(faults.work()[0] < 2_000, "the file was not read to know it");
}

#[test]
fn what_ends_at_the_end_of_a_read_is_what_it_is_elsewhere() {
    const READ: usize = 256 << 10;
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = [sealed(1, "", None), sealed(2, "", None)];
    let cut = &one[..20];
    for to in READ - 60..READ + 60 {
        // The filler's separator begins at `to`.
        let filler = sealed(0, &"d".repeat(to - 2 - sealed(0, "", None).len()), None);
        let bytes = [b"[\n", &filler[..], b",\n", &one, b",\n", &two, b",\n", cut].concat();
        assert_eq!(&bytes[to..to + 2], b",\n");
        let whole = [&filler, &one, &two].map(|line| (Some(ItemChecksum::Valid), line.clone()));
        for (all, scanner) in [stepped(folder.path(), &bytes), run(folder.path(), &bytes, 9)] {
            assert!(all == whole, "{to}");
            assert_eq!(
                scanner.array().tail,
                Some((bytes.len() - cut.len()) as u64),
                "{to}"
            );
            assert!(scanner.array().plain, "{to}");
        }
        // Nothing but the filler before the cut.
        let bytes = [b"[\n", &filler[..], b",\n", cut].concat();
        let (_, scanner) = stepped(folder.path(), &bytes);
        assert_eq!(scanner.array().tail, Some(to as u64 + 2));
    }
}

#[test]
fn an_item_that_reads_otherwise_when_it_is_written_anew_is_not_given_out() {
    let (place, _) = queue(3);
    let (store, faults) = Faulty::store(&place);
    place.put(&store, &["last"]).unwrap();
    let line = place
        .bytes()
        .split(|byte| *byte == b'\n')
        .nth(1)
        .unwrap()
        .to_vec();
    faults.sound.store(1, Ordering::Relaxed);
    faults.spoilt.store(20, Ordering::Relaxed);
    let error = store
        .queue_take(&place.job, &Select::all(), 2, Duration::from_secs(60), NEVER)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    faults.spoilt.store(0, Ordering::Relaxed);
    let kept = place.quarantined().concat();
    assert_eq!(kept.len(), line.len() - 1, "without its comma");
    assert_eq!(place.ids(&store).len(), 3);
}
