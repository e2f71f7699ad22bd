//! Tests of `events cat` and `events stats`.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use crate::support::{Bench, SAVE};

const CAT: [&str; 6] = ["events", "cat", "--repo", "shop", "--job", "job"];

fn cat<'a>(more: &[&'a str]) -> Vec<&'a str> {
    CAT.iter().chain(more).copied().collect()
}

#[test]
fn lines_are_printed_as_they_are_stored() {
    let bench = Bench::new();
    bench.append("{\"n\":1}\n{\"n\":2}\n");
    let file = bench.only_file("events/shop/job", "events-", ".jsonl");
    assert_eq!(
        bench.run(&cat(&[])).code(0).out,
        std::fs::read_to_string(file).unwrap()
    );
}

#[test]
fn a_field_a_correlation_id_and_an_agent_can_be_asked_for() {
    let bench = Bench::new();
    let storage = prodigy_storage::Storage::builder()
        .environment(prodigy_storage::config::MapEnvironment::new())
        .base_dir(bench.root())
        .open()
        .unwrap();
    let events = storage.repo("shop").unwrap().job("job").unwrap().events();
    for number in 0..4 {
        let payload = serde_json::json!({"agent_id": format!("a-{}", number % 2), "even": (number % 2 == 0).then_some(1)});
        let run = if number < 3 { "run-1" } else { "run-2" };
        let request = prodigy_storage::AppendOptions::new().correlation_id(run);
        events.append_with(&payload, request).unwrap();
    }
    drop((events, storage));
    for (flags, count) in [
        (&["--correlation-id", "run-1"][..], 3),
        (&["--correlation-id", "run-1", "--agent", "a-0"], 2),
        (&["--has", "even"], 4),
        (&["--has", "odd"], 0),
    ] {
        assert_eq!(bench.run(&cat(flags)).code(0).lines().len(), count, "{flags:?}");
        let mut stats = vec!["events", "stats", "--repo", "shop", "--job", "job", "--json"];
        stats.extend(flags);
        assert_eq!(bench.run(&stats).code(0).json()["events"], count);
        let mut follow = vec![
            "events", "follow", "--repo", "shop", "--job", "job", "--for", "0s",
        ];
        follow.extend(flags);
        assert_eq!(bench.run(&follow).code(0).lines().len(), count);
    }
}

#[test]
fn the_last_events_and_the_cursor_of_the_end_are_found() {
    let bench = Bench::new();
    bench.append("1\n2\n3\n");
    let last = bench.run(&cat(&["--payload", "--last", "2"])).code(0);
    assert_eq!(last.out, "2\n3\n");
    bench.append("{\"a\":1}\n{\"a\":2}\n4\n");
    let selected = bench
        .run(&cat(&["--payload", "--last", "1", "--has", "a"]))
        .code(0);
    assert_eq!(selected.out, "{\"a\":2}\n");
    let recent = bench
        .run(&cat(&["--payload", "--last", "2", "--since", "1h"]))
        .code(0);
    assert_eq!(recent.out, "{\"a\":2}\n4\n");
    let none = bench.run(&cat(&["--last", "2", "--until", "1h"])).code(0);
    assert_eq!(none.out, "");
    let end = ["events", "end", "--repo", "shop", "--job", "job"];
    let cursor = bench.run(&end).code(0).out;
    let json = bench.run(&[&end[..], &["--json"]].concat()).code(0).json();
    assert_eq!(json["cursor"], cursor.trim_end());
    bench.append("5\n");
    let follow = [
        "events", "follow", "--repo", "shop", "--job", "job", "--for", "0s", "--cursor",
    ];
    let later = bench.run(&[&follow[..], &[cursor.trim_end()]].concat()).code(0);
    assert_eq!(later.json()["event"], 5);
}

#[test]
fn a_filter_passes_a_record_that_holds_what_no_number_type_holds_and_rounds_nothing() {
    let bench = Bench::new();
    bench.append("{\"s\":\"a\",\"n\":9007199254740993}\n{\"s\":\"a\",\"n\":9007199254740992}\n");
    // An append refuses a number that no type can hold, but another program may have written one.
    let foreign = bench
        .only_file("events/shop/job", "events-", ".jsonl")
        .with_file_name("events-20251115_073606.jsonl");
    let line = "{\"id\":\"6f1c1f5e-7c1a-4a53-9d2e-0a3b1c2d3e4f\",\"timestamp\":\"2025-11-15T07:36:06Z\",\"event\":{\"s\":\"a\",\"n\":1e999}}\n";
    std::fs::write(foreign, line).unwrap();
    let found = |filter: &str| {
        let run = bench.run(&cat(&["--payload", "--filter", filter])).code(0);
        let note = "note: 1 event without a checksum, not verified\n";
        assert_eq!(run.err, if run.out.contains("1e999") { note } else { "" });
        run.out
    };
    assert_eq!(found("s=a").lines().count(), 3);
    assert_eq!(
        found("n=9007199254740993"),
        "{\"s\":\"a\",\"n\":9007199254740993}\n"
    );
    assert_eq!(found("n=1e999"), "{\"s\":\"a\",\"n\":1e999}\n");
}

#[test]
fn since_and_until_bound_the_time() {
    let bench = Bench::new();
    bench.append("1\n");
    let time = bench.run(&cat(&[])).json()["timestamp"]
        .as_str()
        .unwrap()
        .to_owned();
    let count = |more: &[&str]| bench.run(&cat(more)).code(0).lines().len();
    assert_eq!(count(&["--since", &time]), 1);
    assert_eq!(count(&["--until", &time]), 0);
    assert_eq!(count(&["--since", "1h", "--until", "2200-01-01"]), 1);
    assert_eq!(count(&["--since", "2200-01-01"]), 0);
}

