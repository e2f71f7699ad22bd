//! Acknowledgements: they lock only their items.

use std::time::Duration;

use prodigy_storage_backend::{
    Catalog, Change, Claim, Deadline, Durability, ErrorKind, ItemId, LeaseToken, Moved, QueueItem,
    QueueStore, Select, Settled, Settlement,
};
use prodigy_storage_layout::{Part, Timestamp};
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};

use crate::late::{Session, await_waiting, job};
use crate::plans::explain;
use crate::server::Server;

fn open(server: &Server) -> PostgresBackend {
    PostgresBackend::open(PostgresOptions::new(server.url()), Deadline::never()).unwrap()
}

fn push(backend: &PostgresBackend, name: &str) {
    let body = format!("{{\"item_id\":\"{name}\",\"item_data\":1}}");
    let item = QueueItem {
        id: ItemId::new(name).unwrap(),
        body: serde_json::from_str(&body).unwrap(),
    };
    let pushed = backend.queue_put(&job("a"), &[item], Durability::Strict, None, Deadline::never());
    pushed.unwrap();
}

fn take(backend: &PostgresBackend) -> Vec<LeaseToken> {
    let hour = Duration::from_secs(3_600);
    let taken = backend.queue_take(&job("a"), &Select::eligible(), 10, hour, None, Deadline::never());
    let tokens = taken.unwrap().into_iter().map(|entry| entry.lease.unwrap().token);
    tokens.collect()
}

fn acknowledge(backend: &PostgresBackend, tokens: &[LeaseToken]) -> Vec<Settled> {
    let remove = |token: &LeaseToken| Settlement::new(Claim::Lease(token.clone()), Change::Remove);
    let settlements: Vec<Settlement> = tokens.iter().map(remove).collect();
    let settled = backend.queue_settle(&job("a"), &settlements, None, Deadline::never());
    settled.unwrap()
}

#[test]
fn an_acknowledgement_is_one_statement_without_a_transaction_around_it() {
    let Some(server) = Server::start() else { return };
    server.set("log_statement", "all");
    let backend = open(&server);
    push(&backend, "one");
    push(&backend, "two");
    let tokens = take(&backend);
    let before = server.log().len();
    let settled = acknowledge(&backend, &tokens);
    assert_eq!(settled, [Settled::Done, Settled::Done]);
    let log = server.log().split_off(before);
    assert_eq!(log.matches("execute ").count(), 1, "{log}");
    assert!(!log.contains("begin"), "{log}");
}

/// The server's statistics are from before the first take, so it expects few leases. It must use the index even
/// so.
#[test]
fn an_acknowledgement_finds_its_items_by_their_tokens() {
    let Some(server) = Server::start() else { return };
    explain(&server);
    // The server would always read a table of this size from end to end.
    server.set("enable_seqscan", "off");
    server.set("jit", "off");
    let backend = open(&server);
    for number in 0..200 {
        push(&backend, &format!("item-{number}"));
    }
    server.psql("vacuum analyze prodigy.item");
    let tokens = take(&backend);
    let before = server.log().len();
    acknowledge(&backend, &tokens);
    let log = server.log().split_off(before);
    assert!(log.contains("Index Cond: (token = ANY ("), "{log}");
}

#[test]
fn an_item_that_changes_while_it_is_acknowledged_is_kept() {
    let Some(server) = Server::start() else { return };
    let backend = open(&server);
    push(&backend, "one");
    let tokens = take(&backend);
    let change = "update prodigy.item set revision = nextval('prodigy.mark')";
    let other = Session::begin(&server, change);
    std::thread::scope(|scope| {
        let acknowledging = scope.spawn(|| acknowledge(&backend, &tokens));
        await_waiting(&server);
        other.commit();
        assert_eq!(acknowledging.join().unwrap(), [Settled::Kept]);
    });
    assert_eq!(take(&backend).len(), 1);
}

#[test]
fn an_item_that_is_pushed_while_it_is_acknowledged_is_a_new_one() {
    let Some(server) = Server::start() else { return };
    let backend = open(&server);
    push(&backend, "one");
    let tokens = take(&backend);
    assert_eq!(tokens.len(), 1);
    // Another session has acknowledged the item, and has not committed yet.
    let other = Session::begin(&server, "delete from prodigy.item");
    std::thread::scope(|scope| {
        let pushing = scope.spawn(|| push(&backend, "one"));
        await_waiting(&server);
        other.commit();
        pushing.join().unwrap();
    });
    // The item was pushed again as a new one, without the old lease.
    assert_eq!(take(&backend).len(), 1);
}

