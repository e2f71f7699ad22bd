//! Promises of the marks on parts of a store that were moved to another store.

use std::time::Duration;

use prodigy_storage_layout::{
    Document, DocumentKind, DocumentName, DocumentOwner, JobAddress, JobId, LockName, Part, Phase, RepoName,
};

use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{
    Check, append, batch, entry, item, item_id, job, keys, object, payloads, put, read, refused, repo, soon,
    take, take_one, tokens,
};
use crate::backend::Backend;
use crate::clock::Clock;
use crate::document::{Expected, PutOptions};
use crate::error::{ErrorKind, Result, StorageError};
use crate::lock::LockOptions;
use crate::log::{AppendOptions, Durability};
use crate::moved::Moved;
use crate::page::Entries;
use crate::queue::{Change, Claim, Select, Settlement};

topic! { "moved":
    a_moved_job_takes_no_writes "each kind of write to a job with a mark is refused in every handle with the new place, and reads go on",
    a_part_with_a_mark_covers_its_parts "a mark of a repository or of the store covers its jobs, documents and named locks, and jobs that are new",
    a_job_at_work_gets_no_mark "a job gets no mark while its log is open for appends or one of its locks is held, after a later write, or once it is deleted",
    a_whole_with_another_job_gets_no_mark "a repository or a store gets no mark while it has a job without one, and then takes writes as before",
    marks_are_taken_away "without its mark a part takes writes again, and the marks within a part go with it",
    a_moved_job_is_deleted "a job with a mark is deleted as any other, and its mark stays",
    marks_are_listed "the marks that concern a part are listed in pages, in the order of the names",
    marks_outlive_the_process (Restart) "after a restart the marks are there",
}

const PLACE: &str = "postgresql://app@db.example.com/jobs";

/// True if the backend keeps such marks. Asks with a store that stays empty.
pub(super) fn is_supported(harness: &dyn Harness) -> Result<bool, Failure> {
    let backend = harness.open();
    let moved = Moved::new(Part::Store, PLACE, harness.clock().now());
    match backend.mark_moved(&moved, None, soon()) {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(false),
        Err(error) => Err(error.into()),
        Ok(()) => {
            backend.unmark_moved(&Part::Store, soon())?;
            Ok(true)
        }
    }
}

fn of(job: &JobAddress) -> Part {
    Part::Job(job.clone())
}

/// Marks a part as moved, on condition that it has not been written to since this call began.
fn mark(harness: &dyn Harness, backend: &dyn Backend, part: Part) -> Result<()> {
    let last = match &part {
        Part::Job(job) => backend.activity(job, soon())?.last_write,
        Part::Repository(_) | Part::Store => None,
    };
    backend.mark_moved(&Moved::new(part, PLACE, harness.clock().now()), last, soon())
}

/// Fills a job with data of each kind, and leaves it inactive.
fn fill(harness: &dyn Harness, backend: &dyn Backend, job: &JobAddress) -> Check {
    append(backend, job, &["1", "2"])?;
    backend.add(job, Phase::Map, object("{}")?, &PutOptions::default(), soon())?;
    put(harness, backend, job, &["x", "y"])?;
    backend.seal(job, soon())?;
    Ok(())
}

/// Each kind of write to a job, by name.
fn writes(
    harness: &dyn Harness,
    backend: &dyn Backend,
    job: &JobAddress,
) -> Result<Vec<(&'static str, Result<()>)>, Failure> {
    let options = PutOptions::default();
    let own = Document::Own(
        DocumentOwner::Job(job.clone()),
        DocumentKind::new("plans")?,
        DocumentName::new("a")?,
    );
    let letter = item("z", "1", harness.clock().now())?;
    let park = Settlement::new(Claim::Item(item_id("y")?), Change::Park { reason: None });
    Ok(vec![
        (
            "an append",
            backend
                .append(job, &mut batch(&["3"])?, &AppendOptions::default(), soon())
                .map(drop),
        ),
        (
            "a checkpoint",
            backend
                .add(job, Phase::Map, object("{}")?, &options, soon())
                .map(drop),
        ),
        (
            "a document",
            backend.put(&own, object("{}")?, &options, soon()).map(drop),
        ),
        (
            "a document where none is expected",
            backend
                .put(
                    &own,
                    object("{}")?,
                    &options.clone().expect(Expected::Absent),
                    soon(),
                )
                .map(drop),
        ),
        (
            "the mark of the end",
            backend
                .put(&Document::Finished(job.clone()), object("{}")?, &options, soon())
                .map(drop),
        ),
        (
            "a deletion of a document",
            backend
                .delete(&own, Expected::Any, Durability::Strict, None, soon())
                .map(drop),
        ),
        (
            "a dead letter",
            backend
                .queue_put(job, &[letter], Durability::Strict, None, soon())
                .map(drop),
        ),
        (
            "a take",
            backend
                .queue_take(job, &Select::eligible(), 1, Duration::from_secs(60), None, soon())
                .map(drop),
        ),
        (
            "a settlement",
            backend.queue_settle(job, &[park], None, soon()).map(drop),
        ),
        ("a named lock", lock(backend, &format!("{job}/resume"))),
    ])
}

