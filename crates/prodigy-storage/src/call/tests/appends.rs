//! Appends through a backend whose calls fail as a script says.

use std::sync::Arc;

use prodigy_storage_backend::{
    AppendOptions, Appended, Batch, Deadline, ErrorKind, EventId, ScanItem, ScanOptions,
};
use prodigy_storage_layout::{JobAddress, JobId, RepoName};
use prodigy_storage_memory::{MemoryBackend, MemoryOptions};

use super::through::{Fault, Through, everything};
use crate::call::Caller;

const NEVER: Deadline = Deadline::never();

fn job() -> JobAddress {
    JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("job").unwrap())
}

fn batch(events: &[&str]) -> Batch {
    let mut batch = Batch::new();
    for event in events {
        batch.push(event).unwrap();
    }
    batch
}

fn failing(faults: impl IntoIterator<Item = Fault>) -> Caller {
    let memory = Arc::new(MemoryBackend::new(MemoryOptions::new()).unwrap());
    let mut config = everything();
    config.retry_policy.max_retries = 3;
    Caller::new(Arc::new(Through::scripted(memory, faults)), &config, false)
}

fn append(caller: &Caller, batch: &mut Batch) -> prodigy_storage_backend::Result<Appended> {
    caller.append(&job(), batch, &AppendOptions::default(), NEVER)
}

/// The ids of the events that the backend has stored, in order.
fn stored(caller: &Caller) -> Vec<EventId> {
    let mut scan = caller.backend().scan(&job(), &ScanOptions::all(), NEVER).unwrap();
    let mut ids = Vec::new();
    while let Some(item) = scan.next().unwrap() {
        let ScanItem::Record(record) = item else {
            panic!("{item:?}");
        };
        ids.push(record.id);
    }
    ids
}

#[test]
fn an_unclear_append_is_repeated_under_its_ids_and_stored_once() {
    let caller = failing([Fault::Unclear]);
    let mut batch = batch(&["a", "b"]);
    let appended = append(&caller, &mut batch).unwrap();
    let both = Appended {
        stored: 2,
        duplicates: 0,
    };
    assert_eq!(
        appended, both,
        "an earlier attempt of this call stored the duplicates"
    );
    assert_eq!(stored(&caller), batch.ids());
    let stats = caller.stats();
    assert_eq!(
        (stats.get("retry.retries"), stats.get("retry.unclear_appends")),
        (1, 1)
    );
}

#[test]
fn duplicates_of_ids_that_the_caller_brought_are_reported_as_the_backend_reports_them() {
    let caller = failing([]);
    let mut batch = batch(&["a", "b"]);
    append(&caller, &mut batch).unwrap();
    let again = append(&caller, &mut batch).unwrap();
    assert_eq!((again.stored, again.duplicates), (0, 2));
}

#[test]
fn what_was_unclear_once_is_never_called_failed() {
    let lasting = Fault::Lasting(ErrorKind::DiskFull);
    for faults in [
        vec![Fault::Unclear, lasting],
        vec![Fault::Unclear, Fault::Passing, Fault::Passing, Fault::Passing],
        vec![Fault::Unclear; 4],
    ] {
        let tries = u32::try_from(faults.len()).unwrap();
        let caller = failing(faults);
        let mut batch = batch(&["a"]);
        let error = append(&caller, &mut batch).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
        assert_eq!(error.ids(), batch.ids());
        assert_eq!((error.ids().len(), error.attempts()), (1, tries));
        // Appending the same batch again stores the rest.
        let settled = append(&caller, &mut batch).unwrap();
        assert_eq!((settled.stored, settled.duplicates), (0, 1));
    }
}

#[test]
fn the_error_after_an_unclear_one_is_its_cause() {
    let caller = failing([Fault::Unclear, Fault::Lasting(ErrorKind::DiskFull)]);
    let error = append(&caller, &mut batch(&["a"])).unwrap_err();
    let text = format!("{error:#}");
    assert!(
        text.starts_with("outcome unknown: append events shop/job"),
        "{text}"
    );
    assert!(text.contains("disk space full"), "{text}");
    assert!(!error.to_string().contains("disk space full"), "{error}");
    assert_eq!(text.matches("tries").count(), 1, "{text}");
}

#[test]
fn without_ids_an_unclear_append_is_not_repeated() {
    let caller = failing([Fault::UnclearWithoutIds]);
    let error = append(&caller, &mut batch(&["a"])).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::OutcomeUnknown, 1));
    assert!(stored(&caller).is_empty());
}
