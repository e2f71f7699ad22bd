//! The tables, and their migrations from version to version.

use prodigy_storage_backend::{Durability, ErrorKind, Result, StorageError};
use uuid::Uuid;

use crate::branch::{self, Branches};
use crate::lease::LEASE_SECONDS;
use crate::lock::{self, IS_HELD, select_locks};
use crate::log::cursor_prefix;
use crate::session::Session;
use crate::sql::{Sql, first, rows};

/// The migrations, in order. A migration that was released is never changed.
const MIGRATIONS: [&str; 7] = [
    include_str!("0001.sql"),
    include_str!("0002.sql"),
    include_str!("0003.sql"),
    include_str!("0004.sql"),
    include_str!("0005.sql"),
    include_str!("0006.sql"),
    include_str!("0007.sql"),
];
/// The version of the tables that this program reads and writes.
pub(crate) const VERSION: i64 = MIGRATIONS.len() as i64;

/// The version of a database's tables, and the identity of its store.
///
/// ```
/// use prodigy_storage_postgres::{PostgresOptions, SchemaState, schema_state};
///
/// fn print(url: &str) -> prodigy_storage_backend::Result<()> {
///     let SchemaState { found, wanted, .. } = schema_state(&PostgresOptions::new(url))?;
///     println!("version {found} of {wanted}");
///     Ok(())
/// }
/// # let _ = print;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaState {
    /// The version of the database's tables; 0 if it has none.
    pub found: i64,
    /// The version of the tables that this program uses.
    pub wanted: i64,
    pub(crate) store: Option<Uuid>,
}

/// Selects whether a table `store` exists, whether the schema does, and whether the table has our columns.
///
/// The statement reads the server's catalog. `to_regclass` would use the server's cache of names instead, which inside
/// a transaction does not contain what another one created meanwhile.
fn exists(session: &Session) -> Sql {
    let schema = session
        .prefix()
        .trim_end_matches('.')
        .trim_matches('"')
        .to_owned();
    Sql::new(
        "select c.oid is not null, n.oid is not null, \
           (select count(*) from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid where a.attrelid = c.oid \
             and (a.attname, t.typname) in (('version', 'int8'), ('id', 'uuid'))) = 2 \
         from (values (0)) v left join pg_catalog.pg_namespace n on n.nspname = $1::text \
         left join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = 'store'",
    )
    .arg(schema)
}

pub(crate) async fn state(session: &mut Session) -> Result<SchemaState> {
    let answers = session.read(vec![exists(session)]).await?;
    let mut state = SchemaState {
        found: 0,
        wanted: VERSION,
        store: None,
    };
    if first(rows(&answers, 0), 0)? == Some(true) {
        if first(rows(&answers, 0), 2)? != Some(true) {
            return Err(foreign(session, "its table `store` belongs to another program"));
        }
        let answers = session
            .read(vec![Sql::new("select version, id from @.store")])
            .await?;
        if rows(&answers, 0).is_empty() {
            return Err(foreign(
                session,
                "its table `store` is empty, so it says neither version nor identity",
            ));
        }
        state.found = first(rows(&answers, 0), 0)?.unwrap_or_default();
        state.store = first(rows(&answers, 0), 1)?;
    }
    Ok(state)
}

/// The error of a schema that contains something else than a store.
fn foreign(session: &Session, why: &str) -> StorageError {
    let schema = session.prefix().trim_end_matches('.');
    let why = format!("the schema {schema} is not one of a store: {why}");
    StorageError::new(ErrorKind::Foreign, session.operation, &session.target, why)
        .with_hint("name another schema by `backend_config.schema`, or drop the table if nobody needs it")
}

