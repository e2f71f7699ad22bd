//! The server is killed or suspended, or its sessions are terminated, while calls run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use prodigy_storage_backend::{
    AppendOptions, Batch, Body, Deadline, DocumentStore, ErrorKind, EventId, Expected, LogStore, PutOptions,
    StorageError,
};
use prodigy_storage_layout::Document;
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};

use crate::late::{job, read};
use crate::server::Server;

const THREADS: usize = 4;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// True if a call may be repeated: its error is transient, or its outcome is unknown and a repetition does no
/// harm.
fn may_repeat(error: &StorageError) -> bool {
    error.is_transient() || matches!(error.kind(), ErrorKind::OutcomeUnknown | ErrorKind::Timeout)
}

/// Appends until `ends` is set. Each append is repeated until it is acknowledged, under the ids of the first
/// attempt.
fn append_always(backend: &PostgresBackend, ends: &AtomicBool, acknowledged: &AtomicUsize) -> Vec<EventId> {
    let mut stored = Vec::new();
    while !ends.load(Ordering::SeqCst) {
        let mut batch = Batch::new();
        batch.push("event").unwrap();
        batch.push("event").unwrap();
        while let Err(error) = backend.append(&job("a"), &mut batch, &AppendOptions::default(), soon()) {
            assert!(may_repeat(&error), "{error:#}");
            assert_eq!(
                error.kind() == ErrorKind::OutcomeUnknown,
                !error.ids().is_empty(),
                "{error:#}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        acknowledged.fetch_add(1, Ordering::SeqCst);
        stored.extend_from_slice(batch.ids());
    }
    stored
}

/// Increments the number in a document by compare-and-set until `ends` is set. Returns the number of acknowledged
/// increments, and of those with an unknown outcome.
fn count_always(backend: &PostgresBackend, ends: &AtomicBool) -> (u64, u64) {
    let document = Document::Orphans(job("a"));
    let (mut acknowledged, mut unclear) = (0, 0);
    while !ends.load(Ordering::SeqCst) {
        let step = || {
            let found = backend.get(&document, soon())?;
            let number: u64 = found.as_ref().map_or(0, number_in);
            let expected = found.map_or(Expected::Absent, |found| Expected::Revision(found.revision()));
            let body = format!("{{\"n\":{}}}", number + 1);
            let body = Body::parse(body.as_bytes()).unwrap();
            backend.put(&document, body, &PutOptions::default().expect(expected), soon())
        };
        match step() {
            Ok(_) => acknowledged += 1,
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => {
                assert!(may_repeat(&error), "{error:#}");
                unclear += u64::from(error.kind() == ErrorKind::OutcomeUnknown);
            }
        }
    }
    (acknowledged, unclear)
}

fn number_in(found: &prodigy_storage_backend::StoredDocument) -> u64 {
    let text = std::str::from_utf8(found.body()).unwrap();
    text.trim_start_matches("{\"n\":")
        .trim_end_matches('}')
        .parse()
        .unwrap()
}

/// Runs calls while `harm` disturbs the server, and then compares the stored data with the acknowledgements.
fn survives(url: String, rounds: usize, mut harm: impl FnMut()) {
    let options = PostgresOptions::new(url);
    let backends: Vec<_> = (0..2)
        .map(|_| PostgresBackend::open(options.clone(), soon()).unwrap())
        .collect();
    let (ends, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (stored, counted) = std::thread::scope(|scope| {
        let appending: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (backend, ends, acknowledged) = (&backends[thread % 2], &ends, &acknowledged);
                scope.spawn(move || append_always(backend, ends, acknowledged))
            })
            .collect();
        let counting = scope.spawn(|| count_always(&backends[0], &ends));
        for _ in 0..rounds {
            harm();
            let before = acknowledged.load(Ordering::SeqCst);
            let began = Instant::now();
            while acknowledged.load(Ordering::SeqCst) < before + 20 {
                assert!(
                    began.elapsed() < Duration::from_secs(60),
                    "nothing is stored any more"
                );
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        ends.store(true, Ordering::SeqCst);
        let stored: Vec<EventId> = appending
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        (stored, counting.join().unwrap())
    });
    let mut times: BTreeMap<EventId, usize> = BTreeMap::new();
    for id in read(&backends[0], &job("a"), None).0 {
        *times.entry(id).or_default() += 1;
    }
    for id in &stored {
        assert_eq!(times.remove(id), Some(1), "acknowledged event {id}");
    }
    assert!(
        times.is_empty(),
        "{} events are stored that were never acknowledged",
        times.len()
    );
    let document = backends[1].get(&Document::Orphans(job("a")), soon()).unwrap();
    let (acknowledged, unclear) = counted;
    let number = document.as_ref().map_or(0, number_in);
    assert!(
        (acknowledged..=acknowledged + unclear).contains(&number),
        "{number} of {acknowledged} and {unclear} unclear"
    );
}

fn kills(rounds: usize) {
    let Some(mut server) = Server::start() else { return };
    survives(server.url(), rounds, || server.kill_and_restart());
}

fn terminations(rounds: usize) {
    let Some(server) = Server::start() else { return };
    survives(server.url(), rounds, || {
        server.psql(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where application_name = 'prodigy-storage' and random() < 0.7",
        );
    });
}

#[test]
fn a_server_that_is_killed_loses_and_doubles_nothing() {
    kills(4);
}

#[test]
fn terminated_sessions_lose_and_double_nothing() {
    terminations(20);
}

#[test]
#[ignore = "takes minutes: the long form of the two tests above"]
fn many_kills_and_terminations_lose_and_double_nothing() {
    kills(20);
    terminations(200);
}

#[test]
fn a_failover_to_a_synchronous_standby_loses_and_doubles_nothing() {
    let Some(mut primary) = Server::start() else {
        return;
    };
    let standby = primary.standby();
    let both = primary
        .url()
        .replace("/postgres", &format!(",127.0.0.1:{}/postgres", standby.port()));
    let mut harmed = 0;
    survives(both, 3, || {
        harmed += 1;
        if harmed == 2 {
            primary.kill();
            standby.psql("select pg_promote()");
        }
    });
}

#[test]
fn a_server_that_is_stopped_delays_no_call_beyond_its_deadline() {
    let Some(server) = Server::start() else { return };
    let backend = PostgresBackend::open(PostgresOptions::new(server.url()), soon()).unwrap();
    let append = |timeout: u64| {
        let mut batch = Batch::new();
        batch.push("event").unwrap();
        let deadline = Deadline::after(Duration::from_millis(timeout));
        let appended = backend.append(&job("a"), &mut batch, &AppendOptions::default(), deadline);
        appended.map(|_| batch)
    };
    append(20_000).unwrap();
    server.signal("-STOP");
    let began = Instant::now();
    let unclear = append(300).unwrap_err();
    let unread = backend.get(
        &Document::Orphans(job("a")),
        Deadline::after(Duration::from_millis(300)),
    );
    server.signal("-CONT");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(unread.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(
        (unclear.kind(), unclear.ids().len()),
        (ErrorKind::OutcomeUnknown, 1),
        "{unclear:#}"
    );
    append(20_000).unwrap();
    // The event with the unknown outcome may have been stored later, but only once.
    let stored = read(&backend, &job("a"), None).0.len();
    assert!((2..=3).contains(&stored), "{stored}");
}
