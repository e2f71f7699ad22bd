//! Commits that the server lost: a failover to a standby that lacks them, and a dump that was put back.

use std::time::Duration;

use prodigy_storage_backend::{
    AppendOptions, Batch, Cursor, Deadline, ErrorKind, EventId, LogStore, ScanOptions, StorageError,
    WaitOptions,
};
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};

use crate::late::{job, read};
use crate::server::Server;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn open(url: &str) -> PostgresBackend {
    PostgresBackend::open(PostgresOptions::new(url), soon()).unwrap()
}

/// Appends a batch, again and again while the primary is not found.
fn append_batch(backend: &PostgresBackend, batch: &mut Batch) {
    let deadline = soon();
    loop {
        match backend.append(&job("a"), batch, &AppendOptions::default(), deadline) {
            Ok(_) => return,
            Err(error) => assert!(error.is_transient() && !deadline.has_passed(), "{error:#}"),
        }
    }
}

fn append(backend: &PostgresBackend, count: usize) -> Vec<EventId> {
    let mut batch = Batch::new();
    for number in 0..count {
        batch.push(&number).unwrap();
    }
    append_batch(backend, &mut batch);
    batch.ids().to_vec()
}

/// The cursors behind each number of events, from 0 to all, and the one at the end of the scan.
fn cursors(backend: &PostgresBackend) -> Vec<Cursor> {
    let mut scan = backend.scan(&job("a"), &ScanOptions::all(), soon()).unwrap();
    let mut cursors = vec![scan.cursor()];
    while scan.next().unwrap().is_some() {
        cursors.push(scan.cursor());
    }
    cursors.push(scan.cursor());
    // A cursor is sent to other processes as its text.
    cursors
        .iter()
        .map(|cursor| Cursor::new(cursor.as_str()).unwrap())
        .collect()
}

/// Each call that takes a cursor returns this error.
fn assert_lost(backend: &PostgresBackend, cursor: &Cursor) {
    let of = job("a");
    let errors: [Option<StorageError>; 3] = [
        backend
            .scan(&of, &ScanOptions::after(cursor.clone()), soon())
            .err(),
        backend.wait(&of, cursor, &WaitOptions::default(), soon()).err(),
        backend.persist(&of, cursor, soon()).err(),
    ];
    for error in errors {
        let error = error.unwrap_or_else(|| panic!("{} is used", cursor.as_str()));
        assert_eq!(error.kind(), ErrorKind::CursorGap, "{error:#}");
        assert!(
            error.to_string().contains("the server has lost events"),
            "{error:#}"
        );
    }
}

#[test]
fn a_cursor_that_covers_an_event_that_a_failover_lost_is_a_gap() {
    let Some(mut primary) = Server::start() else {
        return;
    };
    let writer = open(&primary.url());
    let kept = append(&writer, 3);
    let standby = primary.asynchronous_standby();
    let end = writer.end(&job("a"), soon()).unwrap();
    primary.cut_off(&standby);
    append(&writer, 2);
    let all = cursors(&writer);
    primary.fail_over(&standby);
    drop(writer);
    let reader = open(&primary.url_with(&standby));
    let new = append(&reader, 4);
    for (behind, cursor) in all.iter().enumerate() {
        if behind > 3 {
            assert_lost(&reader, cursor);
        } else {
            let rest = [&kept[behind..], &new].concat();
            assert_eq!(
                read(&reader, &job("a"), Some(cursor.clone())).0,
                rest,
                "behind {behind}"
            );
        }
    }
    assert_eq!(read(&reader, &job("a"), Some(end)).0, new);
}

