//! A store as simple as it can be: vectors, and no thought of speed. It says what each call has to answer.

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

use crate::reference::{Certainty, Content};

/// Jobs, documents and handles that a sequence uses.
pub(super) const JOBS: usize = 2;
pub(super) const DOCUMENTS: usize = 3;
pub(super) const HANDLES: usize = 2;
/// How long a take lasts, in seconds.
pub(super) const LEASE: u64 = 10;

/// The condition of a write, as the sequence wishes it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish {
    Any,
    Absent,
    /// The present revision; an unknown one if the document is absent.
    Present,
    /// An unknown revision.
    Wrong,
}

/// A call.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Append {
        job: usize,
        count: usize,
    },
    AppendGiven {
        job: usize,
        millis: Vec<i64>,
    },
    Read {
        job: usize,
    },
    Follow {
        job: usize,
        limit: usize,
    },
    Seal {
        job: usize,
    },
    Put {
        document: usize,
        wish: Wish,
    },
    Delete {
        document: usize,
        wish: Wish,
    },
    Get {
        document: usize,
    },
    Add {
        job: usize,
        wish: Wish,
    },
    /// The newest document of a series before its `before` newest ones.
    Newest {
        job: usize,
        before: usize,
    },
    /// Deletes the document of a series that has `newer` newer ones.
    Drop {
        job: usize,
        newer: usize,
    },
    QueuePut {
        job: usize,
        keys: Vec<u8>,
    },
    Take {
        job: usize,
        limit: usize,
    },
    Ack {
        job: usize,
        tokens: Vec<usize>,
    },
    Nack {
        job: usize,
        tokens: Vec<usize>,
    },
    Remove {
        job: usize,
        keys: Vec<u8>,
    },
    Queue {
        job: usize,
    },
    Advance {
        seconds: u64,
    },
    Restart,
}

/// A call, through one of the handles.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) handle: usize,
    pub(super) call: Call,
}

/// The expected answer of the last call, if the model does not state it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Answer {
    #[default]
    Nothing,
    /// Tags of the events that were stored, and how many were not.
    Appended { stored: Vec<u64>, duplicates: usize },
    /// Whether the condition held, and for a deletion whether there was anything.
    Written(Option<bool>),
    /// Keys of the items taken.
    Taken(Vec<u8>),
    /// How many were added and merged.
    Queued(usize, usize),
    /// Which of the tokens or keys were known.
    Settled(Vec<bool>),
}

#[derive(Clone, Debug)]
pub(super) struct Event {
    /// Its payload: a number of its own.
    pub(super) tag: u64,
    /// The moment of the id that it was given.
    pub(super) millis: Option<i64>,
}

#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) key: u8,
    pub(super) data: u64,
    pub(super) failures: u64,
    /// Its end, and the number of its token.
    pub(super) lease: Option<(u64, usize)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    now: u64,
    tags: u64,
    tokens: [usize; JOBS],
    pub(super) events: [Vec<Event>; JOBS],
    pub(super) documents: [Content<u64>; DOCUMENTS],
    pub(super) series: [Vec<u64>; JOBS],
    pub(super) queues: [Vec<Item>; JOBS],
    pub(super) answer: Answer,
    /// The last write of a document, held or not: the handle and the document.
    touched: Option<(usize, usize)>,
}

impl State {
    fn tag(&mut self) -> u64 {
        self.tags += 1;
        self.tags
    }

    fn holds(wish: Wish, stands: bool) -> bool {
        match wish {
            Wish::Any => true,
            Wish::Absent => !stands,
            Wish::Present => stands,
            Wish::Wrong => false,
        }
    }

