//! Crashes a run at every call, and crashes the recovery runs as well.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use anyhow::{Context, bail};
use prodigy_storage_backend::{
    AppendOptions, Batch, Cursor, ErrorKind, EventId, LogStore, ScanItem, ScanOptions,
};
use prodigy_storage_file::FileBackend;
use prodigy_storage_layout::JobAddress;
use serde::Serialize;

use crate::crash::{Crash, Effort, Loss, crashes};
use crate::fs::SimFs;
use crate::history::{Action, History};
use crate::journal::Entry;
use crate::replay::{CallOutcome, Moment};
use crate::rescue::{later, rescue};
use crate::stage::{Setup, patience};
use crate::verify::resume;

/// The calls of a run, from opening a disk to the end.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The disk at the beginning of the run.
    pub start: Moment,
    /// Every changing call of the run.
    pub journal: Vec<Arc<Entry>>,
    /// The operations of the run, and their answers.
    pub history: History,
}

/// The extent of a search.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    /// The number of disks that are checked for crashes of the workload itself.
    pub first: Effort,
    /// The number of disks that are checked for crashes of each recovery.
    pub second: Effort,
    /// Of the recoveries that make the same calls, this number is crashed.
    pub alike: usize,
    /// The largest number of recoveries that are crashed.
    pub recoveries: usize,
    /// One in this number of recoveries is crashed, chosen at random.
    pub one_of: u32,
    /// The seed of random choices.
    pub seed: u64,
}

impl Depth {
    /// A full search.
    #[must_use]
    pub fn full(seed: u64) -> Self {
        Self {
            first: Effort {
                subsets: 16,
                thorough: true,
            },
            second: Effort {
                subsets: 2,
                thorough: true,
            },
            alike: 2,
            recoveries: 400,
            one_of: 1,
            seed,
        }
    }

    /// A few disks at each point, for many different workloads.
    #[must_use]
    pub fn narrow(seed: u64) -> Self {
        let effort = Effort {
            subsets: 2,
            thorough: false,
        };
        Self {
            first: effort,
            second: effort,
            alike: 1,
            recoveries: 6,
            one_of: 6,
            seed,
        }
    }

    /// A quick sample.
    #[must_use]
    pub fn quick(seed: u64) -> Self {
        Self {
            first: Effort {
                subsets: 2,
                thorough: true,
            },
            second: Effort {
                subsets: 0,
                thorough: false,
            },
            alike: 1,
            recoveries: 12,
            one_of: 8,
            seed,
        }
    }
}

/// The counts of a search.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    /// The number of changing calls of the workload, syncs included.
    pub calls: usize,
    /// The number of points before, between and after the calls.
    pub points: usize,
    /// The number of disks that were derived.
    pub derived: usize,
    /// The number of checked disks, which differ in their contents or in the answers before the crash.
    pub checked: usize,
    /// The number of cursors that a reader had at the moment of a crash, and continued from after it.
    pub cursors: usize,
    /// The number of recoveries that were crashed.
    pub recoveries: usize,
    /// The number of points in these recoveries.
    pub recovery_points: usize,
    /// The number of contents that a disk may have after a power failure during these recoveries.
    pub recovery_derived: usize,
    /// The number of contents of a disk that were checked, among those of [`recovery_derived`](Self::recovery_derived).
    pub recovery_checked: usize,
    /// The number of such contents that were chosen at random, in workloads and recoveries.
    pub drawn: usize,
}

impl Counts {
    /// Adds the counts of another search.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.points += other.points;
        self.derived += other.derived;
        self.checked += other.checked;
        self.cursors += other.cursors;
        self.recoveries += other.recoveries;
        self.recovery_points += other.recovery_points;
        self.recovery_derived += other.recovery_derived;
        self.recovery_checked += other.recovery_checked;
        self.drawn += other.drawn;
    }
}

/// The result of a search.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The counts of the search.
    pub counts: Counts,
    /// Descriptions of the first failures.
    pub failures: Vec<String>,
}

/// The largest number of failures that are reported for a workload.
const MOST_FAILURES: usize = 3;

/// For each log, the position of a reader at the moment of a crash, and the events that were returned to it.
type Glances = Vec<(JobAddress, Cursor, HashSet<EventId>)>;

struct Search {
    setup: Setup,
    depth: Depth,
    random: fastrand::Rng,
    seen: HashSet<(u128, usize, Loss)>,
    glanced: HashSet<(u128, u128, usize, Loss)>,
    alike: HashMap<u64, usize>,
    outcome: Outcome,
}

/// Crashes a run at each of its calls, checks each resulting disk by a recovery run, and crashes those runs in the same
/// way.
#[must_use]
pub fn explore(trace: &Trace, setup: Setup, depth: Depth) -> Outcome {
    let mut search = Search {
        setup,
        depth,
        random: fastrand::Rng::with_seed(depth.seed),
        seen: HashSet::new(),
        glanced: HashSet::new(),
        alike: HashMap::new(),
        outcome: Outcome::default(),
    };
    search.outcome.counts.calls = trace.journal.len();
    search.first(trace);
    search.outcome
}

