//! The command `dlq redrive`.

mod command;
mod rate;
mod rehearsal;
mod watch;

use std::ffi::OsString;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prodigy_storage::{
    DlqItem, Eligible, Failure as ItemFailure, ItemId, Outcome, RedriveOptions, RedriveReport, StorageError,
};
use serde_json::json;
use serde_json::value::RawValue;

use self::command::{Commands, Ended, Input};
use self::rate::Rate;
use self::watch::Said;
use super::select::SelectArgs;
use super::take::{self, must_last};
use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::JobArgs;
use crate::output::counted;
use crate::signals::Stop;
use crate::time::duration;

/// The largest number of queued messages from commands.
const WAITING: usize = 256;

#[derive(Debug, clap::Args)]
pub(crate) struct RedriveArgs {
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    select: SelectArgs,
    /// Every pending item that is eligible; so it is without ids and filters, too.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// The largest number of items; the items that have waited longest are taken first.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Commands that run at the same time: 1 to 1024.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,
    /// Park an item that fails, if it has then failed this number of times.
    #[arg(long, value_name = "N")]
    max_attempts: Option<u64>,
    /// Limit the rate at which commands are started: `10/s`, `30/m`, `100/h`.
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// How long an item stays leased if this process dies; the lease is renewed while the command runs.
    #[arg(long, value_name = "D", default_value = "5m", value_parser = duration)]
    lease: Duration,
    /// The delay before a released item can be taken again.
    #[arg(long, value_name = "D", default_value = "0s", value_parser = duration)]
    release_after: Duration,
    /// List the items that would be taken, without taking any.
    #[arg(long)]
    dry_run: bool,
    /// The command and its arguments.
    #[arg(last = true, required_unless_present = "dry_run", value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl RedriveArgs {
    /// True if items are only listed.
    pub(super) fn prints(&self) -> bool {
        self.dry_run
    }
}

pub(crate) fn run(app: &mut App<'_>, arguments: &RedriveArgs) -> Result<Exit> {
    debug_assert!(
        !arguments.all || arguments.select.ids.is_empty(),
        "clap refuses both"
    );
    must_last(arguments.lease)?;
    if arguments.dry_run {
        return rehearsal::run(app, arguments);
    }
    let opened = arguments.job.open(app, Access::Write)?;
    // The output may share a terminal with the progress bar, so it is printed while the bar is hidden.
    let relays = app.terminal && app.width.is_some();
    let Some(commands) = Commands::new(&arguments.command, opened.job.address(), relays) else {
        return Err(Failure::usage("redrive items: no command is given"));
    };
    let dlq = opened.job.dlq();
    let select = arguments.select.select(Eligible::Yes);
    let missing = take::print_named(app, &opened, &dlq, &arguments.select.ids)?;
    let total = match app.terminal {
        true => Some(rehearsal::count(&dlq, &select, arguments)?),
        false => None,
    };
    let take_no_more = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&take_no_more);
    let mut options = RedriveOptions::new()
        .lease(arguments.lease)
        .concurrency(arguments.concurrency.into())
        .limit(arguments.limit)
        .max_attempts(arguments.max_attempts)
        .stop(move || stopped.load(Ordering::Relaxed));
    options.interval = arguments.rate.map(|rate| rate.every);
    let stop = Stop::on_request();
    let (said, heard) = sync_channel(WAITING);
    let unstarted = Mutex::new(None);
    let worker = Worker {
        commands: &commands,
        release_after: arguments.release_after,
        said,
        unstarted: &unstarted,
        take_no_more: &take_no_more,
    };
    let (ended, signal) = std::thread::scope(|scope| {
        // The worker is dropped when the run ends, which ends the watch.
        let (dlq, select) = (&dlq, select.clone());
        let run = scope.spawn(move || dlq.redrive(select, &options, |item| worker.work(item)));
        let signal = watch::until_end(app, &heard, &commands, total, &stop, || {
            take_no_more.store(true, Ordering::Relaxed);
        });
        (run.join(), signal)
    });
    let (report, error) = match ended {
        Ok(Ok(report)) => (report, None),
        Ok(Err(error)) => (error.report().clone(), Some(error)),
        Err(_) => return Err(Failure::new(Exit::Failed, "redrive items: the run panicked")),
    };
    print(app, &report)?;
    if let Some(error) = error {
        return Err(StorageError::from(error).into());
    }
    if let Some(error) = unstarted.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(cannot_start(&commands, &error, &report));
    }
    if report.taken == 0 {
        opened.must_be_known()?;
        take::print_none(app, &opened, &select, &arguments.select)?;
    }
    Ok(match signal {
        Some(signal) => Exit::Signal(signal),
        None if report.failed + report.parked + report.lost > 0 => Exit::Failed,
        None => missing,
    })
}

