//! A worker of `cargo xtask crash --only deletions`: writes, deletes, reads or follows one job, until somebody kills it.
//!
//! `torture-deletions STORE NAME SEED ROLE` reports each call as JSON lines, with the time since the boot in nanoseconds before and
//! after it.
#![allow(clippy::print_stdout, reason = "a program of the command line")]

use std::io::Write;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use prodigy_storage::config::MapEnvironment;
use prodigy_storage::{Clock, Cursor, ErrorKind, FollowOptions, Job, Storage, StorageError, SystemClock};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An event, which is appended once.
#[derive(Serialize, Deserialize)]
struct Event {
    key: String,
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let mut word = |what: &str| words.next().with_context(|| format!("no {what} is given"));
    let (store, by, seed, role) = (word("store")?, word("name")?, word("seed")?, word("role")?);
    let storage = Storage::builder()
        .environment(MapEnvironment::new())
        .base_dir(store)
        .set("backend_config.max_file_size", "2KB")
        .set("backend_config.enable_compression", "true")
        .set("timeout", "5s")
        .open()?;
    let job = storage.repo("deletions")?.job("job")?;
    let random = fastrand::Rng::with_seed(seed.parse().context("the seed is no number")?);
    match role.as_str() {
        "write" => write(&job, &by, random),
        "delete" => delete(&job, random),
        "read" => read(&job, random),
        "follow" => follow(&job, random),
        other => bail!("no role is named `{other}`"),
    }
}

/// Prints a report at once.
fn tell(what: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what}")?;
    Ok(out.flush()?)
}

/// The time since the boot, in nanoseconds.
fn now() -> u64 {
    u64::try_from(SystemClock.uptime().since.as_nanos()).unwrap_or(u64::MAX)
}

/// `None` for an error that a call may have here: another process deletes the job, writes to it, is stopped or is killed.
fn may_fail<T>(result: Result<T, StorageError>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.kind() {
            ErrorKind::Deleted
            | ErrorKind::CursorGap
            | ErrorKind::LockUnavailable
            | ErrorKind::Timeout
            | ErrorKind::OutcomeUnknown => Ok(None),
            _ => Err(error.into()),
        },
    }
}

/// Appends a few events, then finishes the job, so that it can be deleted for a moment.
fn write(job: &Job, by: &str, mut random: fastrand::Rng) -> Result<()> {
    let mut number = 0;
    loop {
        for _ in 0..random.u32(1..30) {
            let key = format!("{by}-{number}");
            number += 1;
            let begun = now();
            let stored = may_fail(job.events().append(&Event { key: key.clone() }))?.is_some();
            tell(&json!({"append": {"key": key, "from": begun, "to": now(), "stored": stored}}))?;
        }
        may_fail(job.finish())?;
        sleep(Duration::from_millis(random.u64(..30)));
    }
}

fn delete(job: &Job, mut random: fastrand::Rng) -> Result<()> {
    loop {
        let begun = now();
        tell(&json!({"deleting": {"from": begun}}))?;
        // A job at work is refused, and nothing of it was removed.
        let answer = match job.delete() {
            Ok(true) => "gone",
            Ok(false) => "nothing",
            Err(error) if error.kind() == ErrorKind::LockUnavailable => "refused",
            Err(error) => {
                may_fail(Err::<bool, _>(error))?;
                "unclear"
            }
        };
        tell(&json!({"deleted": {"to": now(), "answer": answer}}))?;
        sleep(Duration::from_millis(random.u64(..10)));
    }
}

fn read(job: &Job, mut random: fastrand::Rng) -> Result<()> {
    loop {
        let begun = now();
        let mut keys = Vec::new();
        let mut whole = false;
        let pause = Duration::from_millis(random.u64(..2));
        if let Some(events) = may_fail(job.events().read::<Event>())? {
            whole = true;
            for event in events {
                sleep(pause);
                match may_fail(event)? {
                    Some(event) => keys.push(event.event.key),
                    None => {
                        whole = false;
                        break;
                    }
                }
            }
        }
        tell(&json!({"scan": {"from": begun, "to": now(), "whole": whole, "keys": keys}}))?;
        sleep(Duration::from_millis(random.u64(..20)));
    }
}

/// Follows, and now and then begins again from its cursor.
fn follow(job: &Job, mut random: fastrand::Rng) -> Result<()> {
    let mut cursor: Option<Cursor> = None;
    loop {
        let options = FollowOptions::new().from(cursor.clone());
        let mut is_gone = true;
        if let Some(mut follow) = may_fail(job.events().follow_with::<Event>(options))? {
            let mut left = random.u32(1..40);
            for event in follow.by_ref() {
                let Some(event) = may_fail(event)? else { break };
                tell(&json!({"seen": {"key": event.event.key}}))?;
                left -= 1;
                if left == 0 {
                    is_gone = false;
                    break;
                }
            }
            cursor = Some(follow.cursor());
        }
        if is_gone {
            // The log that it followed was deleted: it begins with the next one.
            tell(&json!({"gap": {}}))?;
            cursor = None;
        }
    }
}