impl Search {
    fn is_over(&self) -> bool {
        self.outcome.failures.len() >= MOST_FAILURES
    }

    fn first(&mut self, trace: &Trace) {
        let mut moment = trace.start.clone();
        for point in 0..=trace.journal.len() {
            let fresh = advance(&mut moment, trace, point);
            let (found, drawn) = crashes(&moment, fresh, self.depth.first, &mut self.random);
            let answers = Answers::new(trace, point);
            let counts = &mut self.outcome.counts;
            counts.points += 1;
            counts.derived += found.len();
            counts.drawn += drawn.0;
            let glances = glance(&moment, &answers.whole.1, self.setup);
            let live = moment.live().content_hash();
            for crash in found {
                if self.is_over() {
                    return;
                }
                let hash = crash.disk().content_hash();
                let (answers, history) = answers.of(&crash);
                if self.seen.insert((hash, *answers, crash.loss)) {
                    self.outcome.counts.checked += 1;
                    match rescue(&crash, history, crash.loss, self.setup, 1) {
                        Ok(next) => self.second(&next, (trace, point, &moment, &crash)),
                        Err(error) => self.fail(&error, &[(trace, point, &moment, &crash)]),
                    }
                }
                // The reader saw the effect of the whole last call, so crashes that interrupted this call are left
                // out.
                if !glances.is_empty()
                    && !crash.within
                    && self.glanced.insert((hash, live, *answers, crash.loss))
                {
                    self.outcome.counts.cursors += 1;
                    if let Err(error) = go_on_from(&crash, history, &glances, self.setup) {
                        self.fail(&error, &[(trace, point, &moment, &crash)]);
                    }
                }
            }
        }
    }

    /// Crashes a recovery at each of its calls. Recoveries are left out at random, and if enough others made the same
    /// calls.
    fn second(&mut self, trace: &Trace, before: (&Trace, usize, &Moment, &Crash)) {
        if self.random.u32(..self.depth.one_of) > 0 {
            return;
        }
        let alike = self.alike.entry(shape(trace)).or_default();
        if *alike >= self.depth.alike || self.outcome.counts.recoveries >= self.depth.recoveries {
            return;
        }
        *alike += 1;
        self.outcome.counts.recoveries += 1;
        let loss_before = before.3.loss;
        let mut moment = trace.start.clone();
        let mut seen = HashSet::new();
        for point in 0..=trace.journal.len() {
            let fresh = advance(&mut moment, trace, point);
            let (found, drawn) = crashes(&moment, fresh, self.depth.second, &mut self.random);
            let answers = Answers::new(trace, point);
            let counts = &mut self.outcome.counts;
            counts.recovery_points += 1;
            counts.recovery_derived += found.len();
            counts.drawn += drawn.0;
            for crash in found {
                if self.is_over() {
                    return;
                }
                let loss = loss_before.max(crash.loss);
                let (answers, history) = answers.of(&crash);
                if !seen.insert((crash.disk().content_hash(), *answers, loss)) {
                    continue;
                }
                self.outcome.counts.recovery_checked += 1;
                if let Err(error) = rescue(&crash, history, loss, self.setup, 2) {
                    self.fail(&error, &[before, (trace, point, &moment, &crash)]);
                }
            }
        }
    }

    fn fail(&mut self, error: &anyhow::Error, crashes: &[(&Trace, usize, &Moment, &Crash)]) {
        let mut text = format!("{error:#}\n");
        for (index, (trace, point, moment, crash)) in crashes.iter().enumerate() {
            let which = if index == 0 {
                "the workload"
            } else {
                "its recovery"
            };
            let _ = writeln!(
                text,
                "  {} before call {point} of {which}; the calls up to there:",
                crash.loss
            );
            for (number, entry) in trace
                .journal
                .iter()
                .enumerate()
                .take(*point)
                .skip(point.saturating_sub(14))
            {
                let pending = moment
                    .pending()
                    .iter()
                    .position(|pending| Arc::ptr_eq(pending, entry));
                let outcome = match pending.and_then(|at| crash.outcomes.get(at)) {
                    Some(outcome) => format!("[not synced: {outcome}] "),
                    None => String::new(),
                };
                let _ = writeln!(text, "    {number:>4} {outcome}{entry}");
            }
            let early = moment
                .pending()
                .iter()
                .zip(&crash.outcomes)
                .filter(|(entry, outcome)| {
                    **outcome != CallOutcome::There
                        && !trace
                            .journal
                            .iter()
                            .take(*point)
                            .skip(point.saturating_sub(14))
                            .any(|shown| Arc::ptr_eq(shown, entry))
                });
            for (entry, outcome) in early {
                let _ = writeln!(text, "    before [not synced: {outcome}] {entry}");
            }
            let _ = writeln!(text, "  the disk then:");
            for path in crash.disk().files() {
                let len = crash.disk().read(&path).map_or(0, |bytes| bytes.len());
                let _ = writeln!(text, "    {:>6} {}", len, path.display());
            }
            let mut open = trace.history.ops().iter().filter(|op| op.begun <= *point);
            if let Some(op) = open.next_back() {
                let answered = op.answer.as_ref().is_some_and(|(position, _)| position <= point);
                let _ = writeln!(
                    text,
                    "  the last that was {}: {:.200?}",
                    if answered { "answered" } else { "begun" },
                    op.action
                );
            }
        }
        self.outcome.failures.push(text);
    }
}

