//! A backend that keeps documents in memory, fails when it is told to, and tells what it was asked.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use prodigy_storage_backend::{
    Added, AppendOptions, Appended, Backend, Batch, Body, Capabilities, Cursor, Deadline, DocumentEntry,
    Durability, ErrorKind, Expected, Health, ItemId, LeaseToken, LockGuard, LockInfo, LockOptions,
    LogSummary, PutOptions, PutReport, QueueEntry, QueueItem, QueueScan, Result, Revision, Scan, ScanItem,
    ScanOptions, Select, Settled, Stats, StorageError, StoredDocument, Usage,
};
use prodigy_storage_layout::{
    Document, DocumentScope, JobAddress, JobId, LockName, Phase, RepoName, SessionId, Stamp, Timestamp,
};

type Faults = Box<dyn FnMut(&'static str) -> Option<ErrorKind> + Send>;
type Hook = Box<dyn Fn(&'static str) + Send + Sync>;

pub struct Fake {
    faults: Mutex<Faults>,
    during: Hook,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    documents: BTreeMap<Document, (Vec<u8>, Revision)>,
    calls: Vec<&'static str>,
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

impl Fake {
    pub fn new() -> Self {
        Self::with_hook(|_| None, |_| {})
    }

    /// A backend that fails when `faults` says so.
    pub fn failing(faults: impl FnMut(&'static str) -> Option<ErrorKind> + Send + 'static) -> Self {
        Self::with_hook(faults, |_| {})
    }

    /// A backend that does `during` in the middle of each call.
    pub fn with_hook(
        faults: impl FnMut(&'static str) -> Option<ErrorKind> + Send + 'static,
        during: impl Fn(&'static str) + Send + Sync + 'static,
    ) -> Self {
        Self {
            faults: Mutex::new(Box::new(faults)),
            during: Box::new(during),
            state: Mutex::default(),
        }
    }

    pub fn calls(&self) -> Vec<&'static str> {
        self.state.lock().unwrap().calls.clone()
    }

    pub fn count(&self, call: &str) -> usize {
        self.calls().iter().filter(|other| **other == call).count()
    }

    fn store_document(&self, document: &Document, body: Body<'_>, options: &PutOptions) -> Result<Revision> {
        let mut state = self.state.lock().unwrap();
        let stored = state.documents.get(document).map(|(_, revision)| *revision);
        let holds = match options.expected {
            Expected::Any => true,
            Expected::Absent => stored.is_none(),
            Expected::Revision(revision) => stored == Some(revision),
        };
        if !holds {
            return Err(StorageError::new(
                ErrorKind::Conflict,
                "put",
                "",
                "another revision",
            ));
        }
        let revision = Revision::random();
        state
            .documents
            .insert(document.clone(), (body.as_bytes().to_vec(), revision));
        Ok(revision)
    }

    fn begin(&self, call: &'static str) -> Result<()> {
        self.state.lock().unwrap().calls.push(call);
        (self.during)(call);
        match (self.faults.lock().unwrap())(call) {
            None => Ok(()),
            Some(kind) => Err(StorageError::new(kind, call, "", "told to fail")),
        }
    }
}

pub fn settled<K: Clone>(keys: &[K]) -> Settled<K> {
    Settled {
        settled: keys.to_vec(),
        unknown: Vec::new(),
    }
}

#[deny(clippy::missing_trait_methods)]
impl Backend for Fake {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new("fake")
    }

    fn append(&self, _: &JobAddress, batch: &mut Batch, _: &AppendOptions, _: Deadline) -> Result<Appended> {
        self.begin("append").map(|()| Appended {
            stored: batch.len(),
            duplicates: 0,
        })
    }

    fn scan(&self, _: &JobAddress, _: &ScanOptions, _: Deadline) -> Result<Box<dyn Scan>> {
        self.begin("scan").map(|()| Box::new(Empty) as Box<dyn Scan>)
    }

    fn log_summary(&self, _: &JobAddress, _: Deadline) -> Result<LogSummary> {
        self.begin("log_summary").map(|()| LogSummary {
            segments: 7,
            ..LogSummary::default()
        })
    }

    fn seal(&self, _: &JobAddress, _: Deadline) -> Result<()> {
        self.begin("seal")
    }

    fn get(&self, document: &Document, _: Deadline) -> Result<Option<StoredDocument>> {
        self.begin("get")?;
        let state = self.state.lock().unwrap();
        Ok(state
            .documents
            .get(document)
            .map(|(body, revision)| StoredDocument::new(body.clone(), 0, *revision, true)))
    }

    fn revision(&self, document: &Document, _: Deadline) -> Result<Option<Revision>> {
        self.begin("revision")?;
        Ok(self
            .state
            .lock()
            .unwrap()
            .documents
            .get(document)
            .map(|(_, revision)| *revision))
    }

    fn put(
        &self,
        document: &Document,
        body: Body<'_>,
        options: &PutOptions,
        _: Deadline,
    ) -> Result<Revision> {
        self.begin("put")?;
        self.store_document(document, body, options)
    }

    fn add(
        &self,
        job: &JobAddress,
        phase: Phase,
        body: Body<'_>,
        options: &PutOptions,
        _: Deadline,
    ) -> Result<Added> {
        self.begin("add")?;
        let document = Document::checkpoint(job, phase, Stamp::from(Timestamp::from_millis(1)));
        let revision = self.store_document(&document, body, options)?;
        Ok(Added { document, revision })
    }

    fn delete(&self, document: &Document, _: Expected, _: Durability, _: Deadline) -> Result<bool> {
        self.begin("delete")?;
        Ok(self.state.lock().unwrap().documents.remove(document).is_some())
    }

    fn list(&self, _: &DocumentScope, _: Deadline) -> Result<Vec<DocumentEntry>> {
        self.begin("list")?;
        let state = self.state.lock().unwrap();
        let entry = |document: &Document| DocumentEntry::new(document.clone(), 2, Timestamp::from_millis(1));
        Ok(state.documents.keys().map(entry).collect())
    }

    fn newest(
        &self,
        job: &JobAddress,
        phase: Phase,
        _: Option<&Document>,
        _: Deadline,
    ) -> Result<Option<DocumentEntry>> {
        self.begin("newest")?;
        let state = self.state.lock().unwrap();
        let of_series = |document: &&Document| document.job() == Some(job) && document.phase() == Some(phase);
        let newest = state.documents.keys().rfind(of_series);
        Ok(newest.map(|document| DocumentEntry::new(document.clone(), 2, Timestamp::from_millis(1))))
    }

    fn queue_put(
        &self,
        _: &JobAddress,
        items: &[QueueItem],
        _: Durability,
        _: Deadline,
    ) -> Result<PutReport> {
        self.begin("queue_put").map(|()| PutReport {
            added: items.len() + 7,
            merged: 0,
        })
    }

    fn queue_get(&self, _: &JobAddress, _: &ItemId, _: Deadline) -> Result<Option<QueueEntry>> {
        self.begin("queue_get").map(|()| None)
    }

    fn queue_scan(&self, _: &JobAddress, _: Deadline) -> Result<QueueScan<'static>> {
        self.begin("queue_scan")
            .map(|()| Box::new(std::iter::empty()) as QueueScan<'static>)
    }

    fn queue_take(
        &self,
        _: &JobAddress,
        _: &Select,
        _: usize,
        _: Duration,
        _: Deadline,
    ) -> Result<Vec<QueueEntry>> {
        self.begin("queue_take").map(|()| Vec::new())
    }

    fn queue_ack(&self, _: &JobAddress, tokens: &[LeaseToken], _: Deadline) -> Result<Settled<LeaseToken>> {
        self.begin("queue_ack").map(|()| settled(tokens))
    }

    fn queue_nack(&self, _: &JobAddress, tokens: &[LeaseToken], _: Deadline) -> Result<Settled<LeaseToken>> {
        self.begin("queue_nack").map(|()| settled(tokens))
    }

    fn queue_remove(&self, _: &JobAddress, ids: &[ItemId], _: Deadline) -> Result<Settled<ItemId>> {
        self.begin("queue_remove").map(|()| settled(ids))
    }

    fn lock(&self, name: &LockName, _: &LockOptions, _: Deadline) -> Result<Box<dyn LockGuard>> {
        self.begin("lock")
            .map(|()| Box::new(Held(name.clone())) as Box<dyn LockGuard>)
    }

    fn locks(&self, _: Deadline) -> Result<Vec<LockInfo>> {
        self.begin("locks").map(|()| Vec::new())
    }

    fn repositories(&self, _: Deadline) -> Result<Vec<RepoName>> {
        self.begin("repositories")
            .map(|()| vec![RepoName::new("shop").unwrap()])
    }

    fn jobs(&self, _: &RepoName, _: Deadline) -> Result<Vec<JobId>> {
        self.begin("jobs").map(|()| vec![JobId::new("job").unwrap()])
    }

    fn worktree_path(&self, _: &RepoName, session: &SessionId) -> Result<PathBuf> {
        self.begin("worktree_path")
            .map(|()| PathBuf::from(session.as_str()))
    }

    fn worktrees(&self, _: &RepoName, _: Deadline) -> Result<Vec<SessionId>> {
        self.begin("worktrees")
            .map(|()| vec![SessionId::new("s").unwrap()])
    }

    fn flush(&self, _: Deadline) -> Result<()> {
        self.begin("flush")
    }

    fn health(&self, _: Deadline) -> Result<Health> {
        self.begin("health").map(|()| Health::default())
    }

    fn usage(&self, _: Deadline) -> Result<Usage> {
        self.begin("usage").map(|()| Usage {
            free: Some(7),
            ..Usage::default()
        })
    }

    fn stats(&self, stats: &mut Stats) {
        stats.add("fake.asked", 1);
    }
}

struct Empty;

impl Scan for Empty {
    fn next(&mut self) -> Result<Option<ScanItem<'_>>> {
        Ok(None)
    }

    fn cursor(&self) -> Cursor {
        Cursor::new("v1.end").unwrap()
    }
}

#[derive(Debug)]
struct Held(LockName);

impl LockGuard for Held {
    fn name(&self) -> &LockName {
        &self.0
    }

    fn fencing(&self) -> u64 {
        7
    }

    fn release(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
