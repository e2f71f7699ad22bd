//! Promises of what happens at limits, such as a full store.

use prodigy_storage_layout::{Document, Phase, Timestamp};

use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{Check, append, batch, item, job, keys, object, payloads, read, refused, soon};
use crate::clock::Clock;
use crate::document::PutOptions;
use crate::error::{ErrorKind, StorageError};
use crate::log::{AppendOptions, Durability};

topic! { "limit":
    a_large_event_is_refused (RecordLimit) "a batch with an event over `max_record_size` is refused whole",
    a_large_item_is_refused (RecordLimit) "a batch with an item over `max_record_size` is refused whole",
    a_merge_past_the_limit_is_refused (RecordLimit) "a merge whose result is over `max_record_size` is refused, and the item is unchanged",
    a_record_just_below_the_limit_is_stored (RecordLimit) "an event just below `max_record_size` is stored",
    a_wrong_clock_is_refused "an event, a document and an item are refused while the clock shows a time before 1970 or after 2262",
    a_large_document_is_refused (DocumentLimit) "a document over `max_document_size` is refused, and the earlier one is kept",
    a_document_just_below_the_limit_is_stored (DocumentLimit) "a document just below `max_document_size` is stored and read",
    the_deepest_nesting_is_stored "an event nested 127 deep is stored and read",
    a_full_store_keeps_what_it_has (SmallStore) "a full store refuses an event with `DiskFull`, keeps all acknowledged events, and can be read",
    a_full_store_refuses_documents_whole (SmallStore) "a full store refuses a document with `DiskFull`, and keeps the earlier one",
    room_that_is_freed_is_used (SmallStore) "writes to a full store succeed again after a deletion",
}

fn limit(harness: &dyn Harness) -> Result<usize, Failure> {
    harness
        .record_limit()
        .ok_or_else(|| Failure::new("the harness no longer has a record limit"))
}

fn text(len: usize) -> String {
    format!("\"{}\"", "x".repeat(len))
}

fn a_large_event_is_refused(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    append(&*backend, &job, &["1"])?;
    let mut batch = batch(&["2", &text(limit(harness)?)])?;
    let error = refused(
        backend.append(&job, &mut batch, &AppendOptions::default(), soon()),
        ErrorKind::TooLarge,
        "an event over the limit",
    )?;
    ensure!(
        error.hint().is_some() && !error.is_transient(),
        "no hint, or called transient: {error}"
    );
    ensure_eq!(batch.ids().len(), 0, "ids of a batch that was not stored");
    append(&*backend, &job, &["3"])?;
    ensure_eq!(payloads(&read(&*backend, &job)?), ["1", "3"], "events");
    Ok(())
}

fn a_large_item_is_refused(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let now = harness.clock().now();
    let items = [item("a", "1", now)?, item("b", &text(limit(harness)?), now)?];
    refused(
        backend.queue_put(&job, &items, Durability::Strict, None, soon()),
        ErrorKind::TooLarge,
        "an item over the limit",
    )?;
    ensure_eq!(keys(&*backend, &job)?.len(), 0, "items");
    Ok(())
}

fn a_merge_past_the_limit_is_refused(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let message = "m".repeat(limit(harness)? / 3);
    let mut refusal = None;
    for number in 1..=4 {
        let raw = format!(
            r#"{{"item_id":"a","item_data":1,"failure_history":[{{"attempt_number":{number},"error_message":"{message}"}}]}}"#
        );
        let raw = serde_json::value::RawValue::from_string(raw)?;
        let one = crate::dead_letter::normalise(&raw)?;
        match backend.queue_put(&job, std::slice::from_ref(&one), Durability::Strict, None, soon()) {
            Ok(_) => {}
            Err(error) => {
                refusal = Some(error);
                break;
            }
        }
    }
    let kind = refusal.as_ref().map(StorageError::kind);
    ensure_eq!(
        kind,
        Some(ErrorKind::TooLarge),
        "the error of a merge over the limit"
    );
    ensure_eq!(keys(&*backend, &job)?, ["a"], "items");
    Ok(())
}

fn a_record_just_below_the_limit_is_stored(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let payload = text(limit(harness)? - 512);
    append(&*backend, &job, &[&payload])?;
    ensure!(
        payloads(&read(&*backend, &job)?) == [payload],
        "the event has changed"
    );
    Ok(())
}

fn a_wrong_clock_is_refused(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    append(&*backend, &job, &["1"])?;
    let right = harness.clock().now();
    for wrong in [Timestamp::MIN, Timestamp::MAX] {
        harness.clock().set(wrong);
        let mut batch = batch(&["2"])?;
        let document = object("{}")?;
        let options = PutOptions::default();
        for refusal in [
            backend
                .append(&job, &mut batch, &AppendOptions::default(), soon())
                .map(drop),
            backend
                .add(&job, Phase::Map, document, &options, soon())
                .map(drop),
            backend
                .queue_put(&job, &[item("a", "{}", right)?], Durability::Strict, None, soon())
                .map(drop),
        ] {
            let error = refused(refusal, ErrorKind::Io, "a write under a wrong clock")?;
            ensure!(
                error.why().contains("clock") && error.hint().is_some() && !error.is_transient(),
                "the error does not name the clock: {error}"
            );
        }
        ensure_eq!(payloads(&read(&*backend, &job)?), ["1"], "events");
        harness.clock().set(right);
    }
    append(&*backend, &job, &["3"])?;
    ensure_eq!(payloads(&read(&*backend, &job)?), ["1", "3"], "events");
    ensure_eq!(keys(&*backend, &job)?.len(), 0, "items");
    Ok(())
}

