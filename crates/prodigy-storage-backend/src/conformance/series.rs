//! Promises of the newest document of a series.

use prodigy_storage_layout::{Document, DocumentScope, JobAddress, Phase, Stamp};

use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{Check, job, list, moment, object, soon};
use crate::backend::Backend;
use crate::body::Body;
use crate::document::{Expected, PutOptions};
use crate::log::Durability;

topic! { "series":
    the_newest_is_the_last_listed "the newest document of a series, and the newest one before each, are those at the end of the listing",
    the_newest_before_what_is_gone "the newest document before a removed or absent document is the next older one",
    before_another_series_is_nothing "a document of another series has no documents before it",
    a_handle_sees_the_newest_of_another "the next call through another handle sees each addition and deletion",
}

fn put(backend: &dyn Backend, document: &Document) -> Check {
    backend.put(document, object("{\"n\":1}")?, &PutOptions::default(), soon())?;
    Ok(())
}

fn newest(
    backend: &dyn Backend,
    job: &JobAddress,
    phase: Phase,
    before: Option<&Document>,
) -> Result<Option<Document>, Failure> {
    let newest = backend.newest(job, phase, before, soon())?;
    Ok(newest.map(|entry| entry.document))
}

/// Reads each series from its newest document to its oldest, and compares the result with the listing.
fn agrees(backend: &dyn Backend, job: &JobAddress) -> Check {
    for phase in Phase::ALL {
        let mut listed = list(backend, &DocumentScope::Checkpoints(job.clone(), phase))?;
        let mut before = None;
        loop {
            let wanted = listed.pop();
            let found = backend.newest(job, phase, before.as_ref(), soon())?;
            ensure_eq!(found, wanted, "newest of phase {phase} before {before:?}");
            match found {
                Some(entry) => before = Some(entry.document),
                None => break,
            }
        }
    }
    Ok(())
}

/// Stamps of this project and of other programs; two of them have the same time.
fn stamps() -> Result<Vec<Stamp>, Failure> {
    let texts = [
        "20251115_073606",
        "20251115T073606.000000000Z",
        "2025-11-15T07-36-06Z",
        "1763192165123",
        "20261231",
        "20251115T073606.123456789Z",
        "2025-11-15T09:06:06+01:30",
    ];
    let foreign = texts.map(Stamp::parse).into_iter().flatten();
    let ours = [9, 3, 7, 1, 5].map(|millis| Stamp::from(moment(millis)));
    let stamps: Vec<Stamp> = foreign.chain(ours).collect();
    ensure_eq!(stamps.len(), texts.len() + 5, "texts that are stamps");
    Ok(stamps)
}

fn the_newest_is_the_last_listed(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    agrees(&*backend, &job)?;
    put(&*backend, &Document::Orphans(job.clone()))?;
    put(&*backend, &Document::Finished(job.clone()))?;
    agrees(&*backend, &job)?;
    for (n, stamp) in stamps()?.into_iter().enumerate() {
        for phase in Phase::ALL {
            // The series get different documents, so that a mix-up is noticed.
            if n % 3 != 0 || phase != Phase::Reduce {
                put(&*backend, &Document::checkpoint(&job, phase, stamp.clone()))?;
            }
        }
        agrees(&*backend, &job)?;
    }
    agrees(&*harness.open(), &job)
}

fn the_newest_before_what_is_gone(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let at = |millis| Document::Map(job.clone(), Stamp::from(moment(millis)));
    for millis in 0..10 {
        put(&*backend, &at(millis * 10))?;
    }
    let before = |document: &Document| newest(&*backend, &job, Phase::Map, Some(document));
    ensure_eq!(
        before(&at(1_000))?,
        Some(at(90)),
        "newest before a document that never existed"
    );
    ensure_eq!(
        before(&at(55))?,
        Some(at(50)),
        "newest before a document that never existed"
    );
    ensure_eq!(before(&at(-5))?, None, "newest before the oldest");
    for millis in [90, 40, 50] {
        ensure!(
            backend.delete(&at(millis), Expected::Any, Durability::Strict, None, soon())?,
            "the deletion reported that the document did not exist"
        );
    }
    ensure_eq!(
        newest(&*backend, &job, Phase::Map, None)?,
        Some(at(80)),
        "newest after the newest was deleted"
    );
    ensure_eq!(before(&at(90))?, Some(at(80)), "newest before a deleted document");
    ensure_eq!(before(&at(50))?, Some(at(30)), "newest before a deleted document");
    agrees(&*backend, &job)
}

fn before_another_series_is_nothing(harness: &dyn Harness) -> Check {
    let (backend, one, other) = (harness.open(), job("a")?, job("b")?);
    let stamp = Stamp::from(moment(5));
    for job in [&one, &other] {
        for phase in Phase::ALL {
            put(&*backend, &Document::checkpoint(job, phase, stamp.clone()))?;
        }
    }
    let late = Stamp::from(moment(9));
    for before in [
        Document::Map(other, late.clone()),
        Document::Reduce(one.clone(), late),
        Document::Setup(one.clone()),
        Document::Finished(one.clone()),
        Document::Repository(one.repo.clone()),
    ] {
        let found = newest(&*backend, &one, Phase::Map, Some(&before))?;
        ensure_eq!(found, None, "newest before {before:?}");
    }
    let setup = Document::Setup(one.clone());
    ensure_eq!(
        newest(&*backend, &one, Phase::Setup, Some(&setup))?,
        None,
        "newest before the setup checkpoint"
    );
    Ok(())
}

fn a_handle_sees_the_newest_of_another(harness: &dyn Harness) -> Check {
    let (reader, writer, job) = (harness.open(), harness.open(), job("a")?);
    // Reads several times, since a cache answers from the second time on.
    let sees = |phase: Phase, wanted: Option<&Document>, when: &str| {
        for _ in 0..3 {
            let found = newest(&*reader, &job, phase, None)?;
            ensure_eq!(found.as_ref(), wanted, "newest of phase {phase} {when}");
        }
        Ok::<(), Failure>(())
    };
    let mut made: Vec<Document> = Vec::new();
    for _ in 0..8 {
        sees(Phase::Map, made.last(), "before an addition")?;
        let added = writer.add(&job, Phase::Map, Body::EMPTY, &PutOptions::default(), soon())?;
        made.push(added.document);
        sees(Phase::Map, made.last(), "after an addition")?;
        sees(Phase::Reduce, None, "after an addition to another")?;
    }
    while let Some(last) = made.pop() {
        ensure!(
            writer.delete(&last, Expected::Any, Durability::Strict, None, soon())?,
            "the deletion reported that the document did not exist"
        );
        sees(Phase::Map, made.last(), "after a deletion")?;
    }
    agrees(&*reader, &job)
}
