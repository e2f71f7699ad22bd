//! Promises of fencing marks.

use std::time::Duration;

use prodigy_storage_layout::{Document, DocumentScope, Phase};

use super::document::{body, orphans};
use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{Check, job, list, object, refused, soon};
use crate::document::{Expected, PutOptions};
use crate::error::ErrorKind;
use crate::log::Durability;

topic! { "document":
    older_fencing_is_refused "a put under an older fencing token is refused, and a put under the same or a newer one is accepted",
    a_write_without_a_token_keeps_the_mark "a write without a fencing token is accepted, and an older token stays refused",
    the_fencing_mark_is_the_jobs "a fencing token applies to every document of its job, and to no other job",
    each_lock_has_a_fencing_mark "tokens of one lock are compared with tokens of that lock only",
    the_fencing_mark_outlives_deletion "an older token is still refused after every document of the job was deleted",
    the_fencing_mark_is_the_stores "a caller can neither write nor delete fencing marks, and a document without a job accepts no token",
    an_addition_is_fenced "an addition under an older fencing token than the newest's is refused",
}

/// Options of a write under a fencing token, which has the form `TOKEN` or `NAME=TOKEN`.
fn under(fence: &str) -> PutOptions {
    PutOptions::default().fencing(fence.parse().ok())
}

fn older_fencing_is_refused(harness: &dyn Harness) -> Check {
    let (backend, document) = (harness.open(), orphans("a")?);
    let under = |token: u64| under(&token.to_string());
    let text = |token: u64| format!("{{\"fencing\":{token},\"data\":{{\"fencing\":99}}}}");
    backend.put(&document, object(&text(7))?, &under(7), soon())?;
    refused(
        backend.put(&document, object(&text(6))?, &under(6), soon()),
        ErrorKind::Fenced,
        "a put under an older token",
    )?;
    ensure_eq!(body(&*backend, &document)?, Some(text(7)), "body");
    backend.put(&document, object(&text(7))?, &under(7), soon())?;
    backend.put(&document, object(&text(8))?, &under(8), soon())?;
    ensure_eq!(body(&*backend, &document)?, Some(text(8)), "body");
    Ok(())
}

fn a_write_without_a_token_keeps_the_mark(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let save = |phase, options: &PutOptions| {
        harness.clock().advance(Duration::from_secs(1));
        backend
            .add(&job, phase, object("{}")?, options, soon())
            .map_err(Failure::from)
    };
    for phase in Phase::ALL {
        save(phase, &under("5"))?;
        save(phase, &PutOptions::default())?;
        save(phase, &PutOptions::default())?;
        refused(
            harness
                .open()
                .add(&job, phase, object("{}")?, &under("3"), soon()),
            ErrorKind::Fenced,
            "an older token after a write without one",
        )?;
        save(phase, &under("5"))?;
    }
    let document = orphans("a")?;
    backend.put(&document, object("{}")?, &PutOptions::default(), soon())?;
    refused(
        backend.put(&document, object("{}")?, &under("4"), soon()),
        ErrorKind::Fenced,
        "an older token after a put without one",
    )?;
    Ok(())
}

fn the_fencing_mark_is_the_jobs(harness: &dyn Harness) -> Check {
    let (backend, mine, other) = (harness.open(), job("a")?, job("b")?);
    backend.add(&mine, Phase::Map, object("{}")?, &under("5"), soon())?;
    for phase in Phase::ALL {
        refused(
            backend.add(&mine, phase, object("{}")?, &under("4"), soon()),
            ErrorKind::Fenced,
            "an older token in another phase",
        )?;
    }
    for document in [orphans("a")?, Document::Finished(mine.clone())] {
        refused(
            backend.put(&document, object("{}")?, &under("4"), soon()),
            ErrorKind::Fenced,
            "an older token in another document",
        )?;
    }
    backend.add(&other, Phase::Map, object("{}")?, &under("1"), soon())?;
    Ok(())
}

fn each_lock_has_a_fencing_mark(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let save = |fence: &str| {
        harness.clock().advance(Duration::from_secs(1));
        backend
            .add(&job, Phase::Map, object("{}")?, &under(fence), soon())
            .map_err(Failure::from)
    };
    for fence in ["shop/a=5", "shop/b=1", "7", "shop/b=2", "shop/a=5"] {
        save(fence)?;
    }
    for fence in ["shop/a=4", "shop/b=1", "6"] {
        refused(
            backend.add(&job, Phase::Map, object("{}")?, &under(fence), soon()),
            ErrorKind::Fenced,
            fence,
        )?;
    }
    Ok(())
}

fn the_fencing_mark_outlives_deletion(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    for phase in Phase::ALL {
        backend.add(&job, phase, object("{}")?, &under("5"), soon())?;
    }
    for entry in list(&*backend, &DocumentScope::Job(job.clone()))? {
        ensure!(
            backend.delete(&entry.document, Expected::Any, Durability::Strict, None, soon())?,
            "the document {:?} did not exist",
            entry.document
        );
    }
    ensure_eq!(
        list(&*backend, &DocumentScope::Job(job.clone()))?.len(),
        0,
        "documents"
    );
    refused(
        harness
            .open()
            .add(&job, Phase::Map, object("{}")?, &under("4"), soon()),
        ErrorKind::Fenced,
        "an older token after all documents were deleted",
    )?;
    Ok(())
}

fn the_fencing_mark_is_the_stores(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let marks = Document::Fencing(job.clone());
    let repository = Document::Repository(job.repo.clone());
    for there in [false, true] {
        refused(
            backend.put(&marks, object("{}")?, &PutOptions::default(), soon()),
            ErrorKind::InvalidInput,
            "a put of fencing marks",
        )?;
        refused(
            backend.delete(&marks, Expected::Any, Durability::Strict, None, soon()),
            ErrorKind::InvalidInput,
            "a deletion of fencing marks",
        )?;
        refused(
            backend.put(&repository, object("{}")?, &under("1"), soon()),
            ErrorKind::InvalidInput,
            "a registry entry under a token",
        )?;
        if !there {
            backend.add(&job, Phase::Map, object("{}")?, &under("5"), soon())?;
        }
    }
    Ok(())
}

fn an_addition_is_fenced(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let under = |token: u64| under(&token.to_string());
    backend.add(&job, Phase::Map, object("{\"fencing\":7}")?, &under(7), soon())?;
    harness.clock().advance(Duration::from_secs(1));
    refused(
        backend.add(&job, Phase::Map, object("{\"fencing\":6}")?, &under(6), soon()),
        ErrorKind::Fenced,
        "an addition under an older token",
    )?;
    backend.add(&job, Phase::Map, object("{\"fencing\":8}")?, &under(8), soon())?;
    let scope = DocumentScope::Checkpoints(job, Phase::Map);
    ensure_eq!(list(&*backend, &scope)?.len(), 2, "documents of the series");
    Ok(())
}
