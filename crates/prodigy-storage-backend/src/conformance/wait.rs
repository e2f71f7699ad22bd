//! Promises of the end of a log: reading the newest events, the cursor at the end, and waits for later events.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use prodigy_storage_layout::{Document, JobAddress};

use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{
    Check, Event, append, append_given, drain, given, job, object, payloads, read, read_from, refused, soon,
};
use crate::backend::Backend;
use crate::deadline::Deadline;
use crate::document::PutOptions;
use crate::error::ErrorKind;
use crate::log::Cursor;
use crate::wait::{Interrupt, WaitOptions};

topic! { "end":
    a_tail_gives_the_newest "a tail returns the newest events by id, oldest first, over seals and late ids, or all events if there are fewer",
    a_cursor_of_a_tail_goes_on "a read from a cursor anywhere in a tail returns exactly the events that the tail has not returned",
    a_tail_of_nothing_is_empty "a tail of an absent log is empty, and so is a tail of no events",
    the_end_is_behind_everything "a read from the end returns exactly the events that are stored later, even under older ids",
    the_end_of_nothing_gives_all "a read from the end of an absent log returns every event that is stored later",
    a_wait_finds_what_is_there "a wait for an event that is already stored ends at once",
    a_wait_ends_at_its_deadline "a wait without a new event ends at its deadline, without an error",
    an_append_ends_a_wait "an append through any handle of this process ends a wait at once, even the first append of the job",
    an_interrupt_ends_a_wait "a raised interrupt ends the present wait or else the next one, and only that one",
    the_end_of_a_job_ends_a_wait_that_asks_for_it "a job that is finished ends a wait that asks for the end, and no other",
    a_wait_at_a_foreign_cursor_is_refused "a wait at a text that is not a cursor is refused",
}

/// A log with two segments and late ids: first the ids 10 and 40, in the second segment 20, 30 and 50, and last
/// 25.
fn woven(backend: &dyn Backend, job: &JobAddress) -> Check {
    append_given(backend, job, &[(given(10), "10"), (given(40), "40")])?;
    backend.seal(job, soon())?;
    append_given(
        backend,
        job,
        &[(given(20), "20"), (given(30), "30"), (given(50), "50")],
    )?;
    append_given(backend, job, &[(given(25), "25")])?;
    Ok(())
}

fn tail(
    backend: &dyn Backend,
    job: &JobAddress,
    count: usize,
    most: usize,
) -> Result<(Vec<Event>, Cursor), Failure> {
    drain(backend.tail(job, count, None, soon())?, most)
}

fn a_tail_gives_the_newest(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    woven(&*backend, &job)?;
    let all = ["10", "20", "25", "30", "40", "50"];
    for count in 0..8 {
        let (events, _) = tail(&*harness.open(), &job, count, usize::MAX)?;
        let wanted = all.get(all.len().saturating_sub(count)..).unwrap_or_default();
        ensure_eq!(payloads(&events), wanted, "the newest {count} events");
    }
    ensure_eq!(
        tail(&*backend, &job, usize::MAX, usize::MAX)?.0.len(),
        6,
        "events of a tail without bound"
    );
    Ok(())
}

fn a_cursor_of_a_tail_goes_on(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    woven(&*backend, &job)?;
    for count in 0..7 {
        for given_events in 0..=count.min(6) {
            let (_, cursor) = tail(&*backend, &job, count, given_events)?;
            let (rest, _) = read_from(&*backend, &job, Some(cursor))?;
            let all = read(&*backend, &job)?;
            let from = all.len() - count.min(6) + given_events;
            ensure_eq!(
                rest,
                all.get(from..).unwrap_or_default(),
                "behind event {given_events} of a tail of {count}"
            );
        }
    }
    let (_, cursor) = tail(&*backend, &job, 2, usize::MAX)?;
    append_given(&*backend, &job, &[(given(15), "15"), (given(60), "60")])?;
    let (rest, _) = read_from(&*backend, &job, Some(cursor))?;
    ensure_eq!(payloads(&rest), ["15", "60"], "the events stored after the tail");
    Ok(())
}

fn a_tail_of_nothing_is_empty(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let (events, cursor) = tail(&*backend, &job, 10, usize::MAX)?;
    ensure_eq!(events.len(), 0, "events of an absent log");
    append(&*backend, &job, &["1"])?;
    ensure_eq!(
        tail(&*backend, &job, 0, usize::MAX)?.0.len(),
        0,
        "a tail of no events"
    );
    ensure_eq!(
        payloads(&read_from(&*backend, &job, Some(cursor))?.0),
        ["1"],
        "the events stored later"
    );
    Ok(())
}

fn the_end_is_behind_everything(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    woven(&*backend, &job)?;
    let end = harness.open().end(&job, soon())?;
    ensure_eq!(
        read_from(&*backend, &job, Some(end.clone()))?.0.len(),
        0,
        "events behind the end"
    );
    append_given(
        &*backend,
        &job,
        &[(given(5), "5"), (given(35), "35"), (given(60), "60")],
    )?;
    let (events, behind) = read_from(&*backend, &job, Some(end))?;
    ensure_eq!(
        payloads(&events),
        ["5", "35", "60"],
        "events behind the end, later"
    );
    backend.seal(&job, soon())?;
    let end = backend.end(&job, soon())?;
    for cursor in [end, behind] {
        append(&*backend, &job, &["1"])?;
        let (events, _) = read_from(&*backend, &job, Some(cursor))?;
        ensure!(
            !events.is_empty() && events.iter().all(|event| event.1 == "1"),
            "events behind the end of a sealed log: {events:?}"
        );
    }
    Ok(())
}