fn lock(backend: &dyn Backend, name: &str) -> Result<()> {
    let invalid = |_| StorageError::invalid("test", name, "no name of a lock");
    let name = LockName::new(name).map_err(invalid)?;
    backend.lock(&name, &LockOptions::new("test"), soon())?.release()
}

fn all_are_refused(harness: &dyn Harness, backend: &dyn Backend, job: &JobAddress) -> Check {
    let is_empty = backend.queue_summary(job, soon())?.items == 0;
    for (what, outcome) in writes(harness, backend, job)? {
        // On an empty queue, a take and a settlement change nothing, so they may succeed.
        if is_empty && outcome.is_ok() && ["a take", "a settlement"].contains(&what) {
            continue;
        }
        let error = refused(outcome, ErrorKind::ReadOnly, what)?;
        ensure!(error.to_string().contains(PLACE), "{what}: no place in `{error}`");
    }
    Ok(())
}

fn all_are_accepted(harness: &dyn Harness, backend: &dyn Backend, job: &JobAddress) -> Check {
    for (what, outcome) in writes(harness, backend, job)? {
        match outcome {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            outcome => outcome.map_err(|error| Failure::new(format!("{what}: {error}")))?,
        }
    }
    backend.seal(job, soon())?;
    Ok(())
}

fn a_moved_job_takes_no_writes(harness: &dyn Harness) -> Check {
    let (one, two) = (harness.open(), harness.open());
    let (moved, other) = (job("moved")?, job("other")?);
    fill(harness, &*one, &moved)?;
    fill(harness, &*one, &other)?;
    let token = take_one(&*one, &moved)?;
    mark(harness, &*one, of(&moved))?;
    for backend in [&*one, &*two] {
        all_are_refused(harness, backend, &moved)?;
        let settle = Settlement::new(Claim::Lease(token.clone()), Change::Remove);
        let settled = backend.queue_settle(&moved, &[settle], None, soon());
        refused(settled, ErrorKind::ReadOnly, "an acknowledgement")?;
        ensure_eq!(payloads(&read(backend, &moved)?), ["1", "2"], "events");
        ensure_eq!(keys(backend, &moved)?.len(), 2, "dead letters");
        ensure!(entry(backend, &moved, "x")?.lease.is_some(), "the lease is gone");
    }
    all_are_accepted(harness, &*two, &other)
}

