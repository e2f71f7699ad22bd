//! Tests of each rule of the caller, with calls that fail as a script says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use prodigy_storage_backend::{Backend, Deadline, ErrorKind, EventId, LockOptions, Result, StorageError};
use prodigy_storage_config::StorageConfig;
use prodigy_storage_layout::LockName;
use prodigy_storage_memory::{MemoryBackend, MemoryOptions};

use super::through::{everything, patient};
use crate::call::Caller;
use crate::call::operation::{self, Access, Limit, Operation};

const NEVER: Deadline = Deadline::never();

fn memory() -> Arc<dyn Backend> {
    Arc::new(MemoryBackend::new(MemoryOptions::new()).unwrap())
}

fn caller_with(adapt: impl FnOnce(&mut StorageConfig)) -> Caller {
    let mut config = everything();
    adapt(&mut config);
    Caller::new(memory(), &config, false)
}

fn caller() -> Caller {
    caller_with(|config| config.retry_policy.max_retries = 3)
}

fn error(kind: ErrorKind) -> StorageError {
    StorageError::new(kind, "test", "", "scripted")
}

fn passing(kind: ErrorKind) -> StorageError {
    error(kind).transient()
}

/// Calls an operation whose first attempts fail with these errors. Returns the number of attempts and the result.
fn scripted(
    caller: &Caller,
    operation: Operation,
    deadline: Deadline,
    errors: impl IntoIterator<Item = StorageError>,
) -> (usize, Result<()>) {
    let mut errors = errors.into_iter();
    let mut tries = 0;
    let outcome = caller.call(operation, &"shop/job", deadline, |_| {
        tries += 1;
        errors.next().map_or(Ok(()), Err)
    });
    (tries, outcome)
}

fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

/// A deadline that is late enough for a caller to begin to wait, and early enough for a test.
fn soon() -> Deadline {
    Deadline::after(Duration::from_millis(20))
}

#[test]
fn every_operation_but_health_is_repeated_after_a_transient_error() {
    for &operation in operation::ALL {
        let caller = caller();
        let (tries, outcome) = scripted(&caller, operation, NEVER, [passing(ErrorKind::Io)]);
        if operation == operation::HEALTH {
            assert_eq!(tries, 1, "a health check is never retried");
            assert!(outcome.unwrap_err().is_transient());
            continue;
        }
        assert_eq!((tries, outcome.is_ok()), (2, true), "{operation:?}");
        let stats = caller.stats();
        assert_eq!(
            (stats.get("retry.retries"), stats.get("retry.recovered")),
            (1, 1),
            "{operation:?}"
        );
    }
}

#[test]
fn a_lasting_error_is_returned_as_it_is() {
    let caller = caller();
    let (tries, outcome) = scripted(&caller, operation::GET, NEVER, [error(ErrorKind::DiskFull)]);
    let error = outcome.unwrap_err();
    assert_eq!(
        (tries, error.kind(), error.attempts()),
        (1, ErrorKind::DiskFull, 1)
    );
    assert_eq!(caller.stats().get("retry.gave_up"), 0);
}

#[test]
fn the_last_error_comes_with_the_number_of_tries() {
    let caller = caller();
    let errors = [
        ErrorKind::Io,
        ErrorKind::Io,
        ErrorKind::Io,
        ErrorKind::LockUnavailable,
    ]
    .map(passing);
    let (tries, outcome) = scripted(&caller, operation::GET, NEVER, errors);
    let error = outcome.unwrap_err();
    assert_eq!(
        (tries, error.kind(), error.attempts()),
        (4, ErrorKind::LockUnavailable, 4)
    );
    assert!(error.to_string().contains("(after 4 tries)"), "{error}");
    let stats = caller.stats();
    assert_eq!(
        (
            stats.get("retry.retries"),
            stats.get("retry.recovered"),
            stats.get("retry.gave_up")
        ),
        (3, 0, 1)
    );
}

#[test]
fn no_delay_begins_that_would_end_after_the_deadline() {
    let caller = caller_with(|config| {
        config.retry_policy = patient();
        config.retry_policy.initial_delay = Duration::from_secs(3600);
        config.retry_policy.max_delay = Duration::from_secs(3600);
    });
    let deadline = Deadline::after(Duration::from_secs(60));
    let (tries, outcome) = scripted(&caller, operation::LIST, deadline, [passing(ErrorKind::Io)]);
    assert_eq!((tries, outcome.unwrap_err().kind()), (1, ErrorKind::Io));
    assert_eq!(caller.stats().get("retry.gave_up"), 1);
}

