//! The model of a store: simple vectors without any optimisation. It states the expected answer of each call.

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

use crate::queue::{PutReport, Settled};
use crate::reference::{self, Certainty, Change, Claim, Content, Mismatch, Put};

/// The numbers of jobs and of documents that a sequence uses.
pub(super) const JOBS: usize = 2;
pub(super) const DOCUMENTS: usize = 3;
pub(super) const HANDLES: usize = 2;
/// The number of different item keys that a sequence uses.
const KEYS: u8 = 6;
/// The length of a lease in seconds.
pub(super) const LEASE: u64 = 10;

/// The condition under which a document is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish {
    Any,
    Absent,
    /// That the document has its present revision. For an absent document, an unknown revision is given.
    Present,
    /// That the document has an unknown revision, so that the write fails.
    Wrong,
}

/// A call on the store, or a change of its surroundings.
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
    /// Scans the newest `count` events. At most `limit` of them are read, and the next read continues after these.
    Tail {
        job: usize,
        count: usize,
        limit: usize,
    },
    /// Moves the reader's cursor to the end of the log.
    End {
        job: usize,
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
    /// Reads the newest document of a series that has at least `before` newer documents.
    Newest {
        job: usize,
        before: usize,
    },
    /// Deletes the document of a series that has exactly `newer` newer documents.
    Drop {
        job: usize,
        newer: usize,
    },
    QueuePut {
        job: usize,
        keys: Vec<u8>,
    },
    /// Makes the last push to the queue again, unchanged.
    PutAgain {
        job: usize,
    },
    Take {
        job: usize,
        limit: usize,
        which: Which,
    },
    Settle {
        job: usize,
        settlements: Vec<(Whose, What)>,
    },
    Compact {
        job: usize,
    },
    /// Stores the present counter of a queue, for `Which::Marked`.
    Mark {
        job: usize,
    },
    Queue {
        job: usize,
    },
    Advance {
        seconds: u64,
    },
    Restart,
    /// Restarts the machine, which ends all leases and delays.
    Reboot,
}

/// The items that a take selects.
#[derive(Clone, Debug)]
pub(super) enum Which {
    Eligible,
    Parked,
    Keys(Vec<u8>),
    /// Eligible items that were not added, taken or released after the last `Call::Mark`.
    Marked,
    /// Eligible items that failed at least this number of times.
    Failed(u64),
}

/// How a settlement names its item.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose {
    /// By the lease token that was given out at this position, counted from 0.
    Token(usize),
    Key(u8),
    /// By key, if the item still has the revision from before the call.
    Present(u8),
    /// By key, with a revision that no item has.
    Stale(u8),
}

/// The change that a settlement makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Remove,
    /// Extends the lease. Used only with a token.
    Extend,
    /// Makes the item pending again, after a delay in seconds.
    Release(u64),
    Fail,
    Park,
    Unpark,
    Edit,
}

/// A call through one of the handles.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) handle: usize,
    pub(super) call: Call,
}

/// The expected answer of the last call; holds only what the rest of the model's state does not show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Answer {
    #[default]
    Nothing,
    /// The payloads of the stored events, and the number of events that were not stored since their ids were
    /// known.
    Appended {
        stored: Vec<u64>,
        duplicates: usize,
    },
    /// True if the condition was met; for a deletion, if the document existed.
    Written(Option<bool>),
    /// The keys of the taken items.
    Taken(Vec<u8>),
    Queued(PutReport),
    /// The outcome of each settlement, and the number that each failure and edit has as its data.
    Settled(Vec<Settled>, Vec<u64>),
}

#[derive(Clone, Debug)]
pub(super) struct Event {
    /// The payload, which is a unique number.
    pub(super) tag: u64,
    /// The given id, in milliseconds after the clock's start; `None` if the log assigns the id.
    pub(super) millis: Option<i64>,
}

pub(super) type Item = reference::Item<u8, u64, usize>;

/// A queue. The data of its items are numbers, and a token is its position in the order of takes.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    model: reference::Queue<u8, u64, usize>,
    marked: u64,
    tokens: usize,
    /// The items of the last push: the key and data of each.
    pub(super) pushed: Vec<(u8, u64)>,
}

