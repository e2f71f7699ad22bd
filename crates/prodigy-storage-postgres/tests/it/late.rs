//! Transactions that commit late, or stay open for long.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::Duration;

use prodigy_storage_backend::{
    AppendOptions, Batch, Cursor, Deadline, EventId, LogStore, ScanItem, ScanOptions, WaitOptions,
};
use prodigy_storage_layout::{JobAddress, JobId, RepoName, Timestamp};
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};

use crate::server::Server;

/// A session of `psql` that keeps a transaction open.
pub struct Session(Child);

impl Session {
    /// Begins a transaction and runs statements. Returns when these have ended.
    pub fn begin(server: &Server, statements: &str) -> Self {
        let mut psql = server
            .psql_command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(
            psql.stdin.as_mut().unwrap(),
            "begin; {statements}; select 'begun';"
        )
        .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(psql.stdout.take().unwrap());
        while line != "begun\n" {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "the session ended");
        }
        Self(psql)
    }

    pub fn roll_back(self) {
        self.end("rollback");
    }

    pub fn commit(self) {
        self.end("commit");
    }

    fn end(mut self, how: &str) {
        writeln!(self.0.stdin.take().unwrap(), "{how};").unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

/// Waits until another session waits for a lock.
pub fn await_waiting(server: &Server) {
    let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
    while server.psql(waits).trim() == "0" {
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn job(name: &str) -> JobAddress {
    JobAddress::new(RepoName::new("shop").unwrap(), JobId::new(name).unwrap())
}

fn given(millis: i64) -> EventId {
    EventId::for_key(Timestamp::from_millis(1_767_225_600_000 + millis), "late")
}

fn append(backend: &PostgresBackend, ids: &[EventId]) {
    let mut batch = Batch::new();
    for id in ids {
        batch.push(&id.to_string()).unwrap();
    }
    batch.set_ids(ids.iter().copied());
    append_batch(backend, &mut batch);
}

/// Appends an event to the job `a`.
pub fn append_one(backend: &PostgresBackend) {
    let mut batch = Batch::new();
    batch.push("event").unwrap();
    append_batch(backend, &mut batch);
}

fn append_batch(backend: &PostgresBackend, batch: &mut Batch) {
    let options = AppendOptions::default();
    backend
        .append(&job("a"), batch, &options, Deadline::never())
        .unwrap();
}

pub fn read(backend: &PostgresBackend, job: &JobAddress, from: Option<Cursor>) -> (Vec<EventId>, Cursor) {
    let options = from.map_or_else(ScanOptions::all, ScanOptions::after);
    let mut scan = backend.scan(job, &options, Deadline::never()).unwrap();
    let mut ids = Vec::new();
    while let Some(item) = scan.next().unwrap() {
        let ScanItem::Record(record) = item else {
            panic!("{item:?}")
        };
        ids.push(record.id);
    }
    (ids, scan.cursor())
}

#[test]
fn a_late_commit_is_skipped_by_no_reader_and_no_follower() {
    let Some(server) = Server::start() else { return };
    let open = || PostgresBackend::open(PostgresOptions::new(server.url()), Deadline::never()).unwrap();
    let (slow, fast, reader) = (open(), open(), open());
    append(&slow, &[given(1)]);
    append(&fast, &[given(2)]);
    // Another session has stored one of the ids and has not committed. So an append with that id has to wait for
    // it.
    let values = "select job, 99, 1, $$ID$$::uuid, 0, '' from prodigy.event limit 1"
        .replace("ID", &given(4).to_string());
    let other = Session::begin(
        &server,
        &format!("insert into prodigy.event (job, writer, number, id, time, line) {values}"),
    );
    std::thread::scope(|scope| {
        let late = scope.spawn(|| append(&slow, &[given(3), given(4)]));
        await_waiting(&server);
        append(&fast, &[given(5), given(6)]);
        // A transaction that stays open does not delay readers.
        let (ids, middle) = read(&reader, &job("a"), None);
        assert_eq!(ids, [1, 2, 5, 6].map(given));
        let end = reader.end(&job("a"), Deadline::never()).unwrap();
        let (reader, behind) = (&reader, end.clone());
        let follower = scope.spawn(move || {
            let options = WaitOptions::new().poll(Duration::from_millis(20));
            reader.wait(
                &job("a"),
                &behind,
                &options,
                Deadline::after(Duration::from_secs(60)),
            )
        });
        other.roll_back();
        late.join().unwrap();
        assert!(follower.join().unwrap().unwrap());
        append(&fast, &[given(7)]);
        for cursor in [middle, end.clone()] {
            assert_eq!(read(reader, &job("a"), Some(cursor)).0, [3, 4, 7].map(given));
        }
    });
    assert_eq!(read(&reader, &job("a"), None).0, [1, 2, 3, 4, 5, 6, 7].map(given));
}

#[test]
fn a_connection_by_the_socket_of_the_server_is_made_without_tls() {
    let Some(server) = Server::start() else { return };
    let options = PostgresOptions::new(server.socket_url());
    let backend = PostgresBackend::open(options, Deadline::never()).unwrap();
    append(&backend, &[given(1)]);
    assert_eq!(read(&backend, &job("a"), None).0, [given(1)]);
}
