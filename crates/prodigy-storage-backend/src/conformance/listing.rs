//! Promises of listings and reports.

use prodigy_storage_layout::{Document, DocumentScope, JobAddress, JobId, LockName, Phase};

use super::failure::{ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{Check, append, item, job, jobs, list, locks, object, repo, repositories, soon};
use crate::body::Body;
use crate::clock::Clock;
use crate::document::PutOptions;
use crate::lock::LockOptions;
use crate::log::Durability;
use crate::report::{Severity, Stats};

topic! { "listing":
    repositories_are_listed "every repository with stored data is listed once, in order",
    jobs_are_listed "every job with stored data is listed once, in order, and only under its repository",
    a_job_scope_holds_its_checkpoints "the scope of a job has its checkpoints of every phase, and no other document",
    a_repository_is_active_while_it_is_worked_on "a repository is active while a log of its jobs is open for appends, or a lock whose name begins with the repository's is held",
    orphans_are_listed_by_repository "the scope of orphans has the orphans of one repository's jobs",
    registry_entries_are_listed "the scope of repositories has every registry entry",
    a_listing_of_nothing_is_empty "listings of an empty store are empty",
    usage_grows "usage counts stored bytes by area and repository",
    a_whole_store_is_healthy "a healthy store has no failing check",
    names_are_not_confused "names with a common beginning, and names beyond ASCII, are kept apart",
}

fn job_of(repository: &str, name: &str) -> Result<JobAddress, super::Failure> {
    Ok(JobAddress::new(repo(repository)?, JobId::new(name)?))
}

fn repositories_are_listed(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    append(&*backend, &job_of("c", "1")?, &["1"])?;
    append(&*backend, &job_of("a", "1")?, &["1"])?;
    append(&*backend, &job_of("a", "2")?, &["1"])?;
    let queued = item("x", "1", harness.clock().now())?;
    backend.queue_put(&job_of("d", "1")?, &[queued], Durability::Strict, None, soon())?;
    backend.put(
        &Document::Repository(repo("b")?),
        Body::EMPTY,
        &PutOptions::default(),
        soon(),
    )?;
    backend.put(
        &Document::Orphans(job_of("e", "1")?),
        Body::EMPTY,
        &PutOptions::default(),
        soon(),
    )?;
    let listed = repositories(&*harness.open())?;
    ensure_eq!(
        listed,
        [repo("a")?, repo("b")?, repo("c")?, repo("d")?, repo("e")?],
        "repositories"
    );
    Ok(())
}

fn a_repository_is_active_while_it_is_worked_on(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    let (shop, other) = (repo("shop")?, repo("shop-2")?);
    let is_active = || -> Result<_, super::Failure> {
        Ok((
            backend.is_active(&shop, soon())?,
            backend.is_active(&other, soon())?,
        ))
    };
    ensure_eq!(is_active()?, (false, false), "an empty store");
    append(&*backend, &job_of("shop", "1")?, &["1"])?;
    ensure_eq!(is_active()?, (true, false), "a log that is appended to");
    backend.seal(&job_of("shop", "1")?, soon())?;
    ensure_eq!(is_active()?, (false, false), "a sealed log");
    if !harness.named_locks() {
        return Ok(());
    }
    let lock = LockName::new("shop-2/job/resume")?;
    let guard = backend.lock(&lock, &LockOptions::default(), soon())?;
    ensure_eq!(is_active()?, (false, true), "a held lock");
    guard.release()?;
    ensure_eq!(is_active()?, (false, false), "a released lock");
    Ok(())
}

fn jobs_are_listed(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    append(&*backend, &job_of("shop", "c")?, &["1"])?;
    let queued = item("x", "1", harness.clock().now())?;
    backend.queue_put(&job_of("shop", "a")?, &[queued], Durability::Strict, None, soon())?;
    backend.add(
        &job_of("shop", "b")?,
        Phase::Map,
        Body::EMPTY,
        &PutOptions::default(),
        soon(),
    )?;
    backend.put(
        &Document::Orphans(job_of("shop", "d")?),
        Body::EMPTY,
        &PutOptions::default(),
        soon(),
    )?;
    append(&*backend, &job_of("shop", "a")?, &["1"])?;
    append(&*backend, &job_of("other", "z")?, &["1"])?;
    let listed = jobs(&*harness.open(), &repo("shop")?)?;
    ensure_eq!(
        listed.iter().map(JobId::as_str).collect::<Vec<_>>(),
        ["a", "b", "c", "d"],
        "jobs"
    );
    Ok(())
}

fn a_job_scope_holds_its_checkpoints(harness: &dyn Harness) -> Check {
    let (backend, mine, other) = (harness.open(), job("a")?, job("b")?);
    for phase in Phase::ALL {
        backend.add(&mine, phase, Body::EMPTY, &PutOptions::default(), soon())?;
        backend.add(&other, phase, Body::EMPTY, &PutOptions::default(), soon())?;
    }
    backend.put(
        &Document::Orphans(mine.clone()),
        Body::EMPTY,
        &PutOptions::default(),
        soon(),
    )?;
    backend.put(
        &Document::Finished(mine.clone()),
        Body::EMPTY,
        &PutOptions::default(),
        soon(),
    )?;
    let listed = list(&*backend, &DocumentScope::Job(mine.clone()))?;
    ensure_eq!(listed.len(), 3, "checkpoints of one job");
    for entry in &listed {
        ensure!(
            entry.document.job() == Some(&mine) && entry.document.phase().is_some(),
            "the listing holds {:?}",
            entry.document
        );
        ensure!(entry.bytes > 0, "an entry of 0 bytes: {entry:?}");
    }
    Ok(())
}

fn orphans_are_listed_by_repository(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    let (a, b, c) = (job_of("shop", "a")?, job_of("shop", "b")?, job_of("other", "c")?);
    for job in [&a, &b, &c] {
        backend.put(
            &Document::Orphans(job.clone()),
            Body::EMPTY,
            &PutOptions::default(),
            soon(),
        )?;
    }
    let listed = list(&*backend, &DocumentScope::Orphans(repo("shop")?))?;
    let mut listed: Vec<_> = listed.into_iter().map(|entry| entry.document).collect();
    listed.sort();
    ensure_eq!(listed, [Document::Orphans(a), Document::Orphans(b)], "orphans");
    Ok(())
}

fn registry_entries_are_listed(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    append(&*backend, &job("a")?, &["1"])?;
    for name in ["two", "one"] {
        backend.put(
            &Document::Repository(repo(name)?),
            Body::EMPTY,
            &PutOptions::default(),
            soon(),
        )?;
    }
    let listed = list(&*backend, &DocumentScope::Repositories)?;
    let mut listed: Vec<_> = listed.into_iter().map(|entry| entry.document).collect();
    listed.sort();
    let wanted = [
        Document::Repository(repo("one")?),
        Document::Repository(repo("two")?),
    ];
    ensure_eq!(listed, wanted, "registry entries");
    Ok(())
}

fn a_listing_of_nothing_is_empty(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    for scope in [
        DocumentScope::Job(job.clone()),
        DocumentScope::Checkpoints(job.clone(), Phase::Map),
        DocumentScope::Orphans(job.repo.clone()),
        DocumentScope::Repositories,
    ] {
        ensure_eq!(list(&*backend, &scope)?.len(), 0, "entries of {scope:?}");
    }
    ensure_eq!(jobs(&*backend, &job.repo)?.len(), 0, "jobs");
    ensure_eq!(locks(&*backend)?.len(), 0, "locks");
    ensure_eq!(backend.usage(soon())?.bytes(), 0, "bytes");
    Ok(())
}

fn usage_grows(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    // A backend may compress data. The payload is random text, so at least half of its bytes have to be counted.
    let text: String = std::iter::repeat_with(fastrand::alphanumeric)
        .take(10_000)
        .collect();
    let payload = format!("\"{text}\"");
    append(&*backend, &job, &[&payload])?;
    let first = backend.usage(soon())?;
    ensure!(
        first.bytes() >= 5_000,
        "{} bytes of one event of 10,000",
        first.bytes()
    );
    let area = first.areas.iter().find(|area| area.area == "events");
    ensure_eq!(
        area.and_then(|area| area.repo.clone()),
        Some(job.repo.clone()),
        "repository of the events' area"
    );
    let body = format!("{{\"a\":{payload}}}");
    backend.add(&job, Phase::Map, object(&body)?, &PutOptions::default(), soon())?;
    let second = backend.usage(soon())?;
    let state = second
        .areas
        .iter()
        .find(|area| area.area == "state")
        .map_or(0, |area| area.bytes);
    ensure!(state >= 5_000, "{state} bytes of one document of 10,000");
    let mut stats = Stats::default();
    backend.stats(&mut stats);
    ensure!(
        stats.get("log.appends") >= 1,
        "an append is not counted: {stats:?}"
    );
    Ok(())
}

fn a_whole_store_is_healthy(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    let empty = backend.health(soon())?;
    ensure!(
        empty.severity() < Severity::Failure,
        "an empty store fails a check: {empty:?}"
    );
    append(&*backend, &job("a")?, &["1"])?;
    let health = backend.health(soon())?;
    ensure!(!health.checks.is_empty(), "nothing is checked");
    ensure!(
        health.severity() < Severity::Failure,
        "a healthy store fails a check: {health:?}"
    );
    Ok(())
}

fn names_are_not_confused(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    let names = ["a", "ab", "a.b", "a-b", "a b", "é", "日本"];
    for (n, name) in names.iter().enumerate() {
        append(&*backend, &job_of(name, name)?, &[&n.to_string()])?;
    }
    for (n, name) in names.iter().enumerate() {
        let job = job_of(name, name)?;
        let events = super::tools::read(&*backend, &job)?;
        ensure_eq!(
            super::tools::payloads(&events),
            [n.to_string()],
            "events of {job}"
        );
        ensure_eq!(
            jobs(&*backend, &job.repo)?,
            std::slice::from_ref(&job.job),
            "jobs of {}",
            job.repo
        );
    }
    Ok(())
}
