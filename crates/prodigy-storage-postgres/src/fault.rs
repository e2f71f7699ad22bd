//! Converts the errors of the server and of the connection.

use std::error::Error as _;

use prodigy_storage_backend::{ErrorKind, StorageError};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::log::APPEND;

/// How far a transaction had got when a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No commit had been sent, so nothing is stored.
    Before,
    /// A commit was sent right after the failed statement. If the server refused the statement, nothing is stored.
    Pipelined,
    /// The commit itself failed, or a statement that is a whole transaction.
    Commit,
}

/// The storage error for a failure of the client library, at this stage of a transaction.
pub(crate) fn fault(error: Error, stage: Stage, operation: &'static str, target: &str) -> StorageError {
    if let Some(why) = refused_tls(&error) {
        let refused = StorageError::new(ErrorKind::Unauthorised, operation, target, why);
        return refused.with_hint("see `sslmode` and `sslrootcert` in docs/how-to/postgresql.md");
    }
    if error
        .source()
        .is_some_and(|cause| cause.to_string() == "password missing")
    {
        let why = "the server asks for a password, and none was found";
        let missing = StorageError::new(ErrorKind::Unauthorised, operation, target, why);
        return missing.with_hint(
            "set `PGPASSWORD`, or write a line for this server into ~/.pgpass; a password file that others may read is not used: `chmod 600` it",
        );
    }
    let state = error.code().cloned();
    let is_lost = state.is_none();
    let code = state.as_ref().map_or("", SqlState::code);
    let is_refused = matches!(
        code.get(..2),
        Some("22" | "23" | "25" | "40" | "42" | "53" | "55")
    ) && code != "40003";
    let is_unknown = matches!(code, "08007" | "40003")
        || match stage {
            Stage::Before => false,
            Stage::Pipelined => is_lost,
            Stage::Commit => !is_refused,
        };
    // The message of the server without its details, since these may contain stored data.
    let said = error
        .as_db_error()
        .map(|error| format!("{} ({code})", error.message()));
    let said = said.unwrap_or_else(|| "the connection to the server was lost".into());
    if is_unknown {
        return with_cause(unknown(operation, target, &said), error);
    }
    let new = |kind| StorageError::new(kind, operation, target, said.clone());
    let mapped = match code {
        "53100" => new(ErrorKind::DiskFull).with_hint("free space on the server's disk, then try again"),
        "53200" | "53300" | "53400" => new(ErrorKind::Unavailable)
            .with_hint("the server is at its limit: lower `connection_pool_size`, or put a pooler before it"),
        "55P03" => new(ErrorKind::Timeout)
            .transient()
            .with_hint("another session holds a lock for long: see `pg_locks` on the server"),
        "57014" => new(ErrorKind::Unavailable).with_hint(
            "the server cancelled the statement: see `statement_timeout` of the role and of the database",
        ),
        "22P05" => new(ErrorKind::InvalidInput).with_hint(
            "a name has a character that the encoding of the database lacks: create a database with `encoding 'UTF8'`, and move the store there by \
             `copy`",
        ),
        "25006" => new(ErrorKind::Unavailable).with_hint(
            "check that the connection string names the primary, and that `default_transaction_read_only` is off there",
        ),
        "40001" | "40P01" | "25P03" | "57P01" | "57P02" | "57P03" | "57P05" | "" => {
            new(ErrorKind::Unavailable)
                .with_hint("check that the server runs, and that the connection string names the primary")
        }
        "42501" => new(ErrorKind::Unauthorised)
            .with_hint("grant the role what the page on PostgreSQL lists (docs/how-to/postgresql.md)"),
        "42P07" | "42710" => new(ErrorKind::Foreign).with_hint(
            "the schema has tables of another program: name another schema by `backend_config.schema`",
        ),
        "42P01" | "3F000" | "42703" => {
            new(ErrorKind::NotFound).with_hint("create the schema: `prodigy-storage schema migrate`")
        }
        "3D000" => {
            new(ErrorKind::NotFound).with_hint("create the database, or correct the connection string")
        }
        _ if code.starts_with("28") => {
            new(ErrorKind::Unauthorised).with_hint("check user and password, and `pg_hba.conf` on the server")
        }
        _ if code.starts_with("08") => {
            new(ErrorKind::Unavailable).with_hint("check the network to the server")
        }
        _ => new(ErrorKind::Io).with_hint("see the log of the server"),
    };
    with_cause(mapped, error)
}

/// The reason why server or client refused to encrypt a new connection; `None` for any other failure.
fn refused_tls(error: &Error) -> Option<String> {
    let cause = error.source()?;
    if let Some(broken) = cause.downcast_ref::<std::io::Error>() {
        let refusal = broken.get_ref()?.downcast_ref::<rustls::Error>()?;
        return Some(format!(
            "the server's certificate or its TLS was refused: {refusal}"
        ));
    }
    (cause.to_string() == "server does not support TLS").then(|| "the server offers no TLS".to_owned())
}

/// Adds the cause to an error. An answer of the server is not added: its message is in the text already, and its
/// details may contain stored data.
fn with_cause(fault: StorageError, error: Error) -> StorageError {
    match error.as_db_error() {
        Some(_) => fault,
        None => fault.with_source(error),
    }
}

/// The error of a write whose outcome is unknown.
pub(crate) fn unknown(operation: &'static str, target: &str, why: &str) -> StorageError {
    let why = format!("{why}; the write may be stored or not");
    StorageError::new(ErrorKind::OutcomeUnknown, operation, target, why).with_hint(match operation {
        APPEND => "read what is stored, or repeat the append with the same ids",
        _ => "read what is stored, then decide whether to repeat the call",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_append_is_to_be_repeated_without_a_look_at_the_store() {
        let hint = |operation| unknown(operation, "shop/job-1", "why").hint().map(str::to_owned);
        assert!(hint(APPEND).is_some_and(|hint| hint.contains("repeat the append")));
        assert!(hint("write document").is_some_and(|hint| !hint.contains("append")));
    }
}
