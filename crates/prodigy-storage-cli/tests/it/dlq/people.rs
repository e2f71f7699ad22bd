//! Tests of output for people: `dlq list`, `dlq analyze`, `dlq show`, and the help.

use super::{fail, listed, of, push, show, take};
use crate::support::Bench;

/// Six items: two timeouts, and one each that is parked, leased, delayed, and without a failure.
fn bench() -> Bench {
    let bench = Bench::new();
    fail(
        &bench,
        "t1",
        "Timeout",
        "no answer after 30 s",
        "2026-11-01T10:00:00Z",
    );
    fail(
        &bench,
        "t2",
        "Timeout",
        "no answer after 31 s",
        "2026-11-20T10:00:00Z",
    );
    fail(
        &bench,
        "t2",
        "Timeout",
        "no answer after 99 s",
        "2026-11-21T10:00:00Z",
    );
    fail(
        &bench,
        "parked",
        "Access",
        "denied\nsecond line",
        "2026-11-02T10:00:00Z",
    );
    bench.run(&of("park", &["parked", "--reason", "no key"])).code(0);
    push(&bench, &["taken", "delayed", "plain"]);
    let taken = take(&bench, &["taken", "delayed", "--lease", "90m"]);
    bench
        .run(&of("release", &[&taken[1].1, "--after", "150m"]))
        .code(0);
    bench
}

fn row<'a>(out: &'a str, id: &str) -> Vec<&'a str> {
    let line = out
        .lines()
        .find(|line| line.split_whitespace().next() == Some(id));
    let cells = line.unwrap_or_else(|| panic!("no {id} in {out}")).split("  ");
    cells.map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn a_list_has_state_attempts_age_and_the_last_error() {
    let out = bench().run(&of("list", &[])).code(0).out;
    let headings: Vec<&str> = out
        .lines()
        .next()
        .unwrap()
        .split("  ")
        .filter(|cell| !cell.is_empty())
        .map(str::trim)
        .collect();
    assert_eq!(headings, ["ITEM", "STATE", "ATTEMPTS", "AGE", "LAST ERROR"]);
    let t2 = row(&out, "t2");
    assert_eq!(t2[1..3], ["pending", "2"]);
    assert!(t2[3].ends_with('d'), "{t2:?}");
    assert_eq!(t2[4], "Timeout: no answer after 99 s");
    let parked = row(&out, "parked");
    assert_eq!((parked[1], parked[4]), ("parked", "no key (Access: denied)"));
    assert!(row(&out, "taken")[1].starts_with("leased 1h "), "{out}");
    assert!(row(&out, "delayed")[1].starts_with("delayed 2h "), "{out}");
    let plain = row(&out, "plain");
    assert_eq!(plain[1..3], ["pending", "1"]);
    assert_eq!(plain[4], "-");
}

#[test]
fn every_filter_selects() {
    let bench = bench();
    let signature = show(&bench, "t1")["error_signature"].as_str().unwrap().to_owned();
    let cases: &[(&[&str], &[&str])] = &[
        (&["t1", "parked"], &["t1", "parked"]),
        (&["--signature", &signature], &["t1", "t2"]),
        (&["--error-type", "Access"], &["parked"]),
        (&["--attempts", "2.."], &["t2"]),
        (&["--attempts", "2"], &["t2"]),
        (&["--error-type", "Timeout", "--attempts", "..1"], &["t1"]),
        (&["--older-than", "1d", "--error-type", "Timeout"], &["t1", "t2"]),
        (&["--newer-than", "1h"], &["taken", "delayed", "plain"]),
        (&["--parked"], &["parked"]),
        (&["--state", "pending"], &["t1", "t2", "plain"]),
        (&["--state", "leased"], &["taken"]),
        (&["--state", "delayed"], &["delayed"]),
        (&["--state", "parked"], &["parked"]),
        (&["--state", "unreadable"], &[]),
        (&["--any"], &["t1", "t2", "parked", "taken", "delayed", "plain"]),
        (&[], &["t1", "t2", "parked", "taken", "delayed", "plain"]),
    ];
    for (filter, wanted) in cases {
        assert_eq!(listed(&bench, filter), *wanted, "{filter:?}");
    }
    for wrong in [["--attempts", "x"], ["--older-than", "soon"], ["--state", "lost"]] {
        bench.run(&of("list", &wrong)).code(2).says(wrong[1]);
    }
    bench.run(&of("list", &["--parked", "--any"])).code(2);
}

#[test]
fn an_analysis_groups_by_signature_the_most_frequent_first() {
    let bench = bench();
    let groups = bench
        .run(&of("analyze", &["--json", "--older-than", "1d"]))
        .code(0)
        .jsonl();
    assert_eq!(groups.len(), 2, "{groups:?}");
    assert_eq!(groups[0]["items"], 2);
    assert_eq!(groups[0]["signature"], show(&bench, "t1")["error_signature"]);
    assert_eq!(groups[0]["samples"], serde_json::json!(["t1", "t2"]));
    assert!(
        groups[0]["first"]
            .as_str()
            .unwrap()
            .starts_with("2026-11-01T10:00:00"),
        "{groups:?}"
    );
    assert!(
        groups[0]["last"]
            .as_str()
            .unwrap()
            .starts_with("2026-11-21T10:00:00"),
        "{groups:?}"
    );
    assert_eq!(
        (&groups[0]["eligible"], &groups[1]["eligible"]),
        (&2.into(), &0.into())
    );
    let out = bench.run(&of("analyze", &[])).code(0).out;
    let headings: Vec<&str> = out.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(headings, ["COUNT", "FIRST", "LAST", "SAMPLE", "SIGNATURE"]);
    assert_eq!(out.lines().count(), 4, "{out}");
    let parked = bench.run(&of("analyze", &["--parked"])).code(0).out;
    assert!(
        parked.lines().count() == 2 && parked.contains("Access: denied second line"),
        "{parked}"
    );
}

