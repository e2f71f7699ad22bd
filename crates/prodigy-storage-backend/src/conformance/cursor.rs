//! Promises of cursors.

use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{
    Check, append, append_given, given, job, payloads, read, read_from, read_some, refused, soon,
};
use crate::error::ErrorKind;
use crate::log::{Cursor, ScanOptions};

topic! { "cursor":
    nothing_comes_after_the_end "a read from the cursor of the end returns nothing until an event is stored",
    a_cursor_of_nothing_reads_all "a read from the cursor of an empty log returns every event that is stored later",
    a_cursor_in_the_middle_goes_on_exactly "a read from the cursor behind any event returns exactly the later events",
    a_fresh_scan_stands_at_its_start "the cursor of a scan that has returned nothing is the position at which it began",
    late_ids_are_not_passed_over "a read from a cursor of the end returns an event that is stored late under an older id",
    late_ids_below_a_middle_cursor_come "a read from a cursor in the middle returns an event that is stored late below it, once",
    following_sees_each_once "repeated reads from cursors, over seals and late ids, return each event once",
    a_cursor_outlives_its_handle "a cursor of one handle is valid in another handle",
    a_cursor_is_text "a cursor parsed from its text is the same position",
    persisting_a_cursor_changes_no_reading "a read from a persisted cursor returns the same events, in every handle",
    a_foreign_cursor_is_refused "a text that is not a cursor is refused as invalid, and the log is not read from the beginning",
    a_gap_of_another_store_is_a_gap "the cursor of a gap is refused as a gap by reads and saves, whatever the log has",
}

fn nothing_comes_after_the_end(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    append(&*backend, &job, &["1", "2"])?;
    let (_, end) = read_from(&*backend, &job, None)?;
    let (events, end) = read_from(&*backend, &job, Some(end))?;
    ensure_eq!(events.len(), 0, "events after the end");
    append(&*backend, &job, &["3"])?;
    let (events, end) = read_from(&*backend, &job, Some(end))?;
    ensure_eq!(payloads(&events), ["3"], "events after the end, later");
    ensure_eq!(
        read_from(&*backend, &job, Some(end))?.0.len(),
        0,
        "events after the new end"
    );
    Ok(())
}

fn a_cursor_of_nothing_reads_all(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let (_, cursor) = read_from(&*backend, &job, None)?;
    append(&*backend, &job, &["1", "2"])?;
    ensure_eq!(
        payloads(&read_from(&*backend, &job, Some(cursor))?.0),
        ["1", "2"],
        "events"
    );
    Ok(())
}

fn a_cursor_in_the_middle_goes_on_exactly(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    append_given(&*backend, &job, &[(given(10), "10"), (given(40), "40")])?;
    backend.seal(&job, soon())?;
    append_given(
        &*backend,
        &job,
        &[(given(20), "20"), (given(30), "30"), (given(50), "50")],
    )?;
    let all = read(&*backend, &job)?;
    for count in 0..=all.len() {
        let (head, cursor) = read_some(&*backend, &job, &ScanOptions::all(), count)?;
        let (tail, _) = read_from(&*backend, &job, Some(cursor))?;
        let both: Vec<_> = head.into_iter().chain(tail).collect();
        ensure_eq!(both, all, "events up to event {count}, and those behind it");
    }
    Ok(())
}

fn a_fresh_scan_stands_at_its_start(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    append(&*backend, &job, &["1", "2"])?;
    let (_, middle) = read_some(&*backend, &job, &ScanOptions::all(), 1)?;
    let start = backend.scan(&job, &ScanOptions::after(middle), soon())?.cursor();
    ensure_eq!(
        payloads(&read_from(&*backend, &job, Some(start))?.0),
        ["2"],
        "events from it"
    );
    Ok(())
}

fn late_ids_are_not_passed_over(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    append_given(&*one, &job, &[(given(10), "10"), (given(30), "30")])?;
    let (_, end) = read_from(&*one, &job, None)?;
    append_given(&*two, &job, &[(given(20), "20"), (given(5), "5")])?;
    let (events, end) = read_from(&*one, &job, Some(end))?;
    ensure_eq!(payloads(&events), ["5", "20"], "events stored late");
    ensure_eq!(read_from(&*one, &job, Some(end))?.0.len(), 0, "events after them");
    Ok(())
}

fn late_ids_below_a_middle_cursor_come(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    append_given(
        &*backend,
        &job,
        &[(given(10), "10"), (given(20), "20"), (given(30), "30")],
    )?;
    let (_, middle) = read_some(&*backend, &job, &ScanOptions::all(), 2)?;
    append_given(&*backend, &job, &[(given(15), "15"), (given(25), "25")])?;
    let (events, _) = read_from(&*backend, &job, Some(middle.clone()))?;
    ensure_eq!(payloads(&events), ["15", "25", "30"], "events after the cursor");
    // Now one event is read, and another late event is stored before the rest is read.
    let (events, next) = read_some(&*backend, &job, &ScanOptions::after(middle), 1)?;
    ensure_eq!(payloads(&events), ["15"], "the first event after the cursor");
    append_given(&*backend, &job, &[(given(12), "12")])?;
    let (events, end) = read_from(&*backend, &job, Some(next))?;
    ensure_eq!(payloads(&events), ["12", "25", "30"], "the others");
    ensure_eq!(
        read_from(&*backend, &job, Some(end))?.0.len(),
        0,
        "events after the end"
    );
    Ok(())
}

