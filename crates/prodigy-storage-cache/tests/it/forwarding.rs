//! Calls every method of a backend, and checks that the answer is the fake's.

use std::path::Path;
use std::time::Duration;

use prodigy_storage_backend::{
    AppendOptions, Backend, Batch, Body, Deadline, Durability, Expected, ItemId, LeaseToken, LockOptions,
    PutOptions, Revision, ScanOptions, Select, Stats,
};
use prodigy_storage_layout::{
    Document, DocumentScope, JobAddress, JobId, LockName, Phase, RepoName, SessionId,
};

use crate::fake::settled;

pub fn job() -> JobAddress {
    JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("job").unwrap())
}

pub fn document() -> Document {
    Document::Orphans(job())
}

pub fn batch(events: &[&str]) -> Batch {
    let mut batch = Batch::new();
    for event in events {
        batch.push(event).unwrap();
    }
    batch
}

/// The names of the methods that can fail, in the order in which `call_all` calls them.
pub const FALLIBLE: [&str; 26] = [
    "append",
    "scan",
    "log_summary",
    "seal",
    "put",
    "get",
    "revision",
    "add",
    "list",
    "newest",
    "delete",
    "queue_put",
    "queue_get",
    "queue_scan",
    "queue_take",
    "queue_ack",
    "queue_nack",
    "queue_remove",
    "lock",
    "locks",
    "repositories",
    "jobs",
    "worktrees",
    "flush",
    "usage",
    "worktree_path",
];

/// Every method once, but `health`.
pub fn call_all(backend: &dyn Backend, deadline: Deadline) {
    let (job, document) = (job(), document());
    assert_eq!(backend.capabilities().backend, "fake");

    let appended = backend
        .append(&job, &mut batch(&["a", "b"]), &AppendOptions::default(), deadline)
        .unwrap();
    assert_eq!((appended.stored, appended.duplicates), (2, 0));
    let mut scan = backend.scan(&job, &ScanOptions::all(), deadline).unwrap();
    assert!(scan.next().unwrap().is_none());
    assert_eq!(backend.log_summary(&job, deadline).unwrap().segments, 7);
    backend.seal(&job, deadline).unwrap();

    let options = PutOptions::default().expect(Expected::Absent);
    let revision: Revision = backend.put(&document, Body::EMPTY, &options, deadline).unwrap();
    let got = backend.get(&document, deadline).unwrap().unwrap();
    assert_eq!((got.body(), got.revision()), (&b"{}"[..], revision));
    assert_eq!(backend.revision(&document, deadline).unwrap(), Some(revision));
    let added = backend
        .add(&job, Phase::Map, Body::EMPTY, &PutOptions::default(), deadline)
        .unwrap();
    assert_eq!(added.document.phase(), Some(Phase::Map));
    assert_eq!(
        backend
            .list(&DocumentScope::Job(job.clone()), deadline)
            .unwrap()
            .len(),
        2
    );
    let newest = backend.newest(&job, Phase::Map, None, deadline).unwrap();
    assert_eq!(newest.map(|entry| entry.document), Some(added.document));
    assert!(
        backend
            .delete(&document, Expected::Any, Durability::Strict, deadline)
            .unwrap()
    );

    let (id, token) = (ItemId::new("i").unwrap(), LeaseToken::from("t".to_owned()));
    assert_eq!(
        backend
            .queue_put(&job, &[], Durability::Strict, deadline)
            .unwrap()
            .added,
        7
    );
    assert!(backend.queue_get(&job, &id, deadline).unwrap().is_none());
    assert_eq!(backend.queue_scan(&job, deadline).unwrap().count(), 0);
    let lease = Duration::from_secs(1);
    assert!(
        backend
            .queue_take(&job, &Select::all(), 3, lease, deadline)
            .unwrap()
            .is_empty()
    );
    let tokens = [token];
    assert_eq!(
        backend.queue_ack(&job, &tokens, deadline).unwrap(),
        settled(&tokens)
    );
    assert_eq!(
        backend.queue_nack(&job, &tokens, deadline).unwrap(),
        settled(&tokens)
    );
    let ids = [id];
    assert_eq!(backend.queue_remove(&job, &ids, deadline).unwrap(), settled(&ids));

    let name = LockName::new("shop/job").unwrap();
    assert_eq!(
        backend
            .lock(&name, &LockOptions::default(), deadline)
            .unwrap()
            .fencing(),
        7
    );
    assert!(backend.locks(deadline).unwrap().is_empty());
    assert_eq!(backend.repositories(deadline).unwrap().len(), 1);
    assert_eq!(backend.jobs(&job.repo, deadline).unwrap().len(), 1);
    assert_eq!(backend.worktrees(&job.repo, deadline).unwrap().len(), 1);
    backend.flush(deadline).unwrap();
    assert_eq!(backend.usage(deadline).unwrap().free, Some(7));
    let session = SessionId::new("s").unwrap();
    assert_eq!(
        backend.worktree_path(&job.repo, &session).unwrap(),
        Path::new("s")
    );

    let mut stats = Stats::default();
    backend.stats(&mut stats);
    assert_eq!(stats.get("fake.asked"), 1);
}
