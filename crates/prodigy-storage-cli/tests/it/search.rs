//! Tests of `events search` and `events tail`.

use crate::support::{Bench, run};

const OF: [&str; 4] = ["--repo", "shop", "--job", "job"];

fn filled() -> Bench {
    let bench = Bench::new();
    bench.append(concat!(
        "{\"agent\":{\"id\":1},\"status\":\"done\"}\n",
        "{\"agent\":{\"id\":2},\"status\":\"failed\",\"why\":\"no answer in 30 s\"}\n",
        "{\"agent\":{\"id\":3},\"status\":\"failed\"}\n",
        "{\"agent\":{\"id\":4},\"status\":\"done\"}\n",
    ));
    let append = ["events", "append", "--repo", "shop", "--job", "other"];
    bench.feed(&append, "{\"status\":\"failed early\"}\n").code(0);
    bench
}

fn payloads(bench: &Bench, words: &[&str]) -> Vec<u64> {
    let found = bench
        .run(&[words, &["--output", "payload"]].concat())
        .code(0)
        .jsonl();
    found
        .iter()
        .map(|payload| payload["agent"]["id"].as_u64().unwrap())
        .collect()
}

#[test]
fn search_prints_the_events_whose_payload_matches() {
    let bench = filled();
    let search = |more: &[&str]| payloads(&bench, &[&["events", "search"], &OF[..], more].concat());
    assert_eq!(search(&["answer in [0-9]+ s"]), [2]);
    assert_eq!(search(&["(?i)FAILED"]), [2, 3]);
    assert_eq!(search(&["failed", "--filter", "agent.id!=2"]), [3]);
    assert_eq!(search(&["failed", "--since", "2200-01-01"]), [0; 0]);
    // The envelope is not searched.
    assert_eq!(search(&["crc"]), [0; 0]);
}

#[test]
fn search_covers_several_jobs_or_all_and_names_the_job_of_each_event() {
    let bench = filled();
    let jobs = |words: &[&str]| -> Vec<String> {
        let found = bench.run(words).code(0).jsonl();
        found
            .iter()
            .map(|line| {
                assert_eq!(line["repo"], "shop");
                assert!(
                    line["record"]["event"]["status"]
                        .as_str()
                        .unwrap()
                        .starts_with("failed")
                );
                line["job"].as_str().unwrap().to_owned()
            })
            .collect()
    };
    let all = ["events", "search", "--repo", "shop", "failed", "--all-jobs"];
    assert_eq!(jobs(&all), ["job", "job", "other"]);
    let two = [
        "events", "search", "--repo", "shop", "failed", "--job", "other", "--job", "job",
    ];
    assert_eq!(jobs(&two), ["other", "job", "job"]);
    let one = bench.run(
        &[
            &["events", "search", "early"],
            &["--repo", "shop", "--job", "other"][..],
        ]
        .concat(),
    );
    assert!(one.code(0).out.starts_with("{\"id\":"));
}

#[test]
fn a_pattern_that_is_none_and_a_job_that_is_not_there_are_refused() {
    let bench = filled();
    let search =
        |pattern: &str, job: &str| bench.run(&["events", "search", pattern, "--repo", "shop", "--job", job]);
    search("a(b", "job")
        .code(2)
        .says("not a regular expression: unclosed group");
    search("x", "jib").code(4).says("did you mean `job`?");
    bench.run(&["events", "search", "x"]).code(2).says("--job");
}

#[test]
fn a_filter_may_ask_for_another_value_or_a_pattern() {
    let bench = filled();
    let cat = |filter: &str| {
        payloads(
            &bench,
            &[&["events", "cat", "--filter", filter], &OF[..]].concat(),
        )
    };
    assert_eq!(cat("status!=done"), [2, 3]);
    assert_eq!(cat("why!=x"), [1, 2, 3, 4]);
    assert_eq!(cat("why~^no .* 30"), [2]);
    assert_eq!(cat("agent.id~[34]"), [3, 4]);
    assert_eq!(
        cat("status~^d.?=?one$"),
        [1, 4],
        "the first of `=` and `~` ends the field"
    );
    for (filter, why) in [
        ("status~(", "unclosed group"),
        ("~x", "a filter is"),
        ("!=x", "a filter is"),
    ] {
        let refused = bench.run(&[&["events", "cat", "--filter", filter], &OF[..]].concat());
        refused.code(2).says(why);
    }
}

