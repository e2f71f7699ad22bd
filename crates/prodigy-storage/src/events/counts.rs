//! Counts events without parsing them.

use prodigy_storage_backend::{EventId, ScanItem};
use prodigy_storage_layout::Timestamp;

/// The number and the size of events in a log, or in a part of it. No payload is parsed to count them.
///
/// ```
/// # use prodigy_storage::{ReadOptions, Storage};
/// # let job = Storage::in_memory()?.repo("shop")?.job("mapreduce-7")?;
/// job.events().append_batch(["started", "half done", "finished"])?;
/// let counts = job.events().count(ReadOptions::new())?;
/// assert_eq!((counts.events, counts.damaged), (3, 0));
/// assert!(counts.first <= counts.last);
/// # Ok::<(), prodigy_storage::StorageError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventCounts {
    /// The number of events.
    pub events: u64,
    /// The number of events without a checksum: another program wrote them.
    pub unverified: u64,
    /// The number of damaged places.
    pub damaged: u64,
    /// The number of records that are larger than `max_record_size`.
    pub too_large: u64,
    /// The size of the events in bytes, as lines of JSON.
    pub line_bytes: u64,
    /// The earliest time of an event. A line of another program may have no time.
    pub first: Option<Timestamp>,
    /// The latest time of an event. A line of another program may have no time.
    pub last: Option<Timestamp>,
    /// The newest id of an event.
    pub newest: Option<EventId>,
}

impl EventCounts {
    /// Counts one item of a scan.
    pub fn add(&mut self, item: &ScanItem<'_>) {
        let record = match item {
            ScanItem::Record(record) => record,
            ScanItem::Damage(_) => {
                self.damaged += 1;
                return;
            }
            ScanItem::TooLarge(_) => {
                self.too_large += 1;
                return;
            }
        };
        self.events += 1;
        self.unverified += u64::from(!record.verified);
        self.line_bytes += record.line.len() as u64 + 1;
        if record.id.is_v7() {
            self.newest = self.newest.max(Some(record.id));
        }
        let time = record.time();
        if time > Timestamp::MIN {
            self.first = Some(self.first.map_or(time, |first| first.min(time)));
            self.last = Some(self.last.map_or(time, |last| last.max(time)));
        }
    }
}
