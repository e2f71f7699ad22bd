//! The environment of the measured works: their folder, the amount of work, and shared data.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::row::Row;
use crate::rows::follow::{self, Many};
use crate::rows::log::Log;
use crate::rows::open::Jobs;
use crate::rows::resident::Big;

/// The amount of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// The number of measured rounds, which follow a round that is not measured.
    pub(crate) rounds: usize,
    /// The number by which sizes are divided in a quick run.
    pub(crate) divisor: usize,
    /// The share of a bar that noise may explain.
    pub(crate) margin: f64,
}

impl Scale {
    pub(crate) const FULL: Self = Self {
        rounds: 7,
        divisor: 1,
        margin: 0.1,
    };
    pub(crate) const QUICK: Self = Self {
        rounds: 3,
        divisor: 10,
        margin: 0.25,
    };

    /// The number of measured rounds of a row.
    pub(crate) fn rounds(&self, row: &Row) -> usize {
        self.rounds.min(row.rounds)
    }
}

/// The environment of all works of a run.
#[derive(Debug)]
pub(crate) struct Lab {
    folder: TempDir,
    pub(crate) scale: Scale,
    /// The tool, in the release profile, if it was built.
    pub(crate) tool: Option<PathBuf>,
    /// The log of a million events that several rows read.
    log: OnceCell<Rc<Log>>,
    /// Logs of 1 GB, by the size of their segments.
    big: RefCell<BTreeMap<u64, Rc<Big>>>,
    /// The log of many segments.
    many: OnceCell<Rc<Many>>,
    /// Stores with many jobs, by the number of jobs.
    jobs: RefCell<BTreeMap<usize, Rc<Jobs>>>,
    /// The PostgreSQL server, if one is installed.
    #[cfg(feature = "postgres")]
    postgres: OnceCell<Option<Rc<crate::rows::postgres::Database>>>,
}

impl Lab {
    /// A lab in a new folder in `below`. The folder is removed when the lab is dropped.
    pub(crate) fn new(below: &Path, scale: Scale, tool: Option<PathBuf>) -> Result<Self> {
        let shown = || format!("can't make a folder in {}", below.display());
        std::fs::create_dir_all(below).with_context(shown)?;
        let folder = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(below)
            .with_context(shown)?;
        Ok(Self {
            folder,
            scale,
            tool,
            log: OnceCell::new(),
            big: RefCell::default(),
            many: OnceCell::new(),
            jobs: RefCell::default(),
            #[cfg(feature = "postgres")]
            postgres: OnceCell::new(),
        })
    }

    /// The given number, or the reduced number of a quick run.
    pub(crate) fn of(&self, number: usize) -> usize {
        (number / self.scale.divisor).max(16)
    }

    /// The folder in which turns create their folders.
    pub(crate) fn bench(&self) -> Bench {
        Bench(self.folder.path().to_owned())
    }

    /// The shared log, created at the first call.
    pub(crate) fn log(&self) -> Result<Rc<Log>> {
        if let Some(log) = self.log.get() {
            return Ok(Rc::clone(log));
        }
        let log = Rc::new(Log::make(self)?);
        Ok(Rc::clone(self.log.get_or_init(|| log)))
    }

    /// The log of 1 GB in segments of about this size, created at the first call.
    pub(crate) fn big(&self, segment: u64) -> Result<Rc<Big>> {
        if let Some(big) = self.big.borrow().get(&segment) {
            return Ok(Rc::clone(big));
        }
        let big = Rc::new(Big::make(&self.bench(), segment, self.of(1_000_000_000))?);
        self.big.borrow_mut().insert(segment, Rc::clone(&big));
        Ok(big)
    }

    /// The log of many segments, created at the first call.
    pub(crate) fn many(&self) -> Result<Rc<Many>> {
        if let Some(many) = self.many.get() {
            return Ok(Rc::clone(many));
        }
        let many = follow::many(self)?;
        Ok(Rc::clone(self.many.get_or_init(|| many)))
    }

    /// A store of this number of jobs, for works that only read; created at the first call.
    pub(crate) fn jobs(&self, number: usize) -> Result<Rc<Jobs>> {
        if let Some(jobs) = self.jobs.borrow().get(&number) {
            return Ok(Rc::clone(jobs));
        }
        let jobs = Rc::new(Jobs::make(&self.bench(), number)?);
        self.jobs.borrow_mut().insert(number, Rc::clone(&jobs));
        Ok(jobs)
    }

    /// The PostgreSQL server, started at the first call.
    #[cfg(feature = "postgres")]
    pub(crate) fn postgres(&self) -> Option<Rc<crate::rows::postgres::Database>> {
        let start = || crate::rows::postgres::Database::start().map(Rc::new);
        self.postgres.get_or_init(start).clone()
    }

    /// Waits until the data of earlier turns is on the disk, so that their writes do not slow down this turn.
    pub(crate) fn settle(&self) -> Result<()> {
        let folder = std::fs::File::open(self.folder.path())?;
        rustix::fs::syncfs(&folder).context("can't sync the folder of the benchmarks")?;
        Ok(())
    }
}

/// The folder in which turns create their folders.
#[derive(Clone, Debug)]
pub(crate) struct Bench(PathBuf);

impl Bench {
    /// A new folder, which is removed when it is dropped.
    pub(crate) fn folder(&self) -> Result<TempDir> {
        tempfile::tempdir_in(&self.0).context("can't make the folder of a turn")
    }
}
