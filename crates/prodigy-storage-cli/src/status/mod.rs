//! The command `status`.

mod gathered;
mod recent;
mod screen;

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use prodigy_storage::Storage;

use self::gathered::Gathered;
pub(crate) use self::recent::{read_checkpoints, read_events, read_newest_events};
use self::screen::{Screen, rows_of};
use crate::app::{Access, App};
use crate::console::clear_screen;
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::signals::Stop;
use crate::table::Line;
use crate::time::duration;

pub(crate) const HELP: &str = "Examples: one look; a look each second
  prodigy-storage status
  prodigy-storage status --watch --json --for 0s";

/// The interval between two screens.
const SECOND: Duration = Duration::from_secs(1);
/// The interval at which signals and a closed output are checked.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Default, clap::Args)]
pub(crate) struct StatusArgs {
    /// Print the status again each second, until `q` and Enter, an interrupt or a closed output. A terminal is redrawn; elsewhere
    /// `--json` is needed, and an object is printed each second.
    #[arg(long)]
    watch: bool,
    /// With `--watch`: end after this duration.
    #[arg(long = "for", value_name = "D", value_parser = duration, requires = "watch")]
    time: Option<Duration>,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &StatusArgs) -> Result<Exit> {
    if !arguments.watch {
        let storage = app.open_quietly(Access::Read)?;
        print(app, &storage, None)?;
        return Ok(Exit::Done);
    }
    if app.width.is_none() && !app.json() {
        return Err(Failure::usage("watch the status: standard output is no terminal")
            .hint("add `--json` for an object each second"));
    }
    let stop = Stop::on_request().ends_waits();
    let storage = app.open_quietly(Access::Read)?;
    let until = arguments.time.and_then(|time| Instant::now().checked_add(time));
    let mut reads_keys = !app.json();
    loop {
        let drawn = Instant::now();
        match app.json() {
            true => print(app, &storage, Some(&stop))?,
            false => draw(app, &storage, &stop)?,
        }
        while drawn.elapsed() < SECOND {
            let is_over = until.is_some_and(|until| Instant::now() >= until);
            if is_over || stop.asked() || (app.closed)() {
                return Ok(Exit::Done);
            }
            match reads_keys && (app.ready)(PAUSE) {
                true => match pressed(app) {
                    Some(true) => return Ok(Exit::Done),
                    Some(false) => {}
                    None => reads_keys = false,
                },
                false if reads_keys => {}
                false => thread::sleep(PAUSE),
            }
        }
    }
}

/// Reads what was typed, which a terminal passes on with the line: true if it has a `q`. `None` at the end of the input.
fn pressed(app: &mut App<'_>) -> Option<bool> {
    let mut typed = [0; 256];
    match app.input.read(&mut typed) {
        Ok(0) | Err(_) => None,
        Ok(len) => Some(typed.iter().take(len).any(|byte| matches!(byte, b'q' | b'Q'))),
    }
}

/// Prints the status once: the first lines before any job is read.
fn print(app: &mut App<'_>, storage: &Storage, stop: Option<&Stop>) -> Result<()> {
    let mut gathered = Gathered::begin(app, storage)?;
    if app.json() {
        look_at_jobs(app, storage, &mut gathered, stop)?;
        app.json_line(&gathered.json())?;
        return app.flush();
    }
    let size = app.measure();
    if let Some((_, rows)) = size {
        gathered.fit_head(rows);
    }
    let head = gathered.head(app.width);
    print_lines(app, &head)?;
    app.flush()?;
    look_at_jobs(app, storage, &mut gathered, stop)?;
    if let Some((columns, rows)) = size {
        // Beside the sections: an empty line before each, and the next prompt.
        let taken = rows_of(&head, columns) + rows_of(&gathered.remedies(app.width), columns) + 4;
        gathered.fit_tables(rows.saturating_sub(taken));
    }
    for section in [
        gathered.repositories(app.width),
        gathered.jobs(app.width),
        gathered.remedies(app.width),
    ] {
        if !section.is_empty() {
            app.line("")?;
            print_lines(app, &section)?;
        }
    }
    app.flush()
}

/// Reads each job, also if a check has failed.
fn look_at_jobs(
    app: &mut App<'_>,
    storage: &Storage,
    gathered: &mut Gathered,
    stop: Option<&Stop>,
) -> Result<()> {
    let looked = gathered.look_at_jobs(app, storage, stop);
    if gathered.has_failure() {
        app.fails_at_end();
    }
    looked
}

/// Draws the status on the terminal, instead of the one before. What has no room is left out, so that nothing scrolls.
fn draw(app: &mut App<'_>, storage: &Storage, stop: &Stop) -> Result<()> {
    let mut gathered = Gathered::begin(app, storage)?;
    gathered.look_at_jobs(app, storage, Some(stop))?;
    let size = app.measure();
    let width = app.width;
    let screen = Screen {
        head: gathered.head(width),
        repositories: gathered.repositories(width),
        jobs: gathered.jobs(width),
        problems: gathered.remedies(width),
    };
    let lines = match size {
        Some((columns, rows)) => screen.fitted(columns, rows),
        None => screen.lines(),
    };
    clear_screen().map_err(Failure::output)?;
    print_lines(app, &lines)?;
    app.flush()
}

fn print_lines(app: &mut App<'_>, lines: &[Line]) -> Result<()> {
    lines.iter().try_for_each(|line| app.print_line(line))
}
