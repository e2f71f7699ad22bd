//! The command `checkpoint`.

mod diff;
mod list;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Subcommand;
use prodigy_storage::{
    Checkpoint, CheckpointEntry, CheckpointKey, Checkpoints, Cursor, ErrorKind, Expected, Fence, LockName,
    Phase, PruneOptions, RemovalKind, Revision, SaveOptions, StorageError, escape,
};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::app::{Access, App};
use crate::audit::Audited;
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::input::InputArgs;
use crate::job::{JobArgs, Opened};
use crate::near::Near;
use crate::output::{at_least_one, bytes};
use crate::shell::flags_of;
use crate::table::{Column, Table};
use crate::time::{Times, duration, passed};

/// The largest number of checkpoints whose names are compared with an unknown one.
const KEYS: usize = 1000;

#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// Save a checkpoint: any JSON value.
    Save(SaveArgs),
    /// Print the latest valid checkpoint.
    Show(ShowArgs),
    /// List the checkpoints, oldest first within a phase: age, size, and whether the checksum is valid. The exit code
    /// is 5 if a checksum is not valid.
    List(ListArgs),
    /// The same as `list`.
    Verify(ListArgs),
    /// Print the differences between two checkpoints of a job, by path.
    Diff(diff::DiffArgs),
    /// Delete one checkpoint, even the newest.
    Delete(DeleteArgs),
    /// Remove old checkpoints, never the newest valid one of a phase.
    Prune(PruneArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct SaveArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The phase of the job: setup, map, reduce, or a name of your own.
    #[arg(long, value_name = "setup|map|reduce|NAME")]
    phase: Phase,
    /// Save only if the latest valid checkpoint of the phase has this revision; `absent`: only if the phase has no
    /// checkpoint.
    #[arg(long, value_name = "R", value_parser = expected)]
    expected_revision: Option<Expected>,
    /// The position in the log of the last event that is part of this state.
    #[arg(long, value_name = "C")]
    cursor: Option<String>,
    /// A name of your own, to find the checkpoint by.
    #[arg(long, value_name = "KEY")]
    key: Option<CheckpointKey>,
    /// The fencing token of the writer's lock: NUMBER, NAME=NUMBER with the lock's name, or NAME=NUMBER@ORIGIN. The
    /// save is refused if the job was written to under a newer token of that lock. A token with its origin, as `lock
    /// run` sets it (`"$PRODIGY_LOCK_NAME=$PRODIGY_LOCK_FENCING"`), needs the lock's name, and is also refused if
    /// another store issued it. A token without origin is valid in every store. The default is the token in
    /// `PRODIGY_STORAGE_FENCE`, which `lock run` sets for its command.
    #[arg(long, value_name = "TOKEN")]
    fencing: Option<Fence>,
    #[command(flatten)]
    input: InputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Only this phase; by default, the checkpoint that was saved last in any phase. For a checkpoint of another
    /// program, the time that it states counts.
    #[arg(long, value_name = "PHASE")]
    phase: Option<Phase>,
    /// The last checkpoint that was saved under this name.
    #[arg(long, value_name = "KEY", conflicts_with = "phase")]
    key: Option<CheckpointKey>,
    /// Print only the state, byte for byte as it is stored.
    #[arg(long)]
    payload: bool,
    /// End with 5 if a damaged checkpoint was skipped.
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Only this phase.
    #[arg(long, value_name = "PHASE")]
    phase: Option<Phase>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The checkpoint's file name, as `checkpoint list` prints it.
    #[arg(value_name = "DOCUMENT")]
    document: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The number of checkpoints to keep of each phase.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    keep: NonZeroUsize,
    /// Only this phase.
    #[arg(long, value_name = "PHASE")]
    phase: Option<Phase>,
    /// Only remove checkpoints that were stored longer ago than this.
    #[arg(long, value_name = "D", value_parser = duration)]
    older_than: Option<Duration>,
    /// Remove nothing, and list the checkpoints that would be removed.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(app: &mut App<'_>, command: CheckpointCommand) -> Result<Exit> {
    match command {
        CheckpointCommand::Save(arguments) => save(app, &arguments),
        CheckpointCommand::Show(arguments) => show(app, &arguments),
        CheckpointCommand::List(arguments) | CheckpointCommand::Verify(arguments) => {
            list::run(app, &arguments)
        }
        CheckpointCommand::Diff(arguments) => diff::run(app, &arguments),
        CheckpointCommand::Delete(arguments) => delete(app, &arguments),
        CheckpointCommand::Prune(arguments) => prune(app, &arguments),
    }
}

