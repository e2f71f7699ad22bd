//! Commits that wait for a synchronous standby that is stopped.

use std::time::{Duration, Instant};

use prodigy_storage_backend::{
    AppendOptions, Batch, Body, Deadline, DocumentStore, ErrorKind, LogStore, PutOptions, StorageError,
};
use prodigy_storage_layout::Document;
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};

use crate::late::{job, read};
use crate::server::Server;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

/// Makes a call that waits for the standby, and ends the wait by calling the function `by` on the server.
fn interrupted<T: Send>(server: &Server, by: &str, call: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let called = scope.spawn(call);
        let end = format!("select count({by}(pid)) from pg_stat_activity where wait_event = 'SyncRep'");
        let began = Instant::now();
        while server.psql(&end) == "0\n" {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "no commit waits for the standby"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        called.join().unwrap()
    })
}

fn assert_unknown(error: &StorageError) {
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error:#}");
    assert!(!error.is_transient(), "{error:#}");
}

#[test]
fn a_commit_that_stopped_waiting_for_the_standby_is_no_success() {
    let Some(server) = Server::start() else { return };
    let mut standby = server.standby();
    // The server says only by a warning that a commit was not replicated.
    server.psql("alter role app set client_min_messages = error");
    let backend = PostgresBackend::open(PostgresOptions::new(server.url()), soon()).unwrap();
    let append = |batch: &mut Batch| backend.append(&job("a"), batch, &AppendOptions::default(), soon());
    let event = |text: &str| {
        let mut batch = Batch::new();
        batch.push(text).unwrap();
        batch
    };
    standby.kill();
    let mut unclear = Vec::new();
    for by in ["pg_cancel_backend", "pg_terminate_backend"] {
        // After an unknown outcome, a new writer is registered. This commit must not wait for the standby.
        server.set("synchronous_standby_names", "");
        append(&mut event("clear")).unwrap();
        server.set("synchronous_standby_names", "*");
        let mut batch = event(by);
        let error = interrupted(&server, by, || append(&mut batch)).unwrap_err();
        assert_unknown(&error);
        assert_eq!((error.ids(), batch.ids().len()), (batch.ids(), 1));
        unclear.push(batch);
    }
    let registering = interrupted(&server, "pg_cancel_backend", || append(&mut event("not sent")));
    let error = registering.unwrap_err();
    assert!(error.is_transient() && error.ids().is_empty(), "{error:#}");
    let body = Body::parse(b"{\"n\":1}").unwrap();
    let document = Document::Orphans(job("a"));
    let put = || backend.put(&document, body, &PutOptions::default(), soon());
    assert_unknown(&interrupted(&server, "pg_cancel_backend", put).unwrap_err());
    server.set("synchronous_standby_names", "");
    // Appends the events with an unknown outcome again under their ids: each is stored once.
    for batch in &mut unclear {
        append(batch).unwrap();
    }
    let stored = read(&backend, &job("a"), None).0;
    assert_eq!(stored.len(), 4, "{stored:?}");
}
