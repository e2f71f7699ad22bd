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
