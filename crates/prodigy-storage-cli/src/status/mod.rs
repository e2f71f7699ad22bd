//! The command `status`.

mod gathered;
mod recent;
mod screen;

use std::thread;
use std::time::{Duration, Instant};

use prodigy_storage::Storage;

use self::gathered::Gathered;
pub(crate) use self::recent::read_events;
use self::screen::Screen;
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
    /// Print the status again each second, until an interrupt or a closed output. A terminal is redrawn; elsewhere
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
            thread::sleep(PAUSE);
        }
    }
}

/// Prints the status once: the first lines before any job is read.
fn print(app: &mut App<'_>, storage: &Storage, stop: Option<&Stop>) -> Result<()> {
    let mut gathered = Gathered::begin(app, storage)?;
    if app.json() {
        gathered.look_at_jobs(app, storage, stop)?;
        app.json_line(&gathered.json())?;
        return app.flush();
    }
    print_lines(app, &gathered.head(app.width))?;
    app.flush()?;
    gathered.look_at_jobs(app, storage, stop)?;
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