/// The number of sessions that wait for a lock.
fn waiting(server: &Server) -> usize {
    let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
    server.psql(waits).trim().parse().unwrap()
}

fn moved() -> Moved {
    Moved::new(
        Part::Job(job("a")),
        "elsewhere",
        Timestamp::from_millis(1_767_225_600_000),
    )
}

#[test]
fn a_mark_of_a_move_waits_for_an_acknowledgement_that_is_under_way() {
    let Some(server) = Server::start() else { return };
    let backend = open(&server);
    push(&backend, "one");
    let tokens = take(&backend);
    let last = backend.activity(&job("a"), Deadline::never()).unwrap().last_write;
    // The item is locked, so the acknowledgement begins but can't end.
    let other = Session::begin(&server, "select from prodigy.item for update");
    std::thread::scope(|scope| {
        let acknowledging = scope.spawn(|| acknowledge(&backend, &tokens));
        await_waiting(&server);
        let marking = scope.spawn(|| backend.mark_moved(&moved(), last, Deadline::never()));
        while waiting(&server) < 2 {
            assert!(!marking.is_finished(), "the mark did not wait");
            std::thread::sleep(Duration::from_millis(5));
        }
        other.commit();
        assert_eq!(acknowledging.join().unwrap(), [Settled::Done]);
        marking.join().unwrap().unwrap();
    });
    // After the mark is made, a read does not find the acknowledged item.
    let left = backend.queue_summary(&job("a"), Deadline::never()).unwrap();
    assert_eq!(left.items, 0);
}

#[test]
fn an_acknowledgement_that_began_before_a_mark_was_committed_is_refused() {
    let Some(server) = Server::start() else { return };
    let backend = open(&server);
    push(&backend, "one");
    let tokens = take(&backend);
    // The same statements as for a mark. They are not committed yet.
    let mark = "lock table prodigy.item in exclusive mode; update prodigy.job set moved = true where name = 'a'; \
                insert into prodigy.moved values ('shop', 'a', 'elsewhere', 0)";
    let other = Session::begin(&server, mark);
    std::thread::scope(|scope| {
        let remove = Settlement::new(Claim::Lease(tokens[0].clone()), Change::Remove);
        let backend = &backend;
        let acknowledging =
            scope.spawn(move || backend.queue_settle(&job("a"), &[remove], None, Deadline::never()));
        await_waiting(&server);
        other.commit();
        let refused = acknowledging.join().unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ReadOnly, "{refused}");
    });
    let left = backend.queue_summary(&job("a"), Deadline::never()).unwrap();
    assert_eq!(left.items, 1);
}

#[test]
fn an_acknowledgement_that_the_server_refuses_has_a_known_outcome() {
    let Some(server) = Server::start() else { return };
    let backend = open(&server);
    push(&backend, "x");
    let tokens = take(&backend);
    server.psql("alter role app set default_transaction_read_only = on");
    let remove = Settlement::new(Claim::Lease(tokens[0].clone()), Change::Remove);
    let refused = open(&server).queue_settle(&job("a"), &[remove], None, Deadline::never());
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(acknowledge(&backend, &tokens), [Settled::Done]);
}

#[test]
fn a_take_that_began_before_its_job_was_created_takes_nothing() {
    let Some(server) = Server::start() else { return };
    let backend = open(&server);
    // The statements are prepared, so that the next take runs its first one before it waits for the table.
    assert!(take(&backend).is_empty(), "there is no job yet");
    let session = Session::begin(
        &server,
        "lock table prodigy.item in access exclusive mode; \
         insert into prodigy.job (repo, name) values ('shop', 'a'); \
         insert into prodigy.item (job, birth, id, place, revision, eligible, failures, modified, body) \
         select id, 1, 'x', 1, 1, true, 0, 1, '{\"item_id\":\"x\"}' from prodigy.job where name = 'a'",
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            await_waiting(&server);
            session.commit();
        });
        // This take does not hold the lock of the job, so the item may be another worker's at the same moment.
        assert!(take(&backend).is_empty(), "taken without the lock of the job");
    });
    assert_eq!(take(&backend).len(), 1);
}