/// Works on items, from any thread.
struct Worker<'w> {
    commands: &'w Commands<'w>,
    release_after: Duration,
    said: SyncSender<Said>,
    /// The reason why a command could not be started.
    unstarted: &'w Mutex<Option<std::io::Error>>,
    take_no_more: &'w AtomicBool,
}

impl Worker<'_> {
    fn work(&self, item: &DlqItem) -> Outcome {
        let begun = Instant::now();
        let failures = item.clone().summary().map_or(0, |summary| summary.failure_count);
        let data = match item.data::<Box<RawValue>>() {
            Ok(data) => data,
            Err(error) => return Outcome::failed(ItemFailure::new("unreadable", format!("{error:#}"))),
        };
        let input = Input {
            id: item.id.as_str(),
            attempt: failures.saturating_add(1),
            data: data.get(),
        };
        let ended = self.commands.run(input, &|lines| {
            // This fails only if messages are no longer shown.
            let _ = self.said.send(Said::Lines(lines));
        });
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => {
                self.take_no_more.store(true, Ordering::Relaxed);
                let mut unstarted = self.unstarted.lock().unwrap_or_else(PoisonError::into_inner);
                unstarted.get_or_insert(error);
                Ended::Stopped
            }
        };
        let outcome = match &ended {
            Ended::Done => Outcome::Done,
            Ended::Release => Outcome::Release {
                after: self.release_after,
            },
            Ended::Stopped => Outcome::release(),
            Ended::Failed(kind, message) => {
                let mut failure = ItemFailure::new(kind, message);
                failure.duration_ms = u64::try_from(begun.elapsed().as_millis()).ok();
                Outcome::failed(failure)
            }
        };
        let _ = self.said.send(Said::Ended(ended));
        outcome
    }
}

fn cannot_start(commands: &Commands<'_>, error: &std::io::Error, report: &RedriveReport) -> Failure {
    let program = commands.program();
    let is_missing = error.kind() == std::io::ErrorKind::NotFound;
    // A shell returns 127 for a command that does not exist, and 126 for one that can't be run.
    let code = if is_missing { 127 } else { 126 };
    let what = format!("run `{program}`: {error}");
    let hint = if is_missing && program.contains(char::is_whitespace) {
        format!(
            "COMMAND is a program and its arguments; for a line of the shell, write `-- sh -c '{program}'`"
        )
    } else if report.failed + report.parked == 0 {
        "no item counts as failed: the items in hand were released".to_owned()
    } else {
        "the items in hand were released; the failures before that count".to_owned()
    };
    Failure::new(Exit::Command(code), what).hint(hint)
}

/// Prints the report, and the items that were left unchanged.
fn print(app: &mut App<'_>, report: &RedriveReport) -> Result<()> {
    for item in &report.passed_over {
        let id = item.id.as_ref().map_or("an item", ItemId::as_str);
        app.skipped(&format!("{id}: {}", item.why));
    }
    let more = report.passed_over_count.saturating_sub(report.passed_over.len());
    if more > 0 {
        app.skipped(&format!("{more} more"));
    }
    if app.json() {
        app.json_line(&json!({
            "taken": report.taken,
            "done": report.done,
            "failed": report.failed,
            "parked": report.parked,
            "released": report.released,
            "kept": report.kept,
            "lost": report.lost,
            "unsettled": report.unsettled,
            "skipped": report.passed_over_count,
        }))?;
        return app.flush();
    }
    let counts = [
        (report.done, "done"),
        (report.failed, "failed"),
        (report.parked, "parked"),
        (report.released, "released"),
        (
            report.kept,
            "done and kept, because a failure was pushed meanwhile",
        ),
        (
            report.lost,
            "lost: taken, changed or removed by another process meanwhile",
        ),
        (report.unsettled, "not settled"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let taken = counted(report.taken, "item");
    let line = match counts.as_slice() {
        [] => format!("{taken} taken"),
        counts => format!("{taken} taken: {}", counts.join(", ")),
    };
    // A count that can't be printed is ignored.
    let _ = writeln!(app.err, "{line}");
    Ok(())
}
