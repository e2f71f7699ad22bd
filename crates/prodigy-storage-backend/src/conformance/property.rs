//! The properties of the suite, and their runs.

use super::failure::Failure;
use super::harness::{Harness, HarnessFactory};
use super::{
    contents, cursor, deletion, document, errors, fence, fenced, limits, listing, lock, log, moved, own,
    pages, queue, removal, restart, select, series, settle, take, wait,
};

/// The outcome of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The promise was kept.
    Held,
    /// The backend lacks a feature that the property needs.
    Skipped,
}

/// A condition of a property besides a fresh store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// A fresh store is enough.
    Nothing,
    /// Needs [`Harness::restart`].
    Restart,
    /// Needs [`Harness::record_limit`].
    RecordLimit,
    /// Needs [`Harness::document_limit`].
    DocumentLimit,
    /// Needs [`HarnessFactory::small`].
    SmallStore,
    /// Needs [`HarnessFactory::capped`].
    CappedQueue,
}

type Run = fn(&dyn Harness) -> Result<(), Failure>;

/// A promise of the trait.
#[derive(Debug)]
#[non_exhaustive]
pub struct Property {
    /// The unique name of the property.
    pub name: &'static str,
    /// The topic: `log`, `cursor`, `end`, `document`, `series`, `own document`, `queue`, `fence`, `lock`, `listing`, `moved`, `page`, `limit`, `error`, `restart`.
    pub topic: &'static str,
    /// The promise, as a sentence.
    pub promise: &'static str,
    /// The requirement of the property.
    pub need: Need,
    run: Run,
}

impl Property {
    pub(super) const fn new(
        topic: &'static str,
        name: &'static str,
        promise: &'static str,
        need: Need,
        run: Run,
    ) -> Self {
        Self {
            name,
            topic,
            promise,
            need,
            run,
        }
    }

    /// Checks the property on a fresh store.
    ///
    /// # Errors
    /// The difference between the promise and the behaviour.
    pub fn run(&self, factory: &dyn HarnessFactory) -> Result<Outcome, Failure> {
        let harness = match self.need {
            Need::SmallStore => factory.small(),
            Need::CappedQueue => factory.capped(),
            _ => Some(factory.fresh()),
        };
        let Some(harness) = harness else {
            return Ok(Outcome::Skipped);
        };
        if self.topic == "lock" && !harness.named_locks() {
            return Ok(Outcome::Skipped);
        }
        if self.topic == "removal" && !removal::is_supported(&*harness)? {
            return Ok(Outcome::Skipped);
        }
        if self.topic == "moved" && !(harness.named_locks() && moved::is_supported(&*harness)?) {
            return Ok(Outcome::Skipped);
        }
        let able = match self.need {
            Need::Nothing | Need::SmallStore | Need::CappedQueue => true,
            // Nobody has opened the store yet, so the restart leaves it fresh.
            Need::Restart => harness.restart(),
            Need::RecordLimit => harness.record_limit().is_some(),
            Need::DocumentLimit => harness.document_limit().is_some(),
        };
        if !able {
            return Ok(Outcome::Skipped);
        }
        (self.run)(&*harness).map(|()| Outcome::Held)
    }
}

/// Declares the properties of a topic: a name with a promise. The function of that name checks it.
macro_rules! topic {
    ($topic:literal: $($name:ident $(($need:ident))? $promise:literal,)+) => {
        pub(super) const PROPERTIES: &[crate::conformance::property::Property] = &[$(
            crate::conformance::property::Property::new(
                $topic,
                stringify!($name),
                $promise,
                crate::conformance::property::topic!(@need $($need)?),
                $name,
            ),
        )+];
    };
    (@need) => { crate::conformance::property::Need::Nothing };
    (@need $need:ident) => { crate::conformance::property::Need::$need };
}

pub(super) use topic;

/// All properties, by topic.
pub fn properties() -> impl Iterator<Item = &'static Property> {
    [
        log::PROPERTIES,
        cursor::PROPERTIES,
        removal::PROPERTIES,
        wait::PROPERTIES,
        document::PROPERTIES,
        fence::PROPERTIES,
        series::PROPERTIES,
        own::PROPERTIES,
        queue::PROPERTIES,
        take::PROPERTIES,
        select::PROPERTIES,
        settle::PROPERTIES,
        contents::PROPERTIES,
        fenced::PROPERTIES,
        lock::PROPERTIES,
        listing::PROPERTIES,
        deletion::PROPERTIES,
        moved::PROPERTIES,
        pages::PROPERTIES,
        limits::PROPERTIES,
        errors::PROPERTIES,
        restart::PROPERTIES,
    ]
    .into_iter()
    .flatten()
}

/// Runs every property, each on a fresh store.
///
/// # Panics
/// If a property fails: with the name of each failed property, and the differences.
pub fn run_all(factory: &dyn HarnessFactory) {
    let mut broken = Vec::new();
    for property in properties() {
        if let Err(failure) = property.run(factory) {
            broken.push(format!(
                "{} ({}): {}\n    promised: {}",
                property.name, property.topic, failure, property.promise
            ));
        }
    }
    assert!(
        broken.is_empty(),
        "{}: {} properties failed:\n{}",
        factory.name(),
        broken.len(),
        broken.join("\n")
    );
}
