//! The connection of one call: runs its statements and transactions, and converts their failures.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{MaybeDone, join3, maybe_done};
use prodigy_storage_backend::{Durability, ErrorKind, Result, StorageError};
use tokio_postgres::Row;

use crate::fault::{Stage, fault, unknown};
use crate::options::PostgresOptions;
use crate::pool::{Lent, Pool, Shelf};
use crate::sql::Sql;

/// The name of the schema and the clock, which are inserted into the text of each statement.
pub(crate) struct Names {
    /// The schema's name in quotation marks, followed by a full stop.
    pub(crate) prefix: String,
    pub(crate) server_clock: Option<crate::options::ServerClock>,
}

impl Names {
    pub(crate) fn new(options: &PostgresOptions) -> Result<Self> {
        let schema = &options.schema;
        // The server cuts longer names without an error.
        if schema.is_empty() || schema.len() > 63 || schema.contains(['\0', '"', '.', '@', '\'', '{']) {
            let why = "a schema has a name of 1 to 63 bytes, without quotes, periods, braces and `@`";
            return Err(StorageError::new(
                ErrorKind::InvalidConfig,
                "open database",
                schema,
                why,
            ));
        }
        Ok(Self {
            prefix: format!("\"{schema}\"."),
            server_clock: options.server_clock.clone(),
        })
    }

    pub(crate) fn fill(&self, text: &str) -> String {
        let text = text.replace("@.", &self.prefix);
        if !text.contains("{now}") {
            return text;
        }
        match &self.server_clock {
            Some(clock) => text.replace("{now}", &format!("({}::bigint)", clock().as_nanos())),
            None => text.replace(
                "{now}",
                "((extract(epoch from clock_timestamp()) * 1000000)::bigint * 1000)",
            ),
        }
    }
}

const OPEN: u8 = 0;
const SENT: u8 = 1;
const GIVEN_UP: u8 = 2;

/// Decides whether a write is sent or given up. The task that would send it and the caller that waits for it share
/// the decision, which is made once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claim(Arc<AtomicU8>);

impl Claim {
    /// Decides that the write is sent. Returns false if the caller has given up: then nothing may be sent.
    pub(crate) fn send(&self) -> bool {
        self.0.fetch_max(SENT, Ordering::SeqCst) != GIVEN_UP
    }

