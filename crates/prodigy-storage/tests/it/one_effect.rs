//! The order of calls in `docs/how-to/one-effect-for-an-event-and-a-checkpoint.md`. A worker dies after each of
//! the calls, and the next worker resumes.

use std::cell::Cell;
use std::collections::BTreeMap;

use prodigy_storage::{
    AppendOptions, DeadLetter, Event, EventId, Failure, ItemId, Job, ReadOptions, SaveOptions, Select,
    Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::support::{on_each, on_each_with_clock};

#[derive(Serialize, Deserialize)]
struct Added {
    item: u32,
    amount: u64,
}

/// The number of calls that a worker still makes before it dies.
struct Life(Cell<u32>);

impl Life {
    fn step<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        self.0.set(self.0.get().checked_sub(1)?);
        Some(call())
    }
}

/// Loads the state of the latest checkpoint and applies the events after it, as each new worker does.
fn resume(job: &Job) -> (BTreeMap<u32, u64>, SaveOptions) {
    let saved = job.checkpoints().latest_map::<BTreeMap<u32, u64>>().unwrap();
    let (mut state, read) = match saved {
        Some(saved) => (saved.data, ReadOptions::after(saved.cursor.unwrap())),
        None => (BTreeMap::new(), ReadOptions::new()),
    };
    let mut events = job.events().read_with::<Added>(read).unwrap();
    for event in events.by_ref() {
        let event = event.unwrap().event;
        *state.entry(event.item).or_default() += event.amount;
    }
    (state, SaveOptions::at(events.cursor()))
}

const ITEMS: u32 = 3;

/// The time at which the work was planned, which is the same for all workers.
fn planned() -> Timestamp {
    Timestamp::from_millis(1_764_018_118_000)
}

/// Does the work, appends its event under a given id, and saves a checkpoint, in this order.
fn right(job: &Job, life: &Life, worked: &mut Vec<u32>) -> Option<()> {
    let (state, _) = resume(job);
    for item in (0..ITEMS).filter(|item| !state.contains_key(item)) {
        life.step(|| worked.push(item))?;
        let id = EventId::for_key(planned(), format!("item-{item}"));
        let event = Added { item, amount: 10 };
        life.step(|| job.events().append_with(&event, AppendOptions::new().id(id)))?
            .unwrap();
        let (state, position) = resume(job);
        life.step(|| job.checkpoints().save_map(&state, position))?
            .unwrap();
    }
    Some(())
}

#[test]
fn whichever_call_a_worker_dies_behind_each_item_counts_once() {
    on_each(|fixture| {
        for dies_behind in 0..=3 * ITEMS {
            let repo = fixture.storage.repo("shop").unwrap();
            let job = repo.job(format!("right-{dies_behind}")).unwrap();
            let mut worked = Vec::new();
            let finished = right(&job, &Life(Cell::new(dies_behind)), &mut worked);
            assert_eq!(finished.is_some(), dies_behind == 3 * ITEMS);
            right(&job, &Life(Cell::new(u32::MAX)), &mut worked).unwrap();

            let (state, _) = resume(&job);
            assert_eq!(state, (0..ITEMS).map(|item| (item, 10)).collect());
            assert_eq!(job.events().count(ReadOptions::new()).unwrap().events, 3);
            // The work is repeated only if the worker died between the work and its event.
            let repeated = dies_behind % 3 == 1;
            assert_eq!(worked.len(), 3 + usize::from(repeated), "{dies_behind}");
        }
    });
}

#[test]
fn an_event_that_is_appended_again_under_its_id_counts_once() {
    on_each(|fixture| {
        let job = fixture.job();
        let id = EventId::for_key(planned(), "item-0");
        for _ in 0..2 {
            let event = Added { item: 0, amount: 10 };
            job.events()
                .append_with(&event, AppendOptions::new().id(id))
                .unwrap();
        }
        assert_eq!(resume(&job).0, BTreeMap::from([(0, 10)]));
    });
}

/// The second event of an item takes its place from the id of the first one, not from its timestamp.
#[test]
fn an_event_a_millisecond_after_the_id_of_another_follows_it_also_where_the_log_is_ahead_of_the_clock() {
    on_each_with_clock(|fixture, clock| {
        let job = fixture.job();
        job.events().append(&"earlier").unwrap();
        clock.advance_secs(-2 * 3600);
        job.events().append(&"started").unwrap();
        let events: Vec<Event<String>> = job.events().read().unwrap().map(Result::unwrap).collect();
        let started = events.last().unwrap();
        assert!(started.timestamp < started.id.time(), "the log is ahead");
        let behind = Timestamp::from_nanos(started.id.time().as_nanos() + 1_000_000);
        let id = EventId::for_key(behind, "item-7 is done");
        for _ in 0..2 {
            job.events()
                .append_with(&"done", AppendOptions::new().id(id))
                .unwrap();
        }
        let events = job.events().read::<String>().unwrap();
        let events: Vec<String> = events.map(|event| event.unwrap().event).collect();
        assert_eq!(events, ["earlier", "started", "done"]);
    });
}

#[test]
fn a_checkpoint_that_is_saved_before_its_event_loses_the_event() {
    on_each(|fixture| {
        let job = fixture.job();
        let (mut state, position) = resume(&job);
        state.insert(0, 10);
        job.checkpoints().save_map(&state, position).unwrap();
        // The worker dies here. In the state, item 0 is done, but the log never gets its event.
        assert_eq!(resume(&job).0, BTreeMap::from([(0, 10)]));
        assert_eq!(job.events().count(ReadOptions::new()).unwrap().events, 0);
    });
}

#[test]
fn a_failure_that_is_pushed_before_its_event_is_never_forgotten_and_is_one_dead_letter() {
    on_each(|fixture| {
        let job = fixture.job();
        // The worker dies between the push and the event, so the next one tries the item again and pushes again. This
        // adds a second failure, unless both pushes have the same number and time.
        let id = ItemId::new("item-0").unwrap();
        let push = |failure: Failure| {
            job.dlq()
                .push(&DeadLetter::new(id.clone(), 0).failure(failure))
                .unwrap();
            let letters = job.dlq().list(&Select::any()).unwrap();
            let letters: Vec<_> = letters.collect::<Result<_, _>>().unwrap();
            assert_eq!(letters.len(), 1);
            letters[0].failure_count
        };
        let first = Failure::new("timeout", "no answer").attempt(1).at(planned());
        assert_eq!(push(first.clone()), 1);
        assert_eq!(push(first), 1);
        assert_eq!(push(Failure::new("timeout", "no answer").attempt(2)), 2);
    });
}
