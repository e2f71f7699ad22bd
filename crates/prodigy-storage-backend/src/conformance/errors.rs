//! Promises of errors.

use std::time::Duration;

use prodigy_storage_layout::{Document, Phase, Timestamp};

use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{Check, append, batch, given, job, payloads, read, refused, soon};
use crate::body::Body;
use crate::clock::Clock;
use crate::deadline::Deadline;
use crate::document::{Expected, PutOptions};
use crate::error::ErrorKind;
use crate::id::EventId;
use crate::log::AppendOptions;

topic! { "error":
    a_passed_deadline_is_a_timeout "a call whose deadline has passed either succeeds or fails with a timeout, and is never done in part",
    ids_of_another_version_are_refused "given ids that are not of version 7 are refused, and nothing is stored",
    ids_of_the_future_are_refused "a given id that is more than an hour ahead of the clock is refused, and nothing is stored, unless it is at most a second above the newest id of the log",
    ids_of_another_number_are_refused "more or fewer ids than events are refused, and nothing is stored",
    a_conflict_names_what_it_is_about "a conflict names the job, the reason and the remedy",
    a_refusal_leaves_the_store_usable "a handle can be used after a refused write",
}

fn a_passed_deadline_is_a_timeout(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    append(&*backend, &job, &["1"])?;
    let passed = || Deadline::after(Duration::ZERO);
    let mut batch = batch(&["2"])?;
    let stored = match backend.append(&job, &mut batch, &AppendOptions::default(), passed()) {
        Ok(_) => vec!["1", "2"],
        Err(error) if error.kind() == ErrorKind::Timeout => vec!["1"],
        Err(error) => return Err(error.into()),
    };
    ensure_eq!(
        payloads(&read(&*backend, &job)?),
        stored,
        "events after an append whose deadline has passed"
    );
    let document = Document::Orphans(job);
    let there = match backend.put(&document, Body::EMPTY, &PutOptions::default(), passed()) {
        Ok(_) => true,
        Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::LockUnavailable) => false,
        Err(error) => return Err(error.into()),
    };
    ensure_eq!(
        backend.get(&document, soon())?.is_some(),
        there,
        "a document after a put whose deadline has passed"
    );
    Ok(())
}

fn ids_of_another_version_are_refused(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    for id in [
        EventId::MIN,
        EventId::MAX,
        EventId::from_u128(0x6f1c_1f5e_7c1a_4a53_9d2e_0a3b_1c2d_3e4f),
    ] {
        let mut batch = batch(&["1", "2"])?;
        batch.set_ids([given(1), id]);
        refused(
            backend.append(&job, &mut batch, &AppendOptions::default(), soon()),
            ErrorKind::InvalidInput,
            &format!("the id {id}"),
        )?;
    }
    ensure_eq!(read(&*backend, &job)?.len(), 0, "events");
    Ok(())
}

fn ids_of_the_future_are_refused(harness: &dyn Harness) -> Check {
    const MINUTE: i64 = 60_000;
    let (backend, job) = (harness.open(), job("a")?);
    let now = harness.clock().now();
    let at = |minutes: i64| EventId::floor(Timestamp::from_millis(now.as_millis() + minutes * MINUTE));
    let append = |minutes| -> Result<_, super::failure::Failure> {
        let mut batch = batch(&["1"])?;
        batch.set_ids([at(minutes)]);
        Ok(backend.append(&job, &mut batch, &AppendOptions::default(), soon()))
    };
    refused(append(61)?, ErrorKind::InvalidInput, "an id of an hour from now")?;
    ensure_eq!(read(&*backend, &job)?.len(), 0, "events");
    append(59)??;
    // Else each id would be the bound of the next one.
    refused(append(61)?, ErrorKind::InvalidInput, "an id of an hour from now")?;
    ensure_eq!(read(&*backend, &job)?.len(), 1, "events");
    // After the clock has stepped back, the log gives out ids that are ahead of it. They may come again.
    let clock = harness.clock();
    clock.set(Timestamp::from_millis(now.as_millis() - 120 * MINUTE));
    let backend = harness.open();
    let mut given = batch(&["2", "3"])?;
    backend.append(&job, &mut given, &AppendOptions::default(), soon())?;
    let again = backend.append(&job, &mut given, &AppendOptions::default(), soon())?;
    ensure_eq!((again.stored, again.duplicates), (0, 2), "the same batch again");
    let newest = *given
        .ids()
        .last()
        .ok_or_else(|| Failure::new("the log gave no ids"))?;
    let above = |millis: i64| EventId::floor(Timestamp::from_millis(newest.time().as_millis() + millis));
    let append = |millis| -> Result<_, Failure> {
        let mut batch = batch(&["4"])?;
        batch.set_ids([above(millis)]);
        Ok(backend.append(&job, &mut batch, &AppendOptions::default(), soon()))
    };
    append(900)??;
    let kept = read(&*backend, &job)?.len();
    match append(2_500)?.map_err(|error| error.kind()) {
        // A caller whose earlier try was unclear reports that one.
        Err(ErrorKind::InvalidInput | ErrorKind::OutcomeUnknown) => {}
        other => {
            return Err(Failure::new(format!(
                "an id of seconds above the newest one: {other:?}"
            )));
        }
    }
    ensure_eq!(
        read(&*backend, &job)?.len(),
        kept,
        "events after an id was refused"
    );
    Ok(())
}

fn ids_of_another_number_are_refused(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let mut batch = batch(&["1", "2"])?;
    for ids in [vec![given(1)], vec![given(1), given(2), given(3)]] {
        batch.set_ids(ids);
        refused(
            backend.append(&job, &mut batch, &AppendOptions::default(), soon()),
            ErrorKind::InvalidInput,
            "a batch of two events and another number of ids",
        )?;
    }
    ensure_eq!(read(&*backend, &job)?.len(), 0, "events");
    Ok(())
}

fn a_conflict_names_what_it_is_about(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("mapreduce-7")?);
    let absent = PutOptions::default().expect(Expected::Absent);
    backend.add(&job, Phase::Map, Body::EMPTY, &absent, soon())?;
    let error = refused(
        backend.add(&job, Phase::Map, Body::EMPTY, &absent, soon()),
        ErrorKind::Conflict,
        "an addition that expects an empty series",
    )?;
    let text = error.to_string();
    ensure!(
        text.contains("mapreduce-7"),
        "the message does not name the job: {text}"
    );
    ensure!(error.hint().is_some(), "no hint: {text}");
    ensure!(!text.contains('\n'), "the message has more than one line: {text}");
    Ok(())
}

fn a_refusal_leaves_the_store_usable(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let mut bad = batch(&["1", "2"])?;
    bad.set_ids([given(1)]);
    refused(
        backend.append(&job, &mut bad, &AppendOptions::default(), soon()),
        ErrorKind::InvalidInput,
        "a batch of two events and one id",
    )?;
    bad.clear_ids();
    backend.append(&job, &mut bad, &AppendOptions::default(), soon())?;
    ensure_eq!(payloads(&read(&*backend, &job)?), ["1", "2"], "events");
    Ok(())
}
