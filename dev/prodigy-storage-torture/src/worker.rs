//! A worker of `cargo xtask crash --only many,clocks`: several threads use one handle until the process is killed.
//!
//! `torture-worker STORE NAME INPUT FOLDER SIZE` reports its work as JSON lines, before and after each operation. It
//! ends by itself only after an error, or when its standard input ends.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use prodigy_storage::config::MapEnvironment;
use prodigy_storage::{
    AppendOptions, Durability, ErrorKind, EventId, Expected, FollowOptions, Job, LockOptions, SaveOptions,
    ScanItem, Storage,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The number of threads that append; each has its own range of numbers.
const APPENDERS: usize = 3;
/// The number of events in a batch.
const BATCH: usize = 5;
/// The number of turns after which a thread finishes the job.
const FINISH: usize = 24;

/// The worker's store and arguments, which all of its threads use.
#[derive(Clone)]
struct Work {
    storage: Storage,
    job: Job,
    by: String,
    lines: Vec<String>,
    folder: PathBuf,
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let mut word = |what: &str| words.next().with_context(|| format!("no {what} is given"));
    let (store, by, input, folder) = (word("store")?, word("name")?, word("input")?, word("folder")?);
    let storage = Storage::builder()
        .environment(MapEnvironment::new())
        .base_dir(store)
        .set("backend_config.max_file_size", word("size of a segment")?)
        .set("backend_config.enable_compression", "true")
        .open()?;
    let work = Work {
        job: storage.repo("many")?.job("shared")?,
        storage,
        by,
        lines: std::fs::read_to_string(input)?
            .lines()
            .map(str::to_owned)
            .collect(),
        folder: folder.into(),
    };
    let (failed, ended) = mpsc::channel();
    for number in 0..APPENDERS {
        start(&work, &failed, move |work| append(work, number));
    }
    start(&work, &failed, save);
    start(&work, &failed, pass);
    start(&work, &failed, follow);
    thread::spawn(move || {
        let end = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = failed.send(end.map(|_| ()).map_err(anyhow::Error::from));
    });
    ended.recv().context("all threads are gone")?
}

/// Starts a thread that repeats its work until an error, which it sends to `failed`.
fn start(
    work: &Work,
    failed: &Sender<Result<()>>,
    mut step: impl FnMut(&Work) -> Result<()> + Send + 'static,
) {
    let (work, failed) = (work.clone(), failed.clone());
    thread::spawn(move || {
        // This fails only while the process ends, when the receiver is gone.
        let _ = failed.send(step(&work));
    });
}

/// Prints and flushes a report.
fn tell(what: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what}")?;
    Ok(out.flush()?)
}

impl Work {
    fn payload(&self, n: usize) -> Result<Box<RawValue>> {
        let line = self.lines.get(n % self.lines.len().max(1)).context("no input")?;
        Ok(RawValue::from_string(format!(
            r#"{{"by":"{}","n":{n},"line":{line}}}"#,
            self.by
        ))?)
    }
}

/// Appends events: strict, relaxed, and in batches.
fn append(work: &Work, number: usize) -> Result<()> {
    let events = work.job.events();
    for turn in 0.. {
        let numbers: Vec<usize> = (0..BATCH)
            .map(|of| (turn * BATCH + of) * APPENDERS + number)
            .collect();
        let payloads = numbers
            .iter()
            .map(|n| work.payload(*n))
            .collect::<Result<Vec<_>>>()?;
        let ids: Vec<EventId> = match turn % 3 {
            0 => events.append_batch(&payloads)?,
            strict => {
                let durability = if strict == 1 {
                    Durability::Strict
                } else {
                    Durability::Relaxed
                };
                let one =
                    |payload| events.append_with(payload, AppendOptions::default().durability(durability));
                payloads.iter().map(one).collect::<Result<_, _>>()?
            }
        };
        for (id, n) in ids.iter().zip(numbers) {
            tell(&json!({"event": {"id": id.to_string(), "n": n}}))?;
        }
        if turn % FINISH == number {
            // Finishing seals and compresses the segment; the next event reopens the job.
            work.job.finish()?;
        }
    }
    Ok(())
}

/// Increments the number in the latest checkpoint by compare-and-set.
fn save(work: &Work) -> Result<()> {
    let checkpoints = work.job.checkpoints();
    loop {
        let found = checkpoints.latest_map::<Value>()?;
        let number = |data: &Value| data.get("n").and_then(Value::as_u64);
        let (n, expected, condition) = match &found {
            Some(found) => {
                let before = number(&found.data).context("no number")?;
                (
                    before + 1,
                    found.revision.to_string(),
                    Expected::Revision(found.revision),
                )
            }
            None => (1, "absent".to_owned(), Expected::Absent),
        };
        tell(&json!({"saving": {"expected": expected, "n": n}}))?;
        let options = SaveOptions::new().expected_revision(condition);
        let won = match checkpoints.save_map(&json!({"n": n}), options) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::Conflict => false,
            Err(error) => return Err(error.into()),
        };
        tell(&json!({"saved": {"expected": expected, "n": n, "won": won}}))?;
        thread::sleep(Duration::from_millis(30));
    }
}

/// Runs the critical section that commands run, too, under the same lock.
fn pass(work: &Work) -> Result<()> {
    let (counter, new) = (work.folder.join("counter"), work.folder.join("counter.new"));
    let options = LockOptions::new("worker").wait(Duration::from_secs(25));
    loop {
        let lock = work.storage.lock_with("many/gate", options.clone())?;
        let token = lock.fencing().context("the lock is inert")?.token();
        tell(&json!("passing"))?;
        let number = before(&counter)?;
        let tokens = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(work.folder.join("tokens"));
        tokens?.write_all(format!("{token}\n").as_bytes())?;
        thread::sleep(Duration::from_millis(3));
        std::fs::write(&new, format!("{}\n", number + 1))?;
        std::fs::rename(&new, &counter)?;
        tell(&json!("passed"))?;
        lock.release()?;
        thread::sleep(Duration::from_millis(20));
    }
}

fn before(counter: &Path) -> Result<u64> {
    match std::fs::read_to_string(counter) {
        Ok(text) => Ok(text.trim().parse()?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Follows the log from the beginning. Fails if an event is returned twice or is damaged.
fn follow(work: &Work) -> Result<()> {
    let mut lines = work.job.events().follow_lines(FollowOptions::default())?;
    let (mut seen, mut told) = (HashSet::new(), 0);
    while let Some(item) = lines.next()? {
        match item {
            ScanItem::Record(record) => ensure!(seen.insert(record.id), "{} was given twice", record.id),
            ScanItem::Damage(damage) => anyhow::bail!("damage: {damage}"),
            ScanItem::TooLarge(record) => anyhow::bail!("{record}"),
        }
        if seen.len() - told >= 100 {
            tell(&json!({"followed": {"events": seen.len() - told}}))?;
            told = seen.len();
        }
    }
    Ok(())
}
