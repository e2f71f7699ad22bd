//! Two processes append to one job at once while this one follows it live.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod support;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use prodigy_storage::{FollowOptions, Storage};
use serde::{Deserialize, Serialize};
use support::{Outcome, check};

const WRITERS: u32 = 2;
const EVENTS: u32 = 100;

#[derive(Serialize, Deserialize)]
struct Step {
    writer: u32,
    n: u32,
}

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [root, job, writer] = args.as_slice() {
        return write(root, job, writer.parse()?);
    }
    let (storage, _folder) = support::open()?;
    let root = storage
        .capabilities()
        .root
        .ok_or("this needs a backend that processes share: the file backend")?;
    let id = support::new_job("two-processes")?;
    let job = storage.repo("shop")?.job(&id)?;

    let mut children = (0..WRITERS)
        .map(|writer| {
            Command::new(std::env::current_exe()?)
                .arg(&root)
                .args([&id, &writer.to_string()])
                .spawn()
        })
        .collect::<Result<Vec<_>, _>>()?;

    let options = FollowOptions::new()
        .poll(Duration::from_millis(5))
        .wait(Duration::from_secs(60));
    let mut seen: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for event in job
        .events()
        .follow_with::<Step>(options)?
        .take((WRITERS * EVENTS) as usize)
    {
        let step = event?.event;
        seen.entry(step.writer).or_default().push(step.n);
    }
    for child in &mut children {
        check(child.wait()?.success(), "the writers end well")?;
    }
    let expected: Vec<u32> = (0..EVENTS).collect();
    for (writer, steps) in &seen {
        check(
            *steps == expected,
            "each event of a writer is there once, in its order",
        )?;
        println!("writer {writer}: {} events, each once and in order", steps.len());
    }
    check(seen.len() == WRITERS as usize, "every writer was seen")?;
    check(
        job.events().read::<Step>()?.count() == (WRITERS * EVENTS) as usize,
        "a read sees the same",
    )
}

fn write(root: &str, job: &str, writer: u32) -> Outcome {
    let storage = Storage::builder().base_dir(root).open()?;
    let events = storage.repo("shop")?.job(job)?.events();
    for n in 0..EVENTS {
        events.append(&Step { writer, n })?;
    }
    Ok(())
}