    /// Decides that the write is given up. Returns false if it was sent: then its outcome is unknown.
    pub(crate) fn give_up(&self) -> bool {
        self.0
            .compare_exchange(OPEN, GIVEN_UP, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

/// The connection of one call. It returns to the pool when it is dropped, unless a statement failed or has no
/// answer yet.
pub(crate) struct Session {
    pool: Arc<Pool>,
    lent: Option<Lent>,
    claim: Claim,
    pub(crate) operation: &'static str,
    pub(crate) target: String,
    /// True if no transaction is open and no statement waits for its answer.
    at_rest: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(lent) = self.lent.take().filter(|_| self.at_rest) {
            self.pool.give_back(lent);
        }
    }
}

impl Session {
    /// Opens a session. With a `shelf`, it uses the connection that is kept there and that the calling thread drives;
    /// without one, a connection that the runtime of the handle drives.
    pub(crate) async fn open(
        pool: &Arc<Pool>,
        shelf: Option<&Shelf>,
        claim: Claim,
        operation: &'static str,
        target: String,
    ) -> Result<Self> {
        let lent = pool.lend(shelf, operation).await?;
        Ok(Self {
            pool: Arc::clone(pool),
            lent: Some(lent),
            claim,
            operation,
            target,
            at_rest: true,
        })
    }

    /// The schema's name in quotation marks, followed by a full stop.
    pub(crate) fn prefix(&self) -> &str {
        &self.pool.names().prefix
    }

    /// Runs statements that only read, in one round trip. Each is a transaction of its own.
    pub(crate) async fn read(&mut self, statements: Vec<Sql>) -> Result<Vec<Vec<Row>>> {
        let answers = self.send(None, &statements, Stage::Before).await?;
        self.at_rest = true;
        Ok(answers)
    }

    /// Runs statements as one transaction, in one round trip.
    pub(crate) async fn write(
        &mut self,
        durability: Durability,
        statements: Vec<Sql>,
    ) -> Result<Vec<Vec<Row>>> {
        self.claimed()?;
        // If the session has the settings already, a single statement is a transaction without `begin` and
        // `commit`.
        let is_whole = statements.len() == 1 && durability == Durability::Strict && self.has_settings();
        let (begin, stage) = if is_whole {
            (None, Stage::Commit)
        } else {
            (Some(self.begin_text(durability)), Stage::Pipelined)
        };
        let answers = self.send(begin, &statements, stage).await?;
        self.committed(answers)
    }

    /// Begins a transaction, and runs its first statements.
    pub(crate) async fn begin(
        &mut self,
        durability: Durability,
        statements: Vec<Sql>,
    ) -> Result<Vec<Vec<Row>>> {
        self.send(Some(self.begin_text(durability)), &statements, Stage::Before)
            .await
    }

    /// Runs more statements in the open transaction.
    pub(crate) async fn more(&mut self, statements: Vec<Sql>) -> Result<Vec<Vec<Row>>> {
        self.send(None, &statements, Stage::Before).await
    }

    /// Runs more statements in the open transaction, and commits it.
    pub(crate) async fn finish(&mut self, statements: Vec<Sql>) -> Result<Vec<Vec<Row>>> {
        self.claimed()?;
        let answers = self.send(None, &statements, Stage::Pipelined).await?;
        self.committed(answers)
    }

    /// Rolls the open transaction back.
    pub(crate) async fn roll_back(&mut self) -> Result<()> {
        self.send(Some("rollback".into()), &[], Stage::Before).await?;
        self.at_rest = true;
        Ok(())
    }

    /// True if [`SETTINGS`] were applied to the session.
    fn has_settings(&self) -> bool {
        self.lent.as_ref().is_some_and(|lent| lent.link.is_direct())
    }

    /// The text that begins a transaction, with the settings that were not applied to the session.
    fn begin_text(&self, durability: Durability) -> String {
        let commit = match durability {
            Durability::Strict => "on",
            Durability::Relaxed => "off",
        };
        match (self.has_settings(), durability) {
            (true, Durability::Strict) => "begin".to_owned(),
            (true, Durability::Relaxed) => format!("begin; set local synchronous_commit = {commit}"),
            (false, _) => format!(
                "begin isolation level read committed; set local synchronous_commit = {commit}; set local lock_timeout = {}; \
                 set local client_min_messages = warning",
                LOCK_TIMEOUT.as_millis()
            ),
        }
    }

    fn claimed(&self) -> Result<()> {
        if self.claim.send() {
            return Ok(());
        }
        Err(StorageError::timeout(
            self.operation,
            &self.target,
            "the database",
        ))
    }

    fn committed(&mut self, answers: Vec<Vec<Row>>) -> Result<Vec<Vec<Row>>> {
        let unreplicated = self.lent.as_ref().map(|lent| &lent.link.unreplicated);
        if unreplicated.is_some_and(|flag| flag.swap(false, Ordering::SeqCst)) {
            return Err(unknown(
                self.operation,
                &self.target,
                "the server stopped waiting for its synchronous standby",
            ));
        }
        self.at_rest = true;
        Ok(answers)
    }

    /// Sends all statements at once, and waits for their answers. With [`Stage::Pipelined`], a commit follows
    /// them.
    async fn send(
        &mut self,
        begin: Option<String>,
        statements: &[Sql],
        stage: Stage,
    ) -> Result<Vec<Vec<Row>>> {
        self.at_rest = false;
        let Some(lent) = &self.lent else {
            return Err(StorageError::timeout(
                self.operation,
                &self.target,
                "a connection",
            ));
        };
        let link = &lent.link;
        let failed = |error, stage| fault(error, stage, self.operation, &self.target);
        let mut messages = Vec::with_capacity(statements.len());
        for sql in statements {
            let text = self.pool.names().fill(&sql.text);
            let prepared = link.prepared(sql, &text).await;
            messages.push((
                sql.params(),
                prepared.map_err(|error| failed(error, Stage::Before))?,
                text,
            ));
        }
        let simple = |text: Option<String>| async move {
            match text {
                Some(text) => link.client.batch_execute(&text).await,
                None => Ok(()),
            }
        };
        // A statement is sent when its future is first polled. So the futures are polled in the order of the
        // statements.
        let queries = messages.iter().map(|(params, prepared, text)| async move {
            match prepared {
                Some(statement) => {
                    let values: Vec<_> = params.iter().map(|(value, _)| *value).collect();
                    link.client.query(statement, &values).await
                }
                None => link.client.query_typed(text, params).await,
            }
        });
        let commit = (stage == Stage::Pipelined).then(|| "commit".to_owned());
        let (begun, answers, committed) =
            join3(simple(begin), join_all_in_order(queries), simple(commit)).await;
        begun.map_err(|error| failed(error, stage))?;
        let answers: Result<Vec<_>, _> = answers.into_iter().collect();
        let answers = answers.map_err(|error| failed(error, stage))?;
        committed.map_err(|error| failed(error, Stage::Commit))?;
        Ok(answers)
    }
}

/// Polls all futures, always in the same order, until each has ended. `join_all` keeps no order if there are many.
async fn join_all_in_order<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<Pin<Box<MaybeDone<F>>>> = futures.map(|future| Box::pin(maybe_done(future))).collect();
    poll_fn(|context| {
        let mut polled = Poll::Ready(());
        for future in &mut all {
            if future.as_mut().poll(context).is_pending() {
                polled = Poll::Pending;
            }
        }
        polled
    })
    .await;
    all.iter_mut()
        .filter_map(|future| future.as_mut().take_output())
        .collect()
}

/// The settings that a strict transaction needs. They are applied once to a session that one server process
/// serves. A warning is all that the server says of a commit that its synchronous standby does not have.
pub(crate) const SETTINGS: &str = "set default_transaction_isolation = 'read committed'; set synchronous_commit = on; \
                                   set lock_timeout = 60000; set client_min_messages = warning";

/// The longest time for which a session whose caller has gone may wait for a locked row.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);
