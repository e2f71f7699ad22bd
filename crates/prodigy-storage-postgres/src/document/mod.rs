//! Documents.

mod key;

use std::path::Path;

use prodigy_storage_backend::{
    Added, Body, Deadline, DocumentEntry, DocumentStore, Durability, ErrorKind, Expected, Fence, FenceMarks,
    Page, PageOptions, PutOptions, Result, Revision, StorageError, StoredDocument, time_to_store,
};
use prodigy_storage_layout::{Document, DocumentScope, Entry, JobAddress, Phase, Stamp, Timestamp};
use tokio_postgres::Row;
use uuid::Uuid;

pub(crate) use key::{FINISHED, OWN};

use crate::backend::PostgresBackend;
use crate::job::{self, JOB, TRIES, deleted_meanwhile};
use crate::moved;
use crate::session::Session;
use crate::sql::{Sql, column, first, rows, server_now};

const PUT: &str = "put document";
const ADD: &str = "add document";
const DELETE: &str = "delete document";
const RAISE: &str = "raise fencing mark";

/// The revision of the document that marks a job as finished.
pub(crate) async fn end_mark(session: &mut Session, job: &JobAddress) -> Result<Option<Revision>> {
    let mark = revision_of(&Document::Finished(job.clone()));
    revision_in(rows(&session.read(vec![mark]).await?, 0))
}

/// The SQL expression for the id of the document's owner. It uses the first two parameters.
fn owner(document: &Document) -> &'static str {
    if document.job().is_some() {
        JOB
    } else {
        "(select id from @.job where id = 0 and $1::text <> $2::text)"
    }
}

/// Selects and locks the row of the document's owner, unless the owner was moved to another store. The lock
/// prevents that the owner is deleted or moved before the commit. It uses the first two parameters.
fn open_owner(document: &Document) -> String {
    let covered = match document.job() {
        Some(_) => String::new(),
        None => format!(" and not {}", moved::is_covered("$1", "$2")),
    };
    let owner = owner(document);
    format!("(select id from @.job where id = {owner} and not deleted and not moved{covered} for share)")
}

/// A statement whose first three parameters name a document.
fn of(document: &Document, text: impl Into<String>) -> Sql {
    let (repo, name) = match document.job() {
        Some(job) => (job.repo.as_str().to_owned(), job.job.as_str().to_owned()),
        None => (document.repo().as_str().to_owned(), String::new()),
    };
    let text = text.into().replace("{open owner}", &open_owner(document));
    Sql::new(text.replace("{owner}", owner(document)))
        .arg(repo)
        .arg(name)
        .arg(key::key(document))
}

fn revision_of(document: &Document) -> Sql {
    of(
        document,
        "select revision from @.document where job = {owner} and key = $3",
    )
    .frequent()
}

/// A document to be written: its body and the columns that describe it.
struct New {
    document: Document,
    body: Vec<u8>,
    revision: Uuid,
}

impl New {
    fn of(document: &Document, body: Body<'_>) -> Self {
        Self {
            document: document.clone(),
            body: body.as_bytes().to_vec(),
            revision: Uuid::new_v4(),
        }
    }

    fn revision(&self) -> Revision {
        Revision::from_u128(self.revision.as_u128())
    }

    /// The statement that writes the document if the condition is met; it then returns a row.
    fn write(&self, expected: Expected) -> Sql {
        let document = &self.document;
        let insert = "insert into @.document (job, key, repo, kind, series, label, path, revision, modified, body) \
                      select o.id, $3, $4, $5, $6, $7, $8, $9, {now}, $10 from {open owner} o \
                      on conflict (job, key) do ";
        let update =
            "update set body = excluded.body, revision = excluded.revision, modified = excluded.modified";
        let text = match expected {
            Expected::Any => format!("{insert} {update} returning 1"),
            Expected::Absent => format!("{insert} nothing returning 1"),
            Expected::Revision(_) => "with o as {open owner} \
                                      update @.document d set body = $5, revision = $4, modified = {now} \
                                      from o where d.job = o.id and d.key = $3 and d.revision = $6 returning 1"
                .to_owned(),
        };
        let sql = of(document, text).frequent();
        match expected {
            Expected::Revision(wanted) => sql.arg(self.revision).arg(self.body.clone()).arg(uuid_of(wanted)),
            _ => sql
                .arg(document.repo().as_str().to_owned())
                .arg(i32::from(key::kind(document)))
                .arg(key::series(document))
                .arg(key::label(document))
                .arg(Entry::Document(document.clone()).path().display().to_string())
                .arg(self.revision)
                .arg(self.body.clone()),
        }
    }
}