#[test]
fn tail_prints_the_last_events_that_hold() {
    let bench = filled();
    let tail = |more: &[&str]| payloads(&bench, &[&["events", "tail"], &OF[..], more].concat());
    assert_eq!(tail(&[]), [1, 2, 3, 4]);
    assert_eq!(tail(&["-n", "2"]), [3, 4]);
    assert_eq!(tail(&["-n", "1", "--filter", "status=failed"]), [3]);
    assert_eq!(tail(&["-n", "0"]), [0; 0]);
    bench
        .run(&["events", "tail", "--repo", "shop", "--job", "none"])
        .code(4)
        .says("no job `none`");
}

#[test]
fn tail_follows_behind_what_it_printed() {
    let bench = filled();
    let words = [&["events", "tail", "-n", "1", "-f", "--for", "0s"], &OF[..]].concat();
    assert_eq!(payloads(&bench, &words), [4]);
    // An event that is appended later is printed once, and only if it matches the filter.
    let words = [
        &[
            "events",
            "tail",
            "-n",
            "1",
            "-f",
            "--filter",
            "status=failed",
            "-o",
            "payload",
        ],
        &OF[..],
    ]
    .concat();
    let mut tail = bench
        .std(&words)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(tail.stdout.take().unwrap()));
    assert_eq!(
        lines.next().unwrap().unwrap(),
        "{\"agent\":{\"id\":3},\"status\":\"failed\"}"
    );
    bench.append("{\"status\":\"done\"}\n{\"status\":\"failed\",\"n\":5}\n");
    assert_eq!(lines.next().unwrap().unwrap(), "{\"status\":\"failed\",\"n\":5}");
    crate::support::send("INT", tail.id());
    assert_eq!(tail.wait().unwrap().code(), Some(0));
    assert!(lines.next().is_none());
}

