//! Tests of several processes on one log. Each process is this test binary, run again.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use prodigy_storage_backend::{AppendOptions, Durability, ErrorKind, EventId, ScanOptions};

use super::support::{NEVER, Place, batch, drain, ids, job, payloads};
use crate::FileOptions;
use crate::fs::RealFs;
use crate::log::Logs;

const ROLE: &str = "PRODIGY_TEST_ROLE";
const ROOT: &str = "PRODIGY_TEST_ROOT";

/// A child process that stops at certain points, reports this, and continues when it reads a line.
struct Actor(Child);

impl Actor {
    fn start(place: &Place, role: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["log::tests::processes::child", "--exact", "--nocapture"])
            .env(ROLE, role)
            .env(ROOT, place.root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Waits for the next report of the child.
    fn ready(&mut self) {
        let mut lines = BufReader::new(self.0.stdout.as_mut().unwrap()).lines();
        assert!(
            lines.any(|line| line.unwrap().contains("ready to go on")),
            "it ended without a word"
        );
    }

    fn continue_run(&mut self) {
        self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn pause() {
    std::io::stdout().write_all(b"\nready to go on\n").unwrap();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

fn open(options: FileOptions) -> Arc<Logs> {
    Arc::new(Logs::new(crate::root::Root::new(
        Arc::new(RealFs::new(&options.root)),
        options,
    )))
}

fn append(store: &Arc<Logs>, payload: &str, id: Option<EventId>, durability: Durability) {
    let mut batch = batch(&[payload]);
    batch.set_ids(id);
    store
        .append(&job("j"), &mut batch, &AppendOptions::new(durability), NEVER)
        .unwrap();
}

/// Runs the role of a child process. Does nothing in an ordinary run of all tests.
#[test]
fn child() {
    let (Some(root), Ok(role)) = (std::env::var_os(ROOT), std::env::var(ROLE)) else {
        return;
    };
    let options = FileOptions::new(root);
    match role.as_str() {
        "hold" => {
            let store = open(options);
            append(&store, "of the child", None, Durability::Relaxed);
            pause();
        }
        "give" => {
            let store = open(options);
            // Each child appends an event first, so that both have a segment of their own.
            append(&store, "begin", None, Durability::Relaxed);
            pause();
            for n in 0..300 {
                append(&store, "x", Some(given(n)), Durability::Relaxed);
            }
        }
        "write" => {
            let store = open(options.max_file_size(2000).compression(true));
            pause();
            for n in 0..400 {
                append(
                    &store,
                    &format!("{} {n}", std::process::id()),
                    None,
                    Durability::Relaxed,
                );
            }
            store.flush(NEVER).unwrap();
        }
        "unlocked" => {
            let store = open(options.file_locks(false));
            append(&store, "of the child", None, Durability::Relaxed);
            pause();
        }
        other => panic!("no role `{other}`"),
    }
}

/// Ids near the current time, since the children use the system's clock.
fn given(n: i64) -> EventId {
    EventId::floor(prodigy_storage_layout::Timestamp::from_nanos(
        1_700_000_000_000_000_000 + n * 1_000_000,
    ))
}

#[test]
fn a_segment_that_another_process_holds_is_not_taken_until_that_dies() {
    let place = Place::new();
    let mut child = Actor::start(&place, "hold");
    child.ready();
    let own = place.store();
    place.append(&own, &["own"]).unwrap();
    assert_eq!(place.files().len(), 2);
    child.kill();
    let next = place.store();
    place.append(&next, &["next"]).unwrap();
    assert_eq!(place.files().len(), 2, "the dead one's is gone on in");
    let mut read = place.payloads(&next);
    read.sort();
    assert_eq!(read, ["next", "of the child", "own"]);
}

#[test]
fn one_id_that_two_processes_append_at_once_is_read_once() {
    let place = Place::new();
    let mut children = [Actor::start(&place, "give"), Actor::start(&place, "give")];
    children.iter_mut().for_each(Actor::ready);
    children.iter_mut().for_each(Actor::continue_run);
    let reader = place.store();
    let (mut cursor, mut followed) = (None, Vec::new());
    for _ in 0..20 {
        let (items, next) = place.after(&reader, cursor);
        followed.extend(ids(&items));
        cursor = Some(next);
    }
    children.into_iter().for_each(Actor::end);
    let items = drain(&mut *place.scan(&reader, &ScanOptions::all()));
    assert_eq!(items.len(), 302);
    followed.extend(ids(&place.after(&reader, cursor).0));
    followed.sort();
    let mut once = followed.clone();
    once.dedup();
    assert_eq!((followed.len(), once.len()), (302, 302));
}

#[test]
fn four_processes_that_seal_and_compress_lose_nothing_to_a_follower() {
    let place = Place::new();
    let mut children: Vec<_> = (0..4).map(|_| Actor::start(&place, "write")).collect();
    children.iter_mut().for_each(Actor::ready);
    children.iter_mut().for_each(Actor::continue_run);
    let reader = place.store();
    let (mut cursor, mut followed) = (None, Vec::new());
    loop {
        let running = children
            .iter_mut()
            .any(|child| child.0.try_wait().unwrap().is_none());
        let (items, next) = place.after(&reader, cursor);
        followed.extend(payloads(&items));
        cursor = Some(next);
        if !running {
            break;
        }
    }
    children.into_iter().for_each(Actor::end);
    assert_eq!(followed.len(), 1600);
    followed.sort();
    followed.dedup();
    assert_eq!(followed.len(), 1600);
    assert_eq!(place.items(&reader).len(), 1600);
}

#[test]
fn a_process_without_file_locks_is_alone_in_the_root() {
    for (role, locks) in [("unlocked", true), ("unlocked", false), ("hold", false)] {
        let place = Place::new();
        let mut child = Actor::start(&place, role);
        child.ready();
        let before = place.files();
        let store = place.with(place.options().file_locks(locks));
        let error = place.append(&store, &["own"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LockUnavailable, "{role}: {error}");
        let names = [format!("process {}", child.0.id()), "enable_file_locks".into()];
        assert!(names.iter().all(|name| error.why().contains(name)), "{error}");
        assert!(error.hint().is_some());
        // A reader takes no lock, so it is not refused.
        assert_eq!(
            place.items(&place.with(place.options().read_only(true))).len(),
            before.len()
        );
        assert_eq!(place.files(), before);
        child.kill();
        place.append(&store, &["own"]).unwrap();
    }
}