/// The next writer gets the ordinal of one that was lost, and numbers its events as that one did.
#[test]
fn events_under_the_numbers_of_lost_ones_are_skipped_by_no_cursor() {
    let Some(mut primary) = Server::start() else {
        return;
    };
    let first = open(&primary.url());
    let kept = append(&first, 3);
    let before = cursors(&first);
    let standby = primary.asynchronous_standby();
    primary.cut_off(&standby);
    let both = primary.url_with(&standby);
    let (lost, follower) = (open(&both), open(&both));
    append(&lost, 2);
    let covering = cursors(&follower);
    let last = covering.last().unwrap().clone();
    std::thread::scope(|scope| {
        // While there is no primary, the wait is repeated.
        let waits = scope.spawn(|| {
            loop {
                match follower.wait(&job("a"), &last, &WaitOptions::default(), soon()) {
                    Err(error) if error.is_transient() => {}
                    ended => return ended,
                }
            }
        });
        primary.fail_over(&standby);
        // The process whose writer was lost lives on, and a second one gets the ordinal.
        let (second, mut new) = (open(&both), Vec::new());
        for _ in 0..3 {
            let (_, cursor) = read(&follower, &job("a"), None);
            let both_of_them = [append(&second, 2), append(&lost, 1)].concat();
            assert_eq!(read(&follower, &job("a"), Some(cursor)).0, both_of_them);
            new.extend(both_of_them);
        }
        // An event whose append was unclear is appended again under its id, which is below the newest one.
        let mut late = Batch::new();
        late.push("late").unwrap();
        late.set_ids([EventId::from_u128(kept[2].as_u128() - 1)]);
        append_batch(&second, &mut late);
        assert_eq!(waits.join().unwrap().unwrap_err().kind(), ErrorKind::CursorGap);
        for cursor in &covering[1..] {
            assert_lost(&follower, cursor);
        }
        for (behind, cursor) in before.iter().enumerate() {
            let mut rest = [&kept[behind.min(3)..], late.ids(), &new].concat();
            rest.sort_unstable();
            assert_eq!(
                read(&follower, &job("a"), Some(cursor.clone())).0,
                rest,
                "behind {behind}"
            );
        }
    });
}

#[test]
fn a_cursor_of_before_a_dump_continues_and_one_of_after_it_is_a_gap() {
    let Some(server) = Server::start() else { return };
    let backend = open(&server.url());
    let kept = append(&backend, 2);
    let before = cursors(&backend);
    let dump = server.dump();
    let second = open(&server.url());
    append(&second, 1);
    let after = second.end(&job("a"), soon()).unwrap();
    server.put_back(&dump);
    let third = open(&server.url());
    // Before anything new is stored, the cursor is a gap already.
    assert_lost(&third, &after);
    let new = append(&third, 2);
    assert_lost(&third, &after);
    for (behind, cursor) in before.iter().enumerate() {
        let rest = [&kept[behind.min(2)..], &new].concat();
        assert_eq!(
            read(&third, &job("a"), Some(cursor.clone())).0,
            rest,
            "behind {behind}"
        );
    }
}

/// A writer that was closed is one of many in a cursor, which has no number for it.
#[test]
fn a_lost_event_of_a_writer_that_was_closed_is_a_gap() {
    let Some(mut primary) = Server::start() else {
        return;
    };
    let first = open(&primary.url());
    append(&first, 3);
    let standby = primary.asynchronous_standby();
    let kept = first.end(&job("a"), soon()).unwrap();
    primary.cut_off(&standby);
    append(&first, 2);
    first.seal(&job("a"), soon()).unwrap();
    let all = cursors(&first);
    let [.., behind, last] = &all[..] else {
        panic!("{all:?}")
    };
    primary.fail_over(&standby);
    let second = open(&primary.url_with(&standby));
    for _ in 0..2 {
        assert_lost(&second, behind);
        assert_lost(&second, last);
        let (before, _) = read(&second, &job("a"), Some(kept.clone()));
        let new = append(&second, 1);
        assert_eq!(
            read(&second, &job("a"), Some(kept.clone())).0,
            [before, new].concat()
        );
    }
}

#[test]
fn a_standby_that_is_behind_has_lost_nothing() {
    let Some(primary) = Server::start() else { return };
    let writer = open(&primary.url());
    append(&writer, 1);
    let standby = primary.asynchronous_standby();
    primary.cut_off(&standby);
    append(&open(&primary.url()), 1);
    let cursor = cursors(&writer).pop().unwrap();
    let reader = open_standby(&standby);
    assert_eq!(read(&reader, &job("a"), Some(cursor.clone())).0, []);
    let replaced = "update prodigy.writer set id = gen_random_uuid() where ordinal = 2";
    primary.psql(replaced);
    assert_lost(&writer, &cursor);
}

