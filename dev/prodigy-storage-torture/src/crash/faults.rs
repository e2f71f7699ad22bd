//! Makes a system call that touches the store fail, either once or from then on.
//!
//! The scenarios are the same as for the kills. The tool must either end with an error that names the failure, or recover and
//! print the same as without it. Acknowledged data is stored, and the next process continues.

use anyhow::{Context, Result, ensure};

use super::pool;
use super::scenario::{self, Prepared};
use super::section::{Lab, Tally};
use super::strace::{self, Blow, Point};
use super::syscalls::{UNHARMED, survey};
use crate::tool::Answer;

mod poison;
mod short;
mod torn;

/// The largest number of faults per scenario; faults of changing calls come first.
const FULL: usize = 70;
const QUICK: usize = 5;

/// A system call that fails, and its error.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    point: Point,
    error: &'static str,
    lasting: bool,
}

/// Runs each scenario, then the special cases.
pub(super) fn run(lab: &Lab<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    short::run(lab, &mut tally).context("short writes")?;
    if let Some(why) = strace::lacking() {
        tally.skip(format!("system calls that fail: {why}"));
        return Ok(tally);
    }
    poison::run(lab, &mut tally).context("failed syncs")?;
    torn::run(lab, &mut tally).context("writes that stop half way")?;
    for (number, scenario) in scenario::all().enumerate() {
        let folder = lab.folder(&format!("{number:02}"))?;
        let prepared = scenario.prepared(lab, &folder)?;
        let (points, unharmed) = survey(&prepared, UNHARMED)?;
        let mut faults = sample(lab, scenario.name, &points);
        if scenario.full_at_each_sync {
            let syncs = points.iter().filter(|point| point.call == "fsync");
            faults.extend(syncs.map(|point| Fault {
                point: point.clone(),
                error: "ENOSPC",
                lasting: false,
            }));
        }
        let outcomes = pool::each(&faults, |fault| trial(&prepared, fault, unharmed))
            .with_context(|| format!("scenario `{}`", scenario.name))?;
        let failed = outcomes.iter().filter(|is_reported| **is_reported).count();
        println!(
            "  {:<60} {:>4} faults, {failed:>4} reported as errors",
            scenario.name,
            faults.len()
        );
        tally.add("system calls that failed", faults.len());
        tally.add("of them reported as errors, the others recovered from", failed);
    }
    Ok(tally)
}

/// A random sample of all possible faults. Half of them are in calls that change the store.
pub(super) fn sample(lab: &Lab<'_>, name: &str, points: &[Point]) -> Vec<Fault> {
    let mut random = lab.random(name);
    let all: Vec<Fault> = points
        .iter()
        .flat_map(|point| {
            errors(&point.call).iter().flat_map(|&error| {
                // The tool prints its error message with `write`. If every `write` failed, the message could not be
                // checked.
                let lasts = matches!(error, "EIO" | "ENOSPC") && point.call != "write";
                [false, true]
                    .into_iter()
                    .filter(move |lasting| lasts || !lasting)
                    .map(|lasting| Fault {
                        point: point.clone(),
                        error,
                        lasting,
                    })
            })
        })
        .collect();
    let (mut changing, mut others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|fault| changes(&fault.point.call));
    random.shuffle(&mut changing);
    random.shuffle(&mut others);
    let wanted = if lab.quick { QUICK } else { FULL };
    changing.truncate(wanted - wanted / 3);
    others.truncate(wanted - changing.len());
    changing.append(&mut others);
    changing
}

/// True if a call changes something or concerns locks.
fn changes(call: &str) -> bool {
    matches!(
        call,
        "pwrite64" | "write" | "fsync" | "fdatasync" | "ftruncate" | "flock" | "mkdirat" | "linkat"
    ) || ["rename", "unlink", "fchmod"]
        .iter()
        .any(|start| call.starts_with(start))
}

/// The errors that a call may return.
fn errors(call: &str) -> &'static [&'static str] {
    match call {
        "open" | "openat" | "openat2" => &["EIO", "ENOSPC", "EMFILE", "EINTR"],
        "pwrite64" => &["EIO", "ENOSPC", "EDQUOT", "EFBIG", "EINTR"],
        "write" => &["EIO", "ENOSPC"],
        "fsync" | "fdatasync" | "ftruncate" => &["EIO", "ENOSPC", "EINTR"],
        "flock" => &["EIO", "EINTR", "ENOLCK"],
        "mkdirat" | "linkat" | "renameat" | "renameat2" => &["EIO", "ENOSPC", "EACCES", "EROFS"],
        "unlinkat" => &["EIO", "EACCES"],
        "pread64" | "read" | "getdents64" => &["EIO", "EINTR"],
        "close" => &[],
        _ => &["EIO"],
    }
}

/// Runs a scenario with a fault, and checks it. Returns true if the fault was reported as an error.
pub(super) fn trial(prepared: &Prepared<'_>, fault: &Fault, unharmed: usize) -> Result<bool> {
    let Fault {
        point,
        error,
        lasting,
    } = fault;
    let place = format!(
        "{error} at {} number {}{}",
        point.call,
        point.nth,
        if *lasting { " and after" } else { "" }
    );
    let mut trial = prepared.trial(&place.replace(' ', "-"))?;
    trial.scene.mended = false;
    let blow = Blow::Fail {
        error,
        lasting: *lasting,
    };
    let answer = strace::strike(
        &trial.command(),
        prepared.scenario.threads,
        point,
        &blow,
        &trial.act.input,
    )?;
    let is_reported = judge(&answer, fault, unharmed).with_context(|| place.clone())?;
    trial
        .check(&answer)
        .with_context(|| format!("{place}; it had said: {}", answer.stderr))?;
    Ok(is_reported)
}

/// Fails unless the tool ended by itself, and either did all of its work or reported the fault. Returns true if it
/// reported the fault.
fn judge(answer: &Answer, fault: &Fault, unharmed: usize) -> Result<bool> {
    let said = answer.errors();
    ensure!(
        !answer.stderr.contains("panicked"),
        "{}",
        answer.unexpected("no panic")
    );
    if answer.code() == Some(0) {
        let lines = answer.lines().count();
        ensure!(
            lines == unharmed,
            "it says that all is well, and printed {lines} lines of {unharmed}"
        );
        if said.is_empty() {
            return Ok(false);
        }
    }
    ensure!(
        matches!(answer.code(), Some(0 | 1 | 3)),
        "{}",
        answer.unexpected("success or exit code 1 or 3")
    );
    ensure!(!said.is_empty(), "{}", answer.unexpected("a reason"));
    let words = words(fault);
    ensure!(
        words.is_empty() || words.iter().any(|words| said.contains(words)),
        "it says none of {words:?}: {said}"
    );
    Ok(true)
}

/// The message about the fault has to contain one of these texts.
fn words(fault: &Fault) -> &'static [&'static str] {
    let output = fault.point.call == "write";
    match fault.error {
        _ if output => &["No space left on device", "Input/output error"],
        // An interrupted call is repeated, so no message may be printed.
        "EINTR" => &["nothing: it has to be tried again"],
        "ENOSPC" | "EDQUOT" | "EFBIG" => &["disk space full", "No space left"],
        // For a file outside of the root, the message has the words of the operating system.
        "EACCES" | "EROFS" => &[
            "storage directory not writable",
            "Permission denied",
            "Read-only file system",
        ],
        "ENOLCK" => &["no lock left", "can't lock files", "this file system has none"],
        "EMFILE" => &["too many files are open"],
        _ => &["input/output error", "outcome unknown", "Input/output error"],
    }
}
