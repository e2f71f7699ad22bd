//! Reads the data that a backend returns for the fixture.

use std::collections::BTreeMap;

use prodigy_storage_backend::{
    Catalog, DocumentStore, EventId, LogStore, QueueStep, QueueStore, ScanItem, ScanOptions, Select,
};
use prodigy_storage_file::FileBackend;
use prodigy_storage_layout::{Document, JobAddress};
use serde_json::Value;
use serde_json::value::RawValue;

use super::NEVER;
use super::expected::{Contents, Event, Frozen, Item};

pub struct View {
    jobs: BTreeMap<JobAddress, Contents>,
    documents: BTreeMap<Document, (Value, String)>,
    /// For each cursor of the fixture, the ids of the events after it.
    after: Vec<Vec<EventId>>,
}

impl View {
    pub fn of(backend: &FileBackend, frozen: &Frozen) -> Self {
        let read = |job: &JobAddress| Contents {
            events: events(backend, job, &ScanOptions::all()),
            items: items(backend, job),
        };
        let jobs = backend
            .repositories(&Default::default(), NEVER())
            .unwrap()
            .entries
            .into_iter()
            .flat_map(|repo| {
                let jobs = backend.jobs(&repo, &Default::default(), NEVER()).unwrap().entries;
                jobs.into_iter()
                    .map(move |job| JobAddress::new(repo.clone(), job))
            });
        let documents = frozen.documents.keys().filter_map(|document| {
            let found = backend.get(document, NEVER()).unwrap()?;
            assert!(found.is_verified(), "{document:?}");
            let body = serde_json::from_slice(found.body()).unwrap();
            Some((document.clone(), (body, found.revision().to_string())))
        });
        let after = frozen.cursors.iter().map(|position| {
            let options = ScanOptions::after(position.cursor.clone());
            events(backend, &position.job(), &options)
                .into_iter()
                .map(|event| event.id)
                .collect()
        });
        Self {
            jobs: jobs
                .map(|job| {
                    let contents = read(&job);
                    (job, contents)
                })
                .collect(),
            documents: documents.collect(),
            after: after.collect(),
        }
    }

    pub fn events(&self, job: &JobAddress) -> &[Event] {
        &self.jobs[job].events
    }

    pub fn items(&self, job: &JobAddress) -> &[Item] {
        &self.jobs[job].items
    }

    /// Asserts that the store has exactly the data of the fixture.
    pub fn check(&self, frozen: &Frozen) {
        let cursors: Vec<_> = frozen
            .cursors
            .iter()
            .map(|position| position.after.clone())
            .collect();
        assert_eq!(self.after, cursors);
        self.check_repaired(frozen);
    }

    /// Asserts that the store has the data of the fixture, except that more events may follow each cursor.
    pub fn check_repaired(&self, frozen: &Frozen) {
        let names = |jobs: &BTreeMap<JobAddress, Contents>| jobs.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&self.jobs), names(&frozen.jobs));
        for (job, contents) in &frozen.jobs {
            let read = &self.jobs[job];
            assert_eq!(read.events, contents.events, "{job}");
            assert_eq!(read.items, contents.items, "{job}");
        }
        let expected: BTreeMap<_, _> = frozen
            .documents
            .iter()
            .map(|(document, stored)| {
                (
                    document.clone(),
                    (stored.body.clone(), stored.revision().to_string()),
                )
            })
            .collect();
        assert_eq!(self.documents, expected);
    }

    /// Asserts that the store has the data of the fixture, and `more` events at the end of each log, which also follow
    /// each cursor.
    pub fn check_grown(&self, frozen: &Frozen, more: usize) {
        for (job, contents) in &frozen.jobs {
            let read = &self.jobs[job].events;
            let (old, new) = read.split_at(contents.events.len());
            assert_eq!(old, contents.events, "{job}");
            let new: Vec<_> = new.iter().map(|event| event.event.clone()).collect();
            let expected: Vec<_> = (0..more).map(|number| format!("\"new {number}\"")).collect();
            assert_eq!(new, expected, "{job}");
        }
        for (position, after) in frozen.cursors.iter().zip(&self.after) {
            let (old, new) = after.split_at(position.after.len());
            assert_eq!((old, new.len()), (&*position.after, more));
        }
    }
}

/// The records of a log. Events in damaged places are left out.
fn events(backend: &FileBackend, job: &JobAddress, options: &ScanOptions) -> Vec<Event> {
    let mut events = Vec::new();
    let mut scan = backend.scan(job, options, NEVER()).unwrap();
    while let Some(item) = scan.next().unwrap() {
        match item {
            ScanItem::Record(record) => {
                assert!(record.verified, "{}", record.id);
                let parsed = record.parse_event::<Box<RawValue>>().unwrap();
                events.push(Event {
                    id: record.id,
                    timestamp: parsed.timestamp.as_nanos() / 1000,
                    event: parsed.event.get().to_owned(),
                    correlation_id: parsed.correlation_id,
                    metadata: parsed.metadata.map(|text| text.get().to_owned()),
                });
            }
            ScanItem::Damage(damage) => assert_eq!(job.job.as_str(), "damaged", "{damage}"),
            ScanItem::TooLarge(record) => panic!("{record}"),
        }
    }
    events
}

fn items(backend: &FileBackend, job: &JobAddress) -> Vec<Item> {
    let mut items = Vec::new();
    for step in backend.queue_scan(job, &Select::any(), NEVER()).unwrap() {
        match step.unwrap() {
            QueueStep::Entry(entry) => {
                assert!(entry.verified, "{}", entry.id);
                let (token, until) = entry
                    .lease
                    .map(|lease| (lease.token.to_string(), lease.until))
                    .unzip();
                items.push(Item {
                    id: entry.id.to_string(),
                    body: serde_json::from_str(entry.body.get()).unwrap(),
                    lease_token: token,
                    lease_until: until,
                });
            }
            QueueStep::Damage(damage) => assert_eq!(job.job.as_str(), "damaged", "{damage}"),
            QueueStep::TooLarge(item) => panic!("{item}"),
        }
    }
    items
}
