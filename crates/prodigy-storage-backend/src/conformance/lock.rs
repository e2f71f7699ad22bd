//! Promises of named locks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::failure::{Failure, ensure, ensure_eq};
use super::harness::Harness;
use super::property::topic;
use super::tools::{Check, lock_name, locks, refused, soon};
use crate::deadline::Deadline;
use crate::error::ErrorKind;
use crate::lock::LockOptions;

topic! { "lock":
    a_lock_excludes "while a lock is held, no other caller gets it, through any handle",
    an_unavailable_lock_says_who_holds_it "a failed attempt names the holder of the lock, and waits no longer than its deadline",
    a_dropped_lock_is_free "a lock that was dropped or released is free at once",
    fencing_ascends "each holder's fencing token is above the tokens of all earlier holders",
    locks_of_other_names_are_free "a lock excludes only its own name, even if that is the beginning of another",
    threads_take_turns "of eight threads at most one holds the lock, and each gets it",
    locks_are_listed "the listing of locks states whether each is held, by whom, and the newest token",
}

fn briefly() -> Deadline {
    Deadline::after(Duration::from_millis(30))
}

fn a_lock_excludes(harness: &dyn Harness) -> Check {
    let (one, two, name) = (harness.open(), harness.open(), lock_name("shop/resume")?);
    let guard = one.lock(&name, &LockOptions::default(), soon())?;
    ensure!(!guard.is_inert(), "a lock protects nothing");
    ensure_eq!(guard.name(), &name, "name of the guard");
    for backend in [&one, &two] {
        refused(
            backend.lock(&name, &LockOptions::default(), briefly()),
            ErrorKind::LockUnavailable,
            "a second lock of one name",
        )?;
    }
    Ok(())
}

fn an_unavailable_lock_says_who_holds_it(harness: &dyn Harness) -> Check {
    let (backend, name) = (harness.open(), lock_name("resume")?);
    let _guard = backend.lock(&name, &LockOptions::new("to resume job 7"), soon())?;
    let began = Instant::now();
    let error = refused(
        backend.lock(&name, &LockOptions::default(), briefly()),
        ErrorKind::LockUnavailable,
        "a second lock of one name",
    )?;
    ensure!(
        began.elapsed() >= Duration::from_millis(30),
        "it did not wait: {:?}",
        began.elapsed()
    );
    ensure!(
        began.elapsed() < Duration::from_secs(20),
        "it waited for {:?}",
        began.elapsed()
    );
    ensure!(error.hint().is_some(), "no hint: {error}");
    let text = error.to_string();
    ensure!(
        text.contains(&std::process::id().to_string()) || text.contains("this process"),
        "the message does not name the holder: {text}"
    );
    Ok(())
}

fn a_dropped_lock_is_free(harness: &dyn Harness) -> Check {
    let (one, two, name) = (harness.open(), harness.open(), lock_name("resume")?);
    drop(one.lock(&name, &LockOptions::default(), soon())?);
    two.lock(&name, &LockOptions::default(), soon())?.release()?;
    drop(one.lock(&name, &LockOptions::default(), soon())?);
    Ok(())
}

fn fencing_ascends(harness: &dyn Harness) -> Check {
    let name = lock_name("resume")?;
    let mut last = 0;
    for round in 0..5 {
        let guard = harness.open().lock(&name, &LockOptions::default(), soon())?;
        ensure!(
            guard.fencing() > last,
            "token {} after {last} in round {round}",
            guard.fencing()
        );
        last = guard.fencing();
    }
    Ok(())
}

fn locks_of_other_names_are_free(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    let mut guards = Vec::new();
    for name in ["shop", "shop/a", "shop/a/b", "shop/a/b/c", "shop2"] {
        guards.push(backend.lock(&lock_name(name)?, &LockOptions::default(), briefly())?);
    }
    ensure_eq!(guards.len(), 5, "locks held at once");
    Ok(())
}

fn threads_take_turns(harness: &dyn Harness) -> Check {
    let name = lock_name("resume")?;
    let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let done: Vec<Check> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (backend, name, inside, most) = (harness.open(), &name, &inside, &most);
                scope.spawn(move || -> Check {
                    for _ in 0..5 {
                        let guard = backend.lock(name, &LockOptions::default(), soon())?;
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        guard.release()?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(Failure::new("a thread panicked")))
            })
            .collect()
    });
    done.into_iter().collect::<Check>()?;
    ensure_eq!(most.into_inner(), 1, "threads that held the lock at once");
    Ok(())
}

fn locks_are_listed(harness: &dyn Harness) -> Check {
    let backend = harness.open();
    ensure_eq!(locks(&*backend)?.len(), 0, "locks of an empty store");
    let (first, second) = (lock_name("a/b")?, lock_name("c")?);
    let guard = backend.lock(&first, &LockOptions::new("to test"), soon())?;
    drop(backend.lock(&second, &LockOptions::default(), soon())?);
    let mut locks = locks(&*harness.open())?;
    locks.sort_by(|a, b| a.name.cmp(&b.name));
    let told: Vec<_> = locks.iter().map(|lock| (lock.name.as_str(), lock.held)).collect();
    ensure_eq!(
        told,
        [("a/b", true), ("c", false)],
        "locks, and whether they are held"
    );
    let held = locks.first().ok_or_else(|| Failure::new("no lock is listed"))?;
    ensure_eq!(held.fencing, guard.fencing(), "token listed");
    let holder = held
        .holder
        .as_ref()
        .ok_or_else(|| Failure::new("no holder is listed"))?;
    ensure_eq!(
        (holder.pid, holder.purpose.as_str()),
        (std::process::id(), "to test"),
        "holder"
    );
    let free = locks
        .last()
        .ok_or_else(|| Failure::new("no second lock is listed"))?;
    ensure!(free.holder.is_none(), "a free lock has a holder: {free:?}");
    ensure!(
        free.last_holder.is_some(),
        "the last known holder of a free lock is missing: {free:?}"
    );
    Ok(())
}
