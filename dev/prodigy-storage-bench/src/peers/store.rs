//! The operations that all peers offer.

use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::fjall::Fjall;
use super::lines::Lines;
use super::redb::Redb;
use super::sqlite::Sqlite;
use crate::event::{Event, Source};

/// A store of events by number.
pub(crate) trait Peer: Send {
    /// Stores an event with the durability that the store was opened with.
    fn append(&mut self, n: usize, event: &Event) -> Result<()>;

    /// Stores events in one transaction, batch or write.
    fn append_batch(&mut self, source: &mut Source, numbers: Range<usize>) -> Result<()>;

    /// Passes all events to a function in order, parsed into their type.
    fn read(&mut self, each: &mut dyn FnMut(&Event)) -> Result<()>;
}

/// The other stores that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Sqlite,
    Redb,
    Fjall,
    TracingAppender,
    FileRotate,
}

impl Which {
    /// Opens or creates the peer's store in a folder.
    pub(crate) fn open(self, folder: &Path, strict: bool) -> Result<Box<dyn Peer>> {
        Ok(match self {
            Self::Sqlite => Box::new(Sqlite::open(folder, strict)?),
            Self::Redb => Box::new(Redb::open(folder, strict)?),
            Self::Fjall => Box::new(Fjall::open(folder, strict)?),
            Self::TracingAppender => Box::new(Lines::tracing_appender(folder)),
            Self::FileRotate => Box::new(Lines::file_rotate(folder)),
        })
    }

    /// The name of the peer, with the setting that gives the durability of the row.
    pub(crate) fn name(self, strict: bool) -> &'static str {
        match (self, strict) {
            (Self::Sqlite, false) => "SQLite, WAL, NORMAL",
            (Self::Sqlite, true) => "SQLite, WAL, FULL",
            (Self::Redb, false) => "redb, None (a death loses it)",
            (Self::Redb, true) => "redb, Immediate",
            (Self::Fjall, false) => "fjall, Buffer",
            (Self::Fjall, true) => "fjall, SyncData",
            (Self::TracingAppender, _) => "tracing-appender",
            (Self::FileRotate, _) => "file-rotate",
        }
    }
}

/// A peer whose store several processes may write to at once.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Shared {
    Sqlite,
    Redb,
}

impl Shared {
    /// Opens or creates the peer's store in a folder.
    pub(crate) fn open(self, folder: &Path, strict: bool) -> Result<Box<dyn Peer>> {
        Ok(match self {
            Self::Sqlite => Box::new(Sqlite::open(folder, strict)?),
            Self::Redb => Box::new(Redb::open_shared(folder, strict)?),
        })
    }

    /// The name of the peer, with the setting that gives the durability of the row.
    pub(crate) fn name(self, strict: bool) -> &'static str {
        match self {
            Self::Sqlite => Which::Sqlite.name(strict),
            Self::Redb => "redb, Immediate, MultiWriter",
        }
    }
}

/// The time in each record of a peer. It is constant, because the bare writer does not read the clock either.
pub(crate) const TIMESTAMP: &str = "2026-01-01T00:00:00.000000Z";

/// The value that a peer stores: a record without its key and checksum.
#[derive(Debug, Serialize)]
struct Value<'a> {
    timestamp: &'a str,
    event: &'a Event,
}

/// A [`Value`] that is parsed when it is read.
#[derive(Debug, Deserialize)]
struct Stored<'a> {
    timestamp: &'a str,
    event: Event,
}

/// Writes a value into a reused buffer.
pub(crate) fn value(buffer: &mut Vec<u8>, event: &Event) -> Result<()> {
    buffer.clear();
    let value = Value {
        timestamp: TIMESTAMP,
        event,
    };
    Ok(serde_json::to_writer(buffer, &value)?)
}

/// Reads a value.
pub(crate) fn parsed(value: &[u8]) -> Result<Event> {
    let stored: Stored<'_> = serde_json::from_str(std::str::from_utf8(value)?)?;
    anyhow::ensure!(stored.timestamp == TIMESTAMP, "a value is another one");
    Ok(stored.event)
}

#[cfg(test)]
mod tests {
    use super::{Shared, Which};
    use crate::event::{Digest, Source};

    #[test]
    fn every_peer_keeps_what_it_is_given() {
        let all = [
            Which::Sqlite,
            Which::Redb,
            Which::Fjall,
            Which::TracingAppender,
            Which::FileRotate,
        ];
        for which in all {
            for strict in [false, true] {
                let folder = tempfile::tempdir().unwrap();
                let mut peer = which.open(folder.path(), strict).unwrap();
                let mut source = Source::new(9);
                peer.append(0, source.event(0)).unwrap();
                peer.append_batch(&mut source, 1..20).unwrap();
                let mut digest = Digest::default();
                peer.read(&mut |event| digest.add(event)).unwrap();
                assert_eq!(digest, Source::new(9).digest(0..20), "{which:?}");
            }
        }
    }

    #[test]
    fn what_processes_share_two_handles_write() {
        for which in [Shared::Sqlite, Shared::Redb] {
            let folder = tempfile::tempdir().unwrap();
            let mut source = Source::new(9);
            let mut one = which.open(folder.path(), true).unwrap();
            let mut two = which.open(folder.path(), true).unwrap();
            one.append(0, source.event(0)).unwrap();
            two.append(1, source.event(1)).unwrap();
            one.append(2, source.event(2)).unwrap();
            let mut digest = Digest::default();
            two.read(&mut |event| digest.add(event)).unwrap();
            assert_eq!(digest, Source::new(9).digest(0..3), "{which:?}");
        }
    }
}
