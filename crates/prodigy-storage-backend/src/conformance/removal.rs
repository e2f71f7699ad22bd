//! Promises of the removal of old events.

use std::time::Duration;

use prodigy_storage_layout::{JobAddress, Phase, Timestamp};

use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{
    Check, append, append_given, given, job, object, payloads, read, read_from, read_some, refused, soon,
};
use crate::backend::Backend;
use crate::clock::Clock;
use crate::document::PutOptions;
use crate::error::ErrorKind;
use crate::fence::Fence;
use crate::log::{Cursor, ScanItem, ScanOptions};

topic! { "removal":
    a_removal_is_fenced "no event is removed under an overtaken token",
    the_oldest_segments_go "sealed segments go from the old end, up to the first with a later event; the newest stays",
    the_newest_event_stays "the segment with the newest event stays, also where a later one has only older ids",
    what_is_not_sealed_stays "a segment that is appended to stays, whatever its age",
    the_plan_is_what_is_removed "what can be removed is reported as it is then removed, and changes nothing",
    a_cursor_into_removed_events_is_a_gap "a cursor that does not cover what was removed is refused as a gap",
    a_cursor_behind_removed_events_goes_on "a cursor that covers what was removed goes on exactly",
    a_scan_does_not_pass_removed_events_over "a scan under way ends with a gap where events are removed before it",
    removed_ids_are_forgotten "an event of a removed id is stored again",
    ids_go_on_ascending "ids that are assigned after a removal are above all before",
    a_removal_outlives_the_process (Restart) "after a restart the same events are removed, and cursors go on",
    a_job_is_deleted_after_a_removal "a job whose events were removed is deleted whole, and begins again",
}

/// True if the backend supports removals. Uses a store that stays empty.
pub(super) fn is_supported(harness: &dyn Harness) -> Result<bool, Failure> {
    match harness
        .open()
        .removable_before(&job("a")?, Timestamp::MIN, soon())
    {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(false),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(true),
    }
}

/// Appends the events 0 to 7, two per segment, with a minute between the segments. The first three segments are
/// sealed. Returns the time of each append.
fn fill(harness: &dyn Harness, backend: &dyn Backend, job: &JobAddress) -> Result<Vec<Timestamp>, Failure> {
    let mut times = Vec::new();
    for number in 0..4 {
        harness.clock().advance(Duration::from_secs(60));
        times.push(harness.clock().now());
        let texts = [(2 * number).to_string(), (2 * number + 1).to_string()];
        append(backend, job, &texts.each_ref().map(String::as_str))?;
        if number < 3 {
            backend.seal(job, soon())?;
        }
    }
    Ok(times)
}

fn time(times: &[Timestamp], index: usize) -> Result<Timestamp, Failure> {
    times
        .get(index)
        .copied()
        .ok_or_else(|| Failure::new("no such time".to_owned()))
}

fn cursor(backend: &dyn Backend, job: &JobAddress, count: usize) -> Result<Cursor, Failure> {
    Ok(read_some(backend, job, &ScanOptions::all(), count)?.1)
}

fn is_gap(backend: &dyn Backend, job: &JobAddress, cursor: &Cursor) -> Result<bool, Failure> {
    match backend.scan(job, &ScanOptions::after(cursor.clone()), soon()) {
        Err(error) if error.kind() == ErrorKind::CursorGap => Ok(true),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(false),
    }
}

fn a_removal_is_fenced(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    fill(harness, &*backend, &job)?;
    let (old, new) = ("shop/a=4".parse::<Fence>()?, "shop/a=5".parse::<Fence>()?);
    let mark = PutOptions::default().fencing(Some(new.clone()));
    backend.add(&job, Phase::Map, object("{}")?, &mark, soon())?;
    harness.clock().advance(Duration::from_secs(60));
    let now = harness.clock().now();
    refused(
        backend.remove_before(&job, now, Some(&old), soon()),
        ErrorKind::Fenced,
        "a removal under a token that was overtaken",
    )?;
    ensure_eq!(
        payloads(&read(&*backend, &job)?),
        ["0", "1", "2", "3", "4", "5", "6", "7"],
        "events"
    );
    let removed = backend.remove_before(&job, now, Some(&new), soon())?;
    ensure!(removed.segments > 0, "nothing was removed");
    Ok(())
}