/// A caller with delays of hours before retries: a test ends only if the flag interrupts them.
fn interrupted_by(flag: &'static AtomicBool) -> (Caller, Deadline) {
    let caller = caller_with(|config| {
        config.retry_policy = patient();
        config.retry_policy.initial_delay = Duration::from_secs(3600);
        config.retry_policy.max_delay = Duration::from_secs(3600);
    });
    (caller.interruptible(Some(flag)), NEVER.or_when(flag))
}

#[test]
fn an_interrupt_during_a_try_is_the_end_of_the_retries() {
    static FLAG: AtomicBool = AtomicBool::new(false);
    let (caller, deadline) = interrupted_by(&FLAG);
    let outcome: Result<()> = caller.call(operation::GET, &"shop/job", deadline, |_| {
        FLAG.store(true, Ordering::Relaxed);
        Err(passing(ErrorKind::Io))
    });
    let error = outcome.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Io, 1));
}

#[test]
fn an_interrupt_ends_the_delay_before_a_retry_and_the_last_try_counts() {
    static FLAG: AtomicBool = AtomicBool::new(false);
    let (caller, deadline) = interrupted_by(&FLAG);
    thread::scope(|scope| {
        scope.spawn(|| {
            until(|| caller.stats().get("retry.retries") > 0);
            FLAG.store(true, Ordering::Relaxed);
        });
        let (tries, outcome) = scripted(&caller, operation::GET, deadline, [passing(ErrorKind::Io)]);
        assert_eq!((tries, outcome.is_ok()), (2, true));
    });
}

#[test]
fn a_conflict_is_never_repeated_whatever_it_says() {
    for &operation in operation::ALL {
        for kind in [ErrorKind::Conflict, ErrorKind::Fenced] {
            let (tries, outcome) = scripted(&caller(), operation, NEVER, [passing(kind)]);
            assert_eq!((tries, outcome.unwrap_err().kind()), (1, kind), "{operation:?}");
        }
    }
}

#[test]
fn a_write_with_an_unknown_outcome_is_repeated_only_if_that_changes_nothing_more() {
    let id = EventId::MIN;
    for &operation in operation::ALL {
        let is_idempotent = [operation::RAISE_MARK, operation::FINISH_DELETION].contains(&operation);
        let of_ids = is_idempotent || operation == operation::APPEND;
        for (ids, repeated) in [(&[][..], is_idempotent), (&[id][..], of_ids)] {
            let unclear = passing(ErrorKind::OutcomeUnknown).with_ids(ids);
            let (tries, _) = scripted(&caller(), operation, NEVER, [unclear]);
            assert_eq!(tries == 2, repeated, "{operation:?} with {} ids", ids.len());
        }
    }
}

#[test]
fn a_read_only_handle_refuses_every_write_and_no_read() {
    let caller = Caller::new(memory(), &everything(), true);
    assert!(caller.capabilities().read_only);
    for &operation in operation::ALL {
        let (tries, outcome) = scripted(&caller, operation, NEVER, []);
        if operation.access == Access::Write {
            let refused = outcome.unwrap_err();
            assert_eq!((tries, refused.kind()), (0, ErrorKind::ReadOnly));
            assert!(refused.to_string().contains(operation.name), "{refused}");
        } else {
            assert_eq!((tries, outcome.is_ok()), (1, true));
        }
    }
    let writes = operation::ALL
        .iter()
        .filter(|operation| operation.access == Access::Write);
    assert_eq!(writes.count(), 18);
}

#[test]
fn no_more_operations_run_at_once_than_there_are_permits() {
    let caller = caller_with(|config| config.connection_pool_size = 2);
    let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..200 {
                    caller
                        .call(operation::GET, &"", NEVER, |_| {
                            let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                            most.fetch_max(now, Ordering::SeqCst);
                            thread::yield_now();
                            inside.fetch_sub(1, Ordering::SeqCst);
                            Ok(())
                        })
                        .unwrap();
                }
            });
        }
    });
    assert!((1..=2).contains(&most.into_inner()));
}

/// Runs `meanwhile` while an operation holds the only permit.
fn while_taken(meanwhile: impl FnOnce(&Caller)) {
    struct Release<'a>(&'a AtomicUsize);
    impl Drop for Release<'_> {
        fn drop(&mut self) {
            self.0.store(1, Ordering::SeqCst);
        }
    }
    let caller = caller_with(|config| config.connection_pool_size = 1);
    let (inside, go_on) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            caller.call(operation::GET, &"", NEVER, |_| {
                inside.store(1, Ordering::SeqCst);
                until(|| go_on.load(Ordering::SeqCst) == 1);
                Ok(())
            })
        });
        until(|| inside.load(Ordering::SeqCst) == 1);
        // Lets the other thread release its permit even if an assertion fails. Otherwise the test would wait for
        // it forever.
        let _release = Release(&go_on);
        meanwhile(&caller);
    });
}

