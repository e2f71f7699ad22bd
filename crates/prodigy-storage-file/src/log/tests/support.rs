use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use prodigy_storage_backend::record::RecordEncoder;
use prodigy_storage_backend::{
    AppendOptions, Appended, Batch, Clock, Cursor, Damage, Deadline, Durability, EventId, Result, Scan,
    ScanItem, ScanOptions, SystemClock, TooLarge, Uptime,
};
use prodigy_storage_layout::{JobAddress, JobId, RepoName, SegmentForm, SegmentName, Timestamp};
use serde_json::Value;
use tempfile::TempDir;

use super::tape::{Reel, Tape};
use crate::FileOptions;
use crate::doctor::{Doctor, DoctorScope, Finding, FindingSeverity};
use crate::fs::RealFs;
use crate::log::Logs;

pub(super) const NEVER: Deadline = Deadline::never();
pub(super) const START: i64 = 1_800_000_000_000_000_000;

/// A clock that is set by the test.
#[derive(Debug)]
pub(super) struct Hand(AtomicI64);

impl Hand {
    /// Creates a clock that shows this number of milliseconds after the start of the tests' time.
    pub(super) fn at(millis: i64) -> Self {
        Self(AtomicI64::new(START + millis * 1_000_000))
    }

    pub(super) fn turn(&self, millis: i64) {
        self.0.fetch_add(millis * 1_000_000, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn uptime(&self) -> Uptime {
        SystemClock.uptime()
    }
}

/// A temporary root, and a job whose log is tested.
pub(super) struct Place {
    pub(super) folder: TempDir,
    pub(super) clock: Arc<Hand>,
    pub(super) job: JobAddress,
}

impl Place {
    pub(super) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(Hand(AtomicI64::new(START))),
            job: job("j"),
        }
    }

    pub(super) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub(super) fn options(&self) -> FileOptions {
        FileOptions::new(self.root()).clock(self.clock.clone())
    }

    /// Opens the store as another process would.
    pub(super) fn store(&self) -> Arc<Logs> {
        self.with(self.options())
    }

    pub(super) fn with(&self, options: FileOptions) -> Arc<Logs> {
        Arc::new(Logs::new(crate::root::Root::new(
            Arc::new(RealFs::new(self.root())),
            options,
        )))
    }

    pub(super) fn taped(&self, options: FileOptions) -> (Arc<Logs>, Arc<Reel>) {
        let (tape, reel) = Tape::new(&self.root());
        (
            Arc::new(Logs::new(crate::root::Root::new(Arc::new(tape), options))),
            reel,
        )
    }

    /// Opens the store on a file system whose syncs do nothing.
    pub(super) fn quick(&self, options: FileOptions) -> Arc<Logs> {
        let (store, reel) = self.taped(options);
        reel.quick.store(true, Ordering::Relaxed);
        store
    }

    pub(super) fn log(&self) -> PathBuf {
        self.root().join("events/shop/j")
    }

