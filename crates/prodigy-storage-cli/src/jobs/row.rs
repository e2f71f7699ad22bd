//! A job as a row of a listing.

use prodigy_storage::{DocumentCount, JobOverview, JobState, LogSummary, QueueSummary, Repo};
use serde_json::{Value, json};

use crate::app::App;
use crate::errors::Result;
use crate::shell::{flags_of, tool};

/// The fields of a job that listings print.
pub(crate) fn row_json(row: &JobOverview) -> Value {
    json!({
        "repo": row.address.repo,
        "job": row.address.job,
        "state": row.status.state,
        "last_activity": row.status.last_activity,
        "finished_at": row.status.finished_at,
        "dead_letters": letters_json(&row.letters),
        "log": log_json(&row.log),
        "checkpoints": documents_json(row.checkpoints),
        "documents": documents_json(row.documents),
        "bytes": row.bytes(),
    })
}

/// Adds the number of events to the JSON of a job; `events` says whether they were counted or estimated, or neither.
pub(crate) fn count_in(json: &mut Value, events: Option<(u64, bool)>) {
    if let Value::Object(json) = json {
        json.insert("events".to_owned(), json!(events.map(|(count, _)| count)));
        let is_estimate = events.is_some_and(|(_, counted)| !counted);
        json.insert("events_estimated".to_owned(), json!(is_estimate));
    }
}

fn documents_json(documents: DocumentCount) -> Value {
    json!({"count": documents.count, "bytes": documents.bytes, "damaged": documents.damaged})
}

/// The word for a state, as in `--json`.
pub(crate) fn state_word(state: JobState) -> &'static str {
    match state {
        JobState::Active => "active",
        JobState::Open => "open",
        JobState::Finished => "finished",
        _ => "unknown",
    }
}

pub(super) fn letters_json(letters: &QueueSummary) -> Value {
    json!({
        "items": letters.items,
        "pending": letters.pending,
        "leased": letters.leased,
        "delayed": letters.delayed,
        "parked": letters.parked,
        "unreadable": letters.unreadable,
        "damaged": letters.damaged,
        "bytes": letters.bytes,
    })
}

pub(super) fn log_json(log: &LogSummary) -> Value {
    json!({
        "segments": log.segments,
        "sealed": log.sealed,
        "compressed": log.compressed,
        "bytes": log.bytes,
    })
}

/// Reports damaged data, which the counts of a job do not include.
pub(super) fn print_damage(app: &mut App<'_>, row: &JobOverview) {
    if let Some(error) = &row.damage {
        app.damaged_by(error);
    }
    let found = [
        (
            row.letters.damaged,
            "damaged place in the dead letters",
            "damaged places in the dead letters",
        ),
        (
            row.checkpoints.damaged,
            "checkpoint is an empty file",
            "checkpoints are empty files",
        ),
        (
            row.documents.damaged,
            "document is an empty file",
            "documents are empty files",
        ),
    ];
    for (count, one, many) in found.into_iter().filter(|(count, ..)| *count > 0) {
        let what = if count == 1 { one } else { many };
        let doctor = format!("`{} doctor {}`", tool(&app.global), flags_of(&row.address));
        app.damaged(&format!(
            "{}: {count} {what}: not counted; {doctor} names each",
            row.address
        ));
    }
}

/// Calls a function with each job of a repository, in the order of their ids. A job with damaged data, or data that
/// can't be opened, is reported, and the others follow. Jobs that can't be listed are reported, too. Memory is bounded.
pub(crate) fn each_row(
    app: &mut App<'_>,
    repo: &Repo,
    mut row: impl FnMut(&mut App<'_>, JobOverview) -> Result<()>,
) -> Result<()> {
    for found in repo.survey() {
        match found.flatten() {
            Ok(found) => {
                print_damage(app, &found);
                row(app, found)?;
            }
            Err(error) => app.pass_over(error)?,
        }
    }
    Ok(())
}