#[test]
fn damage_is_told_and_the_rest_is_given() {
    let bench = Bench::new();
    bench.append("1\n2\n3\n");
    let file = bench.only_file("events/shop/job", "events-", ".jsonl");
    let mut bytes = std::fs::read(&file).unwrap();
    let second = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    // Changes a byte of the payload, which comes after the id and the timestamp.
    bytes[second + 95] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let run = bench.run(&cat(&["--payload"])).code(5);
    let place = format!("damaged: {} at offset {second}", file.display());
    assert_eq!(run.says(&place).out, "1\n3\n");
    let stats = bench
        .run(&["events", "stats", "--repo", "shop", "--job", "job", "--json"])
        .code(5)
        .json();
    assert_eq!((&stats["events"], &stats["damaged"]), (&2.into(), &1.into()));
    assert_eq!(
        std::fs::read(&file).unwrap(),
        bytes,
        "a reader has changed the file"
    );
}

#[test]
fn lines_of_other_programs_are_given_with_a_note() {
    let bench = Bench::new();
    let line = r#"{"id":"6f1c1f5e-7c1a-4a53-9d2e-0a3b1c2d3e4f","timestamp":"2025-07-25T11:01:04Z","event":{"k":[1]}}"#;
    bench.write(
        "home/.prodigy/events/shop/job/events-20250725T110104.000000000Z.jsonl",
        format!("{line}\n"),
    );
    let run = bench
        .run(&cat(&[]))
        .code(0)
        .says("1 event without a checksum, not verified");
    assert_eq!(run.lines(), [line]);
    assert_eq!(bench.run(&cat(&["--payload"])).code(0).out, "{\"k\":[1]}\n");
    let stats = bench
        .run(&["events", "stats", "--repo", "shop", "--job", "job", "--json"])
        .code(0)
        .json();
    assert_eq!(stats["unverified"], 1);
    assert_eq!(stats["first"], "2025-07-25T11:01:04.000000Z");
}

#[test]
fn a_job_that_is_not_known_is_told_and_one_without_events_is_empty() {
    let bench = Bench::new();
    bench.run(&cat(&[])).code(4).says("no job `job`");
    bench
        .run(&["events", "stats", "--repo", "shop", "--job", "job"])
        .code(4);
    assert!(!bench.root().exists());
    bench.feed(&SAVE, "1").code(0);
    assert!(bench.run(&cat(&[])).code(0).out.is_empty());
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let bench = Bench::new();
    let lines: String = (0..4000).map(|number| format!("\"{number:0>100}\"\n")).collect();
    bench
        .feed(
            &[
                "events", "append", "--repo", "shop", "--job", "job", "--batch", "1000",
            ],
            lines,
        )
        .code(0);
    let mut child = bench
        .std(cat(&[]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut output = BufReader::with_capacity(64, child.stdout.take().unwrap());
    output.read_line(&mut first).unwrap();
    drop(output);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(said, "");
    assert!(first.starts_with("{\"id\":"));
}

#[test]
fn the_last_events_beside_damage_are_as_many_as_were_asked_for() {
    let lines: String = (0..100).map(|number| format!("{{\"n\":{number}}}\n")).collect();
    for damaged in [0, 50, 97, 98, 99] {
        let bench = Bench::new();
        bench.append(&lines);
        let file = bench.only_file("events/shop/job", "events-", ".jsonl");
        let text = std::fs::read_to_string(&file).unwrap();
        let wrong = text.replace(&format!("\"n\":{damaged}}}"), &format!("\"x\":{damaged}}}"));
        std::fs::write(&file, wrong).unwrap();
        for count in [0, 1, 3] {
            let count_text = count.to_string();
            for command in [&["tail", "-n"][..], &["cat", "--last"]] {
                let words = [
                    &["events"],
                    command,
                    &[&count_text, "--repo", "shop", "--job", "job"],
                ]
                .concat();
                let run = bench.run(&words);
                assert_eq!(
                    run.lines().len(),
                    count,
                    "{words:?}, event {damaged}: {}",
                    run.out
                );
            }
        }
    }
}

#[test]
fn a_range_that_ends_before_it_begins_is_refused() {
    let bench = Bench::new();
    bench.append("1\n");
    let job = [
        "--repo",
        "shop",
        "--job",
        "job",
        "--since",
        "2026-12-01",
        "--until",
        "2026-11-30",
    ];
    for command in ["cat", "tail", "stats"] {
        let refused = bench.run(&[&["events", command][..], &job].concat()).code(2);
        refused.says("`--since` is after `--until`");
    }
    let refused = bench
        .run(&[&["events", "search", "1"][..], &job].concat())
        .code(2);
    refused.says("`--since` is after `--until`");
}

#[test]
fn a_command_without_a_job_names_the_jobs() {
    let bench = Bench::new();
    bench.append("1\n");
    let other = ["events", "append", "--repo", "shop", "--job", "other"];
    bench.feed(&other, "1\n").code(0);
    for command in [
        &["events", "tail"][..],
        &["events", "cat"],
        &["events", "follow"],
        &["checkpoint", "list"],
        &["dlq", "list"],
    ] {
        let refused = bench.run(&[command, &["--repo", "shop"]].concat()).code(2);
        refused
            .says("no job is named")
            .says("the jobs are `job`, `other`")
            .says("--job JOB");
    }
    let new = Bench::new();
    new.run(&["events", "tail"]).code(2).says("there are no jobs");
    assert!(!new.root().exists());
}
