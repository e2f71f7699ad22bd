//! Rows of the status of a store with many jobs.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::bar::Bar;
use crate::lab::Lab;
use crate::memory;
use crate::row::{Contestant, Plan, Role, Row};
use crate::rows::footprint::without_tool;

const STATUS: &[&str] = &["status"];
/// The number of jobs. The memory that they need is compared with that for `FEW` jobs.
const JOBS: usize = 100_000;
const FEW: usize = 10_000;

pub(crate) fn rows() -> Vec<Row> {
    let row = |key, work, unit, bar, plan| Row {
        key,
        group: "resources",
        work,
        against: "",
        unit,
        bar: Bar::Below(bar),
        rounds: 3,
        plan,
    };
    vec![
        row(
            "status-100000-jobs",
            "`prodigy-storage status` of 100,000 jobs, warm",
            "s",
            5.0,
            |lab| timed(lab, STATUS, |run| run.whole),
        ),
        row(
            "status-first-output-100000-jobs",
            "the first byte of it",
            "s",
            1.0,
            |lab| timed(lab, STATUS, |run| run.first),
        ),
        Row {
            against: "10,000 jobs",
            bar: Bar::AtMost(1.1),
            ..row(
                "status-memory-100000-jobs",
                "peak resident memory of it",
                "MiB",
                0.0,
                memory_of_status,
            )
        },
        row(
            "usage-100000-jobs",
            "`prodigy-storage usage --jobs` of 100,000 jobs, warm",
            "s",
            5.0,
            |lab| timed(lab, &["usage", "--jobs"], |run| run.whole),
        ),
    ]
}

/// A run of the tool: the seconds until its first output and until its end, and its peak memory if that was watched.
struct Run {
    first: f64,
    whole: f64,
    resident_mib: f64,
}

fn timed(lab: &Lab, command: &'static [&'static str], value: fn(&Run) -> f64) -> Result<Plan> {
    let Some(tool) = lab.tool.clone() else {
        return Ok(without_tool());
    };
    let jobs = lab.jobs(lab.of(JOBS))?;
    Ok(Plan::Measure(vec![Contestant::ours(move |_| {
        run(&tool, &jobs.root(), command, false).map(|run| value(&run))
    })]))
}

fn memory_of_status(lab: &Lab) -> Result<Plan> {
    let Some(tool) = lab.tool.clone() else {
        return Ok(without_tool());
    };
    let of = |jobs: usize| -> Result<_> {
        let (tool, jobs) = (tool.clone(), lab.jobs(jobs)?);
        Ok(move |_| run(&tool, &jobs.root(), STATUS, true).map(|run| run.resident_mib))
    };
    Ok(Plan::Measure(vec![
        Contestant::ours(of(lab.of(JOBS))?),
        Contestant::new(Role::Against, "10,000 jobs", of(FEW)?),
    ]))
}

/// Runs the tool. Its memory is watched only on request, since watching slows it down.
fn run(tool: &Path, root: &Path, command: &[&str], watch: bool) -> Result<Run> {
    let began = Instant::now();
    let mut child = Command::new(tool)
        .arg("--base-dir")
        .arg(root)
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("can't start {}", tool.display()))?;
    let mut out = child.stdout.take().context("a child without output")?;
    let mut shown = vec![0];
    out.read_exact(&mut shown).context("it printed nothing")?;
    let first = began.elapsed().as_secs_f64();
    let pid = child.id();
    let resident_mib = thread::scope(|scope| {
        let watched = watch.then(|| scope.spawn(move || memory::watch_most_resident_mib(pid)));
        out.read_to_end(&mut shown)?;
        match watched {
            Some(watched) => match watched.join() {
                Ok(most) if most > 0.0 => Ok(most),
                _ => bail!("its memory was not seen"),
            },
            None => Ok(0.0),
        }
    })?;
    let status = child.wait()?;
    let whole = began.elapsed().as_secs_f64();
    ensure!(status.success(), "{} ended with {status}", tool.display());
    let shown = String::from_utf8_lossy(&shown);
    ensure!(shown.contains("/job-"), "no job is in what it printed: {shown}");
    Ok(Run {
        first,
        whole,
        resident_mib,
    })
}
