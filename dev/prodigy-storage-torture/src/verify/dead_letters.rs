//! Checks of dead letters: after a redriver was killed, and of the queue's file.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Bench, Seen};
use crate::input::joined;
use crate::tool::{Tool, lines};

const ADDRESS: [&str; 4] = ["--repo", "shop", "--job", "failing"];
/// The longest time until unacknowledged items can be taken again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Dead letters as JSON lines, each with a line of the input as its data.
fn items(bench: &Bench, count: usize) -> Result<Vec<String>> {
    let lines = bench.input.lines().iter().take(count).enumerate();
    lines
        .map(|(number, line)| {
            let data: Value = serde_json::from_str(line)?;
            Ok(json!({"item_id": format!("item-{number}"), "item_data": data}).to_string())
        })
        .collect()
}

fn push(tool: &Tool, items: &[String]) -> Result<()> {
    tool.done(
        ["dlq", "push"].iter().chain(&ADDRESS),
        &joined(items.iter().map(String::as_str)),
    )?;
    Ok(())
}

/// Takes all pending items; returns their ids and tokens.
fn take(tool: &Tool, lease: &str) -> Result<Vec<(String, String)>> {
    let taken = tool.done(
        ["dlq", "take", "--all", "--lease", lease].iter().chain(&ADDRESS),
        b"",
    )?;
    lines(&taken).map(id_and_token).collect()
}

fn id_and_token(line: &[u8]) -> Result<(String, String)> {
    let item: Value = serde_json::from_slice(line).context("no JSON line")?;
    let text = |key: &str| {
        let text = item.get(key).and_then(Value::as_str).map(str::to_owned);
        text.with_context(|| format!("a taken item has no `{key}`: {item}"))
    };
    Ok((text("item_id")?, text("lease_token")?))
}

/// The number of items in the file, as any program can count them.
fn length(tool: &Tool) -> Result<usize> {
    let path = tool.base().join("dlq/shop/failing/items.json");
    let bytes = std::fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
    let items: Vec<Value> = serde_json::from_slice(&bytes).context("items.json is no JSON array")?;
    Ok(items.len())
}

/// A redriver is killed while it holds items: all of them can be taken again when their leases end.
pub(super) fn redriver(bench: &Bench) -> Result<Seen> {
    let tool = bench.tool("redriver")?;
    let items = items(bench, 50)?;
    push(&tool, &items)?;
    let begun = Instant::now();
    let mut command = tool.command(["dlq", "take", "--all", "--lease", "3s"].iter().chain(&ADDRESS));
    let mut redriver = command
        .stdout(Stdio::piped())
        .spawn()
        .context("can't start the tool")?;
    let mut first = String::new();
    BufReader::new(redriver.stdout.take().context("no output")?).read_line(&mut first)?;
    redriver.kill()?;
    redriver.wait()?;
    id_and_token(first.as_bytes())?;
    // Leases are stored before any output, so no item can be taken until they end.
    let early = take(&tool, "1s")?.len();
    ensure!(
        early == 0 || begun.elapsed() >= Duration::from_secs(3),
        "{early} items were given to two"
    );
    ensure!(
        length(&tool)? == items.len(),
        "a taken item is not stored any more"
    );

    let begun = Instant::now();
    let mut back = BTreeSet::new();
    while back.len() < items.len() {
        if begun.elapsed() > PATIENCE {
            bail!(
                "{} of {} items came back within {PATIENCE:?}",
                back.len(),
                items.len()
            );
        }
        for (id, token) in take(&tool, "1m")? {
            tool.done(["dlq", "ack", &token].iter().chain(&ADDRESS), b"")?;
            ensure!(
                back.insert(id.clone()),
                "{id} was given again after its acknowledgement"
            );
        }
        thread::sleep(Duration::from_millis(50));
    }
    ensure!(length(&tool)? == 0, "acknowledged items are still there");
    Ok(Seen::Holds(format!(
        "{} items taken by one that died, to nobody else before its lease ended, then all",
        items.len()
    )))
}

/// The file is a JSON array of the right length after every kind of write.
pub(super) fn file(bench: &Bench) -> Result<Seen> {
    let tool = bench.tool("dlq-file")?;
    let items = items(bench, 100)?;
    let (one, rest) = items.split_at(1);
    push(&tool, one)?;
    ensure!(length(&tool)? == 1, "after one push");
    push(&tool, rest)?;
    ensure!(length(&tool)? == items.len(), "after a push of {}", rest.len());
    push(&tool, one)?;
    ensure!(
        length(&tool)? == items.len(),
        "a known item was pushed, it is one item still"
    );
    let taken = take(&tool, "10m")?;
    ensure!(
        taken.len() == items.len() && length(&tool)? == items.len(),
        "after take"
    );
    ensure!(take(&tool, "10m")?.is_empty(), "taken items were given again");
    let tokens: Vec<&str> = taken.iter().map(|(_, token)| token.as_str()).collect();
    let (acknowledged, given_back) = tokens.split_at(60);
    tool.done(["dlq", "ack"].iter().chain(acknowledged).chain(&ADDRESS), b"")?;
    ensure!(length(&tool)? == 40, "after ack");
    tool.done(["dlq", "release"].iter().chain(given_back).chain(&ADDRESS), b"")?;
    ensure!(length(&tool)? == 40, "after release");
    let again = take(&tool, "10m")?;
    ensure!(
        again.len() == 40,
        "{} of 40 could be taken after release",
        again.len()
    );
    tool.done(["dlq", "remove", "item-99"].iter().chain(&ADDRESS), b"")?;
    ensure!(length(&tool)? == 39, "after remove");
    tool.run(["dlq", "show", "item-99"].iter().chain(&ADDRESS), b"")?
        .expect_code(4)?;
    Ok(Seen::Holds(
        "items.json is a JSON array of the right length after push, merge, take, ack, release, remove"
            .to_owned(),
    ))
}
