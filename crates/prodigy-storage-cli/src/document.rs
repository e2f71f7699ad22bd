//! The command `document`.

use std::collections::BTreeSet;

use clap::Subcommand;
use prodigy_storage::{
    DocumentInfo, DocumentKind, DocumentName, DocumentOptions, Documents, Expected, Fence, JobId, Listing,
    LockName, RemovalKind, Repo, Revision, Storage,
};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::app::{Access, App};
use crate::audit::Audited;
use crate::checkpoint::expected;
use crate::copy::must_be_there;
use crate::errors::{Failure, Result};
use crate::exit::Exit;
use crate::input::InputArgs;
use crate::job::RepoArgs;
use crate::near::Near;
use crate::output::bytes;
use crate::shell::flags;
use crate::table::{Column, Table};
use crate::time::Times;

#[derive(Debug, Subcommand)]
pub(crate) enum DocumentCommand {
    /// List the documents, by kind and name.
    List(ListArgs),
    /// Print a document.
    Show(ShowArgs),
    /// Store a document (any JSON value), replacing an existing one.
    Put(PutArgs),
    /// Delete a document.
    Delete(DeleteArgs),
}

/// The owner of the documents.
#[derive(Debug, clap::Args)]
struct OwnerArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// The job's id; without it, the documents belong to the repository itself.
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
}

/// The document.
#[derive(Debug, clap::Args)]
struct NameArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// The kind of the document.
    #[arg(long, value_name = "KIND")]
    kind: String,
    /// The name of the document.
    #[arg(long, value_name = "NAME")]
    name: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// Only this kind; by default every kind.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    at: NameArgs,
    /// Print only the value, byte for byte as it is stored.
    #[arg(long)]
    payload: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PutArgs {
    #[command(flatten)]
    at: NameArgs,
    /// Store only if the existing document has this revision; `absent`: only if there is no document.
    #[arg(long, value_name = "R", value_parser = expected)]
    expected_revision: Option<Expected>,
    #[command(flatten)]
    input: InputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    at: NameArgs,
    /// Delete it only if it has this revision.
    #[arg(long, value_name = "R")]
    expected_revision: Option<Revision>,
}

pub(crate) fn run(app: &mut App<'_>, command: DocumentCommand) -> Result<Exit> {
    match command {
        DocumentCommand::List(arguments) => list(app, &arguments),
        DocumentCommand::Show(arguments) => show(app, &arguments),
        DocumentCommand::Put(arguments) => put(app, &arguments),
        DocumentCommand::Delete(arguments) => delete(app, &arguments),
    }
}

/// The owner of the documents, in open storage.
struct Owner {
    storage: Storage,
    repo: Repo,
    job: Option<JobId>,
    /// True if the command line names the repository.
    is_named: bool,
}

impl OwnerArgs {
    /// Checks the names, then opens storage.
    fn open(&self, app: &mut App<'_>, access: Access) -> Result<Owner> {
        let name = self.repo.name()?;
        let job = self.job.as_ref().map(JobId::new).transpose()?;
        let storage = app.open(access)?;
        let repo = app.repo(&storage, name.as_ref())?;
        Ok(Owner {
            storage,
            repo,
            job,
            is_named: name.is_some(),
        })
    }
}

impl NameArgs {
    /// Checks the names, then opens storage.
    fn open(&self, app: &mut App<'_>, access: Access) -> Result<(Owner, Documents)> {
        DocumentKind::new(&self.kind)?;
        DocumentName::new(&self.name)?;
        let owner = self.owner.open(app, access)?;
        let documents = owner.documents(&self.kind)?;
        Ok((owner, documents))
    }
}

impl Owner {
    fn documents(&self, kind: &str) -> Result<Documents> {
        Ok(match &self.job {
            Some(job) => self.repo.job(job)?.documents(kind)?,
            None => self.repo.documents(kind)?,
        })
    }

    fn all(&self) -> Result<Listing<DocumentInfo>> {
        Ok(match &self.job {
            Some(job) => self.repo.job(job)?.all_documents(),
            None => self.repo.all_documents(),
        })
    }

    /// The removal of one of the documents, for the audit log.
    fn removal(&self) -> Result<Audited<'_>> {
        const COMMAND: &str = "document delete";
        Ok(match &self.job {
            Some(job) => {
                let job = self.repo.job(job)?;
                Audited::new(&self.storage, RemovalKind::Documents, job.address(), COMMAND)
            }
            None => Audited::of_repo(&self.storage, RemovalKind::Documents, self.repo.name(), COMMAND),
        })
    }

    /// The command that lists the documents.
    fn list_command(&self) -> String {
        let job = self.job.as_ref().map(|job| ("--job", job.as_str()));
        let owner = flags([("--repo", self.repo.name().as_str())].into_iter().chain(job));
        format!("prodigy-storage document list {owner}")
    }

    /// The job or the repository that the documents belong to, in words.
    fn words(&self) -> String {
        match &self.job {
            Some(job) => format!("the job `{job}` of the repository `{}`", self.repo.name()),
            None => format!("the repository `{}`", self.repo.name()),
        }
    }

    /// Fails with [`Exit::Missing`] if nothing is stored for the job, or under the name of the repository.
    fn must_be_known(&self) -> Result<()> {
        match (&self.job, self.is_named) {
            (Some(job), _) => must_be_there(&self.storage, Some(self.repo.name()), Some(job)),
            (None, true) => must_be_there(&self.storage, Some(self.repo.name()), None),
            (None, false) => Ok(()),
        }
    }

    /// The failure for a kind without a document. It lists the kinds that have one.
    fn no_kind(&self, kind: &str) -> Result<Failure> {
        self.must_be_known()?;
        let mut kinds = BTreeSet::new();
        for found in self.all()? {
            kinds.insert(found?.kind.to_string());
        }
        let mut near = Near::to(kind);
        kinds.iter().for_each(|kind| near.offer(kind));
        let what = format!("no document of kind `{kind}` in {}", self.words());
        let hint = near.hint(
            "kinds",
            &format!("`{}` lists the documents of all", self.list_command()),
        );
        Ok(Failure::new(Exit::Missing, what).hint(hint))
    }

    /// The failure for a document that does not exist. It lists some that do.
    fn missing(&self, at: &NameArgs) -> Result<Failure> {
        self.must_be_known()?;
        let what = format!(
            "no document `{}` of kind `{}` in {}",
            at.name,
            at.kind,
            self.words()
        );
        let wanted = format!("{}/{}", at.kind, at.name);
        let mut near = Near::to(&wanted);
        for found in self.all()? {
            let found = found?;
            near.offer(&format!("{}/{}", found.kind, found.name));
        }
        let hint = near.hint("documents", &format!("`{}` lists them", self.list_command()));
        Ok(Failure::new(Exit::Missing, what).hint(hint))
    }
}

