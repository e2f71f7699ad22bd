//! Tests of `dlq`.

mod answers;
mod bulk;
mod edit;
mod help;
mod import;
mod people;
mod redrive;
mod take;

use crate::support::Bench;

pub fn of<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["dlq", command, "--repo", "shop", "--job", "job"];
    fixed.into_iter().chain(more.iter().copied()).collect()
}

pub fn push(bench: &Bench, ids: &[&str]) {
    let lines: String = ids
        .iter()
        .map(|id| format!("{{\"item_id\":\"{id}\",\"item_data\":{{\"of\":\"{id}\"}}}}\n"))
        .collect();
    bench.feed(&of("push", &[]), lines).code(0);
}

/// Pushes a failure of an item.
pub fn fail(bench: &Bench, id: &str, kind: &str, message: &str, at: &str) {
    let item = serde_json::json!({
        "item_id": id,
        "item_data": {"of": id},
        "first_attempt": at,
        "last_attempt": at,
        "failure_history": [{"timestamp": at, "error_type": kind, "error_message": message}],
    });
    bench.feed(&of("push", &[]), format!("{item}\n")).code(0);
}

/// Takes items; returns their ids and tokens.
pub fn take(bench: &Bench, more: &[&str]) -> Vec<(String, String)> {
    let taken = bench.run(&of("take", more)).code(0).jsonl();
    let text = |item: &serde_json::Value, key: &str| item[key].as_str().unwrap().to_owned();
    taken
        .iter()
        .map(|item| (text(item, "item_id"), text(item, "lease_token")))
        .collect()
}

/// A stored item.
pub fn show(bench: &Bench, id: &str) -> serde_json::Value {
    bench.run(&of("show", &[id])).code(0).json()
}

/// The ids of the listed items.
pub fn listed(bench: &Bench, more: &[&str]) -> Vec<String> {
    let items = bench
        .run(&of("list", &[&["--json"], more].concat()))
        .code(0)
        .jsonl();
    items
        .iter()
        .map(|item| item["item_id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn an_item_is_pushed_merged_listed_and_shown() {
    let bench = Bench::new();
    let item = |message: &str| {
        format!(
            r#"{{"item_id":"a","item_data":{{"f":1.0}},"mine":[1],"failure_history":[{{"error_type":"Timeout","error_message":"{message}"}}]}}"#
        )
    };
    bench
        .feed(
            &of("push", &[]),
            format!("{0}\n\n{1}\n{0}\n", item("after 30 s"), item("after 31 s")),
        )
        .code(0)
        .says("1 item added, 1 merged, 1 pushed before");
    let shown = bench.run(&of("show", &["a"])).code(0);
    assert!(shown.out.contains("\"item_data\":{\"f\":1.0}"), "{}", shown.out);
    assert_eq!(shown.json()["failure_count"], 2);
    assert_eq!(shown.json()["mine"], serde_json::json!([1]));
    assert_eq!(shown.lines().len(), 1, "a pipe gets a line");
    assert_eq!(bench.run(&of("list", &["--json"])).code(0).out, shown.out);
}

#[test]
fn an_item_that_is_refused_is_named_by_its_line_and_those_before_it_are_stored() {
    for bad in [
        "{\"item_data\":1}",
        "{\"item_id\":",
        "7",
        "{\"item_id\":\"\",\"item_data\":1}",
    ] {
        let bench = Bench::new();
        let input =
            format!("{{\"item_id\":\"a\",\"item_data\":1}}\n{bad}\n{{\"item_id\":\"b\",\"item_data\":1}}\n");
        bench
            .feed(&of("push", &[]), input)
            .code(1)
            .says("line 2")
            .says("1 item added");
        assert_eq!(listed(&bench, &[]), ["a"]);
    }
}

#[test]
fn unknown_keys_are_told_and_the_others_are_settled() {
    let bench = Bench::new();
    push(&bench, &["a", "b", "c"]);
    let taken = take(&bench, &["a", "b"]);
    bench
        .run(&of("ack", &["nope", &taken[0].1]))
        .code(4)
        .says("no item is taken under the token `nope`");
    bench
        .run(&of("release", &[&taken[1].1, "nope"]))
        .code(4)
        .says("no item, and no token of a taken item: `nope`");
    bench
        .run(&of("remove", &["zz", "c"]))
        .code(4)
        .says("no item `zz`");
    let left = bench.run(&of("list", &["--json"])).code(0).jsonl();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["item_id"], "b");
    assert!(left[0]["lease_until"].is_null());
    let told = bench.run(&of("remove", &["b", "zz", "--json"])).code(4).json();
    assert_eq!(
        told,
        serde_json::json!({"settled": ["b"], "kept": [], "unknown": ["zz"], "unchanged": []})
    );
    for command in ["ack", "renew", "release", "remove"] {
        bench.run(&of(command, &[])).code(2);
    }
}

#[test]
fn a_lease_is_renewed_by_its_token() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    let token = &take(&bench, &["--all", "--lease", "1ms"])[0].1;
    // A lease that has ended can be renewed, unless the item was taken again.
    bench.run(&of("renew", &[token, "--lease", "90m"])).code(0);
    assert!(take(&bench, &["--all"]).is_empty());
    assert!(bench.run(&of("list", &[])).code(0).out.contains("leased 1h "));
    bench.run(&of("renew", &["nope"])).code(4).says("`nope`");
    bench.run(&of("renew", &[token, "--lease", "0s"])).code(2);
    bench.run(&of("ack", &[token])).code(0);
    bench.run(&of("renew", &[token])).code(4);
}