impl Queue {
    pub(super) fn items(&self) -> &[Item] {
        self.model.items()
    }

    fn put(&mut self) -> PutReport {
        let mut report = PutReport::default();
        for &(key, data) in &self.pushed {
            *match self.model.put(key, data, Certainty::Durable) {
                Put::Added => &mut report.added,
                Put::Merged => &mut report.merged,
                Put::Known => &mut report.known,
            } += 1;
        }
        report
    }

    fn take(&mut self, limit: usize, which: &Which, now: u64) -> Result<Vec<u8>, Mismatch> {
        let selects = |item: &Item| match which {
            Which::Eligible => item.is_eligible(),
            Which::Parked => !item.is_eligible(),
            Which::Keys(keys) => keys.contains(item.key()),
            Which::Marked => item.is_eligible() && item.place() <= self.marked,
            Which::Failed(times) => item.is_eligible() && *item.failures().start() as u64 >= *times,
        };
        let pending = self.model.pending(now, selects);
        let taken: Vec<u8> = pending.into_iter().take(limit).copied().collect();
        for key in &taken {
            self.model.take(key, self.tokens, now, now + LEASE)?;
            self.tokens += 1;
        }
        Ok(taken)
    }

    /// Makes the changes in order. A claim by revision always means the revision from before the first change.
    fn settle(&mut self, settlements: &[(Whose, What)], data: &[u64], now: u64) -> Vec<Settled> {
        let before = self.model.clone();
        let revision = |key| before.get(&key).map(Item::revision);
        let mut outcomes = Vec::new();
        for (&(whose, what), &data) in settlements.iter().zip(data) {
            let claim = match whose {
                Whose::Token(token) => Claim::Lease(token),
                Whose::Key(key) => Claim::Key(key),
                Whose::Present(key) => Claim::Revision(key, revision(key)),
                Whose::Stale(key) => Claim::Revision(key, None),
            };
            let change = match what {
                What::Remove => Change::Remove,
                What::Extend => Change::Extend(now + LEASE),
                What::Release(delay) => Change::Release((delay > 0).then_some(now + delay)),
                What::Fail => Change::Fail(data),
                What::Park => Change::Park,
                What::Unpark => Change::Unpark,
                What::Edit => Change::Edit(data),
            };
            let (key, outcome) = self.model.outcome(&claim, &change);
            if let Some(key) = key.copied() {
                self.model.settle(&key, change, Some(outcome));
            }
            outcomes.push(outcome);
        }
        outcomes
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) now: u64,
    tags: u64,
    pub(super) events: [Vec<Event>; JOBS],
    pub(super) documents: [Content<u64>; DOCUMENTS],
    pub(super) series: [Vec<u64>; JOBS],
    pub(super) queues: [Queue; JOBS],
    pub(super) answer: Answer,
    /// The handle that made the last write of a document, successful or not, and that document.
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
                let pushed = keys.iter().map(|&key| (key, self.tag())).collect();
                let queue = self.queues.get_mut(*job)?;
                queue.pushed = pushed;
                Answer::Queued(queue.put())
            }
            Call::PutAgain { job } => Answer::Queued(self.queues.get_mut(*job)?.put()),
            Call::Take { job, limit, which } => {
                let now = self.now;
                Answer::Taken(self.queues.get_mut(*job)?.take(*limit, which, now).ok()?)
            }
            Call::Settle { job, settlements } => {
                let data: Vec<u64> = settlements.iter().map(|_| self.tag()).collect();
                let now = self.now;
                let settled = self.queues.get_mut(*job)?.settle(settlements, &data, now);
                Answer::Settled(settled, data)
            }
            Call::Mark { job } => {
                let queue = self.queues.get_mut(*job)?;
                queue.marked = queue.model.counter();
                Answer::Nothing
            }
            Call::Reboot => {
                self.queues.iter_mut().for_each(|queue| queue.model.reboot());
                Answer::Nothing
            }
            Call::Advance { seconds } => {
                self.now += seconds;
                Answer::Nothing
            }
            Call::Read { .. }
            | Call::Follow { .. }
            | Call::Tail { .. }
            | Call::End { .. }
            | Call::Seal { .. }
            | Call::Get { .. }
            | Call::Newest { .. }
            | Call::Queue { .. }
            | Call::Compact { .. }
            | Call::Restart => Answer::Nothing,
        })
    }
}

