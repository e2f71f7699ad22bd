//! The command `status`.

mod gathered;
mod recent;

use std::thread;
use std::time::{Duration, Instant};

use prodigy_storage::Storage;

use self::gathered::Gathered;
use crate::app::{Access, App};
use crate::console::clear_screen;
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::signals::Stop;
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
        print(app, &storage, Some(&stop))?;
        while drawn.elapsed() < SECOND {
            let is_over = until.is_some_and(|until| Instant::now() >= until);
            if is_over || stop.asked() || (app.closed)() {
                return Ok(Exit::Done);
            }
            thread::sleep(PAUSE);
        }
    }
}

/// Prints the status once. A redrawn screen is written at once when it is complete; otherwise the first lines are
/// written before any job is read.
fn print(app: &mut App<'_>, storage: &Storage, redrawn: Option<&Stop>) -> Result<()> {
    let is_redrawn = redrawn.is_some() && !app.json();
    let mut gathered = Gathered::begin(app, storage)?;
    if !app.json() && !is_redrawn {
        gathered.print_head(app)?;
        app.flush()?;
    }
    gathered.look_at_jobs(app, storage, redrawn)?;
    if app.json() {
        app.json_line(&gathered.json())?;
        return app.flush();
    }
    if is_redrawn {
        clear_screen().map_err(Failure::output)?;
        gathered.print_head(app)?;
    }
    gathered.print_rest(app)?;
    app.flush()
}