fn uuid_of(revision: Revision) -> Uuid {
    // The 32 hexadecimal digits of a revision are a valid form of a UUID.
    Uuid::try_parse(&revision.to_string()).unwrap_or_default()
}

fn revision_in(rows: &[Row]) -> Result<Option<Revision>> {
    let found: Option<Uuid> = first(rows, 0)?;
    Ok(found.map(|found| Revision::from_u128(found.as_u128())))
}

/// Puts a document without a fencing token: check of the condition and write are a single statement.
async fn put(session: &mut Session, new: &New, options: &PutOptions) -> Result<Revision> {
    for _ in 0..TRIES {
        let mut statements: Vec<Sql> = new.document.job().map(job::make).into_iter().collect();
        let write = statements.len();
        statements.push(new.write(options.expected));
        statements.push(revision_of(&new.document));
        let answers = session.write(options.durability, statements).await?;
        if !rows(&answers, write).is_empty() {
            return Ok(new.revision());
        }
        moved::refuse(session, &moved::part_of(&new.document)).await?;
        let found = revision_in(rows(&answers, write + 1))?;
        check_expected(session, options.expected, found)?;
        // The condition is met now although the write was refused: the job was deleted meanwhile, or the document
        // was created and deleted. The write is tried again.
    }
    Err(deleted_meanwhile(session))
}

/// Puts a document under a fencing token: the check of the token and the write are one critical section.
async fn put_fenced(
    session: &mut Session,
    new: &New,
    job: &JobAddress,
    fence: &Fence,
    options: &PutOptions,
) -> Result<Revision> {
    let look = || vec![revision_of(&new.document)];
    let locked = job::begin(session, job, Some(fence), options.durability, look).await?;
    check_or_roll_back(session, options.expected, revision_in(rows(&locked.answers, 0))?).await?;
    locked.finish(session, [new.write(Expected::Any)]).await?;
    Ok(new.revision())
}

/// Checks the condition of a write in an open transaction. Rolls back and fails if it is not met.
async fn check_or_roll_back(
    session: &mut Session,
    expected: Expected,
    found: Option<Revision>,
) -> Result<()> {
    if let Err(error) = check_expected(session, expected, found) {
        session.roll_back().await?;
        return Err(error);
    }
    Ok(())
}

fn check_expected(session: &Session, expected: Expected, found: Option<Revision>) -> Result<()> {
    let why = match (expected, found) {
        (Expected::Any, _) | (Expected::Absent, None) => return Ok(()),
        (Expected::Revision(wanted), Some(found)) if found == wanted => return Ok(()),
        (Expected::Absent, Some(found)) => {
            format!("no document was expected, but there is one with revision {found}")
        }
        (Expected::Revision(wanted), Some(found)) => {
            format!("revision {wanted} was expected, but the document has {found}")
        }
        (Expected::Revision(wanted), None) => {
            format!("revision {wanted} was expected, but the document is absent")
        }
    };
    Err(
        StorageError::new(ErrorKind::Conflict, session.operation, &session.target, why)
            .with_hint("someone else wrote it: read it again and decide"),
    )
}

/// The document whose path is stored in a row.
fn document_in(path: &str) -> Result<Document> {
    match Entry::parse(Path::new(path)) {
        Some(Entry::Document(document)) => Ok(document),
        _ => Err(StorageError::new(
            ErrorKind::Damaged,
            "read document",
            path,
            "the row names no document",
        )
        .with_hint("keep the row, and compare it with a backup")),
    }
}

fn entry(row: &Row) -> Result<DocumentEntry> {
    let (bytes, modified): (i64, i64) = (column(row, 1)?, column(row, 2)?);
    Ok(DocumentEntry::new(
        document_in(column(row, 0)?)?,
        bytes.unsigned_abs(),
        Timestamp::from_nanos(modified),
    ))
}

const ENTRY: &str = "select d.path, octet_length(d.body)::bigint, d.modified from @.document d";

