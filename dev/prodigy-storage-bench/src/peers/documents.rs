//! Works of peers that keep checkpoints of 1 MB.

use std::time::Instant;

use anyhow::{Context, Result};

use super::fjall::Fjall;
use super::redb::Redb;
use super::sqlite::Sqlite;
use crate::clock::per_operation;
use crate::lab::{Bench, Lab};
use crate::row::{Contestant, Role, Turn};
use crate::rows::checkpoint::{LARGE, State, saves as saves_of, states};

const INSERT: &str = "INSERT INTO checkpoints (state) VALUES (?1)";
const LATEST: &str = "SELECT state FROM checkpoints ORDER BY id DESC LIMIT 1";

/// A store of documents by number.
trait Documents {
    fn save(&mut self, n: usize, json: &[u8]) -> Result<()>;
    fn latest(&mut self) -> Result<State>;
}

fn parsed(json: &[u8]) -> Result<State> {
    Ok(serde_json::from_str(std::str::from_utf8(json)?)?)
}

impl Documents for Sqlite {
    fn save(&mut self, _: usize, json: &[u8]) -> Result<()> {
        let mut insert = self.connection.prepare_cached(INSERT)?;
        insert.execute((std::str::from_utf8(json)?,))?;
        Ok(())
    }

    fn latest(&mut self) -> Result<State> {
        let mut select = self.connection.prepare_cached(LATEST)?;
        let mut rows = select.query(())?;
        let row = rows.next()?.context("no checkpoint")?;
        Ok(serde_json::from_str(row.get_ref(0)?.as_str()?)?)
    }
}

impl Documents for Redb {
    fn save(&mut self, n: usize, json: &[u8]) -> Result<()> {
        self.put(n as u64, json)
    }

    fn latest(&mut self) -> Result<State> {
        self.last(parsed)?.context("no checkpoint")
    }
}

impl Documents for Fjall {
    fn save(&mut self, n: usize, json: &[u8]) -> Result<()> {
        self.put(n as u64, json)
    }

    fn latest(&mut self) -> Result<State> {
        self.last(parsed)?.context("no checkpoint")
    }
}

type Open = fn(&std::path::Path, bool) -> Result<Box<dyn Documents>>;

const PEERS: &[(&str, Open)] = &[
    ("SQLite", |folder, strict| {
        Ok(Box::new(Sqlite::open(folder, strict)?))
    }),
    ("redb", |folder, strict| Ok(Box::new(Redb::open(folder, strict)?))),
    ("fjall", |folder, strict| {
        Ok(Box::new(Fjall::open(folder, strict)?))
    }),
];

/// Works of peers that save states durably.
pub(crate) fn saves(lab: &Lab) -> Vec<Contestant> {
    let number = saves_of(lab);
    let works = PEERS.iter().map(|&(name, open)| {
        let bench = lab.bench();
        let how = match name {
            "SQLite" => ", WAL, FULL",
            "redb" => ", Immediate",
            _ => ", SyncData",
        };
        Contestant::new(Role::Peer, format!("{name}{how}"), move |turn| {
            save(&bench, open, number, turn)
        })
    });
    works.collect()
}

fn save(bench: &Bench, open: Open, number: usize, turn: Turn) -> Result<f64> {
    let folder = bench.folder()?;
    let mut peer = open(folder.path(), true)?;
    peer.save(0, &serde_json::to_vec(&State::new(turn.seed, number, LARGE))?)?;
    let states = states(turn.seed, number);
    let mut buffer = Vec::new();
    let began = Instant::now();
    for (n, state) in states.iter().enumerate() {
        buffer.clear();
        serde_json::to_writer(&mut buffer, state)?;
        peer.save(n + 1, &buffer)?;
    }
    let took = per_operation(began, number);
    let last = states.last().context("no state")?;
    peer.latest()?.digest().must_be(last.digest())?;
    Ok(took)
}

/// Works of peers that load the latest state, parsed into a type.
pub(crate) fn loads(lab: &Lab) -> Vec<Contestant> {
    let number = lab.of(30);
    let works = PEERS.iter().map(|&(name, open)| {
        let bench = lab.bench();
        Contestant::new(Role::Peer, format!("{name} + serde_json"), move |turn: Turn| {
            let folder = bench.folder()?;
            let mut peer = open(folder.path(), false)?;
            let state = State::new(turn.seed, 0, LARGE);
            peer.save(0, &serde_json::to_vec(&state)?)?;
            let mut latest = peer.latest()?;
            let began = Instant::now();
            for _ in 0..number {
                latest = peer.latest()?;
            }
            let took = per_operation(began, number);
            latest.digest().must_be(state.digest())?;
            Ok(took)
        })
    });
    works.collect()
}
