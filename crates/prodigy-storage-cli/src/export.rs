//! `export` writes a job as JSON lines, for `import` into any store and for other programs.

use std::io::Write;
use std::path::PathBuf;

use prodigy_storage::backend::record::{checksum, checksum_on, hex8};
use prodigy_storage::{
    Checkpoint, CheckpointId, CheckpointKey, Cursor, DocumentKind, DocumentName, ErrorKind, EventId, Job,
    JobId, JobState, OrphanedWorktree, Phase, ReadOptions, RepoName, ScanItem, Select, StorageError,
    Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::JobArgs;
use crate::json::on_one_line;
use crate::new_file;
use crate::output::counted;

/// The version of the format.
pub(crate) const VERSION: u64 = 1;

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The file to create; standard output if it is `-` or missing.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

impl ExportArgs {
    /// True if the lines go to standard output.
    pub(crate) fn prints(&self) -> bool {
        self.created().is_none()
    }

    /// The file to create; `None` for standard output.
    fn created(&self) -> Option<&PathBuf> {
        self.file.as_ref().filter(|file| !new_file::is_standard(file))
    }
}

/// The bytes between the text of a line and its checksum.
const CRC: &[u8] = b",\"crc\":\"";

/// Splits a line into its text and the eight digits of its checksum. `None` for a line without a checksum.
pub(crate) fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.trim_ascii_end().strip_suffix(b"\"}")?;
    let (rest, digits) = line.split_at_checked(line.len().checked_sub(8)?)?;
    Some((rest.strip_suffix(CRC)?, digits))
}

/// A line of an export.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'l> {
    Job {
        version: u64,
        repo: &'l RepoName,
        job: &'l JobId,
        made: Timestamp,
    },
    Checkpoint {
        phase: Phase,
        saved_at: Timestamp,
        key: Option<&'l CheckpointKey>,
        schema_version: Option<u32>,
        position: Option<Position>,
        data: &'l RawValue,
    },
    Document {
        of: &'l DocumentKind,
        name: &'l DocumentName,
        data: &'l RawValue,
    },
    Orphan {
        orphan: &'l OrphanedWorktree,
    },
    DeadLetter {
        item: &'l RawValue,
    },
    Event {
        record: &'l RawValue,
    },
    Finished {
        at: Timestamp,
    },
    /// The number of lines before it, and the checksum of the text of all of them but the first, which has the time of the export.
    End {
        lines: u64,
        sum: String,
    },
}

/// The position of a checkpoint in the log: directly before or after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Position {
    /// Before this event.
    Before(EventId),
    /// After this event.
    After(EventId),
}

pub(crate) fn run(app: &mut App<'_>, arguments: &ExportArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Read)?;
    opened.must_be_known()?;
    let mut damaged = Vec::new();
    let lines = match arguments.created() {
        None => {
            let lines = write(&opened.job, &mut app.out, &mut damaged)?;
            app.flush()?;
            lines
        }
        Some(file) => new_file::write(file, |out| write(&opened.job, out, &mut damaged))?,
    };
    report(app, &damaged);
    if let Some(file) = arguments.created() {
        let file = file.display().to_string();
        if app.json() {
            let damaged = damaged.len();
            app.json_line(&json!({"kind": "written", "file": file, "lines": lines, "damaged": damaged}))?;
        } else {
            app.line(format!("written to {file}: {}", counted(lines, "line")))?;
        }
    }
    Ok(Exit::Done)
}

/// Reports what an export left out: damage, and positions of checkpoints.
pub(crate) fn report(app: &mut App<'_>, left_out: &[StorageError]) {
    for error in left_out {
        match error.kind() {
            ErrorKind::CursorGap | ErrorKind::InvalidInput => {
                app.skipped(&format!("{}: {}", error.target(), error.why()));
            }
            _ => app.damaged_by(error),
        }
    }
}

