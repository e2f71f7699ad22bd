//! Tests of records that are larger than the limit of the command that reads them.

use crate::support::Bench;

const JOB: [&str; 4] = ["--repo", "shop", "--job", "job"];
/// Larger than the largest buffer of a read, whatever the limit.
const LARGE: usize = 65 << 20;

/// Runs a command that writes, with a limit that is large enough.
fn write(bench: &Bench, command: &[&str], input: String) {
    let mut writer = bench.std([command, &JOB[..]].concat());
    writer.env("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_RECORD_SIZE", "200000000");
    crate::support::run(writer, input).code(0);
}

fn run(bench: &Bench, command: &[&str], more: &[&str]) -> crate::support::Run {
    bench.run(&[command, &JOB[..], more].concat())
}

#[test]
fn an_event_over_the_limit_is_reported_and_the_rest_is_given_with_a_code_of_its_own() {
    let bench = Bench::new();
    let lines = format!("1\n\"{}\"\n3\n", "x".repeat(LARGE));
    write(&bench, &["events", "append"], lines);
    let file = bench.only_file("events/shop/job", "events-", ".jsonl");
    let reports = |run: crate::support::Run| {
        run.code(6)
            .says(file.to_str().unwrap())
            .says("bytes at offset")
            .says("set `backend_config.max_record_size` to")
    };
    let cat = reports(run(&bench, &["events", "cat"], &["--payload"]));
    assert_eq!(cat.lines(), ["1", "3"]);
    let followed = reports(run(&bench, &["events", "follow"], &["--for", "0s"]));
    assert_eq!(followed.lines().len(), 2);
    let cursor = followed
        .err
        .lines()
        .last()
        .unwrap()
        .strip_prefix("cursor: ")
        .unwrap();
    let rest = run(
        &bench,
        &["events", "follow"],
        &["--for", "0s", "--cursor", cursor],
    )
    .code(0);
    assert!(rest.out.is_empty(), "it is reported once");
    let stats = reports(run(&bench, &["events", "stats"], &["--json"])).json();
    assert_eq!(
        (&stats["events"], &stats["too_large"], &stats["damaged"]),
        (&2.into(), &1.into(), &0.into())
    );
    let doctor = bench.run(&["doctor", "--repair"]).code(0);
    assert!(doctor.out.contains("max_record_size"), "{}", doctor.out);
    // The limit that the message recommends is large enough.
    let named = cat.err.split("max_record_size` to ").nth(1).unwrap();
    let named: String = named.chars().take_while(char::is_ascii_digit).collect();
    let mut larger = bench.std([&["events", "stats", "--json"], &JOB[..]].concat());
    larger.env("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_RECORD_SIZE", named);
    assert_eq!(crate::support::run(larger, "").code(0).json()["events"], 3);
}

#[test]
fn an_item_over_the_limit_is_reported_and_the_rest_is_listed_with_a_code_of_its_own() {
    let bench = Bench::new();
    let item =
        |id: &str, len: usize| format!("{{\"item_id\":\"{id}\",\"item_data\":\"{}\"}}\n", "x".repeat(len));
    write(
        &bench,
        &["dlq", "push"],
        item("a", 1) + &item("large", LARGE) + &item("c", 1),
    );
    let listed = run(&bench, &["dlq", "list"], &[]).code(6);
    let listed = listed
        .says("large")
        .says("set `backend_config.max_record_size` to");
    assert_eq!(listed.lines().len(), 3, "{}", listed.out);
    let shown = run(&bench, &["dlq", "show"], &["large"]).code(1);
    let shown = shown
        .says("too large")
        .says("set `backend_config.max_record_size` to");
    assert!(shown.out.is_empty());
}
