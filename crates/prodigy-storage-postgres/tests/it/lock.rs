//! Attempts to take a lock: they touch no row of a held lock, and do not wait for a locked row.

use std::time::Duration;

use prodigy_storage_backend::{Deadline, ErrorKind, LockOptions, LockStore};
use prodigy_storage_layout::LockName;
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};

use crate::late::Session;
use crate::server::Server;

fn open(server: &Server) -> PostgresBackend {
    PostgresBackend::open(PostgresOptions::new(server.url()), Deadline::never()).unwrap()
}

fn name() -> LockName {
    LockName::new("l").unwrap()
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_millis(300))
}

#[test]
fn an_attempt_for_a_held_lock_does_not_touch_its_row() {
    let Some(server) = Server::start() else { return };
    let (one, two) = (open(&server), open(&server));
    let held = one
        .lock(&name(), &LockOptions::default(), Deadline::never())
        .unwrap();
    let row = || server.psql("select ctid, xmin, xmax from prodigy.lock");
    let before = row();
    let refused = two.lock(&name(), &LockOptions::default(), soon()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LockUnavailable, "{refused}");
    assert_eq!(
        row(),
        before,
        "a lock of the row would delay the renewal of the lock"
    );
    drop(held);
    drop(two.lock(&name(), &LockOptions::default(), soon()).unwrap());
}

#[test]
fn an_attempt_whose_caller_gave_up_takes_no_lock_later() {
    let Some(server) = Server::start() else { return };
    let backend = open(&server);
    drop(
        backend
            .lock(&name(), &LockOptions::default(), Deadline::never())
            .unwrap(),
    );
    let session = Session::begin(&server, "select from prodigy.lock for update");
    let refused = backend
        .lock(&name(), &LockOptions::default(), soon())
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LockUnavailable, "{refused}");
    session.commit();
    let other = open(&server);
    drop(other.lock(&name(), &LockOptions::default(), soon()).unwrap());
}
