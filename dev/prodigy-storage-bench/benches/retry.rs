//! Benchmarks of parts of the retry crate: the cost of a policy if nothing fails, and of a permit without waiting.

use std::sync::Arc;
use std::time::{Duration, Instant};

use divan::{Bencher, black_box};
use prodigy_storage_retry::{Retry, RetrySettings, Time};

fn main() {
    divan::main();
}

/// A clock whose time never changes and which never sleeps.
#[derive(Debug)]
struct Still(Instant);

impl Time for Still {
    fn now(&self) -> Instant {
        self.0
    }

    fn sleep(&self, _: Duration) {}
}

fn retry() -> Retry {
    Retry::new(RetrySettings::default())
        .with_time(Arc::new(Still(Instant::now())))
        .with_jitter(|| 1)
}

#[divan::bench]
fn success_at_once(bencher: Bencher<'_, '_>) {
    let retry = retry();
    bencher.bench_local(|| {
        retry
            .run(None, |_: &u8| true, |_| (), |tries| Ok(black_box(tries)))
            .ok()
    });
}

#[divan::bench]
fn success_at_the_third_try(bencher: Bencher<'_, '_>) {
    let retry = retry();
    bencher.bench_local(|| {
        let operation = |tries| if tries < 3 { Err(black_box(1u8)) } else { Ok(tries) };
        retry.run(None, |_| true, |_| (), operation).ok()
    });
}

#[divan::bench]
fn delays_of_a_policy(bencher: Bencher<'_, '_>) {
    let settings = RetrySettings::default();
    bencher.bench_local(|| black_box(&settings).delays_with(|| 1).take(10).sum::<Duration>());
}
