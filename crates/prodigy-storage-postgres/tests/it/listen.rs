//! Notifications of appends between processes.

use std::time::Duration;

use prodigy_storage_backend::{Deadline, Interrupt, LogReports, LogScope, LogStore, Reported};
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
    assert!(
        !watch.reports_new_jobs().unwrap(),
        "the caller has to list the jobs"
    );
}

/// The watch gets reports of the appends of others, until the backend says that it may have missed some.
fn assert_missed_and_heard_again(server: &Server, disturb: impl FnOnce(&LogReports) -> Option<Reported>) {
    let minute = || Deadline::after(Duration::from_secs(60));
    let backend = open(server.url());
    let reports = LogReports::new(Interrupt::new());
    let mut watch = backend.watch(&LogScope::Store, &reports).unwrap();
    assert!(watch.reports_new_jobs().unwrap() && watch.include(&job("a")).unwrap());
    let reported = disturb(&reports).unwrap();
    assert!(reported.appends_may_be_missed, "{reported:?}");
    let deadline = minute();
    while !watch.include(&job("a")).unwrap() {
        assert!(!deadline.has_passed(), "no notifications arrive again");
        std::thread::sleep(Duration::from_millis(20));
    }
    append_one(&open(server.url()));
    let reported = reports.wait(minute()).unwrap();
    assert!(reported.jobs.contains(&job("a")), "{reported:?}");
}

#[test]
fn a_watch_learns_that_the_connection_of_its_notifications_ended_and_hears_again() {
    let Some(server) = Server::start() else { return };
    assert_missed_and_heard_again(&server, |reports| {
        server.psql(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where backend_type = 'client backend' and (query like 'listen%' or query = '')",
        );
        reports.wait(Deadline::after(Duration::from_secs(60)))
    });
}

#[test]
fn a_watch_learns_that_the_server_says_nothing_any_more() {
    let Some(server) = Server::start() else { return };
    assert_missed_and_heard_again(&server, |reports| {
        server.signal("-STOP");
        let reported = reports.wait(Deadline::after(Duration::from_secs(60)));
        server.signal("-CONT");
        reported
    });
}
