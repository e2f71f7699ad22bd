//! Roles that append: to the shared job, to many jobs, and two processes that append the same events.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use uuid::Uuid;

use super::events::{Sent, payload};
use super::harness::{Harness, Outcome, REPO, SHARED};
use crate::crash::power::process::Ended;
use crate::input::{joined, with_id};

/// The largest number of events of one process.
const MOST: usize = 120;

/// A process that appends, with its unacknowledged events.
struct Appender<'h> {
    harness: &'h Harness<'h>,
    by: String,
    random: fastrand::Rng,
    next: usize,
    /// Events under given ids that were sent and not acknowledged. They are sent again.
    pending: Vec<(Uuid, Sent)>,
}

/// Appends to the shared job.
pub(super) fn appender(harness: &Harness<'_>, number: usize) -> Result<()> {
    let mut appender = Appender::new(harness, number);
    while harness.is_open() {
        appender.turn(SHARED)?;
    }
    Ok(())
}

/// Appends to several jobs in turn.
pub(super) fn wanderer(harness: &Harness<'_>, number: usize) -> Result<()> {
    let mut appenders: Vec<_> = (0..12)
        .map(|job| (format!("job-{job}"), Appender::new(harness, number)))
        .collect();
    for (turn, (_, appender)) in appenders.iter_mut().enumerate() {
        appender.random = fastrand::Rng::with_seed(harness.random(number).u64(..) ^ turn as u64);
    }
    let mut random = harness.random(number);
    while harness.is_open() {
        let chosen = random.usize(..appenders.len());
        let (job, appender) = appenders.get_mut(chosen).context("no job")?;
        appender.turn(job)?;
    }
    Ok(())
}

/// Two processes append the same events, under the same ids and at the same time.
pub(super) fn twins(harness: &Harness<'_>, number: usize) -> Result<()> {
    let mut appender = Appender::new(harness, number);
    while harness.is_open() {
        let lines = appender.with_ids();
        let processes = [appender.command(SHARED, true), appender.command(SHARED, true)]
            .map(|command| harness.begin(command, lines.clone(), false));
        let doomed = appender.random.bool();
        let death = Duration::from_millis(appender.random.u64(..150));
        let [first, second] = processes;
        let ended = [
            harness.finish(first?, doomed.then_some(death))?,
            harness.finish(second?, None)?,
        ];
        for ended in &ended {
            harness.outcome(ended)?;
        }
        let longest = ended
            .iter()
            .max_by_key(|ended| ended.lines().count())
            .context("no twin")?;
        for ended in &ended {
            let agree = ended
                .lines()
                .zip(longest.lines())
                .all(|(one, other)| one == other);
            ensure!(agree, "twins got different acknowledgements");
        }
        appender.acknowledged(SHARED, longest)?;
    }
    Ok(())
}

impl<'h> Appender<'h> {
    fn new(harness: &'h Harness<'h>, number: usize) -> Self {
        Self {
            harness,
            by: format!("role-{number}"),
            random: harness.random(number),
            next: 0,
            pending: Vec::new(),
        }
    }

    fn command(&mut self, job: &str, with_ids: bool) -> std::process::Command {
        let batch = self.random.choice(["1", "1", "8", "64"]).unwrap_or("1");
        let mut command = self.harness.tool().command(["events", "append", "--ack"]);
        command.args(["--repo", REPO, "--job", job, "--batch", batch]);
        if with_ids {
            command.arg("--with-ids");
        }
        if self.random.bool() {
            // With relaxed durability, too, no acknowledged event is lost when a process is killed.
            command.env("PRODIGY__STORAGE__DURABILITY", "relaxed");
        }
        command
    }

    /// The payload of the appender's next event.
    fn fresh(&mut self) -> Sent {
        let n = self.next;
        self.next += 1;
        Sent {
            by: self.by.clone(),
            n,
        }
    }

    fn with_ids(&mut self) -> Vec<u8> {
        let most = self.random.usize(1..MOST);
        while self.pending.len() < most {
            let sent = self.fresh();
            self.pending.push((Uuid::now_v7(), sent));
        }
        let lines: Vec<String> = self
            .pending
            .iter()
            .map(|(id, sent)| with_id(*id, &payload(self.harness, sent)))
            .collect();
        joined(lines.iter().map(String::as_str))
    }

    fn turn(&mut self, job: &str) -> Result<()> {
        if self.random.bool() {
            let (command, lines) = (self.command(job, true), self.with_ids());
            let ended = self.harness.call(command, lines, &mut self.random)?;
            self.harness.outcome(&ended)?;
            return self.acknowledged(job, &ended);
        }
        let count = self.random.usize(1..MOST);
        let sent: Vec<Sent> = (0..count).map(|_| self.fresh()).collect();
        let lines: Vec<String> = sent.iter().map(|sent| payload(self.harness, sent)).collect();
        let command = self.command(job, false);
        let ended = self.harness.call(
            command,
            joined(lines.iter().map(String::as_str)),
            &mut self.random,
        )?;
        let outcome = self.harness.outcome(&ended)?;
        let fresh = acknowledged(&ended)?.into_iter().zip(sent).collect::<Vec<_>>();
        ensure!(
            outcome != Outcome::Done || fresh.len() == count,
            "{} of {count} were acknowledged",
            fresh.len()
        );
        self.harness.did(fresh.len());
        self.harness.events.lock().note(job, fresh);
        Ok(())
    }

    /// Removes the events that the process acknowledged from those that are sent again.
    fn acknowledged(&mut self, job: &str, ended: &Ended) -> Result<()> {
        let ids = acknowledged(ended)?;
        let fresh: Vec<_> = self.pending.drain(..ids.len().min(self.pending.len())).collect();
        let ours: Vec<Uuid> = fresh.iter().map(|(id, _)| *id).collect();
        ensure!(ours == ids, "acknowledged was {ids:?}, sent {ours:?}");
        self.harness.did(fresh.len());
        self.harness.events.lock().note(job, fresh);
        Ok(())
    }
}

fn acknowledged(ended: &Ended) -> Result<Vec<Uuid>> {
    let ids = ended
        .lines()
        .map(|line| Uuid::try_parse_ascii(line).context("no id was acknowledged"));
    ids.collect()
}