#[test]
fn a_caller_that_waits_too_long_learns_what_it_waited_for() {
    while_taken(|caller| {
        let (tries, outcome) = scripted(caller, operation::PUT, soon(), []);
        let error = outcome.unwrap_err();
        assert_eq!(
            (tries, error.kind(), error.is_transient()),
            (0, ErrorKind::Timeout, false)
        );
        let text = error.to_string();
        assert!(text.starts_with("timeout: put document shop/job"), "{text}");
        assert!(text.contains("one of 1 permits"), "{text}");
        assert!(error.hint().unwrap().contains("connection_pool_size"));
        let stats = caller.stats();
        assert_eq!((stats.get("limit.waits"), stats.get("limit.timeouts")), (1, 1));
    });
}

#[test]
fn every_operation_needs_a_permit_but_appends_and_waits() {
    while_taken(|caller| {
        for &operation in operation::ALL {
            let (tries, outcome) = scripted(caller, operation, Deadline::at(Instant::now()), []);
            let free = [operation::APPEND, operation::LOCK, operation::WAIT].contains(&operation);
            assert_eq!(
                (tries, outcome.is_ok()),
                (usize::from(free), free),
                "{operation:?}"
            );
            assert_eq!(operation.limit == Limit::Free, free);
        }
        // The holder of a lock may need the permit before it can release the lock.
        let name = LockName::new("shop/job").unwrap();
        caller
            .call(operation::LOCK, &name, soon(), |backend| {
                backend.lock(&name, &LockOptions::default(), soon())
            })
            .unwrap()
            .release()
            .unwrap();
    });
}

#[test]
fn no_permit_is_held_while_a_call_waits_for_its_next_try() {
    let caller = caller_with(|config| {
        config.connection_pool_size = 1;
        config.retry_policy.initial_delay = Duration::from_millis(30);
        config.retry_policy.max_delay = Duration::from_millis(30);
    });
    let failed = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let outcome = caller.call(operation::GET, &"", NEVER, |_| {
                match failed.fetch_add(1, Ordering::SeqCst) {
                    0 => Err(passing(ErrorKind::Io)),
                    _ => Ok(()),
                }
            });
            outcome.unwrap();
        });
        until(|| failed.load(Ordering::SeqCst) == 1);
        assert!(scripted(&caller, operation::LIST, NEVER, []).1.is_ok());
    });
    assert_eq!(failed.into_inner(), 2);
}

#[test]
fn each_call_is_counted_with_its_latency_by_operation() {
    let caller = caller();
    assert_eq!(caller.stats().operations().count(), 0);
    for (index, &operation) in operation::ALL.iter().enumerate() {
        assert_eq!(operation.index, index, "{operation:?}");
        for _ in 0..=index {
            scripted(&caller, operation, NEVER, []).1.unwrap();
        }
        let lasting = error(ErrorKind::DiskFull);
        scripted(&caller, operation, NEVER, [lasting]).1.unwrap_err();
    }
    let stats = caller.stats();
    for (index, operation) in operation::ALL.iter().enumerate() {
        let calls = stats.operation(operation.name).unwrap();
        assert_eq!(
            (calls.latency.count(), calls.failures),
            (index as u64 + 2, 1),
            "{operation:?}"
        );
        assert!(calls.latency.quantile(1.0).is_some());
    }
    assert_eq!(stats.operations().count(), operation::ALL.len());
}

#[test]
fn the_documentation_lists_the_names_of_all_operations() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../prodigy-storage-backend/src/report.rs"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let (_, list) = text.split_once("/// # Names of operations\n").unwrap();
    let (list, _) = list.split_once("    #[must_use]").unwrap();
    let mut listed: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
    let mut names: Vec<&str> = operation::ALL.iter().map(|operation| operation.name).collect();
    listed.sort_unstable();
    names.sort_unstable();
    assert_eq!(listed, names);
}

#[test]
fn a_call_with_retries_is_one_call_of_its_whole_length() {
    let caller = caller();
    let (tries, outcome) = scripted(&caller, operation::GET, NEVER, [passing(ErrorKind::Io)]);
    assert!(outcome.is_ok() && tries == 2);
    let stats = caller.stats();
    let calls = stats.operation("get document").unwrap();
    assert_eq!((calls.latency.count(), calls.failures), (1, 0));
}
