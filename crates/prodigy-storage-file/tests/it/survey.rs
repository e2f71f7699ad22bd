//! Tests of surveys of jobs: what they find, and that they make few system calls.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prodigy_storage_backend::{
    AppendOptions, Backend, Batch, Body, Catalog, Deadline, DocumentStore, Durability, ItemId, JobFacts,
    LockOptions, LockStore, LogStore, PageOptions, PutOptions, QueueItem, QueueStore,
};
use prodigy_storage_file::{FileBackend, FileOptions};
use prodigy_storage_layout::{
    Document, DocumentKind, DocumentName, DocumentOwner, JobAddress, JobId, LockName, Phase, RepoName,
};
use serde_json::value::RawValue;

use crate::security::hooked::Hooked;

const NEVER: Deadline = Deadline::never();

fn repo() -> RepoName {
    RepoName::new("shop").unwrap()
}

fn job(name: &str) -> JobAddress {
    JobAddress::new(repo(), JobId::new(name).unwrap())
}

fn append(backend: &FileBackend, job: &JobAddress) {
    let mut batch = Batch::new();
    batch.push("1").unwrap();
    backend
        .append(job, &mut batch, &AppendOptions::default(), NEVER)
        .unwrap();
}

/// The number of system calls that `work` makes.
fn calls(root: &Path, work: impl FnOnce(&FileBackend)) -> usize {
    let made = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&made);
    let hooked = Hooked::new(root, move |_, _| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let backend = FileBackend::open_on(Arc::new(hooked), FileOptions::new(root)).unwrap();
    let before = made.load(Ordering::SeqCst);
    work(&backend);
    made.load(Ordering::SeqCst) - before
}

fn survey(backend: &FileBackend) -> usize {
    let page = backend.survey(&repo(), &PageOptions::default(), NEVER).unwrap();
    page.entries.iter().filter(|job| job.facts.is_ok()).count()
}

#[test]
fn a_job_that_has_a_log_only_is_not_asked_for_anything_else() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let fill = |jobs: std::ops::Range<usize>| {
        let backend = FileBackend::open(FileOptions::new(&root)).unwrap();
        for number in jobs {
            append(&backend, &job(&format!("job-{number}")));
        }
    };
    let survey_of = |jobs| calls(&root, |backend| assert_eq!(survey(backend), jobs));
    let usage = || {
        calls(&root, |backend| {
            let usage = backend.usage(NEVER).unwrap();
            assert!(usage.bytes() > 0);
        })
    };
    fill(0..10);
    let (few, few_sizes) = (survey_of(10), usage());
    fill(10..40);
    let (many, many_sizes) = (survey_of(40), usage());
    // The calls for each job: to list the folder of its log, lock its segment, and find out whether it is being
    // deleted. A folder that changed within the last second is listed twice.
    assert!(many - few <= 30 * 4, "{few} calls for 10 jobs, {many} for 40");
    assert_eq!(many_sizes - few_sizes, 30, "the folder of its log");
}

/// A function that writes data of one kind to a job.
type Part = fn(&FileBackend, &JobAddress);

#[test]
fn a_job_of_one_part_alone_has_the_facts_of_single_calls() {
    let folder = tempfile::tempdir().unwrap();
    let backend = FileBackend::open(FileOptions::new(folder.path().join("root"))).unwrap();
    let body = || Body::parse(b"{}").unwrap();
    let put = |document: Document| {
        backend
            .put(&document, body(), &PutOptions::default(), NEVER)
            .unwrap();
    };
    let parts: [(&str, Part); 4] = [
        ("checkpoints", |backend, job| {
            for _ in 0..3 {
                let body = Body::parse(b"{}").unwrap();
                backend
                    .add(job, Phase::Map, body, &PutOptions::default(), NEVER)
                    .unwrap();
            }
        }),
        ("letters", |backend, job| {
            let item = QueueItem {
                id: ItemId::new("a").unwrap(),
                body: RawValue::from_string("{\"item_id\":\"a\",\"item_data\":1}".to_owned()).unwrap(),
            };
            backend
                .queue_put(job, &[item], Durability::Strict, None, NEVER)
                .unwrap();
        }),
        ("log", append),
        ("nothing", |_, _| {}),
    ];
    for (name, fill) in parts {
        fill(&backend, &job(name));
    }
    put(Document::Orphans(job("orphans")));
    put(Document::Finished(job("finished")));
    let owner = DocumentOwner::Job(job("own"));
    let (kind, name) = (
        DocumentKind::new("notes").unwrap(),
        DocumentName::new("one").unwrap(),
    );
    put(Document::Own(owner, kind, name));
    // A lock makes no job exist. But the survey of an existing job shows whether a lock of it is held.
    let held: Vec<_> = ["shop/log", "shop/letters/a", "shop/finished/a/b", "shop/nothing"]
        .map(|name| {
            let name = LockName::new(name).unwrap();
            backend.lock(&name, &LockOptions::new("a test"), NEVER).unwrap()
        })
        .into();
    let mut after = None;
    let mut found = Vec::new();
    loop {
        let mut page = PageOptions::default().limit(2);
        page.after = after;
        let page = backend.survey(&repo(), &page, NEVER).unwrap();
        found.extend(page.entries);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let names: Vec<_> = found.iter().map(|found| found.job.to_string()).collect();
    assert_eq!(
        names,
        ["checkpoints", "finished", "letters", "log", "orphans", "own"]
    );
    for found in found {
        let job = job(found.job.as_str());
        let mut wanted = JobFacts::by_calls(&backend as &dyn Backend, &job, NEVER).unwrap();
        let found = found.facts.unwrap();
        // A survey does not look for the process that works on a job.
        assert_eq!(wanted.activity.by.is_some(), found.activity.active, "{job}");
        wanted.activity = wanted.activity.by(None);
        assert_eq!(format!("{found:?}"), format!("{wanted:?}"), "{job}");
        let is_held = ["log", "letters", "finished"].contains(&job.job.as_str());
        assert_eq!(
            found.activity.active,
            is_held || job.job.as_str() == "log",
            "{job}"
        );
    }
    drop(held);
}

#[cfg(unix)]
#[test]
fn a_link_in_the_place_of_a_part_is_an_error_of_its_job() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let backend = FileBackend::open(FileOptions::new(&root)).unwrap();
    append(&backend, &job("one"));
    std::fs::create_dir_all(root.join("dlq/shop")).unwrap();
    std::os::unix::fs::symlink(folder.path(), root.join("dlq/shop/one")).unwrap();
    let page = backend.survey(&repo(), &PageOptions::default(), NEVER).unwrap();
    assert_eq!(page.entries.len(), 1);
    assert!(page.entries[0].facts.is_err(), "{page:?}");
}
