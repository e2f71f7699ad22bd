//! A load like that of agents on many machines, for sizing a server: `load MACHINES AGENTS SECONDS RATE`.
//!
//! Each machine is a process with one handle on the configured store, and has `AGENTS` agents. An agent works on `RATE`
//! items per minute, or without a pause if it is 0. For each item it appends ten events, one at a time. One in twenty
//! items fails and becomes a dead letter, which another agent takes and acknowledges. A hundred agents share a job, and
//! one agent of each job saves a checkpoint of 100 kB for each of its items.
//!
//! ```sh
//! PRODIGY_STORAGE_TYPE=postgres PRODIGY_STORAGE_URL=postgresql://app@db.example.com/jobs \
//!   cargo run --release -p prodigy-storage --features postgres --example load -- 100 10 60 2
//! ```
#![allow(clippy::print_stdout, reason = "an example")]

use std::collections::BTreeMap;
use std::error::Error;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use prodigy_storage::{DeadLetter, Failure, ItemId, Select, Storage, StorageError};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The number of events per item.
const EVENTS: u32 = 10;
/// One in this number of items fails.
const FAILS: u32 = 20;
/// The number of agents that share a job.
const SHARE: u32 = 100;
/// The sizes of an event's text and of a checkpoint, in bytes.
const EVENT: usize = 200;
const CHECKPOINT: usize = 100_000;

/// The arguments.
#[derive(Clone, Copy)]
struct Load {
    machines: u32,
    agents: u32,
    seconds: u32,
    rate: u32,
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let numbers = words.iter().map(|word| word.parse());
    let numbers = numbers.collect::<std::result::Result<Vec<u32>, _>>()?;
    match numbers[..] {
        [] => lead(Load {
            machines: 2,
            agents: 2,
            seconds: 1,
            rate: 0,
        }),
        [machines, agents, seconds, rate] => lead(Load {
            machines,
            agents,
            seconds,
            rate,
        }),
        [machines, agents, seconds, rate, machine] => work(
            Load {
                machines,
                agents,
                seconds,
                rate,
            },
            machine,
        ),
        _ => Err("usage: load MACHINES AGENTS SECONDS RATE".into()),
    }
}

/// Starts the machines, and prints their measurements.
fn lead(load: Load) -> Result<()> {
    let machines: Vec<_> = (0..load.machines)
        .map(|machine| {
            let numbers = [load.machines, load.agents, load.seconds, load.rate, machine];
            Command::new(std::env::current_exe()?)
                .args(numbers.map(|number| number.to_string()))
                .stdout(Stdio::piped())
                .spawn()
        })
        .collect::<std::io::Result<_>>()?;
    let mut measured: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for machine in machines {
        let output = machine.wait_with_output()?;
        if !output.status.success() {
            return Err("a machine failed".into());
        }
        for line in String::from_utf8(output.stdout)?.lines() {
            let (call, micros) = line.split_once('\t').ok_or("no measurement")?;
            measured.entry(call.to_owned()).or_default().push(micros.parse()?);
        }
    }
    println!(
        "{:<12} {:>9} {:>10} {:>10} {:>10} {:>10}",
        "call", "number", "a second", "median ms", "99 % ms", "worst ms"
    );
    for (call, mut micros) in measured {
        micros.sort_unstable();
        let millis = |percent: usize| {
            let at = (micros.len() * percent / 100).min(micros.len() - 1);
            micros.get(at).map_or(0.0, |micros| *micros as f64 / 1_000.0)
        };
        println!(
            "{call:<12} {:>9} {:>10.1} {:>10.1} {:>10.1} {:>10.1}",
            micros.len(),
            micros.len() as f64 / f64::from(load.seconds),
            millis(50),
            millis(99),
            millis(100)
        );
    }
    Ok(())
}

/// Runs as one machine: prints each call and its microseconds.
fn work(load: Load, machine: u32) -> Result<()> {
    let storage = Storage::open()?;
    let until = Instant::now() + Duration::from_secs(load.seconds.into());
    let (sender, calls) = channel();
    std::thread::scope(|scope| {
        let agents: Vec<_> = (0..load.agents)
            .map(|of| {
                let (storage, sender) = (&storage, sender.clone());
                scope.spawn(move || agent(storage, load, machine * load.agents + of, until, &sender))
            })
            .collect();
        drop(sender);
        for (call, time) in calls {
            println!("{call}\t{}", time.as_micros());
        }
        agents
            .into_iter()
            .try_for_each(|agent| agent.join().unwrap_or_else(|_| Err("an agent panicked".into())))
    })
}

/// Works on items until the time is up.
fn agent(
    storage: &Storage,
    load: Load,
    number: u32,
    until: Instant,
    calls: &Sender<(&'static str, Duration)>,
) -> Result<()> {
    let job = storage.repo("load")?.job(format!("job-{}", number / SHARE))?;
    let (events, dlq) = (job.events(), job.dlq());
    let pause = match load.rate {
        0 => Duration::ZERO,
        rate => Duration::from_secs(60) / (rate * EVENTS),
    };
    // Agents start at different times, as in a real run.
    let all = load.machines * load.agents;
    let mut next = Instant::now() + pause * number / all.max(1);
    let text = "x".repeat(EVENT);
    let state = "y".repeat(CHECKPOINT);
    for item in 0_u32.. {
        for of in 0..EVENTS {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            next += pause;
            if Instant::now() >= until {
                return Ok(());
            }
            timed(calls, "append", || events.append(&(number, item, of, &text)))?;
        }
        if number.is_multiple_of(SHARE) {
            timed(calls, "checkpoint", || {
                job.checkpoints().save_map(&(item, &state), Default::default())
            })?;
        }
        if (item + number).is_multiple_of(FAILS) {
            let failed = DeadLetter::new(ItemId::new(format!("{number}-{item}"))?, &text);
            let failed = failed.failure(Failure::new("Load", "it failed"));
            timed(calls, "push", || dlq.push(&failed))?;
            let taken = timed(calls, "take", || {
                dlq.take(&Select::eligible(), 1, Duration::from_secs(60))
            })?;
            let tokens: Vec<_> = taken.iter().map(|taken| taken.token().clone()).collect();
            timed(calls, "acknowledge", || dlq.ack(&tokens))?;
        }
    }
    Ok(())
}

fn timed<T>(
    calls: &Sender<(&'static str, Duration)>,
    call: &'static str,
    make: impl FnOnce() -> std::result::Result<T, StorageError>,
) -> Result<T> {
    let began = Instant::now();
    let made = make()?;
    calls.send((call, began.elapsed()))?;
    Ok(made)
}
