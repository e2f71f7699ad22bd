//! The summary: what a person has to see.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::failing::Redrive;
use super::mapping::Course;
use super::plan::Plan;
use super::proof::Proof;
use super::{JOB, REPO};
use crate::tool::Tool;
use crate::tree;

/// Prints it.
pub(super) fn print(
    tool: &Tool,
    plan: &Plan,
    course: &Course,
    redrive: &Redrive,
    proof: &Proof,
    took: Duration,
) -> Result<()> {
    println!(
        "\nSUMMARY (repository `{}`, job `{JOB}`, {:.1} s)\n",
        proof.repo,
        took.as_secs_f64()
    );
    println!("  events by worktree");
    for agent in &plan.agents {
        let count = proof.by_worktree.get(&agent.session).copied().unwrap_or_default();
        let note = if agent.session == course.victim {
            "   killed once, resumed"
        } else {
            ""
        };
        println!(
            "    {:<10} {count:>5} of {:>3}{note}",
            agent.session,
            agent.tasks.len()
        );
    }
    println!(
        "    {:<10} {:>5} of {:>3}   in {} segments",
        "together",
        plan.events(),
        plan.events(),
        proof.segments
    );
    println!("\n  checked by reading all back, value by value");
    println!("    nothing lost     every event that was sent is stored");
    let again = course.before_death.saturating_sub(course.resumed_at);
    println!(
        "    nothing twice    {again} events of {} were sent again after the kill, under their ids: stored once",
        course.victim
    );
    println!(
        "    nothing torn     each line's checksum is right; {} torn tails in quarantine/",
        proof.quarantined
    );
    println!(
        "    resume exact     {} map checkpoints; the last one says that all is done",
        course.checkpoints
    );
    println!(
        "\n  dead-letter queue by signature                                     failed  passed on redrive  stay"
    );
    for (signature, (failed, stay)) in &redrive.signatures {
        println!(
            "    {:<65.65} {failed:>5} {:>18} {stay:>5}",
            signature,
            failed - stay
        );
    }
    let whole = tool.base();
    println!("\n  files below {}", whole.display());
    for line in tree::draw_but(whole, &|path| is_worktree(path, whole))?.lines() {
        println!("    {line}");
    }
    look_next(tool, proof);
    Ok(())
}

/// What is in a worktree is git's, not ours.
fn is_worktree(path: &Path, base: &Path) -> bool {
    path.parent()
        .and_then(Path::parent)
        .is_some_and(|above| above == base.join("worktrees"))
}

/// Commands to copy.
fn look_next(tool: &Tool, proof: &Proof) {
    let binary = quoted(tool.binary());
    let base = quoted(tool.base());
    let repo = &proof.repo;
    let address = format!("--base-dir {base} --repo {repo} --job {JOB}");
    println!("\n  look next (copy a line)");
    println!("    {binary} events cat {address} --payload --filter worktree=agent-2 | head -3");
    println!("    {binary} events stats {address}");
    println!("    {binary} checkpoint list {address}");
    println!("    {binary} dlq list {address}");
    println!("    jq length {base}/dlq/{REPO}/{JOB}/items.json");
    println!("    jq -r .event.outcome {base}/events/{REPO}/{JOB}/*.jsonl | sort | uniq -c");
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text
        .chars()
        .all(|char| char.is_ascii_alphanumeric() || "/._-+=".contains(char));
    if plain {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
