//! `events`.

mod ahead;
mod append;
mod cat;
mod end;
mod facts;
mod filter;
mod follow;
mod jobs;
mod rates;
mod search;
mod shown;
mod stats;
mod tail;

use clap::Subcommand;

pub(crate) use self::facts::{Facts, payload};
use crate::app::App;
use crate::errors::Result;
use crate::exit::Exit;
use crate::job::JobArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// Append events: JSON lines, a payload each.
    Append(append::AppendArgs),
    /// Print the merged log as JSON lines.
    Cat(cat::CatArgs),
    /// Print the cursor behind everything that is stored, without reading it.
    End(JobArgs),
    /// Print what is stored, then what is appended from now on.
    Follow(follow::FollowArgs),
    /// Print the last events, and with `-f` then what is appended.
    #[command(after_help = tail::HELP)]
    Tail(tail::TailArgs),
    /// Print the events whose payload matches a regular expression.
    #[command(after_help = search::HELP)]
    Search(search::SearchArgs),
    /// Count by reading all of it, or the part that is asked for: events by kind and worktree, and their rate over time.
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