fn the_end_of_nothing_gives_all(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let end = backend.end(&job, soon())?;
    append(&*backend, &job, &["1", "2"])?;
    ensure_eq!(
        payloads(&read_from(&*backend, &job, Some(end))?.0),
        ["1", "2"],
        "events"
    );
    Ok(())
}

/// Options whose poll interval is an hour, so that only an event or an interrupt ends a wait in time.
fn rarely() -> WaitOptions {
    WaitOptions::new().poll(Duration::from_secs(3600))
}

fn a_wait_finds_what_is_there(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let start = backend.end(&job, soon())?;
    append(&*backend, &job, &["1"])?;
    ensure!(
        backend.wait(&job, &start, &rarely(), soon())?,
        "the event is not found"
    );
    let passed = Deadline::after(Duration::ZERO);
    ensure!(
        backend.wait(&job, &start, &rarely(), passed)?,
        "the event is not found after the deadline"
    );
    Ok(())
}

fn a_wait_ends_at_its_deadline(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    append(&*backend, &job, &["1"])?;
    let end = backend.end(&job, soon())?;
    for time in [0, 30] {
        let deadline = Deadline::after(Duration::from_millis(time));
        ensure!(
            !backend.wait(&job, &end, &rarely(), deadline)?,
            "the wait reported an event, but there is none"
        );
        ensure!(deadline.has_passed(), "the wait ended before its deadline");
    }
    Ok(())
}

/// Starts a wait in a thread, calls `act`, and returns the result of the wait.
fn wait_while(
    backend: &Arc<dyn Backend>,
    job: &JobAddress,
    options: &WaitOptions,
    act: impl FnOnce() -> Check,
) -> Result<bool, Failure> {
    let end = backend.end(job, soon())?;
    thread::scope(|scope| {
        let waiting = scope.spawn(|| backend.wait(job, &end, options, soon()));
        // Nothing synchronises the two threads: the wait has to end whether it starts before or after `act`.
        thread::sleep(Duration::from_millis(5));
        act()?;
        match waiting.join() {
            Ok(found) => Ok(found?),
            Err(_) => Err(Failure::new("the wait panicked")),
        }
    })
}

fn an_append_ends_a_wait(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    for number in 0..5 {
        let other = harness.open();
        let found = wait_while(&backend, &job, &rarely(), || {
            append(&*other, &job, &["1"])?;
            Ok(())
        })?;
        ensure!(found, "wait {number} ended without the event");
    }
    Ok(())
}

fn an_interrupt_ends_a_wait(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let interrupt = Interrupt::new();
    let options = rarely().interrupt(interrupt.clone());
    let raise = || {
        interrupt.raise();
        Ok(())
    };
    ensure!(
        !wait_while(&backend, &job, &options, raise)?,
        "the wait reported an event, but there is none"
    );
    interrupt.raise();
    let end = backend.end(&job, soon())?;
    ensure!(
        !backend.wait(&job, &end, &options, soon())?,
        "the wait reported an event, but there is none"
    );
    let briefly = Deadline::after(Duration::from_millis(30));
    ensure!(
        !backend.wait(&job, &end, &options, briefly)?,
        "the wait reported an event, but there is none"
    );
    ensure!(briefly.has_passed(), "an interrupt ended two waits");
    Ok(())
}

fn the_end_of_a_job_ends_a_wait_that_asks_for_it(harness: &dyn Harness) -> Check {
    let (backend, other) = (harness.open(), harness.open());
    for (name, stored) in [("a", true), ("b", false)] {
        let job = job(name)?;
        if stored {
            append(&*backend, &job, &["1"])?;
        }
        let finish = || {
            let mark = Document::Finished(job.clone());
            other.put(&mark, object("{}")?, &PutOptions::default(), soon())?;
            Ok(())
        };
        let until_finished = rarely().until_finished(true);
        ensure!(
            wait_while(&backend, &job, &until_finished, finish)?,
            "the end of the job was not noticed"
        );
        let end = backend.end(&job, soon())?;
        ensure!(
            backend.wait(&job, &end, &until_finished, soon())?,
            "the wait did not end for a job that was already finished"
        );
        let briefly = || Deadline::after(Duration::from_millis(10));
        ensure!(
            !backend.wait(&job, &end, &rarely(), briefly())?,
            "a wait for events ended without one"
        );
        let mark = backend.revision(&Document::Finished(job.clone()), soon())?;
        let reopened = until_finished.clone().reopened(mark);
        ensure!(
            !backend.wait(&job, &end, &reopened, briefly())?,
            "a wait ended by a mark that does not count"
        );
        ensure!(
            wait_while(&backend, &job, &reopened, finish)?,
            "the next end of the job was not noticed"
        );
    }
    Ok(())
}

fn a_wait_at_a_foreign_cursor_is_refused(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    append(&*backend, &job, &["1"])?;
    let foreign = Cursor::new("v1.other.zzzz")?;
    refused(
        backend.wait(&job, &foreign, &rarely(), soon()),
        ErrorKind::InvalidInput,
        "a wait at a foreign cursor",
    )?;
    Ok(())
}
