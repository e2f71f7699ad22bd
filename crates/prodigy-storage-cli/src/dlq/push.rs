//! The commands `dlq push` and `dlq import`.

use std::io::Write;
use std::path::PathBuf;

use prodigy_storage::backend::dead_letter::normalise;
use prodigy_storage::{Dlq, PutReport};
use serde_json::json;
use serde_json::value::RawValue;

use super::values::{Objects, Piece};
use crate::app::{Access, App};
use crate::errors::{Failure, Result, is_about_the_value};
use crate::exit::Exit;
use crate::import::originals::Originals;
use crate::input::{InputArgs, Lines, Next};
use crate::job::{JobArgs, Opened};
use crate::output::counted;

/// The largest number of items in one write.
const BATCH: usize = 512;
/// The largest number of bytes in one write, except for a single larger item.
const BATCH_BYTES: usize = 4 << 20;
/// The largest number of bytes that a line has in addition to the stored item.
const BESIDE: usize = 512;

#[derive(Debug, clap::Args)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    input: InputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The files to read; by default, and for `-`, standard input.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Items that are not pushed yet, each with its place in the input.
struct Sink {
    opened: Opened,
    /// The queue of the job; `None` before the first item that is stored.
    dlq: Option<Dlq>,
    items: Vec<(String, Box<RawValue>)>,
    bytes: usize,
    report: PutReport,
    /// True if a refused item ends the command.
    strict: bool,
    /// Values that are not items, and that were not reported yet.
    refused: Vec<Failure>,
}

pub(crate) fn push(app: &mut App<'_>, arguments: &PushArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Write)?;
    let mut lines = arguments.input.lines(app, limit(&opened))?;
    let mut sink = Sink::new(opened, true);
    let fed = sink.feed(app, &mut lines);
    // Stores the items before a refused line.
    let rest = sink.store(app);
    let exit = lines.ended(app);
    drop(lines);
    let PutReport {
        added, merged, known, ..
    } = sink.report;
    let count = if app.json() {
        json!({"added": added, "merged": merged, "known": known}).to_string()
    } else {
        sink.counts()
    };
    // A count that can't be printed is ignored.
    let _ = writeln!(app.err, "{count}");
    fed.and(rest).map(|()| exit)
}

pub(crate) fn import(app: &mut App<'_>, arguments: &ImportArgs) -> Result<Exit> {
    let opened = arguments.job.open(app, Access::Write)?;
    let originals = Originals::of(&opened.storage);
    let longest = limit(&opened);
    let mut sink = Sink::new(opened, false);
    let mut files: Vec<InputArgs> = arguments.files.iter().cloned().map(InputArgs::of).collect();
    if files.is_empty() {
        files.push(InputArgs::default());
    }
    let mut imported = Vec::new();
    let mut refused = 0;
    let mut ended = Ok(Exit::Done);
    for (at, file) in files.iter().enumerate() {
        let path = arguments.files.get(at);
        let original = originals
            .as_ref()
            .zip(path)
            .and_then(|(root, path)| root.seen(root.inside(path)?));
        let before = refused;
        ended = import_one(app, longest, &mut sink, file, &mut refused);
        // A file that can't be read to its end keeps no other one.
        if let Err(failure @ Failure::Told(_)) = ended {
            app.one_failed(failure)?;
            refused += 1;
            ended = store_rest(app, &mut sink, &mut refused).map(|()| Exit::Done);
        }
        if !matches!(ended, Ok(Exit::Done)) {
            break;
        }
        imported.extend(original.filter(|_| refused == before));
    }
    if let Some(root) = originals {
        root.mark(&imported)?;
    }
    let PutReport {
        added, merged, known, ..
    } = sink.report;
    if app.json() {
        app.json_line(&json!({"added": added, "merged": merged, "known": known, "refused": refused}))?;
    } else {
        let refused = match refused {
            0 => String::new(),
            count => format!(", {count} refused"),
        };
        app.line(format!("{}{refused}", sink.counts()))?;
    }
    match ended? {
        Exit::Done if refused > 0 => Ok(Exit::Failed),
        exit => Ok(exit),
    }
}