/// Creates the tables, or migrates them, in one transaction under a lock. Does nothing if they have the version of
/// this program.
pub(crate) async fn migrate(session: &mut Session) -> Result<SchemaState> {
    let before = state(session).await?;
    refuse_newer(&before, session)?;
    if before.found == VERSION {
        return Ok(before);
    }
    // The lock belongs to the schema. A process that waited for it checks the version again, since another one may
    // have migrated.
    let lock = Sql::new("select pg_advisory_xact_lock(hashtext($1))").arg(session.prefix().to_owned());
    let statements = vec![lock, exists(session)];
    let answers = session.begin(Durability::Strict, statements).await?;
    let mut statements = Vec::new();
    if first(rows(&answers, 1), 0)? != Some(true) {
        // The schema is created only if it is missing: a role that may not create schemas may still create tables
        // in an existing one.
        if first(rows(&answers, 1), 1)? != Some(true) {
            let quoted = session.prefix().trim_end_matches('.');
            statements.push(Sql::new(format!("create schema {quoted}")));
        }
        statements.push(Sql::new(
            "create table @.store (version bigint not null, id uuid not null)",
        ));
        statements.push(Sql::new("insert into @.store (version, id) values (0, $1)").arg(Uuid::new_v4()));
    }
    statements.push(Sql::new("select version from @.store for update"));
    let answers = session.more(statements).await?;
    let found: i64 = first(answers.last().map(Vec::as_slice).unwrap_or_default(), 0)?.unwrap_or_default();
    let mut statements = Vec::new();
    for step in MIGRATIONS
        .iter()
        .skip(usize::try_from(found).unwrap_or(usize::MAX))
    {
        let text: String = step
            .lines()
            .filter(|line| !line.starts_with("--"))
            .collect::<Vec<_>>()
            .join("\n");
        statements.extend(
            text.split(';')
                .filter(|part| !part.trim().is_empty())
                .map(|part| Sql::new(part.trim().to_owned())),
        );
    }
    statements.push(Sql::new("update @.store set version = greatest(version, $1)").arg(VERSION));
    session.finish(statements).await?;
    // From now on a branch is noticed, also one that begins before the first lock is taken.
    let branches = Branches::default();
    if branches.are_named(session).await? {
        session.write(Durability::Strict, vec![branch::note()]).await?;
    }
    let after = state(session).await?;
    tracing::info!(from = before.found, to = after.found, "schema migrated");
    Ok(after)
}

/// Gives the store a new identity, so that all earlier cursors are refused. The cursors in stored checkpoints were
/// restored with their events, so they get the new identity and stay valid. Returns the number of these cursors.
pub(crate) async fn renew(session: &mut Session) -> Result<u64> {
    let state = state(session).await?;
    check(&state, session)?;
    let busy = "select exists (select from @.writer where not closed and expires > clock_timestamp())";
    let held = format!("{} where {IS_HELD} limit 1", select_locks());
    let id = Sql::new("select id from @.store for update");
    let answers = session
        .begin(Durability::Strict, vec![id, Sql::new(busy), Sql::new(held)])
        .await?;
    let old: Uuid = first(rows(&answers, 0), 0)?.unwrap_or_default();
    let lock = rows(&answers, 2).first().map(lock::info).transpose()?;
    if lock.is_some() || first(rows(&answers, 1), 0)? != Some(false) {
        session.roll_back().await?;
        let by = lock.map_or_else(|| "it has a log open".to_owned(), |lock| lock.held_by());
        let why = format!("a process works on the store: {by}");
        return Err(StorageError::new(
            ErrorKind::LockUnavailable,
            session.operation,
            &session.target,
            why,
        )
        .with_hint(format!(
            "stop all processes; what one that died held is free {LEASE_SECONDS} seconds later at the latest"
        )));
    }
    let new = Uuid::new_v4();
    let [before, after] =
        [old, new].map(|id| format!("\"cursor\":\"{}", cursor_prefix(id.as_fields().0)).into_bytes());
    // Only the first bytes of a checkpoint are searched: the cursor is its third field, before the state.
    let checkpoints = "with renewed as (update @.document set body = overlay(body placing $2 from position($1 in body)) \
                       where series is not null and position($1 in substring(body from 1 for 200)) > 0 returning 1) \
                       select count(*) from renewed";
    let answers = session
        .finish(vec![
            Sql::new(checkpoints).arg(before).arg(after),
            Sql::new("update @.store set id = $1").arg(new),
        ])
        .await?;
    let renewed: Option<i64> = first(rows(&answers, 0), 0)?;
    Ok(renewed.unwrap_or_default().unsigned_abs())
}

fn refuse_newer(state: &SchemaState, session: &Session) -> Result<()> {
    if state.found <= VERSION {
        return Ok(());
    }
    let why = format!(
        "the schema has version {}, and this program knows versions up to {VERSION}",
        state.found
    );
    Err(
        StorageError::new(ErrorKind::NewerFormat, session.operation, &session.target, why)
            .with_hint("use the program that migrated it, or a newer one"),
    )
}

/// Fails for tables of a version that this program can't use.
pub(crate) fn check(state: &SchemaState, session: &Session) -> Result<()> {
    refuse_newer(state, session)?;
    if state.found == VERSION {
        return Ok(());
    }
    let why = match state.found {
        0 => "the schema has no tables".to_owned(),
        found => format!("the schema has version {found}, and this program needs {VERSION}"),
    };
    Err(
        StorageError::new(ErrorKind::NotFound, session.operation, &session.target, why)
            .with_hint("run `prodigy-storage schema migrate` with a role that may create tables"),
    )
}
