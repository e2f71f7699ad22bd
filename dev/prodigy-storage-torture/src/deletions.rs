//! A worker of `cargo xtask crash --only deletions`: writes to a job, deletes it, reads it or follows it, until it is
//! killed.
//!
//! `torture-deletions STORE NAME SEED ROLE` reports each call in two JSON lines, before and after it, with the time
//! since the boot in nanoseconds. The role `look` lists all stored data, and ends.
#![allow(clippy::print_stdout, reason = "a program of the command line")]

mod told;

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use prodigy_storage::config::MapEnvironment;
use prodigy_storage::{
    Cursor, DeadLetter, ErrorKind, FollowOptions, ItemId, Job, Phase, ReadOptions, SaveOptions, ScanItem,
    Select, Storage, StorageError,
};
use serde_json::{Value, json};

use told::{now, tell};

/// The segment size: small, so that a log has several segments.
const SEGMENT: &str = "4KiB";

struct Worker {
    job: Job,
    by: String,
    random: fastrand::Rng,
    /// The number of names that this worker has used for data.
    number: u32,
    /// A cursor, and the name of the last event before it.
    behind: Option<(Cursor, String)>,
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let mut word = |what: &str| words.next().with_context(|| format!("no {what} is given"));
    let (store, by, seed, role) = (word("store")?, word("name")?, word("seed")?, word("role")?);
    let storage = Storage::builder()
        .environment(MapEnvironment::new())
        .base_dir(store)
        .set("backend_config.max_file_size", SEGMENT)
        .set("backend_config.enable_compression", "true")
        .open()?;
    let mut worker = Worker {
        job: storage.repo("deletions")?.job("again")?,
        by,
        random: fastrand::Rng::with_seed(seed.parse().context("the seed is no number")?),
        number: 0,
        behind: None,
    };
    tell(&json!({"born": now()}))?;
    let step = match role.as_str() {
        "write" => Worker::write,
        "delete" => Worker::delete,
        "read" => Worker::read,
        "follow" => Worker::follow,
        "look" => return worker.look(),
        other => bail!("no role is named `{other}`"),
    };
    loop {
        step(&mut worker)?;
    }
}

impl Worker {
    fn pause(&mut self, longest: u64) {
        thread::sleep(Duration::from_millis(self.random.u64(..longest)));
    }

    /// New names for events, dead letters or checkpoints; `kind` is a part of each name.
    fn names(&mut self, kind: &str, count: u32) -> Vec<String> {
        let first = self.number;
        self.number += count;
        let name = |number| format!("{kind}-{}-{number}", self.by);
        (first..self.number).map(name).collect()
    }

    /// Reports the names of data before and after `call` stores the data.
    fn store(names: &[String], call: impl FnOnce() -> Result<(), StorageError>) -> Result<()> {
        tell(&json!({"storing": {"at": now(), "names": names}}))?;
        let stored = match call() {
            Ok(()) => true,
            Err(error) => match error.kind() {
                ErrorKind::LockUnavailable | ErrorKind::Timeout | ErrorKind::OutcomeUnknown => false,
                _ => return Err(error.into()),
            },
        };
        tell(&json!({"stored": {"at": now(), "stored": stored}}))
    }

    /// Stores data of each kind, then finishes the job, so that it can be deleted.
    fn write(&mut self) -> Result<()> {
        let job = self.job.clone();
        for _ in 0..self.random.u8(1..6) {
            let count = self.random.u32(1..8);
            let names = self.names("event", count);
            let text = "x".repeat(self.random.usize(..600));
            let events = names.iter().map(|name| json!({"name": name, "text": text}));
            let events: Vec<Value> = events.collect();
            Self::store(&names, || job.events().append_batch(&events).map(drop))?;
        }
        if self.random.bool() {
            let names = self.names("letter", 1);
            let name = names.first().context("no name")?;
            let letter = DeadLetter::new(ItemId::new(name.as_str())?, json!({"name": name}));
            Self::store(&names, || job.dlq().push(&letter).map(drop))?;
        }
        if self.random.bool() {
            let names = self.names("checkpoint", 1);
            let state = json!({"name": names.first()});
            let save = || job.checkpoints().save_map(&state, SaveOptions::new()).map(drop);
            Self::store(&names, save)?;
        }
        match job.finish() {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::LockUnavailable => {}
            Err(error) => return Err(error.into()),
        }
        self.pause(120);
        Ok(())
    }

