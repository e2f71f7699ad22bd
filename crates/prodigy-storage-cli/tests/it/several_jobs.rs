//! Tests of `events` commands for one job, for several jobs, and for all jobs.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Bench, send};

const SHOP: [&str; 2] = ["--repo", "shop"];

/// A store with three jobs, to which events were appended in turn.
fn filled() -> Bench {
    let bench = Bench::new();
    for (job, number) in [("a", 1), ("b", 2), ("c", 3), ("a", 4), ("b", 5)] {
        append(&bench, job, number);
    }
    bench
}

fn append(bench: &Bench, job: &str, number: u32) {
    let words = ["events", "append", "--repo", "shop", "--job", job];
    bench.feed(&words, format!("{{\"n\":{number}}}\n")).code(0);
}

/// The job and the number of each line.
fn found(lines: &[Value]) -> Vec<(String, u64)> {
    let of = |line: &Value| {
        assert_eq!(line["repo"], "shop");
        let job = line["job"].as_str().unwrap().to_owned();
        (job, line["record"]["event"]["n"].as_u64().unwrap())
    };
    lines.iter().map(of).collect()
}

fn words<'a>(first: &[&'a str], rest: &[&'a str]) -> Vec<&'a str> {
    [first, &SHOP, rest].concat()
}

#[test]
fn each_command_reads_the_jobs_that_are_named_or_all() {
    let bench = filled();
    let read = |first: &[&str], rest: &[&str]| found(&bench.run(&words(first, rest)).code(0).jsonl());
    let of = |pairs: &[(&str, u64)]| -> Vec<(String, u64)> {
        pairs
            .iter()
            .map(|(job, number)| ((*job).to_owned(), *number))
            .collect()
    };
    let two = ["--job", "b", "--job", "a", "--job", "b"];
    let in_turn = of(&[("b", 2), ("b", 5), ("a", 1), ("a", 4)]);
    for first in [&["events", "cat"][..], &["events", "search", "n"]] {
        assert_eq!(read(first, &two), in_turn, "{first:?}");
        let all = of(&[("a", 1), ("a", 4), ("b", 2), ("b", 5), ("c", 3)]);
        assert_eq!(read(first, &["--all-jobs"]), all, "{first:?}");
    }
    // The newest events of all jobs, ordered by time.
    let newest = of(&[("c", 3), ("a", 4), ("b", 5)]);
    assert_eq!(read(&["events", "tail", "-n", "3"], &["--all-jobs"]), newest);
    assert_eq!(read(&["events", "cat", "--last", "3"], &["--all-jobs"]), newest);
    let held = read(&["events", "tail", "--filter", "n!=4"], &two);
    assert_eq!(held, of(&[("a", 1), ("b", 2), ("b", 5)]));

    let stats = |rest: &[&str]| {
        bench
            .run(&words(&["events", "stats", "--json"], rest))
            .code(0)
            .json()
    };
    for (rest, jobs, events) in [(&two[..], 2, 4), (&["--all-jobs"], 3, 5), (&["--job", "c"], 1, 1)] {
        let stats = stats(rest);
        assert_eq!((&stats["jobs"], &stats["events"]), (&jobs.into(), &events.into()));
    }
    let one = stats(&["--job", "a"])["bytes"].as_u64().unwrap();
    let both = stats(&["--job", "a", "--job", "b"])["bytes"].as_u64().unwrap();
    assert!(both > one && one > 0);
}

#[test]
fn a_job_that_is_missing_fails_at_the_end_when_the_others_were_read() {
    let bench = filled();
    for first in [
        &["events", "cat"][..],
        &["events", "tail"],
        &["events", "search", "n"],
        &["events", "stats"],
    ] {
        let run = bench
            .run(&words(first, &["--job", "aa", "--job", "zz", "--job", "c"]))
            .code(4);
        let run = run
            .says("no job `aa`")
            .says("did you mean `a`?")
            .says("no job `zz`");
        assert!(!run.out.is_empty());
        assert!(bench.run(&words(first, &["--job", "zz"])).code(4).out.is_empty());
        bench.run(&words(first, &[])).code(2).says("--job");
        let empty = [first, &["--repo", "shap", "--all-jobs"]].concat();
        bench.run(&empty).code(4).says("did you mean `shop`?");
    }
}

#[test]
fn tail_follows_all_jobs_or_those_that_are_named_and_prints_each_event_once() {
    for (which, wanted) in [
        (&["--all-jobs"][..], vec![("a", 4), ("b", 5), ("d", 6), ("a", 7)]),
        (
            &["--job", "a", "--job", "d"],
            vec![("a", 1), ("a", 4), ("d", 6), ("a", 7)],
        ),
    ] {
        let bench = filled();
        let follow = words(&["events", "tail", "-n", "2", "-f"], which);
        let mut tail = bench.std(&follow).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
        let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
        let mut printed = vec![next(), next()];
        for (job, number) in [("d", 6), ("c", 6), ("a", 7)] {
            append(&bench, job, number);
            if wanted.contains(&(job, u64::from(number))) || which == ["--all-jobs"] {
                printed.push(next());
            }
        }
        send("INT", tail.id());
        assert_eq!(tail.wait().unwrap().code(), Some(0));
        assert!(lines.next().is_none());
        let printed = found(&printed);
        let selected = printed
            .iter()
            .filter(|(job, _)| wanted.iter().any(|(of, _)| of == job));
        let selected: Vec<(&str, u64)> = selected.map(|(job, number)| (&**job, *number)).collect();
        assert_eq!(selected, wanted, "{printed:?}");
    }
}

#[test]
fn a_time_without_a_zone_is_local() {
    let bench = Bench::new().with("TZ", "XYZ+5");
    let line = r#"{"id":"01930000-0000-7000-8000-000000000001","event":{"n":1}}"#;
    let append = ["events", "append", "--with-ids", "--repo", "shop", "--job", "job"];
    bench.feed(&append, format!("{line}\n")).code(0);
    let line = bench
        .run(&words(&["events", "cat"], &["--job", "job"]))
        .code(0)
        .json();
    let stored: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
    let local = jiff::tz::TimeZone::posix("XYZ+5").unwrap().to_datetime(stored);
    let second = |seconds: i64| {
        let at = local + jiff::SignedDuration::from_secs(seconds);
        at.strftime("%Y-%m-%d %H:%M:%S").to_string()
    };
    let count = |flag: &str, time: &str| {
        let words = words(&["events", "cat"], &["--job", "job", flag, time]);
        bench.run(&words).code(0).lines().len()
    };
    assert_eq!(
        (count("--since", &second(-1)), count("--since", &second(1))),
        (1, 0)
    );
    assert_eq!(
        (count("--until", &second(-1)), count("--until", &second(1))),
        (0, 1)
    );
    // The same time in UTC is five hours earlier than in the local zone.
    assert_eq!(count("--since", &format!("{}Z", second(1))), 1);
}
