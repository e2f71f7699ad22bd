//! Measures this project and what it is held against side by side, in one run.

mod append;
mod checkpoint;
mod dlq;
mod event;
mod raw;
mod row;
mod scan;

use std::io::Write;

use anyhow::Context;

use row::{Row, Scale};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let json = arguments.iter().any(|argument| argument == "--json");
    let wanted: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let scale = if quick { Scale::QUICK } else { Scale::FULL };
    let rows: Vec<Row> = [append::rows(), scan::rows(), checkpoint::rows(), dlq::rows()]
        .into_iter()
        .flatten()
        .filter(|row| wanted.is_empty() || wanted.iter().any(|part| row.name.contains(part.as_str())))
        .collect();
    let mut out = std::io::stdout().lock();
    if !json {
        writeln!(out, "{}\n", row::machine()?)?;
        writeln!(
            out,
            "| work | against | ours µs | theirs µs | ratio (min to max) | bar |"
        )?;
        writeln!(out, "|---|---|---|---|---|---|")?;
    }
    for row in rows {
        let result = row.measure(&scale).with_context(|| row.name.to_owned())?;
        if json {
            writeln!(out, "{}", serde_json::to_string(&result)?)?;
        } else {
            writeln!(out, "{}", result.markdown(&row))?;
        }
        out.flush()?;
    }
    Ok(())
}
