//! A job from its first event to its end, on the configured backend:
//! `PRODIGY_STORAGE_TYPE=memory cargo run --example job`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod support;

use prodigy_storage::{
    DeadLetter, Event, Failure, ItemId, LockOptions, OrphanedWorktree, ReadOptions, SaveOptions, Select,
};
use serde::{Deserialize, Serialize};
use support::{Outcome, check};

const ITEMS: u32 = 12;

#[derive(Serialize, Deserialize)]
struct Step {
    item: u32,
    ok: bool,
}

#[derive(Default, Serialize, Deserialize)]
struct State {
    done: u32,
    failed: u32,
}

impl State {
    fn apply(&mut self, step: &Step) {
        if step.ok { self.done += 1 } else { self.failed += 1 }
    }
}

fn main() -> Outcome {
    let (storage, _folder) = support::open()?;
    let id = support::new_job("job")?;
    let job = storage.repo("shop")?.job(&id)?;

    let lock = storage.lock_with(format!("shop/{id}"), LockOptions::new("run the example"))?;
    // Every write from here on carries the lock's fencing token.
    let job = job.fenced(&lock)?;
    job.checkpoints().save_setup(&ITEMS, SaveOptions::default())?;

    // Map: three agents work on items; failed items become dead letters.
    std::thread::scope(|scope| {
        let agents: Vec<_> = (0..3u32)
            .map(|agent| {
                let job = &job;
                scope.spawn(move || -> prodigy_storage::Result<()> {
                    for item in (agent..ITEMS).step_by(3) {
                        let ok = item % 5 != 4;
                        job.events().append(&Step { item, ok })?;
                        if !ok {
                            let letter = DeadLetter::new(ItemId::new(format!("item-{item}"))?, item);
                            job.dlq()
                                .push(&letter.failure(Failure::new("timeout", "no answer")))?;
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        agents
            .into_iter()
            .try_for_each(|agent| agent.join().map_err(|_| "an agent panicked")?.map_err(Into::into))
    })
    .map_err(|error: Box<dyn std::error::Error>| error)?;

    // A checkpoint in the middle of the work, with the cursor after the events that are part of its state.
    let mut state = State::default();
    let mut events = job.events().read::<Step>()?;
    for event in events.by_ref().take(7) {
        state.apply(&event?.event);
    }
    let options = SaveOptions::at(events.cursor());
    job.checkpoints().save_map(&state, options)?;
    // The agents race, so the order of the events varies; their number does not.
    println!("checkpoint after {} events", state.done + state.failed);

    // Resume: loads the state of the checkpoint, and reads exactly the events after it.
    let latest = job
        .checkpoints()
        .latest_map::<State>()?
        .ok_or("the checkpoint is there")?;
    let from = latest.cursor.ok_or("it has a cursor")?;
    let mut state = latest.data;
    let rest: Vec<Event<Step>> = job
        .events()
        .read_with(ReadOptions::after(from))?
        .collect::<Result<_, _>>()?;
    rest.iter().for_each(|event| state.apply(&event.event));
    println!(
        "resumed over {} events: {} done, {} failed",
        rest.len(),
        state.done,
        state.failed
    );
    check(
        rest.len() == 5 && state.done == 10 && state.failed == 2,
        "each event counts once",
    )?;

    for count in job.dlq().by_signature(&Select::any())?.groups {
        println!(
            "dead letters: {} of {}",
            count.items,
            count.signature.as_deref().unwrap_or("no signature")
        );
    }
    check(
        job.dlq().list(&Select::any())?.count() == 2,
        "each failed item is a dead letter",
    )?;

    job.orphans().record(&OrphanedWorktree::new(
        "agent-2",
        "item-9",
        "/nowhere/session-2",
        "in use",
    ))?;
    check(job.orphans().list()?.len() == 1, "the orphan is recorded")?;
    check(
        job.orphans().remove("/nowhere/session-2")?,
        "the orphan is removed",
    )?;

    job.checkpoints().save_reduce(&state, SaveOptions::new())?;
    job.finish()?;
    lock.release()?;
    check(job.finished_at()?.is_some(), "the job is finished")?;
    println!("finished");
    Ok(())
}
