//! The command `copy`, which copies or moves a store, a repository or a job into another store.

use std::path::{Path, PathBuf};

use prodigy_storage::config::{
    BackendKind, Environment, PostgresSettings, ProcessEnvironment, StorageConfig,
};
use prodigy_storage::{
    CopiedJob, CopyOptions, CopyReport, JobAddress, JobId, Part, RepoName, Storage, StorageError,
};
use serde_json::json;

use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::job::{Opened, PartArgs, no_repo, repositories};
use crate::jobs::state_word;
use crate::near::Near;
use crate::output::{bytes, counted};
use crate::shell::flags;
use crate::table::{Column, Table};
use crate::time::age_of;

#[derive(Debug, clap::Args)]
pub(crate) struct CopyArgs {
    /// The target: the connection string of a PostgreSQL database, or a folder.
    ///
    /// Every user of this machine can read the command line, so leave the password out: `PGPASSWORD`, `PGPASSFILE` and `~/.pgpass` count.
    #[arg(long, value_name = "URL|DIR", required_unless_present_any = ["reopen", "to_env"])]
    to: Option<String>,
    /// The name of an environment variable that contains the target, for a connection string with a password.
    #[arg(long, value_name = "NAME", conflicts_with = "to")]
    to_env: Option<String>,
    /// The schema of the target database; by default as configured.
    #[arg(long, value_name = "NAME")]
    schema: Option<String>,
    /// Move the data. Without this flag the plan of a move is printed.
    #[arg(long, short)]
    yes: bool,
    /// Copy, and let the source take writes as before. This is no move, and needs no `--yes`.
    #[arg(long)]
    keep_source: bool,
    /// Copy nothing: take away the marks of an earlier copy, so that the source takes writes again.
    #[arg(long, conflicts_with_all = ["to", "to_env", "schema", "keep_source", "yes"])]
    reopen: bool,
    #[command(flatten)]
    part: PartArgs,
}

impl CopyArgs {
    /// True if the command copies nothing: what it prints is then its whole result.
    pub(crate) fn prints(&self) -> bool {
        !(self.yes || self.keep_source || self.reopen)
    }

    /// The target as the command line or the environment variable names it. Warns of a password that all users can read.
    fn to(&self, app: &mut App<'_>) -> Result<Option<String>> {
        if let Some(to) = &self.to {
            if shown(to) != *to {
                app.warn(
                    "every user of this machine can read the password in the command line: leave it out and set `PGPASSWORD`, or write a \
                     line into ~/.pgpass, or name a variable with the connection string by `--to-env`",
                );
            }
            return Ok(Some(to.clone()));
        }
        let Some(name) = &self.to_env else {
            return Ok(None);
        };
        let value = Some(name.as_str())
            .filter(|name| !name.is_empty() && !name.contains(['=', '\0']))
            .and_then(|name| ProcessEnvironment.var(name))
            .filter(|value| !value.is_empty());
        let Some(value) = value else {
            // It may be a connection string.
            let name = shown(name);
            return Err(Failure::usage(format!(
                "`--to-env`: no environment variable `{name}` is set; it contains the connection string of a database, or a folder"
            )));
        };
        match value.into_string() {
            Ok(to) => Ok(Some(to)),
            Err(_) => Err(Failure::usage(format!(
                "`--to-env`: the value of `{name}` is not UTF-8"
            ))),
        }
    }

    /// The configuration of the target: the source's configuration, with the backend and the place of the target.
    fn target(&self, to: &str, source: &StorageConfig) -> Result<StorageConfig> {
        let mut config = source.clone();
        if to.is_empty() {
            return Err(Failure::usage(
                "the target is empty: it names a folder or a database",
            ));
        }
        if to.starts_with("postgres://") || to.starts_with("postgresql://") {
            config.backend = BackendKind::Postgres;
            config.postgres.url = Some(to.to_owned());
            (config.postgres.password, config.postgres.password_file) = (None, None);
            if let Some(schema) = &self.schema {
                config.postgres.schema.clone_from(schema);
            }
        } else if is_address(to) {
            return Err(Failure::usage(format!(
                "`{0}` is no connection string of a database: that begins with `postgresql://`. A folder of this name is given as `./{0}`",
                shown(to)
            )));
        } else if PostgresSettings::is_without_scheme(to) {
            return Err(Failure::usage(format!(
                "`{}` is a connection string of a database: write it as postgresql://USER@HOST:PORT/DATABASE. A folder of this name is given \
                 as `./...`",
                shown(to)
            )));
        } else if self.schema.is_some() {
            return Err(Failure::usage(
                "`--schema` needs the connection string of a database as the target",
            ));
        } else {
            config.backend = BackendKind::File;
            config.file.base_dir = std::path::absolute(PathBuf::from(to))
                .map_err(|error| Failure::new(Exit::Failed, format!("find the folder {to}: {error}")))?;
        }
        Ok(config)
    }
}