/// Writes a job, and returns the number of lines.
pub(crate) fn write(job: &Job, out: &mut dyn Write, damaged: &mut Vec<StorageError>) -> Result<u64> {
    Export::new(out, damaged).job(job)
}

/// The state of an export.
struct Export<'o> {
    out: &'o mut dyn Write,
    lines: u64,
    /// The checksum of the text of all lines but the first.
    sum: u32,
    damaged: &'o mut Vec<StorageError>,
}

impl<'o> Export<'o> {
    fn new(out: &'o mut dyn Write, damaged: &'o mut Vec<StorageError>) -> Self {
        Self {
            out,
            lines: 0,
            sum: 0,
            damaged,
        }
    }

    fn line(&mut self, line: &Line<'_>) -> Result<()> {
        self.lines += 1;
        let mut text = serde_json::to_vec(line).map_err(|error| Failure::output(error.into()))?;
        on_one_line(&mut text);
        text.pop();
        let crc = checksum(&text);
        if self.lines > 1 {
            self.sum = checksum_on(self.sum, &text);
        }
        text.extend_from_slice(CRC);
        text.extend_from_slice(&hex8(crc));
        text.extend_from_slice(b"\"}\n");
        self.out.write_all(&text).map_err(Failure::output)
    }

    /// The ids of all checkpoints, of all phases, in the order in which they were saved. An import saves them in this
    /// order.
    fn checkpoints(&mut self, job: &Job) -> Result<Vec<CheckpointId>> {
        let mut ids = Vec::new();
        for entry in job.checkpoints().list() {
            let id = entry?.id;
            let order = match id.time() {
                Some(time) if id.phase() != Phase::Setup => Some(time),
                // The name of a setup checkpoint has no time, so the checkpoint itself is read.
                _ => self.checkpoint(job, &id)?.map(|found| found.order()),
            };
            ids.extend(order.map(|order| (order, id)));
        }
        ids.sort_by_key(|(order, _)| *order);
        Ok(ids.into_iter().map(|(_, id)| id).collect())
    }

    /// Reads a checkpoint. `None` if it is gone or damaged; damage is reported at the end.
    fn checkpoint(&mut self, job: &Job, id: &CheckpointId) -> Result<Option<Checkpoint<Box<RawValue>>>> {
        match job.checkpoints().get(id) {
            Ok(found) => Ok(found),
            Err(error) => {
                self.damaged.push(error);
                Ok(None)
            }
        }
    }

    /// The position of a checkpoint. `None` if the events before it were removed; this is reported at the end.
    fn position(&mut self, job: &Job, id: &CheckpointId, cursor: Option<Cursor>) -> Result<Option<Position>> {
        match cursor.map(|cursor| position(job, cursor)).transpose() {
            Err(error) if matches!(error.kind(), ErrorKind::CursorGap | ErrorKind::InvalidInput) => {
                let why = "events behind its position were removed, so it is exported without a position: a resume from it \
                           begins with the oldest event";
                let target = format!("checkpoint {id}");
                self.damaged
                    .push(StorageError::new(error.kind(), "export", target, why));
                Ok(None)
            }
            found => Ok(found?.flatten()),
        }
    }

