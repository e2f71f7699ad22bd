//! The command `import`, which reads an export or the data of other programs.

mod find;
mod lines;
mod migrate;
mod names;
pub(crate) mod originals;
mod own;
mod store;
mod text;
mod turn;

use std::io;
use std::path::{Path, PathBuf};

use prodigy_storage::config::Notice;
use prodigy_storage::{Job, JobId, RepoName, Storage, StorageNotice};
use serde_json::json;
use tempfile::NamedTempFile;

use crate::app::{Access, App};
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::input::unreadable;
use crate::job::{not_reserved, repositories};
use crate::new_file::is_standard;
use crate::output::{counted, shown};
use crate::progress::Progress;
use crate::shell::{as_word, tool};
use crate::table::{Column, Table};
use find::{Files, ImportFile, Kind};
use originals::{Done, Originals};
use store::Importer;
use turn::Turn;

#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// A root of Prodigy, the folder `.prodigy` of a project, the project, or a copy of one; or a file that `export` wrote, `-` for standard input.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Import everything under this repository's name; by default, under the names in the folder.
    #[arg(long, value_name = "REPO")]
    repo: Option<String>,
    /// Import a file of `export` under this job's id; by default, under its own.
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    /// Print what would be imported, and import nothing.
    #[arg(long)]
    dry_run: bool,
}

impl ImportArgs {
    fn access(&self) -> Access {
        match self.dry_run {
            true => Access::Read,
            false => Access::Write,
        }
    }
}

/// The name of a kind of data in the report.
fn words(kind: Kind) -> &'static str {
    match kind {
        Kind::Events => "events",
        Kind::Checkpoint => "checkpoints",
        Kind::Letters => "dead letters",
        Kind::Orphans => "orphaned worktrees",
        Kind::JobDocument(kind) | Kind::RepoDocument(kind) => kind,
    }
}

pub(crate) use find::MIGRATED;
pub(crate) use migrate::{MigrateArgs, run as migrate};

pub(crate) fn run(app: &mut App<'_>, arguments: &ImportArgs) -> Result<Exit> {
    import(app, arguments, None)
}

/// Imports a file or a folder. If the folder belongs to a project, registers the repository of the project before anything is
/// stored.
fn import(app: &mut App<'_>, arguments: &ImportArgs, project: Option<&Path>) -> Result<Exit> {
    let path = &find::folder(&arguments.path)?;
    if let Some(repo) = &arguments.repo {
        not_reserved(&RepoName::new(repo)?)?;
    }
    if let Some(root) = own::around(path) {
        let what = format!(
            "import {}: it is a part of the store {}",
            shown(path),
            shown(&root)
        );
        return Err(Failure::usage(what).hint(format!(
            "a store is imported whole: `{} import {}`; one job of it: `export --job`, then `import` of that file",
            tool(&app.global),
            as_word(&root)
        )));
    }
    if is_standard(path) {
        // The lines are read more than once.
        let kept = keep(app).map_err(|error| unreadable("standard input", &error))?;
        return file(app, arguments, kept.path(), "standard input");
    }
    if path.is_file() {
        return file(app, arguments, path, &shown(path));
    }
    if arguments.job.is_some() {
        let what = format!(
            "import {}: `--job` is for a file that `export` wrote",
            shown(path)
        );
        return Err(Failure::usage(what).hint("the jobs of a folder keep their ids"));
    }
    let mut files = Files::below(path).map_err(|error| unreadable(shown(path), &error))?;
    let is_this = |notice: &StorageNotice| match notice {
        StorageNotice::Config(Notice::UnusedLocalStorage { path: local }) => is_same(local, path),
        _ => false,
    };
    let storage = app.open_without(arguments.access(), is_this)?;
    let turn = Turn::of(app, &storage, arguments.dry_run)?;
    let own = match own::is_copy(&storage, path) && arguments.repo.is_none() {
        true => None,
        false => own::store(path)?,
    };
    if own.is_some() {
        own::leave_out(&mut files, path);
    }
    if let Some(repo) = &arguments.repo {
        files
            .found
            .iter_mut()
            .for_each(|file| file.repo = Some(repo.clone()));
    }
    if let Some(file) = files.found.first()
        && files.found.iter().all(|file| file.repo.is_none())
    {
        let what = format!(
            "import {}: nothing says which repository it belongs to",
            shown(&file.path)
        );
        return Err(Failure::usage(what).hint("name it with `--repo`"));
    }
    let originals = Originals::of(&storage);
    let is_root = originals.as_ref().is_some_and(|root| root.is_root(path));
    if is_root && arguments.repo.is_some() {
        let what = format!("import {}: it is the root of the store itself", shown(path));
        return Err(Failure::usage(what).hint(
            "leave out `--repo` to store what readers skip there; to store all of it under another name, import a copy of the folder",
        ));
    }
    let read = originals::leave_what_is_read(&mut files, path, originals.as_ref());
    let mut importer = Importer::new(&storage, turn);
    let has_refused_names = names::leave_out(&mut files, &mut importer);
    let has_found =
        !files.found.is_empty() || own.as_ref().is_some_and(|own| repositories(own).next().is_some());
    if let Some(project) = project.filter(|_| has_found) {
        let repo = match arguments.dry_run {
            true => storage.find_repo_at(project)?,
            false => storage.repo_at(project)?,
        };
        app.repo_notices(&repo);
    }
    let longest = storage.config().file.max_document_size;
    in_the_order_of_time(&mut files.found, longest);
    if let Some(own) = own {
        let imported = own::import(app, &own, &storage, &mut importer, arguments.repo.as_deref());
        if imported.is_err() {
            not_ended(app);
        }
        imported?;
    }
    let progress = Progress::of_items(files.found.len() as u64, app.terminal);
    let mut done = Done::new(path, originals.as_ref());
    for (at, file) in files.found.iter().enumerate() {
        let (original, refused) = (done.before(&file.path), importer.refusals.len());
        let imported = one(&storage, &mut importer, file, files.found.get(at + 1));
        done.after(file, original, importer.refusals.len() == refused);
        importer.count_as(words(file.kind));
        if let Err(error) = imported {
            importer.refusals.iter().for_each(|refusal| app.error(refusal));
            not_ended(app);
            return Err(error);
        }
        progress.ended(at as u64 + 1, String::new());
    }
    drop(progress);
    if !arguments.dry_run {
        done.mark(&files.indexes)?;
    }
    if !has_found && read == 0 && importer.refusals.is_empty() {
        app.note(&format!("{}: nothing to import was found", shown(path)));
    }
    if read > 0 {
        app.note(&format!(
            "{} of this root not imported: readers read them where they are",
            counted(read, "file")
        ));
    }
    if importer.superseded > 0 {
        app.note(&format!(
            "{} older than a checkpoint of the job: stored as a document of the kind `states`, so that no job resumes from it",
            counted(importer.superseded, "state")
        ));
    }
    print_refusals(app, &importer);
    if has_refused_names {
        app.hint("to import what has such a name, copy the folder, change the name everywhere in the copy, and import the copy");
    }
    // For the root itself, the doctor reports unknown files.
    for unknown in files.unknown.iter().filter(|_| !is_root) {
        app.skipped(&format!(
            "{}: import does not support this kind of file",
            unknown.display()
        ));
    }
    for other in &files.other {
        app.skipped(&format!(
            "{}: left out: it is a link, or another thing that is no file",
            other.display()
        ));
    }
    report(app, &importer, arguments.dry_run)
}

