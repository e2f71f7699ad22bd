//! The suite on every backend under every stack of layers.

use std::sync::Mutex;

use prodigy_storage::{Deadline, Document, Durability, Expected, Phase, Stats};
use prodigy_storage_backend::conformance::{
    Harness, HarnessFactory, Need, Outcome, Property, properties, run_sequences,
};
use prodigy_storage_backend::{Body, PutOptions};
use prodigy_storage_layout::{JobAddress, JobId, RepoName};

use crate::stacks::{Base, Factory, Stack};

/// Properties at once: they wait for the disk for most of their time.
const WORKERS: usize = 4;

/// Every property holds, and is left out only where the backend has not what it needs: no layer takes anything away.
fn every_property_holds(base: Base, stack: Stack) {
    let factory = Factory::new(base, stack);
    let left = Mutex::new(properties());
    let next = || left.lock().unwrap().next();
    let broken: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                scope.spawn(|| {
                    std::iter::from_fn(next)
                        .filter_map(|property| check(property, &factory))
                        .collect()
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| -> Vec<String> { worker.join().unwrap() })
            .collect()
    });
    assert!(broken.is_empty(), "{}:\n{}", factory.name(), broken.join("\n"));
}

/// What is wrong, if anything.
fn check(property: &Property, factory: &Factory) -> Option<String> {
    let lacking = match factory.base {
        Base::Memory => property.need == Need::Restart,
        Base::File => property.need == Need::SmallStore,
        Base::Unlocked => property.need == Need::SmallStore || property.topic == "lock",
    };
    let wanted = if lacking { Outcome::Skipped } else { Outcome::Held };
    match property.run(factory) {
        Ok(outcome) if outcome == wanted => None,
        Ok(outcome) => Some(format!("{}: {outcome:?}, not {wanted:?}", property.name)),
        Err(failure) => Some(format!("{}: {failure}", property.name)),
    }
}

fn sequences_agree(base: Base, stack: Stack) {
    run_sequences(&Factory::new(base, stack), 16);
}

macro_rules! on {
    ($($base:ident: $variant:expr;)+) => {$(
        mod $base {
            use super::*;

            #[test]
            fn bare() {
                every_property_holds($variant, Stack::Bare);
            }

            #[test]
            fn under_retries() {
                every_property_holds($variant, Stack::Retrying);
            }

            #[test]
            fn under_a_limit() {
                every_property_holds($variant, Stack::Limited);
            }

            #[test]
            fn under_a_cache() {
                every_property_holds($variant, Stack::Cached);
            }

            #[test]
            fn under_the_full_stack() {
                every_property_holds($variant, Stack::Full);
            }

            #[test]
            fn under_the_full_stack_over_faults() {
                every_property_holds($variant, Stack::Faulty);
            }

            #[test]
            fn random_sequences_under_the_full_stack() {
                sequences_agree($variant, Stack::Full);
            }

            #[test]
            fn random_sequences_under_the_full_stack_over_faults() {
                sequences_agree($variant, Stack::Faulty);
            }
        }
    )+};
}

on! {
    memory: Base::Memory;
    file: Base::File;
    file_without_file_locks: Base::Unlocked;
}

/// What a few calls leave in the counters, by layer.
fn counters(stack: Stack) -> Stats {
    let factory = Factory::new(Base::Memory, stack);
    let harness: Box<dyn Harness> = factory.fresh();
    let backend = harness.open();
    let job = JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("a").unwrap());
    let document = Document::Orphans(job);
    let never = Deadline::never();
    backend
        .put(&document, Body::EMPTY, &PutOptions::default(), never)
        .unwrap();
    for _ in 0..100 {
        assert!(backend.get(&document, never).unwrap().is_some());
    }
    let mut stats = Stats::default();
    backend.stats(&mut stats);
    stats
}

#[test]
fn each_stack_is_what_it_is_called() {
    let names = |stack| -> Vec<&'static str> {
        let mut layers: Vec<_> = counters(stack)
            .iter()
            .filter_map(|(name, _)| name.split('.').next())
            .filter(|layer| ["cache", "retry", "limit", "faults"].contains(layer))
            .collect();
        layers.dedup();
        layers
    };
    assert_eq!(names(Stack::Bare), [""; 0]);
    assert_eq!(names(Stack::Retrying), ["retry"]);
    assert_eq!(names(Stack::Limited), ["limit"]);
    assert_eq!(names(Stack::Cached), ["cache"]);
    assert_eq!(names(Stack::Full), ["cache", "limit", "retry"]);
    assert_eq!(names(Stack::Faulty), ["cache", "faults", "limit", "retry"]);

    let stats = counters(Stack::Faulty);
    assert!(stats.get("cache.hits") >= 90, "{stats:?}");
    // Each fault met a retry, and about every third call a fault.
    let failed = stats.get("faults.failed");
    assert_eq!(failed, stats.get("retry.retries"));
    assert!((20..90).contains(&failed), "{failed}");
}

/// What one handle has read before, and may have kept, another one changes: the next read tells.
#[test]
fn no_stack_hides_what_another_handle_wrote() {
    let job = JobAddress::new(RepoName::new("shop").unwrap(), JobId::new("a").unwrap());
    let (orphans, setup) = (Document::Orphans(job.clone()), Document::Setup(job.clone()));
    let (any, never) = (PutOptions::default(), Deadline::never());
    for (base, stack) in Base::ALL
        .into_iter()
        .flat_map(|base| Stack::ALL.map(|stack| (base, stack)))
    {
        let factory = Factory::new(base, stack);
        let harness = factory.fresh();
        let (reader, writer) = (harness.open(), harness.open());
        let body = |document: &Document| {
            let got = reader.get(document, never).unwrap()?;
            Some(String::from_utf8(got.body().to_vec()).unwrap())
        };
        for n in 0..5 {
            let text = format!("{{\"n\":{n}}}");
            let text_body = Body::parse(text.as_bytes()).unwrap();
            writer.put(&orphans, text_body, &any, never).unwrap();
            writer.add(&job, Phase::Setup, text_body, &any, never).unwrap();
            for document in [&orphans, &setup] {
                // The second time from where it is kept.
                for _ in 0..2 {
                    assert_eq!(body(document), Some(text.clone()), "{}", factory.name());
                }
            }
        }
        let deleted = writer.delete(&orphans, Expected::Any, Durability::Strict, never);
        assert!(deleted.unwrap());
        assert_eq!(body(&orphans), None, "{}", factory.name());
    }
}
