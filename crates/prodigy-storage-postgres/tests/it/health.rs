//! `health` reports settings of the server that endanger data.

use prodigy_storage_backend::{Catalog, Deadline, Severity};
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};

use crate::server::Server;

#[test]
fn a_server_that_does_not_sync_is_not_healthy() {
    let Some(server) = Server::start() else { return };
    let backend = PostgresBackend::open(PostgresOptions::new(server.url()), Deadline::never()).unwrap();
    let severity = || backend.health(Deadline::never()).unwrap().severity();
    assert_eq!(severity(), Severity::Ok);
    for setting in ["fsync", "full_page_writes"] {
        server.set(setting, "off");
        let health = backend.health(Deadline::never()).unwrap();
        assert_eq!(health.severity(), Severity::Failure, "{setting}: {health:?}");
        let found = format!("{setting} = off");
        assert!(
            health.checks.iter().any(|check| check.found.contains(&found)),
            "{health:?}"
        );
        server.set(setting, "on");
        assert_eq!(severity(), Severity::Ok, "{setting}");
    }
}

/// The findings of a store at this address that are not fine.
fn problems(url: &str) -> Vec<String> {
    let backend = PostgresBackend::open(PostgresOptions::new(url), Deadline::never()).unwrap();
    let checks = backend.health(Deadline::never()).unwrap().checks;
    let problems = checks.into_iter().filter(|check| check.severity != Severity::Ok);
    problems
        .map(|check| {
            assert!(check.hint.is_some(), "{check:?}");
            check.found
        })
        .collect()
}

#[test]
fn a_server_that_takes_no_writes_is_not_healthy_unless_it_is_only_read() {
    let Some(server) = Server::start() else { return };
    PostgresBackend::open(PostgresOptions::new(server.url()), Deadline::never()).unwrap();
    let standby = server.asynchronous_standby();
    let found = problems(&standby.url());
    assert!(
        matches!(&found[..], [one] if one.contains("is a standby")),
        "{found:?}"
    );
    let reading = format!("{}?target_session_attrs=read-only", standby.url());
    assert_eq!(problems(&reading), [""; 0]);

    server.psql("alter database postgres set default_transaction_read_only = on");
    let found = problems(&server.url());
    assert!(
        matches!(&found[..], [one] if one.contains("default_transaction_read_only")),
        "{found:?}"
    );
}

#[test]
fn a_database_that_can_not_store_every_name_is_warned_of() {
    let Some(server) = Server::start() else { return };
    server.psql("create database latin encoding 'LATIN1' locale 'C' template template0");
    let url = server.url().replace("/postgres", "/latin");
    let found = problems(&url);
    assert!(matches!(&found[..], [one] if one.contains("LATIN1")), "{found:?}");
}
