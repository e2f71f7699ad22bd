//! A store in memory with arbitrary files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prodigy_storage_backend::{Damage, Deadline, EventId, LogStore, Result, ScanItem, ScanOptions};
use prodigy_storage_file::{FileBackend, FileOptions};
use prodigy_storage_layout::{JobAddress, JobId, RepoName};
use prodigy_storage_sim::{Disk, SimFs};

pub(crate) const NEVER: Deadline = Deadline::never();

/// A root in memory.
pub(crate) struct Place {
    sim: Arc<SimFs>,
    pub(crate) job: JobAddress,
}

impl Place {
    /// A root with these files: path, bytes, mode.
    pub(crate) fn new<'a>(files: impl IntoIterator<Item = (PathBuf, &'a [u8], u32)>) -> Self {
        let mut disk = Disk::default();
        for (path, bytes, mode) in files {
            assert!(disk.write(&path, bytes) && disk.set_mode(&path, mode));
        }
        Self {
            sim: SimFs::new(disk),
            job: job(),
        }
    }

    pub(crate) fn options(&self) -> FileOptions {
        self.sim.options()
    }

    /// Opens the store as another process would.
    pub(crate) fn open(&self, options: FileOptions) -> FileBackend {
        self.sim.open(options).unwrap().0
    }

    /// Opens the store as a process that only reads.
    pub(crate) fn reader(&self) -> FileBackend {
        self.open(self.options().read_only(true))
    }

    pub(crate) fn read(&self, path: &Path) -> Option<Arc<Vec<u8>>> {
        self.sim.disk().read(path)
    }

    /// A hash of all files, to detect changes.
    pub(crate) fn hash(&self) -> u128 {
        self.sim.disk().content_hash()
    }

    /// The contents of the quarantine.
    pub(crate) fn quarantined(&self) -> Vec<Arc<Vec<u8>>> {
        let disk = self.sim.disk();
        let in_quarantine = |path: &PathBuf| path.starts_with("quarantine");
        disk.files()
            .into_iter()
            .filter(in_quarantine)
            .filter_map(|path| disk.read(path))
            .collect()
    }
}

/// The job to which all files belong.
pub(crate) fn job() -> JobAddress {
    JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("job-1").unwrap())
}

/// An element that a scan of a log returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Record {
        id: EventId,
        line: String,
        verified: bool,
    },
    Damage(Damage),
}

impl Step {
    pub(crate) fn id(&self) -> Option<EventId> {
        match self {
            Self::Record { id, .. } => Some(*id),
            Self::Damage(_) => None,
        }
    }

    pub(crate) fn is_verified(&self) -> bool {
        matches!(self, Self::Record { verified: true, .. })
    }
}

/// Reads the log to its end; returns each step with the cursor after it.
pub(crate) fn scan(
    backend: &FileBackend,
    options: &ScanOptions,
) -> Result<Vec<(Step, prodigy_storage_backend::Cursor)>> {
    let mut scan = backend.scan(&job(), options, NEVER)?;
    let mut steps = Vec::new();
    loop {
        let step = match scan.next()? {
            None => return Ok(steps),
            Some(ScanItem::Damage(damage)) => Step::Damage(damage),
            Some(ScanItem::TooLarge(record)) => panic!("no input is as large as the limit: {record}"),
            Some(ScanItem::Record(record)) => Step::Record {
                id: record.id,
                line: record.line.to_owned(),
                verified: record.verified,
            },
        };
        let cursor = scan.cursor();
        steps.push((step, cursor));
        assert!(steps.len() < 1 << 20, "reading does not end");
    }
}

/// Reads the log to its end.
pub(crate) fn steps(backend: &FileBackend) -> Vec<Step> {
    let given = scan(backend, &ScanOptions::all()).unwrap();
    given.into_iter().map(|(step, _)| step).collect()
}
