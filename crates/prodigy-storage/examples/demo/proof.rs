//! Verification in a new process: reads everything back and compares it with the input. Then prints the summary.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prodigy_storage::doctor::DoctorScope;
use prodigy_storage::{EventId, Job, Select, Storage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agents::{MapReport, Progress};
use crate::plan::{Commit, Plan, Step, attempt, commit_text};
use crate::redrive::{RedriveReport, item_id};
use crate::support::{Outcome, check};
use crate::{JOB, REPO, open};

/// The report that the first process passes to the verifying process.
#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) seconds: f64,
    pub(crate) map: MapReport,
    pub(crate) redrive: RedriveReport,
}

/// Reads everything back, then prints the summary.
pub(crate) fn prove(store: &Path, tool: &str, report: &Report) -> Outcome {
    let storage = open(store)?;
    let job = storage.repo(REPO)?.job(JOB)?;
    let setup = job.checkpoints().latest_setup::<Plan>()?;
    let plan = setup.ok_or("there is no setup checkpoint")?.data;
    let total: usize = plan.values().map(Vec::len).sum();

    let stored = events(&job, &plan)?;
    let last = job.checkpoints().latest_map::<Progress>()?;
    let planned: BTreeMap<_, _> = plan
        .iter()
        .map(|(session, tasks)| (session.clone(), tasks.len()))
        .collect();
    check(
        last.is_some_and(|last| last.data.done == planned),
        "the last map checkpoint says that all tasks are done",
    )?;
    let expected = dead_letters(&job, &plan)?;
    // In a database there are no files for the doctor and for other programs.
    let is_file = storage.capabilities().backend == "file";
    let examined = match is_file {
        true => format!(
            "the doctor read {} files",
            doctor(&storage, store, total, expected)?
        ),
        false => format!("{} events were read", stored.values().sum::<usize>()),
    };

    println!(
        "\nSUMMARY (repository `{REPO}`, job `{JOB}`, {:.1} s)\n\n  events by worktree",
        report.seconds
    );
    let map = &report.map;
    for (session, count) in &stored {
        let note = if *session == map.victim {
            "   killed once, resumed"
        } else {
            ""
        };
        println!(
            "    {session:<10} {count:>5} of {:>3}{note}",
            planned.get(session).copied().unwrap_or(0)
        );
    }
    println!("    {:<10} {total:>5} of {total:>3}", "together");
    let again = map.acknowledged.saturating_sub(map.resumed_at);
    println!("\n  checked by reading everything back, value by value");
    println!("    nothing lost     every event that was sent is stored");
    println!(
        "    nothing twice    {again} acknowledged events of {} were sent again after the kill, under their ids: stored once",
        map.victim
    );
    println!("    nothing torn     {examined}: every checksum holds");
    println!(
        "    resume exact     {} map checkpoints; the last one says that all tasks are done",
        map.checkpoints
    );
    println!(
        "\n  dead-letter queue by signature                                     failed  done on redrive  stay"
    );
    for (signature, counts) in &report.redrive {
        let done = counts.failed.saturating_sub(counts.remaining);
        println!(
            "    {signature:<65.65} {:>5} {done:>16} {:>5}",
            counts.failed, counts.remaining
        );
    }
    if !is_file {
        return Ok(());
    }
    println!("\n  files below {}", store.display());
    draw(store, "    ")?;
    look_next(store, tool);
    Ok(())
}

/// Checks that each planned event is stored once, byte for byte, and no other event. Returns the numbers of events by
/// session.
fn events(job: &Job, plan: &Plan) -> Outcome<BTreeMap<String, usize>> {
    let mut expected: BTreeMap<EventId, (&str, usize)> = BTreeMap::new();
    for (session, tasks) in plan {
        expected.extend(tasks.iter().map(|task| (task.id, (session.as_str(), task.line))));
    }
    let mut stored = BTreeMap::new();
    for event in job.events().read::<Step>()? {
        let event = event?;
        let (id, step) = (event.id, event.event);
        // Removes the expected event, so that a second event with the same id is noticed.
        let (session, line) = expected
            .remove(&id)
            .ok_or_else(|| format!("event {id} is stored twice, or nobody sent it"))?;
        check(
            step.worktree == session && step.line == line && step.commit.get() == commit_text(line)?,
            &format!("event {id} is stored as it was sent"),
        )?;
        *stored.entry(step.worktree).or_insert(0) += 1;
    }
    check(
        expected.is_empty(),
        &format!("{} events are not lost", expected.len()),
    )?;
    Ok(stored)
}

/// Checks that the doctor finds all events and no damage, and that the queue's file has the dead letters. Returns the
/// number of files.
fn doctor(storage: &Storage, store: &Path, events: usize, letters: usize) -> Outcome<u64> {
    let examined = storage.doctor()?.examine(&DoctorScope::all(), &mut |_| {})?;
    check(
        examined.damage == 0 && examined.events == events as u64,
        "the doctor finds every event and no damage",
    )?;
    let file = store.join("dlq").join(REPO).join(JOB).join("items.json");
    let items: Vec<Value> = serde_json::from_slice(&std::fs::read(file)?)?;
    check(items.len() == letters, "items.json is their JSON array")?;
    Ok(examined.files)
}

/// Checks that the queue has the items that failed twice, with both failures. Returns their number.
fn dead_letters(job: &Job, plan: &Plan) -> Outcome<usize> {
    let mut expected = BTreeSet::new();
    for task in plan.values().flatten() {
        let commit: Commit = serde_json::from_str(commit_text(task.line)?)?;
        if attempt(&commit, 1).is_some() && attempt(&commit, 2).is_some() {
            expected.insert(item_id(&commit)?.to_string());
        }
    }
    let mut queued = BTreeSet::new();
    for item in job.dlq().list(&Select::any())? {
        let item = item?;
        check(
            item.failure_count == 2,
            &format!("item {} has two failures", item.id),
        )?;
        queued.insert(item.id.to_string());
    }
    check(
        queued == expected,
        "the queue holds the items that failed twice, and no other",
    )?;
    Ok(expected.len())
}

/// Prints a folder as a tree, without the contents of worktrees.
fn draw(folder: &Path, indent: &str) -> Outcome {
    let mut entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.metadata()?;
        if kind.is_dir() {
            println!("{indent}{name}/");
            if !name.starts_with("session-") {
                draw(&entry.path(), &format!("{indent}  "))?;
            }
        } else {
            println!("{indent}{name}  ({} B)", kind.len());
        }
    }
    Ok(())
}

/// Prints commands for a closer look at the store.
fn look_next(store: &Path, tool: &str) {
    let (store, tool) = (quoted(&store.display().to_string()), quoted(tool));
    let address = format!("--base-dir {store} --repo {REPO} --job {JOB}");
    println!("\n  look next (copy a line)");
    println!("    {tool} events cat {address} --payload --filter worktree=agent-2 | head -3");
    println!("    {tool} events stats {address}");
    println!("    {tool} checkpoint list {address}");
    println!("    {tool} dlq list {address}");
    println!("    jq length {store}/dlq/{REPO}/{JOB}/items.json");
    println!("    jq -r .event.outcome {store}/events/{REPO}/{JOB}/*.jsonl | sort | uniq -c");
}

/// A text quoted for a shell.
fn quoted(text: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "/._-+=".contains(char);
    if text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
