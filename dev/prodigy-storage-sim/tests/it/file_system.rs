//! The simulated file system behaves like a real one for an ordinary user.

use std::io::ErrorKind;
use std::path::Path;

use prodigy_storage_backend::{AppendOptions, Batch, Deadline, LogStore, ScanItem, ScanOptions};
use prodigy_storage_file::fs::{FileKind, FileSystem, OpenMode, SEALED_MODE};
use prodigy_storage_layout::{JobAddress, JobId, RepoName};
use prodigy_storage_sim::{Call, Disk, Doom, SimFs};

const FILE: &str = "a/file";

fn with_file() -> Disk {
    let mut disk = Disk::default();
    assert!(disk.write(FILE, "text"));
    disk
}

fn kind<T: std::fmt::Debug>(result: std::io::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn an_absent_root_is_empty_until_it_is_made() {
    let sim = SimFs::new(Disk::default());
    let process = sim.process();
    assert_eq!(kind(process.metadata(Path::new(""))), ErrorKind::NotFound);
    assert_eq!(kind(process.create_dir(Path::new("a"))), ErrorKind::NotFound);
    process.create_root().unwrap();
    process.create_root().unwrap();
    process.create_dir(Path::new("a")).unwrap();
    assert_eq!(kind(process.create_dir(Path::new("a"))), ErrorKind::AlreadyExists);
    assert_eq!(process.metadata(Path::new("")).unwrap().kind, FileKind::Folder);
    assert_eq!(
        sim.position(),
        2,
        "a call that changes nothing is not written down"
    );
}

#[test]
fn names_that_are_taken_are_refused_where_they_have_to_be_new() {
    let sim = SimFs::new(with_file());
    let process = sim.process();
    assert_eq!(
        kind(process.open(Path::new(FILE), OpenMode::CreateNew)),
        ErrorKind::AlreadyExists
    );
    process.open(Path::new("a/other"), OpenMode::CreateNew).unwrap();
    let (other, file) = (Path::new("a/other"), Path::new(FILE));
    assert_eq!(kind(process.rename_new(other, file)), ErrorKind::AlreadyExists);
    process.rename(other, file).unwrap();
    assert_eq!(sim.disk().read(FILE).unwrap().len(), 0);
    assert_eq!(kind(process.metadata(other)), ErrorKind::NotFound);
}

#[test]
fn a_file_lives_on_without_a_name_while_it_is_open() {
    let sim = SimFs::new(with_file());
    let process = sim.process();
    let file = process.open(Path::new(FILE), OpenMode::Write).unwrap();
    assert_eq!(file.metadata().unwrap().links, 1);
    process.unlink(Path::new(FILE)).unwrap();
    assert_eq!(file.metadata().unwrap().links, 0);
    file.write_all_at(b"T", 0).unwrap();
    assert_eq!(file.read_to_end(0, 10).unwrap(), b"Text");
    assert!(sim.disk().read(FILE).is_none());
    let again = process.open(Path::new(FILE), OpenMode::CreateNew).unwrap();
    assert_ne!(
        again.metadata().unwrap().identity,
        file.metadata().unwrap().identity
    );
}

#[test]
fn modes_are_honoured_as_for_a_user_who_is_not_root() {
    let mut disk = with_file();
    disk.set_mode(FILE, SEALED_MODE);
    disk.make_folder("shut");
    disk.set_mode("shut", 0o500);
    let sim = SimFs::new(disk);
    let process = sim.process();
    let file = process.open(Path::new(FILE), OpenMode::Read).unwrap();
    assert!(file.write_at(b"x", 0).is_err(), "it was opened for reading");
    for mode in [OpenMode::Write, OpenMode::Create] {
        assert_eq!(
            kind(process.open(Path::new(FILE), mode)),
            ErrorKind::PermissionDenied
        );
    }
    assert_eq!(
        kind(process.open(Path::new("shut/x"), OpenMode::CreateNew)),
        ErrorKind::PermissionDenied
    );
    // An open descriptor keeps its access rights.
    let writer = process.open(Path::new("a/new"), OpenMode::CreateNew).unwrap();
    writer.set_mode(SEALED_MODE).unwrap();
    assert_eq!(writer.write_at(b"x", 0).unwrap(), 1);
}

#[test]
fn nothing_follows_a_link() {
    let mut disk = with_file();
    disk.plant_other("a/link");
    let sim = SimFs::new(disk);
    let process = sim.process();
    for path in ["a/link", "a/link/x"] {
        let error = process.open(Path::new(path), OpenMode::Create).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));
    }
    assert_eq!(
        process.metadata(Path::new("a/link")).unwrap().kind,
        FileKind::Other
    );
    assert!(process.open(Path::new("../x"), OpenMode::Create).is_err());
}

#[test]
fn a_lock_is_its_descriptors_and_goes_with_it() {
    let sim = SimFs::new(with_file());
    let process = sim.process();
    let open = || process.open(Path::new(FILE), OpenMode::Read).unwrap();
    let (one, other) = (open(), open());
    assert!(one.try_lock().unwrap() && one.try_lock().unwrap());
    assert!(
        !other.try_lock().unwrap(),
        "also of the same process it is another descriptor"
    );
    drop(one);
    assert!(other.try_lock().unwrap());
}

