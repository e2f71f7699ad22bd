//! Promises of the deletion of jobs.

use prodigy_storage_layout::{
    Document, DocumentKind, DocumentName, DocumentOwner, DocumentScope, JobAddress, LockName, Phase,
    Timestamp,
};

use super::failure::{ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{
    Check, append, job, jobs, keys, list, object, payloads, put, read, read_from, refused, repo, soon,
};
use crate::backend::Backend;
use crate::document::PutOptions;
use crate::error::{self, ErrorKind};
use crate::fence::Fence;
use crate::lock::LockOptions;
use crate::log::ScanOptions;
use crate::page::Entries;
use crate::survey::JobFacts;

topic! { "deletion":
    a_deleted_job_is_gone "after a deletion nothing of the job is read by any handle, and the other jobs are whole",
    a_deleted_job_begins_again "a write to a deleted job begins the job again, without its earlier data",
    a_job_at_work_is_not_deleted "a job is not deleted while its log is open for appends or one of its locks is held; the error says who holds it",
    a_scan_notices_the_deletion "a scan that runs when the job is deleted ends with an error",
    a_cursor_into_a_deleted_log_is_refused "a cursor behind a deleted event is a gap, even in the log that begins again",
    a_deletion_is_fenced "a job is not deleted under an overtaken token, and stays whole",
    the_fencing_marks_outlast_the_job "a token that was overtaken before the deletion is refused after it",
    a_survey_gives_what_single_calls_give "a survey of a repository's jobs returns the same facts as the calls for each job, even in small pages",
    an_old_job_is_deleted_only_if_it_stayed_old "a job that was written to after it was found old is not deleted, and stays whole",
    only_an_unfinished_deletion_is_finished "a deletion that was not cut short leaves none to finish, and what began since is left as it is",
    the_activity_of_a_job_is_known "a job is active while a process works on it, and the time of the last write to any part of it is known",
}

fn a_survey_gives_what_single_calls_give(harness: &dyn Harness) -> Check {
    let (one, two) = (harness.open(), harness.open());
    let (full, open, gone) = (job("full")?, job("open")?, job("gone")?);
    fill(harness, &*one, &full)?;
    fill(harness, &*one, &gone)?;
    append(&*one, &open, &["1"])?;
    append(&*one, &JobAddress::new(repo("mill")?, open.job.clone()), &["1"])?;
    one.delete_job(&gone, None, soon())?;
    for limit in 1..4 {
        let survey = Entries::new(|page| two.survey(&full.repo, page, soon())).limit(limit);
        let survey = survey.collect::<error::Result<Vec<_>>>()?;
        let names: Vec<_> = survey.iter().map(|found| &found.job).collect();
        ensure_eq!(names, [&full.job, &open.job], "jobs in pages of {limit}");
        for found in survey {
            let job = JobAddress::new(full.repo.clone(), found.job);
            let (mut wanted, mut found) = (JobFacts::by_calls(&*two, &job, soon())?, found.facts?);
            // A survey may leave out the process that works on a job.
            for facts in [&mut wanted, &mut found] {
                facts.activity.by = None;
            }
            ensure_eq!(format!("{found:?}"), format!("{wanted:?}"), "{job}");
        }
    }
    let facts = JobFacts::by_calls(&*two, &full, soon())?;
    ensure_eq!(facts.checkpoints.count, 3, "checkpoints");
    ensure_eq!(facts.documents.count, 1, "documents of a kind of its own");
    ensure_eq!(facts.queue.items, 2, "dead letters");
    ensure!(facts.finished.is_some(), "the mark is missing");
    ensure!(!facts.activity.active, "a sealed log is active");
    Ok(())
}

/// The documents of a job whose kind has only one name.
fn documents(job: &JobAddress) -> Result<[Document; 3], super::Failure> {
    let owner = DocumentOwner::Job(job.clone());
    Ok([
        Document::Orphans(job.clone()),
        Document::Finished(job.clone()),
        Document::Own(owner, DocumentKind::new("sessions")?, DocumentName::new("one")?),
    ])
}

/// Fills a job with data of every kind, and leaves it inactive.
fn fill(harness: &dyn Harness, backend: &dyn Backend, job: &JobAddress) -> Check {
    append(backend, job, &["1", "2"])?;
    backend.add(job, Phase::Setup, object("{}")?, &PutOptions::default(), soon())?;
    let state = format!("{{\"data\":\"{}\"}}", "a".repeat(8_000));
    for _ in 0..2 {
        backend.add(job, Phase::Map, object(&state)?, &PutOptions::default(), soon())?;
    }
    for document in documents(job)? {
        backend.put(&document, object("{}")?, &PutOptions::default(), soon())?;
    }
    put(harness, backend, job, &["x", "y"])?;
    backend.seal(job, soon())?;
    Ok(())
}

fn nothing_is_there(backend: &dyn Backend, job: &JobAddress) -> Check {
    ensure_eq!(read(backend, job)?.len(), 0, "events");
    ensure_eq!(keys(backend, job)?.len(), 0, "items");
    ensure_eq!(backend.queue_summary(job, soon())?.items, 0, "counted items");
    ensure_eq!(backend.log_summary(job, soon())?.bytes, 0, "bytes of the log");
    ensure_eq!(
        list(backend, &DocumentScope::Job(job.clone()))?.len(),
        0,
        "checkpoints"
    );
    ensure!(
        backend.newest(job, Phase::Map, None, soon())?.is_none(),
        "the deleted job still has a newest checkpoint"
    );
    for document in documents(job)? {
        ensure!(backend.get(&document, soon())?.is_none(), "{document} is there");
        ensure_eq!(backend.revision(&document, soon())?, None, "revision");
    }
    ensure_eq!(
        list(backend, &DocumentScope::Orphans(job.repo.clone()))?.len(),
        1,
        "records of orphans: the other job's"
    );
    Ok(())
}

fn is_whole(backend: &dyn Backend, job: &JobAddress) -> Check {
    ensure_eq!(payloads(&read(backend, job)?), ["1", "2"], "events");
    ensure_eq!(keys(backend, job)?, ["x", "y"], "items");
    ensure_eq!(
        list(backend, &DocumentScope::Job(job.clone()))?.len(),
        3,
        "checkpoints"
    );
    ensure!(
        backend.get(&Document::Orphans(job.clone()), soon())?.is_some(),
        "the record of orphans does not exist"
    );
    Ok(())
}

fn a_deleted_job_is_gone(harness: &dyn Harness) -> Check {
    let (backend, other) = (harness.open(), harness.open());
    let (gone, stays) = (job("gone")?, job("gone-not")?);
    ensure!(
        !backend.delete_job(&gone, None, soon())?,
        "the deletion of a job that never existed reported success"
    );
    fill(harness, &*backend, &gone)?;
    fill(harness, &*backend, &stays)?;
    is_whole(&*other, &gone)?;
    ensure!(other.delete_job(&gone, None, soon())?, "nothing was deleted");
    for handle in [&backend, &other, &harness.open()] {
        nothing_is_there(&**handle, &gone)?;
        is_whole(&**handle, &stays)?;
        ensure_eq!(
            jobs(&**handle, &repo("shop")?)?,
            std::slice::from_ref(&stays.job),
            "jobs"
        );
    }
    ensure!(
        !backend.delete_job(&gone, None, soon())?,
        "the second deletion reported success"
    );
    Ok(())
}

fn a_deleted_job_begins_again(harness: &dyn Harness) -> Check {
    let (backend, gone) = (harness.open(), job("gone")?);
    fill(harness, &*backend, &gone)?;
    backend.delete_job(&gone, None, soon())?;
    append(&*backend, &gone, &["3"])?;
    put(harness, &*backend, &gone, &["z"])?;
    backend.add(
        &gone,
        Phase::Map,
        object("{\"a\":1}")?,
        &PutOptions::default(),
        soon(),
    )?;
    let other = harness.open();
    ensure_eq!(payloads(&read(&*other, &gone)?), ["3"], "events");
    ensure_eq!(keys(&*other, &gone)?, ["z"], "items");
    ensure_eq!(
        list(&*other, &DocumentScope::Job(gone.clone()))?.len(),
        1,
        "checkpoints"
    );
    ensure_eq!(jobs(&*other, &repo("shop")?)?, [gone.job], "jobs");
    Ok(())
}

fn a_job_at_work_is_not_deleted(harness: &dyn Harness) -> Check {
    let (backend, other, busy) = (harness.open(), harness.open(), job("busy")?);
    fill(harness, &*backend, &busy)?;
    if harness.named_locks() {
        let name = LockName::new("shop/busy/coordinator")?;
        let guard = backend.lock(&name, &LockOptions::default(), soon())?;
        let error = refused(
            other.delete_job(&busy, None, soon()),
            ErrorKind::LockUnavailable,
            "a deletion under a lock",
        )?;
        let by = other.activity(&busy, soon())?.by.unwrap_or_default();
        let (process, lock) = (format!("process {} on ", std::process::id()), format!("`{name}`"));
        for text in [error.why(), &by] {
            ensure!(text.contains(&process) && text.contains(&lock), "{text}");
        }
        guard.release()?;
    }
    is_whole(&*backend, &busy)?;
    append(&*backend, &busy, &["3"])?;
    let error = refused(
        other.delete_job(&busy, None, soon()),
        ErrorKind::LockUnavailable,
        "a deletion under a writer",
    )?;
    let by = other.activity(&busy, soon())?.by.unwrap_or_default();
    ensure!(by.contains("process"), "{by}");
    ensure!(error.why().contains(&by), "{error} instead of {by}");
    ensure_eq!(payloads(&read(&*other, &busy)?), ["1", "2", "3"], "events");
    backend.seal(&busy, soon())?;
    ensure_eq!(other.activity(&busy, soon())?.by, None, "workers");
    ensure!(
        other.delete_job(&busy, None, soon())?,
        "an inactive job was not deleted"
    );
    Ok(())
}

fn a_scan_notices_the_deletion(harness: &dyn Harness) -> Check {
    let (backend, gone) = (harness.open(), job("gone")?);
    fill(harness, &*backend, &gone)?;
    let mut scan = backend.scan(&gone, &ScanOptions::all(), soon())?;
    ensure!(scan.next()?.is_some(), "the scan returned no event");
    backend.delete_job(&gone, None, soon())?;
    append(&*backend, &gone, &["3"])?;
    let ended = loop {
        match scan.next() {
            Ok(Some(_)) => {}
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    refused(ended, ErrorKind::Deleted, "the end of a scan of a deleted log")?;
    Ok(())
}

fn a_cursor_into_a_deleted_log_is_refused(harness: &dyn Harness) -> Check {
    let (backend, gone) = (harness.open(), job("gone")?);
    append(&*backend, &gone, &["1"])?;
    let (_, inside) = read_from(&*backend, &gone, None)?;
    append(&*backend, &gone, &["2"])?;
    backend.seal(&gone, soon())?;
    let (_, end) = read_from(&*backend, &gone, None)?;
    backend.delete_job(&gone, None, soon())?;
    for begun_again in [false, true] {
        if begun_again {
            append(&*backend, &gone, &["3", "4"])?;
        }
        for cursor in [&inside, &end] {
            refused(
                backend
                    .scan(&gone, &ScanOptions::after(cursor.clone()), soon())
                    .map(drop),
                ErrorKind::CursorGap,
                "a scan from a cursor into the deleted log",
            )?;
        }
    }
    Ok(())
}

fn a_deletion_is_fenced(harness: &dyn Harness) -> Check {
    let (backend, gone) = (harness.open(), job("gone")?);
    fill(harness, &*backend, &gone)?;
    fill(harness, &*backend, &job("gone-not")?)?;
    let (old, new) = ("shop/a=4".parse::<Fence>()?, "shop/a=5".parse::<Fence>()?);
    let finished = Document::Finished(gone.clone());
    let options = PutOptions::default().fencing(Some(new.clone()));
    backend.put(&finished, object("{}")?, &options, soon())?;
    refused(
        backend.delete_job(&gone, Some(&old), soon()),
        ErrorKind::Fenced,
        "a deletion under a token that was overtaken",
    )?;
    refused(
        backend.delete_old_job(&gone, Timestamp::MAX, Some(&old), soon()),
        ErrorKind::Fenced,
        "a deletion of an old job under a token that was overtaken",
    )?;
    is_whole(&*harness.open(), &gone)?;
    // An overtaken holder learns that first, whatever else keeps the job.
    append(&*backend, &gone, &["3"])?;
    for outcome in [
        harness.open().delete_job(&gone, Some(&old), soon()),
        harness
            .open()
            .delete_old_job(&gone, Timestamp::from_nanos(0), Some(&old), soon()),
    ] {
        refused(
            outcome,
            ErrorKind::Fenced,
            "a deletion of an active job under a token that was overtaken",
        )?;
    }
    refused(
        harness.open().delete_job(&gone, Some(&new), soon()),
        ErrorKind::LockUnavailable,
        "a deletion of an active job by the newest holder",
    )?;
    backend.seal(&gone, soon())?;
    ensure!(
        backend.delete_job(&gone, Some(&new), soon())?,
        "the newest holder deletes nothing"
    );
    nothing_is_there(&*harness.open(), &gone)
}

fn the_fencing_marks_outlast_the_job(harness: &dyn Harness) -> Check {
    let (backend, gone) = (harness.open(), job("gone")?);
    let under = |token: u64| -> Result<PutOptions, super::Failure> {
        Ok(PutOptions::default().fencing(Some(Fence::unnamed(token)?)))
    };
    backend.add(&gone, Phase::Map, object("{}")?, &under(7)?, soon())?;
    ensure!(backend.delete_job(&gone, None, soon())?, "nothing was deleted");
    ensure_eq!(jobs(&*backend, &repo("shop")?)?.len(), 0, "jobs");
    refused(
        backend.add(&gone, Phase::Map, object("{}")?, &under(6)?, soon()),
        ErrorKind::Fenced,
        "a checkpoint under a token that was overtaken",
    )?;
    backend.add(&gone, Phase::Map, object("{}")?, &under(8)?, soon())?;
    Ok(())
}

fn the_activity_of_a_job_is_known(harness: &dyn Harness) -> Check {
    let (backend, work) = (harness.open(), job("work")?);
    let activity = || backend.activity(&work, soon());
    let nothing = activity()?;
    ensure!(
        !nothing.active && nothing.last_write.is_none(),
        "an absent job: {nothing:?}"
    );
    append(&*backend, &work, &["1"])?;
    ensure!(activity()?.active, "a log that is appended to");
    backend.seal(&work, soon())?;
    let sealed = activity()?;
    ensure!(
        !sealed.active && sealed.last_write.is_some(),
        "a sealed log: {sealed:?}"
    );
    let checkpoint = job("checkpoint")?;
    backend.add(
        &checkpoint,
        Phase::Map,
        object("{}")?,
        &PutOptions::default(),
        soon(),
    )?;
    ensure!(
        backend.activity(&checkpoint, soon())?.last_write.is_some(),
        "the time of the last write after a checkpoint"
    );
    let queue = job("queue")?;
    put(harness, &*backend, &queue, &["x"])?;
    ensure!(
        backend.activity(&queue, soon())?.last_write.is_some(),
        "the time of the last write after a dead letter"
    );
    Ok(())
}

fn an_old_job_is_deleted_only_if_it_stayed_old(harness: &dyn Harness) -> Check {
    let (backend, old, other) = (harness.open(), job("old")?, job("other")?);
    for job in [&old, &other] {
        fill(harness, &*backend, job)?;
    }
    let Some(last) = backend.activity(&old, soon())?.last_write else {
        return Err(super::Failure::new("no write is known".to_owned()));
    };
    let earlier = Timestamp::from_nanos(last.as_nanos() - 1);
    ensure!(
        !backend.delete_old_job(&old, earlier, None, soon())?,
        "a job with a later write was deleted"
    );
    is_whole(&*backend, &old)?;
    ensure!(
        backend.delete_old_job(&old, last, None, soon())?,
        "a job that stayed old was not deleted"
    );
    nothing_is_there(&*backend, &old)?;
    is_whole(&*backend, &other)?;
    ensure!(
        !backend.delete_old_job(&old, last, None, soon())?,
        "a job that is gone was deleted"
    );
    append(&*backend, &other, &["3"])?;
    let refused = backend.delete_old_job(&other, Timestamp::MAX, None, soon());
    ensure!(
        refused.is_err_and(|error| error.kind() == ErrorKind::LockUnavailable),
        "an active job was deleted"
    );
    Ok(())
}

fn only_an_unfinished_deletion_is_finished(harness: &dyn Harness) -> Check {
    let (backend, gone) = (harness.open(), job("gone")?);
    let unfinished = |backend: &dyn Backend| {
        let all = Entries::new(|page| backend.unfinished_deletions(page, soon()));
        all.collect::<error::Result<Vec<_>>>()
    };
    ensure_eq!(unfinished(&*backend)?, [], "deletions of an empty store");
    fill(harness, &*backend, &gone)?;
    fill(harness, &*backend, &job("gone-not")?)?;
    ensure!(
        !backend.finish_deletion(&gone, soon())?,
        "a job that was not deleted"
    );
    is_whole(&*harness.open(), &gone)?;
    backend.delete_job(&gone, None, soon())?;
    ensure_eq!(unfinished(&*harness.open())?, [], "deletions that were cut short");
    ensure!(!backend.finish_deletion(&gone, soon())?, "a deletion that ended");
    append(&*backend, &gone, &["3"])?;
    ensure!(!backend.finish_deletion(&gone, soon())?, "a job that began again");
    ensure_eq!(payloads(&read(&*harness.open(), &gone)?), ["3"], "events");
    is_whole(&*backend, &job("gone-not")?)
}
