//! Appends through retries, over a backend that fails at random.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use prodigy_storage_backend::{
    AppendOptions, Backend, Batch, Catalog, Clock, Deadline, Durability, EventId, IdSource, ScanItem,
    ScanOptions, Stats, SystemClock,
};
use prodigy_storage_file::{FileBackend, FileOptions};
use prodigy_storage_layout::{JobAddress, JobId, RepoName};
use prodigy_storage_memory::{MemoryBackend, MemoryOptions};
use serde::Deserialize;

use super::through::{Through, everything};

const APPENDS: u32 = 10_000;
/// The number of events that are appended last, under given ids.
const GIVEN: u32 = 1_000;
const THREADS: u32 = 4;

#[derive(Deserialize)]
struct Line {
    event: u32,
}

fn append(backend: &dyn Backend, job: &JobAddress, number: u32, id: Option<EventId>) -> EventId {
    let mut batch = Batch::new();
    batch.push(&number).unwrap();
    batch.set_ids(id);
    let options = AppendOptions::new(Durability::Relaxed);
    let appended = backend
        .append(job, &mut batch, &options, Deadline::never())
        .unwrap();
    assert_eq!(appended.stored + appended.duplicates, 1);
    // If the log assigned the ids, no event counts as a duplicate, whatever the number of attempts.
    assert!(id.is_some() || appended.duplicates == 0);
    batch.ids()[0]
}

fn every_event_is_there_exactly_once(store: &Arc<dyn Backend>) {
    let faulty = Through::faulty(Arc::clone(store), 0x5eed, true);
    let retrying = Through::new(Arc::new(faulty), &everything());
    let job = JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("a").unwrap());

    let next = AtomicU32::new(0);
    let mut acknowledged: Vec<(EventId, u32)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= APPENDS - GIVEN {
                            return mine;
                        }
                        mine.push((append(&retrying, &job, number, None), number));
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let newest = acknowledged.iter().map(|(id, _)| *id).max().unwrap();
    let mut ids = IdSource::above(newest);
    for number in APPENDS - GIVEN..APPENDS {
        let id = ids.next(SystemClock.now());
        assert_eq!(append(&retrying, &job, number, Some(id)), id);
        acknowledged.push((id, number));
    }

    // Reads the stored events directly from the backend.
    let mut stored = Vec::new();
    let mut scan = store.scan(&job, &ScanOptions::all(), Deadline::never()).unwrap();
    while let Some(item) = scan.next().unwrap() {
        let ScanItem::Record(record) = item else {
            panic!("not an event: {item:?}");
        };
        stored.push((record.id, record.parse::<Line>().unwrap().event));
    }
    acknowledged.sort_unstable();
    assert_eq!(acknowledged.len(), APPENDS as usize);
    assert!(
        stored == acknowledged,
        "the stored events differ from the acknowledged ones"
    );
    let mut numbers: Vec<u32> = stored.iter().map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    assert!(
        numbers.into_iter().eq(0..APPENDS),
        "an event is missing or stored twice"
    );

    // 30 of 100 attempts fail, so there are about 3 retries for 7 appends.
    let mut stats = Stats::default();
    retrying.stats(&mut stats);
    let counted = |name| stats.get(name);
    assert!((4_000..4_600).contains(&counted("retry.retries")), "{stats:?}");
    assert!(
        (1_900..2_400).contains(&counted("retry.unclear_appends")),
        "{stats:?}"
    );
    assert!((2_700..3_300).contains(&counted("retry.recovered")), "{stats:?}");
}

#[test]
fn ten_thousand_appends_over_a_memory_backend_that_fails() {
    let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new(MemoryOptions::new()).unwrap());
    every_event_is_there_exactly_once(&backend);
}

#[test]
fn ten_thousand_appends_over_a_file_backend_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let backend = FileBackend::open(FileOptions::new(folder.path().join("root"))).unwrap();
    let backend: Arc<dyn Backend> = Arc::new(backend);
    every_event_is_there_exactly_once(&backend);
}
