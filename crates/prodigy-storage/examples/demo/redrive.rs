//! Dead letters of failed work items, which are tried again under a lease.

use std::collections::BTreeMap;

use prodigy_storage::{DeadLetter, ItemId, Job, Outcome as Settled, RedriveOptions, Select};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::plan::{Commit, Step, attempt};
use crate::support::{Outcome, check};

/// For each error signature, the number of items before and after the redrive.
pub(crate) type RedriveReport = BTreeMap<String, Counts>;

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) failed: u64,
    pub(crate) remaining: u64,
}

/// Pushes the failed items and tries each again. An item that succeeds is removed; others stay with both failures.
pub(crate) fn run(job: &Job) -> Outcome<RedriveReport> {
    let mut letters = Vec::new();
    for event in job.events().read::<Step>()? {
        let step = event?.event;
        let commit: Commit = serde_json::from_str(step.commit.get())?;
        if let Some(failure) = attempt(&commit, 1) {
            let letter: DeadLetter<Box<RawValue>> = DeadLetter::new(item_id(&commit)?, step.commit);
            letters.push(letter.failure(failure.agent(step.worktree)));
        }
    }
    let pushed = letters.len();
    job.dlq().push_batch(letters)?;
    let mut report = RedriveReport::new();
    for (signature, items) in by_signature(job)? {
        report.entry(signature).or_default().failed = items;
    }
    let done = job
        .dlq()
        .redrive(Select::eligible(), &RedriveOptions::new(), |item| {
            match item.data::<Commit>() {
                Ok(commit) => match attempt(&commit, 2) {
                    Some(failure) => Settled::failed(failure.agent("redrive")),
                    None => Settled::Done,
                },
                Err(error) => Settled::park(error.to_string()),
            }
        })?;
    println!(
        "     {pushed} items failed; redriven under a lease: {} are done and gone, {} failed again and stay",
        done.done, done.failed
    );
    check(
        done.done + done.failed == pushed,
        "each item was tried again once",
    )?;
    for (signature, items) in by_signature(job)? {
        report.entry(signature).or_default().remaining = items;
    }
    // Removes settled items from `items.json` now instead of at close, so that the file shows the remaining ones.
    job.dlq().compact()?;
    Ok(report)
}

/// The key of a commit in the queue.
pub(crate) fn item_id(commit: &Commit) -> Outcome<ItemId> {
    Ok(ItemId::new(
        commit.hash.get(..12).ok_or("a commit's hash is too short")?,
    )?)
}

fn by_signature(job: &Job) -> Outcome<Vec<(String, u64)>> {
    let mut found = job.dlq().by_signature(&Select::any())?;
    if let Some(error) = found.left_out.pop() {
        return Err(error.into());
    }
    Ok(found
        .groups
        .into_iter()
        .map(|count| (count.signature.unwrap_or_default(), count.items))
        .collect())
}
