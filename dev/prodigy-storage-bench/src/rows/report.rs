//! Rows of the page that `report` writes for a job of a million events.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::bar::Bar;
use crate::lab::Lab;
use crate::row::{Contestant, Plan, Row};
use crate::rows::footprint::without_tool;
use crate::store;

pub(crate) fn rows() -> Vec<Row> {
    let row = |key, work, unit, limit, plan| Row {
        key,
        group: "resources",
        work,
        against: "",
        unit,
        bar: Bar::Below(limit),
        rounds: 3,
        plan,
    };
    vec![
        row(
            "report-time",
            "`prodigy-storage report` of a job of a million events",
            "s",
            10.0,
            |lab| plan(lab, |page| page.seconds),
        ),
        row("report-size", "size of its page", "MB", 5.0, |lab| {
            plan(lab, |page| page.megabytes)
        }),
    ]
}

/// A generated page.
struct Page {
    seconds: f64,
    megabytes: f64,
}

fn plan(lab: &Lab, figure: fn(&Page) -> f64) -> Result<Plan> {
    let Some(tool) = lab.tool.clone() else {
        return Ok(without_tool());
    };
    let (log, bench) = (lab.log()?, lab.bench());
    Ok(Plan::Measure(vec![Contestant::ours(move |_| -> Result<f64> {
        let folder = bench.folder()?;
        let file = folder.path().join("page.html");
        let began = Instant::now();
        let ended = Command::new(&tool)
            .arg("--base-dir")
            .arg(log.root())
            .args(["report", "--repo", store::REPO, "--job", store::JOB, "--output"])
            .arg(&file)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("can't start {}", tool.display()))?;
        let seconds = began.elapsed().as_secs_f64();
        let errors = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.success(), "{}: {errors}", tool.display());
        let page = std::fs::read_to_string(&file).context("can't read the page")?;
        let counted = format!("\"events\":{},", log.events);
        ensure!(
            page.contains(&counted),
            "the page does not count {} events",
            log.events
        );
        let megabytes = page.len() as f64 / 1e6;
        Ok(figure(&Page { seconds, megabytes }))
    })]))
}