/// Adds a document to a series. Its stamp is greater than all stamps that this project gave in the job.
async fn add(
    session: &mut Session,
    job: &JobAddress,
    phase: Phase,
    body: Vec<u8>,
    options: &PutOptions,
) -> Result<Added> {
    let look = || {
        // Looks up each series by the one after it in the index, so the cost does not depend on the number of
        // checkpoints.
        let last = |below: &str| {
            format!(
                "select series, path, revision from @.document where job = {JOB} and {below} order by series desc, key desc limit 1"
            )
        };
        let newest = format!(
            "with recursive s as (({}) union all select n.* from s cross join lateral ({}) n) select path, revision from s",
            last("series is not null"),
            last("series < s.series")
        );
        vec![job::of_job(newest, job).frequent(), server_now()]
    };
    let fence = options.fencing.as_ref();
    let locked = job::begin(session, job, fence, options.durability, look).await?;
    let now: i64 = first(rows(&locked.answers, 1), 0)?.unwrap_or_default();
    let mut stamp = options
        .not_before
        .unwrap_or(Timestamp::MIN)
        .max(Timestamp::from_nanos(now));
    let mut newest = None;
    for row in rows(&locked.answers, 0) {
        let document = document_in(column(row, 0)?)?;
        let is_ours = document.phase() == Some(phase);
        if is_ours {
            let revision: Uuid = column(row, 1)?;
            newest = Some(Revision::from_u128(revision.as_u128()));
        }
        // The name of another program's document comes from that program's clock, so it raises only the stamps of
        // its own series.
        if let Some(of) = document.stamp().filter(|of| is_ours || of.is_canonical()) {
            stamp = stamp.max(of.time().next());
        }
    }
    check_or_roll_back(session, options.expected, newest).await?;
    let document = Document::checkpoint(job, phase, Stamp::from(stamp).with_key(options.key.clone()));
    let new = New {
        document,
        body,
        revision: Uuid::new_v4(),
    };
    locked.finish(session, [new.write(Expected::Any)]).await?;
    let revision = new.revision();
    Ok(Added {
        document: new.document,
        revision,
    })
}

async fn delete(
    session: &mut Session,
    document: &Document,
    expected: Expected,
    durability: Durability,
    fence: Option<&Fence>,
) -> Result<bool> {
    let remove = |condition: &str| {
        of(
            document,
            format!(
                "with o as {{open owner}} delete from @.document d using o where d.job = o.id and d.key = $3{condition} returning 1"
            ),
        )
    };
    if let (Some(job), Some(fence)) = (document.job(), fence) {
        let look = || vec![revision_of(document)];
        let locked = job::begin(session, job, Some(fence), durability, look).await?;
        let found = revision_in(rows(&locked.answers, 0))?;
        check_or_roll_back(session, expected, found).await?;
        locked.finish(session, [remove("")]).await?;
        return Ok(found.is_some());
    }
    let statement = match expected {
        Expected::Any => remove(""),
        Expected::Absent => remove(" and false"),
        Expected::Revision(wanted) => remove(" and d.revision = $4").arg(uuid_of(wanted)),
    };
    let answers = session
        .write(durability, vec![statement, revision_of(document)])
        .await?;
    if !rows(&answers, 0).is_empty() {
        return Ok(true);
    }
    moved::refuse(session, &moved::part_of(document)).await?;
    check_expected(session, expected, revision_in(rows(&answers, 1))?)?;
    Ok(false)
}

impl DocumentStore for PostgresBackend {
    fn get(&self, document: &Document, deadline: Deadline) -> Result<Option<StoredDocument>> {
        let get = of(
            document,
            "select body, revision from @.document where job = {owner} and key = $3",
        )
        .frequent();
        self.db().call(
            "get document",
            document,
            deadline,
            move |mut session| async move {
                let answers = session.read(vec![get]).await?;
                let Some(row) = rows(&answers, 0).first() else {
                    return Ok(None);
                };
                let (body, revision): (Vec<u8>, Uuid) = (column(row, 0)?, column(row, 1)?);
                Ok(Some(StoredDocument::new(
                    body,
                    0,
                    Revision::from_u128(revision.as_u128()),
                    true,
                )))
            },
        )
    }

    fn revision(&self, document: &Document, deadline: Deadline) -> Result<Option<Revision>> {
        let get = revision_of(document);
        self.db().call(
            "get revision",
            document,
            deadline,
            move |mut session| async move { revision_in(rows(&session.read(vec![get]).await?, 0)) },
        )
    }

