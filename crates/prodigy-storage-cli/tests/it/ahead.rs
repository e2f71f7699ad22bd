//! The warning of a log whose newest id is dated more than an hour ahead of the clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::Bench;

const WARNING: &str = "more than an hour ahead of the clock";
const JOB: [&str; 4] = ["--repo", "shop", "--job", "job"];

/// An event under an id of version 7 that is dated so far ahead.
fn event_ahead(by: Duration) -> String {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + by;
    let millis = format!("{:012x}", time.as_millis());
    let (high, low) = millis.split_at(8);
    format!("{{\"id\":\"{high}-{low}-7000-8000-000000000001\",\"event\":1}}\n")
}

fn warnings(text: &str) -> usize {
    text.matches(WARNING).count()
}

#[test]
fn append_and_stats_warn_of_a_newest_id_more_than_an_hour_ahead_and_of_no_other() {
    for (minutes, warned) in [(50, false), (70, true), (40_000_000, true)] {
        let bench = Bench::new();
        let append = [&["events", "append", "--with-ids"], &JOB[..]].concat();
        let event = event_ahead(Duration::from_secs(minutes * 60));
        let given = bench.feed(&append, event).code(0);
        // The ids of later events lie above it, so each later append warns, too.
        let append = [&["events", "append"], &JOB[..]].concat();
        let later = bench.feed(&append, "2\n").code(0);
        let stats = bench.run(&[&["events", "stats"], &JOB[..]].concat()).code(0);
        for run in [&given, &later, &stats] {
            assert_eq!(warnings(&run.err), usize::from(warned), "{minutes}: {}", run.err);
        }
        let stats = bench
            .run(&[&["events", "stats", "--json"], &JOB[..]].concat())
            .code(0);
        assert_eq!(stats.json()["newest_id_ahead"], warned);
        // The time of the later event is true all the same.
        let recent = bench.run(&[&["events", "cat", "--payload", "--since", "30m"], &JOB[..]].concat());
        assert!(recent.lines().contains(&"2"), "{}", recent.out);
    }
}
