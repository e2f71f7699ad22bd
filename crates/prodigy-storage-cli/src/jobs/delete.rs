//! The command `job delete`.

use std::collections::BTreeSet;
use std::path::PathBuf;

#[cfg(feature = "file")]
use prodigy_storage::config::BackendKind;
use prodigy_storage::{Event, JobAddress, Removal, RemovalKind, Storage, Timestamp};
use serde_json::json;

use super::open_all;
use super::parts::Parts;
use crate::app::{Access, App};
use crate::audit::{Audited, unended_deletions};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::{Opened, RepoArgs};
use crate::output::counted;
use crate::shell::{as_word, flags, operands, tool};
use crate::time::time;

/// The largest number of files that a message names, and that a command does.
const NAMED: usize = 5;
const IN_A_COMMAND: usize = 100;

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// The ids of the jobs.
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
    #[command(flatten)]
    repo: RepoArgs,
    /// Delete without asking.
    #[arg(long, short)]
    yes: bool,
    /// Delete no job that was written to after this time, or of which a worker holds a dead letter.
    #[arg(long, value_name = "T", value_parser = time)]
    unless_written_after: Option<Timestamp>,
}

pub(crate) fn run(app: &mut App<'_>, arguments: &DeleteArgs) -> Result<Exit> {
    let asks = !arguments.yes && app.may_ask();
    let access = if arguments.yes || asks {
        Access::Write
    } else {
        Access::Read
    };
    let jobs = open_all(app, &arguments.repo, &arguments.jobs, access)?;
    let (mut due, mut exit) = (Vec::new(), Exit::Done);
    for opened in &jobs {
        match Due::of(app, opened, arguments.yes) {
            Ok(found) => due.push(found),
            Err(failure) => exit = exit.and(app.one_failed(failure)?),
        }
    }
    app.flush()?;
    if due.is_empty() {
        return Ok(exit);
    }
    let all = counted(due.len(), "job");
    if !arguments.yes {
        if !asks {
            app.error(&format!(
                "nothing was deleted, since nobody can be asked; `--yes` deletes {all}"
            ));
            return Ok(Exit::Failed);
        }
        if !app.agreed(&format!("delete {all}? [y/N] "))? {
            app.note("nothing was deleted");
            return Ok(Exit::Failed);
        }
    }
    // If they can't be read, they stay in the audit log as not ended.
    let begun = match jobs.first() {
        Some(first) => unended_deletions(&first.storage).unwrap_or_default(),
        None => Vec::new(),
    };
    for due in &due {
        let deleted = due.delete(app, &begun, arguments.unless_written_after);
        exit = exit.and(match deleted {
            Ok(exit) => exit,
            Err(failure) => app.one_failed(failure)?,
        });
        // The user has to see which jobs were deleted before a later one fails.
        app.flush()?;
    }
    Ok(exit)
}

/// A job to delete.
struct Due<'o> {
    opened: &'o Opened,
    bytes: u64,
    /// The number of dead letters that workers hold. A later take is a later write.
    leased: u64,
    /// True if another program's files are all there is: nothing of such a job is removed, and nothing recorded.
    is_spared: bool,
    /// True if this ended a deletion that another process started and could not end: for readers the job does not exist.
    is_ended: bool,
}

impl<'o> Due<'o> {
    /// Looks at a job and prints what it holds. With `yes`, ends a deletion that another process started. Fails if there is no such job.
    fn of(app: &mut App<'_>, opened: &'o Opened, yes: bool) -> Result<Self> {
        let parts = Parts::of(&opened.job)?;
        let address = opened.job.address();
        let left = left_of(app, &opened.storage, address)?;
        let mut due = Self {
            opened,
            bytes: parts.bytes().saturating_sub(left.foreign_bytes),
            leased: parts.leased(),
            is_spared: left.is_only_foreign() && !is_unfinished(&opened.storage, address)?,
            is_ended: false,
        };
        if !yes {
            parts.print_damage(app);
        }
        if parts.is_nothing() {
            // A listed job without data has an empty folder, or one with files of other programs.
            let known = opened.must_be_known();
            due.is_ended = yes && !due.is_spared && (opened.job.delete()? || known.is_ok());
            if !due.is_ended {
                known?;
            }
        }
        if !app.json() {
            for line in parts.lines(app, None) {
                app.line(line)?;
            }
        } else if !yes {
            app.json_line(&parts.json())?;
        }
        Ok(due)
    }