    fn apply(&mut self, call: &Call) -> Option<Answer> {
        Some(match call {
            Call::Append { job, count } => {
                let tags: Vec<u64> = (0..*count).map(|_| self.tag()).collect();
                let events = tags.iter().map(|&tag| Event { tag, millis: None });
                self.events.get_mut(*job)?.extend(events);
                Answer::Appended {
                    stored: tags,
                    duplicates: 0,
                }
            }
            Call::AppendGiven { job, millis } => {
                let (mut stored, mut duplicates) = (Vec::new(), 0);
                for &millis in millis {
                    let tag = self.tag();
                    let events = self.events.get_mut(*job)?;
                    if events.iter().any(|event| event.millis == Some(millis)) {
                        duplicates += 1;
                    } else {
                        events.push(Event {
                            tag,
                            millis: Some(millis),
                        });
                        stored.push(tag);
                    }
                }
                Answer::Appended { stored, duplicates }
            }
            Call::Put { document, wish } => {
                let tag = self.tag();
                let content = self.documents.get_mut(*document)?;
                let holds = Self::holds(*wish, content.stable().is_some());
                if holds {
                    content.put(Some(tag), Certainty::Durable);
                }
                Answer::Written(holds.then_some(true))
            }
            Call::Delete { document, wish } => {
                let content = self.documents.get_mut(*document)?;
                let there = content.stable().is_some();
                let holds = Self::holds(*wish, there);
                if holds {
                    content.put(None, Certainty::Durable);
                }
                Answer::Written(holds.then_some(there))
            }
            Call::Add { job, wish } => {
                let tag = self.tag();
                let series = self.series.get_mut(*job)?;
                let holds = Self::holds(*wish, !series.is_empty());
                if holds {
                    series.push(tag);
                }
                Answer::Written(holds.then_some(true))
            }
            Call::Drop { job, newer } => {
                let series = self.series.get_mut(*job)?;
                let at = series.len().checked_sub(newer + 1);
                Answer::Written(Some(at.map(|at| series.remove(at)).is_some()))
            }
            Call::QueuePut { job, keys } => {
                let (mut added, mut merged) = (0, 0);
                for &key in keys {
                    let data = self.tag();
                    let queue = self.queues.get_mut(*job)?;
                    if let Some(item) = queue.iter_mut().find(|item| item.key == key) {
                        item.data = data;
                        item.failures += 1;
                        merged += 1;
                    } else {
                        queue.push(Item {
                            key,
                            data,
                            failures: 1,
                            lease: None,
                        });
                        added += 1;
                    }
                }
                Answer::Queued(added, merged)
            }
            Call::Take { job, limit } => {
                let now = self.now;
                let tokens = self.tokens.get_mut(*job)?;
                let mut taken = Vec::new();
                for item in self.queues.get_mut(*job)? {
                    let pending = item.lease.is_none_or(|(until, _)| until <= now);
                    if pending && taken.len() < *limit {
                        item.lease = Some((now + LEASE, *tokens));
                        *tokens += 1;
                        taken.push(item.key);
                    }
                }
                Answer::Taken(taken)
            }
            Call::Ack { job, tokens } => {
                let queue = self.queues.get_mut(*job)?;
                let settle = |&token: &usize| {
                    let before = queue.len();
                    queue.retain(|item| item.lease.is_none_or(|(_, number)| number != token));
                    queue.len() < before
                };
                Answer::Settled(tokens.iter().map(settle).collect())
            }
            Call::Nack { job, tokens } => {
                let queue = self.queues.get_mut(*job)?;
                let settle = |&token: &usize| {
                    let held = queue
                        .iter_mut()
                        .find(|item| item.lease.is_some_and(|(_, number)| number == token));
                    held.is_some_and(|item| item.lease.take().is_some())
                };
                Answer::Settled(tokens.iter().map(settle).collect())
            }
            Call::Remove { job, keys } => {
                let queue = self.queues.get_mut(*job)?;
                let settle = |&key: &u8| {
                    let before = queue.len();
                    queue.retain(|item| item.key != key);
                    queue.len() < before
                };
                Answer::Settled(keys.iter().map(settle).collect())
            }
            Call::Advance { seconds } => {
                self.now += seconds;
                Answer::Nothing
            }
            Call::Read { .. }
            | Call::Follow { .. }
            | Call::Seal { .. }
            | Call::Get { .. }
            | Call::Newest { .. }
            | Call::Queue { .. }
            | Call::Restart => Answer::Nothing,
        })
    }
}