    /// Writes all lines of a job. Checkpoints are read before events, so no checkpoint has a position after the last
    /// event.
    fn job(mut self, job: &Job) -> Result<u64> {
        let address = job.address();
        self.line(&Line::Job {
            version: VERSION,
            repo: &address.repo,
            job: &address.job,
            made: Timestamp::now(),
        })?;
        let mut newest = None;
        for id in self.checkpoints(job)? {
            let Some(found) = self.checkpoint(job, &id)? else {
                continue;
            };
            let position = self.position(job, &id, found.cursor.clone())?;
            newest = match (found.cursor, position) {
                (Some(cursor), Some(Position::Before(first))) => Some(Behind {
                    id,
                    cursor,
                    first,
                    events: 0,
                }),
                _ => None,
            };
            self.line(&Line::Checkpoint {
                phase: found.phase,
                saved_at: found.saved_at,
                key: found.key.as_ref(),
                schema_version: found.schema_version,
                position,
                data: &found.data,
            })?;
        }
        for info in job.all_documents() {
            let info = info?;
            if let Some(found) = job.documents(info.kind.as_str())?.get_raw(info.name.as_str())? {
                self.line(&Line::Document {
                    of: &info.kind,
                    name: &info.name,
                    data: &found.data,
                })?;
            }
        }
        for orphan in &job.orphans().list()? {
            self.line(&Line::Orphan { orphan })?;
        }
        for item in job.dlq().scan(&Select::any())? {
            match item {
                Ok(item) => self.line(&Line::DeadLetter { item: &item.body })?,
                Err(error) => self.damaged.push(error),
            }
        }
        let mut last = None;
        let mut events = job.events().read_lines(ReadOptions::new())?;
        while let Some(item) = events.next()? {
            match item {
                ScanItem::Record(record) => {
                    let id = record.id;
                    let record: &RawValue =
                        serde_json::from_str(record.line).map_err(|error| Failure::output(error.into()))?;
                    self.line(&Line::Event { record })?;
                    if let Some(newest) = &mut newest {
                        newest.events += u64::from(newest.first <= id);
                    }
                    last = Some(id);
                }
                ScanItem::Damage(damage) => self.damaged.push(damage.into()),
                ScanItem::TooLarge(record) => self.damaged.push(record.into()),
            }
        }
        if let Some(newest) = newest {
            self.damaged.extend(newest.again(job, last)?);
        }
        // A job that was written to since is open again.
        let status = job.status()?;
        if let (JobState::Finished, Some(at)) = (status.state, status.finished_at) {
            self.line(&Line::Finished { at })?;
        }
        let lines = self.lines;
        let sum = String::from_utf8_lossy(&hex8(self.sum)).into_owned();
        self.line(&Line::End { lines, sum })?;
        Ok(lines + 1)
    }
}

/// The position of the newest checkpoint, from which the job resumes.
struct Behind {
    id: CheckpointId,
    cursor: Cursor,
    /// The first event behind it, which is its position.
    first: EventId,
    /// The number of exported events from there on.
    events: u64,
}

impl Behind {
    /// The notice that a resume from the position reads events again: the cursor covers them, and the first event behind it
    /// was stored late, below them. `last` is the last event that was exported.
    fn again(self, job: &Job, last: Option<EventId>) -> Result<Option<StorageError>> {
        let mut lines = job.events().read_lines(ReadOptions::after(self.cursor))?;
        let mut behind = 0;
        while let Some(item) = lines.next()? {
            behind += u64::from(matches!(item, ScanItem::Record(record) if Some(record.id) <= last));
        }
        let again = self.events.saturating_sub(behind);
        let why = format!(
            "{} before it come after event {}, which was stored late: where this is imported, a resume from it reads them \
             again. `copy` keeps the exact position",
            counted(again, "event"),
            self.first
        );
        let target = format!("checkpoint {}", self.id);
        Ok((again > 0).then(|| StorageError::new(ErrorKind::InvalidInput, "export", target, why)))
    }
}

/// Converts a cursor to a position: before the first event after the cursor, or after the last event of the log.
/// `None` if the log is empty.
fn position(job: &Job, cursor: Cursor) -> Result<Option<Position>, StorageError> {
    let first = |lines: &mut prodigy_storage::EventLines| -> Result<Option<EventId>, StorageError> {
        while let Some(item) = lines.next()? {
            if let ScanItem::Record(record) = item {
                return Ok(Some(record.id));
            }
        }
        Ok(None)
    };
    // Reads the last event first. An event that is appended between the two reads is then found by the second one.
    let last = first(&mut job.events().tail_lines(1)?)?;
    let next = first(&mut job.events().read_lines(ReadOptions::after(cursor))?)?;
    Ok(next.map(Position::Before).or(last.map(Position::After)))
}
