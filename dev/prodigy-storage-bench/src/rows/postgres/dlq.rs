//! Rows that take and acknowledge dead letters in a database.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use postgres::{Client, IsolationLevel};
use prodigy_storage::{DeadLetter, LeaseToken, Select};

use super::{Database, on_server, row};
use crate::lab::Lab;
use crate::row::{Contestant, Plan, Role, Row};
use crate::rows::dlq::{LEASE, TAKEN, Work, acknowledge, letter};
use crate::store;

/// The hand-written side's table of dead letters, as a program would create it.
const ITEMS: &str = "create table item (\
      job bigint not null, place bigint generated always as identity, id text not null, token uuid, \
      leased_until timestamptz, body bytea not null, primary key (job, id)); \
    create index on item (job, place); create index on item (job, token) where token is not null";
const TAKE: &str = "update item set token = gen_random_uuid(), leased_until = now() + interval '1 hour' \
    where (job, id) in (select job, id from item where job = 1 and (leased_until is null or leased_until < now()) \
      order by place limit 10 for update skip locked) returning token, body";
const ACKNOWLEDGE: &str = "delete from item where job = 1 and token = any($1)";

/// The number of takes in ten minutes, at 200 per second.
const TEN_MINUTES: usize = 120_000;
/// The number of takes that are timed.
const TIMED: usize = 500;

pub(super) fn rows() -> Vec<Row> {
    let cycle = row(
        "postgres-dlq-cycle",
        (
            "PostgreSQL: DLQ take + acknowledgement of 10, strict, at 10,000 items",
            "prepared `for update skip locked`, and a delete",
        ),
        1.2,
        cycle,
    );
    let snapshot = row(
        "postgres-dlq-snapshot",
        (
            "PostgreSQL: DLQ take, after the takes of ten minutes at 200 a second while a snapshot keeps vacuum away",
            "the first takes of them",
        ),
        2.0,
        snapshot,
    );
    vec![
        cycle,
        Row {
            rounds: 1,
            ..snapshot
        },
    ]
}

fn snapshot(lab: &Lab) -> Result<Plan> {
    let takes = lab.of(TEN_MINUTES);
    on_server(lab, |database| {
        let beside = Rc::clone(&database);
        Ok(vec![
            Contestant::ours(move |turn| under_snapshot(&database, turn.seed, takes)),
            Contestant::new(Role::Against, "the first takes", move |turn| {
                under_snapshot(&beside, turn.seed, 0)
            }),
        ])
    })
}

/// The median time of a take after `before` other takes, while one snapshot is held open.
fn under_snapshot(database: &Rc<Database>, seed: u64, before: usize) -> Result<f64> {
    let schema = database.schema()?;
    let storage = schema.storage()?;
    let job = store::job(&storage)?;
    let mut holder = schema.client()?;
    let mut held = holder
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .start()?;
    held.query("select count(*) from item", &[])?;
    let mut times = Vec::with_capacity(before + TIMED);
    let mut pushed = 0;
    while times.len() < before + TIMED {
        // The queue always has from 1,000 to 2,000 items.
        let letters = (pushed..pushed + if pushed == 0 { 2_000 } else { 1_000 })
            .map(|n| letter(seed, n))
            .collect::<Result<Vec<_>>>()?;
        pushed += letters.len();
        job.dlq().push_batch(letters)?;
        for _ in 0..1_000 {
            let began = Instant::now();
            let taken = job.dlq().take(&Select::eligible(), 1, LEASE)?;
            times.push(began.elapsed());
            let tokens: Vec<LeaseToken> = taken.iter().map(|taken| taken.token().clone()).collect();
            ensure!(tokens.len() == 1, "{} items were taken", tokens.len());
            acknowledge(&job, &tokens)?;
        }
    }
    held.commit()?;
    let mut last = times.split_off(before);
    last.truncate(TIMED);
    last.sort_unstable();
    let median = last.get(TIMED / 2).copied().unwrap_or_default();
    Ok(median.as_secs_f64() * 1e6)
}

/// The dead letters of a turn.
fn letters(seed: u64, items: usize) -> Result<Vec<DeadLetter<Work>>> {
    (0..items).map(|n| letter(seed, n)).collect()
}

fn cycle(lab: &Lab) -> Result<Plan> {
    let (items, cycles) = (lab.of(10_000), lab.of(200));
    on_server(lab, |database| {
        let beside = Rc::clone(&database);
        Ok(vec![
            Contestant::ours(move |turn| {
                let schema = database.schema()?;
                let storage = schema.storage()?;
                let dlq = store::job(&storage)?.dlq();
                let letters = letters(turn.seed, items)?;
                for chunk in letters.chunks(1_000) {
                    dlq.push_batch(chunk.to_vec())?;
                }
                schema.client()?.batch_execute("vacuum analyze item")?;
                let (mut seen, mut took) = (BTreeSet::new(), Duration::ZERO);
                for _ in 0..cycles {
                    let began = Instant::now();
                    let taken = dlq.take(&Select::eligible(), TAKEN, LEASE)?;
                    let tokens: Vec<LeaseToken> = taken.iter().map(|taken| taken.token().clone()).collect();
                    acknowledge(&store::job(&storage)?, &tokens)?;
                    took += began.elapsed();
                    ensure!(taken.len() == TAKEN, "{} items were taken", taken.len());
                    for taken in &taken {
                        ensure!(seen.insert(taken.data::<Work>()?.n), "an item was taken twice");
                    }
                }
                let left = dlq.scan(&Select::any())?.count();
                ensure!(left == items - cycles * TAKEN, "{left} items are left");
                Ok(took.as_secs_f64() * 1e6 / cycles as f64)
            }),
            Contestant::new(Role::Against, "skip locked", move |turn| {
                let schema = beside.schema()?;
                let mut client = schema.client()?;
                by_hand(&mut client, &letters(turn.seed, items)?, cycles)
            }),
        ])
    })
}

fn by_hand(client: &mut Client, letters: &[DeadLetter<Work>], cycles: usize) -> Result<f64> {
    client.batch_execute(ITEMS)?;
    let insert = client.prepare("insert into item (job, id, body) values (1, $1, $2)")?;
    let mut transaction = client.transaction()?;
    for (n, letter) in letters.iter().enumerate() {
        transaction.execute(&insert, &[&format!("item-{n}"), &serde_json::to_vec(letter)?])?;
    }
    transaction.commit()?;
    client.batch_execute("vacuum analyze item")?;
    let (take, remove) = (client.prepare(TAKE)?, client.prepare(ACKNOWLEDGE)?);
    let (mut seen, mut took) = (BTreeSet::new(), Duration::ZERO);
    for _ in 0..cycles {
        let began = Instant::now();
        let taken = client.query(&take, &[])?;
        let tokens = taken
            .iter()
            .map(|row| row.try_get::<_, uuid::Uuid>(0))
            .collect::<Result<Vec<_>, _>>()?;
        let gone = client.execute(&remove, &[&tokens])?;
        took += began.elapsed();
        ensure!(
            taken.len() == TAKEN && gone == TAKEN as u64,
            "{gone} items are gone"
        );
        for row in &taken {
            let letter: DeadLetter<Work> = serde_json::from_slice(row.try_get(1)?)?;
            ensure!(seen.insert(letter.item_data.n), "an item was taken twice");
        }
    }
    let left: i64 = client.query_one("select count(*) from item", &[])?.try_get(0)?;
    ensure!(
        left as usize == letters.len() - cycles * TAKEN,
        "{left} items are left"
    );
    Ok(took.as_secs_f64() * 1e6 / cycles as f64)
}
