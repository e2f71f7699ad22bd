//! Measures times.

use std::time::Instant;

/// Microseconds per operation.
pub(crate) fn per_operation(began: Instant, operations: usize) -> f64 {
    began.elapsed().as_secs_f64() * 1e6 / operations.max(1) as f64
}

/// Runs `work` on several threads from the same moment, after each thread was prepared by `ready`. Returns the
/// elapsed microseconds divided by the number of operations.
pub(crate) fn threads<W, R>(
    number: usize,
    operations: usize,
    ready: impl Fn(usize) -> anyhow::Result<W> + Sync,
    work: impl Fn(usize, W) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<(f64, Vec<R>)>
where
    R: Send,
{
    // This thread takes part in the barrier, because it measures the time. A thread whose preparation fails has to
    // reach the barrier, too.
    let barrier = std::sync::Barrier::new(number + 1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..number)
            .map(|at| {
                let (barrier, ready, work) = (&barrier, &ready, &work);
                scope.spawn(move || {
                    let state = ready(at);
                    barrier.wait();
                    work(at, state?)
                })
            })
            .collect();
        barrier.wait();
        let began = Instant::now();
        let results = threads
            .into_iter()
            .map(|thread| {
                let result = thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"));
                result.and_then(|result| result)
            })
            .collect::<anyhow::Result<Vec<R>>>()?;
        Ok((per_operation(began, operations), results))
    })
}

#[cfg(test)]
mod tests {
    use super::threads;

    #[test]
    fn every_thread_gives_its_result_in_order() {
        let (_, results) = threads(3, 3, |at| Ok(at * 10), |at, state| Ok((at, state))).unwrap();
        assert_eq!(results, [(0, 0), (1, 10), (2, 20)]);
    }

    #[test]
    fn a_thread_that_fails_before_the_start_holds_up_nobody() {
        let ready = |at| {
            anyhow::ensure!(at != 1, "no");
            Ok(())
        };
        assert!(threads(3, 3, ready, |_, ()| Ok(())).is_err());
    }
}
