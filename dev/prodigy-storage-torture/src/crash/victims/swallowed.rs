//! The tool as a victim: `strace` returns success for some of its syncs, which never reach the kernel.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::{ACKNOWLEDGED, Expected, Seen, fairly, judge, verdict};
use crate::crash::power;
use crate::crash::power::death::{Death, lose, traced, under_strace};
use crate::crash::power::disk::Disk;
use crate::crash::power::process::Outcome;
use crate::crash::power::scene::{Launch, Scene};
use crate::crash::section::{Lab, Tally};
use crate::tool::{finish, lines};

/// The suppressed syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Swallowed {
    /// All syncs.
    All,
    /// Syncs of data written to a file that is stored already.
    Data,
    /// Syncs of the folder, after a rename.
    BehindRename,
}

/// The kind of data that the tool stores, a description, and the suppressed syncs.
const VICTIMS: [(&str, &str, Swallowed); 6] = [
    ("events", "events without any sync", Swallowed::All),
    ("events", "events without fdatasync", Swallowed::Data),
    (
        "checkpoints",
        "a checkpoint whose folder is not synced",
        Swallowed::BehindRename,
    ),
    ("checkpoints", "a checkpoint without any sync", Swallowed::All),
    ("dead letters", "a queue without any sync", Swallowed::All),
    ("tokens", "a token without any sync", Swallowed::All),
];

/// Runs each victim of [`VICTIMS`] once.
pub(super) fn all(lab: &Lab<'_>, disk: &mut Disk, number: u32, on: &str, tally: &mut Tally) -> Result<()> {
    for (turn, (what, shown, swallowed)) in VICTIMS.into_iter().enumerate() {
        let place = || format!("the tool, {shown}, on {on}, time {number}");
        let rehearsed = format!("swallowed-{turn}-{number}");
        let syncs = match swallowed {
            Swallowed::BehindRename => {
                let behind = before_rename(lab, what, &rehearsed).with_context(place)?;
                format!("fsync,fdatasync:retval=0:when={}+", behind + 1)
            }
            Swallowed::All => "fsync,fdatasync:retval=0".to_owned(),
            Swallowed::Data => "fdatasync:retval=0".to_owned(),
        };
        let waits = swallowed == Swallowed::Data;
        let one = |disk: &mut Disk, again: u32| {
            let store = disk.point().join(format!("{rehearsed}-{again}"));
            swallow(power::scene(what, lab, store)?.as_mut(), &syncs, waits, disk)
        };
        let seen = fairly(disk, Expected::Caught, one).with_context(place)?;
        judge(shown, Expected::Caught, seen, on, tally).with_context(place)?;
    }
    Ok(())
}

/// Runs a process to its end, then another one with these syncs suppressed, and cuts the power.
///
/// If `waits` is true, only some of the syncs are suppressed: the power is cut before the process ends, because it
/// would sync again at its end.
fn swallow(scene: &mut dyn Scene, syncs: &str, waits: bool, disk: &mut Disk) -> Result<Seen> {
    scene.continue_work()?;
    let mut launch = scene.rehearse()?;
    let death = if waits {
        let few = lines(&launch.input).take(ACKNOWLEDGED);
        launch.input = few.flat_map(|line| [line, b"\n"].concat()).collect();
        Death::Lines(ACKNOWLEDGED)
    } else {
        Death::AtItsEnd
    };
    let calls = syncs.split(':').next().unwrap_or_default();
    launch.command = traced(&launch.command, calls, syncs);
    let ended = lose(launch, &death, disk)?;
    if !waits {
        ensure!(ended.outcome()? == Outcome::Done, "it was killed");
    }
    scene.end(&ended, &death)?;
    verdict(scene.check())
}

/// The number of syncs before the rename, in a run without suppressed syncs.
fn before_rename(lab: &Lab<'_>, what: &str, name: &str) -> Result<usize> {
    let mut scene = power::scene(what, lab, lab.scratch.join(name))?;
    scene.continue_work()?;
    let Launch { command, input, .. } = scene.rehearse()?;
    let file = lab.scratch.join("syncs.txt");
    let trace = trace(&command, &input, &file)?;
    let mut syncs = 0;
    for line in trace.lines() {
        let call = line.split_whitespace().nth(1).unwrap_or_default();
        if call.starts_with("rename") {
            return Ok(syncs);
        }
        syncs += usize::from(call.starts_with("fsync(") || call.starts_with("fdatasync("));
    }
    bail!("`{what}` renames nothing: {trace}")
}

fn trace(command: &Command, input: &[u8], file: &Path) -> Result<String> {
    let words = ["-e", "trace=fsync,fdatasync,rename,renameat,renameat2"];
    finish(under_strace(command, file, &words), input)?.expect_code(0)?;
    let trace = std::fs::read_to_string(file)?;
    ensure!(trace.contains("fsync("), "it syncs nothing: {trace}");
    Ok(trace)
}
