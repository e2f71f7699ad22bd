//! The jobs in the status.

use prodigy_storage::{
    Cursor, ErrorKind, EventCounts, Events, JobAddress, JobOverview, LogSummary, ReadOptions, Storage,
};
use serde_json::Value;

use crate::app::App;
use crate::errors::Result;
use crate::jobs::{count_in, row_json, state_word};
use crate::output::{bytes, counted};
use crate::table::Column;
use crate::time::age_of;

/// Events of a log up to this number of bytes are counted; of a larger log they are estimated.
const COUNTED: u64 = 1 << 20;
/// The number of events whose average size gives the estimate.
const SAMPLE: usize = 200;

/// A job that is listed because its last write is among the newest.
pub(super) struct Recent {
    row: JobOverview,
    is_moved: bool,
    /// The number of the job's events, and whether they were counted or estimated; `None` for a compressed log, which
    /// would have to be decompressed.
    events: Option<(u64, bool)>,
}

impl Recent {
    pub(super) fn columns() -> [Column; 6] {
        [
            Column::word("STATE"),
            Column::number("ACTIVE"),
            Column::number("EVENTS").optional(1),
            Column::number("DEAD LETTERS"),
            Column::number("SIZE"),
            Column::name("JOB"),
        ]
    }

    /// Reads the newest checkpoints and the events of a job, or the end of a large log. What can't be read is reported.
    pub(super) fn new(
        app: &mut App<'_>,
        storage: &Storage,
        row: JobOverview,
        is_moved: bool,
    ) -> Result<Self> {
        read_checkpoints(app, storage, &row)?;
        let events = read_events(app, storage, &row)?;
        Ok(Self {
            row,
            is_moved,
            events,
        })
    }

    pub(super) fn json(&self) -> Value {
        let mut json = row_json(&self.row);
        count_in(&mut json, self.events);
        json
    }

    pub(super) fn cells(&self) -> [String; 6] {
        let status = &self.row.status;
        [
            match self.is_moved {
                true => "moved",
                false => state_word(status.state),
            }
            .to_owned(),
            age_of(status.last_activity),
            match self.events {
                Some((count, true)) => count.to_string(),
                Some((count, false)) => format!("~{count}"),
                None => "-".to_owned(),
            },
            self.row.letters.items.to_string(),
            bytes(self.row.bytes()),
            self.row.address.to_string(),
        ]
    }
}

/// Reads the newest checkpoint of each phase of a job, and compares them and the mark of a finished job with the log. Reports those
/// that can't be read, or that the log lacks events of.
pub(crate) fn read_checkpoints(app: &mut App<'_>, storage: &Storage, row: &JobOverview) -> Result<()> {
    let address = &row.address;
    let job = storage.repo(address.repo.as_str())?.job(address.job.as_str())?;
    if let Some(end) = &row.finished_end
        && let Some(why) = missing_before(storage, row, end)
        // A job that was deleted meanwhile has no mark.
        && job.overview().is_ok_and(|now| now.finished_end.as_ref() == Some(end))
    {
        app.damaged(&format!(
            "{address}: the job was finished ahead of its log, which lacks events that were stored before: {why}"
        ));
    }
    if row.checkpoints.count == 0 {
        return Ok(());
    }
    let checkpoints = job.checkpoints();
    let phases = match checkpoints.phases() {
        Ok(phases) => phases,
        Err(error) => return app.pass_over(error),
    };
    for phase in phases {
        let damaged = match checkpoints.latest_raw(phase) {
            Ok(None) => continue,
            Ok(Some(found)) => {
                let is_newest = |cursor: &Cursor| {
                    let now = checkpoints.latest_raw(phase);
                    now.is_ok_and(|now| now.is_some_and(|now| now.cursor.as_ref() == Some(cursor)))
                };
                if let Some(cursor) = found.cursor
                    && let Some(why) = missing_before(storage, row, &cursor)
                    // A job that was deleted meanwhile has no checkpoint.
                    && is_newest(&cursor)
                {
                    app.damaged(&format!(
                        "{address}: the newest checkpoint of the phase {phase} is ahead of its log, which lacks events that were stored \
                         before it: {why}"
                    ));
                }
                found.skipped.into_iter().map(|skipped| skipped.error).collect()
            }
            // The checkpoint of another program, or a large one, is no damage.
            Err(error) if matches!(error.kind(), ErrorKind::Foreign | ErrorKind::TooLarge) => continue,
            Err(error) => vec![error],
        };
        for error in damaged {
            if error.kind() != ErrorKind::Foreign {
                app.pass_over(error)?;
            }
        }
    }
    Ok(())
}

/// The reason why the log lacks events that a cursor covers; `None` if no sign of that is found. A log that can't be read is reported
/// with its events.
#[cfg(feature = "file")]
fn missing_before(storage: &Storage, row: &JobOverview, cursor: &Cursor) -> Option<String> {
    let doctor = storage.doctor().ok()?;
    doctor.missing_before(&row.address, cursor).ok().flatten()
}

/// A server reports such a loss to the reader that continues at the cursor.
#[cfg(not(feature = "file"))]
fn missing_before(_: &Storage, _: &JobOverview, _: &Cursor) -> Option<String> {
    None
}