fn a_part_with_a_mark_covers_its_parts(harness: &dyn Harness) -> Check {
    let (one, two) = (harness.open(), harness.open());
    let (moved, new) = (job("moved")?, job("new")?);
    let elsewhere = JobAddress::new(RepoName::new("mill")?, JobId::new("a")?);
    fill(harness, &*one, &moved)?;
    mark(harness, &*one, of(&moved))?;
    mark(harness, &*one, Part::Repository(moved.repo.clone()))?;
    all_are_refused(harness, &*two, &moved)?;
    all_are_refused(harness, &*two, &new)?;
    let own = |repo: &RepoName| -> Result<Document, Failure> {
        let owner = DocumentOwner::Repo(repo.clone());
        Ok(Document::Own(
            owner,
            DocumentKind::new("plans")?,
            DocumentName::new("a")?,
        ))
    };
    let put_own = |repo: &RepoName| -> Result<Result<()>, Failure> {
        Ok(two
            .put(&own(repo)?, object("{}")?, &PutOptions::default(), soon())
            .map(drop))
    };
    refused(
        put_own(&moved.repo)?,
        ErrorKind::ReadOnly,
        "a document of the repository",
    )?;
    let entry = Document::Repository(moved.repo.clone());
    let registered = two.put(&entry, object("{}")?, &PutOptions::default(), soon());
    refused(registered, ErrorKind::ReadOnly, "an entry of the registry")?;
    refused(
        lock(&*two, "shop"),
        ErrorKind::ReadOnly,
        "a lock of the repository",
    )?;
    ensure_eq!(read(&*two, &new)?.len(), 0, "events of a job that is not there");

    fill(harness, &*two, &elsewhere)?;
    put_own(&elsewhere.repo)??;
    lock(&*two, "mill")?;
    mark(harness, &*one, of(&elsewhere))?;
    mark(harness, &*one, Part::Store)?;
    all_are_refused(harness, &*two, &elsewhere)?;
    refused(put_own(&elsewhere.repo)?, ErrorKind::ReadOnly, "a document")?;
    refused(lock(&*two, "any"), ErrorKind::ReadOnly, "a lock")?;
    // One job of a moved store can still be written to: the log in which removals from the store are recorded.
    let audit = JobAddress::new(RepoName::new("_audit")?, JobId::new("clean")?);
    append(&*two, &audit, &["1"])?;
    Ok(())
}

fn a_job_at_work_gets_no_mark(harness: &dyn Harness) -> Check {
    let (one, two) = (harness.open(), harness.open());
    let moved = job("moved")?;
    append(&*one, &moved, &["1"])?;
    refused(
        mark(harness, &*two, of(&moved)),
        ErrorKind::LockUnavailable,
        "a job whose log is open",
    )?;
    one.seal(&moved, soon())?;
    {
        let name = LockName::new("shop/moved/resume")?;
        let guard = one.lock(&name, &LockOptions::new("test"), soon())?;
        refused(
            mark(harness, &*two, of(&moved)),
            ErrorKind::LockUnavailable,
            "a job under a lock",
        )?;
        guard.release()?;
    }
    let last = two.activity(&moved, soon())?.last_write;
    harness.clock().advance(Duration::from_secs(1));
    append(&*one, &moved, &["2"])?;
    one.seal(&moved, soon())?;
    let stale = two.mark_moved(
        &Moved::new(of(&moved), PLACE, harness.clock().now()),
        last,
        soon(),
    );
    refused(stale, ErrorKind::Conflict, "a job that was written to")?;
    append(&*one, &moved, &["3"])?;
    ensure_eq!(payloads(&read(&*two, &moved)?), ["1", "2", "3"], "events");
    one.seal(&moved, soon())?;
    let last = two.activity(&moved, soon())?.last_write;
    ensure!(two.delete_job(&moved, None, soon())?, "the job is deleted");
    let gone = Moved::new(of(&moved), PLACE, harness.clock().now());
    refused(
        two.mark_moved(&gone, last, soon()),
        ErrorKind::NotFound,
        "a job that was deleted",
    )?;
    let jobs = Entries::new(|page| two.jobs(&moved.repo, page, soon()));
    ensure_eq!(jobs.count(), 0, "jobs after the refused mark");
    Ok(())
}

fn a_whole_with_another_job_gets_no_mark(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    let (moved, other) = (job("moved")?, job("other")?);
    fill(harness, &*backend, &moved)?;
    fill(harness, &*backend, &other)?;
    mark(harness, &*backend, of(&moved))?;
    for whole in [Part::Repository(moved.repo.clone()), Part::Store] {
        let refusal = refused(
            mark(harness, &*backend, whole),
            ErrorKind::Conflict,
            "a whole with another job",
        )?;
        ensure!(
            refusal.to_string().contains("shop/other"),
            "no job in `{refusal}`"
        );
    }
    all_are_accepted(harness, &*backend, &other)?;
    append(&*backend, &job("new")?, &["1"])?;
    Ok(())
}

