//! Measures this project, its peers and the limits of the machine in the same run.
//!
//! A row has a work of our side, the work that its bar compares with, and peers. All works take turns in rounds, with
//! new contents each round. Each turn reads back what it stored, outside of the measured time.

mod arguments;
mod bar;
mod child;
mod clock;
mod counts;
mod event;
mod lab;
mod machine;
mod memory;
mod peers;
mod raw;
mod report;
mod rounds;
mod row;
mod rows;
mod show;
mod spread;
mod store;

use std::io::Write;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use prodigy_storage::Timestamp;

use crate::arguments::{Arguments, Chore};
use crate::lab::Lab;
use crate::machine::Machine;
use crate::report::{Measured, Outcome, Report, Run, Values};
use crate::row::{Plan, Row};
use crate::show::{page, table};

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.chore {
        Some(Chore::Counts(options)) => counts::run(options),
        Some(Chore::Operation(operation)) => operation.run(),
        Some(Chore::Child { task }) => child::run(task),
        None if arguments.list => list(),
        None => measure(&arguments),
    }
}

fn list() -> Result<()> {
    let mut out = std::io::stdout().lock();
    for row in rows::all() {
        writeln!(
            out,
            "{:<28} {:<58} {}",
            row.key,
            row.work,
            row.bar.words(row.unit)
        )?;
    }
    Ok(())
}

fn measure(arguments: &Arguments) -> Result<()> {
    let rows = wanted(&arguments.only)?;
    let scale = arguments.scale();
    let folder = arguments.folder()?;
    let lab = Lab::new(&folder, scale, arguments.tool.clone())?;
    let mut report = Report {
        machine: Machine::of(&folder)?,
        quick: arguments.quick,
        divisor: scale.divisor,
        margin: scale.margin,
        rows: Vec::new(),
    };
    let run = Run {
        day: Timestamp::now().to_rfc3339().chars().take(10).collect(),
        rounds: scale.rounds,
        load: machine::load(),
        seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..)),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}\n{}.\n", page::machine(&report), run.line())?;
    out.write_all(table::HEAD.as_bytes())?;
    for row in &rows {
        // A failed row is reported, and fails the run at its end, so that the other rows are still measured.
        let outcome = one(&lab, row, run.seed).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        let measured = Measured::new(row, outcome, &run);
        out.write_all(table::bar_line(&measured, report.margin).as_bytes())?;
        out.flush()?;
        report.rows.push(measured);
    }
    drop(lab);
    writeln!(out, "\n{}", table::peers(&report))?;
    out.write_all(table::behind(&report).as_bytes())?;
    if let Some(path) = &arguments.json {
        std::fs::write(path, page::json(&report)?)
            .with_context(|| format!("can't write {}", path.display()))?;
    }
    let failed = report.failed();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    let missed = report.missed();
    if let Some(docs) = &arguments.docs {
        if let Some(earlier) = page::earlier(docs)?.filter(|_| !arguments.only.is_empty()) {
            let all = rows::all();
            report.add_earlier(earlier, &all.iter().map(|row| row.key).collect::<Vec<_>>())?;
        }
        page::write(docs, &report)?;
    }
    if arguments.check && !missed.is_empty() {
        bail!("{}", missed.join("\n"));
    }
    Ok(())
}

fn wanted(only: &[String]) -> Result<Vec<Row>> {
    let mut rows = rows::all();
    for name in only {
        ensure!(
            rows.iter().any(|row| row.key == name),
            "no row is named `{name}`; `--list` names them"
        );
    }
    rows.retain(|row| only.is_empty() || only.iter().any(|name| name == row.key));
    Ok(rows)
}

fn one(lab: &Lab, row: &Row, seed: u64) -> Result<Outcome> {
    let mut works = match (row.plan)(lab)? {
        Plan::Measure(works) => works,
        Plan::Skipped(why) => return Ok(Outcome::Skipped(why)),
    };
    let samples = rounds::run(
        &mut works,
        lab.scale.rounds(row),
        |round| rounds::seed(seed, row.key, round),
        || lab.settle(),
    )?;
    let values = works.iter().zip(&samples);
    Ok(Outcome::Works(
        values.map(|(work, samples)| Values::new(work, samples)).collect(),
    ))
}