    /// The names of the files in the log's folder, sorted.
    pub(super) fn files(&self) -> Vec<String> {
        let Ok(folder) = std::fs::read_dir(self.log()) else {
            return Vec::new();
        };
        let mut names: Vec<String> = folder
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The path of the log's only segment, in plain form.
    pub(super) fn only(&self) -> PathBuf {
        let files = self.files();
        assert_eq!(files.len(), 1, "{files:?}");
        self.log().join(&files[0])
    }

    pub(super) fn quarantined(&self) -> Vec<Vec<u8>> {
        let Ok(folder) = std::fs::read_dir(self.root().join("quarantine")) else {
            return Vec::new();
        };
        folder
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect()
    }

    pub(super) fn append(&self, store: &Arc<Logs>, payloads: &[&str]) -> Result<Appended> {
        let mut batch = batch(payloads);
        store.append(&self.job, &mut batch, &AppendOptions::default(), NEVER)
    }

    pub(super) fn relaxed(&self, store: &Arc<Logs>, payloads: &[&str]) -> Result<Appended> {
        let mut batch = batch(payloads);
        let options = AppendOptions::new(Durability::Relaxed);
        store.append(&self.job, &mut batch, &options, NEVER)
    }

    pub(super) fn give(&self, store: &Arc<Logs>, events: &[(EventId, &str)]) -> Result<Appended> {
        let payloads: Vec<&str> = events.iter().map(|(_, payload)| *payload).collect();
        let mut batch = batch(&payloads);
        batch.set_ids(events.iter().map(|(id, _)| *id));
        store.append(&self.job, &mut batch, &AppendOptions::default(), NEVER)
    }

    pub(super) fn scan(&self, store: &Arc<Logs>, options: &ScanOptions) -> Box<dyn Scan> {
        store.scan(&self.job, options, NEVER).unwrap()
    }

    pub(super) fn items(&self, store: &Arc<Logs>) -> Vec<Item> {
        drain(&mut *self.scan(store, &ScanOptions::all()))
    }

    pub(super) fn payloads(&self, store: &Arc<Logs>) -> Vec<String> {
        payloads(&self.items(store))
    }

    /// Reads the events after `cursor`. Returns them, and the cursor after the last one.
    pub(super) fn after(&self, store: &Arc<Logs>, cursor: Option<Cursor>) -> (Vec<Item>, Cursor) {
        let options = cursor.map_or_else(ScanOptions::all, ScanOptions::after);
        let mut scan = self.scan(store, &options);
        let items = drain(&mut *scan);
        (items, scan.cursor())
    }

    /// The severities of the doctor's findings about places with this text.
    pub(super) fn findings(&self, text: &str, repair: bool) -> Vec<FindingSeverity> {
        let (doctor, mut severities) = (Doctor::new(self.options()).unwrap(), Vec::new());
        let note = &mut |finding: Finding| {
            if finding.place.contains(text) {
                severities.push(finding.severity);
            }
        };
        let done = match repair {
            true => doctor.repair(&DoctorScope::all(), std::time::Duration::ZERO, note),
            false => doctor.examine(&DoctorScope::all(), note),
        };
        done.unwrap();
        severities
    }

    pub(super) fn seal(&self, store: &Arc<Logs>) {
        store.seal(&self.job, NEVER).unwrap();
    }

    /// Writes a segment file, without the code under test.
    pub(super) fn plant(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        std::fs::create_dir_all(self.log()).unwrap();
        let path = self.log().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

pub(super) fn job(name: &str) -> JobAddress {
    JobAddress::new(RepoName::new("shop").unwrap(), JobId::new(name).unwrap())
}

pub(super) fn batch(payloads: &[&str]) -> Batch {
    let mut batch = Batch::new();
    for payload in payloads {
        batch.push(payload).unwrap();
    }
    batch
}

/// An item that a scan returned.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    Event {
        id: EventId,
        payload: String,
        verified: bool,
    },
    Damage(Damage),
    TooLarge(TooLarge),
}

pub(super) fn take(scan: &mut dyn Scan) -> Result<Option<Item>> {
    Ok(scan.next()?.map(|item| match item {
        ScanItem::Record(record) => {
            let line: Value = serde_json::from_str(record.line).unwrap();
            Item::Event {
                id: record.id,
                payload: line["event"]
                    .as_str()
                    .map_or_else(|| line["event"].to_string(), str::to_owned),
                verified: record.verified,
            }
        }
        ScanItem::Damage(damage) => Item::Damage(damage),
        ScanItem::TooLarge(record) => Item::TooLarge(record),
    }))
}

pub(super) fn drain(scan: &mut dyn Scan) -> Vec<Item> {
    std::iter::from_fn(|| take(scan).unwrap()).collect()
}

pub(super) fn payloads(items: &[Item]) -> Vec<String> {
    let payloads = items.iter().filter_map(|item| match item {
        Item::Event { payload, .. } => Some(payload.clone()),
        Item::Damage(_) | Item::TooLarge(_) => None,
    });
    payloads.collect()
}

pub(super) fn ids(items: &[Item]) -> Vec<EventId> {
    let ids = items.iter().filter_map(|item| match item {
        Item::Event { id, .. } => Some(*id),
        Item::Damage(_) | Item::TooLarge(_) => None,
    });
    ids.collect()
}

pub(super) fn damage(items: &[Item]) -> Vec<Damage> {
    let damage = items.iter().filter_map(|item| match item {
        Item::Damage(damage) => Some(damage.clone()),
        Item::Event { .. } | Item::TooLarge(_) => None,
    });
    damage.collect()
}

/// The smallest id of the time `millis` milliseconds after the start.
pub(super) fn id(millis: i64) -> EventId {
    EventId::floor(at(millis))
}

pub(super) fn at(millis: i64) -> Timestamp {
    Timestamp::from_nanos(START + millis * 1_000_000)
}

/// The line of a segment for an event with this id and payload.
pub(super) fn line(id: EventId, payload: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let body = format!(",\"event\":{}", Value::from(payload));
    RecordEncoder::new().encode(&mut out, id, id.time(), body.as_bytes());
    out.push(b'\n');
    out
}

/// The lines of a segment for these events.
pub(super) fn lines<'a>(events: impl IntoIterator<Item = (EventId, &'a str)>) -> Vec<u8> {
    events
        .into_iter()
        .flat_map(|(id, payload)| line(id, payload))
        .collect()
}

/// The file name of a segment that was created at `made` and whose ids are not below `lower`, both in milliseconds
/// after the start.
pub(super) fn name(lower: i64, made: i64) -> String {
    SegmentName::new(at(lower), at(made)).file_name(SegmentForm::Plain)
}

/// Writes sealed segments, each with one event.
pub(super) fn sealed(place: &Place, numbers: impl IntoIterator<Item = i64>) {
    for number in numbers {
        set_mode(&place.plant(&name(number, number), line(id(number), "x")), 0o400);
    }
}

pub(super) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

pub(super) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