fn marks_are_taken_away(harness: &dyn Harness) -> Check {
    let (one, two) = (harness.open(), harness.open());
    let (a, b) = (job("a")?, job("b")?);
    fill(harness, &*one, &a)?;
    fill(harness, &*one, &b)?;
    ensure_eq!(
        one.unmark_moved(&of(&a), soon())?,
        0,
        "marks that were never made"
    );
    mark(harness, &*one, of(&a))?;
    mark(harness, &*one, of(&b))?;
    ensure_eq!(two.unmark_moved(&of(&a), soon())?, 1, "the mark of a job");
    all_are_accepted(harness, &*one, &a)?;
    all_are_refused(harness, &*one, &b)?;
    harness.clock().advance(Duration::from_secs(1));
    mark(harness, &*one, of(&a))?;
    mark(harness, &*one, Part::Repository(a.repo.clone()))?;
    ensure_eq!(
        two.unmark_moved(&of(&a), soon())?,
        1,
        "a mark below that of the repository"
    );
    all_are_refused(harness, &*one, &a)?;
    ensure_eq!(two.unmark_moved(&Part::Store, soon())?, 2, "all other marks");
    for job in [&a, &b] {
        all_are_accepted(harness, &*two, job)?;
    }
    let taken = take(&*two, &b, 5)?;
    ensure!(!tokens(&taken).is_empty(), "nothing is taken");
    Ok(())
}

fn a_moved_job_is_deleted(harness: &dyn Harness) -> Check {
    let (one, two) = (harness.open(), harness.open());
    let moved = job("moved")?;
    fill(harness, &*one, &moved)?;
    mark(harness, &*one, of(&moved))?;
    ensure!(two.delete_job(&moved, None, soon())?, "nothing was deleted");
    ensure_eq!(read(&*one, &moved)?.len(), 0, "events");
    all_are_refused(harness, &*one, &moved)?;
    ensure_eq!(
        one.jobs(&moved.repo, &Default::default(), soon())?.entries.len(),
        0,
        "jobs"
    );
    ensure_eq!(one.unmark_moved(&of(&moved), soon())?, 1, "the mark");
    append(&*two, &moved, &["7"])?;
    ensure_eq!(
        payloads(&read(&*one, &moved)?),
        ["7"],
        "the job that begins again"
    );
    Ok(())
}

fn marks_are_listed(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    let names = ["a", "b", "c"];
    for name in names {
        fill(harness, &*backend, &job(name)?)?;
        mark(harness, &*backend, of(&job(name)?))?;
    }
    let shop = Part::Repository(repo("shop")?);
    mark(harness, &*backend, shop.clone())?;
    let listed = |part: &Part| -> Result<Vec<Moved>, Failure> {
        let marks = Entries::new(|page| backend.moved(part, page, soon())).limit(2);
        Ok(marks.collect::<Result<_>>()?)
    };
    let parts = |part: &Part| -> Result<Vec<Part>, Failure> {
        Ok(listed(part)?.into_iter().map(|moved| moved.part).collect())
    };
    let mut wanted = vec![shop.clone()];
    for name in names {
        wanted.push(of(&job(name)?));
    }
    ensure_eq!(parts(&Part::Store)?, wanted, "all marks");
    ensure_eq!(parts(&shop)?, wanted, "the marks of a repository");
    let b = of(&job("b")?);
    ensure_eq!(
        parts(&b)?,
        [shop.clone(), b.clone()],
        "the marks that cover a job"
    );
    ensure_eq!(
        parts(&Part::Repository(repo("mill")?))?,
        [],
        "the marks of another repository"
    );
    let first = listed(&b)?;
    ensure!(
        first.iter().all(|moved| moved.to == PLACE),
        "another place: {first:?}"
    );
    ensure!(
        first.iter().all(|moved| moved.at == harness.clock().now()),
        "another time: {first:?}"
    );
    Ok(())
}

fn marks_outlive_the_process(harness: &dyn Harness) -> Check {
    let moved = job("moved")?;
    let backend = harness.open();
    fill(harness, &*backend, &moved)?;
    mark(harness, &*backend, of(&moved))?;
    drop(backend);
    ensure!(harness.restart(), "the store was fresh before");
    all_are_refused(harness, &*harness.open(), &moved)
}
