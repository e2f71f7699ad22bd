//! Tests of the snapshot on disk.

use prodigy_storage_backend::{Catalog, Deadline, ErrorKind, LockOptions, LockStore, PageOptions};
use prodigy_storage_layout::LockName;
use prodigy_storage_memory::{MemoryBackend, MemoryOptions};
use tempfile::TempDir;

use crate::limit::{append, count, job};

fn open(folder: &TempDir) -> prodigy_storage_backend::Result<MemoryBackend> {
    MemoryBackend::new(MemoryOptions::new().persistence(folder.path().join("sub/store.jsonl")))
}

/// Opens the snapshot read-only, as another process would.
fn read(folder: &TempDir) -> MemoryBackend {
    let options = MemoryOptions::new().persistence(folder.path().join("sub/store.jsonl"));
    MemoryBackend::new(options.read_only(true)).unwrap()
}

fn names(folder: &TempDir) -> Vec<String> {
    std::fs::read_dir(folder.path().join("sub"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect()
}

#[test]
fn a_flush_saves_and_a_drop_saves_the_rest() {
    let folder = TempDir::new().unwrap();
    let backend = open(&folder).unwrap();
    append(&backend, &job("a"), "1").unwrap();
    backend.flush(Deadline::never()).unwrap();
    // A read-only handle sees the flushed data.
    assert_eq!(count(&read(&folder), &job("a")), 1);
    append(&backend, &job("a"), "2").unwrap();
    assert_eq!(count(&read(&folder), &job("a")), 1);
    let clone = backend.clone();
    drop(backend);
    append(&clone, &job("a"), "3").unwrap();
    drop(clone);
    assert_eq!(count(&read(&folder), &job("a")), 3);
    assert_eq!(
        names(&folder),
        ["store.jsonl", "store.jsonl.lock"],
        "nothing else is left behind"
    );
}

#[test]
fn every_flipped_or_missing_byte_is_refused_and_the_file_is_left() {
    let folder = TempDir::new().unwrap();
    let backend = open(&folder).unwrap();
    append(&backend, &job("a"), "1").unwrap();
    drop(
        backend
            .lock(
                &LockName::new("l").unwrap(),
                &LockOptions::default(),
                Deadline::never(),
            )
            .unwrap(),
    );
    drop(backend);
    let path = folder.path().join("sub/store.jsonl");
    let whole = std::fs::read(&path).unwrap();
    let refuse = |bytes: &[u8], what: String| {
        std::fs::write(&path, bytes).unwrap();
        let error = open(&folder).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NewerFormat),
            "{what}: {error}"
        );
        assert!(error.hint().is_some() && error.target().ends_with("store.jsonl"));
        assert_eq!(
            std::fs::read(&path).unwrap(),
            bytes,
            "{what}: the file was changed"
        );
    };
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        refuse(&bytes, format!("byte {at}"));
        refuse(&whole[..at], format!("cut at {at}"));
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(count(&open(&folder).unwrap(), &job("a")), 1);
}

#[test]
fn a_newer_snapshot_is_refused_as_such() {
    let folder = TempDir::new().unwrap();
    open(&folder).unwrap().flush(Deadline::never()).unwrap();
    let path = folder.path().join("sub/store.jsonl");
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("\"version\":3", "\"version\":4");
    std::fs::write(&path, text).unwrap();
    assert_eq!(open(&folder).unwrap_err().kind(), ErrorKind::NewerFormat);
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_of_the_flush() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    // A file is at the path of a folder that the snapshot needs.
    let error = MemoryBackend::new(MemoryOptions::new().persistence(file.join("store.jsonl")))
        .and_then(|backend| backend.flush(Deadline::never()))
        .unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Io | ErrorKind::NotWritable),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("persistence_path"));
}

#[test]
fn what_was_loaded_counts() {
    let folder = TempDir::new().unwrap();
    let backend = open(&folder).unwrap();
    append(&backend, &job("a"), &"x".repeat(10_000)).unwrap();
    let free = backend.usage(Deadline::never()).unwrap().free;
    drop(backend);
    assert_eq!(
        open(&folder).unwrap().usage(Deadline::never()).unwrap().free,
        free
    );
    let path = folder.path().join("sub/store.jsonl");
    let small = MemoryBackend::new(MemoryOptions::new().persistence(path).max_memory(5000)).unwrap();
    assert_eq!(
        append(&small, &job("a"), "y").unwrap_err().kind(),
        ErrorKind::DiskFull
    );
    assert_eq!(count(&small, &job("a")), 1);
}