    fn delete(&mut self) -> Result<()> {
        tell(&json!({"deleting": now()}))?;
        let how = match self.job.delete() {
            Ok(true) => "gone",
            Ok(false) => "nothing",
            Err(error) => match error.kind() {
                ErrorKind::LockUnavailable => "refused",
                ErrorKind::Timeout | ErrorKind::OutcomeUnknown => "unclear",
                _ => return Err(error.into()),
            },
        };
        tell(&json!({"deleted": {"at": now(), "how": how}}))?;
        // After a successful deletion, the pause before the next one is longer.
        self.pause(if how == "gone" { 200 } else { 8 });
        Ok(())
    }

    /// Starts a read, from the beginning or from the cursor of an earlier read. Reports the last event before that
    /// cursor.
    fn begin(&mut self) -> Result<Option<Cursor>> {
        let behind = self.behind.take().filter(|_| self.random.bool());
        let (cursor, name) = behind.unzip();
        tell(&json!({"looking": {"at": now(), "behind": name}}))?;
        Ok(cursor)
    }

    /// Reports and returns the name of an event that was read.
    fn given(item: &ScanItem<'_>) -> Result<String> {
        let ScanItem::Record(record) = item else {
            bail!("given: {item:?}");
        };
        let line: Value = serde_json::from_str(record.line)?;
        let name = line
            .pointer("/event/name")
            .or_else(|| line.get("name"))
            .and_then(Value::as_str)
            .with_context(|| format!("no name is in {line}"))?
            .to_owned();
        tell(&json!({"given": {"at": now(), "name": name}}))?;
        Ok(name)
    }

    /// Reports the end of a read, and the time at which its last step began.
    fn ended(last: u64, error: Option<&StorageError>) -> Result<()> {
        let how = match error.map(StorageError::kind) {
            None => "complete",
            Some(ErrorKind::Deleted) => "deleted",
            Some(ErrorKind::CursorGap) => "gap",
            Some(_) => bail!("a look ended: {error:?}"),
        };
        tell(&json!({"looked": {"at": now(), "last": last, "how": how}}))
    }

    fn read(&mut self) -> Result<()> {
        let cursor = self.begin()?;
        let mut last = now();
        let mut lines = match self.job.events().read_lines(ReadOptions::new().from(cursor)) {
            Ok(lines) => lines,
            Err(error) => return Self::ended(last, Some(&error)),
        };
        let mut waits = self.random.bool();
        loop {
            last = now();
            match lines.next() {
                Ok(Some(item)) => {
                    let name = Self::given(&item)?;
                    self.behind = Some((lines.cursor(), name));
                }
                Ok(None) => {
                    // At the end of the log, the cursor no longer names the segments that were read whole. Such
                    // cursors are tested, too.
                    if let Some((cursor, _)) = &mut self.behind {
                        *cursor = lines.cursor();
                    }
                    break Self::ended(last, None)?;
                }
                Err(error) => break Self::ended(last, Some(&error))?,
            }
            if std::mem::take(&mut waits) {
                self.pause(400);
            }
        }
        self.pause(60);
        Ok(())
    }

    fn follow(&mut self) -> Result<()> {
        let cursor = self.begin()?;
        let mut last = now();
        let error = match self.job.events().follow_lines(FollowOptions::new().from(cursor)) {
            Ok(mut lines) => loop {
                last = now();
                match lines.next() {
                    Ok(Some(item)) => {
                        let name = Self::given(&item)?;
                        self.behind = Some((lines.cursor(), name));
                    }
                    Ok(None) => bail!("a follow that nobody stopped has an end"),
                    Err(error) => break error,
                }
            },
            Err(error) => error,
        };
        Self::ended(last, Some(&error))
    }

    /// Lists all stored data.
    fn look(&mut self) -> Result<()> {
        let mut names = Vec::new();
        let mut lines = self.job.events().read_lines(ReadOptions::new())?;
        while let Some(item) = lines.next()? {
            names.push(Self::given(&item)?);
        }
        for item in self.job.dlq().scan(&Select::any())? {
            names.push(item?.id.to_string());
        }
        for entry in self.job.checkpoints().list_phase(Phase::Map) {
            let checkpoint = self.job.checkpoints().get::<Value>(&entry?.id)?;
            let data = checkpoint.context("a checkpoint is listed, and not there")?.data;
            names.push(
                data.get("name")
                    .and_then(Value::as_str)
                    .context("no name")?
                    .to_owned(),
            );
        }
        tell(&json!({"there": names}))
    }
}
