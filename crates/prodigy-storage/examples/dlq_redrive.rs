//! Dead letters: if a redriver dies no item is lost, and the next one works through all of them.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod support;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prodigy_storage::{DeadLetter, Failure, ItemId, Outcome as Settled, RedriveOptions, Select, Taken};
use support::{Outcome, check};

fn main() -> Outcome {
    let (storage, _folder) = support::open()?;
    let dlq = storage.repo("shop")?.job(support::new_job("redrive")?)?.dlq();

    for n in 0..9u32 {
        let error = if n % 3 == 0 {
            ("timeout", "no answer in 30 s")
        } else {
            ("panic", "index 7 of 5")
        };
        let letter = DeadLetter::new(ItemId::new(format!("item-{n}"))?, n);
        dlq.push(&letter.failure(Failure::new(error.0, error.1)))?;
    }
    for count in dlq.by_signature(&Select::any())?.groups {
        println!(
            "{} of {}",
            count.items,
            count.signature.as_deref().unwrap_or("no signature")
        );
    }

    // A redriver takes items and dies without releasing them. In this example its leases end at once.
    let lost = dlq.take(&Select::eligible(), 4, Duration::ZERO)?;
    lost.iter().for_each(Taken::keep);
    println!(
        "a redriver took {} and died; {} are still stored",
        lost.len(),
        dlq.list(&Select::any())?.count()
    );
    check(
        lost.len() == 4 && dlq.list(&Select::any())?.count() == 9,
        "a taken item stays stored",
    )?;

    // The next redriver works through all items, four at a time. An item that fails again is not taken twice in this
    // run.
    let tried = Mutex::new(Vec::new());
    let options = RedriveOptions::new().concurrency(4).max_attempts(Some(5));
    let report = dlq.redrive(Select::eligible(), &options, |item| match item.data::<u32>() {
        Err(error) => Settled::park(error.to_string()),
        Ok(n) => {
            tried.lock().unwrap_or_else(PoisonError::into_inner).push(n);
            if n == 5 {
                Settled::failed(Failure::new("panic", "index 7 of 5"))
            } else {
                Settled::Done
            }
        }
    })?;
    let mut tried = tried.into_inner()?;
    tried.sort_unstable();
    println!(
        "the next one: {} done, {} failed again",
        report.done, report.failed
    );
    check(tried == (0..9).collect::<Vec<_>>(), "each item is tried once")?;
    check(
        (report.done, report.failed, report.lost) == (8, 1, 0),
        "one item failed again",
    )?;

    let left = dlq.list(&Select::any())?.collect::<Result<Vec<_>, _>>()?;
    let left = left.first().ok_or("the failed item is left")?;
    println!("left: {} after {} failures", left.id, left.failure_count);
    check(
        left.id.as_str() == "item-5" && left.failure_count == 2,
        "its failures are counted",
    )
}
