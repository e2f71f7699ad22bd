//! Fencing marks of deleted and of merely fenced jobs in a backup.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use prodigy_storage_backend::{Body, Catalog, DocumentStore, ErrorKind, Fence, LogStore, PutOptions};
use prodigy_storage_file::FileBackend;
use prodigy_storage_layout::{Entry, JobAddress};

use super::{NEVER, Place, append, job, own};

const TOKEN: u64 = 5;

/// Writes to a job under a token.
fn put(backend: &FileBackend, job: &JobAddress, token: u64) -> prodigy_storage_backend::Result<()> {
    let options = PutOptions::default().fencing(Some(Fence::unnamed(token).unwrap()));
    backend.put(&own(job), Body::EMPTY, &options, NEVER).map(drop)
}

#[test]
fn the_marks_of_deleted_and_of_merely_fenced_jobs_survive_a_backup_and_a_restore() {
    let place = Place::new();
    let backend = place.open("root");
    append(&backend, &job("kept"), 0..3);
    for id in ["deleted", "going"] {
        put(&backend, &job(id), TOKEN).unwrap();
        append(&backend, &job(id), 0..3);
        backend.seal(&job(id), NEVER).unwrap();
    }
    let fence = Fence::unnamed(TOKEN).unwrap();
    backend.raise_mark(&job("fenced"), &fence, NEVER).unwrap();
    assert!(backend.delete_job(&job("deleted"), None, NEVER).unwrap());
    // The process that deletes the job died after it had begun.
    let tombstone = place.root("root").join(Entry::Tombstone(job("going")).path());
    fs::create_dir_all(tombstone.parent().unwrap()).unwrap();
    fs::write(&tombstone, "").unwrap();
    fs::set_permissions(&tombstone, Permissions::from_mode(0o400)).unwrap();
    let archive = place.archive("root", None);
    place.restore("copy", &archive, None).unwrap();
    let absent = place
        .restore("root", &archive, Some(&job("deleted")))
        .unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound, "{absent}");

    let copy = place.open("copy");
    for id in ["deleted", "going", "fenced"] {
        let is_listed = copy.activity(&job(id), NEVER).unwrap().last_write.is_some();
        assert!(!is_listed, "{id}: a mark is no job");
        let overtaken = put(&copy, &job(id), TOKEN - 2).unwrap_err();
        assert_eq!(overtaken.kind(), ErrorKind::Fenced, "{id}");
        put(&copy, &job(id), TOKEN).unwrap();
    }
    assert!(place.is_clean("copy"));
}
