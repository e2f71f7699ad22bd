//! Tests of `dlq take`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::{listed, of, push, show, take};
use crate::support::{Bench, close_for_all};

#[test]
fn a_taken_item_is_gone_for_others_until_it_is_released_or_acknowledged() {
    let bench = Bench::new();
    push(&bench, &["a", "b", "c"]);
    let first = take(&bench, &["--limit", "2"]);
    assert_eq!(
        first.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(),
        ["a", "b"]
    );
    let listed = bench.run(&of("list", &["--json"])).code(0);
    assert_eq!(listed.lines().len(), 3);
    assert!(!listed.out.contains(&first[0].1), "a listing gives away a token");
    assert!(listed.jsonl()[0]["lease_until"].is_string() && listed.jsonl()[2]["lease_until"].is_null());
    assert_eq!(take(&bench, &["--all"]).len(), 1);
    bench.run(&of("ack", &[&first[0].1])).code(0);
    bench.run(&of("release", &[&first[1].1])).code(0);
    let again = take(&bench, &["--all"]);
    assert_eq!(again[0].0, "b");
    assert_eq!(again.len(), 1);
    bench.run(&of("show", &["a"])).code(4).says("no item `a`");
}

#[test]
fn the_lease_is_at_the_end_of_the_object() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    let out = bench.run(&of("take", &["a"])).code(0).out;
    let (body, lease) = out.split_once(",\"lease_token\":\"").unwrap();
    assert!(
        body.starts_with("{\"item_id\":\"a\",\"item_data\":{\"of\":\"a\"}"),
        "{body}"
    );
    assert!(
        lease.contains("\",\"lease_until\":\"2") && lease.ends_with("Z\"}\n"),
        "{lease}"
    );
}

#[test]
fn an_ended_lease_gives_the_item_to_the_next() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    let first = take(&bench, &["--all", "--lease", "1ms"]);
    let second = take(&bench, &["--all"]);
    assert_eq!(second.len(), 1);
    assert_ne!(first[0].1, second[0].1);
    // The item was taken again, so the first token is no longer valid.
    bench.run(&of("ack", &[&first[0].1])).code(4);
    bench.run(&of("ack", &[&second[0].1])).code(0);
}

#[test]
fn what_to_take_is_said() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    bench.run(&of("take", &[])).code(2).says("--all");
    bench.run(&of("take", &["a", "--all"])).code(2);
    bench.run(&of("take", &["--all", "--lease", "0s"])).code(2);
    bench.run(&of("take", &["--all", "--lease", "soon"])).code(2);
    assert!(take(&bench, &["--signature", "another"]).is_empty());
    assert!(take(&bench, &["--parked"]).is_empty());
    let run = bench.run(&of("take", &["a", "zz"])).code(4).says("no item `zz`");
    assert_eq!(run.lines().len(), 1);
    let run = bench.run(&of("take", &["a"])).code(0).says("`a` is leased until");
    assert!(run.out.is_empty());
}

#[test]
fn a_parked_item_is_taken_only_by_its_id_or_on_demand() {
    let bench = Bench::new();
    push(&bench, &["a", "b"]);
    bench.run(&of("park", &["a", "b"])).code(0);
    assert!(take(&bench, &["--all"]).is_empty());
    assert_eq!(take(&bench, &["a"])[0].0, "a");
    assert_eq!(take(&bench, &["--parked"])[0].0, "b");
}

#[test]
fn many_items_are_taken_in_order_and_none_twice() {
    let bench = Bench::new();
    let ids: Vec<String> = (0..200).map(|number| format!("i{number:03}")).collect();
    push(&bench, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    // Each lease ends before the next batch is taken.
    let taken = take(&bench, &["--all", "--lease", "1ns"]);
    assert_eq!(
        taken.iter().map(|(id, _)| id).collect::<Vec<_>>(),
        ids.iter().collect::<Vec<_>>()
    );
    assert_eq!(take(&bench, &["--limit", "150"]).len(), 150);
}

/// A pipe without a reader takes 64 KiB, which is much less than these items.
fn push_large(bench: &Bench, count: usize) {
    let lines: String = (0..count)
        .map(|number| {
            let data = "x".repeat(10_000);
            format!("{{\"item_id\":\"i{number:03}\",\"item_data\":\"{data}\"}}\n")
        })
        .collect();
    bench.feed(&of("push", &[]), lines).code(0);
}

#[test]
fn items_that_a_closed_pipe_did_not_take_are_released() {
    let bench = Bench::new();
    push_large(&bench, 100);
    let mut tool = bench
        .std(of("take", &["--all"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut output = BufReader::new(tool.stdout.take().unwrap());
    output.read_line(&mut first).unwrap();
    assert!(first.starts_with("{\"item_id\":\"i000\""), "{}", &first[..40]);
    drop(output);
    let ended = tool.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(
        said.contains("its reader is gone") && said.contains("can be taken again at once"),
        "{said}"
    );
    let leased = listed(&bench, &["--state", "leased"]).len();
    // The pipe and the reader's buffer hold some items.
    assert!((1..20).contains(&leased), "{leased}");
    assert_eq!(listed(&bench, &["--state", "pending"]).len(), 100 - leased);
}

#[test]
fn a_closed_output_is_a_failure_of_a_command_that_changed_something_and_none_of_one_that_reads() {
    let bench = Bench::new();
    push(&bench, &["a", "b"]);
    for (command, code) in [
        (of("list", &[]), 0),
        (of("take", &["--limit", "1"]), 1),
        (of("remove", &["b"]), 1),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        close_for_all(reader, &writer);
        let ended = bench.std(command).stdout(writer).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(code), "{said}");
        assert_eq!(said.contains("standard output"), code == 1, "{said}");
    }
    assert_eq!(listed(&bench, &["--state", "pending"]), ["a"]);
}

#[cfg(target_os = "linux")]
#[test]
fn items_that_a_full_disk_did_not_take_are_released() {
    let bench = Bench::new();
    push(&bench, &["a", "b"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = bench
        .std(of("take", &["--all"]))
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("2 items could not be written"), "{said}");
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    assert_eq!(listed(&bench, &["--state", "pending"]), ["a", "b"]);
    assert!(show(&bench, "a")["lease_until"].is_null());
}