#[test]
fn a_parked_item_says_why() {
    let bench = bench();
    let item = show(&bench, "parked");
    assert_eq!(item["parked_reason"], "no key");
    assert_eq!(
        (&item["reprocess_eligible"], &item["manual_review_required"]),
        (&false.into(), &true.into())
    );
    bench.run(&of("unpark", &["parked"])).code(0);
    let item = show(&bench, "parked");
    assert!(item["parked_reason"].is_null(), "{item}");
    assert_eq!(item["reprocess_eligible"], true);
    bench.run(&of("park", &["zz"])).code(4).says("`zz`");
    bench.run(&of("unpark", &["zz"])).code(4).says("`zz`");
    bench
        .run(&of("show", &["zz"]))
        .code(4)
        .says("`zz`")
        .says("dlq list");
}

#[test]
fn a_taken_item_is_parked_by_its_token() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    let token = &take(&bench, &["--all"])[0].1;
    bench.run(&of("park", &[token, "--reason", "broken"])).code(0);
    assert_eq!(listed(&bench, &["--state", "parked"]), ["a"]);
    bench.run(&of("ack", &[token])).code(4);
}

/// The help alone is enough to find every step.
#[test]
fn the_help_names_every_step() {
    let bench = Bench::new();
    assert!(
        bench
            .run(&["--help"])
            .code(0)
            .out
            .contains("find out why, fix them, run them again, park the rest")
    );
    let help = bench.run(&["dlq", "--help"]).code(0).out;
    for step in [
        "dlq analyze",
        "dlq list",
        "dlq show",
        "dlq edit",
        "dlq redrive",
        "dlq park",
    ] {
        assert!(
            help.contains(&format!("prodigy-storage {step} --job J")),
            "{step}: {help}"
        );
    }
    let help = bench.run(&["dlq", "redrive", "--help"]).code(0).out;
    for word in [
        "standard input",
        "PRODIGY_ITEM_ID",
        "75",
        "Ctrl-C",
        "--max-attempts",
        "Examples",
    ] {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_lines_are_cut_and_an_item_is_pretty_printed() {
    let bench = Bench::new();
    fail(&bench, "a", "Long", &"word ".repeat(60), "2026-11-28T10:00:00Z");
    let Some(list) = bench.on_terminal(&of("list", &[])) else {
        return;
    };
    let run = crate::support::run(list, "").code(0);
    let width = run
        .out
        .lines()
        .map(|line| line.trim_end().chars().count())
        .max()
        .unwrap();
    assert!(
        width <= 80 && run.out.contains('\u{2026}'),
        "{width}: {}",
        run.out
    );
    let show = bench.on_terminal(&of("show", &["a"])).unwrap();
    let run = crate::support::run(show, "").code(0);
    assert!(
        run.out.contains("{\r\n  \"item_id\": \"a\",\r\n"),
        "{:?}",
        run.out
    );
    assert!(run.out.contains("note: `a` is pending"), "{}", run.out);
}

#[test]
fn a_command_that_cannot_read_an_item_says_so_and_is_no_success() {
    let bench = Bench::new();
    push(&bench, &["a", "b"]);
    let file = bench.root().join("dlq/shop/job/items.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let foreign = r#"{"item_id":"odd","item_data":1,"failure_count":"three"},"#;
    std::fs::write(&file, text.replacen('{', &format!("{foreign}\n{{"), 1)).unwrap();
    for (arguments, lines) in [
        (&["list"][..], 4),
        (&["list", "--json"], 3),
        (&["list", "--state", "pending"], 3),
        (&["export", "--attempts", "1.."], 3),
        (&["analyze"], 2),
        (&["analyze", "--json"], 1),
        (&["redrive", "--dry-run"], 3),
    ] {
        let run = bench.run(&of(arguments[0], &arguments[1..])).code(6);
        let run = run.says("skipped: odd: ").says("`failure_count`");
        assert_eq!(run.lines().len(), lines, "{arguments:?}: {}", run.out);
    }
    // The export prints whole objects, so nothing is left out.
    assert_eq!(bench.run(&of("export", &[])).code(0).lines().len(), 3);
    bench.run(&of("show", &["odd"])).code(0);
    let taken = bench.run(&of("take", &["--all"])).code(6);
    assert_eq!(taken.says("skipped: 1 item that cannot be read").lines().len(), 2);
    // A take that returned the requested item reports nothing as skipped.
    bench.run(&of("take", &["odd"])).code(0);
}
