//! A log of one or two segments with arbitrary bytes: reading it, continuing at a cursor, and writing to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use prodigy_storage_backend::{
    AppendOptions, Batch, Catalog, Durability, ErrorKind, EventId, LogStore, ScanOptions,
};
use prodigy_storage_layout::{Entry, SegmentName};

use crate::oracle;
use crate::place::{NEVER, Place, Step, job, scan, steps};
use crate::shape::{parts, resealed};

/// Possible names of segments: of this project, of other programs, and with the greatest possible time.
const NAMES: [&str; 4] = [
    "events-20261124T223427.852327461Z.jsonl",
    "events-20251115_073606.jsonl",
    "events-20261124T223427.852327462Z-20261124T223428.000000000Z.jsonl",
    "events-22620411T234716.854775807Z.jsonl",
];
const MODES: [u32; 4] = [0o600, 0o400, 0o700, 0o600];

/// Input: a byte of choices, then one or two segments; the first byte of each chooses its name and its mode.
pub fn segment(bytes: &[u8]) {
    let Some((&choices, rest)) = bytes.split_first() else {
        return;
    };
    let mut files = BTreeMap::new();
    for part in parts(rest).into_iter().take(2) {
        let Some((&kind, part)) = part.split_first() else {
            continue;
        };
        let bytes = if choices & 1 == 1 {
            resealed(part)
        } else {
            part.to_vec()
        };
        let (name, form) = SegmentName::parse(NAMES[usize::from(kind & 3)]).unwrap();
        let path = Entry::Segment(job(), name, form).path();
        files.insert(path, (bytes, MODES[usize::from(kind >> 2 & 3)]));
    }
    check(choices, &files);
}

fn check(choices: u8, files: &BTreeMap<PathBuf, (Vec<u8>, u32)>) {
    let place = Place::new(
        files
            .iter()
            .map(|(path, (bytes, mode))| (path.clone(), bytes.as_slice(), *mode)),
    );
    let before = reading(&place, files);
    continuing(&place, &before, usize::from(choices >> 4));
    let ends_time = files.keys().any(|path| path.ends_with(NAMES[3]));
    writing(&place, choices, &before, ends_time);
}

/// Checks that every returned event is in the files, and that no file was changed.
fn reading(place: &Place, files: &BTreeMap<PathBuf, (Vec<u8>, u32)>) -> Vec<Step> {
    let hash = place.hash();
    let given = steps(&place.reader());
    assert_eq!(given, steps(&place.reader()), "the same bytes say the same");
    assert_eq!(hash, place.hash(), "reading changes nothing");
    let mut told = 0;
    for step in &given {
        match step {
            Step::Record { line, verified, .. } => {
                assert_eq!(oracle::is_sealed(line.as_bytes()), *verified);
                assert!(stands(files, line.as_bytes()), "the line is in a file: {line:?}");
                told += line.len();
            }
            Step::Damage(damage) => {
                let end = usize::try_from(damage.offset + damage.len).unwrap();
                let (_, (bytes, _)) = files
                    .iter()
                    .find(|(path, _)| damage.place.ends_with(path.to_str().unwrap()))
                    .unwrap();
                assert!(
                    damage.len > 0 && end <= bytes.len(),
                    "{damage} of {} bytes",
                    bytes.len()
                );
                told += end - usize::try_from(damage.offset).unwrap();
            }
        }
    }
    assert!(
        told <= files.values().map(|(bytes, _)| bytes.len()).sum(),
        "no byte is told twice"
    );
    given
}

fn stands(files: &BTreeMap<PathBuf, (Vec<u8>, u32)>, line: &[u8]) -> bool {
    let within = |bytes: &[u8]| line.is_empty() || bytes.windows(line.len()).any(|window| window == line);
    files.values().any(|(bytes, _)| within(bytes))
}

/// Checks that reading from the cursor after step `at` returns the remaining steps, and no event twice.
fn continuing(place: &Place, given: &[Step], at: usize) {
    let reader = place.reader();
    let with_cursors = scan(&reader, &ScanOptions::all()).unwrap();
    let Some((_, cursor)) = with_cursors.get(at) else {
        return;
    };
    let rest = scan(&reader, &ScanOptions::after(cursor.clone())).unwrap();
    // Only if ids ascend, as in every segment of this project, must the events match exactly. Otherwise a reader may
    // return older events twice or only once.
    let ids: Vec<_> = given.iter().filter_map(Step::id).collect();
    let ascending = ids.is_sorted_by(|one, other| one < other) && ids.iter().all(|id| id.is_v7());
    let known: BTreeSet<_> = ids.iter().copied().collect();
    let rest: Vec<_> = rest.into_iter().map(|(step, _)| step).collect();
    assert!(rest.iter().filter_map(Step::id).all(|id| known.contains(&id)));
    if ascending {
        let records = |steps: &[Step]| {
            steps
                .iter()
                .filter(|step| step.id().is_some())
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(records(&rest), records(&given[at + 1..]), "it goes on exactly");
    }
}

/// Appends an event. Checks that readable data is kept and that the new event can be read.
fn writing(place: &Place, choices: u8, before: &[Step], ends_time: bool) {
    let options = place
        .options()
        .file_locks(choices & 2 == 0)
        .compression(choices & 4 == 4);
    let writer = place.open(options);
    let strict = AppendOptions::new(Durability::Strict);
    let mut batch = Batch::new();
    batch.push("new").unwrap();
    let appended = writer.append(&place.job, &mut batch, &strict, NEVER);
    let new = batch.ids().first().copied();
    if let Err(error) = &appended {
        // An append fails only if the log has an id or a segment name with the greatest possible time.
        let spent = before
            .iter()
            .filter_map(Step::id)
            .any(|id| id.as_u128() >> 80 == (1 << 48) - 1);
        assert!(
            error.kind() == ErrorKind::Damaged && (spent || ends_time),
            "{error}"
        );
    }
    // A record with a checksum is stored once, even if an append brings its id again.
    let known = before
        .iter()
        .filter(|step| step.is_verified())
        .find_map(Step::id)
        .filter(|id| id.is_v7());
    if let Some(known) = known {
        let mut again = Batch::new();
        again.push("again").unwrap();
        again.set_ids([known]);
        let _ = writer.append(&place.job, &mut again, &strict, NEVER);
    }
    let _ = writer.flush(NEVER);
    drop(writer);
    let after = steps(&place.reader());
    let verified: BTreeSet<EventId> = after
        .iter()
        .filter(|step| step.is_verified())
        .filter_map(Step::id)
        .collect();
    for step in before.iter().filter(|step| step.is_verified()) {
        assert!(verified.contains(&step.id().unwrap()), "lost: {step:?}");
    }
    if appended.is_ok() {
        let times = after.iter().filter(|step| step.id() == new).count();
        assert_eq!(times, 1, "what was acknowledged is read once");
    }
}
