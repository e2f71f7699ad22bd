//! Rows that append events to a database.

use std::rc::Rc;
use std::time::Instant;

use anyhow::Result;
use postgres::types::ToSql;
use postgres::{Client, Statement};
use uuid::Uuid;

use super::{Database, EVENTS, check, connect, ensure_strict, on_server, row};
use crate::clock::{per_operation, threads};
use crate::event::Source;
use crate::lab::Lab;
use crate::raw;
use crate::row::{Contestant, Plan, Role, Row, Turn};
use crate::rows::append::append_each;
use crate::rows::threads::{THREADS, append_by_all};
use crate::store;

const BATCH: usize = 100;
const INSERT: &str = "insert into event (job, id, time, line) values ($1, $2, $3, $4)";

pub(super) fn rows() -> Vec<Row> {
    vec![
        row(
            "postgres-append-batches",
            (
                "PostgreSQL: append, strict, batches of 100",
                "prepared multi-row insert",
            ),
            1.2,
            batches,
        ),
        row(
            "postgres-append",
            ("PostgreSQL: append, strict, 1 thread", "prepared insert"),
            1.15,
            single,
        ),
        row(
            "postgres-append-16-threads",
            (
                "PostgreSQL: append, strict, 16 threads on one job",
                "16 connections with prepared inserts",
            ),
            0.7,
            many,
        ),
    ]
}

/// Inserts an event as a complete line, which our side stores, too.
fn insert(
    client: &mut Client,
    statement: &Statement,
    buffer: &mut Vec<u8>,
    n: usize,
    source: &mut Source,
) -> Result<()> {
    buffer.clear();
    raw::line(buffer, n, source.event(n))?;
    let (id, line) = (Uuid::now_v7(), buffer.as_slice());
    client.execute(statement, &[&1_i64, &id, &(n as i64), &line])?;
    Ok(())
}

fn single(lab: &Lab) -> Result<Plan> {
    let events = lab.of(2_000);
    on_server(lab, |database| {
        let beside = Rc::clone(&database);
        Ok(vec![
            Contestant::ours(move |turn| {
                let schema = database.schema()?;
                let storage = schema.storage()?;
                append_each(&store::job(&storage)?, events, turn.seed)
            }),
            Contestant::new(Role::Against, "prepared insert", move |turn| {
                let schema = beside.schema()?;
                let mut client = schema.client()?;
                ensure_strict(&mut client)?;
                client.batch_execute(EVENTS)?;
                let statement = client.prepare(INSERT)?;
                let (mut buffer, mut source) = (Vec::new(), Source::new(turn.seed));
                insert(&mut client, &statement, &mut buffer, events, &mut source)?;
                let began = Instant::now();
                for n in 0..events {
                    insert(&mut client, &statement, &mut buffer, n, &mut source)?;
                }
                let took = per_operation(began, events);
                check(&mut client, source.digest(0..=events))?;
                Ok(took)
            }),
        ])
    })
}

fn batches(lab: &Lab) -> Result<Plan> {
    let batches = lab.of(300);
    let events = batches * BATCH;
    on_server(lab, |database| {
        let beside = Rc::clone(&database);
        Ok(vec![
            Contestant::ours(move |turn| {
                let schema = database.schema()?;
                let storage = schema.storage()?;
                let job = store::job(&storage)?;
                let (log, mut source) = (job.events(), Source::new(turn.seed));
                let mut ids = vec![log.append(source.event(events))?];
                let mut batch = prodigy_storage::Batch::new();
                let began = Instant::now();
                for start in (0..events).step_by(BATCH) {
                    batch.clear();
                    for n in start..start + BATCH {
                        batch.push(source.event(n))?;
                    }
                    log.append_prepared(&mut batch, None)?;
                    ids.extend_from_slice(batch.ids());
                }
                let took = per_operation(began, events);
                store::check(&job, source.digest(0..=events), ids)?;
                Ok(took)
            }),
            Contestant::new(Role::Against, "prepared multi-row insert", move |turn| {
                by_hand_in_batches(&beside, events, turn)
            }),
        ])
    })
}

fn by_hand_in_batches(database: &Rc<Database>, events: usize, turn: Turn) -> Result<f64> {
    let schema = database.schema()?;
    let mut client = schema.client()?;
    ensure_strict(&mut client)?;
    client.batch_execute(EVENTS)?;
    let values: Vec<String> = (0..BATCH)
        .map(|n| format!("($1, ${}, ${}, ${})", n * 3 + 2, n * 3 + 3, n * 3 + 4))
        .collect();
    let text = format!(
        "insert into event (job, id, time, line) values {}",
        values.join(", ")
    );
    let statement = client.prepare(&text)?;
    let first = client.prepare(INSERT)?;
    let mut source = Source::new(turn.seed);
    insert(&mut client, &first, &mut Vec::new(), events, &mut source)?;
    let mut rows: Vec<(Uuid, i64, Vec<u8>)> = vec![Default::default(); BATCH];
    let began = Instant::now();
    for start in (0..events).step_by(BATCH) {
        for (n, (id, time, line)) in (start..).zip(&mut rows) {
            line.clear();
            raw::line(line, n, source.event(n))?;
            (*id, *time) = (Uuid::now_v7(), n as i64);
        }
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![&1_i64];
        for (id, time, line) in &rows {
            values.extend([id as &(dyn ToSql + Sync), time, line]);
        }
        client.execute(&statement, &values)?;
    }
    let took = per_operation(began, events);
    check(&mut client, source.digest(0..=events))?;
    Ok(took)
}

fn many(lab: &Lab) -> Result<Plan> {
    let each = lab.of(4_800).div_ceil(THREADS);
    let events = each * THREADS;
    on_server(lab, |database| {
        let beside = Rc::clone(&database);
        Ok(vec![
            Contestant::ours(move |turn| {
                let schema = database.schema()?;
                let storage = schema.storage()?;
                let job = store::job(&storage)?;
                Ok(append_by_all(&job, each, turn.seed, || 0)?.0)
            }),
            Contestant::new(Role::Against, "16 connections, prepared inserts", move |turn| {
                let schema = beside.schema()?;
                let mut client = schema.client()?;
                client.batch_execute(EVENTS)?;
                let (url, name) = (schema.database.server.url(), schema.name.clone());
                let (took, _) = threads(
                    THREADS,
                    events,
                    |_| {
                        let mut client = connect(&url, &name)?;
                        ensure_strict(&mut client)?;
                        let statement = client.prepare(INSERT)?;
                        Ok((client, statement, Source::new(turn.seed)))
                    },
                    |thread, (mut client, statement, mut source)| {
                        let mut buffer = Vec::new();
                        (thread * each..(thread + 1) * each)
                            .try_for_each(|n| insert(&mut client, &statement, &mut buffer, n, &mut source))
                    },
                )?;
                check(&mut client, Source::new(turn.seed).digest(0..events))?;
                Ok(took)
            }),
        ])
    })
}