fn the_oldest_segments_go(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let times = fill(harness, &*backend, &job)?;
    let none = backend.remove_before(&job, time(&times, 0)?, None, soon())?;
    ensure_eq!((none.segments, none.bytes), (0, 0), "removed before the first");
    let before = backend.log_summary(&job, soon())?;
    let removed = backend.remove_before(&job, time(&times, 2)?, None, soon())?;
    ensure_eq!((removed.segments, removed.sealed), (2, 2), "segments removed");
    let after = backend.log_summary(&job, soon())?;
    ensure_eq!(
        after.segments + removed.segments,
        before.segments,
        "segments that are left, and those that were removed"
    );
    ensure!(removed.bytes > 0, "no byte was removed: {removed:?}");
    ensure_eq!(payloads(&read(&*backend, &job)?), ["4", "5", "6", "7"], "events");
    backend.seal(&job, soon())?;
    harness.clock().advance(Duration::from_secs(60));
    backend.remove_before(&job, harness.clock().now(), None, soon())?;
    ensure_eq!(
        payloads(&read(&*harness.open(), &job)?),
        ["6", "7"],
        "the newest segment"
    );
    Ok(())
}

fn the_newest_event_stays(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    harness.clock().advance(Duration::from_secs(60));
    append(&*backend, &job, &["1"])?;
    backend.seal(&job, soon())?;
    append_given(&*backend, &job, &[(given(5), "2")])?;
    backend.seal(&job, soon())?;
    harness.clock().advance(Duration::from_secs(60));
    let now = harness.clock().now();
    let removed = backend.remove_before(&job, now, None, soon())?;
    ensure_eq!(removed.segments, 0, "segments removed before a newer event");
    append(&*backend, &job, &["3"])?;
    backend.remove_before(&job, now, None, soon())?;
    ensure_eq!(payloads(&read(&*backend, &job)?), ["3"], "events after it");
    Ok(())
}

fn what_is_not_sealed_stays(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    append(&*backend, &job, &["1", "2"])?;
    harness.clock().advance(Duration::from_secs(60));
    let removed = backend.remove_before(&job, harness.clock().now(), None, soon())?;
    ensure_eq!(removed.segments, 0, "segments removed");
    ensure_eq!(payloads(&read(&*backend, &job)?), ["1", "2"], "events");
    Ok(())
}

fn the_plan_is_what_is_removed(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let times = fill(harness, &*backend, &job)?;
    let absent = super::tools::job("absent")?;
    ensure_eq!(
        backend
            .removable_before(&absent, time(&times, 3)?, soon())?
            .segments,
        0,
        "of a job that does not exist"
    );
    let plan = backend.removable_before(&job, time(&times, 3)?, soon())?;
    ensure_eq!(plan.segments, 3, "segments in the plan");
    ensure_eq!(read(&*backend, &job)?.len(), 8, "events after a plan");
    let removed = backend.remove_before(&job, time(&times, 3)?, None, soon())?;
    // Only the numbers of segments are compared: a segment that is compressed after the plan has fewer bytes.
    ensure_eq!(plan.segments, removed.segments, "segments in the plan");
    Ok(())
}

fn a_cursor_into_removed_events_is_a_gap(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let nothing = backend.end(&job, soon())?;
    let times = fill(harness, &*backend, &job)?;
    let cursors: Vec<Cursor> = (1..4)
        .map(|count| cursor(&*backend, &job, count))
        .collect::<Result<_, _>>()?;
    backend.remove_before(&job, time(&times, 2)?, None, soon())?;
    for (cursor, count) in cursors.iter().zip(1..) {
        ensure!(
            is_gap(&*backend, &job, cursor)?,
            "no gap behind event {count} of the four that were removed"
        );
    }
    ensure!(
        is_gap(&*backend, &job, &nothing)?,
        "no gap from before the first event"
    );
    Ok(())
}

fn a_cursor_behind_removed_events_goes_on(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let times = fill(harness, &*backend, &job)?;
    let cursors: Vec<Cursor> = (4..=8)
        .map(|count| cursor(&*backend, &job, count))
        .collect::<Result<_, _>>()?;
    backend.remove_before(&job, time(&times, 1)?, None, soon())?;
    let between = cursor(&*backend, &job, 4)?;
    backend.remove_before(&job, time(&times, 2)?, None, soon())?;
    append(&*backend, &job, &["8"])?;
    for (cursor, count) in cursors.into_iter().zip(4usize..) {
        backend.persist(&job, &cursor, soon())?;
        let (events, _) = read_from(&*backend, &job, Some(cursor))?;
        ensure_eq!(events.len(), 9 - count, "events behind event {count}");
    }
    let (events, end) = read_from(&*backend, &job, Some(between))?;
    ensure_eq!(
        payloads(&events),
        ["6", "7", "8"],
        "events behind a cursor that was made between two removals"
    );
    ensure_eq!(
        read_from(&*backend, &job, Some(end))?.0.len(),
        0,
        "events behind the end"
    );
    Ok(())
}

