//! A store on the real file system with planted files.

use std::path::PathBuf;

use prodigy_storage_backend::record::RecordEncoder;
use prodigy_storage_backend::{
    AppendOptions, Batch, Catalog, Cursor, Deadline, EventId, ForeignKind, LogStore, QueueStep, QueueStore,
    Result, ScanItem, ScanOptions, Select, Stats,
};
use prodigy_storage_file::{FileBackend, FileOptions};
use prodigy_storage_layout::{Document, Entry, JobAddress, JobId, RepoName, SegmentName, Timestamp};
use serde_json::value::RawValue;
use tempfile::TempDir;

pub(crate) const NEVER: Deadline = Deadline::never();
pub(crate) const PLAIN: &str = "events-20270115T080000.000000000Z.jsonl";
/// The time in the name of the segment.
const BEGAN: i64 = 1_800_000_000_000_000_000;

pub(crate) struct Store {
    folder: TempDir,
    pub(crate) job: JobAddress,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            job: JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("job-1").unwrap()),
        }
    }

    pub(crate) fn options(&self) -> FileOptions {
        FileOptions::new(self.folder.path().canonicalize().unwrap())
    }

    pub(crate) fn backend(&self) -> FileBackend {
        FileBackend::open(self.options()).unwrap()
    }

    pub(crate) fn path(&self, entry: &Entry) -> PathBuf {
        self.folder.path().join(entry.path())
    }

    fn put(&self, entry: &Entry, bytes: &[u8]) -> PathBuf {
        let path = self.path(entry);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A store with a segment of these bytes.
    pub(crate) fn segment(name: &str, bytes: &[u8]) -> (Self, PathBuf) {
        let store = Self::new();
        let (name, form) = SegmentName::parse(name).unwrap();
        let path = store.put(&Entry::Segment(store.job.clone(), name, form), bytes);
        (store, path)
    }

    /// A store with a dead-letter file of these bytes.
    pub(crate) fn queue(bytes: &[u8]) -> Self {
        let store = Self::new();
        store.put(&Entry::Queue(store.job.clone()), bytes);
        store
    }

    /// A store with a checkpoint of these bytes.
    pub(crate) fn checkpoint(bytes: &[u8]) -> (Self, Document) {
        let store = Self::new();
        let document = Document::Setup(store.job.clone());
        store.put(&Entry::Document(document.clone()), bytes);
        (store, document)
    }

    /// The steps of a scan, each as a short text.
    pub(crate) fn events(&self, from: Option<Cursor>) -> Result<Vec<String>> {
        let options = from.map_or_else(ScanOptions::all, ScanOptions::after);
        let mut scan = self.backend().scan(&self.job, &options, NEVER)?;
        let mut told = Vec::new();
        while let Some(step) = scan.next()? {
            told.push(match step {
                ScanItem::Record(record) if record.verified => "verified".to_owned(),
                ScanItem::Record(_) => "unverified".to_owned(),
                ScanItem::Damage(damage) => format!("{}: {}", damage.len, damage.why),
                ScanItem::TooLarge(record) => record.to_string(),
            });
        }
        Ok(told)
    }

    /// The steps of a scan of the dead letters, each as a short text, and the number of skipped elements of other
    /// programs.
    pub(crate) fn items(&self) -> Vec<String> {
        let backend = self.backend();
        let steps = backend.queue_scan(&self.job, &Select::any(), NEVER).unwrap();
        let steps = steps.map(|step| match step.unwrap() {
            QueueStep::Entry(entry) if entry.verified => format!("verified {}", entry.id),
            QueueStep::Entry(entry) => format!("unverified {}", entry.id),
            QueueStep::Damage(damage) => format!("{}: {}", damage.len, damage.why),
            QueueStep::TooLarge(item) => item.to_string(),
        });
        let mut told: Vec<String> = steps.collect();
        let mut stats = Stats::default();
        backend.stats(&mut stats);
        match stats.get(ForeignKind::DeadLetters.counter()) {
            0 => {}
            count => told.push(format!("skipped {count}")),
        }
        told
    }

    pub(crate) fn append(&self, payload: &str) -> Result<EventId> {
        let mut batch = Batch::new();
        batch.push(&raw(payload))?;
        self.backend()
            .append(&self.job, &mut batch, &AppendOptions::default(), NEVER)?;
        Ok(batch.ids()[0])
    }
}

pub(crate) fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

/// A record as this project writes it, with its line end.
pub(crate) fn record(number: i64) -> Vec<u8> {
    let id = EventId::floor(Timestamp::from_nanos(BEGAN + number * 1_000_000));
    let mut out = Vec::new();
    RecordEncoder::new().encode(&mut out, id, id.time(), format!(",\"event\":{number}").as_bytes());
    out.push(b'\n');
    out
}

/// A line of another program.
pub(crate) fn foreign(event: &str) -> String {
    format!("{{\"id\":\"6f1c1f5e-7c1a-4a53-9d2e-0a3b1c2d3e4f\",\"event\":{event}}}\n")
}
