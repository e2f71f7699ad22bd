//! The commands `backup` and `restore`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::app::{Access, App};
use crate::copy::must_be_there;
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::input::unreadable;
use crate::job::RepoArgs;
use crate::new_file;
use crate::output::{bytes, counted};
use crate::progress::Progress;
use prodigy_storage::{
    Backup, BackupSummary, ErrorKind, JobAddress, JobId, Moved, Part, StorageError, escape,
};

#[derive(Debug, clap::Args)]
pub(crate) struct BackupArgs {
    /// The archive: a new file, or `-` for standard output.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    job: OfJob,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// An archive that `backup` wrote; `-` for standard input, which takes the size of the archive in `$TMPDIR`.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    job: OfJob,
    /// Only read the archive and check every byte of it.
    #[arg(long, conflicts_with_all = ["job", "repo"])]
    check: bool,
}

#[derive(Debug, clap::Args)]
struct OfJob {
    /// Only this job.
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    #[command(flatten)]
    repo: RepoArgs,
}

impl BackupArgs {
    /// True if the archive goes to standard output.
    pub(crate) fn prints(&self) -> bool {
        new_file::is_standard(&self.file)
    }
}

impl OfJob {
    /// The job of `--job`. Fails if the store can be read and has no such job.
    fn known(&self, app: &mut App<'_>) -> Result<Option<JobAddress>> {
        let address = self.address(app)?;
        if let Some(job) = &address
            && let Ok(storage) = app.open_quietly(Access::Read)
        {
            must_be_there(&storage, Some(&job.repo), Some(&job.job))?;
        }
        Ok(address)
    }

    /// The job of `--job`.
    fn address(&self, app: &mut App<'_>) -> Result<Option<JobAddress>> {
        let repo = self.repo.name()?;
        let Some(job) = &self.job else {
            return match repo {
                Some(_) => Err(Failure::usage(
                    "`--repo` needs `--job`: an archive is of the whole store, or of one job",
                )),
                None => Ok(None),
            };
        };
        let job = JobId::new(job)?;
        let repo = match repo {
            Some(repo) => repo,
            None => {
                let storage = app.open(Access::Read)?;
                app.repo(&storage, None)?.name().clone()
            }
        };
        Ok(Some(JobAddress::new(repo, job)))
    }
}

/// Runs the command `backup`.
pub(crate) fn run(app: &mut App<'_>, arguments: &BackupArgs) -> Result<Exit> {
    if arguments.prints() && app.width.is_some() {
        return Err(Failure::usage(
            "an archive is not printed on a terminal: name a file, or send it to a program",
        ));
    }
    let job = arguments.job.known(app)?;
    let backup = app.backup(Access::Read)?;
    let summary = if arguments.prints() {
        let summary = written(backup.write(job.as_ref(), &mut app.out))?;
        app.flush()?;
        let text = line(app, &summary, "in the archive");
        app.note(&text);
        summary
    } else {
        let summary = new_file::write(&arguments.file, |out| Ok(backup.write(job.as_ref(), out)?))?;
        report(app, &summary, &format!("written to {}", arguments.file.display()))?;
        summary
    };
    if summary.damaged > 0 {
        let places = counted(summary.damaged, "damaged place");
        app.damaged(&format!(
            "{places}: dead letters are left out, and events are copied as they are; `prodigy-storage doctor` names each"
        ));
    }
    for what in &summary.left_out {
        app.skipped(&format!("{}: left out of the archive", escape(what)));
    }
    if !summary.left_out.is_empty() {
        app.hint("`prodigy-storage doctor` says what to do about each");
    }
    Ok(Exit::Done)
}

/// Runs the command `restore`.
pub(crate) fn restore(app: &mut App<'_>, arguments: &RestoreArgs) -> Result<Exit> {
    let path = &arguments.file;
    let failed = |error: io::Error| unreadable(path.display(), &error);
    let file = if new_file::is_standard(path) {
        let mut input = std::mem::replace(&mut app.input, Box::new(io::empty()));
        if arguments.check {
            let summary = Backup::check(&mut input)?;
            report(app, &summary, "whole")?;
            return Ok(Exit::Done);
        }
        // An archive is read twice.
        let mut file = tempfile::tempfile().map_err(failed)?;
        io::copy(&mut input, &mut file).map_err(failed)?;
        file.rewind().map_err(failed)?;
        file
    } else {
        File::open(path).map_err(failed)?
    };
    let found = file.metadata().map_err(failed)?;
    if found.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let len = found.len();
    if arguments.check {
        let mut archive = Watched::new(file, len, app.terminal);
        let summary = Backup::check(&mut archive).map_err(|error| of_archive(path, error))?;
        report(app, &summary, "whole")?;
        return Ok(Exit::Done);
    }
    let job = arguments.job.address(app)?;
    let backup = app.backup(Access::Write)?;
    let mut archive = Watched::new(file, 2 * len, app.terminal);
    let restored = backup.restore(&mut archive, job.as_ref());
    let summary = restored.map_err(|error| of_archive(path, error))?;
    drop(archive);
    report(app, &summary, "restored")?;
    if summary.moved > 0 {
        app.note(&format!(
            "{} of moves restored: what they cover was moved to another store before the backup, and takes no writes. \
             `{}` takes {} away",
            counted(summary.moved, "mark"),
            Moved::reopening(&job.clone().map_or(Part::Store, Part::Job)),
            if summary.moved == 1 { "it" } else { "them" },
        ));
    }
    Ok(Exit::Done)
}

fn report(app: &mut App<'_>, summary: &BackupSummary, what: &str) -> Result<()> {
    match app.json() {
        true => app.json_line(summary),
        false => app.line(line(app, summary, what)),
    }
}

fn line(app: &App<'_>, summary: &BackupSummary, what: &str) -> String {
    let of = match &summary.job {
        Some(job) => job.clone(),
        None => counted(summary.jobs, "job"),
    };
    format!(
        "{what}: {of}, {}, {}; as of {}",
        counted(summary.files, "file"),
        bytes(summary.bytes),
        app.time(summary.made)
    )
}

/// Names the archive that an error is about.
fn of_archive(path: &Path, error: StorageError) -> Failure {
    match error.target() {
        "the archive" => Failure::at(path.display(), &error),
        _ => error.into(),
    }
}

/// Converts an error of writing the archive. If the reader of the pipe is gone, that is a failure of the command, not
/// of the store.
fn written<T>(outcome: prodigy_storage::Result<T>) -> Result<T> {
    let is_closed = |error: &prodigy_storage::StorageError| {
        let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
        error.kind() == ErrorKind::Io && cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
    };
    outcome.map_err(|error| match is_closed(&error) {
        true => Failure::new(
            Exit::Failed,
            "write the archive: its reader is gone, so the archive is incomplete",
        ),
        false => error.into(),
    })
}

/// A file that shows a progress bar as it is read.
struct Watched {
    file: File,
    progress: Progress,
    read: u64,
}

impl Watched {
    fn new(file: File, bytes: u64, terminal: bool) -> Self {
        Self {
            file,
            progress: Progress::over(bytes, terminal),
            read: 0,
        }
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read += read as u64;
        self.progress.at(self.read);
        Ok(read)
    }
}

impl Seek for Watched {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
