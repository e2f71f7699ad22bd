//! Takes the root away from running processes: it is restored from a copy, moved, replaced, removed, re-linked, made
//! read-only, or given to another user.
//!
//! Each round does this once. Some processes keep one handle each, with which they write, save under a lock, and
//! read; another process follows. At a random moment the root is taken away. The answers are checked against the
//! times of the requests: see [`judge`].

mod judge;
mod ways;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::dialogue::Dialogue;
use super::power::process::Process;
use super::section::{Lab, Tally};
use judge::{Op, Round, Span};
use ways::{Place, WAYS, Way};

/// The duration of the full form. The short form takes the root away once in each way.
const TIME: Duration = Duration::from_secs(60);
/// The largest random delay before the root is taken away, in milliseconds. It is added to a fixed delay.
const BEFORE: u64 = 400;
/// The time that processes run after the root was taken away. A handle may rely on its last check of the root for one
/// second.
const AFTER: Duration = Duration::from_millis(2_200);
/// The pause between two requests of a process.
const PAUSE: Duration = Duration::from_millis(4);

/// Returns the n-th request of a process, with a unique number.
type Script = fn(usize, usize) -> String;

/// The roles of the processes: a name, and the requests.
const ROLES: &[(&str, Script)] = &[
    ("writer", append),
    ("writer", append),
    ("pusher", push),
    ("reader", |_, _| "latest".to_owned()),
    ("holder", hold),
];

fn append(_: usize, number: usize) -> String {
    format!(r#"append {{"n":{number}}}"#)
}

fn push(_: usize, number: usize) -> String {
    format!(r#"push {{"item_id":"{number}","item_data":{number}}}"#)
}

/// Requests of a process that saves under a lock, which it releases and takes again at times.
fn hold(turn: usize, number: usize) -> String {
    match turn % 12 {
        0 => "lock".to_owned(),
        11 => "unlock".to_owned(),
        _ => format!(r#"save {{"n":{number}}}"#),
    }
}

pub(super) fn run(lab: &Lab<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut random = lab.random("places");
    let begun = Instant::now();
    let mut rounds = 0;
    let mut ways: Vec<&Way> = WAYS.iter().collect();
    ways.retain(|way| match way.lacking() {
        None => true,
        Some(why) => {
            tally.skip(format!("a root that is {}: {why}", way.what));
            false
        }
    });
    // Another user needs access to the path of the store.
    ways::open_to_all(lab)?;
    while rounds == 0 || (!lab.quick || lab.time.is_some()) && begun.elapsed() < lab.time(TIME, TIME) {
        for way in &ways {
            rounds += 1;
            let folder = lab.folder(&format!("{rounds:03}"))?;
            let judged = round(lab, way, &folder, &mut random, &mut tally);
            judged.with_context(|| format!("round {rounds}, a root that is {}", way.what))?;
            tally.add(format!("roots that were {}", way.what), 1_u32);
            std::fs::remove_dir_all(&folder)?;
        }
    }
    Ok(tally)
}

fn round(
    lab: &Lab<'_>,
    way: &Way,
    folder: &Path,
    random: &mut fastrand::Rng,
    tally: &mut Tally,
) -> Result<()> {
    let place = Place::prepare(lab, way, folder)?;
    let is_over = AtomicBool::new(false);
    let begun = AtomicUsize::new(0);
    let ops = Mutex::new(Vec::new());
    let follow = ["events", "follow", "--for", "30s"].iter().chain(&ways::ADDRESS);
    let follower = Process::start(place.by_user(place.tool().command(follow)), Vec::new(), false)?;
    let (went, marker) = thread::scope(|scope| {
        let (place, is_over, begun, ops) = (&place, &is_over, &begun, &ops);
        let roles: Vec<_> = ROLES
            .iter()
            .enumerate()
            .map(|(number, (name, script))| {
                let asked = scope.spawn(move || ask(lab, place, number, *script, is_over, Begins(begun)));
                (name, asked)
            })
            .collect();
        // A process that opens the store only after the change is another matter.
        while begun.load(Ordering::Acquire) < ROLES.len() {
            thread::sleep(PAUSE);
        }
        let struck = strike(place, random, ops);
        is_over.store(true, Ordering::Release);
        for (name, asked) in roles {
            let asked = asked.join().unwrap_or_else(|_| Err(anyhow!("it panicked")));
            ops.lock()
                .map_err(poisoned)?
                .extend(asked.with_context(|| (*name).to_owned())?);
        }
        struck
    })?;
    tally.add("processes at a root that went", ROLES.len() + 1);
    let round = Round {
        place: &place,
        went,
        marker,
        ops: ops.into_inner().map_err(poisoned)?,
        follower: follower.end()?,
    };
    round.check(tally)
}

fn poisoned<T>(_: T) -> anyhow::Error {
    anyhow!("a role panicked")
}

/// Takes the root away at a random moment, then stores an event at its path in a new process. Returns the time of the
/// removal, and the id of the event if it could be stored.
fn strike(
    place: &Place<'_>,
    random: &mut fastrand::Rng,
    ops: &Mutex<Vec<Op>>,
) -> Result<(Span, Option<String>)> {
    thread::sleep(Duration::from_millis(random.u64(..BEFORE)));
    let start = Instant::now();
    place.go()?;
    let went = Span::since(start);
    let marker = place.mark()?;
    while went.end.elapsed() < AFTER {
        if let Some(op) = place.lock_once()? {
            ops.lock().map_err(poisoned)?.push(op);
        }
        thread::sleep(AFTER / 8);
    }
    Ok((went, marker))
}

/// Counts a process when this is dropped: after its first answer, or when it fails before that.
struct Begins<'b>(&'b AtomicUsize);

impl Drop for Begins<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// Runs a process with one handle, and sends requests until the round is over.
fn ask(
    lab: &Lab<'_>,
    place: &Place<'_>,
    number: usize,
    script: Script,
    is_over: &AtomicBool,
    begins: Begins<'_>,
) -> Result<Vec<Op>> {
    let mut begins = Some(begins);
    let mut handle = Dialogue::start(place.by_user(place.tool().command_of(lab.served)))?;
    let mut ops = Vec::new();
    for turn in 0.. {
        if is_over.load(Ordering::Acquire) {
            break;
        }
        let request = script(turn, 1 + turn * ROLES.len() + number);
        let start = Instant::now();
        let answer = handle.ask(&request)?;
        begins.take();
        ops.push(Op {
            by: number,
            request,
            span: Span::since(start),
            answer,
        });
        thread::sleep(PAUSE);
    }
    handle.end()?;
    Ok(ops)
}
