//! Peers that keep dead letters: SQLite, since the others have no query for what is pending.

use std::time::Instant;

use anyhow::{Result, ensure};
use rusqlite::TransactionBehavior;
use tempfile::TempDir;

use super::sqlite::Sqlite;
use crate::clock::per_operation;
use crate::lab::Lab;
use crate::row::{Contestant, Role, Turn};
use crate::rows::dlq::{TAKEN, Work, letter};

/// A push of a known id would merge; here each is new.
const INSERT: &str = "INSERT INTO letters (id, letter) VALUES (?1, ?2)";
const TAKE: &str = "UPDATE letters SET lease_until = ?1 WHERE number IN \
    (SELECT number FROM letters WHERE lease_until IS NULL ORDER BY number LIMIT ?2) RETURNING letter";

/// A store with `items` items.
fn filled(lab: &Lab, items: usize) -> Result<(TempDir, Sqlite)> {
    let folder = lab.bench().folder()?;
    let mut sqlite = Sqlite::open(folder.path(), true)?;
    let transaction = sqlite.connection.transaction()?;
    for n in 0..items {
        let letter = letter(0, n)?;
        let id = format!("item-0-{n}");
        transaction
            .prepare_cached(INSERT)?
            .execute((id, serde_json::to_string(&letter)?))?;
    }
    transaction.commit()?;
    Ok((folder, sqlite))
}

fn count(sqlite: &Sqlite) -> Result<i64> {
    let count = "SELECT count(*) FROM letters";
    Ok(sqlite.connection.query_row(count, (), |row| row.get(0))?)
}

/// Pushes into as many items as ours.
pub(crate) fn pushes(lab: &Lab, pushes: usize) -> Result<Vec<Contestant>> {
    let (folder, sqlite) = filled(lab, lab.of(100_000))?;
    let work = move |turn: Turn| {
        // Lives as long as what it holds is written.
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
    Ok(vec![Contestant::new(
        Role::Peer,
        "SQLite, WAL, FULL, at as many",
        work,
    )])
}

/// Takes as many as ours, and gives them back.
pub(crate) fn takes(lab: &Lab, items: usize, takes: usize) -> Result<Vec<Contestant>> {
    let (folder, mut sqlite) = filled(lab, items)?;
    let work = move |_| {
        // Lives as long as what it holds is written.
        let _ = folder.path();
        let mut taken: Vec<String> = Vec::new();
        let began = Instant::now();
        for n in 0..takes {
            let transaction = sqlite
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut take = transaction.prepare_cached(TAKE)?;
                let mut rows = take.query((n as i64 + 1, TAKEN as i64))?;
                while let Some(row) = rows.next()? {
                    taken.push(row.get(0)?);
                }
            }
            transaction.commit()?;
        }
        let took = per_operation(began, takes);
        ensure!(taken.len() == takes * TAKEN, "{} items were taken", taken.len());
        let mut sum = 0;
        for letter in &taken {
            let letter: prodigy_storage::DeadLetter<Work> = serde_json::from_str(letter)?;
            sum += letter.item_data.n as usize;
        }
        ensure!(sum == (0..takes * TAKEN).sum::<usize>(), "others were taken");
        sqlite
            .connection
            .execute("UPDATE letters SET lease_until = NULL", ())?;
        Ok(took)
    };
    Ok(vec![Contestant::new(Role::Peer, "SQLite, WAL, FULL", work)])
}
