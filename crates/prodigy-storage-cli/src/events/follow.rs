//! `events follow`.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use prodigy_storage::{Cursor, FollowLines, FollowOptions, ScanItem, escape};
use serde_json::json;

use crate::app::{Access, App};
use crate::errors::{Failure, Result, say};
use crate::exit::Exit;
use crate::job::JobArgs;
use crate::signals::Stop;
use crate::time::duration;

/// Between two looks for new events.
const PAUSE: Duration = Duration::from_millis(50);
/// Lines handed over at once where there are many.
const LINES: usize = 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct FollowArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Print only what comes after this position: the cursor that an earlier run printed at its end.
    #[arg(long, value_name = "C")]
    cursor: Option<String>,
    /// End after this duration, instead of at an interrupt.
    #[arg(long = "for", value_name = "D", value_parser = duration)]
    time: Option<Duration>,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &FollowArgs) -> Result<Exit> {
    let cursor = arguments.cursor.as_ref().map(Cursor::new).transpose();
    let from = cursor.map_err(|error| Failure::usage(format!("{error:#}")))?;
    let stop = Stop::on_request();
    let opened = arguments.job.open(app, Access::Read)?;
    let mut lines = opened.job.events().follow_lines(
        // Only the stored events: this loop makes the pauses, and flushes the output before each.
        FollowOptions::new().from(from).wait(Duration::ZERO),
    )?;
    let until = arguments.time.and_then(|time| Instant::now().checked_add(time));
    let is_over = || until.is_some_and(|until| Instant::now() >= until);
    let mut given = lines.cursor();
    let followed = loop {
        match step(app, &mut lines) {
            Ok(idle) => {
                given = lines.cursor();
                // Events that are stored when the time ends are printed, however many.
                if stop.asked() || (app.closed)() || (idle && is_over()) {
                    break Ok(Exit::Done);
                }
                if idle {
                    let left = until.map_or(PAUSE, |until| until.saturating_duration_since(Instant::now()));
                    thread::sleep(left.min(PAUSE));
                }
            }
            Err(failure) => break Err(failure),
        }
    };
    if app.json() {
        let _ = writeln!(app.err, "{}", json!({"cursor": given}));
    } else {
        say(&mut app.err, "cursor", given.as_str());
    }
    followed
}

/// Gives the lines that are there, a bounded number of them, and hands them over. True if there are no more now.
fn step(app: &mut App<'_>, lines: &mut FollowLines) -> Result<bool> {
    let mut idle = false;
    for _ in 0..LINES {
        match lines.next()? {
            Some(ScanItem::Record(record)) => app.line(record.line)?,
            Some(ScanItem::Damage(damage)) => app.damaged(&escape(&damage.to_string())),
            Some(ScanItem::TooLarge(record)) => app.too_large(&record),
            None => {
                app.tell_foreign();
                idle = true;
                break;
            }
        }
    }
    app.flush()?;
    Ok(idle)
}
