//! A failed sync: the state of the data since the previous sync is unknown, and the segment is never written again.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::super::scenario::{JOB, REPO};
use super::super::section::{Lab, Tally};
use super::super::strace::{self, Blow, Point};
use crate::segment;
use crate::tool::{Tool, lines};

/// The number of events that one handle appends, one per request.
const EVENTS: usize = 6;
/// The event whose sync fails. The first event of a segment waits for an fsync, each later one for an fdatasync.
const FAILING: usize = 2;
/// An upper bound on the fsyncs of a first event: of its file, and of each folder up to the root of the disk.
const FSYNCS: u32 = 24;

/// Checks that a handle can be used after a failed sync, with and without retries.
pub(super) fn run(lab: &Lab<'_>, tally: &mut Tally) -> Result<()> {
    let sync = sync_of(lab, FAILING)?;
    for retries in ["0", "3"] {
        let folder = lab.folder(&format!("poison-{retries}"))?;
        later(lab, &folder, retries, &sync)
            .with_context(|| format!("the sync of a later event, {retries} retries"))?;
        tally.add("failed syncs, the same handle gone on", 1_u64);
    }
    let mut failed = 0;
    for nth in 1..=FSYNCS {
        let folder = lab.folder(&format!("poison-fsync-{nth}"))?;
        let was = first(lab, &folder, nth).with_context(|| format!("fsync number {nth} of a new store"))?;
        failed += usize::from(was);
    }
    ensure!(
        failed >= 3,
        "{failed} syncs of a first event failed: too few to show anything"
    );
    tally.add("failed syncs, the same handle gone on", failed);
    Ok(())
}

fn tool(lab: &Lab<'_>, folder: &Path, retries: &str) -> Result<Tool> {
    Ok(Tool::new(lab.binary, folder)?
        .with("PRODIGY__STORAGE__RETRY_POLICY__MAX_RETRIES", retries)
        .with("PRODIGY__STORAGE__RETRY_POLICY__INITIAL_DELAY", "1ms"))
}

/// The requests that append all events.
fn requests(lab: &Lab<'_>) -> Vec<u8> {
    let events = (0..EVENTS).map(|position| lab.input.at(position));
    events
        .flat_map(|event| format!("append {event}\n").into_bytes())
        .collect()
}

/// Finds the fdatasync that acknowledges a later event of the segment, by a run in a folder of its own.
fn sync_of(lab: &Lab<'_>, position: usize) -> Result<Point> {
    let tool = tool(lab, &lab.folder("poison-unharmed")?, "0")?;
    let command = tool.command_of(lab.served);
    let (_, points) = strace::census(&command, true, &tool.base().join("events"), &requests(lab))?;
    let mut syncs = points.into_iter().filter(|point| point.call == "fdatasync");
    let sync = position.checked_sub(1).and_then(|before| syncs.nth(before));
    sync.with_context(|| format!("no fdatasync of a segment acknowledges event {position}"))
}

/// Appends all events with one handle while a call fails; returns the answers.
fn appended(lab: &Lab<'_>, tool: &Tool, point: &Point) -> Result<Vec<String>> {
    let blow = Blow::Fail {
        error: "EIO",
        lasting: false,
    };
    let command = tool.command_of(lab.served);
    let answer = strace::strike(&command, true, point, &blow, &requests(lab))?.expect_code(0)?;
    let answers: Vec<String> = answer
        .lines()
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    ensure!(answers.len() == EVENTS, "{answers:?}");
    Ok(answers)
}

fn read(tool: &Tool) -> Result<Vec<String>> {
    let read = tool.done(["events", "cat", "--repo", REPO, "--job", JOB], b"")?;
    lines(&read)
        .map(|line| Ok(segment::record(line)?.id.to_string()))
        .collect()
}

fn later(lab: &Lab<'_>, folder: &Path, retries: &str, sync: &Point) -> Result<()> {
    let tool = tool(lab, folder, retries)?;
    let answers = appended(lab, &tool, sync)?;
    for (position, answer) in answers.iter().enumerate() {
        let fails = retries == "0" && position == FAILING;
        let wanted = if fails { "failed OutcomeUnknown" } else { "stored " };
        ensure!(answer.starts_with(wanted), "event {position}: {answer}");
    }
    // After the failed sync, the segment was sealed with the event in it, and later events are in a new segment. With
    // retries, the event was appended to the new segment under the same id.
    let mut found = Vec::new();
    for path in segment::list(tool.base(), REPO, JOB)? {
        let mode = path.metadata()?.permissions().mode() & 0o777;
        found.push((mode, lines(&std::fs::read(&path)?).count()));
    }
    let after = EVENTS - FAILING - usize::from(retries == "0");
    ensure!(
        found == [(0o400, FAILING + 1), (0o600, after)],
        "modes and records of the segments: {found:?}"
    );
    ensure!(
        read(&tool)?.len() == EVENTS,
        "{} events are read",
        read(&tool)?.len()
    );
    Ok(())
}

/// Has fsync number `nth` of a new store fail. Returns true if the first event then has an unknown outcome. All other
/// events must be stored, and be read once.
fn first(lab: &Lab<'_>, folder: &Path, nth: u32) -> Result<bool> {
    let tool = tool(lab, folder, "0")?;
    let point = Point {
        call: "fsync".to_owned(),
        nth,
    };
    let answers = appended(lab, &tool, &point)?;
    let read = read(&tool)?;
    let mut failed = false;
    for (position, answer) in answers.iter().enumerate() {
        match answer.strip_prefix("stored ") {
            Some(id) => {
                let times = read.iter().filter(|read| *read == id).count();
                ensure!(times == 1, "{id} was acknowledged, and is read {times} times");
            }
            None => {
                ensure!(position == 0, "event {position}: {answer}");
                failed = true;
            }
        }
    }
    Ok(failed)
}