fn document_limit(harness: &dyn Harness) -> Result<usize, Failure> {
    harness
        .document_limit()
        .ok_or_else(|| Failure::new("the harness no longer has a document limit"))
}

fn a_large_document_is_refused(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let document = Document::Orphans(job.clone());
    let revision = backend.put(&document, object("{\"n\":1}")?, &PutOptions::default(), soon())?;
    let large = format!("{{\"a\":{}}}", text(document_limit(harness)?));
    let error = refused(
        backend.put(&document, object(&large)?, &PutOptions::default(), soon()),
        ErrorKind::TooLarge,
        "a document over the limit",
    )?;
    ensure!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("max_document_size"))
            && !error.is_transient(),
        "no hint, or called transient: {error}"
    );
    ensure_eq!(
        backend.revision(&document, soon())?,
        Some(revision),
        "the earlier document"
    );
    refused(
        backend.add(&job, Phase::Map, object(&large)?, &PutOptions::default(), soon()),
        ErrorKind::TooLarge,
        "a checkpoint over the limit",
    )?;
    ensure!(
        backend.newest(&job, Phase::Map, None, soon())?.is_none(),
        "a refused checkpoint is the newest"
    );
    Ok(())
}

fn a_document_just_below_the_limit_is_stored(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let body = format!("{{\"a\":{}}}", text(document_limit(harness)? - 512));
    let added = backend.add(&job, Phase::Map, object(&body)?, &PutOptions::default(), soon())?;
    let got = backend.get(&added.document, soon())?;
    ensure!(
        got.is_some_and(|got| got.body() == body.as_bytes()),
        "the document has changed"
    );
    Ok(())
}

fn the_deepest_nesting_is_stored(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
    append(&*backend, &job, &[&deep])?;
    ensure_eq!(payloads(&read(&*backend, &job)?), [deep], "event");
    Ok(())
}

fn a_full_store_keeps_what_it_has(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let payload = text(10_000);
    let mut stored = 0;
    let error = loop {
        let mut batch = batch(&[&payload, &payload])?;
        match backend.append(&job, &mut batch, &AppendOptions::default(), soon()) {
            Ok(_) => stored += 2,
            Err(error) => break error,
        }
        ensure!(stored < 1000, "10 MB fit into a small store");
    };
    ensure_eq!(error.kind(), ErrorKind::DiskFull, "kind of the refusal: {error}");
    ensure!(error.hint().is_some(), "no hint: {error}");
    ensure_eq!(read(&*backend, &job)?.len(), stored, "events read after it");
    ensure_eq!(
        read(&*harness.open(), &job)?.len(),
        stored,
        "events read through another handle"
    );
    Ok(())
}

fn fill(harness: &dyn Harness) -> Result<usize, Failure> {
    let backend = harness.open();
    let mut count = 0;
    loop {
        let document = Document::Orphans(job(&format!("job-{count}"))?);
        let body = format!("{{\"a\":{}}}", text(50_000));
        match backend.put(&document, object(&body)?, &PutOptions::default(), soon()) {
            Ok(_) => count += 1,
            Err(error) if error.kind() == ErrorKind::DiskFull => return Ok(count),
            Err(error) => return Err(error.into()),
        }
        ensure!(count < 1000, "50 MB fit into a small store");
    }
}

fn a_full_store_refuses_documents_whole(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    let document = Document::Orphans(job("first")?);
    let revision = backend.put(&document, object("{\"n\":1}")?, &PutOptions::default(), soon())?;
    fill(harness)?;
    let large = format!("{{\"a\":{}}}", text(60_000));
    refused(
        backend.put(&document, object(&large)?, &PutOptions::default(), soon()),
        ErrorKind::DiskFull,
        "a larger document in a full store",
    )?;
    let got = backend
        .get(&document, soon())?
        .ok_or_else(|| Failure::new("the document does not exist"))?;
    ensure_eq!(
        (got.body(), got.revision()),
        (&b"{\"n\":1}"[..], revision),
        "the earlier document"
    );
    Ok(())
}

fn room_that_is_freed_is_used(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    let count = fill(harness)?;
    ensure!(count > 2, "a small store holds {count} documents");
    for n in 0..2 {
        let document = Document::Orphans(job(&format!("job-{n}"))?);
        backend.delete(
            &document,
            crate::document::Expected::Any,
            Durability::Strict,
            None,
            soon(),
        )?;
    }
    append(&*backend, &job("events")?, &[&text(50_000)])?;
    Ok(())
}
