//! Workloads as lists of steps, which property tests generate.

use anyhow::Result;
use prodigy_storage_backend::{Durability, EventId};
use prodigy_storage_layout::{
    Document, DocumentKind, DocumentName, DocumentOwner, JobAddress, LockName, Phase, Timestamp,
};

use crate::fs::Doom;
use crate::stage::{Stage, job};

/// Keys of dead letters.
const KEYS: [&str; 4] = ["a", "b", "c", "d"];
/// Parts of paths that select the file in whose write a process dies: any file, segments, queues, locks, new files.
pub const FILES: [&str; 5] = ["", "events/", "dlq/", ".lock", ".tmp-"];
/// The longest payload, in bytes.
const LONGEST: usize = 900;

/// Whether a put is conditional on the revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Compare-and-set.
    AndSet,
    /// Replaces any revision.
    Never,
}

/// The number of documents.
pub const DOCUMENTS: u8 = 4;

/// A step of one of two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Appends one or two events of this size.
    Append(u16, Durability),
    /// Appends an event under the id with this number, which may have been used before.
    Given(u8, Durability),
    /// Reads the log and keeps the cursor.
    Scan,
    /// Seals the segment to which events are appended.
    Seal,
    /// Reads the events that were appended since the last `Follow`.
    Follow,
    /// Sets the process's clock to this number of milliseconds after (or, if negative, before) the true time.
    Turn(i64),
    /// Flushes.
    Flush,
    /// Adds a checkpoint.
    Add(Durability),
    /// Puts the document with this number, with or without a condition on its revision.
    Put(u8, Compare, Durability),
    /// Deletes the document with this number.
    Delete(u8, Durability),
    /// Pushes items. Each bit of the number selects one of four keys.
    Push(u8, Durability),
    /// Takes up to this number of items.
    Take(u8),
    /// Acknowledges a taken item.
    Ack,
    /// Releases a taken item.
    Nack,
    /// Extends the lease of a taken item.
    Extend,
    /// Fails a taken item.
    Fail,
    /// Compacts the queue.
    Compact,
    /// Removes items. Each bit of the number selects one of four keys.
    Remove(u8),
    /// Seals the segment and deletes the job, unless the other process is working on it.
    DeleteJob,
    /// Takes the lock and releases it.
    Lock,
    /// Kills the process in a write to a file whose path contains this text, after this number of bytes.
    Doom(&'static str, u16),
    /// Kills the process now.
    Kill,
}

impl Step {
    /// Draws a random step for one of the two processes.
    pub fn draw(random: &mut fastrand::Rng) -> (bool, Self) {
        let durability = if random.u8(..4) == 0 {
            Durability::Relaxed
        } else {
            Durability::Strict
        };
        let step = match random.u8(..32) {
            0..5 => Self::Append(random.u16(..), durability),
            5..7 => Self::Given(random.u8(..6), durability),
            7..9 => Self::Scan,
            9 => Self::Seal,
            10 => Self::Flush,
            11 => Self::Add(durability),
            12 => {
                let compare = if random.bool() {
                    Compare::AndSet
                } else {
                    Compare::Never
                };
                Self::Put(random.u8(..DOCUMENTS), compare, durability)
            }
            13 => Self::Delete(random.u8(..DOCUMENTS), durability),
            14..17 => Self::Push(random.u8(..), durability),
            17 => Self::Take(random.u8(1..4)),
            18 => Self::Ack,
            19 => Self::Nack,
            20 => Self::Remove(random.u8(..)),
            21 => Self::Lock,
            22..24 => Self::Turn(turn(random.u8(..4), random.i16(..))),
            24..26 => Self::Follow,
            26 => Self::Doom(random.choice(FILES).unwrap_or_default(), random.u16(..400)),
            27 => Self::Extend,
            28 => Self::Fail,
            29 => Self::Compact,
            30 => Self::DeleteJob,
            _ => Self::Kill,
        };
        (random.bool(), step)
    }
}

/// The offset of a clock from the true time, in milliseconds: a share of the largest offset of a kind (seconds, hours,
/// or half a year ahead). It is never an hour behind, because then given ids would be refused as too far ahead.
#[must_use]
pub fn turn(kind: u8, share: i16) -> i64 {
    let most = match kind {
        0 | 1 => 3_000,
        2 => 3 * 3_600_000,
        _ => 180 * 24 * 3_600_000,
    };
    let millis = most * i64::from(share) / i64::from(i16::MAX);
    millis.max(-3_300_000)
}

