//! Checks what a store returns, and what writers and repairs do, after one byte of a file was flipped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{
    AppendOptions, Batch, Body, Deadline, DocumentStore, ErrorKind, EventId, Fence, LockOptions, LockStore,
    LogStore, PutOptions, QueueStore, Select, record,
};
use prodigy_storage_file::{Doctor, DoctorScope, DoctorSummary, FileBackend, Finding, FindingSeverity};
use prodigy_storage_layout::{Document, Entry, Phase};
use prodigy_storage_sim::{Disk, SimClock, SimFs};

use super::Flip;
use crate::letters::acknowledged;

use super::store::{self, NEVER, Sample, append, item, job, lock_names, open, options};
use super::view::{Read, View};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The store returns the same data as without the flip.
    Harmless,
    /// Some data is missing or unverified, and the store reports this.
    Reported,
}

/// The undamaged store: its files, and the data that it returns.
pub struct Baseline {
    pub sample: Sample,
    view: View,
    /// Where each event is: its file and, if the file is not compressed, the byte range of its line.
    places: BTreeMap<EventId, (PathBuf, Option<std::ops::Range<usize>>)>,
}

/// Returns the formatted text as an error unless the condition is true.
macro_rules! hold {
    ($holds:expr, $($why:tt)*) => {
        if !$holds {
            return Err(format!($($why)*));
        }
    };
}

fn said<T>(result: prodigy_storage_backend::Result<T>, what: &str) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

impl Baseline {
    pub fn new() -> Self {
        let sample = store::sample();
        let fs = SimFs::with_clock(sample.disk.clone(), clock(&sample));
        let view = View::of(&open(&fs), &sample.cursor, &sample.documents).unwrap();
        assert!(
            view.told.is_empty() && view.events.iter().all(|event| event.verified),
            "{view:?}"
        );
        assert_eq!(view.documents.len(), sample.documents.len());
        assert_eq!((view.events.len(), view.after.len()), (19, 13));
        assert_eq!((view.items.len(), view.locks.len()), (5, 2));
        let (_, findings) = examine(&fs);
        assert!(findings.is_empty(), "{findings:?}");
        let places = places(&sample.disk, &view);
        Self { sample, view, places }
    }

    pub fn check(&self, flip: &Flip) -> Result<Outcome, String> {
        let mut disk = self.sample.disk.clone();
        let mut bytes = disk.read(&flip.file).unwrap().to_vec();
        bytes[flip.offset] ^= flip.mask;
        assert!(disk.write(&flip.file, bytes));
        let before = disk.content_hash();

        let fs = self.files(&disk);
        let backend = match FileBackend::open_on(fs.process(), options(&fs)) {
            Ok(backend) => backend,
            Err(error) => return self.refused(flip, &disk, &error),
        };
        let found = said(
            View::of(&backend, &self.sample.cursor, &self.sample.documents),
            "read",
        )?;
        let outcome = self.compare(flip, &found)?;
        drop(backend);
        let (_, findings) = examine(&fs);
        hold!(fs.disk().content_hash() == before, "reading changed the disk");
        if outcome == Outcome::Reported {
            let name = flip.file.to_string_lossy();
            hold!(
                findings
                    .iter()
                    .any(|finding| finding.severity >= FindingSeverity::Warning
                        && finding.place.ends_with(&*name)),
                "a reader tells of it and the doctor does not: {findings:?}"
            );
        }
        self.write(&fs, &found)?;
        self.repair(&disk, &found)?;
        Ok(outcome)
    }

    fn files(&self, disk: &Disk) -> Arc<SimFs> {
        SimFs::with_clock(disk.clone(), clock(&self.sample))
    }