/// The number of answers and the history at a point: if the last call was interrupted (`within`), and if it returned
/// (`whole`).
struct Answers {
    within: (usize, History),
    whole: (usize, History),
}

impl Answers {
    fn new(trace: &Trace, point: usize) -> Self {
        let at = |point: usize| (trace.history.answers_before(point), trace.history.before(point));
        Self {
            within: at(point.saturating_sub(1)),
            whole: at(point),
        }
    }

    fn of(&self, crash: &Crash) -> &(usize, History) {
        if crash.within { &self.within } else { &self.whole }
    }
}

/// Advances the moment by one call, to a point of the run. True if a crash may interrupt that call.
fn advance(moment: &mut Moment, trace: &Trace, point: usize) -> bool {
    let Some(entry) = point.checked_sub(1).and_then(|last| trace.journal.get(last)) else {
        return false;
    };
    moment.step(entry);
    !entry.call.is_sync()
}

/// A hash of a recovery's calls without random parts of names, to find equal recoveries.
fn shape(trace: &Trace) -> u64 {
    let mut hasher = DefaultHasher::new();
    for entry in &trace.journal {
        std::mem::discriminant(&entry.call).hash(&mut hasher);
        let path = entry.path.to_string_lossy();
        let kept: String = path.chars().filter(|char| !char.is_ascii_hexdigit()).collect();
        kept.hash(&mut hasher);
    }
    trace.start.pending().len().hash(&mut hasher);
    hasher.finish()
}

/// Reads every log, as a reader could at this moment before the crash.
fn glance(moment: &Moment, history: &History, setup: Setup) -> Glances {
    let mut glances = Glances::new();
    let mut jobs = HashSet::new();
    for op in history.ops() {
        if let Action::Append { job, .. } = &op.action {
            jobs.insert(job.clone());
        }
    }
    if jobs.is_empty() {
        return glances;
    }
    let sim = SimFs::with_clock(moment.live().clone(), later(1, history));
    let Ok((backend, _)) = sim.open(setup.options(&sim)) else {
        return glances;
    };
    for job in jobs {
        let Ok(mut scan) = backend.scan(&job, &ScanOptions::all(), patience()) else {
            continue;
        };
        let mut given = HashSet::new();
        while let Ok(Some(item)) = scan.next() {
            if let ScanItem::Record(record) = item {
                given.insert(record.id);
            }
        }
        glances.push((job, scan.cursor(), given));
    }
    glances
}

fn go_on_from(crash: &Crash, history: &History, glances: &Glances, setup: Setup) -> anyhow::Result<()> {
    let history = &history.after(crash.loss);
    // The clock has stepped back to the time when the run began, so that names by the clock would repeat.
    let sim = SimFs::with_clock(crash.disk().clone(), later(0, history));
    let (backend, _) = sim.open(setup.options(&sim))?;
    for (job, cursor, given) in glances {
        resume(history, crash.loss, &backend, job, cursor, given)?;
    }
    for (job, cursor, _) in glances {
        finds_the_next_event(&backend, job, cursor)
            .with_context(|| format!("a cursor of {job}, over an event after the crash"))?;
    }
    Ok(())
}

/// Appends an event, and checks that a reader with the cursor gets it or a gap. The append may remove an empty segment
/// that lost its relaxed events and that the cursor points into.
fn finds_the_next_event(backend: &FileBackend, job: &JobAddress, cursor: &Cursor) -> anyhow::Result<()> {
    let mut batch = Batch::new();
    batch.push("after the crash")?;
    backend.append(job, &mut batch, &AppendOptions::default(), patience())?;
    let mut scan = match backend.scan(job, &ScanOptions::after(cursor.clone()), patience()) {
        Err(error) if error.kind() == ErrorKind::CursorGap => return Ok(()),
        scan => scan?,
    };
    while let Some(item) = scan.next()? {
        if let ScanItem::Record(record) = item
            && batch.ids().contains(&record.id)
        {
            return Ok(());
        }
    }
    bail!("the next event is skipped")
}
