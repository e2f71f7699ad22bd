//! A log of a million events over a day, which several rows read.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use prodigy_storage::{
    Clock, EventReader, Job, ReadOptions, Storage, StorageConfig, SystemClock, Timestamp, Uptime,
};
use tempfile::TempDir;

use crate::child::{Process, Task};
use crate::event::{Event, Source};
use crate::lab::{Bench, Lab};
use crate::store;

/// The seed of the shared logs, which are created in each run and only read.
const SEED: u64 = 20_260_101;
/// The span of time that the shared log covers, in nanoseconds.
const DAY: i64 = 86_400_000_000_000;
const MINUTE: i64 = 60_000_000_000;
/// The number of events with the same time.
const AT_ONCE: usize = 10;

/// A store with one job, whose log is read by several rows.
#[derive(Debug)]
pub(crate) struct Log {
    folder: TempDir,
    storage: Storage,
    pub(crate) events: usize,
    /// The beginning of the log's last minute; the next field has the number of events in that minute.
    pub(crate) last_minute: Timestamp,
    pub(crate) in_last_minute: usize,
}

/// A clock that the benchmark sets.
#[derive(Debug)]
struct Set(AtomicI64);

impl Clock for Set {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn uptime(&self) -> Uptime {
        SystemClock.uptime()
    }
}

impl Log {
    /// A log in one segment, spread over a day.
    pub(crate) fn make(lab: &Lab) -> Result<Self> {
        let mut config = StorageConfig::default();
        config.file.max_file_size = 1 << 40;
        Self::filled(&lab.bench(), config, million(lab))
    }

    /// A log with this configuration, except root and durability.
    pub(crate) fn filled(bench: &Bench, mut config: StorageConfig, events: usize) -> Result<Self> {
        let folder = bench.folder()?;
        config.file.base_dir = folder.path().join("root");
        config.durability = prodigy_storage::Durability::Relaxed;
        let end = Timestamp::now().as_nanos();
        let step = DAY / events as i64;
        let clock = std::sync::Arc::new(Set(AtomicI64::new(0)));
        let writer = Storage::builder()
            .config(config.clone())
            .clock(std::sync::Arc::clone(&clock) as std::sync::Arc<dyn Clock>)
            .open()?;
        let log = store::job(&writer)?.events();
        let mut source = Source::new(SEED);
        let mut batch = prodigy_storage::Batch::new();
        let mut in_last_minute = 0;
        for start in (0..events).step_by(AT_ONCE) {
            let now = end - DAY + step * start as i64;
            clock.0.store(now, Ordering::Relaxed);
            batch.clear();
            for n in start..(start + AT_ONCE).min(events) {
                batch.push(source.event(n))?;
            }
            if now >= end - MINUTE {
                in_last_minute += batch.len();
            }
            log.append_prepared(&mut batch, None)?;
        }
        writer.flush()?;
        drop((log, writer));
        let log = Self {
            folder,
            storage: Storage::with_config(config)?,
            events,
            last_minute: Timestamp::from_nanos(end - MINUTE),
            in_last_minute,
        };
        log.check()?;
        Ok(log)
    }

    /// A log with the same events in `segments` interleaved segments, as several processes write that append in turn.
    pub(crate) fn interleaved(bench: &Bench, segments: usize, events: usize) -> Result<Self> {
        let folder = bench.folder()?;
        let task = Task::InTurns {
            folder: folder.path().to_owned(),
            seed: SEED,
        };
        let mut writers = (0..segments)
            .map(|_| Process::start(&task))
            .collect::<Result<Vec<_>>>()?;
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut from = 0;
        while from < events {
            let count = random.usize(1..=20).min(events - from);
            let at = random.usize(..segments);
            let writer = writers.get_mut(at).context("a writer of the log")?;
            writer.send_line(&format!("{from} {count}"))?;
            writer.expect_line("done")?;
            from += count;
        }
        writers.into_iter().try_for_each(Process::finish)?;
        let log = Self {
            storage: store::open(folder.path(), false)?,
            folder,
            events,
            last_minute: Timestamp::MAX,
            in_last_minute: 0,
        };
        log.check()?;
        Ok(log)
    }

    /// Checks that every event is stored.
    fn check(&self) -> Result<()> {
        let (digest, _) = store::stored(&self.job()?)?;
        digest.must_be(Source::new(SEED).digest(0..self.events))
    }

    pub(crate) fn job(&self) -> Result<Job> {
        store::job(&self.storage)
    }

    /// The root of the log's store.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// The files of the log with this file name extension.
    pub(crate) fn segments(&self, ending: &str) -> Result<Vec<PathBuf>> {
        let folder = self
            .folder
            .path()
            .join("root/events")
            .join(store::REPO)
            .join(store::JOB);
        segments(&folder, ending)
    }

    /// Reads and parses the whole log; returns the microseconds for all of it.
    pub(crate) fn full_scan(&self) -> Result<f64> {
        let job = self.job()?;
        let began = Instant::now();
        let read = Read::all(job.events().read::<Event>()?)?;
        let took = began.elapsed().as_secs_f64() * 1e6;
        read.must_be(self.events)?;
        Ok(took)
    }

    /// Reads and parses a part of the log `times` times; returns microseconds per read, and the number of events in a
    /// read.
    pub(crate) fn part(&self, options: &ReadOptions, times: usize) -> Result<(f64, usize)> {
        let job = self.job()?;
        let mut count = 0;
        let began = Instant::now();
        for _ in 0..times {
            let read = Read::all(job.events().read_with::<Event>(options.clone())?)?;
            count += read.count;
        }
        let took = crate::clock::per_operation(began, times);
        Ok((took, count / times))
    }
}

fn segments(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(ending) && !name.starts_with('.') {
            found.push(path);
        }
    }
    Ok(found)
}

/// A million events, or fewer in a quick run.
pub(crate) fn million(lab: &Lab) -> usize {
    lab.of(1_000_000)
}

/// A cheap sum over the events, by which every event is used while reading still dominates the measured time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Read {
    pub(crate) count: usize,
    sum: u64,
}

impl Read {
    pub(crate) fn add(&mut self, event: &Event) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(event.sequence);
    }

    fn all(events: EventReader<Event>) -> Result<Self> {
        let mut read = Self::default();
        for event in events {
            read.add(&event?.event);
        }
        Ok(read)
    }

    /// Checks that all events up to this number were read, each once.
    pub(crate) fn must_be(self, events: usize) -> Result<()> {
        let sum: u64 = (0..events as u64).fold(0, u64::wrapping_add);
        ensure!(
            self.count == events && self.sum == sum,
            "{} of {events} events were read, or others",
            self.count
        );
        Ok(())
    }
}

/// The events of the shared log by number, for filling a peer's store.
#[cfg(feature = "peers")]
pub(crate) fn source() -> Source {
    Source::new(SEED)
}