/// Generates the sequences of calls, for `proptest-state-machine`.
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
        // Reads the same document through another handle, which may have cached an earlier state.
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

fn whichs() -> impl Strategy<Value = Which> {
    prop_oneof![
        4 => Just(Which::Eligible),
        1 => Just(Which::Parked),
        1 => proptest::collection::vec(0..KEYS, 1..3).prop_map(Which::Keys),
        2 => Just(Which::Marked),
        1 => (1..4u64).prop_map(Which::Failed),
    ]
}

fn settlement() -> impl Strategy<Value = (Whose, What)> {
    let whose = prop_oneof![
        5 => (0..10usize).prop_map(Whose::Token),
        2 => (0..KEYS).prop_map(Whose::Key),
        2 => (0..KEYS).prop_map(Whose::Present),
        1 => (0..KEYS).prop_map(Whose::Stale),
    ];
    let what = prop_oneof![
        4 => Just(What::Remove),
        2 => Just(What::Extend),
        2 => (0..12u64).prop_map(What::Release),
        2 => Just(What::Fail),
        1 => Just(What::Park),
        1 => Just(What::Unpark),
        1 => Just(What::Edit),
    ];
    // Only the token of a lease can extend it. Where an item is named in another way, it is removed instead.
    (whose, what).prop_map(|(whose, what)| match (whose, what) {
        (Whose::Token(_), _) => (whose, what),
        (_, What::Extend) => (whose, What::Remove),
        _ => (whose, what),
    })
}

fn calls() -> impl Strategy<Value = Call> {
    let job = 0..JOBS;
    let document = 0..DOCUMENTS;
    let keys = proptest::collection::vec(0..KEYS, 1..4);
    let settlements = proptest::collection::vec(settlement(), 1..4);
    // Ids before, between and after those that the log assigns.
    let millis = proptest::collection::vec(-30..30i64, 1..4)
        .prop_map(|millis| millis.into_iter().map(|millis| millis * 1000 + 7).collect());
    prop_oneof![
        4 => (job.clone(), 1..4usize).prop_map(|(job, count)| Call::Append { job, count }),
        3 => (job.clone(), millis).prop_map(|(job, millis)| Call::AppendGiven { job, millis }),
        2 => job.clone().prop_map(|job| Call::Read { job }),
        5 => (job.clone(), 0..6usize).prop_map(|(job, limit)| Call::Follow { job, limit }),
        2 => (job.clone(), 0..6usize, 0..6usize).prop_map(|(job, count, limit)| Call::Tail { job, count, limit }),
        1 => job.clone().prop_map(|job| Call::End { job }),
        1 => job.clone().prop_map(|job| Call::Seal { job }),
        3 => (document.clone(), wishes()).prop_map(|(document, wish)| Call::Put { document, wish }),
        1 => (document.clone(), wishes()).prop_map(|(document, wish)| Call::Delete { document, wish }),
        2 => document.prop_map(|document| Call::Get { document }),
        2 => (job.clone(), wishes()).prop_map(|(job, wish)| Call::Add { job, wish }),
        2 => (job.clone(), 0..7usize).prop_map(|(job, before)| Call::Newest { job, before }),
        1 => (job.clone(), 0..7usize).prop_map(|(job, newer)| Call::Drop { job, newer }),
        3 => (job.clone(), keys).prop_map(|(job, keys)| Call::QueuePut { job, keys }),
        1 => job.clone().prop_map(|job| Call::PutAgain { job }),
        4 => (job.clone(), 0..4usize, whichs()).prop_map(|(job, limit, which)| Call::Take { job, limit, which }),
        5 => (job.clone(), settlements).prop_map(|(job, settlements)| Call::Settle { job, settlements }),
        1 => job.clone().prop_map(|job| Call::Compact { job }),
        1 => job.clone().prop_map(|job| Call::Mark { job }),
        2 => job.prop_map(|job| Call::Queue { job }),
        2 => (1..12u64).prop_map(|seconds| Call::Advance { seconds }),
        1 => Just(Call::Restart),
        1 => Just(Call::Reboot),
    ]
}