/// The number of a job's events, and whether they were counted. Reports damaged places, and a log that can't be read.
pub(crate) fn read_events(
    app: &mut App<'_>,
    storage: &Storage,
    row: &JobOverview,
) -> Result<Option<(u64, bool)>> {
    let counted = report(app, row, count(storage, row))?;
    Ok(counted.and_then(|(counts, all)| number(&row.log, &counts, all)))
}

/// Reads the newest events of a job, which may be compressed. Reports damaged places, and a log that can't be read.
pub(crate) fn read_newest_events(app: &mut App<'_>, storage: &Storage, row: &JobOverview) -> Result<()> {
    let read = match row.log.compressed {
        0 => count(storage, row),
        _ => of(storage, row)
            .and_then(|events| sample(&events))
            .map(|counts| Some((counts, false))),
    };
    report(app, row, read).map(drop)
}

/// Reports what could not be read of the events of a job, and returns their counts.
fn report(
    app: &mut App<'_>,
    row: &JobOverview,
    read: prodigy_storage::Result<Option<(EventCounts, bool)>>,
) -> Result<Option<(EventCounts, bool)>> {
    let (counts, all) = match read {
        Ok(Some(counted)) => counted,
        Ok(None) => return Ok(None),
        // The job was deleted, or its old events were removed, after it was listed.
        Err(error) if matches!(error.kind(), ErrorKind::Deleted | ErrorKind::CursorGap) => return Ok(None),
        Err(error) => {
            app.pass_over(error)?;
            return Ok(None);
        }
    };
    if counts.damaged > 0 {
        let places = counted(counts.damaged, "damaged place");
        app.damaged(&format!("{}: {places} in the events", row.address));
    }
    if counts.too_large > 0 {
        let events = counted(counts.too_large, "event");
        app.skipped(&format!(
            "{}: {events} larger than `max_record_size`",
            row.address
        ));
    }
    Ok(Some((counts, all)))
}

/// The number of events in a log from the counts of all events, or of those at its end.
fn number(log: &LogSummary, counts: &EventCounts, all: bool) -> Option<(u64, bool)> {
    match all {
        true => Some((counts.events, true)),
        false => estimate(log, counts).map(|count| (count, false)),
    }
}

/// Counts the events of a job, or those at the end of a large log; `None` for a compressed log. True if all are counted.
fn count(storage: &Storage, row: &JobOverview) -> prodigy_storage::Result<Option<(EventCounts, bool)>> {
    if row.log.compressed > 0 {
        return Ok(None);
    }
    let events = of(storage, row)?;
    if row.log.bytes <= COUNTED {
        return Ok(Some((events.count(ReadOptions::new())?, true)));
    }
    Ok(Some((sample(&events)?, false)))
}

fn of(storage: &Storage, row: &JobOverview) -> prodigy_storage::Result<Events> {
    let JobAddress { repo, job, .. } = &row.address;
    Ok(storage.repo(repo.as_str())?.job(job.as_str())?.events())
}

/// Counts the last events of a log.
fn sample(events: &Events) -> prodigy_storage::Result<EventCounts> {
    let mut sample = EventCounts::default();
    let mut lines = events.tail_lines(SAMPLE)?;
    while let Some(item) = lines.next()? {
        sample.add(&item);
    }
    Ok(sample)
}

/// An estimate of the number of events from a sample, rounded to two digits.
fn estimate(log: &LogSummary, sample: &EventCounts) -> Option<u64> {
    let average = sample.line_bytes.checked_div(sample.events)?;
    let count = log.bytes.checked_div(average)?;
    let step = 10_u64.pow(count.checked_ilog10()?.saturating_sub(1));
    Some(count / step * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(storage: &Storage, job: &prodigy_storage::Job) -> Recent {
        let row = job.overview().unwrap();
        let (counts, all) = count(storage, &row).unwrap().unwrap();
        Recent {
            events: number(&row.log, &counts, all),
            is_moved: false,
            row,
        }
    }

    #[test]
    fn a_large_log_is_estimated_from_the_average_of_its_last_events() {
        let storage = Storage::in_memory().unwrap();
        let repo = storage.repo("shop").unwrap();
        let job = repo.job("job").unwrap();
        let text = "a".repeat(1000);
        job.events().append_batch((0..2000).map(|_| &text)).unwrap();
        let recent = recent(&storage, &job);
        let (count, counted) = recent.events.unwrap();
        assert!(!counted && (1900..=2100).contains(&count), "{count}");
        assert_eq!(recent.json()["events_estimated"], true);
        assert!(recent.cells()[2].starts_with('~'));
    }

    #[test]
    fn a_small_log_is_counted_and_one_without_events_has_none() {
        let storage = Storage::in_memory().unwrap();
        let job = storage.repo("shop").unwrap().job("job").unwrap();
        assert_eq!(recent(&storage, &job).json()["events"], 0);
        job.events().append_batch([1, 2, 3]).unwrap();
        assert_eq!(recent(&storage, &job).cells()[2], "3");
    }
}
