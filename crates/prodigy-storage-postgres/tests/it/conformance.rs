//! The conformance suite and random sequences, on a real server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prodigy_storage_backend::conformance::{Harness, HarnessFactory, ManualClock, run_all, run_sequences};
use prodigy_storage_backend::{Backend, BootId, Clock, Deadline};
use prodigy_storage_layout::Timestamp;
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};

use crate::plans::{explain, scans};
use crate::server::Server;

const RECORD_LIMIT: usize = 256 << 10;
const DOCUMENT_LIMIT: usize = 3 << 20;

/// A name for a schema that no other test in this process uses.
fn schema() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("test_{}", NEXT.fetch_add(1, Ordering::SeqCst))
}

struct Postgres {
    clock: Arc<ManualClock>,
    backend: Mutex<Option<PostgresBackend>>,
    options: PostgresOptions,
    separate: bool,
}

/// The clock of the server, which follows the given clock but never steps back. A restart of the machine makes it
/// step a year ahead.
fn server_clock(clock: Arc<ManualClock>) -> impl Fn() -> Timestamp + Send + Sync {
    let state: Mutex<(BootId, Duration, Duration)> =
        Mutex::new((clock.uptime().boot, Duration::ZERO, Duration::ZERO));
    move || {
        let (mut state, now) = (state.lock().unwrap(), clock.uptime());
        let (boot, before, last) = &mut *state;
        if *boot != now.boot {
            *before += *last + Duration::from_secs(365 * 86_400);
            *boot = now.boot;
        }
        *last = now.since;
        let since = i64::try_from((*before + now.since).as_nanos()).unwrap();
        Timestamp::from_nanos(ManualClock::START.as_nanos() + since)
    }
}

impl Harness for Postgres {
    fn open(&self) -> Arc<dyn Backend> {
        if self.separate {
            return Arc::new(PostgresBackend::open(self.options.clone(), Deadline::never()).unwrap());
        }
        let mut backend = self.backend.lock().unwrap();
        let open = || PostgresBackend::open(self.options.clone(), Deadline::never()).unwrap();
        Arc::new(backend.get_or_insert_with(open).clone())
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn restart(&self) -> bool {
        *self.backend.lock().unwrap() = None;
        true
    }

    fn record_limit(&self) -> Option<usize> {
        Some(RECORD_LIMIT)
    }

    fn document_limit(&self) -> Option<usize> {
        Some(DOCUMENT_LIMIT)
    }
}

struct Factory {
    url: String,
    /// True if each handle opens its own connections, like handles of different processes.
    separate: bool,
}

impl Factory {
    fn store(&self, cap: Option<u64>) -> Box<dyn Harness> {
        let clock = Arc::new(ManualClock::new());
        let options = PostgresOptions::new(&self.url)
            .schema(schema())
            .max_record_size(RECORD_LIMIT as u64)
            .max_document_size(DOCUMENT_LIMIT as u64)
            .max_queue_size(cap)
            .server_clock(server_clock(Arc::clone(&clock)))
            .clock(clock.clone());
        Box::new(Postgres {
            clock,
            backend: Mutex::new(None),
            options,
            separate: self.separate,
        })
    }
}

impl HarnessFactory for Factory {
    fn name(&self) -> &str {
        "postgres"
    }

    fn fresh(&self) -> Box<dyn Harness> {
        self.store(None)
    }

    fn capped(&self) -> Option<Box<dyn Harness>> {
        Some(self.store(Some(32 << 10)))
    }
}

#[test]
fn every_property_holds() {
    if let Some(server) = Server::start() {
        explain(&server);
        server.set("enable_seqscan", "off");
        // Without it, a statement that reads a whole table counts as so expensive that it is compiled.
        server.set("jit", "off");
        let url = server.url();
        run_all(&Factory { url, separate: false });
        let log = server.log();
        assert!(log.contains("Index Scan"), "no plans were logged");
        let scans = scans(&log);
        assert!(scans.is_empty(), "no index serves these: {scans:#?}");
    }
}

#[test]
fn every_property_holds_for_handles_of_several_processes() {
    if let Some(server) = Server::start() {
        let url = server.url();
        run_all(&Factory { url, separate: true });
    }
}

#[test]
fn every_property_holds_behind_a_pooler_in_transaction_mode() {
    let Some(server) = Server::start() else { return };
    if let Some(pooler) = server.pooler() {
        let url = pooler.url();
        run_all(&Factory { url, separate: false });
    }
}

#[test]
fn random_sequences_agree_with_the_model() {
    if let Some(server) = Server::start() {
        let url = server.url();
        run_sequences(&Factory { url, separate: false }, 12);
    }
}

#[test]
fn random_sequences_agree_for_handles_of_several_processes() {
    if let Some(server) = Server::start() {
        let url = server.url();
        run_sequences(&Factory { url, separate: true }, 4);
    }
}
