//! Removals of old events that are cut short, and writers that are closed at their maximum size.

use std::time::Duration;

use prodigy_storage_backend::{
    AppendOptions, Batch, Catalog, Check, Cursor, Deadline, Entries, ErrorKind, EventId, LogStore, Result,
    ScanOptions,
};
use prodigy_storage_layout::Timestamp;
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};

use crate::late::{Session, job, read};
use crate::server::Server;

fn append(backend: &PostgresBackend, count: usize) -> Vec<EventId> {
    let mut batch = Batch::new();
    for number in 0..count {
        batch.push(&number).unwrap();
    }
    let options = AppendOptions::default();
    backend
        .append(&job("a"), &mut batch, &options, Deadline::never())
        .unwrap();
    batch.ids().to_vec()
}

/// Appends one event again under its id, and returns whether it was stored a second time.
fn repeat(backend: &PostgresBackend, id: EventId) -> bool {
    let mut batch = Batch::new();
    batch.push("again").unwrap();
    batch.set_ids([id]);
    let appended = backend.append(
        &job("a"),
        &mut batch,
        &AppendOptions::default(),
        Deadline::never(),
    );
    appended.unwrap().stored == 1
}

fn cursor_behind(backend: &PostgresBackend, count: usize) -> Cursor {
    let mut scan = backend
        .scan(&job("a"), &ScanOptions::all(), Deadline::never())
        .unwrap();
    for _ in 0..count {
        scan.next().unwrap().unwrap();
    }
    scan.cursor()
}

#[test]
fn a_removal_that_was_cut_short_has_removed_a_beginning_and_is_finished_by_the_next() {
    let Some(server) = Server::start() else { return };
    let open = || PostgresBackend::open(PostgresOptions::new(server.url()), Deadline::never()).unwrap();
    let (backend, other) = (open(), open());
    let ids = append(&backend, 5_000);
    backend.seal(&job("a"), Deadline::never()).unwrap();
    // The writer registers before the removal, because a registration waits for the lock of the job's row.
    let newest = append(&other, 1);
    let cursors = [1_999, 2_000, 4_999].map(|count| cursor_behind(&backend, count));
    let mut under_way = other
        .scan(&job("a"), &ScanOptions::all(), Deadline::never())
        .unwrap();
    under_way.next().unwrap().unwrap();
    // This row belongs to the second transaction of the removal, which waits for it after the first one has
    // committed.
    let blocker = Session::begin(
        &server,
        "select from prodigy.event where writer = 1 and number = 2500 for update",
    );
    std::thread::scope(|scope| {
        let removal =
            scope.spawn(|| backend.remove_before(&job("a"), Timestamp::MAX, None, Deadline::never()));
        while server.psql("select count(*) from prodigy.event").trim() != "3001" {
            std::thread::sleep(Duration::from_millis(5));
        }
        let (left, _) = read(&other, &job("a"), None);
        assert_eq!(left, [&ids[2_000..], &newest].concat());
        let [gap, fits, later] = &cursors;
        let refused = other
            .scan(&job("a"), &ScanOptions::after(gap.clone()), Deadline::never())
            .err()
            .unwrap();
        assert_eq!(refused.kind(), ErrorKind::CursorGap);
        assert_eq!(read(&other, &job("a"), Some(fits.clone())).0.len(), 3_001);
        assert_eq!(read(&other, &job("a"), Some(later.clone())).0.len(), 2);
        assert!(
            !repeat(&other, ids[4_500]),
            "an event that is stored was stored again"
        );
        assert!(
            repeat(&other, ids[1_999]),
            "an event that was removed counts as stored"
        );
        blocker.roll_back();
        let removed = removal.join().unwrap().unwrap();
        assert_eq!((removed.segments, removed.sealed), (1, 1));
    });
    assert_eq!(read(&other, &job("a"), None).0, [ids[1_999], newest[0]]);
    let mut given = 1;
    let error = loop {
        match under_way.next() {
            Ok(Some(_)) => given += 1,
            Ok(None) => panic!("the scan ended after {given} events"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::CursorGap);
    // A second removal finds nothing to remove: the events of the newest writer are kept.
    let plan = backend
        .removable_before(&job("a"), Timestamp::MAX, Deadline::never())
        .unwrap();
    assert_eq!(plan.segments, 0);
}

#[test]
fn a_writer_is_closed_at_its_size_and_another_one_continues() {
    let Some(server) = Server::start() else { return };
    let options = PostgresOptions::new(server.url()).max_segment_size(500);
    let backend = PostgresBackend::open(options, Deadline::never()).unwrap();
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.extend(append(&backend, 8));
    }
    let summary = backend.log_summary(&job("a"), Deadline::never()).unwrap();
    assert_eq!((summary.segments, summary.sealed), (6, 5));
    assert_eq!(read(&backend, &job("a"), None).0, ids);
    let removed = backend
        .remove_before(&job("a"), Timestamp::MAX, None, Deadline::never())
        .unwrap();
    assert_eq!(removed.segments, 5);
    assert_eq!(read(&backend, &job("a"), None).0, ids[40..]);
}

/// A deletion that is killed behind its first transaction leaves the rows of the job, or those that the transactions behind it
/// did not remove.
#[test]
fn a_deletion_that_was_killed_is_found_counted_and_finished() {
    let Some(server) = Server::start() else { return };
    let backend = PostgresBackend::open(PostgresOptions::new(server.url()), Deadline::never()).unwrap();
    let unfinished = || {
        let all = Entries::new(|page| backend.unfinished_deletions(page, Deadline::never()));
        all.limit(1).collect::<Result<Vec<_>>>().unwrap()
    };
    let warns = || {
        let checks = backend.health(Deadline::never()).unwrap().checks;
        checks.iter().any(|check| check.name == Check::DELETIONS)
    };
    for more in [
        "",
        "; delete from prodigy.event where number > 1",
        "; delete from prodigy.event",
    ] {
        append(&backend, 3);
        backend.seal(&job("a"), Deadline::never()).unwrap();
        let whole = backend.usage(Deadline::never()).unwrap().bytes();
        assert!(unfinished().is_empty() && !warns());
        server.psql(&format!(
            "update prodigy.job set deleted = true where id > 0{more}"
        ));
        let found = unfinished();
        assert_eq!(
            found.iter().map(|left| &left.job).collect::<Vec<_>>(),
            [&job("a")],
            "{more}"
        );
        assert_eq!(found[0].bytes > 0, !more.ends_with("event"), "{more}: {found:?}");
        assert!(warns(), "{more}");
        if more.is_empty() {
            assert_eq!(backend.usage(Deadline::never()).unwrap().bytes(), whole);
        }
        // The job begins again, and what is new stays.
        append(&backend, 2);
        assert!(backend.finish_deletion(&job("a"), Deadline::never()).unwrap());
        assert!(!backend.finish_deletion(&job("a"), Deadline::never()).unwrap());
        assert!(unfinished().is_empty() && !warns());
        let rows =
            "select (select count(*) from prodigy.event), (select count(*) from prodigy.job where deleted)";
        assert_eq!(server.psql(rows).trim(), "2|0", "{more}");
        backend.seal(&job("a"), Deadline::never()).unwrap();
        assert!(backend.delete_job(&job("a"), None, Deadline::never()).unwrap());
    }
}
