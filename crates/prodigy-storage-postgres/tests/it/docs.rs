//! Runs the SQL statements that the documentation shows.

use std::path::Path;
use std::time::Duration;

use prodigy_storage_backend::{
    Catalog, Deadline, DocumentStore, ErrorKind, LockOptions, LockStore, LogStore, ScanOptions,
};
use prodigy_storage_layout::{Document, LockName};
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions, migrate_schema, renew_store};

use crate::late::{append_one, job, read};
use crate::server::Server;

/// The blocks of SQL in a section of a page.
fn statements(page: &str, section: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/how-to");
    let text = std::fs::read_to_string(folder.join(page)).unwrap();
    let (_, section) = text.split_once(&format!("\n## {section}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```sql\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap().to_owned())
        .collect()
}

fn url(server: &Server, user: &str) -> String {
    server
        .url()
        .replace("app@", &format!("{user}@"))
        .replace("/postgres", "/jobs")
}

fn open(server: &Server, user: &str) -> PostgresBackend {
    PostgresBackend::open(PostgresOptions::new(url(server, user)), Deadline::never()).unwrap()
}

/// Starts a server that has the roles and tables of the pages.
fn prepared() -> Option<Server> {
    let server = Server::start()?;
    let [roles, grants] = &statements("postgresql.md", "Roles")[..] else {
        panic!("the page has two blocks about roles");
    };
    for statement in roles.lines() {
        server.psql(statement);
    }
    migrate_schema(
        &PostgresOptions::new(url(&server, "jobs_owner")),
        Deadline::never(),
    )
    .unwrap();
    server.psql_at(&url(&server, "jobs_owner"), grants);
    Some(server)
}

#[test]
fn a_role_with_the_documented_rights_is_enough() {
    let Some(server) = prepared() else { return };
    let service = open(&server, "jobs_app");
    append_one(&service);
    assert_eq!(read(&service, &job("a"), None).0.len(), 1);
    service.flush(Deadline::never()).unwrap();
    lock(&service);
    service.seal(&job("a"), Deadline::never()).unwrap();
    assert!(service.delete_job(&job("a"), None, Deadline::never()).unwrap());
    // The role `jobs_app` may not create tables in another schema.
    let other = PostgresOptions::new(url(&server, "jobs_app")).schema("other");
    let error = PostgresBackend::open(other, Deadline::never()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorised, "{error}");
    // The role `jobs_app` may use a table that a later version adds.
    server.psql_at(&url(&server, "jobs_owner"), "create table prodigy.later (n int)");
    server.psql_at(&url(&server, "jobs_app"), "insert into prodigy.later values (1)");
}

fn lock(backend: &PostgresBackend) {
    let name = LockName::new("resume").unwrap();
    let soon = Deadline::after(Duration::from_secs(60));
    let held = backend.lock(&name, &LockOptions::default(), soon).unwrap();
    held.release().unwrap();
}

/// CockroachDB has no such functions, and some services let nobody call them.
#[test]
fn locks_are_given_out_where_the_server_does_not_name_its_timeline() {
    let Some(server) = prepared() else { return };
    let revoke = "revoke execute on function pg_walfile_name(pg_lsn) from public";
    server.psql_at(&url(&server, "app"), revoke);
    let service = open(&server, "jobs_app");
    lock(&service);
    lock(&service);
}

#[test]
fn the_monitoring_role_can_run_each_statement() {
    let Some(server) = prepared() else { return };
    let [role] = &statements("run-postgresql.md", "A role that only looks")[..] else {
        panic!("the page has one block about the role");
    };
    server.psql_at(&url(&server, "app"), role);
    let service = open(&server, "jobs_app");
    append_one(&service);
    let monitoring = statements("run-postgresql.md", "Monitoring");
    assert!(monitoring.len() >= 10, "{monitoring:?}");
    let found: Vec<String> = monitoring
        .iter()
        .map(|statement| server.psql_at(&url(&server, "jobs_monitor"), statement))
        .collect();
    let rows = |word: &str| {
        let at = monitoring
            .iter()
            .position(|statement| statement.contains(word))
            .unwrap();
        found[at].clone()
    };
    assert!(rows("group by 1, 2 order by 3 desc;").contains("prodigy-storage"));
    assert!(rows("n_dead_tup").contains("event|"));
    assert_eq!(rows("as alive"), "1|0|0\n");
    assert_eq!(rows("where deleted"), "0\n");
    // `status` and `health` read the counter of the queues.
    server.psql_at(
        &url(&server, "jobs_monitor"),
        "select last_value from prodigy.mark",
    );
    let [setting] = &statements("run-postgresql.md", "Sizing")[..] else {
        panic!("the page has one block about sizing");
    };
    server.psql_at(&url(&server, "jobs_owner"), setting);
}

#[test]
fn a_cursor_of_before_a_restore_is_refused_when_the_store_is_renewed() {
    let Some(server) = prepared() else { return };
    let service = open(&server, "jobs_app");
    append_one(&service);
    let (_, cursor) = read(&service, &job("a"), None);
    // The role of the service may not change the identity of the store.
    let refused =
        renew_store(&PostgresOptions::new(url(&server, "jobs_app")), Deadline::never()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthorised, "{refused}");
    let options = PostgresOptions::new(url(&server, "jobs_owner"));
    let renew = || renew_store(&options, Deadline::never());
    let busy = renew().unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::LockUnavailable, "{busy}");
    drop(service);
    assert_eq!(renew().unwrap(), 0);
    let service = open(&server, "jobs_app");
    let options = ScanOptions::after(cursor);
    let error = service
        .scan(&job("a"), &options, Deadline::never())
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::CursorGap, "{error}");
    assert_eq!(read(&service, &job("a"), None).0.len(), 1);
    assert!(
        service
            .get(&Document::Orphans(job("a")), Deadline::never())
            .unwrap()
            .is_none()
    );
}
