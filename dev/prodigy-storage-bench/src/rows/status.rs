//! The status of a store that holds many jobs.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::bar::Bar;
use crate::lab::Lab;
use crate::row::{Contestant, Plan, Row};
use crate::rows::footprint::without_tool;
use crate::rows::open::Jobs;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            key: "status-100000-jobs",
            group: "resources",
            work: "`prodigy-storage status` of 100,000 jobs, warm",
            against: "",
            unit: "s",
            bar: Bar::Below(5.0),
            rounds: 3,
            plan: |lab| plan(lab, &["status"]),
        },
        Row {
            key: "usage-100000-jobs",
            group: "resources",
            work: "`prodigy-storage usage --jobs` of 100,000 jobs, warm",
            against: "",
            unit: "s",
            bar: Bar::Below(5.0),
            rounds: 3,
            plan: |lab| plan(lab, &["usage", "--jobs"]),
        },
    ]
}

fn plan(lab: &Lab, command: &'static [&'static str]) -> Result<Plan> {
    let Some(tool) = lab.tool.clone() else {
        return Ok(without_tool());
    };
    let jobs = Jobs::make(&lab.bench(), lab.of(100_000))?;
    Ok(Plan::Measure(vec![Contestant::ours(move |_| -> Result<f64> {
        let began = Instant::now();
        let ended = Command::new(&tool)
            .arg("--base-dir")
            .arg(jobs.root())
            .args(command)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("can't start {}", tool.display()))?;
        let took = began.elapsed().as_secs_f64();
        let shown = String::from_utf8_lossy(&ended.stdout);
        ensure!(
            ended.status.success(),
            "{} ended with {}",
            tool.display(),
            ended.status
        );
        ensure!(shown.contains("/job-"), "no job is in what it printed: {shown}");
        Ok(took)
    })]))
}