fn save(app: &mut App<'_>, arguments: &SaveArgs) -> Result<Exit> {
    let cursor = arguments.cursor.as_ref().map(Cursor::new).transpose();
    let cursor = cursor.map_err(|error| Failure::usage(format!("{error:#}")))?;
    let mut opened = arguments.job.open(app, Access::Write)?;
    let state = arguments
        .input
        .document(app, opened.storage.config().file.max_document_size)?;
    opened.register(app)?;
    let options = SaveOptions::new()
        .cursor(cursor)
        .key(arguments.key.clone())
        .expected_revision(arguments.expected_revision.unwrap_or_default());
    let job = match &arguments.fencing {
        Some(fence) => opened.job.with_fence(fence.clone()),
        None => opened.job,
    };
    let added = job.checkpoints().save(arguments.phase, &state, options)?;
    let document = added.id.to_string();
    if app.json() {
        app.json_line(&json!({
            "phase": arguments.phase,
            "document": document,
            "revision": added.revision,
        }))?;
    } else {
        app.line(format!("saved {document}, revision {}", added.revision))?;
    }
    Ok(Exit::Done)
}

/// The output of `show`; the state comes last.
#[derive(Serialize)]
struct Shown<'a> {
    phase: Phase,
    document: String,
    revision: Revision,
    saved_at: String,
    verified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a Cursor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fencing: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fencing_lock: Option<&'a str>,
    data: &'a RawValue,
}

fn show(app: &mut App<'_>, arguments: &ShowArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Read)?;
    let checkpoints = opened.job.checkpoints();
    let phases = match (arguments.phase, &arguments.key) {
        (Some(phase), _) => vec![phase],
        (None, Some(_)) => Vec::new(),
        (None, None) => checkpoints.phases()?,
    };
    let NewestCheckpoint {
        newest,
        skipped,
        all_damaged,
    } = match &arguments.key {
        Some(key) => find_keyed(app, &checkpoints, key)?,
        None => find(app, &checkpoints, &phases)?,
    };
    let Some(found) = newest else {
        if let Some(error) = all_damaged {
            return Err(error.into());
        }
        if let Some(phase) = arguments.phase {
            return Err(no_phase(&opened, phase)?);
        }
        opened.must_be_known()?;
        let job = &opened.job.address().job;
        let what = match &arguments.key {
            Some(key) => format!("no checkpoint of job `{job}` was saved under the name `{key}`"),
            None => format!("no checkpoint of job `{job}`"),
        };
        let failure = Failure::new(Exit::Missing, what);
        return Err(match checkpoints.list().next() {
            None => failure,
            Some(_) => {
                let list = format!("`{}` lists the checkpoints of phases", list_command(&opened));
                match &arguments.key {
                    Some(key) => failure.hint(near_keys(&checkpoints, key).hint("names", &list)),
                    None => failure.hint(list),
                }
            }
        });
    };
    if let Some(error) = all_damaged {
        app.warn(&format!("no checkpoint of another phase is valid: {error:#}"));
    }
    if arguments.payload {
        app.line(found.data.get())?;
    } else {
        app.json_line(&Shown {
            phase: found.phase,
            document: found.id.to_string(),
            revision: found.revision,
            saved_at: found.saved_at.to_rfc3339(),
            verified: found.verified,
            schema_version: found.schema_version,
            cursor: found.cursor.as_ref(),
            fencing: found.fencing.as_ref().map(Fence::token),
            fencing_lock: found.fencing.as_ref().and_then(Fence::lock).map(LockName::as_str),
            data: &found.data,
        })?;
    }
    Ok(if arguments.strict && skipped {
        Exit::Damaged
    } else {
        Exit::Done
    })
}

/// The newest valid checkpoint of one phase or of all phases, and the damage that was skipped.
struct NewestCheckpoint {
    newest: Option<Checkpoint<Box<RawValue>>>,
    skipped: bool,
    all_damaged: Option<StorageError>,
}

