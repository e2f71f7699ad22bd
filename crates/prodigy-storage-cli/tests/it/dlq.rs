//! `dlq`.

use crate::support::Bench;

fn of<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["dlq", command, "--repo", "shop", "--job", "job"];
    fixed.into_iter().chain(more.iter().copied()).collect()
}

fn push(bench: &Bench, ids: &[&str]) {
    let lines: String = ids
        .iter()
        .map(|id| format!("{{\"item_id\":\"{id}\",\"item_data\":{{\"of\":\"{id}\"}}}}\n"))
        .collect();
    bench.feed(&of("push", &[]), lines).code(0);
}

fn take(bench: &Bench, more: &[&str]) -> Vec<(String, String)> {
    let taken = bench.run(&of("take", more)).code(0).jsonl();
    let text = |item: &serde_json::Value, key: &str| item[key].as_str().unwrap().to_owned();
    taken
        .iter()
        .map(|item| (text(item, "item_id"), text(item, "lease_token")))
        .collect()
}

#[test]
fn an_item_is_pushed_merged_listed_and_shown() {
    let bench = Bench::new();
    let item = r#"{"item_id":"a","item_data":{"f":1.0},"mine":[1],"failure_history":[{"error_type":"Timeout","error_message":"after 30 s"}]}"#;
    bench
        .feed(&of("push", &[]), format!("{item}\n\n{item}\n"))
        .code(0)
        .says("1 item added, 1 merged");
    let shown = bench.run(&of("show", &["a"])).code(0);
    assert!(shown.out.contains("\"item_data\":{\"f\":1.0}"), "{}", shown.out);
    assert_eq!(shown.json()["failure_count"], 2);
    assert_eq!(shown.json()["mine"], serde_json::json!([1]));
    assert_eq!(bench.run(&of("list", &["--json"])).code(0).out, shown.out);
    let listed = bench.run(&of("list", &[])).code(0);
    assert!(listed.lines()[1].starts_with("a     2       "), "{}", listed.out);
    assert!(
        listed.lines()[1].contains("pending") && listed.lines()[1].contains("Timeout"),
        "{}",
        listed.out
    );
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
        assert_eq!(bench.run(&of("list", &["--json"])).code(0).lines().len(), 1);
    }
}

#[test]
fn a_taken_item_is_gone_for_others_until_it_is_given_back_or_acknowledged() {
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
    bench.run(&of("nack", &[&first[1].1])).code(0);
    let again = take(&bench, &["--all"]);
    assert_eq!(again[0].0, "b");
    assert_eq!(again.len(), 1);
    bench.run(&of("show", &["a"])).code(4).says("no item `a`");
}

#[test]
fn the_lease_stands_at_the_end_of_the_object() {
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
    // Another took it: the first token names nothing any more.
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
    let run = bench.run(&of("take", &["a", "zz"])).code(4).says("no item `zz`");
    assert_eq!(run.lines().len(), 1);
    let run = bench.run(&of("take", &["a"])).code(0).says("`a` is taken until");
    assert!(run.out.is_empty());
}

#[test]
fn unknown_keys_are_told_and_the_others_are_settled() {
    let bench = Bench::new();
    push(&bench, &["a", "b", "c"]);
    let taken = take(&bench, &["a", "b"]);
    bench
        .run(&of("ack", &["nope", &taken[0].1]))
        .code(4)
        .says("`nope`");
    bench
        .run(&of("nack", &[&taken[1].1, "nope"]))
        .code(4)
        .says("`nope`");
    bench.run(&of("remove", &["zz", "c"])).code(4).says("`zz`");
    let left = bench.run(&of("list", &["--json"])).code(0).jsonl();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["item_id"], "b");
    assert!(left[0]["lease_until"].is_null());
    let told = bench.run(&of("remove", &["b", "zz", "--json"])).code(4).json();
    assert_eq!(told, serde_json::json!({"settled": ["b"], "unknown": ["zz"]}));
    bench.run(&of("ack", &[])).code(2);
}

#[test]
fn damage_is_told_and_the_rest_is_listed() {
    let bench = Bench::new();
    push(&bench, &["a", "b", "c"]);
    let file = bench.root().join("dlq/shop/job/items.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("{\"of\":\"b\"}", "{\"of\":\"x\"}")).unwrap();
    let run = bench
        .run(&of("list", &["--json"]))
        .code(5)
        .says("damaged: ")
        .says("items.json");
    assert_eq!(run.lines().len(), 2);
    bench
        .run(&["dlq", "list", "--repo", "shop", "--job", "other"])
        .code(4);
}

#[test]
fn a_closed_output_is_a_failure_of_a_command_that_changed_something_and_none_of_one_that_reads() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    for (command, code) in [(of("list", &[]), 0), (of("take", &["--limit", "1"]), 1)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = bench.std(command).stdout(writer).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(code), "{said}");
        assert_eq!(said.contains("standard output was closed"), code == 1, "{said}");
    }
}
