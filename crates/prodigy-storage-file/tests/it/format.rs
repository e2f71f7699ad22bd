//! Tests of the format of a store: format 1 is read and upgraded, and a newer format is refused.

use std::path::{Path, PathBuf};

use prodigy_storage_backend::{
    AppendOptions, Batch, Deadline, ErrorKind, LogStore, Result, ScanItem, ScanOptions,
};
use prodigy_storage_file::{Doctor, DoctorScope, FileBackend, FileOptions};
use prodigy_storage_layout::{JobAddress, JobId, RepoName};
use tempfile::TempDir;

const OLD: &str = "{\"format\":1,\"written_by\":\"prodigy-storage-file 0.1.0\"}\n";
const NEVER: Deadline = Deadline::never();

/// A root with one event, with a `format.json` that states this format; without `format.json` if `format` is `None`.
fn root(format: Option<&str>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    append(&root, "old").unwrap();
    let path = root.join("format.json");
    match format {
        Some(text) => std::fs::write(path, text).unwrap(),
        None => std::fs::remove_file(path).unwrap(),
    }
    (folder, root)
}

fn job() -> JobAddress {
    JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("j").unwrap())
}

fn append(root: &Path, payload: &str) -> Result<()> {
    let backend = FileBackend::open(FileOptions::new(root))?;
    let mut batch = Batch::new();
    batch.push(payload)?;
    backend.append(&job(), &mut batch, &AppendOptions::default(), NEVER)?;
    Ok(())
}

fn events(options: FileOptions) -> Result<usize> {
    let backend = FileBackend::open(options)?;
    let mut scan = backend.scan(&job(), &ScanOptions::all(), NEVER)?;
    let mut events = 0;
    while let Some(item) = scan.next()? {
        events += usize::from(matches!(item, ScanItem::Record(_)));
    }
    Ok(events)
}

fn format(root: &Path) -> Option<u64> {
    let text = std::fs::read(root.join("format.json")).ok()?;
    serde_json::from_slice::<serde_json::Value>(&text).unwrap()["format"].as_u64()
}

#[test]
fn a_store_of_format_1_is_read_as_it_is_and_taken_over_by_the_first_write() {
    for old in [Some(OLD), None] {
        let (_folder, root) = root(old);
        for read_only in [true, false] {
            let options = FileOptions::new(&root).read_only(read_only);
            assert_eq!(events(options).unwrap(), 1);
            assert_eq!(format(&root), old.map(|_| 1), "a reader changes nothing");
        }
        append(&root, "new").unwrap();
        assert_eq!(format(&root), Some(2));
        assert_eq!(events(FileOptions::new(&root)).unwrap(), 2);
    }
}

#[test]
fn a_newer_format_is_refused_by_readers_and_writers() {
    let (_folder, root) = root(Some("{\"format\":3}"));
    for read_only in [true, false] {
        let error = events(FileOptions::new(&root).read_only(read_only)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NewerFormat);
        assert!(error.to_string().contains("knows up to 2"), "{error}");
    }
    assert_eq!(append(&root, "new").unwrap_err().kind(), ErrorKind::NewerFormat);
    assert_eq!(format(&root), Some(3));
}

#[test]
fn a_file_that_a_power_loss_left_empty_or_full_of_zeros_is_repaired_where_there_is_data() {
    for left in ["", "\0\0\0\0\0\0\0\0\0\0"] {
        let (folder, root) = root(Some(left));
        let refused = append(&root, "new").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Damaged);
        repair(&root);
        assert_eq!(format(&root), Some(2));
        append(&root, "new").unwrap();
        assert_eq!(events(FileOptions::new(&root)).unwrap(), 2);

        // In a folder without data of this project, the file may belong to another program, so it is not repaired.
        let other = folder.path().join("other");
        std::fs::create_dir(&other).unwrap();
        std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::write(other.join("format.json"), left).unwrap();
        repair(&other);
        assert_eq!(std::fs::read_to_string(other.join("format.json")).unwrap(), left);
    }
}

fn repair(root: &Path) {
    let doctor = Doctor::new(FileOptions::new(root)).unwrap();
    let wait = std::time::Duration::ZERO;
    doctor.repair(&DoctorScope::all(), wait, &mut |_| ()).unwrap();
}
