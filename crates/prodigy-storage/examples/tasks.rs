//! An orchestrator as tasks: 300 agents that append, a live view, a redrive, and cancelled tasks.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod support;

use std::time::Duration;

use prodigy_storage::{
    AsyncJob, AsyncStorage, DeadLetter, Failure, FollowOptions, ItemId, LockOptions, Outcome as Settled,
    RedriveOptions, Result, SaveOptions, Select,
};
use serde::{Deserialize, Serialize};
use support::{Outcome, check};
use tokio::task::JoinSet;

const AGENTS: u32 = 300;

#[derive(Serialize, Deserialize)]
struct Step {
    agent: u32,
    ok: bool,
}

#[derive(Default, Serialize, Deserialize)]
struct View {
    done: u32,
    failed: u32,
}

/// One agent: an event, and a dead letter if it failed.
async fn agent(job: AsyncJob, agent: u32) -> Result<()> {
    tokio::time::sleep(Duration::from_micros(u64::from(agent % 7) * 100)).await;
    let ok = agent % 50 != 7;
    if !ok {
        let letter = DeadLetter::new(ItemId::new(format!("agent-{agent}"))?, agent);
        job.dlq()
            .push(&letter.failure(Failure::new("timeout", "no answer")))
            .await?;
    }
    job.events().append(&Step { agent, ok }).await?;
    Ok(())
}

/// Shows events as they come, until the job is finished, and saves checkpoints.
async fn watch(job: AsyncJob) -> Result<View> {
    let mut view = View::default();
    let mut events = job
        .events()
        .follow_with::<Step>(FollowOptions::new().until_finished())
        .await?;
    while let Some(event) = events.next().await {
        match event?.event.event.ok {
            true => view.done += 1,
            false => view.failed += 1,
        }
        if (view.done + view.failed) % 100 == 0 {
            job.checkpoints()
                .save_map(&view, SaveOptions::at(events.cursor()))
                .await?;
        }
    }
    Ok(view)
}

#[tokio::main]
async fn main() -> Outcome {
    let (blocking, _folder) = support::open()?;
    let storage = AsyncStorage::from(blocking);
    let id = support::new_job("tasks")?;
    let job = storage.repo("shop")?.job(&id)?;
    let lock = storage
        .lock_with(format!("shop/{id}"), LockOptions::new("run the example"))
        .await?;

    let view = tokio::spawn(watch(job.clone()));
    let before = storage.stats();
    let mut agents = JoinSet::new();
    for number in 0..AGENTS {
        agents.spawn(agent(job.clone(), number));
    }
    while let Some(ended) = agents.join_next().await {
        ended??;
    }
    let syncs = storage
        .stats()
        .get("file.syncs")
        .saturating_sub(before.get("file.syncs"));
    check(syncs < u64::from(AGENTS), "agents share syncs")?;

    // A task that is cancelled while it takes items or waits for a lock leaves neither a lease nor a waiting caller.
    for _ in 0..10 {
        let taker = tokio::spawn(job.dlq().take(&Select::eligible(), 2, Duration::from_secs(3600)));
        let waiter = tokio::spawn(storage.lock(format!("shop/{id}")));
        tokio::task::yield_now().await;
        taker.abort();
        waiter.abort();
        // If the cancellation was too late, dropping the items releases them.
        drop(taker.await);
    }
    storage.flush().await?;
    check(job.dlq().summary().await?.leased == 0, "no lease is left")?;

    let options = RedriveOptions::new().concurrency(3);
    let again = job.clone();
    let redrive = job
        .dlq()
        .redrive(Select::eligible(), &options, async move |item| {
            match item.data::<u32>() {
                Ok(agent) => match again.events().append(&Step { agent, ok: true }).await {
                    Ok(_) => Settled::Done,
                    Err(_) => Settled::release(),
                },
                Err(error) => Settled::park(error.to_string()),
            }
        });
    let report = redrive.await?;
    println!("redriven: {} done", report.done);
    check(report.done == 6, "each failed agent is done the second time")?;

    job.finish().await?;
    let view = view.await??;
    println!("the live view saw {} done and {} failed", view.done, view.failed);
    check(
        (view.done, view.failed) == (AGENTS, 6),
        "the live view saw each event once",
    )?;
    let latest = job
        .checkpoints()
        .latest_map::<View>()
        .await?
        .ok_or("it was saved")?;
    check(latest.cursor.is_some(), "a resume knows where to continue")?;
    lock.release().await?;
    Ok(())
}
