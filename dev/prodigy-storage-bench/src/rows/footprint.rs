//! Rows of the cost of starting the tool.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::bar::Bar;
use crate::lab::Lab;
use crate::row::{ALL_ROUNDS, Contestant, Plan, Role, Row};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            key: "tool-start",
            group: "resources",
            work: "`prodigy-storage --version`",
            against: "`true`",
            unit: "ms",
            bar: Bar::MoreBy(5.0),
            rounds: ALL_ROUNDS,
            plan: start,
        },
        Row {
            key: "tool-size",
            group: "resources",
            work: "size of the tool",
            against: "",
            unit: "MiB",
            bar: Bar::Below(12.0),
            rounds: 1,
            plan: size,
        },
    ]
}

pub(super) fn without_tool() -> Plan {
    Plan::Skipped("no `--tool`; `cargo xtask bench` builds it".to_owned())
}

fn start(lab: &Lab) -> Result<Plan> {
    let Some(tool) = lab.tool.clone() else {
        return Ok(without_tool());
    };
    let starts = lab.of(200);
    let run = move |program: PathBuf, argument: Option<&'static str>| {
        move |_| -> Result<f64> {
            let began = Instant::now();
            for _ in 0..starts {
                let mut command = Command::new(&program);
                command.args(argument).stdin(Stdio::null()).stdout(Stdio::null());
                let status = command
                    .status()
                    .with_context(|| format!("can't start {}", program.display()))?;
                ensure!(status.success(), "{} ended with {status}", program.display());
            }
            Ok(began.elapsed().as_secs_f64() * 1e3 / starts as f64)
        }
    };
    Ok(Plan::Measure(vec![
        Contestant::ours(run(tool, Some("--version"))),
        Contestant::new(Role::Against, "true", run(PathBuf::from("true"), None)),
    ]))
}

fn size(lab: &Lab) -> Result<Plan> {
    let Some(tool) = lab.tool.clone() else {
        return Ok(without_tool());
    };
    let mib = |path: &Path| -> Result<f64> { Ok(path.metadata()?.len() as f64 / f64::from(1 << 20)) };
    Ok(Plan::Measure(vec![Contestant::ours(move |_| mib(&tool))]))
}