fn a_scan_does_not_pass_removed_events_over(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    // More events than a scan fetches at once, each in its own segment.
    for number in 0..300 {
        append(&*backend, &job, &[&number.to_string()])?;
        backend.seal(&job, soon())?;
    }
    harness.clock().advance(Duration::from_secs(60));
    let mut scan = backend.scan(&job, &ScanOptions::all(), soon())?;
    ensure!(scan.next()?.is_some(), "no first event");
    backend.remove_before(&job, harness.clock().now(), None, soon())?;
    let mut given = 1;
    loop {
        match scan.next() {
            Ok(Some(ScanItem::Record(_))) => given += 1,
            Ok(Some(other)) => ensure!(false, "not an event: {other:?}"),
            Ok(None) => ensure!(given == 300, "it ended after {given} of 300 events"),
            Err(error) if error.kind() == ErrorKind::CursorGap => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if given == 300 {
            return Ok(());
        }
    }
}

fn removed_ids_are_forgotten(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    append_given(&*backend, &job, &[(given(5), "1")])?;
    backend.seal(&job, soon())?;
    harness.clock().advance(Duration::from_secs(60));
    append(&*backend, &job, &["2"])?;
    ensure_eq!(
        append_given(&*backend, &job, &[(given(5), "1")])?.duplicates,
        1,
        "duplicates before the removal"
    );
    let removed = backend.remove_before(&job, harness.clock().now(), None, soon())?;
    ensure_eq!(removed.segments, 1, "segments removed");
    ensure_eq!(
        append_given(&*backend, &job, &[(given(5), "1")])?.stored,
        1,
        "stored after the removal"
    );
    ensure_eq!(payloads(&read(&*backend, &job)?), ["1", "2"], "events");
    Ok(())
}

fn ids_go_on_ascending(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let times = fill(harness, &*backend, &job)?;
    let newest = read(&*backend, &job)?.last().map(|event| event.0);
    backend.remove_before(&job, time(&times, 3)?, None, soon())?;
    harness.clock().set(time(&times, 0)?);
    let id = append(&*harness.open(), &job, &["8"])?;
    ensure!(id.first().copied() > newest, "{id:?} after {newest:?}");
    Ok(())
}

fn a_removal_outlives_the_process(harness: &dyn Harness) -> Check {
    let job = job("a")?;
    let backend = harness.open();
    let times = fill(harness, &*backend, &job)?;
    let (early, late) = (cursor(&*backend, &job, 1)?, cursor(&*backend, &job, 6)?);
    backend.remove_before(&job, time(&times, 2)?, None, soon())?;
    drop(backend);
    ensure!(harness.restart(), "a harness that could restart can't any more");
    let backend = harness.open();
    ensure_eq!(payloads(&read(&*backend, &job)?), ["4", "5", "6", "7"], "events");
    ensure!(is_gap(&*backend, &job, &early)?, "no gap after a restart");
    let (events, _) = read_from(&*backend, &job, Some(late))?;
    ensure_eq!(payloads(&events), ["6", "7"], "events behind the cursor");
    let removed = backend.remove_before(&job, time(&times, 3)?, None, soon())?;
    ensure_eq!(removed.segments, 1, "segments removed after a restart");
    Ok(())
}

fn a_job_is_deleted_after_a_removal(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let times = fill(harness, &*backend, &job)?;
    let end = cursor(&*backend, &job, 8)?;
    backend.remove_before(&job, time(&times, 2)?, None, soon())?;
    backend.seal(&job, soon())?;
    ensure!(backend.delete_job(&job, None, soon())?, "nothing was deleted");
    ensure_eq!(read(&*backend, &job)?.len(), 0, "events of a deleted job");
    append(&*backend, &job, &["9"])?;
    ensure_eq!(
        payloads(&read(&*backend, &job)?),
        ["9"],
        "events of the next life"
    );
    ensure!(
        is_gap(&*backend, &job, &end)?,
        "a cursor into the deleted log fits the next one"
    );
    Ok(())
}
