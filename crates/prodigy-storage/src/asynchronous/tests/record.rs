//! Records what was acknowledged to futures, and compares the store with it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prodigy_storage_backend::{EventId, ItemId, Select};
use prodigy_storage_layout::Timestamp;

use crate::{CheckpointId, Job};

/// The names of the locks. For each of them there is also a document that holds a number.
pub(super) const NAMES: [&str; 4] = ["shop/a", "shop/b", "shop/c", "shop/d"];
/// The number of events in each batch, and of items in each push of several.
pub(super) const TOGETHER: u64 = 3;
/// The number of elements of a value.
const LENGTH: usize = 50;

/// A value of equal elements, so that a partly written value is noticed.
pub(super) fn value(number: u64) -> Vec<u64> {
    vec![number; LENGTH]
}

/// The number of changes that were begun, and the number of those that were acknowledged.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) begun: u64,
    pub(super) acknowledged: u64,
}

/// Records each acknowledgement in the poll that returned it.
#[derive(Default)]
pub(super) struct Record {
    next: AtomicU64,
    /// The number of futures that were dropped before their end.
    pub(super) cancelled: AtomicU64,
    pub(super) events: Mutex<Vec<(EventId, String)>>,
    pub(super) pushed: Mutex<Vec<ItemId>>,
    /// Items for which an acknowledgement was begun.
    pub(super) leaving: Mutex<BTreeSet<ItemId>>,
    pub(super) gone: Mutex<BTreeSet<ItemId>>,
    pub(super) parked: Mutex<BTreeSet<ItemId>>,
    pub(super) failures: Mutex<HashMap<ItemId, Changes>>,
    pub(super) saved: Mutex<Vec<(CheckpointId, u64)>>,
    pub(super) put: Mutex<BTreeMap<String, u64>>,
    pub(super) deleted: Mutex<BTreeSet<String>>,
    pub(super) counted: [Mutex<Changes>; NAMES.len()],
    pub(super) held: [AtomicBool; NAMES.len()],
    pub(super) locked: AtomicU64,
    pub(super) read: AtomicU64,
    pub(super) panics: AtomicU64,
}

impl Record {
    /// The time of all ids that the futures themselves choose.
    pub(super) const PLANNED: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);

    /// A unique number.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    /// True if at least one call of each kind was acknowledged.
    pub(super) fn has_each_kind(&self) -> bool {
        let stored = [
            self.events.lock().unwrap().len(),
            self.pushed.lock().unwrap().len(),
            self.gone.lock().unwrap().len(),
            self.parked.lock().unwrap().len(),
            self.saved.lock().unwrap().len(),
            self.put.lock().unwrap().len(),
            self.deleted.lock().unwrap().len(),
        ];
        let seen = [&self.locked, &self.read, &self.panics].map(|count| count.load(Ordering::SeqCst));
        stored.iter().all(|count| *count > 0) && seen.iter().all(|count| *count > 0)
    }

    /// Asserts that everything that was acknowledged is stored exactly once, and that nothing is stored in part.
    pub(super) fn compare(&self, job: &Job) {
        self.compare_events(job);
        self.compare_letters(job);
        self.compare_documents(job);
    }

    fn compare_events(&self, job: &Job) {
        let (mut events, mut texts) = (HashMap::new(), BTreeSet::new());
        let mut batches: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for event in job.events().read::<String>().unwrap() {
            let event = event.unwrap();
            let text = event.event;
            assert!(texts.insert(text.clone()), "{text} is there twice");
            if let Some((batch, part)) = text.strip_prefix("batch ").and_then(|text| text.split_once(' ')) {
                batches
                    .entry(batch.to_owned())
                    .or_default()
                    .push(part.parse().unwrap());
            }
            events.insert(event.id, text);
        }
        for (batch, parts) in batches {
            assert_eq!(parts, (0..TOGETHER).collect::<Vec<_>>(), "batch {batch}");
        }
        for (id, text) in self.events.lock().unwrap().iter() {
            assert_eq!(events.get(id), Some(text));
        }
    }

    fn compare_letters(&self, job: &Job) {
        let items = job.dlq().scan(&Select::any()).unwrap().map(Result::unwrap);
        let items: HashMap<ItemId, _> = items.map(|item| (item.id.clone(), item)).collect();
        let leaving = self.leaving.lock().unwrap();
        for id in self.pushed.lock().unwrap().iter() {
            assert!(items.contains_key(id) || leaving.contains(id), "{id} is lost");
        }
        for id in self.gone.lock().unwrap().iter() {
            assert!(!items.contains_key(id), "{id} was acknowledged and is there");
        }
        for id in self.parked.lock().unwrap().iter() {
            assert!(!items[id].clone().summary().unwrap().eligible, "{id}");
        }
        let failures = self.failures.lock().unwrap();
        let mut together: HashMap<u64, u64> = HashMap::new();
        for (id, item) in &items {
            let number: u64 = item.data().unwrap();
            if id.as_str().starts_with("together") {
                *together.entry(number).or_default() += 1;
            }
            let failed = item.clone().summary().unwrap().failure_count - 1;
            let (least, most) = failures
                .get(id)
                .map_or((0, 0), |changes| (changes.acknowledged, changes.begun));
            assert!((least..=most).contains(&failed), "{id} failed {failed} times");
        }
        assert!(together.values().all(|items| *items == TOGETHER), "half a push");
    }

    fn compare_documents(&self, job: &Job) {
        let checkpoints = job.checkpoints();
        for (id, number) in self.saved.lock().unwrap().iter() {
            let found = checkpoints.get::<Vec<u64>>(id).unwrap().unwrap();
            assert_eq!(found.data, value(*number));
        }
        for entry in checkpoints.list() {
            let data = checkpoints
                .get::<Vec<u64>>(&entry.unwrap().id)
                .unwrap()
                .unwrap()
                .data;
            assert_eq!(data, value(data[0]));
        }
        let documents = job.documents("values").unwrap();
        for (name, number) in self.put.lock().unwrap().iter() {
            let found = documents.get::<Vec<u64>>(name).unwrap().unwrap();
            assert_eq!(found.data, value(*number));
        }
        for name in self.deleted.lock().unwrap().iter() {
            assert!(
                documents.get_raw(name).unwrap().is_none(),
                "{name} was deleted and is there"
            );
        }
        for document in documents.list() {
            let name = document.unwrap().name;
            let data = documents.get::<Vec<u64>>(&name).unwrap().unwrap().data;
            assert_eq!(data, value(data[0]));
        }
        let counters = job.documents("counters").unwrap();
        for (name, changes) in NAMES.iter().zip(&self.counted) {
            let changes = changes.lock().unwrap();
            let found = counters.get::<u64>(counter(name)).unwrap();
            let found = found.map_or(0, |found| found.data);
            assert!(
                (changes.acknowledged..=changes.begun).contains(&found),
                "{name}: {found} is not between {} and {}",
                changes.acknowledged,
                changes.begun
            );
        }
    }
}

/// The name of the document whose number is incremented while this lock is held.
pub(super) fn counter(name: &str) -> String {
    name.replace('/', "-")
}
