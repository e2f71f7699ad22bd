//! Reads through a cache in one process, while another process writes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use prodigy_storage::config::MapEnvironment;
use prodigy_storage::{Checkpoint, Job, Phase, PruneOptions, SaveOptions, Storage};

use crate::support::file_with;

const ROUNDS: u32 = 1_000;

/// A second process: this test program, started as [`the_other_process`].
struct Other {
    child: Child,
    orders: ChildStdin,
    answers: Box<dyn BufRead>,
}

impl Other {
    fn start(root: &Path, phase: Phase) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["two_processes::the_other_process", "--exact", "--ignored"])
            .args(["--nocapture", "--test-threads=1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // The other process answers on standard error, because the test runner writes to standard output.
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = Box::new(BufReader::new(child.stderr.take().unwrap()));
        let mut other = Self {
            child,
            orders,
            answers,
        };
        other.order(&format!("{phase:?}\n{}", root.display()), "ready");
        other
    }

    fn order(&mut self, order: &str, answer: &str) {
        writeln!(self.orders, "{order}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), answer);
    }

    fn end(self) {
        let Self {
            mut child, orders, ..
        } = self;
        drop(orders);
        assert!(child.wait().unwrap().success());
    }
}

#[test]
#[ignore = "the other process of the tests beside it; alone it has nothing to do"]
fn the_other_process() {
    let mut orders = std::io::stdin().lines().map(Result::unwrap);
    let (Some(phase), Some(root)) = (orders.next(), orders.next()) else {
        return;
    };
    let phase = [Phase::Setup, Phase::Map]
        .into_iter()
        .find(|known| format!("{known:?}") == phase)
        .unwrap();
    let storage = Storage::builder()
        .environment(MapEnvironment::new())
        .home(&root)
        .project_dir(&root)
        .base_dir(&root)
        .set("durability", "relaxed")
        .open()
        .unwrap();
    let checkpoints = storage.repo("shop").unwrap().job("job-1").unwrap().checkpoints();
    eprintln!("ready");
    for round in orders {
        let number: u32 = round.parse().unwrap();
        checkpoints.save(phase, &number, SaveOptions::default()).unwrap();
        if number.is_multiple_of(25) {
            checkpoints.prune(2, PruneOptions::default()).unwrap();
        }
        eprintln!("{number}");
    }
}

fn latest(job: &Job, phase: Phase) -> Checkpoint<u32> {
    job.checkpoints().latest(phase).unwrap().unwrap()
}

/// In each round, reads a cached document, has the other process replace it, and reads it again.
fn no_read_is_stale(phase: Phase) -> prodigy_storage::Stats {
    let fixture = file_with(|b| b.set("enable_cache", "true").set("durability", "relaxed"));
    let job = fixture.job();
    let mut other = Other::start(&fixture.folder.path().join("root"), phase);
    let mut stale = Vec::new();
    for round in 1..=ROUNDS {
        other.order(&round.to_string(), &round.to_string());
        let found = latest(&job, phase);
        if found.data != round {
            stale.push((round, found.data));
        }
        assert_eq!(latest(&job, phase).revision, found.revision);
    }
    other.end();
    assert!(stale.is_empty(), "stale reads (round, found): {stale:?}");
    let stats = fixture.storage.stats();
    // In each round the cache answered one of the reads.
    assert_eq!(stats.get("cache.hits"), u64::from(ROUNDS));
    stats
}

#[test]
fn what_another_process_replaced_is_read_at_once() {
    let stats = no_read_is_stale(Phase::Setup);
    // In each round after the first, the cached document was outdated once.
    assert_eq!(stats.get("cache.stale"), u64::from(ROUNDS) - 1);
}

#[test]
fn what_another_process_added_is_the_latest_at_once() {
    no_read_is_stale(Phase::Map);
}
