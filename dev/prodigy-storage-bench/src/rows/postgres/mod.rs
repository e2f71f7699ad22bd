//! The PostgreSQL backend beside hand-written SQL, on the same server and with the same connection settings.
//!
//! The hand-written side is a short program: the blocking client by the authors of our client library, a connection per
//! thread, prepared statements, and tables with the columns and indexes that the work needs.

mod append;
mod checkpoint;
mod dlq;
mod scan;
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    reason = "the server of the tests of the backend, of which this is a part"
)]
#[path = "../../../../../crates/prodigy-storage-postgres/tests/it/server.rs"]
mod server;

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use anyhow::{Result, ensure};
use postgres::{Client, NoTls};
use prodigy_storage::config::BackendKind;
use prodigy_storage::{Durability, Storage, StorageConfig};

use self::server::Server;
use crate::bar::Bar;
use crate::lab::Lab;
use crate::row::{ALL_ROUNDS, Plan, Row};

pub(crate) fn rows() -> Vec<Row> {
    [append::rows(), scan::rows(), checkpoint::rows(), dlq::rows()]
        .into_iter()
        .flatten()
        .collect()
}

/// A row of the group `postgres`.
fn row(
    key: &'static str,
    (work, against): (&'static str, &'static str),
    bar: f64,
    plan: fn(&Lab) -> Result<Plan>,
) -> Row {
    Row {
        key,
        group: "postgres",
        work,
        against,
        unit: "µs",
        bar: Bar::AtMost(bar),
        rounds: ALL_ROUNDS,
        plan,
    }
}

/// A private server, which is stopped when this value is dropped.
pub(crate) struct Database {
    server: Server,
    schemas: Cell<usize>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

impl Database {
    /// Starts the server; `None` if no PostgreSQL is installed.
    pub(crate) fn start() -> Option<Self> {
        Some(Self {
            server: Server::start()?,
            schemas: Cell::new(0),
        })
    }

    fn connect(&self) -> Result<Client> {
        Ok(Client::connect(&self.server.url(), NoTls)?)
    }

    /// A new schema without tables.
    fn schema(self: &Rc<Self>) -> Result<Schema> {
        let number = self.schemas.get();
        self.schemas.set(number + 1);
        let schema = Schema {
            database: Rc::clone(self),
            name: format!("turn_{number}"),
        };
        let mut client = self.connect()?;
        client.batch_execute(&format!("create schema {}", schema.name))?;
        Ok(schema)
    }
}

/// The schema of a turn, which is removed when this value is dropped.
struct Schema {
    database: Rc<Database>,
    name: String,
}

impl Schema {
    fn config(&self) -> StorageConfig {
        let mut config = StorageConfig::default().backend(BackendKind::Postgres);
        config.durability = Durability::Strict;
        config.postgres.url = Some(self.database.server.url());
        config.postgres.schema.clone_from(&self.name);
        config
    }

    /// Our storage, with the strict default.
    fn storage(&self) -> Result<Storage> {
        Ok(Storage::with_config(self.config())?)
    }

    /// A connection of the hand-written side, which uses the schema by default.
    fn client(&self) -> Result<Client> {
        connect(&self.database.server.url(), &self.name)
    }
}

fn connect(url: &str, schema: &str) -> Result<Client> {
    let mut client = Client::connect(url, NoTls)?;
    client.batch_execute(&format!("set search_path = {schema}"))?;
    Ok(client)
}

impl Drop for Schema {
    fn drop(&mut self) {
        // If this fails, the schema is removed with the server at the end of the run.
        if let Ok(mut client) = self.database.connect() {
            let _ = client.batch_execute(&format!("drop schema {} cascade; checkpoint", self.name));
        }
    }
}

/// Creates the works of a row with the server of the run. Skips the row if no PostgreSQL is installed.
fn on_server(
    lab: &Lab,
    works: impl FnOnce(Rc<Database>) -> Result<Vec<crate::row::Contestant>>,
) -> Result<Plan> {
    match lab.postgres() {
        Some(database) => Ok(Plan::Measure(works(database)?)),
        None => Ok(Plan::Skipped("no PostgreSQL server is installed".to_owned())),
    }
}

/// The hand-written side's table of events, as a program would create it: an order, and an id that makes repetitions
/// harmless.
const EVENTS: &str = "create table event (\
      number bigint generated always as identity primary key, \
      job bigint not null, id uuid not null, time bigint not null, line bytea not null); \
    create unique index on event (job, id)";

/// Checks that the hand-written side has stored every event.
fn check(client: &mut Client, wanted: crate::event::Digest) -> Result<()> {
    let mut digest = crate::event::Digest::default();
    for row in client.query("select line from event where job = 1 order by number", &[])? {
        digest.add(&crate::raw::parsed(row.try_get::<_, &[u8]>(0)?.trim_ascii_end())?);
    }
    digest.must_be(wanted)
}

/// Checks that the hand-written side is as durable as ours.
fn ensure_strict(client: &mut Client) -> Result<()> {
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        let row = client.query_one("select current_setting($1)", &[&setting])?;
        ensure!(row.try_get::<_, &str>(0)? == "on", "{setting} is off");
    }
    Ok(())
}
