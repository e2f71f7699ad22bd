use std::time::Duration;

use prodigy_storage_retry::{GaveUp, Retry, RetrySettings, Time};
use proptest::prelude::*;

use crate::support::FakeTime;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Passing(u32),
    Lasting,
}

fn passing(fault: &Fault) -> bool {
    matches!(fault, Fault::Passing(_))
}

fn settings(max_retries: u32) -> RetrySettings {
    RetrySettings::default().max_retries(max_retries).jitter(false)
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn success_at_once_sleeps_never() {
    let time = FakeTime::new();
    let retry = Retry::new(settings(3)).with_time(time.clone());
    let value = retry
        .run(
            None,
            passing,
            |_| panic!("nothing to retry"),
            |_| Ok::<_, Fault>(7),
        )
        .unwrap();
    assert_eq!(value, 7);
    assert!(time.sleeps().is_empty());
}

#[test]
fn the_last_error_comes_with_the_number_of_tries_and_no_sleep_after_it() {
    let time = FakeTime::new();
    let retry = Retry::new(settings(3)).with_time(time.clone());
    let failure = retry
        .run(
            None,
            passing,
            |_| {},
            |number| Err::<(), _>(Fault::Passing(number)),
        )
        .unwrap_err();
    assert_eq!(failure.error, Fault::Passing(4));
    assert_eq!(failure.tries, 4);
    assert_eq!(failure.reason, GaveUp::Exhausted);
    assert_eq!(failure.elapsed, 7 * SECOND);
    assert_eq!(time.sleeps(), [SECOND, 2 * SECOND, 4 * SECOND]);
}

#[test]
fn no_retries_means_one_try() {
    let time = FakeTime::new();
    let retry = Retry::new(settings(0)).with_time(time.clone());
    let failure = retry
        .run(
            None,
            passing,
            |_| panic!("no retry"),
            |number| Err::<(), _>(Fault::Passing(number)),
        )
        .unwrap_err();
    assert_eq!((failure.tries, failure.reason), (1, GaveUp::Exhausted));
    assert!(time.sleeps().is_empty());
}

#[test]
fn a_lasting_error_ends_the_run_wherever_it_comes() {
    let time = FakeTime::new();
    let retry = Retry::new(settings(3)).with_time(time.clone());
    let failure = retry
        .run(
            None,
            passing,
            |_| {},
            |number| {
                Err::<(), _>(if number == 2 {
                    Fault::Lasting
                } else {
                    Fault::Passing(number)
                })
            },
        )
        .unwrap_err();
    assert_eq!(
        (failure.error, failure.tries, failure.reason),
        (Fault::Lasting, 2, GaveUp::Permanent)
    );
    assert_eq!(time.sleeps(), [SECOND]);
}

#[test]
fn the_observer_sees_each_retry_before_its_delay() {
    let time = FakeTime::new();
    let retry = Retry::new(settings(2)).with_time(time.clone());
    let mut seen = Vec::new();
    let observer_time = time.clone();
    let failure = retry.run(
        None,
        passing,
        |event| {
            seen.push((
                *event.error,
                event.tries,
                event.delay,
                event.elapsed,
                observer_time.sleeps().len(),
            ));
        },
        |number| {
            time.advance(SECOND);
            Err::<(), _>(Fault::Passing(number))
        },
    );
    assert!(failure.is_err());
    assert_eq!(
        seen,
        [
            (Fault::Passing(1), 1, SECOND, SECOND, 0),
            (Fault::Passing(2), 2, 2 * SECOND, 3 * SECOND, 1)
        ]
    );
}

#[test]
fn a_delay_that_would_pass_the_deadline_is_not_begun() {
    let time = FakeTime::new();
    let retry = Retry::new(settings(10)).with_time(time.clone());
    let mut retries = 0;
    let failure = retry
        .run(
            Some(time.after(3 * SECOND)),
            passing,
            |_| retries += 1,
            |number| Err::<(), _>(Fault::Passing(number)),
        )
        .unwrap_err();
    // The second delay would end exactly at the deadline, which leaves no time for a try.
    assert_eq!(time.sleeps(), [SECOND]);
    assert_eq!(retries, 1);
    assert_eq!(
        (failure.error, failure.tries, failure.reason),
        (Fault::Passing(2), 2, GaveUp::Deadline)
    );
    assert_eq!(failure.elapsed, SECOND);
}

#[test]
fn a_sleep_that_took_too_long_is_not_followed_by_a_try() {
    let time = FakeTime::oversleeping(10 * SECOND);
    let retry = Retry::new(settings(10)).with_time(time.clone());
    let failure = retry
        .run(
            Some(time.after(5 * SECOND)),
            passing,
            |_| {},
            |number| Err::<(), _>(Fault::Passing(number)),
        )
        .unwrap_err();
    assert_eq!((failure.tries, failure.reason), (1, GaveUp::Deadline));
}

#[test]
fn past_the_deadline_there_is_one_try() {
    let time = FakeTime::new();
    let deadline = time.after(SECOND);
    time.advance(2 * SECOND);
    let retry = Retry::new(settings(3)).with_time(time.clone());
    assert_eq!(
        retry
            .run(Some(deadline), passing, |_| {}, Ok::<_, Fault>)
            .unwrap(),
        1
    );
    let failure = retry
        .run(
            Some(deadline),
            passing,
            |_| {},
            |number| Err::<(), _>(Fault::Passing(number)),
        )
        .unwrap_err();
    assert_eq!((failure.tries, failure.reason), (1, GaveUp::Deadline));
    assert!(time.sleeps().is_empty());
}

#[test]
fn a_delay_too_long_for_the_clock_is_given_up_under_a_deadline() {
    let time = FakeTime::new();
    let settings = settings(1).initial_delay(Duration::MAX).max_delay(Duration::MAX);
    let retry = Retry::new(settings).with_time(time.clone());
    let failure = retry
        .run(
            Some(time.after(SECOND)),
            passing,
            |_| {},
            |number| Err::<(), _>(Fault::Passing(number)),
        )
        .unwrap_err();
    assert_eq!(failure.reason, GaveUp::Deadline);
}

#[test]
fn jitter_comes_from_the_injected_source() {
    let time = FakeTime::new();
    let retry = Retry::new(settings(2).jitter(true))
        .with_time(time.clone())
        .with_jitter(|| 0);
    retry
        .run(
            None,
            passing,
            |_| {},
            |number| Err::<(), _>(Fault::Passing(number)),
        )
        .unwrap_err();
    assert_eq!(time.sleeps(), [SECOND / 2, SECOND]);
}

proptest! {
    #[test]
    fn whatever_the_policy_the_deadline_holds(
        max_retries in 0..20u32,
        initial in 0..5_000u64,
        max in 0..5_000u64,
        multiplier in 1.0..4.0f64,
        jitter in any::<bool>(),
        budget in 0..20_000u64,
        cost in 0..500u64,
        succeeds_at in 1..25u32,
    ) {
        let time = FakeTime::new();
        let policy = settings(max_retries)
            .initial_delay(Duration::from_millis(initial))
            .max_delay(Duration::from_millis(max))
            .backoff_multiplier(multiplier)
            .jitter(jitter);
        let deadline = time.after(Duration::from_millis(budget));
        let cost = Duration::from_millis(cost);
        let mut begun = Vec::new();
        let mut retries = 0u32;
        let result = Retry::new(policy.clone()).with_time(time.clone()).run(
            Some(deadline),
            passing,
            |_| retries += 1,
            |number| {
                begun.push(time.now());
                time.advance(cost);
                if number == succeeds_at { Ok(number) } else { Err(Fault::Passing(number)) }
            },
        );
        // The first try may begin after the deadline, but no other.
        prop_assert!(begun.iter().skip(1).all(|moment| *moment < deadline));
        prop_assert_eq!(time.sleeps().len() + 1, begun.len());
        prop_assert_eq!(u32::try_from(begun.len()).unwrap(), retries + 1);
        prop_assert!(retries <= max_retries);
        match result {
            Ok(number) => prop_assert_eq!(number, succeeds_at),
            Err(failure) => {
                prop_assert_eq!(failure.error, Fault::Passing(failure.tries));
                prop_assert_eq!(failure.tries, retries + 1);
                prop_assert!(failure.reason == GaveUp::Deadline || retries == max_retries);
            }
        }
    }
}
