//! A write that stops in the middle, followed by a truncation that fails: an incomplete record remains.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::super::scenario::{JOB, REPO};
use super::super::section::{Lab, Tally};
use super::super::strace::{self, Blow, Point, started_by};
use crate::segment;
use crate::tool::{Tool, lines};

/// The number of events that one handle appends.
const EVENTS: usize = 16;
/// The limit on the size of a file. It cuts a record in the middle.
const LONGEST: &str = "--fsize=4000";

/// Checks that an incomplete record is never returned, is not reported as damage, and is removed by the next writer.
pub(super) fn run(lab: &Lab<'_>, tally: &mut Tally) -> Result<()> {
    if Command::new("prlimit").arg("--version").output().is_err() {
        tally.skip("writes that stop half way: there is no prlimit");
        return Ok(());
    }
    for retries in ["0", "3"] {
        let folder = lab.folder(&format!("torn-{retries}"))?;
        let torn = one(lab, &folder, retries).with_context(|| format!("{retries} retries"))?;
        tally.add("writes that stopped half way and could not be taken back", torn);
    }
    Ok(())
}

fn one(lab: &Lab<'_>, folder: &Path, retries: &str) -> Result<usize> {
    let tool = Tool::new(lab.binary, folder)?
        .with("PRODIGY__STORAGE__RETRY_POLICY__MAX_RETRIES", retries)
        .with("PRODIGY__STORAGE__RETRY_POLICY__INITIAL_DELAY", "1ms");
    let mut limited = Command::new("sh");
    limited.args(["-c", r#"trap "" XFSZ; exec prlimit "$@""#, "sh", LONGEST, "--"]);
    let command = started_by(limited, &tool.command_of(lab.served));
    let point = Point {
        call: "ftruncate".into(),
        nth: 1,
    };
    let blow = Blow::Fail {
        error: "EIO",
        lasting: true,
    };
    let requests: String = (0..EVENTS)
        .map(|position| format!("append {}\n", lab.input.at(position)))
        .collect();
    let answer = strace::strike(&command, true, &point, &blow, requests.as_bytes())?.expect_code(0)?;
    let mut torn = 0;
    for path in segment::list(tool.base(), REPO, JOB)? {
        torn += usize::from(!std::fs::read(&path)?.ends_with(b"\n"));
    }
    ensure!(torn > 0, "no write stopped half way");
    // An event beyond the limit fails each time, while acknowledged events can be read without a warning.
    let mut stored = Vec::new();
    for line in answer.lines().map(String::from_utf8_lossy) {
        match line.strip_prefix("stored ") {
            Some(id) => stored.push(id.to_owned()),
            None => ensure!(
                line.starts_with("failed OutcomeUnknown") || line.starts_with("failed DiskFull"),
                "{line}"
            ),
        }
    }
    read(&tool, &stored)?;
    // Each next writer adopts one segment, and removes its torn tail.
    let text = crate::input::joined([lab.input.at(EVENTS)]);
    let more = tool.done(["events", "append", "--ack", "--repo", REPO, "--job", JOB], &text)?;
    stored.extend(lines(&more).map(|line| String::from_utf8_lossy(line).into_owned()));
    read(&tool, &stored)?;
    Ok(torn)
}

fn read(tool: &Tool, stored: &[String]) -> Result<()> {
    let answer = tool
        .run(["events", "cat", "--repo", REPO, "--job", JOB], b"")?
        .expect_code(0)?;
    ensure!(answer.stderr.is_empty(), "it complains: {}", answer.stderr);
    let read: Vec<String> = answer
        .lines()
        .map(|line| Ok(segment::record(line)?.id.to_string()))
        .collect::<Result<_>>()?;
    for id in stored {
        let times = read.iter().filter(|read| *read == id).count();
        ensure!(times == 1, "{id} was acknowledged, and is read {times} times");
    }
    Ok(())
}
