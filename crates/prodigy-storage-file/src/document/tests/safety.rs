//! Tests of links, file modes, refusals and waiting.

use super::*;
use crate::root::LockedFile;

#[test]
fn a_planted_link_is_not_followed() {
    let place = Place::new();
    let store = place.writer();
    put(&store, &Document::Finished(job()), "{}", Expected::Any).unwrap();
    let outside = place.dir.path().join("outside");
    std::fs::write(&outside, "{\"secret\":1}").unwrap();

    let document = Document::Setup(job());
    symlink(&outside, place.path(&document)).unwrap();
    assert_eq!(kind(store.get(&document, never())), ErrorKind::Refused);
    assert_eq!(
        kind(put(&store, &document, "{}", Expected::Absent)),
        ErrorKind::Refused
    );
    let job_scope = DocumentScope::Job(job());
    // The link is listed, so that a reader of the listing does not take the document for absent.
    let listed = store
        .list(&job_scope, &Default::default(), never())
        .unwrap()
        .entries;
    assert!(listed.iter().any(|entry| entry.document == document));
    put(&store, &document, "{\"n\":1}", Expected::Any).unwrap();
    assert!(
        std::fs::symlink_metadata(place.path(&document))
            .unwrap()
            .is_file()
    );

    // Neither the folder of the documents nor the folder of the lock may be a link.
    let other = JobAddress::new(job().repo, JobId::new("other").unwrap());
    let folder = place
        .path(&Document::Setup(other.clone()))
        .parent()
        .unwrap()
        .to_owned();
    let target = place.dir.path().join("folder");
    std::fs::create_dir(&target).unwrap();
    symlink(&target, &folder).unwrap();
    assert_eq!(
        kind(put(&store, &Document::Setup(other.clone()), "{}", Expected::Any)),
        ErrorKind::Refused
    );
    let lock = place.root().join(Entry::RegistryLock.path());
    symlink(&outside, lock).unwrap();
    assert_eq!(
        kind(put(
            &store,
            &Document::Repository(other.repo),
            "{}",
            Expected::Any
        )),
        ErrorKind::Refused
    );
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "{\"secret\":1}");
}

#[test]
fn folders_and_files_are_the_owners_alone() {
    let place = Place::new();
    let store = place.writer();
    for document in all_documents() {
        put(&store, &document, "{}", Expected::Any).unwrap();
    }
    for (path, _) in place.everything() {
        let found = std::fs::symlink_metadata(&path).unwrap();
        let wanted = if found.is_dir() { FOLDER_MODE } else { FILE_MODE };
        assert_eq!(found.permissions().mode() & 0o7777, wanted, "{}", path.display());
    }
}

#[test]
fn what_a_dead_writer_left_is_swept_and_no_link_among_it_is_followed() {
    let place = Place::new();
    let store = place.writer();
    let added = add(&store, Phase::Map, "{}", &PutOptions::default()).unwrap();
    let folder = place.path(&added.document).parent().unwrap().to_owned();
    let outside = place.dir.path().join("outside");
    std::fs::write(&outside, "keep").unwrap();
    let (dead, link) = (format!("{TEMP_PREFIX}dead"), format!("{TEMP_PREFIX}link"));
    std::fs::write(folder.join(&dead), "half").unwrap();
    symlink(&outside, folder.join(link)).unwrap();
    add(&store, Phase::Map, "{}", &PutOptions::default()).unwrap();
    assert!(!folder.join(dead).exists());
    assert_eq!(std::fs::read_to_string(outside).unwrap(), "keep");
    assert_eq!(
        store
            .list(&DocumentScope::Job(job()), &Default::default(), never())
            .unwrap()
            .entries
            .len(),
        2
    );
}

#[test]
fn a_read_only_store_refuses_writes_and_makes_nothing() {
    let place = Place::new();
    let store = place.reader();
    for document in all_documents() {
        assert_eq!(
            kind(put(&store, &document, "{}", Expected::Any)),
            ErrorKind::ReadOnly
        );
        let deleted = store.delete(&document, Expected::Any, Durability::Strict, None, never());
        assert_eq!(kind(deleted), ErrorKind::ReadOnly);
        assert_eq!(body(&store, &document), None);
        assert_eq!(store.revision(&document, never()).unwrap(), None);
    }
    assert_eq!(
        kind(add(&store, Phase::Map, "{}", &PutOptions::default())),
        ErrorKind::ReadOnly
    );
    assert!(
        store
            .list(&DocumentScope::Repositories, &Default::default(), never())
            .unwrap()
            .entries
            .is_empty()
    );
    assert!(!place.root().exists());
}

#[test]
fn what_comes_too_late_stores_nothing() {
    let place = Place::new();
    let store = place.writer();
    let passed = Deadline::after(Duration::ZERO);
    assert_eq!(
        kind(store.put(
            &Document::Setup(job()),
            Body::EMPTY,
            &PutOptions::default(),
            passed
        )),
        ErrorKind::Timeout
    );
    assert_eq!(
        kind(store.get(&Document::Setup(job()), passed)),
        ErrorKind::Timeout
    );
    assert_eq!(body(&store, &Document::Setup(job())), None);
}

#[test]
fn a_writer_waits_for_another_until_its_deadline() {
    let place = Place::new();
    let (one, other) = (place.writer(), place.writer());
    let lock = Entry::StateLock(job()).path();
    let held = LockedFile::take(&one.root, &lock, "test", "a long write", never()).unwrap();
    let soon = Deadline::after(Duration::from_millis(300));
    let error = other
        .put(&Document::Setup(job()), Body::EMPTY, &PutOptions::default(), soon)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockUnavailable);
    assert!(error.why().contains(&std::process::id().to_string()), "{error}");
    // Documents of another job have another lock, and readers take none, so these calls do not wait.
    put(&other, &Document::Repository(job().repo), "{}", Expected::Any).unwrap();
    assert_eq!(body(&other, &Document::Setup(job())), None);
    drop(held);
    put(&other, &Document::Setup(job()), "{}", Expected::Any).unwrap();
}

#[test]
fn without_file_locks_a_damaged_document_is_moved_as_with_them() {
    let place = Place::new();
    let store = place.store(|options| options.file_locks(false));
    let one = add(&store, Phase::Map, "{}", &PutOptions::default()).unwrap();
    let two = add(&store, Phase::Map, "{}", &PutOptions::default()).unwrap();
    assert!(two.document > one.document);
    flip(&place.path(&two.document), 80);
    let options = PutOptions::default().expect(Expected::Revision(one.revision));
    add(&store, Phase::Map, "{}", &options).unwrap();
    assert!(!place.path(&two.document).exists());
    assert_eq!(place.quarantined().len(), 1);
}