/// The names of the first [`KEYS`] checkpoints that have one, compared with an unknown name.
fn near_keys<'k>(checkpoints: &Checkpoints, key: &'k CheckpointKey) -> Near<'k> {
    let mut near = Near::to(key.as_str());
    let mut seen = BTreeSet::new();
    for entry in checkpoints.list().flatten().take(KEYS) {
        // A checkpoint that can't be read has no name to propose.
        let found = checkpoints.get::<Box<RawValue>>(&entry.id).ok().flatten();
        if let Some(known) = found.and_then(|found| found.key)
            && seen.insert(known.as_str().to_owned())
        {
            near.offer(known.as_str());
        }
    }
    near
}

/// Finds the last valid checkpoint that was saved under a key.
fn find_keyed(app: &mut App<'_>, checkpoints: &Checkpoints, key: &CheckpointKey) -> Result<NewestCheckpoint> {
    let newest = checkpoints.find::<Box<RawValue>>(key.as_str())?;
    let skipped = newest.iter().flat_map(|found| &found.skipped);
    for skipped in skipped.clone() {
        app.warn(&escape(&format!("{} is skipped: {}", skipped.id, skipped.error)));
    }
    let skipped = skipped.count() > 0;
    Ok(NewestCheckpoint {
        newest,
        skipped,
        all_damaged: None,
    })
}

fn find(app: &mut App<'_>, checkpoints: &Checkpoints, phases: &[Phase]) -> Result<NewestCheckpoint> {
    let mut found = NewestCheckpoint {
        newest: None,
        skipped: false,
        all_damaged: None,
    };
    for &phase in phases {
        let latest = match checkpoints.latest_raw(phase) {
            Ok(Some(latest)) => latest,
            Ok(None) => continue,
            Err(error) if error.kind() == ErrorKind::Damaged => {
                found.skipped = true;
                found.all_damaged = Some(error);
                continue;
            }
            // Skipped data is reported at the end.
            Err(error) if error.kind() == ErrorKind::Foreign => continue,
            Err(error) => return Err(error.into()),
        };
        let foreign = |error: &StorageError| error.kind() == ErrorKind::Foreign;
        // The skipped file may hold a newer state. The number of such files is reported at the end.
        if let Some(skipped) = latest.skipped.iter().find(|skipped| foreign(&skipped.error)) {
            app.warn(&escape(&format!(
                "{} is skipped, and one before it is used: {}",
                skipped.id, skipped.error
            )));
        }
        let damaged = latest.skipped.iter();
        for skipped in damaged.filter(|skipped| !foreign(&skipped.error)) {
            found.skipped = true;
            app.warn(&escape(&format!(
                "{} is skipped, and the one before it is used: {}",
                skipped.id, skipped.error
            )));
        }
        if found
            .newest
            .as_ref()
            .is_none_or(|newest| newest.order() <= latest.order())
        {
            found.newest = Some(latest);
        }
    }
    Ok(found)
}

fn delete(app: &mut App<'_>, arguments: &DeleteArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Write)?;
    let checkpoints = opened.job.checkpoints();
    let entry = named(&opened, &checkpoints, &arguments.document)?;
    let (is_deleted, exit) = audited(&opened, "checkpoint delete", std::slice::from_ref(&entry))
        .make_one(app, || checkpoints.delete(&entry.id))?;
    if !is_deleted {
        return Err(missing(&opened, &arguments.document));
    }
    if app.json() {
        app.json_line(&json!({"document": arguments.document}))?;
    } else {
        app.line(format!("deleted {}", arguments.document))?;
    }
    Ok(exit)
}

/// The audit-log entry for checkpoints that a command removes.
fn audited<'o>(opened: &'o Opened, command: &str, entries: &[CheckpointEntry]) -> Audited<'o> {
    let bytes = entries.iter().map(|entry| entry.bytes).sum();
    Audited::new(
        &opened.storage,
        RemovalKind::Checkpoints,
        opened.job.address(),
        command,
    )
    .size(entries.len(), bytes)
}