/// A target for messages: a connection string without its password, or a folder.
fn shown(to: &str) -> String {
    match is_address(to) || PostgresSettings::is_without_scheme(to) {
        true => PostgresSettings::default().url(Some(to.to_owned())).shown(),
        false => to.to_owned(),
    }
}

/// True if a text begins with a scheme, as an address does.
fn is_address(text: &str) -> bool {
    let is_scheme = |scheme: &str| {
        scheme.len() > 1
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
    };
    text.trim_start()
        .split_once(":/")
        .is_some_and(|(scheme, _)| is_scheme(scheme))
}

pub(crate) fn run(app: &mut App<'_>, arguments: &CopyArgs) -> Result<Exit> {
    let (repo, job) = arguments.part.names(app)?;
    let access = match arguments.prints() {
        true => Access::Read,
        false => Access::Write,
    };
    let to = arguments.to(app)?;
    let storage = app.open(access)?;
    let Some(to) = &to else {
        return reopen(app, &storage, repo, job);
    };
    must_be_there(&storage, repo.as_ref(), job.as_ref())?;
    let config = arguments.target(to, storage.config())?;
    let folder = (config.backend == BackendKind::File).then(|| config.file.base_dir.clone());
    let in_target = |error| of_target(error, folder.as_deref());
    let target = Storage::builder()
        .config(config)
        .interrupt(crate::signals::ends_waits());
    let scope = [
        ("--repo", repo.as_ref().map(RepoName::as_str)),
        ("--job", job.as_ref().map(JobId::as_str)),
    ];
    let scope = flags(
        scope
            .into_iter()
            .filter_map(|(flag, name)| Some((flag, name?.to_owned()))),
    );
    let options = CopyOptions::new()
        .repo(repo)
        .job(job)
        .keep_source(arguments.keep_source)
        .dry_run(arguments.prints());
    let mut report = storage.copy_to(target, options).map_err(in_target)?;
    report.refused = std::mem::take(&mut report.refused)
        .into_iter()
        .map(|(job, error)| (job, in_target(error)))
        .collect();
    if arguments.prints() {
        return plan(app, to, &report);
    }
    let mut table = Table::new([
        Column::name("JOB"),
        Column::number("EVENTS"),
        Column::number("NEW"),
        Column::number("DOCUMENTS"),
        Column::number("LETTERS"),
        Column::word("CHECKSUM"),
    ]);
    for job in &report.jobs {
        match app.json() {
            true => app.json_line(&line(job, &report))?,
            false => table.row(app, row(job))?,
        }
    }
    table.print(app)?;
    app.flush()?;
    print_refused(app, &report);
    if !report.gone.is_empty() {
        app.note(&format!(
            "left out: {} without data, since they were deleted meanwhile or are empty",
            counted(report.gone.len() as u64, "job")
        ));
    }
    let jobs = counted(report.jobs.len() as u64, "job");
    let documents = counted(report.documents, "document");
    app.note(&format!(
        "copied and compared: {jobs}, and {documents} of repositories"
    ));
    let marked = match report.marked.last() {
        Some(whole @ (Part::Store | Part::Repository(_))) => Some(whole.to_string()),
        Some(Part::Job(_)) => Some(counted(report.marked.len() as u64, "job")),
        None => None,
    };
    if let Some(marked) = marked {
        app.note(&format!(
            "moved: {marked}. Writes to the source are refused from now on: set the configuration to the new place. \
             `{}` takes the marks away",
            format!("prodigy-storage copy --reopen {scope}").trim_end()
        ));
    }
    Ok(match report.refused.is_empty() {
        true => Exit::Done,
        false => Exit::Failed,
    })
}

/// The hint of an error about a file of the target names commands for the target.
fn of_target(error: StorageError, folder: Option<&Path>) -> StorageError {
    // The file may be named in the cause of the error: an append names its job.
    let is_of = |folder: &Path| {
        Path::new(error.target()).starts_with(folder)
            || format!("{error:#}").contains(&format!("{}/", folder.display()))
    };
    match (folder, error.hint()) {
        (Some(folder), Some(hint)) if is_of(folder) => {
            let tool = format!("`prodigy-storage {} ", flags([("--base-dir", folder)]));
            // A command with flags of its own names its store.
            let hint = hint
                .replace("`prodigy-storage --", "`\u{0}")
                .replace("`prodigy-storage ", &tool);
            error.with_hint(hint.replace("`\u{0}", "`prodigy-storage --"))
        }
        _ => error,
    }
}

