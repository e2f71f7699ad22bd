//! Kills the tool (SIGKILL) at random moments while it acknowledges events, then checks that no event is lost.
//!
//! Each round starts the real tool on real input, lets it acknowledge events for a random time, and kills it. Rounds
//! differ in the size of a batch, and in whether ids are given. The next round sends unacknowledged events again; under
//! given ids each must be stored once.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use prodigy_storage_backend::reference::Log;
use uuid::Uuid;

use super::audit;
use super::section::{Lab, Tally};
use crate::acks::Appender;
use crate::input::{Input, joined, with_id};
use crate::tool::Tool;

/// The repository and the job of the section.
pub(super) const REPO: &str = "crash";
pub(super) const JOB: &str = "killed";
/// The number of lines that the tool gets in a round: more than it can store before it is killed.
const ROUND: usize = 1_500;
/// The largest number of acknowledged lines that a round sends again.
const LONGEST_BACK: usize = 40;

/// The events that were sent and acknowledged so far.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The acknowledged events, each with its position in the input.
    pub(super) log: Log<Uuid, usize>,
    /// The ids under which lines were sent, by position in the input.
    given: HashMap<usize, Uuid>,
    /// The position in the input of the first line that was not acknowledged.
    next: usize,
    /// The number of events that were sent again and were already stored.
    pub(super) sent_again: usize,
}

/// Runs all rounds, then checks the store.
pub(super) fn run(lab: &Lab<'_>) -> Result<Tally> {
    let kills = if lab.quick {
        lab.kills.div_ceil(10)
    } else {
        lab.kills
    };
    let tool = Tool::new(lab.binary, lab.scratch)?;
    rounds(&tool, lab.input, kills, lab.seed)
}

fn rounds(tool: &Tool, input: &Input, kills: u32, seed: u64) -> Result<Tally> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut ledger = Ledger::default();
    for number in 1..=kills {
        round(tool, input, &mut ledger, &mut random).with_context(|| format!("kill {number}"))?;
        if number % 50 == 0 {
            println!(
                "  {number} killed, {} events acknowledged",
                ledger.log.durable().len()
            );
        }
    }
    // Another process, which is not killed, finishes the work of the last round.
    let mut last = Vec::new();
    let closing = joined([input.at(ledger.next)]);
    Appender::start(
        tool.command(["events", "append", "--repo", REPO, "--job", JOB, "--ack"]),
        closing,
    )?
    .end(&mut last)?
    .well()?;
    ledger.note(&last)?;
    audit::audit(tool, input, &ledger, kills)
}

/// Starts the tool on the next lines of the input, kills it, and records the acknowledged events.
fn round(tool: &Tool, input: &Input, ledger: &mut Ledger, random: &mut fastrand::Rng) -> Result<()> {
    let with_ids = random.bool();
    let batch = random.choice(["1", "1", "8", "64"]).unwrap_or("1");
    let mut arguments = vec![
        "events", "append", "--repo", REPO, "--job", JOB, "--ack", "--batch", batch,
    ];
    if with_ids {
        arguments.push("--with-ids");
    }
    // Some acknowledged events are sent again, as by a program that resumes from a checkpoint. Under their given ids,
    // each is stored once.
    let again = if with_ids { ledger.again() } else { 0 };
    let from = ledger.next - random.usize(..=again);
    let text = if with_ids {
        ledger.lines_with_ids(from, input)
    } else {
        ledger.lines(input)
    };
    let mut appender = Appender::start_doomed(tool.command(&arguments), text)?;
    let mut fresh = Vec::new();
    // In a fifth of the rounds the tool is killed before its first acknowledgement, while it opens and repairs the
    // store.
    let first = if random.u8(..5) == 0 {
        0
    } else {
        random.usize(1..80)
    };
    for _ in 0..first {
        let Some(id) = appender.next()? else { break };
        fresh.push(id);
    }
    let longest = if first == 0 { 15_000 } else { 2_500 };
    thread::sleep(Duration::from_micros(random.u64(..longest)));
    appender.kill()?;
    let end = appender.end(&mut fresh)?;
    end.killed()?;
    if with_ids {
        ledger.expect_given(from, &fresh)?;
    }
    let known = (ledger.next - from).min(fresh.len());
    ledger.sent_again += known;
    ledger.note(fresh.get(known..).unwrap_or_default())
}

impl Ledger {
    /// The next lines of the input, to be sent without ids.
    fn lines(&self, input: &Input) -> Vec<u8> {
        joined((self.next..self.next + ROUND).map(|position| input.at(position)))
    }

    /// How many of the last acknowledged positions had given ids, so that they may be sent again.
    fn again(&self) -> usize {
        let ours = |position: &usize| {
            let id = self.given.get(position);
            id.is_some_and(|id| self.log.get(*id) == Some(position))
        };
        (0..self.next).rev().take(LONGEST_BACK).take_while(ours).count()
    }

    /// The lines from a position on, with ids. A line that was sent before keeps its id.
    fn lines_with_ids(&mut self, from: usize, input: &Input) -> Vec<u8> {
        let mut text = Vec::new();
        for position in from..from + ROUND {
            let id = *self.given.entry(position).or_insert_with(Uuid::now_v7);
            text.extend_from_slice(with_id(id, input.at(position)).as_bytes());
            text.push(b'\n');
        }
        text
    }

    /// Checks that the acknowledged ids are the given ones, in input order.
    fn expect_given(&self, from: usize, fresh: &[Uuid]) -> Result<()> {
        for (position, id) in (from..).zip(fresh) {
            if self.given.get(&position) != Some(id) {
                bail!(
                    "position {position} was acknowledged as {id}, its id is {:?}",
                    self.given.get(&position)
                );
            }
        }
        Ok(())
    }

    /// Adds the acknowledged events.
    fn note(&mut self, fresh: &[Uuid]) -> Result<()> {
        for id in fresh {
            self.log.store(*id, self.next)?;
            self.next += 1;
        }
        Ok(())
    }
}
