//! Scans of a log, which return its lines in the order of ids.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use prodigy_storage_backend::{
    Cursor, ErrorKind, EventId, Record, Result, Scan, ScanItem, ScanOptions, StorageError,
};
use prodigy_storage_layout::{JobAddress, Timestamp};

use crate::cursor::{Position, gap};
use crate::job::Job;
use crate::log::{EventLog, Line};

/// The number of lines that a scan copies each time it locks the job.
const FETCH: usize = 128;

/// A running scan. It locks the job briefly for every [`FETCH`] lines.
pub(crate) struct MemoryScan {
    job: Arc<Job>,
    address: JobAddress,
    /// The number that identifies the log. If the job has another one now, the log was deleted.
    incarnation: u64,
    start: Position,
    end: usize,
    /// The index of the next line in the spine (the lines whose ids were the greatest when they arrived).
    spine: usize,
    /// The late lines that were not returned yet, by descending id, so that the next one is last.
    late: Vec<(EventId, usize)>,
    fetched: VecDeque<Line>,
    /// The line that `next` returned last.
    current: Option<Line>,
    done: bool,
    cursor: Cursor,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl MemoryScan {
    pub(crate) fn open(job: Arc<Job>, address: &JobAddress, options: &ScanOptions) -> Result<Self> {
        let data = job.data.lock();
        let log = &data.log;
        let start = match &options.from {
            Some(cursor) => Position::decode(cursor, Some(log), address)?,
            None => Position::start_of(log),
        };
        let end = log.len();
        // In the spine, ids and positions ascend together, so the lines before the cursor are at its beginning.
        let spine = log.spine_from(start.from, None);
        let mut late: Vec<(EventId, usize)> = log
            .late_in(start.from, end)
            .iter()
            .filter_map(|&at| log.get(at).map(|line| (line.id, at)))
            .filter(|&(id, at)| !start.has_given(at, id))
            .collect();
        late.sort_unstable_by(|a, b| b.cmp(a));
        let spine = start
            .windows
            .iter()
            .map(|window| {
                log.spine_from(start.from, Some(window.given))
                    .min(log.spine_from(window.end, None))
            })
            .fold(spine, usize::max);
        let cursor = start.encode(log)?;
        let incarnation = log.incarnation;
        drop(data);
        Ok(Self {
            job,
            address: address.clone(),
            incarnation,
            start,
            end,
            spine,
            late,
            fetched: VecDeque::new(),
            current: None,
            done: false,
            cursor,
            since: options.since,
            until: options.until,
        })
    }

    /// Creates a scan of the newest `count` lines.
    pub(crate) fn tail(job: Arc<Job>, address: &JobAddress, count: usize) -> Result<Self> {
        let data = job.data.lock();
        let log = &data.log;
        let from = match log.before_newest(count) {
            Some(given) => Some(Position::start_of(log).behind(given, log.len()).encode(log)?),
            None => None,
        };
        drop(data);
        let options = from.map_or_else(ScanOptions::all, ScanOptions::after);
        Self::open(job, address, &options)
    }

    fn fetch(&mut self) -> Result<()> {
        let job = Arc::clone(&self.job);
        let data = job.data.lock();
        let removed = data.log.removed();
        let is_gone = |&(_, at): &(EventId, usize)| at < removed.lines;
        if data.log.is_removed(self.spine) || self.late.iter().any(is_gone) {
            return Err(gap(removed, &self.address));
        }
        while self.fetched.len() < FETCH {
            let Some(line) = self.next_line(&data.log) else {
                self.done = true;
                break;
            };
            let time = line.time;
            if self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until) {
                self.fetched.push_back(line);
            }
        }
        Ok(())
    }

    fn next_line(&mut self, log: &EventLog) -> Option<Line> {
        let spine = self.spine_position(log).and_then(|at| log.get(at));
        let late = self.late.last().and_then(|&(_, at)| log.get(at));
        match (spine, late) {
            (Some(spine), Some(late)) if late.id < spine.id => {
                self.late.pop();
                Some(late.clone())
            }
            (Some(spine), _) => {
                self.spine += 1;
                Some(spine.clone())
            }
            (None, Some(late)) => {
                self.late.pop();
                Some(late.clone())
            }
            (None, None) => None,
        }
    }

    fn spine_position(&self, log: &EventLog) -> Option<usize> {
        log.spine_at(self.spine).filter(|&at| at < self.end)
    }
}

impl Scan for MemoryScan {
    fn next(&mut self) -> Result<Option<ScanItem<'_>>> {
        if self.fetched.is_empty() && !self.done {
            self.fetch()?;
        }
        match self.fetched.pop_front() {
            Some(line) => {
                let line = self.current.insert(line);
                Ok(Some(ScanItem::Record(Record {
                    id: line.id,
                    line: &line.text,
                    verified: true,
                })))
            }
            None => {
                if self.job.data.lock().log.incarnation != self.incarnation {
                    let why = "the log was deleted while it was read";
                    return Err(StorageError::new(
                        ErrorKind::Deleted,
                        "read events",
                        &self.address,
                        why,
                    ));
                }
                self.current = None;
                let position = Position {
                    from: self.end,
                    windows: Vec::new(),
                };
                self.cursor = position.encode(&self.job.data.lock().log)?;
                self.start = position;
                Ok(None)
            }
        }
    }

    fn cursor(&self) -> Cursor {
        let Some(current) = &self.current else {
            return self.cursor.clone();
        };
        self.start
            .behind(current.id, self.end)
            .encode(&self.job.data.lock().log)
            // The text is always a valid cursor. If it were not, the earlier cursor would repeat lines, but skip none.
            .unwrap_or_else(|_| self.cursor.clone())
    }
}

impl fmt::Debug for MemoryScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryScan")
            .field("start", &self.start)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// A scan of a log that does not exist, with the cursor that it returns.
#[derive(Debug)]
pub(crate) struct EmptyScan(pub(crate) Cursor);

impl EmptyScan {
    /// Creates a scan from the beginning, or from a cursor that was made before the log existed.
    pub(crate) fn open(address: &JobAddress, options: &ScanOptions) -> Result<Self> {
        if let Some(cursor) = &options.from {
            Position::decode(cursor, None, address)?;
        }
        Ok(Self(Position::default().encode(&EventLog::new(0))?))
    }
}

impl Scan for EmptyScan {
    fn next(&mut self) -> Result<Option<ScanItem<'_>>> {
        Ok(None)
    }

    fn cursor(&self) -> Cursor {
        self.0.clone()
    }
}
