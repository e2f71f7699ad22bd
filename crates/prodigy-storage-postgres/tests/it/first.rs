//! Several processes open a new database at once.

use std::sync::Barrier;
use std::time::Duration;

use prodigy_storage_backend::{Deadline, ErrorKind};
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions, migrate_schema, schema_state};

use crate::server::Server;

const AT_ONCE: usize = 6;

#[test]
fn the_first_ones_to_open_a_new_database_all_succeed() {
    let Some(server) = Server::start() else { return };
    let soon = || Deadline::after(Duration::from_secs(60));
    for round in 0..20 {
        // A schema that is missing, and one that exists and has no tables.
        let name = format!("round_{round}");
        if round % 2 == 1 {
            server.psql(&format!("create schema {name}"));
        }
        let options = PostgresOptions::new(server.url()).schema(&name);
        let together = Barrier::new(AT_ONCE);
        std::thread::scope(|scope| {
            for thread in 0..AT_ONCE {
                let (options, together) = (options.clone(), &together);
                scope.spawn(move || {
                    together.wait();
                    if thread % 2 == 0 {
                        PostgresBackend::open(options, soon()).unwrap();
                    } else {
                        migrate_schema(&options, soon()).unwrap();
                    }
                });
            }
        });
        let state = schema_state(&options).unwrap();
        assert_eq!(state.found, state.wanted);
    }
}

#[test]
fn a_host_that_does_not_answer_is_passed_over() {
    let Some(server) = Server::start() else { return };
    // The operating system accepts the connection, and nobody answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    let url = format!(
        "postgresql://app@{silent},127.0.0.1:{}/postgres?connect_timeout=1",
        server.port()
    );
    let deadline = Deadline::after(std::time::Duration::from_secs(60));
    PostgresBackend::open(PostgresOptions::new(url), deadline).unwrap();
}

#[test]
fn a_schema_with_tables_of_another_program_is_refused_and_left_as_it_is() {
    let Some(server) = Server::start() else { return };
    for (name, tables, why) in [
        (
            "empty",
            "create table empty.store (version bigint not null, id uuid not null)",
            "is empty",
        ),
        (
            "theirs",
            "create table theirs.store (price int)",
            "belongs to another program",
        ),
        (
            "view",
            "create view view.store as select 1 as version",
            "belongs to another program",
        ),
        (
            "half",
            "create table half.job (price int)",
            "relation \"job\" already exists",
        ),
    ] {
        server.psql(&format!("create schema {name}; {tables}"));
        let count = format!("select count(*) from pg_class where relnamespace = '{name}'::regnamespace");
        let before = server.psql(&count);
        let options = PostgresOptions::new(server.url()).schema(name);
        let soon = Deadline::after(Duration::from_secs(60));
        let refusals = [
            PostgresBackend::open(options.clone(), soon).err().unwrap(),
            migrate_schema(&options, soon).unwrap_err(),
        ];
        for error in refusals {
            assert_eq!(error.kind(), ErrorKind::Foreign, "{name}: {error}");
            assert!(error.to_string().contains(why), "{name}: {error}");
            assert!(error.hint().unwrap().contains("backend_config.schema"), "{name}");
        }
        assert_eq!(server.psql(&count), before, "{name}");
    }
}
