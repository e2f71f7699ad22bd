//! Locks after a failover to a standby that lacked the last commits, and after a restore.

use std::time::Duration;

use prodigy_storage_backend::{Catalog, Deadline, ErrorKind, LockGuard, LockOptions, LockStore, Result};
use prodigy_storage_layout::LockName;
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};

use crate::server::Server;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn open(url: &str) -> PostgresBackend {
    PostgresBackend::open(PostgresOptions::new(url), soon()).unwrap()
}

/// Tries to take a lock once, again and again while the primary is not found.
fn try_lock(backend: &PostgresBackend, name: &str) -> Result<Box<dyn LockGuard>> {
    let (name, deadline) = (LockName::new(name).unwrap(), soon());
    loop {
        let tried = backend.lock(&name, &LockOptions::default(), Deadline::after(Duration::ZERO));
        match tried {
            Err(error) if error.is_transient() && !deadline.has_passed() => {
                std::thread::sleep(Duration::from_millis(20));
            }
            tried => return tried,
        }
    }
}

/// Nobody gets this lock, since the database may have lost locks.
fn assert_held_back(backend: &PostgresBackend, name: &str) {
    let error = try_lock(backend, name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LockUnavailable, "{error:#}");
    let text = error.to_string();
    assert!(
        text.contains("the database had a failover or was restored"),
        "{text}"
    );
    assert!(text.contains("more seconds; waited"), "{text}");
}

/// Makes the branch as old as if it had been seen for the first time long ago.
fn let_time_pass(server: &Server) {
    server.psql("update prodigy.branch set seen = 'epoch', written_by = txid_current()");
}

#[test]
fn a_lock_that_a_failover_lost_is_given_to_nobody_before_its_holder_knows() {
    let Some(mut primary) = Server::start() else {
        return;
    };
    let standby = primary.asynchronous_standby();
    let both = primary.url_with(&standby);
    let (one, other) = (open(&both), open(&both));
    // The standby knows the lock as free: `flush` makes the release durable, so it is sent there.
    try_lock(&one, "resume").unwrap().release().unwrap();
    one.flush(soon()).unwrap();
    primary.cut_off(&standby);
    let held = try_lock(&one, "resume").unwrap();
    primary.fail_over(&standby);
    let mut knows = false;
    while !knows {
        // The holder is asked first: nobody had the lock until it knew.
        knows = held.check().is_err();
        assert_held_back(&other, "resume");
        assert_held_back(&other, "another");
    }
    let_time_pass(&standby);
    let next = try_lock(&other, "resume").unwrap();
    assert!(next.fencing() > held.fencing(), "{next:?} after {held:?}");
    assert_eq!(held.release().unwrap_err().kind(), ErrorKind::Replaced);
    next.check().unwrap();
    next.release().unwrap();
}

#[test]
fn a_renewal_notices_the_branch_and_keeps_a_lock_that_was_not_lost() {
    let Some(mut primary) = Server::start() else {
        return;
    };
    let standby = primary.asynchronous_standby();
    let both = primary.url_with(&standby);
    let (one, other) = (open(&both), open(&both));
    let held = try_lock(&one, "resume").unwrap();
    primary.cut_off(&standby);
    primary.fail_over(&standby);
    let deadline = soon();
    while standby.psql("select seen > 'epoch' from prodigy.branch").trim() != "t" {
        assert!(!deadline.has_passed(), "no renewal notices the branch");
        std::thread::sleep(Duration::from_millis(50));
    }
    held.check().unwrap();
    assert_held_back(&other, "another");
    held.release().unwrap();
    let_time_pass(&standby);
    try_lock(&other, "resume").unwrap().release().unwrap();
}

#[test]
fn a_branch_that_began_before_the_first_lock_is_noticed() {
    let Some(mut primary) = Server::start() else {
        return;
    };
    let standby = primary.asynchronous_standby();
    let both = primary.url_with(&standby);
    let (one, other) = (open(&both), open(&both));
    primary.cut_off(&standby);
    let held = try_lock(&one, "resume").unwrap();
    primary.fail_over(&standby);
    assert_held_back(&other, "resume");
    drop(held);
}

#[test]
fn a_lock_that_was_taken_after_a_dump_is_held_back_when_the_dump_is_put_back() {
    let Some(server) = Server::start() else { return };
    let one = open(&server.url());
    let dump = server.dump();
    let held = try_lock(&one, "resume").unwrap();
    server.put_back(&dump);
    assert_held_back(&open(&server.url()), "resume");
    assert_held_back(&one, "resume");
    let_time_pass(&server);
    let next = try_lock(&one, "resume").unwrap();
    assert!(next.fencing() > held.fencing(), "{next:?} after {held:?}");
}

/// A rewritten table and a restart after a crash are no branch.
#[test]
fn a_server_that_lost_nothing_holds_no_lock_back() {
    let Some(mut server) = Server::start() else { return };
    let backend = open(&server.url());
    let disturbances: [fn(&mut Server); 4] = [
        |_| (),
        |server| server.kill_and_restart(),
        |server| drop(server.psql("vacuum full freeze prodigy.branch")),
        |server| drop(server.psql("cluster prodigy.branch using branch_pkey")),
    ];
    for (round, disturb) in disturbances.into_iter().enumerate() {
        disturb(&mut server);
        // The crash may take the release of the lock back, so each round has a lock of its own.
        let lock = try_lock(&backend, &format!("round-{round}")).unwrap();
        lock.release().unwrap();
    }
    assert_eq!(server.psql("select seen = 'epoch' from prodigy.branch"), "t\n");
}

/// A token that the clock of the server gave stays below later ones if that clock steps back.
#[test]
fn tokens_rise_whatever_the_clock_of_the_server_says() {
    let Some(server) = Server::start() else { return };
    let millis = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(0));
    let clock = {
        let millis = std::sync::Arc::clone(&millis);
        move || {
            prodigy_storage_layout::Timestamp::from_millis(millis.load(std::sync::atomic::Ordering::SeqCst))
        }
    };
    let options = PostgresOptions::new(server.url()).server_clock(clock);
    let backend = PostgresBackend::open(options, soon()).unwrap();
    let mut tokens = Vec::new();
    for now in [-5, 0, 1_000, 7, 7, 2_000] {
        millis.store(now, std::sync::atomic::Ordering::SeqCst);
        tokens.push(try_lock(&backend, "resume").unwrap().fencing());
    }
    assert_eq!(tokens, [1, 2, 1_000, 1_001, 1_002, 2_000]);
}
