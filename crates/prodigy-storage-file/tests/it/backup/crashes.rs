//! Tests of restores that are interrupted at each system call, by a kill or a power loss, and then made again.

use std::collections::{BTreeMap, HashSet};
use std::io::Cursor as Reader;
use std::path::PathBuf;
use std::sync::Arc;

use prodigy_storage_backend::{Catalog, ErrorKind, LogStore, PageOptions, ScanOptions};
use prodigy_storage_file::{Backup, FileBackend};
use prodigy_storage_layout::JobAddress;
use prodigy_storage_sim::{Disk, Effort, Moment, SimFs, crashes};

use super::{FOREIGN, NEVER, Place, append, fill, job, lines};

const EFFORT: Effort = Effort {
    subsets: 2,
    thorough: false,
};

fn restore(
    sim: &Arc<SimFs>,
    archive: &[u8],
    job: Option<&JobAddress>,
) -> prodigy_storage_backend::Result<()> {
    let backup = Backup::new_on(sim.process(), sim.options())?;
    backup.restore(&mut Reader::new(archive), job).map(drop)
}

/// The files of a disk that a store reads, except lock files and temporary files.
fn files(disk: &Disk) -> BTreeMap<PathBuf, Arc<Vec<u8>>> {
    // Leaves out mtimes, since an interrupted restore may change that of the log's folder, and fencing marks, which get
    // a new revision in each restore.
    let mut files: BTreeMap<_, _> = disk
        .files()
        .into_iter()
        .map(|path| (path.clone(), disk.read(&path).unwrap()))
        .collect();
    files.retain(|path, _| {
        let name = path.file_name().unwrap().to_string_lossy();
        !name.starts_with(".tmp-")
            && !name.ends_with(".lock")
            && name != "fencing.json"
            && !path.starts_with("deletions")
    });
    files
}

/// Calls `check` with each disk that a crash of the restore may leave behind.
fn each_crash(start: Disk, archive: &[u8], job: Option<&JobAddress>, mut check: impl FnMut(&Disk)) -> Disk {
    let sim = SimFs::new(start.clone());
    restore(&sim, archive, job).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut moment = Moment::new(start);
    let mut seen = HashSet::new();
    for entry in sim.journal().into_iter().map(Arc::new) {
        moment.step(&entry);
        for crash in crashes(&moment, true, EFFORT, &mut random).0 {
            if seen.insert(crash.disk().content_hash()) {
                check(crash.disk());
            }
        }
    }
    assert!(seen.len() > 50, "{}", seen.len());
    sim.disk()
}

fn archive() -> (Vec<u8>, Vec<String>) {
    let place = Place::new();
    let backend = place.open("root");
    fill(&backend, &job("a"));
    append(&backend, &job("b"), 0..2);
    for path in FOREIGN {
        let path = place.root("root").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "not ours").unwrap();
    }
    (place.archive("root", None), lines(&backend, &job("a"), None).0)
}

#[test]
fn a_root_can_not_be_opened_before_it_is_whole_and_the_next_run_makes_it_whole() {
    let (archive, _) = archive();
    let whole = {
        let sim = SimFs::new(Disk::default());
        restore(&sim, &archive, None).unwrap();
        files(&sim.disk())
    };
    each_crash(Disk::default(), &archive, None, |disk| {
        let sim = SimFs::new(disk.clone());
        match sim.open(sim.options()) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Refused, "{error}"),
            Ok((backend, _)) => {
                let repos = backend
                    .repositories(&PageOptions::default(), NEVER)
                    .unwrap()
                    .entries;
                assert!(repos.is_empty() || files(disk) == whole, "half of it can be read");
            }
        }
        let sim = SimFs::new(disk.clone());
        if let Err(error) = restore(&sim, &archive, None) {
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            assert!(files(disk) == whole, "{error}: {:?}", disk.paths());
            return;
        }
        assert!(files(&sim.disk()) == whole, "{:?}", sim.disk().paths());
    });
}

fn events(backend: &FileBackend, job: &JobAddress) -> usize {
    let mut scan = backend.scan(job, &ScanOptions::all(), NEVER).unwrap();
    let mut count = 0;
    while scan.next().unwrap().is_some() {
        count += 1;
    }
    count
}

#[test]
fn a_job_appears_whole_or_not_at_all() {
    let (archive, all) = archive();
    let job = job("a");
    let start = {
        let sim = SimFs::new(Disk::default());
        let (backend, _) = sim.open(sim.options()).unwrap();
        append(&backend, &super::job("c"), 0..2);
        drop(backend);
        sim.disk()
    };
    let whole = {
        let sim = SimFs::new(start.clone());
        restore(&sim, &archive, Some(&job)).unwrap();
        files(&sim.disk())
    };
    each_crash(start, &archive, Some(&job), |disk| {
        let sim = SimFs::new(disk.clone());
        let (backend, _) = sim.open(sim.options()).unwrap();
        let found = events(&backend, &job);
        assert!(
            found == 0 || found == all.len(),
            "{found} of {} events",
            all.len()
        );
        assert_eq!(events(&backend, &super::job("c")), 2);
        drop(backend);

        let again = SimFs::new(disk.clone());
        match restore(&again, &archive, Some(&job)) {
            Ok(()) => assert_eq!(found, 0),
            Err(error) => {
                assert_eq!((error.kind(), found), (ErrorKind::Conflict, all.len()), "{error}");
            }
        }
        assert!(files(&again.disk()) == whole, "{:?}", again.disk().paths());

        // After an incomplete restore, a write starts the job with an empty log.
        let written = SimFs::new(disk.clone());
        let (backend, _) = written.open(written.options()).unwrap();
        append(&backend, &job, 0..1);
        assert_eq!(events(&backend, &job), found + 1);
    });
}
