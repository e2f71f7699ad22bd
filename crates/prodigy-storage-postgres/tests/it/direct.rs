//! The session of a connection keeps prepared statements without a pooler, and nothing behind one.

use prodigy_storage_backend::{AppendOptions, Batch, Deadline, LogStore};
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};

use crate::late::job;
use crate::server::Server;

/// Appends twice, and returns the server's log of it.
fn log_of_appends(server: &Server, url: String) -> String {
    let backend = PostgresBackend::open(PostgresOptions::new(url), Deadline::never()).unwrap();
    let before = server.log().len();
    for event in ["one", "two"] {
        let mut batch = Batch::new();
        batch.push(event).unwrap();
        let options = AppendOptions::default();
        backend
            .append(&job("a"), &mut batch, &options, Deadline::never())
            .unwrap();
    }
    server.log().split_off(before)
}

#[test]
fn statements_are_prepared_unless_a_pooler_is_between() {
    let Some(server) = Server::start() else { return };
    let Some(pooler) = server.pooler() else { return };
    server.set("log_statement", "all");
    let direct = log_of_appends(&server, server.url());
    assert!(direct.contains("execute s"), "{direct}");
    let pooled = log_of_appends(&server, pooler.url());
    assert!(
        pooled.contains("execute <unnamed>") && pooled.contains("set local"),
        "{pooled}"
    );
    assert!(!pooled.contains("execute s"), "{pooled}");
}
