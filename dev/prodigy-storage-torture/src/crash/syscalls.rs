//! Kills the tool (SIGKILL) at every system call that touches the store or acknowledges data.
//!
//! Each scenario is run once without a fault, to list its calls. Then it is run again for each of them on a fresh copy
//! of its store, and killed when it enters that call, which has no effect. The next process must find all acknowledged
//! data, no torn data and no damage, and continue.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::pool;
use super::scenario::{self, Prepared, Scenario};
use super::section::{Lab, Tally};
use super::strace::{self, Blow, Point};

/// In the short form, one in this number of calls per scenario is tried.
const SAMPLE: usize = 8;
/// The number of attempts to kill at one call beside other trials, and alone afterwards. The compressing thread races
/// with the appending one, so not every run makes the call. Of all calls, at most one in `MISSED` may never be reached.
const TRIES: usize = 6;
const TRIES_ALONE: usize = 4;
const MISSED: usize = 20;
/// The name of the run without a fault.
pub(super) const UNHARMED: &str = "unharmed";

/// Kills every scenario at every call.
pub(super) fn run(lab: &Lab<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    if let Some(why) = strace::lacking() {
        tally.skip(format!("kills at system calls: {why}"));
        return Ok(tally);
    }
    for (number, scenario) in scenario::all().enumerate() {
        let folder = lab.folder(&format!("{number:02}"))?;
        let done = one(lab, scenario, &folder, &mut tally);
        done.with_context(|| format!("scenario `{}`", scenario.name))?;
    }
    tally.add("scenarios of the real tool", scenario::all().count());
    Ok(tally)
}

/// Runs a scenario without a fault. Returns its calls that touch the store, and the number of printed lines.
pub(super) fn survey(prepared: &Prepared<'_>, name: &str) -> Result<(Vec<Point>, usize)> {
    let trial = prepared.trial(name)?;
    let base = trial.scene.tool.base();
    let threads = prepared.scenario.threads;
    let (answer, points) = strace::census(&trial.command(), threads, base, &trial.act.input)?;
    let answer = answer.expect_code(0)?;
    trial.check(&answer).context("unharmed")?;
    Ok((points.into_iter().collect(), answer.lines().count()))
}

fn one(lab: &Lab<'_>, scenario: &'static Scenario, folder: &Path, tally: &mut Tally) -> Result<()> {
    let prepared = scenario.prepared(lab, folder)?;
    let (mut points, _) = survey(&prepared, UNHARMED)?;
    let calls = points.len();
    if lab.quick {
        let mut random = lab.random(scenario.name);
        points.retain(|_| random.usize(..SAMPLE) == 0);
    }
    let killed = pool::each(&points, |point| {
        let tries = 0..if scenario.threads { TRIES } else { 1 };
        for number in tries {
            if trial(&prepared, point, number)? {
                return Ok(true);
            }
        }
        Ok(false)
    })?;
    let mut missed: Vec<&Point> = points
        .iter()
        .zip(&killed)
        .filter_map(|(point, killed)| (!killed).then_some(point))
        .collect();
    let mut kills = points.len() - missed.len();
    for number in TRIES..TRIES + TRIES_ALONE {
        if !scenario.threads || missed.len() * MISSED <= points.len() {
            break;
        }
        // A call that another run without a fault does not make is not expected in every run, so it is not missed.
        let (again, _) = survey(&prepared, &format!("{UNHARMED}-{number}"))?;
        let mut left = Vec::new();
        for point in missed {
            if !again.contains(point) {
                continue;
            }
            if trial(&prepared, point, number)? {
                kills += 1;
            } else {
                left.push(point);
            }
        }
        missed = left;
    }
    ensure!(
        missed.len() * MISSED <= points.len(),
        "of {} calls, these were not reached: {missed:?}",
        points.len()
    );
    println!("  {:<58} {calls:>4} calls, {kills:>4} kills", scenario.name);
    tally.add("kills at a system call", kills);
    tally.add(
        "calls that threads in the background did not make again",
        points.len() - kills,
    );
    Ok(())
}

/// Kills a scenario at a system call and checks the store. Returns false if the run ended before that call.
pub(super) fn trial(prepared: &Prepared<'_>, point: &Point, number: usize) -> Result<bool> {
    let name = format!("{}-{}-{number}", point.call, point.nth);
    let trial = prepared.trial(&name)?;
    let threads = prepared.scenario.threads;
    let answer = strace::strike(&trial.command(), threads, point, &Blow::Kill, &trial.act.input)?;
    let killed = match answer.signal() {
        Some(9) => true,
        _ => {
            ensure!(
                answer.code() == Some(0),
                "{}",
                answer.unexpected("death or success")
            );
            false
        }
    };
    let place = || format!("killed at {} number {}", point.call, point.nth);
    trial.check(&answer).with_context(place)?;
    Ok(killed)
}
