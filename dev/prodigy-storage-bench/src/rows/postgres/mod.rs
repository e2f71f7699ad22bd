//! The PostgreSQL backend beside SQL that is written by hand, on one server and with the same settings of the connections.
//!
//! The hand-written side is a program of few lines: the blocking client of the same authors as ours, a connection for each
//! thread, statements that are prepared once, tables with the columns and the indexes that the work needs.

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

/// A row of this group.
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

/// A private server, which ends with this value.
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
    /// Starts it; `None` where no server is installed.
    pub(crate) fn start() -> Option<Self> {
        Some(Self {
            server: Server::start()?,
            schemas: Cell::new(0),
        })
    }

    fn connect(&self) -> Result<Client> {
        Ok(Client::connect(&self.server.url(), NoTls)?)
    }

    /// A schema of its own, without tables.
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

/// A schema of a turn. It goes with this value.
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

    /// Our store, strict as it is by default.
    fn storage(&self) -> Result<Storage> {
        Ok(Storage::with_config(self.config())?)
    }

    /// A connection of the hand-written side, whose statements need no schema.
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
        // The server goes at the end of the run in any case.
        if let Ok(mut client) = self.database.connect() {
            let _ = client.batch_execute(&format!("drop schema {} cascade; checkpoint", self.name));
        }
    }
}

/// The works of a row on the server of the run.
fn on_server(
    lab: &Lab,
    works: impl FnOnce(Rc<Database>) -> Result<Vec<crate::row::Contestant>>,
) -> Result<Plan> {
    match lab.postgres() {
        Some(database) => Ok(Plan::Measure(works(database)?)),
        None => Ok(Plan::Skipped("no PostgreSQL server is installed".to_owned())),
    }
}

/// The tables that a program would make for its events: an order, and the id that makes a repetition harmless.
const EVENTS: &str = "create table event (\
      number bigint generated always as identity primary key, \
      job bigint not null, id uuid not null, time bigint not null, line bytea not null); \
    create unique index on event (job, id)";

/// Every event is there.
fn check(client: &mut Client, wanted: crate::event::Digest) -> Result<()> {
    let mut digest = crate::event::Digest::default();
    for row in client.query("select line from event where job = 1 order by number", &[])? {
        digest.add(&crate::raw::parsed(row.try_get::<_, &[u8]>(0)?.trim_ascii_end())?);
    }
    digest.must_be(wanted)
}

/// Nothing may be weaker than on the other side.
fn ensure_strict(client: &mut Client) -> Result<()> {
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        let row = client.query_one("select current_setting($1)", &[&setting])?;
        ensure!(row.try_get::<_, &str>(0)? == "on", "{setting} is off");
    }
    Ok(())
}