/// The model as `proptest-state-machine` takes it.
#[derive(Debug)]
pub(super) struct Model;

impl ReferenceStateMachine for Model {
    type State = State;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<State> {
        Just(State::default()).boxed()
    }

    fn transitions(state: &State) -> BoxedStrategy<Step> {
        let any = (0..HANDLES, calls()).prop_map(|(handle, call)| Step { handle, call });
        let Some((writer, document)) = state.touched else {
            return any.boxed();
        };
        // Through another handle, which may have kept what it read before.
        let reread = (1..HANDLES).prop_map(move |offset| Step {
            handle: (writer + offset) % HANDLES,
            call: Call::Get { document },
        });
        let rewrite = Just(Step {
            handle: writer,
            call: Call::Put {
                document,
                wish: Wish::Any,
            },
        });
        prop_oneof![8 => any, 2 => reread, 1 => rewrite].boxed()
    }

    fn apply(mut state: State, step: &Step) -> State {
        if let Call::Put { document, .. } | Call::Delete { document, .. } = step.call {
            state.touched = Some((step.handle, document));
        }
        state.answer = state.apply(&step.call).unwrap_or_default();
        state
    }
}

fn wishes() -> impl Strategy<Value = Wish> {
    prop_oneof![
        Just(Wish::Any),
        Just(Wish::Absent),
        Just(Wish::Present),
        Just(Wish::Wrong)
    ]
}

/// Distinct, so that each is settled once.
fn some(of: std::ops::Range<usize>) -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::btree_set(of, 1..4).prop_map(|set| set.into_iter().collect())
}

fn calls() -> impl Strategy<Value = Call> {
    let job = 0..JOBS;
    let document = 0..DOCUMENTS;
    let keys = proptest::collection::vec(0..6u8, 1..4);
    let distinct = proptest::collection::btree_set(0..6u8, 1..4).prop_map(|set| set.into_iter().collect());
    // Before, among and after the assigned ids.
    let millis = proptest::collection::vec(-30..30i64, 1..4)
        .prop_map(|millis| millis.into_iter().map(|millis| millis * 1000 + 7).collect());
    prop_oneof![
        4 => (job.clone(), 1..4usize).prop_map(|(job, count)| Call::Append { job, count }),
        3 => (job.clone(), millis).prop_map(|(job, millis)| Call::AppendGiven { job, millis }),
        2 => job.clone().prop_map(|job| Call::Read { job }),
        5 => (job.clone(), 0..6usize).prop_map(|(job, limit)| Call::Follow { job, limit }),
        1 => job.clone().prop_map(|job| Call::Seal { job }),
        3 => (document.clone(), wishes()).prop_map(|(document, wish)| Call::Put { document, wish }),
        1 => (document.clone(), wishes()).prop_map(|(document, wish)| Call::Delete { document, wish }),
        2 => document.prop_map(|document| Call::Get { document }),
        2 => (job.clone(), wishes()).prop_map(|(job, wish)| Call::Add { job, wish }),
        2 => (job.clone(), 0..7usize).prop_map(|(job, before)| Call::Newest { job, before }),
        1 => (job.clone(), 0..7usize).prop_map(|(job, newer)| Call::Drop { job, newer }),
        3 => (job.clone(), keys).prop_map(|(job, keys)| Call::QueuePut { job, keys }),
        3 => (job.clone(), 0..4usize).prop_map(|(job, limit)| Call::Take { job, limit }),
        2 => (job.clone(), some(0..8)).prop_map(|(job, tokens)| Call::Ack { job, tokens }),
        1 => (job.clone(), some(0..8)).prop_map(|(job, tokens)| Call::Nack { job, tokens }),
        1 => (job.clone(), distinct).prop_map(|(job, keys)| Call::Remove { job, keys }),
        2 => job.prop_map(|job| Call::Queue { job }),
        2 => (1..12u64).prop_map(|seconds| Call::Advance { seconds }),
        1 => Just(Call::Restart),
    ]
}