fn open_standby(standby: &Server) -> PostgresBackend {
    let options = PostgresOptions::new(standby.url()).migrate(false);
    PostgresBackend::open(options, soon()).unwrap()
}

/// A cursor that was read on a standby that is behind names what the standby lacks, whether its writers are open or
/// closed.
#[test]
fn a_cursor_of_a_standby_that_is_behind_is_a_gap_after_a_failover() {
    for is_closed in [true, false] {
        let Some(mut primary) = Server::start() else {
            return;
        };
        let append_by_one = |url: &str| {
            let writer = open(url);
            append(&writer, 1);
            if is_closed {
                writer.seal(&job("a"), soon()).unwrap();
            }
        };
        append_by_one(&primary.url());
        let standby = primary.asynchronous_standby();
        primary.cut_off(&standby);
        append_by_one(&primary.url());
        append_by_one(&primary.url());
        let end = open(&primary.url()).end(&job("a"), soon()).unwrap();
        let reader = open_standby(&standby);
        let (events, mut cursor) = read(&reader, &job("a"), Some(end));
        assert_eq!(events, []);
        cursor = read(&reader, &job("a"), Some(cursor)).1;
        let both = primary.url_with(&standby);
        primary.fail_over(&standby);
        assert_lost(&open(&both), &cursor);
        for _ in 0..3 {
            append_by_one(&both);
            assert_lost(&open(&both), &cursor);
        }
    }
}

/// A reader that was behind any number of events reads on a standby that has one of them, then on the primary.
#[test]
fn a_reader_of_a_standby_that_is_behind_gets_each_event_once() {
    let Some(primary) = Server::start() else { return };
    let first = open(&primary.url());
    let mut all = append(&first, 2);
    let standby = primary.asynchronous_standby();
    primary.cut_off(&standby);
    all.extend(append(&first, 2));
    all.extend(append(&open(&primary.url()), 2));
    let (primary_reader, standby_reader) = (open(&primary.url()), open_standby(&standby));
    for (behind, cursor) in cursors(&primary_reader).into_iter().enumerate() {
        let (at_standby, after) = read(&standby_reader, &job("a"), Some(cursor));
        assert_eq!(at_standby, all[behind.min(2)..2], "behind {behind}");
        let (again, after) = read(&standby_reader, &job("a"), Some(after));
        assert_eq!(again, [], "behind {behind}");
        let (rest, _) = read(&primary_reader, &job("a"), Some(after));
        assert_eq!(rest, all[behind.clamp(2, 6)..], "behind {behind}");
    }
}

#[test]
fn a_removal_of_old_events_is_no_loss() {
    let Some(server) = Server::start() else { return };
    let backend = open(&server.url());
    append(&backend, 3);
    let all = cursors(&backend);
    backend.seal(&job("a"), soon()).unwrap();
    let newest = append(&backend, 1);
    let before = prodigy_storage_layout::Timestamp::MAX;
    let removed = backend.remove_before(&job("a"), before, None, soon()).unwrap();
    assert_eq!(removed.segments, 1);
    for cursor in &all[3..] {
        assert_eq!(read(&backend, &job("a"), Some(cursor.clone())).0, newest);
    }
    // The covered events were removed, so their writers alone show that the server has others now.
    server.psql("update prodigy.writer set id = gen_random_uuid()");
    assert_lost(&backend, &all[4]);
}

#[test]
fn a_cursor_with_an_absurd_run_of_writers_is_answered_at_once() {
    let Some(server) = Server::start() else { return };
    for _ in 0..3 {
        append(&open(&server.url()), 1);
    }
    let reader = open(&server.url());
    let end = reader.end(&job("a"), soon()).unwrap();
    let absurd = end.as_str().replacen("1-3", "1-9000000000000000000", 1);
    assert_ne!(absurd, end.as_str());
    let cursor = Cursor::new(absurd).unwrap();
    assert_eq!(read(&reader, &job("a"), Some(cursor)).0, []);
    let greatest = end.as_str().replacen("1-3", &format!("1-{}", i64::MAX), 1);
    let options = ScanOptions::after(Cursor::new(greatest).unwrap());
    let error = reader.scan(&job("a"), &options, soon()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:#}");
}