    /// Checks the case that the root can't be opened. It may occur only for a flip in `format.json`. A repair must
    /// solve it, unless the file may be one of a newer version.
    fn refused(
        &self,
        flip: &Flip,
        disk: &Disk,
        error: &prodigy_storage_backend::StorageError,
    ) -> Result<Outcome, String> {
        hold!(flip.file == Entry::Format.path(), "can't be opened: {error}");
        hold!(
            error.target().ends_with("format.json"),
            "the file is not named: {error}"
        );
        let fs = self.files(disk);
        let doctor = Doctor::new_on(fs.process(), options(&fs)).unwrap();
        let repaired = doctor.repair(&DoctorScope::all(), Duration::ZERO, &mut |_| {});
        match (error.kind(), repaired) {
            (ErrorKind::NewerFormat, Err(error)) => {
                hold!(error.kind() == ErrorKind::NewerFormat, "{error}");
                hold!(
                    fs.disk().content_hash() == disk.content_hash(),
                    "a newer root was written to"
                );
            }
            (ErrorKind::Damaged, Ok(summary)) => {
                hold!(summary.damage == 1 && summary.left == 0, "{summary:?}");
                let backend = said(
                    FileBackend::open_on(fs.process(), options(&fs)),
                    "open after the repair",
                )?;
                let view = said(
                    View::of(&backend, &self.sample.cursor, &self.sample.documents),
                    "read",
                )?;
                hold!(self.compare(flip, &view)? == Outcome::Harmless, "not as it was");
            }
            (kind, repaired) => return Err(format!("{kind:?}, {repaired:?}")),
        }
        Ok(Outcome::Reported)
    }

    fn compare(&self, flip: &Flip, found: &View) -> Result<Outcome, String> {
        let base = &self.view;
        let mut reported = self.events(flip, found, &base.events, &found.events)?;
        reported |= self.events(flip, found, &base.after, &found.after)?;
        let stands_at = |document: &Document| document.path() == flip.file;
        for (document, stored) in &base.documents {
            let given = found.documents.get(document);
            hold!(
                given.is_none_or(|given| given == stored),
                "{document:?} is another one"
            );
            if given.is_none() {
                hold!(
                    stands_at(document) && found.tells_of(&flip.file),
                    "{document:?} is lost"
                );
                reported = true;
            }
            // The revision is read from the first bytes only. So it may be wrong, but only if the document itself is
            // found to be damaged.
            let revision = found.revisions.get(document);
            hold!(
                given.is_none() || revision == base.revisions.get(document),
                "the revision of {document:?} is another one"
            );
        }
        hold!(found.listed == base.listed, "other documents are listed");
        hold!(
            found.repos == base.repos && found.jobs == base.jobs,
            "other names"
        );
        let in_journal = flip.file == Entry::QueueJournal(job()).path();
        for (id, stored) in &base.items {
            let given = found.items.get(id);
            // If the record of a change is damaged, the change has no effect.
            let unchanged = in_journal && found.tells_of(&flip.file);
            hold!(
                unchanged || given.is_none_or(|given| given == stored),
                "item {id} is another one"
            );
            if given.is_none() {
                let line = self.item_line(id);
                hold!(
                    flip.file == Entry::Queue(job()).path() && line.contains(&flip.offset),
                    "item {id} is lost"
                );
                hold!(found.tells_of(&flip.file), "item {id} is lost and nobody tells");
            }
        }
        let is_known = |id: &String| {
            // The record that removed this item may be the damaged one.
            base.items.contains_key(id) || (id == "item-5" && in_journal && found.tells_of(&flip.file))
        };
        hold!(found.items.keys().all(is_known), "an item that never was");
        for (name, stored) in &base.locks {
            let Some(given) = found.locks.get(name) else {
                return Err(format!("lock {name} is lost"));
            };
            let mut given = given.clone();
            if flip.file.ends_with("format.json") {
                // The name of the store can't be read, so its locks seem to belong to another store.
                given.origin = stored.origin;
            }
            if given != *stored {
                hold!(given.suspect, "lock {name} is another one: {given:?}");
                reported = true;
            }
        }
        reported |= !found.told.is_empty();
        let elsewhere = found
            .told
            .iter()
            .find(|(place, ..)| !place.ends_with(&*flip.file.to_string_lossy()));
        hold!(elsewhere.is_none(), "told of another file: {elsewhere:?}");
        Ok(if reported {
            Outcome::Reported
        } else {
            Outcome::Harmless
        })
    }

