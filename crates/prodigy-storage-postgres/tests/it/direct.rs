//! Prepared statements: they are used without a pooler, and not behind one.

use prodigy_storage_backend::{AppendOptions, Batch, Body, Deadline, DocumentStore, LogStore, PutOptions};
use prodigy_storage_layout::Document;
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};

use crate::late::{append_one, job, read};
use crate::server::Server;

/// Appends twice, and returns the part of the server's log about these calls.
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

/// Counts the sessions of the backend on the server.
const SESSIONS: &str = "select count(*) from pg_stat_activity where application_name = 'prodigy-storage'";

#[test]
fn a_connection_that_the_server_closed_meanwhile_is_not_lent() {
    let Some(server) = Server::start() else { return };
    let backend = PostgresBackend::open(PostgresOptions::new(server.url()), Deadline::never()).unwrap();
    let document = Document::Orphans(job("a"));
    let put = || {
        let body = Body::parse(b"{}").unwrap();
        backend.put(&document, body, &PutOptions::default(), Deadline::never())
    };
    put().unwrap();
    for _ in 0..5 {
        server.psql(&format!(
            "select pg_terminate_backend(pid) from ({}) s",
            SESSIONS.replace("count(*)", "pid")
        ));
        while server.psql(SESSIONS).trim() != "0" {}
        // If a write were sent on a closed connection, its outcome would be unknown. So this fails if such a
        // connection is used.
        put().unwrap();
    }
}

#[test]
fn a_thread_of_a_runtime_may_call_and_no_call_opens_a_connection_above_the_limit() {
    let Some(server) = Server::start() else { return };
    let options = PostgresOptions::new(server.url()).connections(1);
    let backend = PostgresBackend::open(options, Deadline::never()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for round in 0..3 {
        append_one(&backend);
        runtime.block_on(async { append_one(&backend) });
        assert_eq!(read(&backend, &job("a"), None).0.len(), 2 * round + 2);
        let found = runtime.block_on(async { read(&backend, &job("a"), None).0.len() });
        assert_eq!(found, 2 * round + 2);
    }
    // The server ends the session of a closed connection a little later.
    let began = std::time::Instant::now();
    while server.psql(SESSIONS).trim() != "1" {
        assert!(began.elapsed().as_secs() < 60, "{}", server.psql(SESSIONS));
    }
}
