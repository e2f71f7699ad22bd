//! Takes that are a single statement: they see the items as they were before they had the lock of the job.

use std::time::Duration;

use prodigy_storage_backend::{
    Change, Claim, Deadline, Durability, ItemId, QueueItem, QueueStore, Select, Settlement,
};
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};

use crate::late::{Session, await_waiting, job};
use crate::server::Server;

fn open(server: &Server) -> PostgresBackend {
    PostgresBackend::open(PostgresOptions::new(server.url()), Deadline::never()).unwrap()
}

/// A queue with these items.
fn filled(server: &Server, names: &[&str]) -> PostgresBackend {
    let backend = open(server);
    let item = |name: &&str| QueueItem {
        id: ItemId::new(*name).unwrap(),
        body: serde_json::from_str(&format!("{{\"item_id\":\"{name}\",\"item_data\":1}}")).unwrap(),
    };
    let items: Vec<QueueItem> = names.iter().map(item).collect();
    backend
        .queue_put(&job("a"), &items, Durability::Strict, None, Deadline::never())
        .unwrap();
    backend
}

fn take(backend: &PostgresBackend, limit: usize) -> Vec<String> {
    let hour = Duration::from_secs(3_600);
    let taken = backend.queue_take(
        &job("a"),
        &Select::eligible(),
        limit,
        hour,
        None,
        Deadline::never(),
    );
    taken
        .unwrap()
        .into_iter()
        .map(|entry| entry.id.to_string())
        .collect()
}

/// Takes items while another session changes one of them, and commits when the take waits for it.
fn take_beside(server: &Server, backend: &PostgresBackend, limit: usize, change: &str) -> Vec<String> {
    let other = Session::begin(server, change);
    std::thread::scope(|scope| {
        let taking = scope.spawn(|| take(backend, limit));
        await_waiting(server);
        other.commit();
        taking.join().unwrap()
    })
}

#[test]
fn a_take_after_another_one_is_one_statement_without_a_transaction_around_it() {
    let Some(server) = Server::start() else { return };
    server.set("log_statement", "all");
    let backend = filled(&server, &["a", "b", "c"]);
    assert_eq!(take(&backend, 1), ["a"]);
    let before = server.log().len();
    assert_eq!(take(&backend, 1), ["b"]);
    let log = server.log().split_off(before);
    assert_eq!(log.matches("execute ").count(), 1, "{log}");
    assert!(!log.contains("begin"), "{log}");
}

#[test]
fn a_take_at_the_end_of_a_queue_returns_what_is_there() {
    let Some(server) = Server::start() else { return };
    let backend = filled(&server, &["a", "b", "c"]);
    assert_eq!(take(&backend, 1), ["a"]);
    assert_eq!(take(&backend, 10), ["b", "c"]);
    assert_eq!(take(&backend, 10), [""; 0]);
}

#[test]
fn an_item_that_was_taken_while_a_take_waited_is_not_taken_again() {
    let Some(server) = Server::start() else { return };
    let backend = filled(&server, &["a", "b", "c", "d", "e"]);
    assert_eq!(take(&backend, 1), ["a"]);
    let other_take = "update prodigy.item set place = nextval('prodigy.mark'), token = 'other', \
                      leased_until = 9000000000000000000 where id = 'b'";
    assert_eq!(take_beside(&server, &backend, 3, other_take), ["c", "d", "e"]);
}

#[test]
fn an_item_that_changed_while_a_take_waited_is_taken_as_it_is_now() {
    let Some(server) = Server::start() else { return };
    let backend = filled(&server, &["a", "b", "c"]);
    assert_eq!(take(&backend, 1), ["a"]);
    // The edit makes the item one that is not to be taken.
    let park = "update prodigy.item set eligible = false, revision = nextval('prodigy.mark') where id = 'b'";
    assert_eq!(take_beside(&server, &backend, 2, park), ["c"]);
    let lease = "update prodigy.item set leased_until = 9000000000000000000 where id = 'c'";
    server.psql("update prodigy.item set leased_until = 1 where id = 'c'");
    assert_eq!(take_beside(&server, &backend, 1, lease), [""; 0]);
}

#[test]
fn an_item_that_gets_an_early_place_during_a_take_is_found_by_the_next_one() {
    let Some(server) = Server::start() else { return };
    let backend = filled(&server, &["parked", "a", "b", "c"]);
    let park = Change::Park { reason: None };
    let park = Settlement::new(Claim::Item(ItemId::new("parked").unwrap()), park);
    backend
        .queue_settle(&job("a"), &[park], None, Deadline::never())
        .unwrap();
    assert_eq!(take(&backend, 1), ["a"]);
    let unpark =
        "update prodigy.item set eligible = true, revision = nextval('prodigy.mark') where id = 'parked'";
    let other = Session::begin(&server, unpark);
    assert_eq!(take(&backend, 1), ["b"]);
    other.commit();
    assert_eq!(take(&backend, 1), ["parked"]);
    assert_eq!(take(&backend, 1), ["c"]);
}

#[test]
fn a_take_whose_caller_gave_up_takes_nothing_later() {
    let Some(server) = Server::start() else { return };
    let backend = filled(&server, &["a", "b", "c"]);
    assert_eq!(take(&backend, 1), ["a"]);
    let other = Session::begin(&server, "select from prodigy.job where name = 'a' for update");
    let hour = Duration::from_secs(3_600);
    let soon = Deadline::after(Duration::from_millis(300));
    let late = backend.queue_take(&job("a"), &Select::eligible(), 1, hour, None, soon);
    assert!(late.is_err(), "{late:?}");
    other.commit();
    // The server ends the session of the first take when it notices that the caller has gone.
    let left = "select count(*) from pg_stat_activity where state <> 'idle' and query like '%place%' and pid <> pg_backend_pid()";
    while server.psql(left).trim() != "0" {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(take(&backend, 2), ["b", "c"]);
}