fn list(app: &mut App<'_>, arguments: &ListArgs) -> Result<Exit> {
    let owner = arguments.owner.open(app, Access::Read)?;
    let entries = match &arguments.kind {
        Some(kind) => owner.documents(kind)?.list(),
        None => owner.all()?,
    };
    let times = Times::new(app.width.is_some());
    let mut table = Table::new([
        Column::name("KIND"),
        Column::word(times.heading("STORED")),
        Column::number("SIZE"),
        Column::name("NAME"),
    ]);
    let mut any = false;
    for entry in entries {
        let entry = entry?;
        any = true;
        if entry.bytes == 0 {
            app.damaged(&format!(
                "the document {}/{} is an empty file",
                entry.kind, entry.name
            ));
        }
        if app.json() {
            app.json_line(&json!({
                "kind": entry.kind,
                "name": entry.name,
                "modified": entry.modified.to_rfc3339(),
                "bytes": entry.bytes,
            }))?;
        } else {
            let row = [
                entry.kind.to_string(),
                times.cell(entry.modified),
                bytes(entry.bytes),
                entry.name.to_string(),
            ];
            table.row(app, row)?;
        }
    }
    table.print(app)?;
    match &arguments.kind {
        _ if any => Ok(Exit::Done),
        Some(kind) => Err(owner.no_kind(kind)?),
        None => owner.must_be_known().map(|()| Exit::Done),
    }
}

/// The output of `show`; the value comes last.
#[derive(Serialize)]
struct Shown<'a> {
    kind: &'a str,
    name: &'a str,
    revision: Revision,
    #[serde(skip_serializing_if = "Option::is_none")]
    saved_at: Option<String>,
    verified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fencing: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fencing_lock: Option<&'a str>,
    data: &'a RawValue,
}

fn show(app: &mut App<'_>, arguments: &ShowArgs) -> Result<Exit> {
    let at = &arguments.at;
    let (owner, documents) = at.open(app, Access::Read)?;
    let Some(found) = documents.get_raw(&at.name)? else {
        return Err(owner.missing(at)?);
    };
    if arguments.payload {
        app.line(found.data.get())?;
    } else {
        app.json_line(&Shown {
            kind: found.kind.as_str(),
            name: found.name.as_str(),
            revision: found.revision,
            saved_at: found.saved_at.map(|time| time.to_rfc3339()),
            verified: found.verified,
            fencing: found.fencing.as_ref().map(Fence::token),
            fencing_lock: found.fencing.as_ref().and_then(Fence::lock).map(LockName::as_str),
            data: &found.data,
        })?;
    }
    Ok(Exit::Done)
}

fn put(app: &mut App<'_>, arguments: &PutArgs) -> Result<Exit> {
    let at = &arguments.at;
    let (mut owner, _) = at.open(app, Access::Write)?;
    let longest = owner.storage.config().file.max_document_size;
    let value = arguments.input.document(app, longest)?;
    if !owner.is_named {
        owner.repo = app.register_here(&owner.storage)?;
    }
    let documents = owner.documents(&at.kind)?;
    let options = DocumentOptions::new().expected_revision(arguments.expected_revision.unwrap_or_default());
    let revision = documents.put(&at.name, &value, options)?;
    if app.json() {
        app.json_line(&json!({"kind": at.kind, "name": at.name, "revision": revision}))?;
    } else {
        app.line(format!("put {}/{}, revision {revision}", at.kind, at.name))?;
    }
    Ok(Exit::Done)
}

fn delete(app: &mut App<'_>, arguments: &DeleteArgs) -> Result<Exit> {
    let at = &arguments.at;
    let (owner, documents) = at.open(app, Access::Write)?;
    let expected = arguments.expected_revision.map(Expected::Revision);
    let options = DocumentOptions::new().expected_revision(expected.unwrap_or_default());
    let Some(stored) = stored(&documents, &at.name)? else {
        return Err(owner.missing(at)?);
    };
    let removal = owner.removal()?.size(1, stored.bytes);
    let (is_deleted, exit) = removal.make_one(app, || documents.delete(&at.name, options))?;
    if !is_deleted {
        return Err(owner.missing(at)?);
    }
    if app.json() {
        app.json_line(&json!({"kind": at.kind, "name": at.name}))?;
    } else {
        app.line(format!("deleted {}/{}", at.kind, at.name))?;
    }
    Ok(exit)
}

/// Finds a document by its name. Its contents are not read, so a damaged document can be deleted, too.
fn stored(documents: &Documents, name: &str) -> Result<Option<DocumentInfo>> {
    for found in documents.list() {
        let found = found?;
        if found.name.as_str() == name {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
