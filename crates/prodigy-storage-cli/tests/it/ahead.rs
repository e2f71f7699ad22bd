//! Tests of the warning about a log whose newest id is more than an hour ahead of the clock.

use std::sync::Arc;
use std::time::Duration;

use prodigy_storage::config::MapEnvironment;
use prodigy_storage::{Clock, Storage, SystemClock, Timestamp, Uptime};

use crate::support::Bench;

const WARNING: &str = "more than an hour ahead of the clock";
const JOB: [&str; 4] = ["--repo", "shop", "--job", "job"];

/// A clock that is ahead of the system's clock by this duration.
#[derive(Debug)]
struct Ahead(Duration);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        let by = i64::try_from(self.0.as_nanos()).unwrap();
        Timestamp::from_nanos(SystemClock.now().as_nanos() + by)
    }

    fn uptime(&self) -> Uptime {
        SystemClock.uptime()
    }
}

fn warnings(text: &str) -> usize {
    text.matches(WARNING).count()
}

#[test]
fn append_and_stats_warn_of_a_newest_id_more_than_an_hour_ahead_and_of_no_other() {
    for (minutes, warned) in [(50, false), (70, true), (40_000_000, true)] {
        let bench = Bench::new();
        let storage = Storage::builder()
            .environment(MapEnvironment::new())
            .base_dir(bench.root())
            .clock(Arc::new(Ahead(Duration::from_secs(minutes * 60))))
            .open()
            .unwrap();
        let job = storage.repo("shop").unwrap().job("job").unwrap();
        job.events().append(&1).unwrap();
        drop((job, storage));
        // The ids of later events are above the newest id, so each later append warns, too.
        let append = [&["events", "append"], &JOB[..]].concat();
        let later = bench.feed(&append, "2\n").code(0);
        let stats = bench.run(&[&["events", "stats"], &JOB[..]].concat()).code(0);
        for run in [&later, &stats] {
            assert_eq!(warnings(&run.err), usize::from(warned), "{minutes}: {}", run.err);
        }
        let stats = bench
            .run(&[&["events", "stats", "--json"], &JOB[..]].concat())
            .code(0);
        assert_eq!(stats.json()["newest_id_ahead"], warned);
        // The recorded time of the later event is right nevertheless.
        let recent = bench.run(&[&["events", "cat", "--payload", "--since", "30m"], &JOB[..]].concat());
        assert!(recent.lines().contains(&"2"), "{}", recent.out);
    }
}

#[test]
fn the_doctor_says_what_to_do_about_ids_ahead_of_a_clock_that_is_right() {
    let bench = Bench::new();
    let storage = Storage::builder()
        .environment(MapEnvironment::new())
        .base_dir(bench.root())
        .clock(Arc::new(Ahead(Duration::from_secs(70 * 60))))
        .open()
        .unwrap();
    let job = storage.repo("shop").unwrap().job("job").unwrap();
    job.events().append(&1).unwrap();
    drop((job, storage));
    bench
        .run(&["doctor"])
        .code(0)
        .prints("also: if this clock is right, that of the machine that wrote was wrong");
}
