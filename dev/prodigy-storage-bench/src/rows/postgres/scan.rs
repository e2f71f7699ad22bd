//! Rows that read events from a database.

use std::rc::Rc;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::{EVENTS, on_server, row};
use crate::clock::per_operation;
use crate::event::{Digest, Event, Source};
use crate::lab::Lab;
use crate::row::{Contestant, Plan, Role, Row};
use crate::store;

/// The number of rows that the hand-written side fetches at once.
const FETCHED: i32 = 4_096;
/// The seed of the log.
const SEED: u64 = 20_260_101;

pub(super) fn rows() -> Vec<Row> {
    vec![row(
        "postgres-scan",
        (
            "PostgreSQL: scan of a million events, typed, crc verified",
            "a cursor + serde_json typed",
        ),
        1.3,
        plan,
    )]
}

/// The parsed line of an event.
#[derive(Deserialize)]
struct Line {
    event: Event,
}

fn plan(lab: &Lab) -> Result<Plan> {
    let events = lab.of(1_000_000);
    on_server(lab, |database| {
        let schema = Rc::new(database.schema()?);
        let storage = schema.storage()?;
        let job = store::job(&storage)?;
        let (log, mut source) = (job.events(), Source::new(SEED));
        let mut batch = prodigy_storage::Batch::new();
        for start in (0..events).step_by(5_000) {
            batch.clear();
            for n in start..(start + 5_000).min(events) {
                batch.push(source.event(n))?;
            }
            log.append_prepared(&mut batch, Some(prodigy_storage::Durability::Relaxed))?;
        }
        let wanted = source.digest(0..events);
        // The hand-written side has the same lines in a table of its own.
        let mut client = schema.client()?;
        client.batch_execute(&format!("alter table event rename to ours; {EVENTS}"))?;
        client.batch_execute(
            "insert into event (job, id, time, line) select 1, id, time, line from ours order by id; \
             alter table event rename to hand; alter table ours rename to event",
        )?;
        for table in ["hand", "event"] {
            client.batch_execute(&format!("vacuum (analyze) {table}"))?;
        }
        let of_ours = Rc::clone(&schema);
        Ok(vec![
            Contestant::ours(move |_| {
                // Moves the schema into this closure, since it is removed when it is dropped.
                let _ = &of_ours;
                let mut digest = Digest::default();
                let began = Instant::now();
                for event in store::job(&storage)?.events().read::<Event>()? {
                    let event = event?;
                    ensure!(event.verified, "an event has no checksum");
                    digest.add(&event.event);
                }
                let took = per_operation(began, events);
                digest.must_be(wanted)?;
                Ok(took)
            }),
            Contestant::new(Role::Against, "cursor + serde_json", move |_| {
                let mut client = schema.client()?;
                let mut digest = Digest::default();
                let began = Instant::now();
                let mut transaction = client.transaction()?;
                let text = "select line from hand where job = 1 order by number";
                let portal = transaction.bind(text, &[])?;
                loop {
                    let rows = transaction.query_portal(&portal, FETCHED)?;
                    if rows.is_empty() {
                        break;
                    }
                    for row in &rows {
                        let line: Line = serde_json::from_slice(row.try_get(0)?)?;
                        digest.add(&line.event);
                    }
                }
                transaction.commit()?;
                let took = per_operation(began, events);
                digest.must_be(wanted)?;
                Ok(took)
            }),
        ])
    })
}