#[test]
fn the_short_form_has_time_and_payload_and_json_is_the_line_as_it_is_stored() {
    let bench = filled();
    let short = bench
        .run(&[&["events", "tail", "-n", "1", "-o", "short"], &OF[..]].concat())
        .code(0)
        .out;
    let (time, payload) = short.split_at(20);
    assert!(time.starts_with("20") && time.ends_with('Z'), "{short}");
    assert_eq!(payload, "  {\"agent\":{\"id\":4},\"status\":\"done\"}\n");
    let json = bench
        .run(&[&["events", "tail", "-n", "1"], &OF[..]].concat())
        .code(0)
        .out;
    let file = bench.only_file("events/shop/job", "events-", ".jsonl");
    assert!(std::fs::read_to_string(file).unwrap().ends_with(&json));
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_an_event_is_one_line_that_fits() {
    let bench = Bench::new();
    bench.append(&format!("\"{}\"\n", "x".repeat(300)));
    for command in ["cat", "tail"] {
        let Some(script) = bench.on_terminal(&[&["events", command], &OF[..]].concat()) else {
            return;
        };
        let shown = run(script, "").code(0).out;
        assert_eq!(shown.trim_end().chars().count(), 80, "{shown:?}");
        assert!(shown.trim_end().ends_with("x\u{2026}"), "{shown:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_events_have_columns_and_in_a_pipe_they_are_json() {
    let bench = Bench::new().with("NO_COLOR", "1").with("TZ", "UTC");
    let progress = r#"{"event_type":"agent_progress","agent_id":"a-7","worktree":"wt-0","step":"run"}"#;
    for job in ["job", "job-2"] {
        let append = ["events", "append", "--repo", "shop", "--job", job];
        bench.feed(&append, format!("{progress}\n")).code(0);
    }
    let one = "agent_progress  wt-0  agent_id=a-7 step=run";
    let of_one = &OF[..];
    for (command, of, columns, wanted) in [
        (&["events", "cat"][..], of_one, 60, vec![one]),
        (&["events", "tail"], of_one, 80, vec![one]),
        (&["events", "search", "run"], of_one, 80, vec![one]),
        (&["events", "follow", "--for", "0s"], of_one, 80, vec![one]),
        (
            &["events", "cat"],
            &["--repo", "shop", "--all-jobs"],
            100,
            vec![
                "job  agent_progress  wt-0  agent_id=a-7 step=run",
                "job-2  agent_progress  wt-0  agent_id=a-7 step=run",
            ],
        ),
        (
            &["events", "follow", "--for", "0s"],
            &["--all-repos"],
            100,
            vec![
                "shop/job  agent_progress  wt-0  agent_id=a-7 step=run",
                "shop/job-2  agent_progress  wt-0  agent_id=a-7 step=run",
            ],
        ),
    ] {
        let arguments = [command, of].concat();
        let Some(script) = bench.on_terminal_of(columns, 24, &arguments) else {
            return;
        };
        let shown = run(script, "").code(0).out.replace('\r', "");
        let lines: Vec<_> = shown.lines().filter(|line| !line.starts_with("cursor")).collect();
        assert_eq!(lines.len(), wanted.len(), "{arguments:?}: {shown}");
        for (line, wanted) in lines.iter().zip(wanted) {
            let (time, rest) = line.split_once("Z  ").unwrap();
            assert_eq!(rest, wanted, "{arguments:?}");
            assert_eq!(time.len(), if columns < 80 { 14 } else { 19 }, "{time}");
        }
        let piped = bench.run(&arguments).code(0).jsonl();
        let event = |line: &serde_json::Value| line.get("record").unwrap_or(line)["event"].to_string();
        assert!(piped.iter().all(|line| event(line).contains("agent_progress")));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_times_are_local_with_their_offset_once() {
    let bench = Bench::new().with("TZ", "XYZ+5");
    bench.append("1\n2\n");
    let stored = bench.run(&[&["events", "cat"], &OF[..]].concat()).code(0);
    let zone = jiff::tz::TimeZone::posix("XYZ+5").unwrap();
    let local = |line: &serde_json::Value, form: &str| {
        let stored: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
        zone.to_datetime(stored).strftime(form).to_string()
    };
    let events = stored.jsonl();
    let shown = |words: &[&str]| {
        let script = bench.on_terminal(&[words, &OF[..]].concat())?;
        Some(run(script, "").code(0).out.replace('\r', ""))
    };
    let Some(cat) = shown(&["events", "cat"]) else {
        return;
    };
    let times: Vec<_> = events
        .iter()
        .map(|line| local(line, "%Y-%m-%d %H:%M:%S"))
        .collect();
    let wanted = format!("-- local times, UTC-05 --\n{}   1\n{}   2\n", times[0], times[1]);
    assert_eq!(cat, wanted);
    let stats = shown(&["events", "stats"]).unwrap();
    let last = format!("last        {}-05", local(&events[1], "%Y-%m-%dT%H:%M:%S"));
    assert!(stats.contains(&last), "{stats}");
    // In a pipe the same form is in UTC.
    let piped = bench
        .run(&[&["events", "cat", "-o", "short"], &OF[..]].concat())
        .code(0);
    let utc = events[0]["timestamp"]
        .as_str()
        .unwrap()
        .split('.')
        .next()
        .unwrap()
        .replace('T', " ");
    assert!(piped.out.starts_with(&format!("{utc}Z  1\n")), "{}", piped.out);
    bench.append("\"\u{202e}\u{9b}31m\"\n");
    let piped = bench
        .run(&[&["events", "cat", "-o", "short"], &OF[..]].concat())
        .code(0);
    assert!(!piped.out.contains(['\u{202e}', '\u{9b}']), "{}", piped.out);
}

#[test]
fn stats_count_kinds_and_worktrees_and_a_worktree_selects_events() {
    let bench = Bench::new();
    bench.append(concat!(
        "{\"event_type\":\"agent_started\",\"worktree\":\"wt-1\"}\n",
        "{\"event_type\":\"agent_started\",\"worktree\":\"wt-2\"}\n",
        "{\"AgentFailed\":{\"worktree\":\"wt-2\"}}\n",
        "\"no object\"\n",
    ));
    let job = ["--repo", "shop", "--job", "job"];
    let stats = |more: &[&str]| {
        bench
            .run(&[&["events", "stats"], &job[..], more].concat())
            .code(0)
    };
    let json = stats(&["--json"]).json();
    assert_eq!(
        json["kinds"],
        serde_json::json!({"agent_started": 2, "AgentFailed": 1})
    );
    assert_eq!(json["worktrees"], serde_json::json!({"wt-1": 1, "wt-2": 2}));
    let spans = json["per_span"].as_array().unwrap();
    assert_eq!(spans.iter().map(|count| count.as_u64().unwrap()).sum::<u64>(), 4);
    let text = stats(&[]).out;
    for wanted in [["kinds", "2", "agent_started"], ["worktrees", "2", "wt-2"]] {
        let mut lines = text.lines();
        assert!(
            lines.any(|line| line.split_whitespace().eq(wanted)),
            "no {wanted:?} in {text}"
        );
    }
    let one = stats(&["--worktree", "wt-1", "--json"]).json();
    assert_eq!(one["events"], 1);
    let cat = [&["events", "cat", "--payload", "--worktree", "wt-2"][..], &job].concat();
    assert!(
        bench
            .run(&cat)
            .code(0)
            .out
            .starts_with("{\"event_type\":\"agent_started\",\"worktree\":\"wt-2\"}")
    );
}

#[test]
fn a_filter_with_an_unknown_operator_and_an_unknown_correlation_id_are_refused() {
    let bench = Bench::new();
    bench.append("{\"a\":1}\n");
    let cat = ["events", "cat", "--repo", "shop", "--job", "job"];
    for filter in ["a!~x", "a>=1", "a<=1", "a<~1"] {
        let run = bench.run(&[&cat[..], &["--filter", filter]].concat()).code(2);
        run.says("a filter is FIELD=VALUE, FIELD!=VALUE or FIELD~PATTERN");
    }
    for filter in ["a!=2", "a=1", "a~1"] {
        let run = bench.run(&[&cat[..], &["--filter", filter]].concat()).code(0);
        assert_eq!(run.lines().len(), 1, "{filter}");
    }
    bench
        .run(&[&cat[..], &["--correlation-id", "nope"]].concat())
        .code(4)
        .says("no event is of the correlation id `nope`")
        .says("`prodigy-storage events stats --repo shop --job job`");
    let follow = [
        "events", "follow", "--repo", "shop", "--job", "job", "--for", "0s", "--cursor",
    ];
    for cursor in ["", "bad"] {
        bench
            .run(&[&follow[..], &[cursor]].concat())
            .code(2)
            .says("it is not a cursor");
    }
}

#[test]
fn a_time_ago_may_have_a_minus_and_an_original_time_needs_a_range() {
    let bench = Bench::new();
    bench.append("1\n");
    for since in [&["--since", "-5m"][..], &["--since=-5m"], &["--since", "5m"]] {
        let cat = bench.run(&[&["events", "cat"], &OF[..], since].concat()).code(0);
        assert_eq!(cat.lines().len(), 1, "{since:?}");
    }
    for command in ["stats", "cat", "tail"] {
        bench
            .run(&[&["events", command, "--original-time"], &OF[..]].concat())
            .code(2)
            .says("add `--since` or `--until`");
    }
}
