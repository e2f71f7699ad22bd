//! Rows that save checkpoints in a database, and read them from the cache.

use std::rc::Rc;
use std::time::Instant;

use anyhow::Result;
use prodigy_storage::Storage;

use super::{ensure_strict, on_server, row};
use crate::clock::per_operation;
use crate::lab::Lab;
use crate::row::{Contestant, Plan, Role, Row};
use crate::rows::cache::Saved;
use crate::rows::checkpoint::{LARGE, State, save_all, saves, states};

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(
            "postgres-checkpoint-save",
            (
                "PostgreSQL: checkpoint save 1 MB, strict, contents differing",
                "serde_json + prepared upsert",
            ),
            1.15,
            save,
        ),
        row(
            "postgres-cached-read",
            (
                "PostgreSQL: cached read of a 1 MB checkpoint's bytes, revision checked",
                "one round trip of `select 1`",
            ),
            1.3,
            cached,
        ),
    ]
}

fn save(lab: &Lab) -> Result<Plan> {
    let saves = saves(lab);
    on_server(lab, |database| {
        let beside = Rc::clone(&database);
        Ok(vec![
            Contestant::ours(move |turn| {
                let schema = database.schema()?;
                save_all(&schema.storage()?, turn.seed, saves)
            }),
            Contestant::new(Role::Against, "serde_json + upsert", move |turn| {
                let schema = beside.schema()?;
                let mut client = schema.client()?;
                ensure_strict(&mut client)?;
                client.batch_execute(
                    "create table checkpoint (job bigint, number bigint, body bytea not null, primary key (job, number))",
                )?;
                let statement = client.prepare(
                    "insert into checkpoint (job, number, body) values ($1, $2, $3) \
                     on conflict (job, number) do update set body = excluded.body",
                )?;
                let states = states(turn.seed, saves);
                let mut buffer = Vec::new();
                let first = serde_json::to_vec(&State::new(turn.seed, saves, LARGE))?;
                client.execute(&statement, &[&1_i64, &(saves as i64), &first])?;
                let began = Instant::now();
                for (n, state) in states.iter().enumerate() {
                    buffer.clear();
                    serde_json::to_writer(&mut buffer, state)?;
                    client.execute(&statement, &[&1_i64, &(n as i64), &buffer.as_slice()])?;
                }
                let took = per_operation(began, saves);
                for (n, state) in states.iter().enumerate() {
                    let text = "select body from checkpoint where job = 1 and number = $1";
                    let row = client.query_one(text, &[&(n as i64)])?;
                    let stored: State = serde_json::from_slice(row.try_get(0)?)?;
                    stored.digest().must_be(state.digest())?;
                }
                Ok(took)
            }),
        ])
    })
}

fn cached(lab: &Lab) -> Result<Plan> {
    let reads = lab.of(5_000);
    on_server(lab, |database| {
        let beside = Rc::clone(&database);
        Ok(vec![
            Contestant::ours(move |turn| {
                let schema = database.schema()?;
                let mut config = schema.config();
                config.enable_cache = true;
                Saved::new(Storage::with_config(config)?, turn.seed)?.reads(reads)
            }),
            Contestant::new(Role::Against, "select 1", move |_| {
                let mut client = beside.connect()?;
                client.simple_query("select 1")?;
                let began = Instant::now();
                for _ in 0..reads {
                    client.simple_query("select 1")?;
                }
                Ok(per_operation(began, reads))
            }),
        ])
    })
}
