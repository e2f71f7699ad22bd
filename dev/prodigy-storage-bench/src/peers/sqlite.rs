//! SQLite as bundled, in WAL mode, with prepared statements.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rusqlite::{Connection, TransactionBehavior};

use super::store::{Peer, TIMESTAMP};
use crate::event::{Event, Source};

const INSERT: &str = "INSERT INTO events (id, timestamp, event) VALUES (?1, ?2, ?3)";

/// A connection.
#[derive(Debug)]
pub(crate) struct Sqlite {
    pub(crate) connection: Connection,
    buffer: Vec<u8>,
}

impl Sqlite {
    pub(crate) fn open(folder: &Path, strict: bool) -> Result<Self> {
        let connection = Connection::open(folder.join("store.db"))?;
        connection.busy_timeout(Duration::from_secs(60))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", if strict { "FULL" } else { "NORMAL" })?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, timestamp TEXT NOT NULL, event TEXT NOT NULL);
             CREATE TABLE IF NOT EXISTS checkpoints (id INTEGER PRIMARY KEY, state TEXT NOT NULL);
             CREATE TABLE IF NOT EXISTS letters
                (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, letter TEXT NOT NULL, lease_until INTEGER);
             CREATE INDEX IF NOT EXISTS pending ON letters (lease_until, number);",
        )?;
        Ok(Self {
            connection,
            buffer: Vec::new(),
        })
    }
}

fn text(buffer: &[u8]) -> Result<&str> {
    Ok(std::str::from_utf8(buffer)?)
}

impl Peer for Sqlite {
    fn append(&mut self, n: usize, event: &Event) -> Result<()> {
        self.buffer.clear();
        serde_json::to_writer(&mut self.buffer, event)?;
        let mut insert = self.connection.prepare_cached(INSERT)?;
        insert.execute((n as i64, TIMESTAMP, text(&self.buffer)?))?;
        Ok(())
    }

    fn append_batch(&mut self, source: &mut Source, numbers: Range<usize>) -> Result<()> {
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior)?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for n in numbers {
                self.buffer.clear();
                serde_json::to_writer(&mut self.buffer, source.event(n))?;
                insert.execute((n as i64, TIMESTAMP, text(&self.buffer)?))?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn read(&mut self, each: &mut dyn FnMut(&Event)) -> Result<()> {
        let mut select = self
            .connection
            .prepare_cached("SELECT id, timestamp, event FROM events ORDER BY id")?;
        let mut rows = select.query(())?;
        while let Some(row) = rows.next()? {
            row.get_ref(0)?.as_i64()?;
            row.get_ref(1)?.as_str()?;
            each(&serde_json::from_str(row.get_ref(2)?.as_str()?)?);
        }
        Ok(())
    }
}
