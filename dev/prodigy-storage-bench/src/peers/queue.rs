//! Works of a peer that keeps dead letters: only SQLite, since the other peers have no query for pending items.

use std::time::Instant;

use anyhow::{Result, ensure};
use rusqlite::TransactionBehavior;
use tempfile::TempDir;

use super::sqlite::Sqlite;
use crate::clock::per_operation;
use crate::lab::Lab;
use crate::row::{Contestant, Role, Turn};
use crate::rows::dlq::{TAKEN, Work, letter};

/// Inserts an item. All ids of the benchmark are new, so there is nothing to merge.
const INSERT: &str = "INSERT INTO letters (id, letter) VALUES (?1, ?2)";
const TAKE: &str = "UPDATE letters SET lease_until = ?1 WHERE number IN \
    (SELECT number FROM letters WHERE lease_until IS NULL ORDER BY number LIMIT ?2) RETURNING letter";
const ACKNOWLEDGE: &str = "DELETE FROM letters WHERE lease_until = ?1";

/// A new SQLite database with `items` items.
fn filled(lab: &Lab, items: usize) -> Result<(TempDir, Sqlite)> {
    let folder = lab.bench().folder()?;
    let mut sqlite = Sqlite::open(folder.path(), true)?;
    fill(&mut sqlite, 0..items)?;
    Ok((folder, sqlite))
}

/// Inserts the items with these numbers.
fn fill(sqlite: &mut Sqlite, items: std::ops::Range<usize>) -> Result<()> {
    let transaction = sqlite.connection.transaction()?;
    for n in items {
        let letter = letter(0, n)?;
        let id = format!("item-0-{n}");
        transaction
            .prepare_cached(INSERT)?
            .execute((id, serde_json::to_string(&letter)?))?;
    }
    Ok(transaction.commit()?)
}

fn count(sqlite: &Sqlite) -> Result<i64> {
    let count = "SELECT count(*) FROM letters";
    Ok(sqlite.connection.query_row(count, (), |row| row.get(0))?)
}

/// A work that pushes the same number of items as our side.
pub(crate) fn pushes(lab: &Lab, pushes: usize) -> Result<Option<Contestant>> {
    let (folder, sqlite) = filled(lab, lab.of(100_000))?;
    let work = move |turn: Turn| {
        // Moves the folder into this closure, since it is removed when it is dropped.
        let _ = folder.path();
        let letters = (0..pushes)
            .map(|n| Ok((format!("item-{}-{n}", turn.seed), letter(turn.seed, n)?)))
            .collect::<Result<Vec<_>>>()?;
        let before = count(&sqlite)?;
        let mut buffer = Vec::new();
        let began = Instant::now();
        for (id, letter) in &letters {
            buffer.clear();
            serde_json::to_writer(&mut buffer, letter)?;
            let mut insert = sqlite.connection.prepare_cached(INSERT)?;
            insert.execute((id, std::str::from_utf8(&buffer)?))?;
        }
        let took = per_operation(began, pushes);
        ensure!(
            count(&sqlite)? - before == pushes as i64,
            "not every item is there"
        );
        Ok(took)
    };
    let name = "SQLite, WAL, FULL, at as many";
    Ok(Some(Contestant::new(Role::Against, name, work)))
}

/// A work that takes and acknowledges the same number of items as our side, and inserts as many new ones.
pub(crate) fn cycles(lab: &Lab, items: usize, cycles: usize) -> Result<Option<Contestant>> {
    let (folder, mut sqlite) = filled(lab, items)?;
    let mut lease = 0i64;
    let mut pushed = items;
    let work = move |_| {
        // Moves the folder into this closure, since it is removed when it is dropped.
        let _ = folder.path();
        let mut seen = std::collections::BTreeSet::new();
        let mut took = std::time::Duration::ZERO;
        for _ in 0..cycles {
            lease += 1;
            let began = Instant::now();
            let taken = take(&mut sqlite, lease)?;
            took += began.elapsed();
            ensure!(taken.len() == TAKEN, "{} items were taken", taken.len());
            for letter in &taken {
                let letter: prodigy_storage::DeadLetter<Work> = serde_json::from_str(letter)?;
                ensure!(seen.insert(letter.item_data.n), "an item was taken twice");
            }
            let began = Instant::now();
            let gone = sqlite.connection.prepare_cached(ACKNOWLEDGE)?.execute((lease,))?;
            took += began.elapsed();
            ensure!(gone == TAKEN, "{gone} items were acknowledged");
        }
        let gone = cycles * TAKEN;
        ensure!(count(&sqlite)? as usize == items - gone, "others are gone");
        fill(&mut sqlite, pushed..pushed + gone)?;
        pushed += gone;
        Ok(took.as_secs_f64() * 1e6 / cycles as f64)
    };
    let name = "SQLite, WAL, FULL, indexed";
    Ok(Some(Contestant::new(Role::Against, name, work)))
}

/// Takes the oldest items in one transaction, and returns their JSON.
fn take(sqlite: &mut Sqlite, lease: i64) -> Result<Vec<String>> {
    let transaction = sqlite
        .connection
        .transaction_with_behavior(TransactionBehavior::Immediate)?;
    let taken = {
        let mut take = transaction.prepare_cached(TAKE)?;
        let rows = take.query_map((lease, TAKEN as i64), |row| row.get(0))?;
        rows.collect::<rusqlite::Result<Vec<String>>>()?
    };
    transaction.commit()?;
    Ok(taken)
}
