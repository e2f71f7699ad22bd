//! Notifications of appends between processes.

use std::time::Duration;

use prodigy_storage_backend::{Deadline, Interrupt, LogReports, LogScope, LogStore};
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};

use crate::late::{append_one, job};
use crate::server::Server;

fn open(url: String) -> PostgresBackend {
    PostgresBackend::open(PostgresOptions::new(url), Deadline::never()).unwrap()
}

#[test]
fn an_append_of_another_handle_is_reported_also_if_that_handle_goes_at_once() {
    let Some(server) = Server::start() else { return };
    let backend = open(server.url());
    let reports = LogReports::new(Interrupt::new());
    let mut watch = backend.watch(&LogScope::Store, &reports).unwrap();
    assert!(watch.include(&job("a")).unwrap(), "notifications arrive");
    for _ in 0..3 {
        let other = open(server.url());
        append_one(&other);
        drop(other);
        let reported = reports.wait(Deadline::after(Duration::from_secs(60))).unwrap();
        assert!(reported.jobs.contains(&job("a")), "{reported:?}");
        // The append may be reported again: a handle that is dropped while it sends a notification sends it twice.
        let _ = reports.wait(Deadline::after(Duration::from_millis(100)));
    }
}

#[test]
fn a_listener_behind_a_pooler_notices_that_it_hears_nothing() {
    let Some(server) = Server::start() else { return };
    let Some(pooler) = server.pooler() else { return };
    let backend = open(pooler.url());
    let reports = LogReports::new(Interrupt::new());
    let mut watch = backend.watch(&LogScope::Store, &reports).unwrap();
    assert!(!watch.include(&job("a")).unwrap(), "the caller has to look");
}