    fn put(
        &self,
        document: &Document,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Revision> {
        body.check_size(self.options().max_document_size, PUT, document)?;
        time_to_store(&*self.options().clock, PUT, document)?;
        FenceMarks::check_target(PUT, document, options.fencing.as_ref())?;
        let (new, options) = (New::of(document, body), options.clone());
        let revision = self
            .db()
            .call(PUT, document, deadline, move |mut session| async move {
                match (new.document.job().cloned(), &options.fencing) {
                    (Some(job), Some(fence)) => put_fenced(&mut session, &new, &job, fence, &options).await,
                    _ => put(&mut session, &new, &options).await,
                }
            })?;
        if let Document::Finished(job) = document {
            self.announce(job);
        }
        self.counters().documents();
        Ok(revision)
    }

    fn add(
        &self,
        job: &JobAddress,
        phase: Phase,
        body: Body<'_>,
        options: &PutOptions,
        deadline: Deadline,
    ) -> Result<Added> {
        body.check_size(self.options().max_document_size, ADD, job)?;
        time_to_store(&*self.options().clock, ADD, job)?;
        let (of, body, options) = (job.clone(), body.as_bytes().to_vec(), options.clone());
        let target = format!("{job} {phase}");
        let added = self
            .db()
            .call(ADD, &target, deadline, move |mut session| async move {
                add(&mut session, &of, phase, body, &options).await
            })?;
        self.counters().documents();
        Ok(added)
    }

    fn delete(
        &self,
        document: &Document,
        expected: Expected,
        durability: Durability,
        fence: Option<&Fence>,
        deadline: Deadline,
    ) -> Result<bool> {
        FenceMarks::check_target(DELETE, document, fence)?;
        let (of, fence) = (document.clone(), fence.cloned());
        let deleted = self
            .db()
            .call(DELETE, document, deadline, move |mut session| async move {
                delete(&mut session, &of, expected, durability, fence.as_ref()).await
            })?;
        if deleted {
            self.counters().documents();
        }
        Ok(deleted)
    }

    fn raise_mark(&self, job: &JobAddress, fence: &Fence, deadline: Deadline) -> Result<()> {
        let (of, fence) = (job.clone(), fence.clone());
        self.db()
            .call(RAISE, job, deadline, move |mut session| async move {
                let strict = Durability::Strict;
                let locked = job::begin(&mut session, &of, Some(&fence), strict, Vec::new).await?;
                locked.finish(&mut session, []).await.map(drop)
            })
    }

    fn list(
        &self,
        scope: &DocumentScope,
        page: &PageOptions<Document>,
        deadline: Deadline,
    ) -> Result<Page<DocumentEntry, Document>> {
        let mut list = Sql::new("");
        let condition = key::scope(scope, &mut list);
        let after = page
            .after
            .as_ref()
            .map(|after| format!("and d.key > {}", list.push(key::key(after))));
        let limit = page.limit.clamp(1, 1 << 30);
        list.text = format!(
            "{ENTRY} where {condition} {} order by d.key limit {}",
            after.unwrap_or_default(),
            limit + 1
        )
        .into();
        self.db()
            .call("list documents", &"", deadline, move |mut session| async move {
                let answers = session.read(vec![list]).await?;
                let entries = rows(&answers, 0).iter().map(entry).collect::<Result<_>>()?;
                Ok(Page::up_to(limit, entries, |last| last.document.clone()))
            })
    }

    fn newest(
        &self,
        job: &JobAddress,
        phase: Phase,
        before: Option<&Document>,
        deadline: Deadline,
    ) -> Result<Option<DocumentEntry>> {
        if before.is_some_and(|before| before.phase() != Some(phase) || before.job() != Some(job)) {
            return Ok(None);
        }
        let text = format!(
            "{ENTRY} where d.job = {JOB} and d.series = $3 and ($4::bytea is null or d.key < $4) order by d.key desc limit 1"
        );
        let newest = job::of_job(text, job)
            .arg(phase.as_str().to_owned())
            .arg(before.map(key::key));
        self.db().call(
            "find newest document",
            job,
            deadline,
            move |mut session| async move {
                let answers = session.read(vec![newest]).await?;
                rows(&answers, 0).first().map(entry).transpose()
            },
        )
    }
}