/// Says that a job may be there in part.
fn not_ended(app: &mut App<'_>) {
    app.note("the import has not ended: what it stored so far stays, and jobs may lack data; run the same command again, which continues");
}

/// True if two paths lead to one folder.
fn is_same(one: &Path, other: &Path) -> bool {
    one.canonicalize()
        .is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

/// Copies standard input to a temporary file.
fn keep(app: &mut App<'_>) -> io::Result<NamedTempFile> {
    let mut kept = NamedTempFile::new()?;
    io::copy(&mut app.input, &mut kept)?;
    Ok(kept)
}

/// Imports a file of `export`, whose name in messages is `shown`.
fn file(app: &mut App<'_>, arguments: &ImportArgs, path: &Path, shown: &str) -> Result<Exit> {
    lines::check(path, shown)?;
    let storage = app.open(arguments.access())?;
    let turn = Turn::of(app, &storage, arguments.dry_run)?;
    let mut importer = Importer::new(&storage, turn);
    let (repo, job) = (arguments.repo.as_deref(), arguments.job.as_deref());
    if let Err(failure) = import_lines(&storage, &mut importer, (path, shown), repo, job) {
        not_ended(app);
        return Err(failure);
    }
    print_refusals(app, &importer);
    report(app, &importer, arguments.dry_run)
}

/// Imports a file that `export` wrote; `shown` is its name in messages. Events come first, so that checkpoints find
/// their positions in the log.
fn import_lines(
    storage: &Storage,
    importer: &mut Importer<'_>,
    (path, shown): (&Path, &str),
    repo: Option<&str>,
    job: Option<&str>,
) -> Result<()> {
    let mut export = lines::check(path, shown)?;
    let job = storage
        .repo(repo.unwrap_or(&export.repo))?
        .job(job.unwrap_or(&export.job))?;
    let refused = importer.refusals.len();
    importer.keys = std::mem::take(&mut export.keys);
    let place = |number: u64| format!("{shown} line {number}");
    let mut events = store::Events::default();
    lines::each(path, shown, |number, line| {
        if let Some(record) = line.record {
            importer.event_line(&job, &place(number), record.get().as_bytes(), &mut events)?;
        }
        Ok(())
    })?;
    importer.append(&job, &mut events)?;
    let ids = importer.event_ids();
    importer.verify_events(&job)?;
    importer.count_as(words(Kind::Events));
    let cursors = lines::cursors(&export, &ids, &job)?;
    let mut is_finished = false;
    lines::each(path, shown, |number, line| {
        let place = place(number);
        let kind = match line.kind.as_str() {
            "checkpoint" => {
                match line.state(&cursors) {
                    Some(state) => importer.state(&job, &place, state)?,
                    None => importer.refuse(&place, "it is not a checkpoint"),
                }
                Kind::Checkpoint
            }
            "document" => {
                match (&line.of, &line.name, line.data) {
                    (Some(of), Some(name), Some(data)) => match job.documents(of) {
                        Ok(documents) => importer.value(&documents, &place, name, data)?,
                        Err(error) => importer.refuse(&place, format!("{error:#}")),
                    },
                    _ => importer.refuse(&place, "it is not a document"),
                }
                Kind::JobDocument("documents")
            }
            "orphan" => {
                line.orphan
                    .iter()
                    .try_for_each(|orphan| importer.orphan(&job, orphan))?;
                Kind::Orphans
            }
            "dead_letter" => {
                line.item
                    .iter()
                    .try_for_each(|item| importer.letter(&job, &place, item))?;
                Kind::Letters
            }
            "finished" => {
                is_finished = true;
                return Ok(());
            }
            _ => return Ok(()),
        };
        importer.count_as(words(kind));
        Ok(())
    })?;
    importer.verify_letters(&job)?;
    if is_finished && !importer.dry && importer.refusals.len() == refused {
        job.finish()?;
    }
    Ok(())
}

/// Sorts the states of a job by time: the newest is stored last, since a job resumes from it.
fn in_the_order_of_time(files: &mut Vec<ImportFile>, longest: u64) {
    let mut timed: Vec<_> = files
        .drain(..)
        .map(|file| {
            let time = (file.kind == Kind::Checkpoint).then(|| store::time_of(&file.path, longest));
            (file, time.flatten())
        })
        .collect();
    timed.sort_by(|(a, at), (b, other)| (&a.repo, &a.job, a.kind, at).cmp(&(&b.repo, &b.job, b.kind, other)));
    files.extend(timed.into_iter().map(|(file, _)| file));
}

/// Imports a file. After the last file of events or dead letters of a job, compares the stored data with the imported
/// data.
fn one(
    storage: &Storage,
    importer: &mut Importer<'_>,
    file: &ImportFile,
    next: Option<&ImportFile>,
) -> Result<()> {
    let repo = storage.repo(RepoName::new(file.repo.as_deref().unwrap_or_default())?)?;
    let job = |file: &ImportFile| -> Result<Job> {
        let id = JobId::new(file.job.as_deref().unwrap_or_default())?;
        Ok(repo.job(id.as_str())?)
    };
    let is_same =
        |next: &ImportFile| (next.kind, &next.repo, &next.job) == (file.kind, &file.repo, &file.job);
    let is_last = !next.is_some_and(is_same);
    match file.kind {
        Kind::Events => {
            let job = job(file)?;
            importer.events(&job, &file.path)?;
            if is_last {
                importer.verify_events(&job)?;
            }
        }
        Kind::Letters => {
            let job = job(file)?;
            importer.letters(&job, &file.path)?;
            if is_last {
                importer.verify_letters(&job)?;
            }
        }
        Kind::Checkpoint => importer.checkpoint(&job(file)?, &file.path)?,
        Kind::Orphans => importer.orphans(&job(file)?, &file.path)?,
        Kind::JobDocument(kind) => importer.document(&job(file)?.documents(kind)?, &file.path)?,
        Kind::RepoDocument(kind) => importer.document(&repo.documents(kind)?, &file.path)?,
    }
    Ok(())
}

fn print_refusals(app: &mut App<'_>, importer: &Importer<'_>) {
    for refusal in &importer.refusals {
        app.error(&format!("left out: {refusal}"));
    }
}

/// Prints the counts. The command fails if a value was refused.
fn report(app: &mut App<'_>, importer: &Importer<'_>, dry: bool) -> Result<Exit> {
    let mut table = Table::new([
        Column::word("KIND"),
        Column::number(if dry { "WOULD STORE" } else { "STORED" }),
        Column::number("KNOWN"),
        Column::number("LEFT OUT"),
    ]);
    for (kind, count) in &importer.counts {
        let (stored, known, refused) = (count.stored, count.known, count.refused);
        if app.json() {
            app.json_line(
                &json!({"kind": kind, "stored": stored, "known": known, "left_out": refused, "dry_run": dry}),
            )?;
        } else {
            let row = [stored, known, refused].map(|count| count.to_string());
            table.row(app, std::iter::once((*kind).to_owned()).chain(row))?;
        }
    }
    table.print(app)?;
    Ok(match importer.refusals.is_empty() {
        true => Exit::Done,
        false => Exit::Failed,
    })
}