#[test]
fn a_killed_process_changes_nothing_more_and_its_locks_are_free() {
    let sim = SimFs::new(with_file());
    let (process, survivor) = (sim.process(), sim.process());
    let file = process.open(Path::new(FILE), OpenMode::Write).unwrap();
    assert!(file.try_lock().unwrap());
    process.kill();
    assert!(process.is_dead());
    let other = survivor.open(Path::new(FILE), OpenMode::Write).unwrap();
    assert!(other.try_lock().unwrap());
    assert!(file.write_at(b"x", 0).is_err() && file.sync().is_err() && file.metadata().is_err());
    assert!(process.open(Path::new(FILE), OpenMode::Read).is_err());
    drop(file);
    let third = survivor.open(Path::new(FILE), OpenMode::Write).unwrap();
    assert!(
        !third.try_lock().unwrap(),
        "closing a dead descriptor frees no one else's lock"
    );
    assert_eq!(sim.disk().read(FILE).unwrap().as_slice(), b"text");
}

#[test]
fn a_process_can_die_in_the_middle_of_a_write() {
    let sim = SimFs::new(with_file());
    let process = sim.process();
    let file = process.open(Path::new(FILE), OpenMode::Write).unwrap();
    process.kill_in(Doom::after_bytes("other", 2));
    file.write_all_at(b"AB", 0).unwrap();
    process.kill_in(Doom::after_bytes(FILE, 2));
    assert!(file.write_at(b"CDEF", 2).is_err());
    assert!(process.is_dead());
    assert_eq!(sim.disk().read(FILE).unwrap().as_slice(), b"ABCD");
    assert_eq!(sim.position(), 2);
    let process = sim.process();
    let file = process.open(Path::new(FILE), OpenMode::Write).unwrap();
    process.kill_in(Doom::short_of(FILE, 1));
    assert!(file.write_at(b"abcd", 0).is_err());
    assert_eq!(sim.disk().read(FILE).unwrap().as_slice(), b"abcD");
}

#[test]
fn a_process_can_die_before_a_rename() {
    let sim = SimFs::new(with_file());
    let process = sim.process();
    process.kill_in(Doom::before_rename("second"));
    process.rename(Path::new(FILE), Path::new("first")).unwrap();
    assert!(process.rename(Path::new("first"), Path::new("second")).is_err());
    assert!(process.is_dead());
    assert!(sim.disk().read("first").is_some() && sim.disk().read("second").is_none());
}

#[test]
fn others_can_come_between_opening_and_locking() {
    let sim = SimFs::new(with_file());
    let (process, other) = (sim.process(), sim.process());
    process.before_it_locks("file", move || other.unlink(Path::new(FILE)).unwrap());
    let file = process.open(Path::new(FILE), OpenMode::Write).unwrap();
    assert_eq!(file.metadata().unwrap().links, 1);
    assert!(file.try_lock().unwrap());
    assert_eq!(file.metadata().unwrap().links, 0);
}

#[test]
fn the_journal_tells_every_change_in_order() {
    let sim = SimFs::new(Disk::default());
    let process = sim.process();
    process.create_root().unwrap();
    let file = process.open(Path::new("x"), OpenMode::Create).unwrap();
    file.write_all_at(b"abc", 2).unwrap();
    file.set_len(4).unwrap();
    file.sync().unwrap();
    process.sync_dir(Path::new("")).unwrap();
    process.rename(Path::new("x"), Path::new("y")).unwrap();
    process.unlink(Path::new("y")).unwrap();
    let told: Vec<String> = sim.journal().iter().map(|entry| entry.to_string()).collect();
    assert_eq!(
        told,
        [
            "process 1: create the root",
            "process 1: create x",
            "process 1: write 3 bytes at 2 to x",
            "process 1: set the length of x to 4",
            "process 1: sync the data of x",
            "process 1: sync folder /",
            "process 1: rename x to y",
            "process 1: unlink y",
        ]
    );
    assert!(matches!(&sim.journal()[2].call, Call::Write { bytes, .. } if **bytes == *b"abc"));
}

#[test]
fn the_file_backend_works_on_it() {
    let sim = SimFs::new(Disk::default());
    let (backend, _) = sim.open(sim.options()).unwrap();
    let job = JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("job").unwrap());
    let mut batch = Batch::new();
    batch.push("stored").unwrap();
    backend
        .append(&job, &mut batch, &AppendOptions::default(), Deadline::never())
        .unwrap();
    drop(backend);

    let again = SimFs::new(sim.disk());
    let (backend, _) = again.open(again.options()).unwrap();
    let mut scan = backend
        .scan(&job, &ScanOptions::all(), Deadline::never())
        .unwrap();
    let Some(ScanItem::Record(record)) = scan.next().unwrap() else {
        panic!("a record was stored");
    };
    assert!(record.verified && record.line.contains("stored"));
    assert_eq!(again.position(), 0, "a reader writes nothing");
}