#[cfg(unix)]
#[test]
fn a_snapshot_and_the_folders_made_for_it_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a/b/store.jsonl");
    let backend = MemoryBackend::new(MemoryOptions::new().persistence(&path)).unwrap();
    append(&backend, &job("a"), "1").unwrap();
    backend.flush(Deadline::never()).unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&folder.path().join("a/b")), 0o700);
    assert_eq!(mode(&folder.path().join("a")), 0o700);
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_no_file_is_refused_and_does_not_hang() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sub/store.jsonl");
    std::fs::create_dir_all(&path).unwrap();
    assert_eq!(open(&folder).unwrap_err().kind(), ErrorKind::Io);
    std::fs::remove_dir(&path).unwrap();
    // Creates the pipe without a child process: before its exec, a child could hold the lock on the snapshot of another
    // test.
    let (kind, mode) = (
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
    );
    rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
    let error = open(&folder).unwrap_err();
    assert!(format!("{error:#}").contains("not a regular file"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_link_in_the_place_of_the_snapshot_is_replaced_and_not_written_through() {
    let folder = TempDir::new().unwrap();
    let outside = folder.path().join("outside");
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    let backend = open(&folder).unwrap();
    append(&backend, &job("a"), "1").unwrap();
    std::fs::write(&outside, "keep").unwrap();
    std::os::unix::fs::symlink(&outside, folder.path().join("sub/store.jsonl")).unwrap();
    backend.flush(Deadline::never()).unwrap();
    assert_eq!(std::fs::read(&outside).unwrap(), b"keep");
    assert_eq!(count(&read(&folder), &job("a")), 1);
    assert_eq!(names(&folder), ["store.jsonl", "store.jsonl.lock"]);
}

#[test]
fn a_second_store_on_one_snapshot_is_refused_and_names_the_holder() {
    let folder = TempDir::new().unwrap();
    let first = open(&folder).unwrap();
    let error = open(&folder).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockUnavailable);
    assert!(
        error
            .to_string()
            .contains(&format!("process {}", std::process::id())),
        "{error}"
    );
    drop(first);
    assert!(open(&folder).is_ok(), "the lock goes with the last handle");
}

#[test]
fn a_reader_of_a_snapshot_waits_for_nobody_and_writes_nothing() {
    let folder = TempDir::new().unwrap();
    let writer = open(&folder).unwrap();
    append(&writer, &job("a"), "1").unwrap();
    writer.flush(Deadline::never()).unwrap();
    let path = folder.path().join("sub/store.jsonl");
    let before = std::fs::read(&path).unwrap();
    let reader = read(&folder);
    append(&reader, &job("a"), "2").unwrap();
    reader.flush(Deadline::never()).unwrap();
    drop(reader);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let empty = TempDir::new().unwrap();
    drop(read(&empty));
    assert!(!empty.path().join("sub").exists(), "a reader creates no folder");
}

#[test]
fn the_numbers_of_an_emptied_queue_go_on() {
    use prodigy_storage_backend::dead_letter::DeadLetter;
    use prodigy_storage_backend::{Change, Claim, Durability, ItemId, QueueStore, Settlement};

    let folder = TempDir::new().unwrap();
    let id = ItemId::new("a").unwrap();
    let put = |backend: &MemoryBackend| {
        let item = DeadLetter::new(id.clone(), 1).to_item().unwrap();
        backend
            .queue_put(&job("a"), &[item], Durability::Strict, None, Deadline::never())
            .unwrap();
        let entry = backend
            .queue_get(&job("a"), &id, Deadline::never())
            .unwrap()
            .unwrap();
        entry.revision
    };
    let backend = open(&folder).unwrap();
    let first = put(&backend);
    let remove = Settlement::new(Claim::Item(id.clone()), Change::Remove);
    backend
        .queue_settle(&job("a"), &[remove], None, Deadline::never())
        .unwrap();
    drop(backend);
    let backend = open(&folder).unwrap();
    assert!(
        backend
            .jobs(&job("a").repo, &PageOptions::default(), Deadline::never())
            .unwrap()
            .entries
            .is_empty()
    );
    assert!(
        put(&backend) > first,
        "a revision names one state of an item only"
    );
}

#[test]
fn a_snapshot_of_the_first_version_is_taken_over() {
    use prodigy_storage_backend::QueueStore;

    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sub/store.jsonl");
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    let body = r#"{\"item_id\":\"ID\",\"item_data\":1}"#;
    let item = |id: &str| {
        format!(
            r#"{{"id":"{id}","lease":null,"body":"{}"}}"#,
            body.replace("ID", id)
        )
    };
    let lines = format!(
        "{}\n{}\n{}\n{}\n",
        r#"{"head":{"format":"prodigy-storage-memory","version":1}}"#,
        format_args!(
            r#"{{"job":{{"address":{},"incarnation":1,"segments":0,"open":false,"events":[],"documents":[],"items":[{},{}]}}}}"#,
            serde_json::to_string(&job("a")).unwrap(),
            item("z"),
            item("b")
        ),
        r#"{"registry":[]}"#,
        r#"{"locks":[]}"#,
    );
    let checksum = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(lines.as_bytes()));
    std::fs::write(
        &path,
        format!("{lines}{{\"foot\":{{\"checksum\":\"{checksum}\"}}}}\n"),
    )
    .unwrap();
    let backend = open(&folder).unwrap();
    let minute = std::time::Duration::from_secs(60);
    let select = prodigy_storage_backend::Select::eligible();
    let taken = backend
        .queue_take(&job("a"), &select, 9, minute, None, Deadline::never())
        .unwrap();
    let names: Vec<_> = taken.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(names, ["z", "b"]);
}
