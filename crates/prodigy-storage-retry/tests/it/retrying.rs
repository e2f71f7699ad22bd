//! The layer that tries again, over a backend that fails when it is told to.

use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{
    AppendOptions, Appended, Backend, Body, Deadline, Durability, ErrorKind, EventId, Expected, PutOptions,
    Select, Stats,
};
use prodigy_storage_layout::{DocumentScope, Phase};
use prodigy_storage_retry::{Retry, RetrySettings, Retrying};

use crate::fake::{Fake, Fault, PASSING};
use crate::forwarding::{FALLIBLE, batch, call_all, document, job};
use crate::support::FakeTime;

const SECOND: Duration = Duration::from_secs(1);
const UNCLEAR: Fault = Fault::Unclear { stored: usize::MAX };
const NEVER: Deadline = Deadline::never();

fn over(fake: Fake, max_retries: u32) -> (Retrying<Fake>, Arc<FakeTime>) {
    let time = FakeTime::new();
    let settings = RetrySettings {
        max_retries,
        jitter: false,
        ..RetrySettings::default()
    };
    let retry = Retry::new(settings).with_time(time.clone());
    (Retrying::with_retry(Arc::new(fake), retry), time)
}

fn failing(faults: impl IntoIterator<Item = Fault>) -> (Retrying<Fake>, Arc<FakeTime>) {
    over(Fake::failing(faults), 3)
}

#[test]
fn every_method_is_forwarded() {
    let (layer, time) = failing([]);
    call_all(&layer, NEVER);
    assert_eq!(layer.inner().calls(), FALLIBLE);
    assert!(time.sleeps().is_empty());
    assert_eq!(layer.counts(), Default::default());
}

#[test]
fn every_method_that_fails_for_now_is_tried_again() {
    let mut last = "";
    let (layer, time) = over(
        Fake::new(move |call| {
            let is_second = std::mem::replace(&mut last, call) == call;
            // A path is made, not asked for: it has no deadline and is not tried again.
            (!is_second && call != "worktree_path").then_some(PASSING)
        }),
        3,
    );
    call_all(&layer, NEVER);
    let expected: Vec<_> = FALLIBLE
        .iter()
        .flat_map(|call| vec![*call; if *call == "worktree_path" { 1 } else { 2 }])
        .collect();
    assert_eq!(layer.inner().calls(), expected);
    let counts = layer.counts();
    let retried = FALLIBLE.len() as u64 - 1;
    assert_eq!(
        (counts.retries, counts.recovered, counts.gave_up),
        (retried, retried, 0)
    );
    assert_eq!(time.sleeps(), [SECOND; FALLIBLE.len() - 1]);
    let mut stats = Stats::default();
    layer.stats(&mut stats);
    assert_eq!(
        (stats.get("retry.retries"), stats.get("retry.recovered")),
        (retried, retried)
    );
}

#[test]
fn health_shows_the_first_trouble() {
    let (layer, _) = failing([PASSING]);
    assert!(layer.health(NEVER).unwrap_err().is_transient());
    assert_eq!(layer.inner().calls(), ["health"]);
    assert!(layer.health(NEVER).is_ok());
}

#[test]
fn a_lasting_error_is_returned_as_it_is() {
    let (layer, _) = failing([Fault::Fails(ErrorKind::DiskFull)]);
    let error = layer.get(&document(), NEVER).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::DiskFull, 1));
    assert_eq!(layer.counts(), Default::default());
}

#[test]
fn the_last_error_comes_with_the_number_of_tries() {
    let (layer, time) = failing([
        PASSING,
        PASSING,
        PASSING,
        Fault::FailsForNow(ErrorKind::LockUnavailable),
    ]);
    let error = layer.get(&document(), NEVER).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::LockUnavailable, 4));
    assert!(error.to_string().ends_with("(after 4 tries)"), "{error}");
    assert_eq!(time.sleeps().len(), 3);
    let counts = layer.counts();
    assert_eq!((counts.retries, counts.recovered, counts.gave_up), (3, 0, 1));
}

#[test]
fn retries_end_with_the_deadline_of_the_call() {
    let (layer, time) = over(Fake::new(|_| Some(PASSING)), 100);
    let error = layer
        .list(&DocumentScope::Job(job()), Deadline::at(time.after(4 * SECOND)))
        .unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Io, 3));
    assert_eq!(time.sleeps(), [SECOND, 2 * SECOND]);
    assert_eq!(layer.counts().gave_up, 1);
}

#[test]
fn a_conflict_is_never_repeated_whatever_it_says() {
    for kind in [ErrorKind::Conflict, ErrorKind::Fenced] {
        let (layer, time) = failing([Fault::FailsForNow(kind)]);
        let options = PutOptions::default().expect(Expected::Absent);
        assert_eq!(
            layer
                .put(&document(), Body::EMPTY, &options, NEVER)
                .unwrap_err()
                .kind(),
            kind
        );
        assert_eq!(layer.inner().calls(), ["put"]);
        assert!(time.sleeps().is_empty());
    }
}

#[test]
fn a_write_with_an_unclear_outcome_is_repeated_only_if_it_is_an_append() {
    let (layer, _) = over(Fake::new(|_| Some(UNCLEAR)), 3);
    let (job, options) = (job(), PutOptions::default());
    let outcomes = [
        layer.put(&document(), Body::EMPTY, &options, NEVER).map(drop),
        layer
            .add(&job, Phase::Map, Body::EMPTY, &options, NEVER)
            .map(drop),
        layer
            .delete(&document(), Expected::Any, Durability::Strict, NEVER)
            .map(drop),
        layer.queue_put(&job, &[], Durability::Strict, NEVER).map(drop),
        layer.queue_take(&job, &Select::all(), 1, SECOND, NEVER).map(drop),
        layer.queue_ack(&job, &[], NEVER).map(drop),
        layer.queue_nack(&job, &[], NEVER).map(drop),
        layer.queue_remove(&job, &[], NEVER).map(drop),
    ];
    for outcome in outcomes {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    }
    assert_eq!(layer.counts().retries, 0);
}