/// The checkpoint with this file name. If it does not exist, the error lists existing names.
fn named(opened: &Opened, checkpoints: &Checkpoints, name: &str) -> Result<CheckpointEntry> {
    let mut near = Near::to(name);
    for entry in checkpoints.list() {
        let entry = entry?;
        let found = entry.id.to_string();
        if found == name {
            return Ok(entry);
        }
        near.offer(&found);
    }
    opened.must_be_known()?;
    let list = format!("`{}` lists them", list_command(opened));
    Err(missing(opened, name).hint(near.hint("checkpoints", &list)))
}

/// The failure for a phase without a checkpoint. It lists the phases that have one, or says that the job does not exist.
fn no_phase(opened: &Opened, phase: Phase) -> Result<Failure> {
    opened.must_be_known()?;
    let phase = phase.to_string();
    let mut near = Near::to(&phase);
    for found in opened.job.checkpoints().phases()? {
        near.offer(&found.to_string());
    }
    let what = format!("no {phase} checkpoint of job `{}`", opened.job.address().job);
    let list = format!("`{}` lists the checkpoints of all", list_command(opened));
    let hint = near.hint("phases with checkpoints", &list);
    Ok(Failure::new(Exit::Missing, what).hint(hint))
}

/// The command that lists the checkpoints of the job.
fn list_command(opened: &Opened) -> String {
    format!(
        "prodigy-storage checkpoint list {}",
        flags_of(opened.job.address())
    )
}

fn missing(opened: &Opened, name: &str) -> Failure {
    let what = format!("no checkpoint `{name}` of job `{}`", opened.job.address().job);
    Failure::new(Exit::Missing, what)
}

fn prune(app: &mut App<'_>, arguments: &PruneArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Write)?;
    let checkpoints = opened.job.checkpoints();
    // The plan lacks the newest valid checkpoint of each phase and the other checkpoints to keep.
    let options = PruneOptions::new().phase(arguments.phase);
    let mut removed = checkpoints.prune(arguments.keep.get(), options.dry_run(true))?;
    if let Some(oldest) = arguments.older_than {
        removed.retain(|entry| passed(entry.modified) > oldest);
    }
    let mut exit = Exit::Done;
    if !arguments.dry_run && !removed.is_empty() {
        let removal = audited(&opened, "checkpoint prune", &removed);
        (_, exit) = removal.make(app, |_| {
            let mut count = 0;
            let made = removed.iter().try_for_each(|entry| {
                count += u64::from(checkpoints.delete(&entry.id)?);
                Ok(())
            });
            (count, made)
        })?;
    }
    if removed.is_empty() {
        match arguments.phase {
            Some(phase) if checkpoints.list_phase(phase).next().is_none() => {
                return Err(no_phase(&opened, phase)?);
            }
            _ => opened.must_be_known()?,
        }
    }
    print(app, &removed)?;
    if !app.json() {
        let did = if arguments.dry_run {
            "would be removed"
        } else {
            "removed"
        };
        app.note(&format!(
            "{} {did}",
            crate::output::counted(removed.len(), "checkpoint")
        ));
    }
    Ok(exit)
}

fn as_json(entry: &CheckpointEntry) -> Map<String, Value> {
    let fields = [
        ("phase", json!(entry.id.phase())),
        ("document", entry.id.to_string().into()),
        ("modified", entry.modified.to_rfc3339().into()),
        ("bytes", entry.bytes.into()),
    ];
    fields
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

fn print(app: &mut App<'_>, entries: &[CheckpointEntry]) -> Result<()> {
    let times = Times::new(app.width.is_some());
    let mut table = Table::new([
        Column::name("PHASE").optional(1),
        Column::word(times.heading("STORED")),
        Column::number("SIZE"),
        Column::name("DOCUMENT"),
    ]);
    for entry in entries {
        if app.json() {
            app.json_line(&as_json(entry))?;
        } else {
            let stored = times.cell(entry.modified);
            let (phase, document) = (entry.id.phase().to_string(), entry.id.to_string());
            table.row(app, [phase, stored, bytes(entry.bytes), document])?;
        }
    }
    table.print(app)
}

pub(crate) fn expected(text: &str) -> Result<Expected, String> {
    if text == "absent" {
        return Ok(Expected::Absent);
    }
    text.parse()
        .map(Expected::Revision)
        .map_err(|error| format!("{error}, or `absent`"))
}
