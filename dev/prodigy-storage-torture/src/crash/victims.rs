//! Victims: programs with a planted fault that breaks a promise, to verify that the power-loss checks detect it.
//!
//! Each victim has a fault that occurs in real programs. It runs through the same machinery and checks as the tool does
//! in `power`, and has to be detected every time. Some victims are the tool itself, with some of its syncs suppressed
//! by `strace`.

mod program;
mod swallowed;

use std::process::Command;

use anyhow::{Context, Result, bail};

pub(crate) use program::Options;
pub(crate) use program::run as program;

use super::power::death::{Death, lose};
use super::power::disk::Disk;
use super::power::log::Log;
use super::power::lost::Lost;
use super::power::scene::{Launch, Scene};
use super::power::states::States;
use super::power::{self};
use super::section::{Lab, Tally};
use program::Fault;

/// The number of runs of each victim, in the short and in the full form.
const TIMES: (u32, u32) = (1, 10);
/// The number of acknowledgements of a victim before the power is cut.
const ACKNOWLEDGED: usize = 7;

/// The largest number of attempts for a victim, if other programs interfere with it.
const AGAIN: u32 = 8;

/// The result of the checks of a victim's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Caught,
    Missed,
}

/// The expected verdict of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Caught,
    /// The victim has no fault, so nothing is reported.
    Whole,
    /// Either result: real file systems may make up for this fault.
    Hidden,
}

/// Runs every victim.
pub(super) fn run(lab: &Lab<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    let times = if lab.quick { TIMES.0 } else { TIMES.1 };
    let traces = power::traces();
    for (kind, mut disk) in power::disks(lab, &mut tally)? {
        let name = kind.name();
        if !traces {
            tally.skip(format!("victims that are stopped or made by strace, on {name}"));
        }
        for number in 0..times {
            for fault in Fault::ALL {
                if fault.needs_trace() && !traces {
                    continue;
                }
                let place = || format!("the victim `{}` on {name}, time {number}", fault.name());
                let one = |disk: &mut Disk, again| planted(lab, fault, disk, number * AGAIN + again);
                let seen = fairly(&mut disk, fault.expected(), one).with_context(place)?;
                judge(fault.name(), fault.expected(), seen, name, &mut tally).with_context(place)?;
            }
            if traces {
                swallowed::all(lab, &mut disk, number, name, &mut tally)?;
            }
        }
    }
    Ok(tally)
}

/// Counts a victim. Fails if the checks did not report what was expected.
fn judge(victim: &str, expected: Expected, seen: Seen, on: &str, tally: &mut Tally) -> Result<()> {
    let what = match (expected, seen) {
        (Expected::Caught, Seen::Caught) => format!("victims caught on {on}"),
        (Expected::Whole, Seen::Missed) => {
            format!("programs without a fault that nothing is said of, on {on}")
        }
        (Expected::Hidden, Seen::Caught) => {
            format!("victims caught on {on}, though it may hide them: `{victim}`")
        }
        (Expected::Hidden, Seen::Missed) => format!("victims that {on} itself makes up for: `{victim}`"),
        (Expected::Caught, Seen::Missed) => {
            bail!("it was not caught: a real fault of this kind would not be either")
        }
        (Expected::Whole, Seen::Caught) => {
            bail!("it has no fault, and was caught: the checks see what is not there")
        }
    };
    tally.add(what, 1_u32);
    Ok(())
}

/// Converts the result of a check: a broken promise is a result, and any other error is a failure of this test.
fn verdict(check: Result<usize>) -> Result<Seen> {
    match check {
        Ok(_) => Ok(Seen::Missed),
        Err(error) if error.downcast_ref::<Lost>().is_some() => Ok(Seen::Caught),
        Err(error) => Err(error.context("the check itself failed")),
    }
}

/// Runs a victim, and repeats the run if another program may have synced all file systems of the machine, as `sync`
/// does: then unsynced data survives, and an undetected victim proves nothing.
fn fairly(
    disk: &mut Disk,
    expected: Expected,
    mut one: impl FnMut(&mut Disk, u32) -> Result<Seen>,
) -> Result<Seen> {
    for again in 0..AGAIN {
        let canary = disk.point().join("never-synced");
        std::fs::write(&canary, "whole")?;
        let seen = one(disk, again)?;
        let synced = std::fs::read(&canary).is_ok_and(|text| text == b"whole");
        if expected != Expected::Caught || seen == Seen::Caught || !synced {
            return Ok(seen);
        }
        eprintln!("NOTICE: all file systems were synced while a victim was at work; it is tried again");
    }
    bail!("all file systems of this machine are synced all the time: nothing can be shown")
}

/// Runs the victim with this fault, with one power loss.
fn planted(lab: &Lab<'_>, fault: Fault, disk: &mut Disk, number: u32) -> Result<Seen> {
    let store = disk.point().join(format!("{}-{number}", fault.name()));
    let tool = power::tool(lab, store.clone())?;
    let mut command = Command::new(lab.this);
    command.args(["victim", fault.name()]).arg(&store);
    let death = if fault.needs_trace() {
        Death::Call {
            name: "fdatasync".to_owned(),
            number: ACKNOWLEDGED as u64,
        }
    } else {
        Death::Lines(ACKNOWLEDGED)
    };
    if fault.saves() {
        let ended = lose(launch(command, states()), &death, disk)?;
        let mut scene = States::new(tool);
        scene.note(ended.lines().count() as u64);
        return verdict(scene.check());
    }
    let mut scene = Log::new(tool, lab.input, "lost");
    // A process that waits for more input has no write in flight when the power is cut.
    let input = scene.lines(ACKNOWLEDGED);
    let ended = lose(launch(command, input), &death, disk)?;
    scene.note(&ended)?;
    verdict(scene.check())
}

fn launch(command: Command, input: Vec<u8>) -> Launch {
    Launch {
        command,
        input,
        held: true,
    }
}

/// The states to save, each with its number.
fn states() -> Vec<u8> {
    let lines = (1..=ACKNOWLEDGED).map(|number| format!("{{\"n\":{number}}}\n"));
    lines.collect::<String>().into_bytes()
}