/// Runs steps, each in the first or in the second process. A process that died is replaced by a new one.
///
/// # Errors
/// The error of a call that should succeed.
pub fn perform(stage: &mut Stage, steps: &[(bool, Step)]) -> Result<()> {
    let mut places = [stage.enter()?, stage.enter()?];
    for (second, step) in steps {
        let [first_place, second_place] = &mut places;
        let place = if *second { second_place } else { first_place };
        if stage.is_dead(*place) {
            stage.kill(*place);
            *place = stage.enter()?;
        }
        one(stage, *place, *step)?;
    }
    Ok(())
}

/// The document with a number: 0 marks the job as finished, 1 and 2 belong to the job, others to its repository.
fn document(job: &JobAddress, number: u8) -> Result<Document> {
    let owner = match number {
        0 => return Ok(Document::Finished(job.clone())),
        1 | 2 => DocumentOwner::Job(job.clone()),
        _ => DocumentOwner::Repo(job.repo.clone()),
    };
    let name = if number == 2 { "other" } else { "note" };
    Ok(Document::Own(
        owner,
        DocumentKind::new("notes")?,
        DocumentName::new(name)?,
    ))
}

fn one(stage: &mut Stage, who: usize, step: Step) -> Result<()> {
    let job = job("drawn")?;
    let keys = |bits: u8| -> Vec<&str> {
        let named = KEYS.iter().enumerate();
        named
            .filter(|(at, _)| bits >> at & 1 == 1)
            .map(|(_, key)| *key)
            .collect()
    };
    match step {
        Step::Append(size, durability) => {
            let size = usize::from(size) % LONGEST;
            let sizes = if size.is_multiple_of(2) {
                vec![size]
            } else {
                vec![size, 20]
            };
            stage.append(who, &job, &sizes, durability)
        }
        Step::Given(number, durability) => {
            // The times of the ids are half a second apart; those of the first ids are before the clock's start.
            let nanos = crate::clock::START - 2_000_000_000 + i64::from(number) * 500_000_000;
            let floor = EventId::floor(Timestamp::from_nanos(nanos)).as_u128();
            let id = EventId::from_u128(floor + u128::from(number) + 1);
            let payload = format!("given{number}");
            stage.append_these(who, &job, vec![payload], Some(vec![id]), durability)
        }
        Step::Scan => stage.scan(who, &job),
        Step::Follow => stage.follow(who, &job),
        Step::Turn(millis) => stage.set_clock(who, millis * 1_000_000),
        Step::Seal => stage.seal(who, &job),
        Step::Flush => stage.flush(who),
        Step::Add(durability) => stage.add(who, &job, Phase::Map, 60, durability).map(drop),
        Step::Put(number, compare, durability) => {
            let document = document(&job, number)?;
            stage.put(who, &document, compare == Compare::AndSet, 60, durability)
        }
        Step::Delete(number, durability) => stage.delete(who, &document(&job, number)?, durability),
        Step::Push(bits, durability) => stage.push(who, &job, &keys(bits | 1), durability),
        Step::Take(limit) => stage.take(who, &job, usize::from(limit)),
        Step::Ack => stage.ack(who, &job, 1),
        Step::Nack => stage.nack(who, &job, 1),
        Step::Extend => stage.extend(who, &job, 1),
        Step::Fail => stage.fail(who, &job, 1),
        Step::Compact => stage.compact(who, &job),
        Step::DeleteJob => {
            stage.seal(who, &job)?;
            // If the process died in the step, the next step needs a new process.
            if stage.is_dead(who) {
                return Ok(());
            }
            stage.delete_job(who, &job).map(drop)
        }
        Step::Remove(bits) => stage.remove(who, &job, &keys(bits)),
        Step::Lock => {
            stage.lock(who, &LockName::new("shop/drawn")?)?;
            stage.unlock(who);
            Ok(())
        }
        Step::Doom(file, bytes) => {
            stage.doom(who, Doom::after_bytes(file, usize::from(bytes)));
            Ok(())
        }
        Step::Kill => {
            stage.kill(who);
            Ok(())
        }
    }
}
