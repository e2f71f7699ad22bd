//! Runs trials in parallel, one per processor.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, anyhow};

/// Runs `work` on each item; stops at the first error. The results are in the order of the items.
pub(super) fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let workers = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(items.len());
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Ok(Vec::new())));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    let result = work(item);
                    let Ok(mut done) = done.lock() else { break };
                    match (&mut *done, result) {
                        (Err(_), _) => break,
                        (Ok(all), Ok(one)) => all.push((index, one)),
                        (failed, Err(error)) => *failed = Err(error),
                    }
                }
            });
        }
    });
    let mut all = done.into_inner().map_err(|_| anyhow!("a trial panicked"))??;
    all.sort_by_key(|(index, _)| *index);
    Ok(all.into_iter().map(|(_, one)| one).collect())
}

#[cfg(test)]
mod tests {
    use super::each;

    #[test]
    fn every_item_is_worked_on_once_and_has_its_own_result() {
        let items: Vec<u64> = (0..100).collect();
        let done = each(&items, |item| {
            std::thread::sleep(std::time::Duration::from_micros(1000 - item * 10));
            Ok(*item)
        });
        assert_eq!(done.unwrap(), items);
    }

    #[test]
    fn an_error_is_handed_on() {
        let failed = each(&[1, 2, 3], |item| {
            if *item == 2 {
                anyhow::bail!("two")
            }
            Ok(())
        });
        assert_eq!(failed.unwrap_err().to_string(), "two");
    }
}