    /// Compares the returned events. Returns true if the store reported or did not verify one of them.
    fn events(&self, flip: &Flip, found: &View, base: &[Read], given: &[Read]) -> Result<bool, String> {
        let mut reported = false;
        let mut rest = given.iter().peekable();
        for stored in base {
            if let Some(read) = rest.next_if(|read| read.id == stored.id) {
                hold!(
                    read.line.starts_with(stored.text()),
                    "event {} is another one",
                    stored.id
                );
                reported |= !read.verified;
                continue;
            }
            let (file, line) = &self.places[&stored.id];
            hold!(
                *file == flip.file,
                "event {} of {} is lost",
                stored.id,
                file.display()
            );
            if let Some(line) = line {
                hold!(
                    line.contains(&flip.offset),
                    "event {} is lost, which is a neighbour",
                    stored.id
                );
            }
            hold!(
                found.tells_of(file),
                "event {} is lost and nobody tells",
                stored.id
            );
            reported = true;
        }
        hold!(
            rest.peek().is_none(),
            "an event out of its place: {:?}",
            rest.peek()
        );
        Ok(reported)
    }

    fn item_line(&self, id: &str) -> std::ops::Range<usize> {
        let bytes = self.sample.disk.read(Entry::Queue(job()).path()).unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        let start = text.find(&format!("{{\"item_id\":\"{id}\"")).unwrap();
        start..start + text[start..].find('\n').unwrap()
    }

    /// Checks that a new writer loses no data that was readable before.
    fn write(&self, fs: &Arc<SimFs>, before: &View) -> Result<(), String> {
        let backend = open(fs);
        said(append(&backend, 100), "append")?;
        let again = self.view.events[5].id;
        let mut batch = Batch::new();
        said(batch.push(&serde_json::json!({"n": "again"})), "batch")?;
        batch.set_ids([again]);
        said(
            backend.append(&job(), &mut batch, &AppendOptions::default(), NEVER()),
            "append again",
        )?;
        said(
            backend.queue_put(
                &job(),
                &[item("new"), item("item-4")],
                Default::default(),
                None,
                NEVER(),
            ),
            "push",
        )?;
        let taken = said(
            backend.queue_take(
                &job(),
                &Select::eligible(),
                1,
                Duration::from_secs(60),
                None,
                NEVER(),
            ),
            "take",
        )?;
        let tokens: Vec<_> = taken
            .iter()
            .filter_map(|entry| Some(entry.lease.clone()?.token))
            .collect();
        hold!(tokens.len() == 1, "nothing is to be taken");
        let done: Vec<_> = tokens.iter().map(acknowledged).collect();
        said(backend.queue_settle(&job(), &done, None, NEVER()), "ack")?;
        let fenced = PutOptions::default().fencing(Fence::unnamed(1).ok());
        said(
            backend.add(
                &job(),
                Phase::Map,
                Body::parse(b"{\"data\":9}").unwrap(),
                &fenced,
                NEVER(),
            ),
            "add",
        )?;
        for name in &lock_names() {
            let given = self.view.locks[&name.to_string()].fencing;
            let guard = said(backend.lock(name, &LockOptions::new("after"), NEVER()), "lock")?;
            hold!(
                guard.fencing() > given,
                "token {} again, {given} was given",
                guard.fencing()
            );
            let second = open(fs).lock(name, &LockOptions::new("second"), Deadline::after(Duration::ZERO));
            hold!(
                second.is_err_and(|error| error.kind() == ErrorKind::LockUnavailable),
                "two hold one lock"
            );
        }
        drop(backend);
        let reader = open(fs);
        let after = said(
            View::of(&reader, &self.sample.cursor, &self.sample.documents),
            "read after writing",
        )?;
        kept(before, &after, taken.first().map(|entry| entry.id.as_str()))?;
        let new = after.events.len() - before.events.len();
        let was_lost = before.events.iter().all(|read| read.id != again);
        hold!(new == 1 + usize::from(was_lost), "{new} events more");
        let unique: BTreeSet<_> = after.events.iter().map(|read| read.id).collect();
        hold!(unique.len() == after.events.len(), "an event twice");
        Ok(())
    }

