//! The command `events`.

mod ahead;
mod append;
mod cat;
mod end;
mod facts;
mod filter;
mod follow;
mod jobs;
mod names;
mod rates;
mod search;
mod shown;
mod stats;
mod tail;
mod view;

use clap::Subcommand;

pub(crate) use self::facts::{Facts, payload};
pub(crate) use self::jobs::ids;
pub(crate) use self::view::Columns;
use crate::app::App;
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::JobArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// Append events: one JSON payload per line.
    Append(append::AppendArgs),
    /// Print the log: lines for people on a terminal, JSON lines elsewhere.
    Cat(cat::CatArgs),
    /// Print the cursor after the last stored event, without reading events.
    End(JobArgs),
    /// Print the stored events, then new ones as they are appended.
    Follow(follow::FollowArgs),
    /// Print the last events; with `-f`, then new ones as they are appended.
    #[command(after_help = tail::HELP)]
    Tail(tail::TailArgs),
    /// Print the events whose payload matches a regular expression.
    #[command(after_help = search::HELP)]
    Search(search::SearchArgs),
    /// Count events by kind and worktree, and their rate over time. Reads the whole log, or the requested part.
    Stats(stats::StatsArgs),
}

pub(crate) fn run(app: &mut App<'_>, command: EventsCommand) -> Result<Exit> {
    match command {
        EventsCommand::Append(arguments) => append::run(app, &arguments),
        EventsCommand::Cat(arguments) => cat::run(app, &arguments),
        EventsCommand::End(arguments) => end::run(app, &arguments),
        EventsCommand::Follow(arguments) => follow::run(app, &arguments),
        EventsCommand::Tail(arguments) => tail::run(app, &arguments),
        EventsCommand::Search(arguments) => search::run(app, &arguments),
        EventsCommand::Stats(arguments) => stats::run(app, &arguments),
    }
}