#[test]
fn an_unclear_append_is_repeated_under_its_ids_and_stored_once() {
    for stored in [0, 1, 2] {
        let (layer, _) = failing([Fault::Unclear { stored }]);
        let mut batch = batch(&["a", "b"]);
        let appended = layer
            .append(&job(), &mut batch, &AppendOptions::default(), NEVER)
            .unwrap();
        assert_eq!(
            appended,
            Appended {
                stored: 2,
                duplicates: 0
            },
            "the duplicates are this call's own"
        );
        assert_eq!(layer.inner().log(), [",\"event\":\"a\"", ",\"event\":\"b\""]);
        assert_eq!(layer.inner().ids(), batch.ids());
        let counts = layer.counts();
        assert_eq!((counts.retries, counts.unclear_appends), (1, 1));
    }
}

#[test]
fn with_ids_of_the_caller_duplicates_are_told_as_the_backend_tells_them() {
    let (layer, _) = failing([]);
    let mut batch = batch(&["a", "b"]);
    layer
        .append(&job(), &mut batch, &AppendOptions::default(), NEVER)
        .unwrap();
    let again = layer
        .append(&job(), &mut batch, &AppendOptions::default(), NEVER)
        .unwrap();
    assert_eq!(
        again,
        Appended {
            stored: 0,
            duplicates: 2
        }
    );
}

#[test]
fn what_was_unclear_once_is_never_called_failed() {
    let lasting = Fault::Fails(ErrorKind::DiskFull);
    for faults in [
        vec![UNCLEAR, lasting],
        vec![UNCLEAR, PASSING, PASSING, PASSING],
        vec![UNCLEAR; 4],
    ] {
        let tries = u32::try_from(faults.len()).unwrap();
        let (layer, _) = failing(faults);
        let mut batch = batch(&["a"]);
        let error = layer
            .append(&job(), &mut batch, &AppendOptions::default(), NEVER)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
        assert_eq!(error.ids(), batch.ids());
        assert_eq!((error.ids().len(), error.attempts()), (1, tries));
        // The same batch again settles it.
        let settled = layer
            .append(&job(), &mut batch, &AppendOptions::default(), NEVER)
            .unwrap();
        assert_eq!(
            settled,
            Appended {
                stored: 0,
                duplicates: 1
            }
        );
    }
}

#[test]
fn the_error_after_an_unclear_one_is_its_cause() {
    let (layer, _) = failing([UNCLEAR, Fault::Fails(ErrorKind::DiskFull)]);
    let error = layer
        .append(&job(), &mut batch(&["a"]), &AppendOptions::default(), NEVER)
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("outcome unknown: append events shop/job"),
        "{text}"
    );
    assert!(text.contains("disk space full"), "{text}");
    assert_eq!(text.matches("tries").count(), 1, "{text}");
}

#[test]
fn without_ids_an_unclear_append_is_not_repeated() {
    let (layer, _) = failing([Fault::UnclearWithoutIds]);
    let error = layer
        .append(&job(), &mut batch(&["a"]), &AppendOptions::default(), NEVER)
        .unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::OutcomeUnknown, 1));
    assert!(layer.inner().log().is_empty());
}

#[test]
fn ten_thousand_appends_over_a_backend_that_fails_every_third_time() {
    const APPENDS: usize = 10_000;
    let mut random = fastrand::Rng::with_seed(7);
    let fake = Fake::new(move |_| match random.u32(..100) {
        0..18 => Some(PASSING),
        18..30 => Some(Fault::Unclear {
            stored: random.usize(..4),
        }),
        _ => None,
    });
    let (layer, _) = over(fake, 40);
    let mut acknowledged: Vec<EventId> = Vec::new();
    for number in 0..APPENDS {
        let (first, second) = (format!("{number}.1"), format!("{number}.2"));
        let mut batch = batch(&[&first, &second]);
        let appended = layer
            .append(&job(), &mut batch, &AppendOptions::default(), NEVER)
            .unwrap();
        assert_eq!(
            appended,
            Appended {
                stored: 2,
                duplicates: 0
            }
        );
        acknowledged.extend(batch.ids());
    }
    let expected: Vec<_> = (0..APPENDS)
        .flat_map(|number| [1, 2].map(|part| format!(",\"event\":\"{number}.{part}\"")))
        .collect();
    assert_eq!(layer.inner().log(), expected);
    assert_eq!(layer.inner().ids(), acknowledged);
    let counts = layer.counts();
    assert!(
        counts.retries > 3_000 && counts.unclear_appends > 1_000,
        "{counts:?}"
    );
    assert_eq!(counts.gave_up, 0);
}

#[test]
fn wraps_a_backend_known_only_at_run_time() {
    let backend: Arc<dyn Backend> = Arc::new(Fake::failing([PASSING]));
    let settings = RetrySettings {
        initial_delay: Duration::ZERO,
        ..RetrySettings::default()
    };
    let layer: Arc<dyn Backend> = Arc::new(Retrying::new(backend, settings));
    call_all(&*layer, NEVER);
}