#[test]
fn an_acknowledged_item_that_failed_meanwhile_is_kept() {
    let bench = Bench::new();
    push(&bench, &["a", "b"]);
    let taken = take(&bench, &["--all"]);
    fail(&bench, "a", "Timeout", "again", "2026-11-28T10:00:00Z");
    let told = bench.run(&of("ack", &[&taken[0].1, &taken[1].1])).code(0);
    assert_eq!(told.out, "1 item acknowledged, 1 kept\n");
    told.says("is kept: it failed again");
    assert_eq!(listed(&bench, &["--state", "pending"]), ["a"]);
}

#[test]
fn a_released_item_is_behind_all_others_and_waits_for_its_delay() {
    let bench = Bench::new();
    push(&bench, &["a", "b", "c"]);
    let taken = take(&bench, &["a", "b"]);
    bench.run(&of("release", &[&taken[0].1])).code(0);
    bench
        .run(&of("release", &[&taken[1].1, "--after", "90m"]))
        .code(0);
    let shown = show(&bench, "b");
    assert!(
        shown["delay_until"].is_string() && shown["lease_until"].is_null(),
        "{shown}"
    );
    assert!(bench.run(&of("list", &[])).code(0).out.contains("delayed 1h "));
    let order: Vec<String> = take(&bench, &["--all"]).into_iter().map(|(id, _)| id).collect();
    assert_eq!(order, ["c", "a"]);
    // A delayed item can be taken by its id.
    bench.run(&of("release", &["b"])).code(0);
    assert_eq!(take(&bench, &["--all"])[0].0, "b");
}

#[test]
fn an_operator_ends_a_lease_by_the_id() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    let token = &take(&bench, &["--all"])[0].1;
    let told = bench.run(&of("release", &["a"])).code(0);
    assert_eq!(told.out, "1 item released\n");
    assert_eq!(take(&bench, &["--all"])[0].0, "a");
    bench.run(&of("ack", &[token])).code(4);
}

#[test]
fn a_queue_is_compacted_on_demand() {
    let bench = Bench::new();
    push(&bench, &["a", "b"]);
    bench.run(&of("remove", &["a"])).code(0);
    let told = bench.run(&of("compact", &["--json"])).code(0).json();
    assert!(told["after"].as_u64() <= told["before"].as_u64(), "{told}");
    assert!(told["after"].as_u64() > Some(0), "{told}");
    let text = bench.run(&of("compact", &[])).code(0).out;
    assert!(text.contains(" before, ") && text.ends_with(" now\n"), "{text}");
    assert_eq!(listed(&bench, &[]), ["b"]);
}

#[test]
fn the_file_of_a_small_queue_holds_exactly_the_pending_items_after_each_command() {
    let bench = Bench::new();
    push(&bench, &["a", "b", "c"]);
    let stored = || {
        let text = std::fs::read_to_string(bench.root().join("dlq/shop/job/items.json")).unwrap();
        let items: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let id = |item: &serde_json::Value| item["item_id"].as_str().unwrap().to_owned();
        items.iter().map(id).collect::<Vec<_>>()
    };
    bench.run(&of("remove", &["b"])).code(0);
    assert_eq!(stored(), ["a", "c"]);
    let token = &take(&bench, &["a"])[0].1;
    bench.run(&of("ack", &[token])).code(0);
    assert_eq!(stored(), ["c"]);
    bench.run(&of("redrive", &["--", "true"])).code(0);
    assert!(stored().is_empty());
}

#[test]
fn every_step_works_on_a_snapshot_of_the_memory_backend() {
    let bench = Bench::of_memory();
    push(&bench, &["a", "b", "c", "d"]);
    let taken = take(&bench, &["--limit", "2", "--lease", "1h"]);
    assert_eq!(listed(&bench, &["--state", "leased"]), ["a", "b"]);
    bench.run(&of("release", &[&taken[0].1, "--after", "1h"])).code(0);
    bench.run(&of("renew", &[&taken[1].1])).code(0);
    bench.run(&of("ack", &[&taken[1].1])).code(0);
    bench
        .run(&of("edit", &["c", "--patch", r#"{"item_data":7}"#]))
        .code(0);
    bench.run(&of("park", &["d", "--reason", "later"])).code(0);
    let run = bench.run(&of("redrive", &["--", "cat"])).code(0);
    assert_eq!(run.out, "7\n");
    assert_eq!(listed(&bench, &["--state", "delayed"]), ["a"]);
    assert_eq!(listed(&bench, &["--state", "parked"]), ["d"]);
    bench.run(&of("purge", &["--parked", "--yes"])).code(0);
    bench.run(&of("compact", &[])).code(0);
    assert_eq!(listed(&bench, &[]), ["a"]);
}

#[test]
fn damage_is_told_and_the_rest_is_listed() {
    let bench = Bench::new();
    push(&bench, &["a", "b", "c"]);
    let file = bench.root().join("dlq/shop/job/items.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("{\"of\":\"b\"}", "{\"of\":\"x\"}")).unwrap();
    for command in [of("list", &["--json"]), of("export", &[])] {
        let run = bench.run(&command).code(5).says("damaged: ").says("items.json");
        assert_eq!(run.lines().len(), 2);
    }
    bench
        .run(&["dlq", "list", "--repo", "shop", "--job", "other"])
        .code(4);
}
