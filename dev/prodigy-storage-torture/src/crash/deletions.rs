//! One job that is deleted again and again while others write to it, read it and follow it; all of them are killed.
//!
//! Workers report each call with its times. From the reports of all of them follows what each whole scan has to return, and what
//! it must not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::power::process::{Ended, Process};
use super::section::{Lab, Tally};
use crate::tool::Tool;

/// The time of the short and of the full form.
const TIME: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(60));
/// The roles that are played at once.
const ROLES: [&str; 5] = ["write", "write", "delete", "read", "follow"];
/// A worker lives this long at most, in milliseconds.
const LIFE: u64 = 1_500;
const ADDRESS: [&str; 4] = ["--repo", "deletions", "--job", "job"];

/// The tool's exit code for a job that is not there.
const NO_JOB: i32 = 4;

/// A time since the boot, in nanoseconds.
type Nanos = u64;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Append {
        key: String,
        from: Nanos,
        to: Nanos,
        stored: bool,
    },
    Deleting {
        from: Nanos,
    },
    Deleted {
        to: Nanos,
        answer: Answer,
    },
    Scan(Scan),
    Seen {
        key: String,
    },
    Gap {},
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Gone,
    Nothing,
    Refused,
    Unclear,
}

/// A scan of the log.
#[derive(Debug, Deserialize)]
struct Scan {
    from: Nanos,
    to: Nanos,
    /// Whether it came to its end. Else it ended with the error that the job was deleted.
    whole: bool,
    keys: Vec<String>,
}

/// A deletion that may have removed something.
#[derive(Debug)]
struct Deletion {
    from: Nanos,
    to: Nanos,
    /// Whether it returned that the job is gone.
    is_sure: bool,
}

#[derive(Debug, Default)]
struct Ledger {
    /// Events that were acknowledged, with the times before and after their append.
    stored: BTreeMap<String, (Nanos, Nanos)>,
    deletions: Vec<Deletion>,
    refused: u64,
    scans: Vec<Scan>,
    seen: u64,
    gaps: u64,
}

/// Lets workers write, delete, read and follow, kills each of them, and checks each scan.
pub(super) fn run(lab: &Lab<'_>) -> Result<Tally> {
    let tool = Tool::new(lab.binary, lab.scratch)?;
    let program = lab
        .project
        .build("prodigy-storage-torture", "torture-deletions")?;
    let until = Instant::now() + lab.time(TIME.0, TIME.1);
    let ledger = Mutex::new(Ledger::default());
    let kills = thread::scope(|scope| {
        let players: Vec<_> = ROLES
            .into_iter()
            .enumerate()
            .map(|(number, role)| {
                let (tool, program, ledger) = (&tool, &program, &ledger);
                scope.spawn(move || -> Result<u64> {
                    let mut random = lab.random(&format!("{role} {number}"));
                    let mut life = 0;
                    while Instant::now() < until {
                        life += 1;
                        let name = format!("{role}{number}-{life}");
                        let mut command = tool.command_of(program);
                        command.arg(tool.base()).arg(&name);
                        command.arg(random.u64(..).to_string()).arg(role);
                        let mut process = Process::start(command, Vec::new(), true)?;
                        process.wait_for(Duration::from_millis(random.u64(..LIFE)))?;
                        let ended = process.end()?;
                        let dead = uptime()?;
                        ensure!(
                            ended.code.is_none(),
                            "{}",
                            ended.unexpected("a life until it is killed")
                        );
                        let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
                        ledger.add(&ended, dead).with_context(|| name)?;
                    }
                    Ok(life)
                })
            })
            .collect();
        players
            .into_iter()
            .map(|player| player.join().unwrap_or_else(|_| Err(anyhow!("it panicked"))))
            .sum::<Result<u64>>()
    })?;
    let mut ledger = ledger.into_inner().unwrap_or_else(PoisonError::into_inner);
    ledger.scans.push(last_scan(&tool)?);
    let mut tally = Tally::default();
    tally.add("kills of a writer, deleter, reader or follower", kills);
    ledger.check(&mut tally)?;
    is_sound(&tool)?;
    Ok(tally)
}

/// The time since the boot, not before now.
fn uptime() -> Result<Nanos> {
    let text = std::fs::read_to_string("/proc/uptime")?;
    let seconds: f64 = text.split(' ').next().context("an empty /proc/uptime")?.parse()?;
    // It is given in hundredths of a second.
    Ok(((seconds + 0.02) * 1e9) as Nanos)
}

/// The events that the tool reads when everybody else has ended.
fn last_scan(tool: &Tool) -> Result<Scan> {
    let from = uptime()?;
    let arguments = ["events", "cat", "--payload"].into_iter().chain(ADDRESS);
    let answer = tool.run(arguments, b"")?;
    // There may be no such job at the moment.
    let answer = match answer.code() {
        Some(NO_JOB) => answer,
        _ => answer.expect_code(0)?,
    };
    let keys = answer.lines().map(|line| {
        let event: Value = serde_json::from_slice(line)?;
        let key = event.get("key").and_then(Value::as_str).context("no key")?;
        Ok(key.to_owned())
    });
    let keys = keys.collect::<Result<_>>()?;
    Ok(Scan {
        from,
        to: uptime()?,
        whole: true,
        keys,
    })
}

