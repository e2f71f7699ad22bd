//! The command `events append`.

use std::borrow::Cow;
use std::io::Write;
use std::num::NonZeroUsize;

use prodigy_storage::{Batch, ErrorKind, EventId, Events, Storage};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::ahead;
use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::input::{InputArgs, Line, Lines, Next};
use crate::job::{JobArgs, Opened};
use crate::output::{at_least_one, counted};

/// A batch is stored when it has this number of bytes, even if it has few events.
const BATCH_BYTES: usize = 8 << 20;
/// An upper bound of the bytes that a record, or a line with an id, has in addition to its payload.
const BESIDE: usize = 512;

#[derive(Debug, clap::Args)]
pub(crate) struct AppendArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The number of events in one write. A write has fewer if the input pauses or a signal ends it.
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least_one)]
    batch: NonZeroUsize,
    /// Print the id of each event as soon as it is stored, in input order; by default a count is printed at the end.
    #[arg(long)]
    ack: bool,
    /// Each line is `{"id":..,"event":..}`. An event whose id is stored already is acknowledged and not stored again.
    #[arg(long)]
    with_ids: bool,
    #[command(flatten)]
    input: InputArgs,
}

impl AppendArgs {
    /// True if the ids of the events are printed.
    pub(crate) fn prints(&self) -> bool {
        self.ack
    }
}

/// A line of the input with `--with-ids`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithId<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    event: &'a RawValue,
}

/// The events that are not written yet.
struct Sink<'a> {
    opened: Opened,
    /// The log of the job; `None` before the first event.
    events: Option<Events>,
    arguments: &'a AppendArgs,
    batch: Batch,
    ids: Vec<EventId>,
    stored: usize,
    duplicates: usize,
    newest: Option<EventId>,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &AppendArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Write)?;
    let limit = usize::try_from(opened.storage.config().file.max_record_size).unwrap_or(usize::MAX);
    let mut lines = arguments.input.lines(app, limit.saturating_add(BESIDE))?;
    let mut sink = Sink {
        opened,
        events: None,
        arguments,
        batch: Batch::new(),
        ids: Vec::new(),
        stored: 0,
        duplicates: 0,
        newest: None,
    };
    let fed = sink.feed(app, &mut lines, limit);
    // Stores the events that were read before a refused line. If a write failed, the batch is empty, and this stores
    // nothing.
    let rest = sink.store(app);
    let exit = lines.ended(app);
    drop(lines);
    let ended = end(app, &sink.opened.storage);
    ahead::warn(app, sink.newest);
    if !arguments.ack {
        sink.print_count(app);
    }
    match fed.and(rest) {
        // The reader of the ids closed the output, so the rest of the input was not read: this must not count as
        // success.
        Err(Failure::Closed) => Err(Failure::new(
            Exit::Failed,
            format!(
                "standard output was closed, so appending ended: {} stored, what follows in the input is not",
                counted(sink.stored, "event")
            ),
        )
        .hint("read the ids to the end, or append without `--ack`")),
        outcome => outcome.and(ended).map(|()| exit),
    }
}

/// Finishes background work, such as compression. If the timeout ends first, the next process that appends finishes
/// it.
fn end(app: &mut App<'_>, storage: &Storage) -> Result<()> {
    match storage.flush() {
        Err(error) if error.kind() == ErrorKind::Timeout => {
            app.warn(&format!(
                "all is stored, and background work continues at the next append: {error:#}"
            ));
            Ok(())
        }
        other => Ok(other?),
    }
}

impl Sink<'_> {
    fn feed(&mut self, app: &mut App<'_>, lines: &mut Lines<'_>, limit: usize) -> Result<()> {
        loop {
            let line = match lines.next()? {
                Next::Line(line) => line,
                Next::Pause => {
                    self.store(app)?;
                    continue;
                }
                Next::TooLong(failure) => return Err(failure),
                Next::End => return Ok(()),
            };
            // A line that may be over the limit is written alone: if it is refused, the events before it are stored.
            let large = line.text().len() > limit.saturating_sub(BESIDE);
            if large {
                self.store(app)?;
            }
            self.push(&line)?;
            if large {
                self.store(app).map_err(|failure| match failure {
                    Failure::Storage(error) if error.kind() == ErrorKind::TooLarge => {
                        Failure::at(line.place(), &error)
                    }
                    other => other,
                })?;
            } else if self.batch.len() >= self.arguments.batch.get() || self.batch.bytes() >= BATCH_BYTES {
                self.store(app)?;
            }
        }
    }

    fn push(&mut self, line: &Line<'_>) -> Result<()> {
        let event = if self.arguments.with_ids {
            const GO_ON: &str = "the lines before it are stored; correct the line and give the whole input again: what is stored is \
                                 known by its id";
            let WithId { id, event } = line
                .parse(r#"`{"id":..,"event":..}`"#)
                .map_err(|failure| failure.hint(GO_ON))?;
            let id = id.parse().map_err(|error| {
                Failure::new(Exit::Failed, format!("{}: {error:#}", line.place())).hint(GO_ON)
            })?;
            self.ids.push(id);
            event
        } else {
            line.parse::<&RawValue>("JSON").map_err(|failure| {
                let number = line.number();
                failure.hint(format!(
                    "the lines before it are stored; correct the line and append from it on, as with `tail -n +{number} FILE`; with an \
                     id in each line, `--with-ids` takes the whole input again"
                ))
            })?
        };
        self.batch.push(event).map_err(|error| {
            self.ids.truncate(self.batch.len());
            Failure::at(line.place(), &error)
        })
    }

    /// Stores the batch, and acknowledges it.
    fn store(&mut self, app: &mut App<'_>) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        if self.arguments.with_ids {
            self.batch.set_ids(self.ids.drain(..));
        }
        let events = self.events(app);
        let appended = events.and_then(|events| Ok(events.append_prepared(&mut self.batch, None)?));
        let stored = match appended {
            Ok(appended) => {
                self.stored += appended.stored;
                self.duplicates += appended.duplicates;
                self.newest = self.newest.max(self.batch.ids().iter().copied().max());
                self.acknowledge(app)
            }
            Err(failure) => Err(failure),
        };
        self.batch.clear();
        stored
    }

    /// The log of the job, whose repository is registered before the first event.
    fn events(&mut self, app: &mut App<'_>) -> Result<Events> {
        if self.events.is_none() {
            self.opened.register(app)?;
        }
        let job = &self.opened.job;
        Ok(self.events.get_or_insert_with(|| job.events()).clone())
    }

    fn acknowledge(&self, app: &mut App<'_>) -> Result<()> {
        if !self.arguments.ack {
            return Ok(());
        }
        for id in self.batch.ids() {
            let written = if app.json() {
                writeln!(app.out, "{{\"id\":\"{id}\"}}")
            } else {
                writeln!(app.out, "{id}")
            };
            written.map_err(Failure::output)?;
        }
        app.flush()
    }

    fn print_count(&self, app: &mut App<'_>) {
        let count = if app.json() {
            json!({"stored": self.stored, "duplicates": self.duplicates}).to_string()
        } else {
            let before = match self.duplicates {
                0 => String::new(),
                some => format!(", {some} were stored before"),
            };
            format!("{} stored{before}", counted(self.stored, "event"))
        };
        // A count that can't be printed is ignored.
        let _ = writeln!(app.err, "{count}");
    }
}