/// Prints the jobs that a move would copy, and those that it would refuse.
fn plan(app: &mut App<'_>, to: &str, report: &CopyReport) -> Result<Exit> {
    let mut table = Table::new([
        Column::name("JOB"),
        Column::word("STATE").optional(2),
        Column::number("ACTIVE").optional(1),
        Column::number("DEAD LETTERS"),
        Column::number("SIZE"),
    ]);
    let mut size = 0;
    for job in &report.planned {
        size += job.bytes();
        if app.json() {
            let (repo, id) = (&job.address.repo, &job.address.job);
            app.json_line(&json!({"repo": repo, "job": id, "bytes": job.bytes(), "planned": true}))?;
            continue;
        }
        table.row(
            app,
            [
                job.address.to_string(),
                state_word(job.status.state).to_owned(),
                age_of(job.status.last_activity),
                job.letters.items.to_string(),
                bytes(job.bytes()),
            ],
        )?;
    }
    table.print(app)?;
    app.flush()?;
    print_refused(app, report);
    app.note(&format!(
        "nothing was copied; `--yes` moves {} to {}: {}; this store then refuses writes to what was moved, and `--keep-source` copies \
         without that",
        counted(report.planned.len() as u64, "job"),
        shown(to),
        bytes(size)
    ));
    Ok(match report.refused.is_empty() {
        true => Exit::Done,
        false => Exit::Failed,
    })
}

/// Prints the jobs that are not copied, each with the reason.
fn print_refused(app: &mut App<'_>, report: &CopyReport) {
    for (job, error) in &report.refused {
        app.error(&format!("not copied: {job}: {error:#}"));
        if let Some(hint) = error.hint() {
            app.hint(hint);
        }
    }
}

/// Fails with [`Exit::Missing`] if nothing is stored under these names. The error lists what exists.
pub(crate) fn must_be_there(storage: &Storage, repo: Option<&RepoName>, job: Option<&JobId>) -> Result<()> {
    match (repo, job) {
        (None, None) => Ok(()),
        (Some(repo), None) => match no_repo(storage, repo, &format!("no repository `{repo}`"))? {
            Some(missing) => Err(missing),
            None => Ok(()),
        },
        (Some(repo), Some(job)) => {
            let repo = storage.repo(repo)?;
            let opened = Opened {
                storage: storage.clone(),
                job: repo.job(job.as_str())?,
                repo,
            };
            opened.must_be_known()
        }
        (None, Some(job)) => {
            let mut near = Near::to(job.as_str());
            for repo in repositories(storage) {
                let repo = repo?;
                for found in storage.repo(&repo)?.jobs() {
                    let found = found?;
                    if found == *job {
                        return Ok(());
                    }
                    near.offer_as(found.as_str(), &format!("{repo}/{found}"));
                }
            }
            let what = format!("no job `{job}` in any repository");
            Err(Failure::new(Exit::Missing, what).hint(near.hint(
                "jobs",
                "check `--base-dir`: `prodigy-storage config show --origin` prints the folder of the data",
            )))
        }
    }
}

/// Removes the marks of moved jobs, so that this store takes writes again.
fn reopen(app: &mut App<'_>, storage: &Storage, repo: Option<RepoName>, job: Option<JobId>) -> Result<Exit> {
    let names = (repo.clone(), job.clone());
    let parts = match (repo, job) {
        (None, None) => vec![Part::Store],
        (Some(repo), None) => vec![Part::Repository(repo)],
        (Some(repo), Some(job)) => vec![Part::Job(JobAddress::new(repo, job))],
        (None, Some(job)) => {
            let marks = storage.moved().all()?.into_iter().map(|moved| moved.part);
            marks.filter(|part| part.job() == Some(&job)).collect()
        }
    };
    let mut marks = 0;
    for part in &parts {
        marks += storage.reopen(part)?;
    }
    if marks == 0 {
        must_be_there(storage, names.0.as_ref(), names.1.as_ref())?;
    }
    match app.json() {
        true => app.json_line(&json!({"reopened": marks}))?,
        false => app.line(format!("{} taken away", counted(marks, "mark")))?,
    }
    app.flush()?;
    for moved in storage.moved() {
        let left = moved?.part;
        if parts.iter().any(|part| left.contains(part)) {
            let what = format!("{left} has a mark, which covers this part, too");
            return Err(Failure::new(Exit::Failed, what).hint("take that one away"));
        }
    }
    Ok(Exit::Done)
}

fn line(job: &CopiedJob, report: &CopyReport) -> serde_json::Value {
    json!({
        "repo": job.address.repo,
        "job": job.address.job,
        "events": job.events,
        "stored": job.stored,
        "documents": job.documents,
        "letters": job.letters,
        "checksum": format!("{:08x}", job.checksum),
        "moved": report.marked.contains(&Part::Job(job.address.clone())),
    })
}

fn row(job: &CopiedJob) -> [String; 6] {
    [
        job.address.to_string(),
        job.events.to_string(),
        job.stored.to_string(),
        job.documents.to_string(),
        job.letters.to_string(),
        format!("{:08x}", job.checksum),
    ]
}