fn following_sees_each_once(harness: &dyn Harness) -> Check {
    let (writer, reader, job) = (harness.open(), harness.open(), job("a")?);
    let (mut seen, mut cursor): (Vec<String>, Option<Cursor>) = (Vec::new(), None);
    let mut written = Vec::new();
    for round in 0..30i64 {
        // Every third event gets an id below those of the events before it.
        let millis = if round % 3 == 2 {
            1000 - round
        } else {
            2000 + round * 10
        };
        let payload = round.to_string();
        append_given(&*writer, &job, &[(given(millis), &payload)])?;
        written.push(payload);
        if round % 7 == 0 {
            writer.seal(&job, soon())?;
        }
        let options = cursor.take().map_or_else(ScanOptions::all, ScanOptions::after);
        // Most scans end before the last event, after one or two events.
        let (events, next) = read_some(&*reader, &job, &options, if round % 5 == 0 { 1 } else { 2 })?;
        seen.extend(events.into_iter().map(|event| event.1));
        cursor = Some(next);
    }
    seen.extend(
        read_from(&*reader, &job, cursor)?
            .0
            .into_iter()
            .map(|event| event.1),
    );
    seen.sort_by_key(|payload| payload.parse::<i64>().unwrap_or(-1));
    ensure_eq!(seen, written, "events of repeated reads");
    Ok(())
}

fn a_cursor_outlives_its_handle(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    append(&*backend, &job, &["1", "2"])?;
    let (_, middle) = read_some(&*backend, &job, &ScanOptions::all(), 1)?;
    let other = harness.open();
    drop(backend);
    append(&*other, &job, &["3"])?;
    ensure_eq!(
        payloads(&read_from(&*other, &job, Some(middle))?.0),
        ["2", "3"],
        "events"
    );
    Ok(())
}

fn a_cursor_is_text(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    append(&*backend, &job, &["1", "2"])?;
    let (_, middle) = read_some(&*backend, &job, &ScanOptions::all(), 1)?;
    ensure!(
        middle.as_str().starts_with("v1."),
        "a cursor without its version: {middle}"
    );
    let parsed: Cursor = middle.as_str().parse()?;
    ensure_eq!(
        payloads(&read_from(&*backend, &job, Some(parsed))?.0),
        ["2"],
        "events"
    );
    Ok(())
}

fn persisting_a_cursor_changes_no_reading(harness: &dyn Harness) -> Check {
    let (backend, other, job) = (harness.open(), harness.open(), job("a")?);
    let (_, empty) = read_from(&*backend, &job, None)?;
    backend.persist(&job, &empty, soon())?;
    append(&*backend, &job, &["1", "2"])?;
    append(&*other, &job, &["3"])?;
    for count in 0..=3 {
        let (head, cursor) = read_some(&*backend, &job, &ScanOptions::all(), count)?;
        other.persist(&job, &cursor, soon())?;
        let (tail, _) = read_from(&*backend, &job, Some(cursor))?;
        ensure_eq!(
            head.len() + tail.len(),
            3,
            "events up to a persisted cursor, and behind it"
        );
    }
    let foreign = Cursor::new("v1.nobody.7")?;
    refused(
        other.persist(&job, &foreign, soon()),
        ErrorKind::InvalidInput,
        "v1.nobody.7",
    )?;
    Ok(())
}

fn a_gap_of_another_store_is_a_gap(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let gap: Cursor = Cursor::gap().as_str().parse()?;
    for payload in ["1", "2"] {
        // A backend may check the cursor at once or in the first step.
        let read = backend
            .scan(&job, &ScanOptions::after(gap.clone()), soon())
            .and_then(|mut scan| scan.next().map(|item| item.is_some()));
        refused(read, ErrorKind::CursorGap, "a read from the cursor of a gap")?;
        append(&*backend, &job, &[payload])?;
        refused(
            backend.persist(&job, &gap, soon()),
            ErrorKind::CursorGap,
            "a save with the cursor of a gap",
        )?;
    }
    Ok(())
}

fn a_foreign_cursor_is_refused(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    append(&*backend, &job, &["1"])?;
    for text in ["v1.nobody.7", "nonsense", "v9.x"] {
        let options = ScanOptions::after(Cursor::new(text)?);
        // A backend may check the cursor at once or in the first step.
        let outcome = backend
            .scan(&job, &options, soon())
            .and_then(|mut scan| scan.next().map(|item| item.is_some()));
        match outcome {
            Err(error) if error.kind() == ErrorKind::NewerFormat => {}
            other => {
                refused(other, ErrorKind::InvalidInput, text)?;
            }
        }
    }
    let empty = Cursor::new("");
    ensure!(empty.is_err(), "an empty text is accepted as a cursor");
    Ok::<(), Failure>(())
}
