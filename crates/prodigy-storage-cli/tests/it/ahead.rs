//! Tests of the warning about a log whose newest id is more than an hour ahead of the clock.

use std::sync::Arc;
use std::time::Duration;

use prodigy_storage::config::MapEnvironment;
use prodigy_storage::{Clock, Phase, SaveOptions, Storage, SystemClock, Timestamp, Uptime};

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

/// A store with an event, a checkpoint and an entry in the audit log that were written two days ahead of the clock.
fn written_ahead() -> Bench {
    let bench = Bench::new();
    let storage = Storage::builder()
        .environment(MapEnvironment::new())
        .base_dir(bench.root())
        .clock(Arc::new(Ahead(Duration::from_secs(2 * 24 * 60 * 60))))
        .open()
        .unwrap();
    for repo in ["shop", "_audit"] {
        let job = storage.repo(repo).unwrap();
        let job = job.job(if repo == "shop" { "job" } else { "clean" }).unwrap();
        job.events().append(&1).unwrap();
        if repo == "shop" {
            job.checkpoints()
                .save(Phase::Map, &1, SaveOptions::default())
                .unwrap();
        }
    }
    bench
}

/// Sets the dates of all files of the log to those that a clock ahead by two days gives.
fn date_ahead(bench: &Bench, below: &str) {
    let later = std::time::SystemTime::now() + Duration::from_secs(2 * 24 * 60 * 60);
    for path in crate::support::tree(&bench.root().join(below)) {
        if path.is_file() {
            std::fs::File::open(path).unwrap().set_modified(later).unwrap();
        }
    }
}

const LOOKS: [&str; 3] = ["status", "health", "doctor"];

#[test]
fn dates_of_a_wrong_clock_that_is_right_again_are_no_warning_and_the_doctor_says_until_when() {
    let bench = written_ahead();
    for look in LOOKS {
        let run = bench.run(&[look]).code(0);
        assert!(!run.out.contains("warning  "), "{}", run.out);
    }
    bench
        .run(&["doctor", "--verbose"])
        .code(0)
        .prints("note     ahead of clock: ")
        .prints("to do: nothing: until 20");
}

#[test]
fn all_three_warn_of_files_that_are_dated_ahead_and_one_command_ends_it_if_this_clock_is_right() {
    for area in ["events/shop", "events/_audit", "state/shop"] {
        let bench = written_ahead();
        date_ahead(&bench, area);
        let mut commands = Vec::new();
        for look in LOOKS {
            let run = bench.run(&[look]).code(0);
            assert_eq!(run.out.matches("warning  ").count(), 1, "{area}: {}", run.out);
            let run = run.prints("also: if this clock is right, that of the machine that wrote was wrong");
            let line = run.out.lines().find(|line| line.contains("`find ")).unwrap();
            commands.push(line.split('`').nth(1).unwrap().to_owned());
        }
        commands.dedup();
        assert_eq!(commands.len(), 1, "{commands:?}");
        #[cfg(unix)]
        crate::planted::shell(&bench, &commands[0]).code(0);
        for look in LOOKS {
            let run = bench.run(&[look]).code(0);
            assert!(!run.out.contains("warning  "), "{area}: {}", run.out);
        }
    }
}
