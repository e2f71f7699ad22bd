//! Runs many concurrent processes on one store, some of which are killed. No data may be lost, and no two processes
//! may hold the same lock or item.
//!
//! Each role runs the real tool, one process per call, or a worker that keeps one handle and uses it from several
//! threads. Ledgers record the answers, and are checked when all processes have ended.

mod appenders;
mod events;
mod followers;
pub(super) mod harness;
mod letters;
mod locks;
mod redrivers;
mod states;
mod workers;

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::section::{Lab, Tally};
use harness::Harness;
pub(super) use letters::stored;

/// The duration in the short and in the full form.
const TIMES: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(60));

/// The work of a role until the time is up. The number distinguishes several processes of the role.
type Role = fn(&Harness<'_>, usize) -> Result<()>;

/// The roles, by name.
const ROLES: &[(&str, Role)] = &[
    ("appender", appenders::appender),
    ("appender", appenders::appender),
    ("appender", appenders::appender),
    ("appender to many jobs", appenders::wanderer),
    ("twins that send the same", appenders::twins),
    ("reader", followers::reader),
    ("follower", followers::follower),
    ("follower that lives long", followers::watcher),
    ("saver", states::saver),
    ("saver", states::saver),
    ("saver under a lock", states::fenced),
    ("locker", locks::locker),
    ("locker", locks::locker),
    ("pusher of dead letters", redrivers::pusher),
    ("redriver", redrivers::redriver),
    ("redriver", redrivers::redriver),
    ("worker", workers::worker),
    ("worker", workers::worker),
];

/// Runs all roles, then checks the ledgers.
pub(super) fn run(lab: &Lab<'_>) -> Result<Tally> {
    play(Harness::open(lab, "256KiB", None)?, lab.time(TIMES.0, TIMES.1))
}

/// Runs all roles in a harness, then checks the ledgers.
pub(super) fn play(mut harness: Harness<'_>, time: Duration) -> Result<Tally> {
    locks::control(&harness).context("without locks")?;
    harness.start(time);
    let harness = &harness;
    thread::scope(|scope| {
        scope.spawn(|| harness.set_clocks());
        let roles: Vec<_> = ROLES
            .iter()
            .enumerate()
            .map(|(number, (name, role))| {
                let played = scope.spawn(move || {
                    let played = role(harness, number);
                    if played.is_err() {
                        harness.close();
                    }
                    played
                });
                (number, name, played)
            })
            .collect();
        roles.into_iter().try_for_each(|(number, name, played)| {
            let played = played.join().unwrap_or_else(|_| Err(anyhow!("it panicked")));
            played.with_context(|| format!("the {name}, number {number}"))
        })
    })?;
    let mut tally = Tally::default();
    tally.add("roles at once", ROLES.len());
    harness.count(&mut tally);
    tally.add("doors without a lock, at which two inside were seen", 1_u32);
    events::check(harness, &mut tally).context("events")?;
    followers::check(harness, &mut tally).context("following")?;
    states::check(harness, &mut tally).context("checkpoints")?;
    locks::check(harness, &mut tally).context("locks")?;
    letters::check(harness, &mut tally).context("dead letters")?;
    Ok(tally)
}