    /// Deletes the job, and prints what that left. `begun` has the deletions that are not known to have ended.
    fn delete(
        &self,
        app: &mut App<'_>,
        begun: &[Event<Removal>],
        unless_written_after: Option<Timestamp>,
    ) -> Result<Exit> {
        let (opened, is_ended, is_spared) = (self.opened, self.is_ended, self.is_spared);
        let address = opened.job.address();
        if unless_written_after.is_some() && self.leased > 0 {
            return Err(Failure::new(
                Exit::Locked,
                format!("delete {address}: a worker holds a dead letter of it"),
            )
            .hint("wait until it has settled the letter, and begin again"));
        }
        let last = opened.job.status().ok().and_then(|status| status.last_activity);
        let mut begun = begun.to_vec();
        begun.retain(|entry| {
            let is_same = is_ended || last.is_some_and(|last| last < entry.timestamp);
            entry.event.job.as_ref() == Some(address) && is_same
        });
        // The bytes that another process removed before it died are counted here.
        let begun_bytes = begun.iter().filter(|_| is_ended).map(|entry| entry.event.bytes);
        let bytes = begun_bytes.max().unwrap_or_default().max(self.bytes);
        let removal = Audited::new(&opened.storage, RemovalKind::Job, address, "job delete").size(1, bytes);
        let removal = removal.continues(begun);
        let (deleted, mut exit) = match is_spared {
            true => (false, Exit::Done),
            false => removal.make_one(app, || {
                let deleted = match unless_written_after {
                    Some(last) => opened.job.delete_unless_written(last)?,
                    None => opened.job.delete()?,
                };
                Ok(deleted || is_ended)
            })?,
        };
        if let Some(last) = unless_written_after
            && !deleted
            && opened.job.status()?.last_activity > Some(last)
        {
            let what = format!("delete {address}: it was written to after {}", last.to_rfc3339());
            return Err(Failure::new(Exit::Locked, what).hint("begin again when nothing writes to it"));
        }
        let Left {
            foreign, begun_again, ..
        } = left_of(app, &opened.storage, address)?;
        if app.json() {
            app.json_line(&json!({
                "repo": address.repo,
                "job": address.job,
                "deleted": deleted,
                "left": foreign.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
                "begun_again": begun_again,
            }))?;
        } else if deleted && (foreign.is_empty() || begun_again) {
            app.line(format!("deleted {address}"))?;
        } else if deleted {
            app.line(format!(
                "deleted what is stored of {address}; its folder stays, with {} of another program",
                counted(foreign.len(), "file")
            ))?;
        }
        if !deleted && !is_spared {
            app.error(&format!("{address} is gone: another process has deleted it"));
            exit = Exit::Missing;
        } else if begun_again {
            app.note(&format!(
                "{address} was deleted, and has begun again: a process writes to it"
            ));
        } else if print_left(app, &opened.storage, address, &foreign) && exit == Exit::Done {
            exit = Exit::Skipped;
        }
        Ok(exit)
    }
}

/// The part of a command that removes the folders of another program, once they are empty. The store has made the folder of the job.
fn remove_empty(storage: &Storage, job: &JobAddress, left: &[PathBuf]) -> String {
    let Some(root) = storage.capabilities().root else {
        return String::new();
    };
    let mut folders = BTreeSet::new();
    for path in left {
        let below = path.strip_prefix(&root).unwrap_or(path);
        let parts: Vec<_> = below.iter().collect();
        // The first two are an area and a repository.
        let of_job = parts.iter().skip(2).position(|part| *part == job.job.as_str());
        if let Some(place) = of_job
            && let Some(parts) = parts.get(..place + 4)
            && parts.len() < below.iter().count()
        {
            folders.insert(root.join(parts.iter().collect::<PathBuf>()));
        }
    }
    match folders.is_empty() {
        true => String::new(),
        false => format!(" && find {} -type d -empty -delete", operands(&folders)),
    }
}

/// True if the deletion of a job was cut short: for readers the job does not exist.
fn is_unfinished(storage: &Storage, job: &JobAddress) -> Result<bool> {
    for left in storage.unfinished_deletions() {
        if left?.job == *job {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The files of other programs in a job, which a deletion leaves.
#[derive(Default)]
pub(crate) struct Left {
    pub(crate) foreign: Vec<PathBuf>,
    /// The bytes of these files that count as data of the job.
    foreign_bytes: u64,
    /// True if there is data of the store: after a deletion, the job has begun again.
    pub(crate) begun_again: bool,
}

impl Left {
    fn is_only_foreign(&self) -> bool {
        !self.foreign.is_empty() && !self.begun_again
    }
}

/// The files of other programs in a job, before or after its deletion.
pub(crate) fn left_of(app: &mut App<'_>, storage: &Storage, job: &JobAddress) -> Result<Left> {
    #[cfg(feature = "file")]
    if storage.config().backend == BackendKind::File {
        let left = app.doctor(Access::Read)?.left_of(job)?;
        return Ok(Left {
            foreign: left.foreign,
            foreign_bytes: left.foreign_bytes,
            begun_again: left.begun_again,
        });
    }
    let _ = (app, storage, job);
    Ok(Left::default())
}

/// Names the files that a deletion left, with the command that removes them. A job whose folder stays is still listed. Returns
/// false if it left no file.
fn print_left(app: &mut App<'_>, storage: &Storage, job: &JobAddress, left: &[PathBuf]) -> bool {
    if left.is_empty() {
        return false;
    }
    let words: Vec<_> = left.iter().map(|path| as_word(path)).collect();
    let named = words.get(..NAMED).unwrap_or(&words);
    let more = match left.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    app.note(&format!(
        "{job} is still listed: the store did not write {}{more}, so nothing removed that",
        named.join(", ")
    ));
    if left.len() > IN_A_COMMAND {
        app.hint(
            "if no program needs them: move them away, and run the command again; `--json` names them all",
        );
        return true;
    }
    app.hint(&format!(
        "if no program needs it: `rm -r {}{} && {} job delete {} --yes {}`",
        words.join(" "),
        remove_empty(storage, job, left),
        tool(&app.global),
        flags([("--repo", job.repo.as_str())]),
        operands([job.job.as_str()])
    ));
    true
}
