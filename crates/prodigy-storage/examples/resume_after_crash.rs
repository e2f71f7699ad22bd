//! A process is killed during its work, and the next one resumes from its checkpoint: no event is lost, and no work is
//! stored twice.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use prodigy_storage::{Job, ReadOptions, SaveOptions, Storage};
use serde::{Deserialize, Serialize};
use support::{Outcome, check};

/// The number of events between two checkpoints.
const STRIDE: u64 = 10;
/// The number of acknowledged events after which the worker is killed; it is between two checkpoints, so that there are
/// events to replay.
const KILLED_AFTER: usize = 37;

/// The state that the events add up to.
#[derive(Default, Serialize, Deserialize)]
struct State {
    /// The next item.
    next: u64,
    sum: u64,
}

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [root, job, goal] = args.as_slice() {
        let storage = Storage::builder().base_dir(root).open()?;
        return work(&storage.repo("shop")?.job(job)?, goal.parse()?);
    }
    let (storage, _folder) = support::open()?;
    let root = storage
        .capabilities()
        .root
        .ok_or("this needs a backend that outlives a process: the file backend")?;
    let id = support::new_job("resume")?;
    let job = storage.repo("shop")?.job(&id)?;
    let worker = |goal: u64| -> Outcome<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(&root)
            .args([&id, &goal.to_string()])
            .stdout(Stdio::piped());
        Ok(command)
    };

    // The first worker never ends by itself, so it is killed at an arbitrary point, possibly during a write.
    let mut first = worker(u64::MAX)?.spawn()?;
    let told = BufReader::new(first.stdout.take().ok_or("its output is a pipe")?);
    let told = told.lines().take(KILLED_AFTER).collect::<Result<Vec<_>, _>>()?;
    first.kill()?;
    let status = first.wait()?;
    check(told.len() == KILLED_AFTER, "it worked until it was killed")?;
    check(
        !status.success() && status.code().is_none(),
        "it was killed by a signal",
    )?;

    let saved = job
        .checkpoints()
        .latest_map::<State>()?
        .ok_or("a checkpoint is there")?
        .data
        .next;
    let stored = job.events().read::<u64>()?.count() as u64;
    check(
        stored >= KILLED_AFTER as u64,
        "every event that was acknowledged is stored",
    )?;
    check(
        saved >= 30 && saved <= stored,
        "the checkpoint is at or before the end of the log",
    )?;
    println!("killed in the middle of its work: every acknowledged event is stored");

    let goal = stored + 25;
    let status = worker(goal)?.stdout(Stdio::null()).status()?;
    check(status.success(), "the second one ends well")?;

    let items = job
        .events()
        .read::<u64>()?
        .map(|event| Ok(event?.event))
        .collect::<Outcome<Vec<u64>>>()?;
    check(
        items == (0..goal).collect::<Vec<_>>(),
        "each item is in the log once, in order",
    )?;
    let last = job
        .checkpoints()
        .latest_map::<State>()?
        .ok_or("a checkpoint is there")?
        .data;
    check(
        last.next == goal && last.sum == (0..goal).sum::<u64>(),
        "the state counts each item once",
    )?;
    println!("resumed to the end: each item once, and the state agrees");
    Ok(())
}

/// Works from the current state of the job up to `goal`, and saves a checkpoint every few events.
fn work(job: &Job, goal: u64) -> Outcome {
    let latest = job.checkpoints().latest_map::<State>()?;
    let (mut state, mut from) = latest.map_or_else(Default::default, |latest| (latest.data, latest.cursor));
    loop {
        // The events after the state: first those of the killed process, then those of this one.
        let mut events = job
            .events()
            .read_with::<u64>(ReadOptions::new().from(from.take()))?;
        for event in events.by_ref() {
            let item = event?.event;
            check(item == state.next, "the log goes on exactly where the state ends")?;
            state.next += 1;
            state.sum += item;
        }
        let cursor = events.cursor();
        job.checkpoints()
            .save_map(&state, SaveOptions::at(cursor.clone()))?;
        from = Some(cursor);
        if state.next >= goal {
            return Ok(());
        }
        for item in state.next..goal.min(state.next + STRIDE) {
            job.events().append(&item)?;
            // The item is printed after its event is acknowledged.
            writeln!(std::io::stdout(), "{item}")?;
        }
    }
}
