//! Redrives over a backend whose calls fail.

use std::sync::Arc;

use prodigy_storage_backend::dead_letter::DeadLetter;
use prodigy_storage_backend::{Backend, ErrorKind, ItemId, Select};
use prodigy_storage_config::MapEnvironment;
use prodigy_storage_memory::{MemoryBackend, MemoryOptions};

use super::through::{Fault, Through};
use crate::dlq::{Outcome, RedriveOptions};
use crate::job::Job;
use crate::storage::Storage;

/// A job with three dead letters. The first `unanswered` calls of the redrive have no answer.
fn job(unanswered: usize) -> (Storage, Job) {
    let folder = tempfile::tempdir().unwrap();
    let memory: Arc<dyn Backend> = Arc::new(MemoryBackend::new(MemoryOptions::new()).unwrap());
    let over = |backend| {
        Storage::builder()
            .environment(MapEnvironment::new())
            .home(folder.path())
            .project_dir(folder.path())
            .backend(backend)
            .open()
            .unwrap()
    };
    let job = |storage: &Storage| storage.repo("shop").unwrap().job("job-1").unwrap();
    let below = over(Arc::clone(&memory));
    for name in ["a", "b", "c"] {
        let letter = DeadLetter::new(ItemId::new(name).unwrap(), "data");
        job(&below).dlq().push(&letter).unwrap();
    }
    let faults = vec![Fault::Lasting(ErrorKind::OutcomeUnknown); unanswered];
    let storage = over(Arc::new(Through::scripted(memory, faults)));
    let job = job(&storage);
    (storage, job)
}

fn redrive(job: &Job) -> Result<usize, ErrorKind> {
    let report = job
        .dlq()
        .redrive(Select::eligible(), &RedriveOptions::new(), |_| Outcome::Done);
    report
        .map(|report| report.done)
        .map_err(|error| error.error().kind())
}

#[test]
fn a_take_without_an_answer_is_made_again() {
    let (_storage, job) = job(3);
    assert_eq!(redrive(&job), Ok(3));
}

#[test]
fn a_redrive_ends_when_takes_have_no_answer_again_and_again() {
    let (_storage, job) = job(4);
    assert_eq!(redrive(&job), Err(ErrorKind::OutcomeUnknown));
}