/// The doctor finds nothing wrong.
fn is_sound(tool: &Tool) -> Result<()> {
    let answer = tool.run(["--json", "doctor"], b"")?.expect_code(0)?;
    for line in answer.lines() {
        let finding: Value = serde_json::from_slice(line)?;
        let severity = finding.get("severity").and_then(Value::as_str);
        ensure!(
            !matches!(severity, Some("damage" | "warning")),
            "the doctor found {finding}"
        );
    }
    Ok(())
}

/// The times that decide whether a scan returns an event.
#[derive(Debug)]
struct Fate<'a> {
    key: &'a str,
    /// It is stored from here on,
    stored: Nanos,
    /// perhaps removed from here on,
    perhaps: Option<Nanos>,
    /// and surely removed from here on.
    gone: Option<Nanos>,
}

impl Ledger {
    /// Adds the report of a worker that was dead at this time.
    fn add(&mut self, ended: &Ended, dead: Nanos) -> Result<()> {
        let mut begun = None;
        // The events that a follower was given since it began or since the last gap.
        let mut given = BTreeSet::new();
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for line in ended.lines() {
            let shown = || format!("it printed {}", String::from_utf8_lossy(line));
            match serde_json::from_slice(line).with_context(shown)? {
                Line::Append {
                    key,
                    from,
                    to,
                    stored,
                } => {
                    if stored {
                        self.stored.insert(key, (from, to));
                    }
                }
                Line::Deleting { from } => begun = Some(from),
                Line::Deleted { to, answer } => {
                    let from = begun.take().context("an end without a beginning")?;
                    match answer {
                        Answer::Refused => self.refused += 1,
                        Answer::Nothing => {}
                        Answer::Gone | Answer::Unclear => self.deletions.push(Deletion {
                            from,
                            to,
                            is_sure: answer == Answer::Gone,
                        }),
                    }
                }
                Line::Scan(scan) => self.scans.push(scan),
                Line::Seen { key } => {
                    self.seen += 1;
                    let (by, number) = key.rsplit_once('-').context("a key without a number")?;
                    let number: u64 = number.parse()?;
                    let before = last.insert(by.to_owned(), number);
                    ensure!(
                        before.is_none_or(|before| before < number),
                        "a follower was given {key} after number {before:?} of the same writer"
                    );
                    ensure!(given.insert(key.clone()), "a follower was given {key} twice");
                }
                Line::Gap {} => {
                    self.gaps += 1;
                    given.clear();
                    last.clear();
                }
            }
        }
        if let Some(from) = begun {
            self.deletions.push(Deletion {
                from,
                to: dead,
                is_sure: false,
            });
        }
        Ok(())
    }

    fn fates(&self) -> impl Iterator<Item = Fate<'_>> {
        self.stored.iter().map(|(key, &(from, to))| {
            let sure = self.deletions.iter().filter(|deletion| deletion.is_sure);
            let later = self.deletions.iter().filter(|deletion| deletion.to > from);
            Fate {
                key,
                stored: to,
                perhaps: later.map(|deletion| deletion.from).min(),
                gone: sure
                    .filter(|deletion| deletion.from > to)
                    .map(|deletion| deletion.to)
                    .min(),
            }
        })
    }

    fn check(&self, tally: &mut Tally) -> Result<()> {
        let (mut whole, mut had, mut gone) = (0u64, 0u64, 0u64);
        let fates: Vec<Fate<'_>> = self.fates().collect();
        for scan in &self.scans {
            let keys: BTreeSet<&str> = scan.keys.iter().map(String::as_str).collect();
            ensure!(
                keys.len() == scan.keys.len(),
                "a scan returned an event twice: {scan:?}"
            );
            for fate in &fates {
                let is_there = keys.contains(fate.key);
                let shown = || format!("{fate:?}, in a scan from {} to {}", scan.from, scan.to);
                if fate.gone.is_some_and(|gone| gone < scan.from) {
                    ensure!(!is_there, "a deleted event came back: {}", shown());
                    gone += 1;
                } else if scan.whole
                    && fate.stored < scan.from
                    && fate.perhaps.is_none_or(|perhaps| perhaps >= scan.to)
                {
                    ensure!(is_there, "an event is missing: {}", shown());
                    had += 1;
                }
            }
            whole += u64::from(scan.whole);
        }
        let sure = self.deletions.iter().filter(|deletion| deletion.is_sure).count();
        tally.add("events that were acknowledged", self.stored.len());
        tally.add("deletions of the job", sure);
        tally.add(
            "deletions that were killed or unclear",
            self.deletions.len() - sure,
        );
        tally.add(
            "deletions that were refused, since the job was at work",
            self.refused,
        );
        tally.add("whole scans", whole);
        tally.add("scans that a deletion ended", self.scans.len() as u64 - whole);
        tally.add("events that a whole scan had to return, and did", had);
        tally.add("deleted events that a scan must not return, and did not", gone);
        tally.add("events that a follower was given, none twice", self.seen);
        tally.add("deletions that a follower noticed", self.gaps);
        ensure!(sure > 0, "nothing was deleted");
        ensure!(had > 0 && gone > 0 && self.seen > 0, "nothing was checked");
        Ok(())
    }
}