    /// Checks that after a repair no damage is left, and no data is lost that was readable before.
    fn repair(&self, disk: &Disk, before: &View) -> Result<(), String> {
        let fs = self.files(disk);
        let doctor = Doctor::new_on(fs.process(), options(&fs)).unwrap();
        let mut findings = Vec::new();
        let summary = said(
            doctor.repair(&DoctorScope::all(), Duration::ZERO, &mut |finding| {
                findings.push(finding);
            }),
            "repair",
        )?;
        hold!(summary.left == 0, "left by a repair: {findings:?}");
        let (again, second) = examine(&fs);
        hold!(again.damage == 0, "damage after a repair: {second:?}");
        let backend = open(&fs);
        let after = said(
            View::of(&backend, &self.sample.cursor, &self.sample.documents),
            "read repaired",
        )?;
        hold!(after.told.is_empty(), "told after a repair: {:?}", after.told);
        kept(before, &after, None)?;
        hold!(
            after.events.len() == before.events.len(),
            "events more than before the repair"
        );
        hold!(
            after.after.len() == before.after.len(),
            "the cursor gives others than before the repair"
        );
        let sealed = |disk: &Disk| {
            let files = disk.files().into_iter();
            let sealed: BTreeSet<_> = files
                .filter(|file| {
                    file.starts_with("events") && disk.metadata(file).is_some_and(|found| found.is_sealed())
                })
                .map(|file| file.file_name().unwrap().to_string_lossy()[..35].to_owned())
                .collect();
            sealed
        };
        hold!(
            sealed(disk) == sealed(&fs.disk()),
            "what was sealed is not, or the other way"
        );
        said(append(&backend, 101), "append to what was repaired")?;
        Ok(())
    }
}

/// Checks that the store still returns everything that it returned before, except the item `gone`, if any.
fn kept(before: &View, after: &View, gone: Option<&str>) -> Result<(), String> {
    for (what, before, after) in [
        ("event", &before.events, &after.events),
        ("event after the cursor", &before.after, &after.after),
    ] {
        for read in before {
            let found = after
                .iter()
                .filter(|found| found.id == read.id)
                .collect::<Vec<_>>();
            hold!(
                found.len() == 1,
                "{what} {} is given {} times",
                read.id,
                found.len()
            );
            hold!(found[0].line == read.line, "{what} {} is another one", read.id);
        }
    }
    for id in before.items.keys() {
        hold!(
            after.items.contains_key(id) || gone == Some(id),
            "item {id} is lost"
        );
    }
    for (document, stored) in &before.documents {
        // The document must be unchanged.
        let found = after.documents.get(document);
        hold!(found == Some(stored), "{document:?} is lost");
    }
    Ok(())
}

fn clock(sample: &Sample) -> Arc<SimClock> {
    Arc::new(SimClock::at(sample.clock.shown()))
}

fn examine(fs: &Arc<SimFs>) -> (DoctorSummary, Vec<Finding>) {
    let doctor = Doctor::new_on(fs.process(), options(fs)).unwrap();
    let mut findings = Vec::new();
    let summary = doctor
        .examine(&DoctorScope::all(), &mut |finding| findings.push(finding))
        .unwrap();
    (summary, findings)
}

/// The file of each event, and the byte range of its line if the file is plain.
fn places(disk: &Disk, view: &View) -> BTreeMap<EventId, (PathBuf, Option<std::ops::Range<usize>>)> {
    let mut places = BTreeMap::new();
    for file in disk.files().into_iter().filter(|file| file.starts_with("events")) {
        let bytes = disk.read(&file).unwrap();
        let name = file.to_string_lossy().into_owned();
        let (text, plain) = if name.ends_with(".zst") {
            (zstd::decode_all(bytes.as_slice()).unwrap(), false)
        } else if name.ends_with(".gz") {
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(bytes.as_slice()), &mut text)
                .unwrap();
            (text, false)
        } else {
            (bytes.to_vec(), true)
        };
        let mut start = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let end = start + line.len() - 1;
            let record = record::read_line(&text[start..end]).unwrap();
            places.insert(
                record.id,
                (Path::new(&name).to_owned(), plain.then_some(start..end)),
            );
            start = end + 1;
        }
    }
    assert_eq!(places.len(), view.events.len());
    let kinds = ["jsonl", "zst", "gz"].map(|end| {
        let files: BTreeSet<_> = places.values().map(|(file, _)| file).collect();
        files
            .into_iter()
            .filter(|file| file.extension().is_some_and(|found| found == end))
            .count()
    });
    assert!(
        kinds[0] >= 4 && kinds[1] == 1 && kinds[2] == 1,
        "{kinds:?} {:?}",
        disk.files()
    );
    places
}
