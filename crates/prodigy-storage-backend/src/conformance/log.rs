//! Promises of the log.

use std::time::Duration;

use super::failure::{ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{
    Check, append, append_given, given, job, jobs, moment, payloads, read, read_some, repositories, soon,
};
use crate::batch::{Annotations, Batch};
use crate::log::{AppendOptions, Durability, LogSummary, ScanItem, ScanOptions};
use crate::record::read_line;

topic! { "log":
    appended_is_read "appended events are read in order, with payload and id",
    absent_log_is_empty "a log that does not exist is empty, and reading it creates nothing",
    empty_batch_changes_nothing "an empty batch is acknowledged and stores nothing",
    ids_ascend_over_batches "assigned ids ascend within a batch and from batch to batch",
    ids_ascend_over_handles "assigned ids of one job ascend, whichever handle of a process appends",
    ids_ascend_when_the_clock_steps_back "assigned ids ascend even when the clock steps back",
    assigned_ids_are_above_given_ones "an assigned id is above every id in the log",
    given_ids_are_kept "events are stored under the ids that they bring",
    a_given_id_is_stored_once "a repeated id is acknowledged, and its event is neither stored again nor replaced",
    a_repeated_batch_is_stored_once "a batch that is appended again, as after an unknown outcome, is stored once",
    an_id_twice_in_a_batch_is_stored_once "of two events with one id in a batch, the first is stored",
    late_ids_are_merged_in_order "events that are appended late under older ids are read in the order of ids",
    reverse_order_is_merged "events that are appended in the reverse order of their ids are read in order",
    payload_bytes_pass_through "a payload is read byte for byte",
    annotations_pass_through "correlation id and metadata are read with the event",
    the_line_is_a_checksummed_record "a line is JSON with a checksum that matches, and with the clock's time at the append",
    jobs_are_kept_apart "logs of two jobs do not mix",
    times_bound_a_scan "`since` is inclusive, `until` exclusive",
    a_time_is_that_of_the_append "an event's time is the clock's time at its append, whatever its id and the times of earlier events",
    a_scan_is_of_its_beginning "an event that is appended while a scan runs is never read twice, and does not end the scan",
    many_events_are_all_read "ten thousand events are read, each once",
    threads_append_to_one_job "eight threads append to one job, and each event is stored once",
    sealing_changes_nothing_read "sealing does not change the events that are read, even if it is repeated or the log is empty",
    relaxed_is_read_at_once "a relaxed append is read at once, through every handle",
    the_summary_tells_of_events "the summary of a log shows whether it has events",
}

fn appended_is_read(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let ids = append(&*backend, &job, &["1", r#"{"k":[true,null]}"#, r#""text""#])?;
    let events = read(&*harness.open(), &job)?;
    ensure_eq!(
        payloads(&events),
        ["1", r#"{"k":[true,null]}"#, r#""text""#],
        "payloads read"
    );
    ensure_eq!(
        events.iter().map(|event| event.0).collect::<Vec<_>>(),
        ids,
        "ids read"
    );
    ensure!(
        ids.iter().all(|id| id.is_v7()),
        "an assigned id is not of version 7: {ids:?}"
    );
    Ok(())
}

fn absent_log_is_empty(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    ensure_eq!(read(&*backend, &job)?.len(), 0, "events of an absent log");
    ensure_eq!(
        backend.log_summary(&job, soon())?,
        LogSummary::default(),
        "its summary"
    );
    ensure_eq!(jobs(&*backend, &job.repo)?.len(), 0, "jobs after a read");
    ensure_eq!(repositories(&*backend)?.len(), 0, "repositories after a read");
    Ok(())
}

fn empty_batch_changes_nothing(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let appended = backend.append(&job, &mut Batch::new(), &AppendOptions::default(), soon())?;
    ensure_eq!(
        (appended.stored, appended.duplicates),
        (0, 0),
        "the result of appending an empty batch"
    );
    ensure_eq!(read(&*backend, &job)?.len(), 0, "events");
    Ok(())
}

fn ids_ascend_over_batches(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.extend(append(&*backend, &job, &["1", "2", "3"])?);
    }
    ensure!(ids.is_sorted_by(|a, b| a < b), "ids do not ascend: {ids:?}");
    Ok(())
}

fn ids_ascend_over_handles(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    let mut ids = Vec::new();
    for round in 0..20 {
        let backend = if round % 2 == 0 { &one } else { &two };
        ids.extend(append(&**backend, &job, &["1", "2"])?);
    }
    ensure!(ids.is_sorted_by(|a, b| a < b), "ids do not ascend: {ids:?}");
    let read: Vec<_> = read(&*one, &job)?.into_iter().map(|event| event.0).collect();
    ensure_eq!(read, ids, "ids read");
    Ok(())
}

fn ids_ascend_when_the_clock_steps_back(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let mut ids = append(&*backend, &job, &["1"])?;
    harness.clock().set(moment(-86_400_000));
    ids.extend(append(&*backend, &job, &["2"])?);
    harness.clock().set(moment(1000));
    ids.extend(append(&*backend, &job, &["3"])?);
    ensure!(ids.is_sorted_by(|a, b| a < b), "ids do not ascend: {ids:?}");
    ensure_eq!(payloads(&read(&*backend, &job)?), ["1", "2", "3"], "order read");
    Ok(())
}

fn assigned_ids_are_above_given_ones(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let ahead = given(3_600_000);
    append_given(&*backend, &job, &[(ahead, "1")])?;
    let ids = append(&*backend, &job, &["2"])?;
    ensure!(ids.iter().all(|id| *id > ahead), "{ids:?} is not above {ahead}");
    Ok(())
}

fn given_ids_are_kept(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let appended = append_given(&*backend, &job, &[(given(5), "5"), (given(7), "7")])?;
    ensure_eq!(
        (appended.stored, appended.duplicates),
        (2, 0),
        "the result of the append"
    );
    let events = read(&*backend, &job)?;
    ensure_eq!(
        events,
        [(given(5), "5".into()), (given(7), "7".into())],
        "events read"
    );
    Ok(())
}

fn a_given_id_is_stored_once(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    append_given(&*one, &job, &[(given(5), r#""first""#), (given(9), "9")])?;
    let appended = append_given(&*two, &job, &[(given(5), r#""second""#), (given(6), "6")])?;
    ensure_eq!(
        (appended.stored, appended.duplicates),
        (1, 1),
        "the result of the second append"
    );
    // An id that was stored late, below the newest id, is recognised too.
    let again = append_given(&*one, &job, &[(given(6), "7")])?;
    ensure_eq!(
        (again.stored, again.duplicates),
        (0, 1),
        "the result of the third append"
    );
    ensure_eq!(
        payloads(&read(&*one, &job)?),
        [r#""first""#, "6", "9"],
        "payloads read"
    );
    Ok(())
}

fn a_repeated_batch_is_stored_once(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    let mut batch = super::tools::batch(&["1", "2"])?;
    one.append(&job, &mut batch, &AppendOptions::default(), soon())?;
    append(&*one, &job, &["3"])?;
    for backend in [&one, &two] {
        let again = backend.append(&job, &mut batch, &AppendOptions::default(), soon())?;
        ensure_eq!(
            (again.stored, again.duplicates),
            (0, 2),
            "the result of the repeated append"
        );
    }
    ensure_eq!(payloads(&read(&*one, &job)?), ["1", "2", "3"], "payloads read");
    Ok(())
}

fn an_id_twice_in_a_batch_is_stored_once(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let appended = append_given(&*backend, &job, &[(given(5), "1"), (given(5), "2")])?;
    ensure_eq!(
        (appended.stored, appended.duplicates),
        (1, 1),
        "the result of the append"
    );
    ensure_eq!(payloads(&read(&*backend, &job)?), ["1"], "payloads read");
    Ok(())
}

fn late_ids_are_merged_in_order(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    append_given(&*one, &job, &[(given(10), "10"), (given(30), "30")])?;
    append_given(&*two, &job, &[(given(20), "20"), (given(40), "40")])?;
    append_given(&*one, &job, &[(given(5), "5"), (given(25), "25")])?;
    ensure_eq!(
        payloads(&read(&*two, &job)?),
        ["5", "10", "20", "25", "30", "40"],
        "payloads read"
    );
    Ok(())
}

fn reverse_order_is_merged(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    for millis in (0..50).rev() {
        append_given(&*backend, &job, &[(given(millis), &millis.to_string())])?;
    }
    let wanted: Vec<String> = (0..50).map(|millis| millis.to_string()).collect();
    ensure_eq!(payloads(&read(&*backend, &job)?), wanted, "payloads read");
    Ok(())
}

fn payload_bytes_pass_through(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let odd = [
        r#"{ "b" : 1.0e2 ,	"a":-0, "b":"\u00e9\/\ud83d\ude00é" }"#,
        r#"123456789012345678901234567890.5"#,
        r#"{"crc":"00000000","id":"x","event":{"event":1}}"#,
        r#""}\",\"crc\":\"00000000\"}""#,
    ];
    append(&*backend, &job, &odd)?;
    ensure_eq!(payloads(&read(&*backend, &job)?), odd, "payloads read");
    Ok(())
}

fn annotations_pass_through(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let mut batch = Batch::new();
    let metadata = serde_json::json!({"host": "a"});
    let beside = Annotations {
        correlation_id: Some("run-1"),
        metadata: Some(&metadata),
    };
    batch.push_with(&7, beside)?;
    backend.append(&job, &mut batch, &AppendOptions::default(), soon())?;
    let mut scan = backend.scan(&job, &ScanOptions::all(), soon())?;
    let Some(ScanItem::Record(record)) = scan.next()? else {
        return Err(super::Failure::new("nothing is read"));
    };
    let line: serde_json::Value = record.parse()?;
    ensure_eq!(
        line.get("correlation_id"),
        Some(&"run-1".into()),
        "correlation id"
    );
    ensure_eq!(line.get("metadata"), Some(&metadata), "metadata");
    ensure_eq!(line.get("event"), Some(&7.into()), "event");
    Ok(())
}

fn the_line_is_a_checksummed_record(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    append(&*backend, &job, &["1"])?;
    let mut scan = backend.scan(&job, &ScanOptions::all(), soon())?;
    let Some(ScanItem::Record(record)) = scan.next()? else {
        return Err(super::Failure::new("nothing is read"));
    };
    let again = read_line(record.line.as_bytes())
        .map_err(|fault| super::Failure::new(format!("the line is not a record: {}", fault.as_str())))?;
    ensure!(again.verified, "the line has no checksum: {}", record.line);
    let time = super::tools::field(record.line.as_bytes(), "timestamp")?;
    ensure_eq!(
        time,
        serde_json::Value::from(super::ManualClock::START.to_rfc3339()),
        "timestamp"
    );
    Ok(())
}

fn jobs_are_kept_apart(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    let (a, b) = (job("a")?, job("b")?);
    append(&*backend, &a, &["1"])?;
    append(&*backend, &b, &["2"])?;
    append(&*backend, &a, &["3"])?;
    ensure_eq!(payloads(&read(&*backend, &a)?), ["1", "3"], "of one job");
    ensure_eq!(payloads(&read(&*backend, &b)?), ["2"], "of the other");
    Ok(())
}

fn times_bound_a_scan(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    for millis in [10, 20, 30, 40] {
        harness.clock().set(moment(millis));
        append(&*backend, &job, &[&millis.to_string()])?;
    }
    let between = |since, until| -> Result<Vec<String>, super::Failure> {
        let options = ScanOptions::all().between(since, until);
        let events = read_some(&*backend, &job, &options, usize::MAX)?.0;
        Ok(events.into_iter().map(|event| event.1).collect())
    };
    ensure_eq!(
        between(Some(moment(20)), Some(moment(40)))?,
        ["20", "30"],
        "since 20 until 40"
    );
    ensure_eq!(between(Some(moment(21)), None)?, ["30", "40"], "since 21");
    ensure_eq!(between(None, Some(moment(10)))?, Vec::<String>::new(), "until 10");
    Ok(())
}

fn a_time_is_that_of_the_append(harness: &dyn Harness) -> Check {
    const DAY: i64 = 86_400_000;
    let (backend, job) = (harness.open(), job("a")?);
    // The first event is appended while the clock is far ahead, so the ids of the next events are above its id.
    // The last event has a given id.
    harness.clock().set(moment(30_000 * DAY));
    append(&*backend, &job, &["9"])?;
    for (day, payload) in [(0, "0"), (1, "1"), (2, "2")] {
        harness.clock().set(moment(day * DAY));
        append(&*harness.open(), &job, &[payload])?;
    }
    append_given(&*backend, &job, &[(given(-DAY), "7")])?;
    let events = read(&*backend, &job)?;
    ensure_eq!(
        payloads(&events),
        ["7", "9", "0", "1", "2"],
        "in the order of ids"
    );
    let between = |since, until| -> Result<Vec<String>, super::Failure> {
        let options = ScanOptions::all().between(since, until);
        let events = read_some(&*backend, &job, &options, usize::MAX)?.0;
        Ok(events.into_iter().map(|event| event.1).collect())
    };
    ensure_eq!(
        between(Some(moment(DAY + 1)), Some(moment(3 * DAY)))?,
        ["7", "2"],
        "since day 1"
    );
    ensure_eq!(between(None, Some(moment(DAY + 1)))?, ["0", "1"], "until day 1");
    ensure_eq!(
        between(Some(moment(3 * DAY)), None)?,
        ["9"],
        "the event of the wrong clock"
    );
    Ok(())
}

fn a_scan_is_of_its_beginning(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    append(&*backend, &job, &["1", "2", "3"])?;
    let mut scan = backend.scan(&job, &ScanOptions::all(), soon())?;
    let mut seen = Vec::new();
    while let Some(item) = scan.next()? {
        if let ScanItem::Record(record) = item {
            seen.push(record.id);
        }
        if seen.len() < 20 {
            append(&*backend, &job, &["9"])?;
        }
    }
    ensure!(
        seen.len() >= 3,
        "a scan missed events that were stored when it began: {seen:?}"
    );
    ensure!(
        seen.is_sorted_by(|a, b| a < b),
        "a scan returned an id twice or out of order: {seen:?}"
    );
    let (rest, _) = super::tools::read_from(&*backend, &job, Some(scan.cursor()))?;
    let all: Vec<_> = seen
        .into_iter()
        .chain(rest.into_iter().map(|event| event.0))
        .collect();
    let wanted: Vec<_> = read(&*backend, &job)?.into_iter().map(|event| event.0).collect();
    ensure_eq!(all, wanted, "the events of the scan and those behind its cursor");
    Ok(())
}

fn many_events_are_all_read(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    let texts: Vec<String> = (0..10_000).map(|n| format!("{{\"n\":{n}}}")).collect();
    for chunk in texts.chunks(500) {
        append(
            &*backend,
            &job,
            &chunk.iter().map(String::as_str).collect::<Vec<_>>(),
        )?;
        harness.clock().advance(Duration::from_millis(3));
    }
    let events = read(&*backend, &job)?;
    ensure!(
        payloads(&events) == texts,
        "{} of 10,000 events were read, or not in order",
        events.len()
    );
    Ok(())
}

fn threads_append_to_one_job(harness: &dyn Harness) -> Check {
    let job = job("a")?;
    let outcomes: Vec<Check> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let (backend, job) = (harness.open(), &job);
                scope.spawn(move || -> Check {
                    for n in 0..50 {
                        append(&*backend, job, &[&(thread * 1000 + n).to_string()])?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(super::Failure::new("a thread panicked")))
            })
            .collect()
    });
    outcomes.into_iter().collect::<Check>()?;
    let events = read(&*harness.open(), &job)?;
    ensure!(events.is_sorted_by(|a, b| a.0 < b.0), "ids do not ascend");
    let mut found: Vec<u64> = events.iter().filter_map(|event| event.1.parse().ok()).collect();
    found.sort_unstable();
    let wanted: Vec<u64> = (0..8)
        .flat_map(|thread| (0..50).map(move |n| thread * 1000 + n))
        .collect();
    ensure_eq!(found, wanted, "events of all threads");
    Ok(())
}

fn sealing_changes_nothing_read(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    backend.seal(&job, soon())?;
    append(&*backend, &job, &["1"])?;
    backend.seal(&job, soon())?;
    backend.seal(&job, soon())?;
    append(&*backend, &job, &["2"])?;
    ensure_eq!(payloads(&read(&*backend, &job)?), ["1", "2"], "payloads read");
    let summary = backend.log_summary(&job, soon())?;
    ensure!(
        summary.segments >= summary.sealed,
        "the summary has more sealed segments than segments: {summary:?}"
    );
    Ok(())
}

fn relaxed_is_read_at_once(harness: &dyn Harness) -> Check {
    let (one, two, job) = (harness.open(), harness.open(), job("a")?);
    let mut batch = super::tools::batch(&["1"])?;
    one.append(&job, &mut batch, &AppendOptions::new(Durability::Relaxed), soon())?;
    ensure_eq!(payloads(&read(&*two, &job)?), ["1"], "payloads read");
    one.flush(soon())?;
    ensure_eq!(
        payloads(&read(&*two, &job)?),
        ["1"],
        "payloads read after a flush"
    );
    Ok(())
}

fn the_summary_tells_of_events(harness: &dyn Harness) -> Check {
    let (backend, job) = (harness.open(), job("a")?);
    append(&*backend, &job, &["1"])?;
    let first = backend.log_summary(&job, soon())?;
    ensure!(
        first.segments >= 1 && first.bytes > 0,
        "of a log with an event: {first:?}"
    );
    append(&*backend, &job, &["2"])?;
    let second = backend.log_summary(&job, soon())?;
    ensure!(second.bytes > first.bytes, "{second:?} after {first:?}");
    Ok(())
}