/// Imports the values of one input, and reports those that are not items.
fn import_one(
    app: &mut App<'_>,
    longest: usize,
    sink: &mut Sink,
    file: &InputArgs,
    refused: &mut u64,
) -> Result<Exit> {
    let mut lines = match file.lines(app, longest) {
        Ok(lines) => lines,
        Err(failure) => {
            failure.print(&mut app.err);
            *refused += 1;
            return Ok(Exit::Done);
        }
    };
    let mut objects = Objects::new(longest);
    let mut found = Vec::new();
    loop {
        let mut at_end = false;
        match lines.next()? {
            Next::Line(line) => objects.line(line.number(), line.text(), &mut found),
            Next::TooLong(failure) => {
                objects.end_object(&mut found);
                sink.refused.push(failure);
            }
            Next::Pause => sink.store(app)?,
            Next::End => {
                objects.end(&mut found);
                at_end = true;
            }
        }
        for piece in found.drain(..) {
            match piece {
                Piece::Object(line, object) => sink.add(app, lines.place(line), object)?,
                Piece::Refused(line, why) => {
                    let what = format!("{}: {why}", lines.place(line));
                    sink.refused.push(Failure::new(Exit::Failed, what));
                }
            }
        }
        match at_end {
            true => store_rest(app, sink, refused)?,
            false => print_refused(app, sink, refused),
        }
        if at_end {
            return Ok(lines.ended(app));
        }
    }
}

fn store_rest(app: &mut App<'_>, sink: &mut Sink, refused: &mut u64) -> Result<()> {
    sink.store(app)?;
    print_refused(app, sink, refused);
    Ok(())
}

fn print_refused(app: &mut App<'_>, sink: &mut Sink, refused: &mut u64) {
    for failure in sink.refused.drain(..) {
        failure.print(&mut app.err);
        *refused += 1;
    }
}

fn limit(opened: &Opened) -> usize {
    let limit = usize::try_from(opened.storage.config().file.max_record_size).unwrap_or(usize::MAX);
    limit.saturating_add(BESIDE)
}

impl Sink {
    fn new(opened: Opened, strict: bool) -> Self {
        Self {
            opened,
            dlq: None,
            items: Vec::new(),
            bytes: 0,
            report: PutReport::default(),
            strict,
            refused: Vec::new(),
        }
    }

    fn feed(&mut self, app: &mut App<'_>, lines: &mut Lines<'_>) -> Result<()> {
        loop {
            match lines.next()? {
                Next::Line(line) => {
                    let item: Box<RawValue> = line.parse("JSON")?;
                    self.add(app, line.place(), item)?;
                }
                Next::TooLong(failure) => return Err(failure),
                Next::Pause => self.store(app)?,
                Next::End => return Ok(()),
            }
        }
    }

    fn add(&mut self, app: &mut App<'_>, place: String, item: Box<RawValue>) -> Result<()> {
        self.bytes += item.get().len();
        self.items.push((place, item));
        if self.items.len() >= BATCH || self.bytes >= BATCH_BYTES {
            self.store(app)?;
        }
        Ok(())
    }

    fn store(&mut self, app: &mut App<'_>) -> Result<()> {
        let items = std::mem::take(&mut self.items);
        self.bytes = 0;
        if items.is_empty() {
            return Ok(());
        }
        // An input of which nothing is stored registers nothing.
        if self.dlq.is_none() && items.iter().any(|(_, item)| normalise(item).is_ok()) {
            self.opened.register(app)?;
            self.dlq = Some(self.opened.job.dlq());
        }
        let dlq = self.dlq.clone().unwrap_or_else(|| self.opened.job.dlq());
        match dlq.push_batch(items.iter().map(|(_, item)| item)) {
            Ok(report) => self.count(report),
            // The write stored nothing. The items are pushed one by one, so that only the refused one is left out, and
            // the message names it.
            Err(error) if is_about_the_value(&error) => {
                for (place, item) in &items {
                    match dlq.push_raw(item) {
                        Ok(report) => self.count(report),
                        Err(error) if !self.strict && is_about_the_value(&error) => {
                            self.refused.push(Failure::at(place, &error));
                        }
                        Err(error) => return Err(Failure::at(place, &error)),
                    }
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The counts of the stored items.
    fn counts(&self) -> String {
        let PutReport {
            added, merged, known, ..
        } = self.report;
        let known = match known {
            0 => String::new(),
            count => format!(", {count} pushed before"),
        };
        format!("{} added, {merged} merged{known}", counted(added, "item"))
    }

    fn count(&mut self, report: PutReport) {
        self.report.added += report.added;
        self.report.merged += report.merged;
        self.report.known += report.known;
    }
}
