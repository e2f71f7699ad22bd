//! Tests of the output of `dlq`: nothing is left out silently, and nothing is reported that was not done.

use super::{fail, listed, of, push, show, take};
use crate::support::Bench;

fn token_of(bench: &Bench, id: &str) -> String {
    take(bench, &[id])[0].1.clone()
}

#[test]
fn unparking_an_item_that_is_not_parked_leaves_its_lease_alone() {
    let bench = Bench::new();
    push(&bench, &["a", "b"]);
    let token = token_of(&bench, "a");
    for more in [&["a"][..], &["b"]] {
        let told = bench
            .run(&of("unpark", more))
            .code(0)
            .says("is not parked, and stays as it is");
        assert_eq!(told.out, "0 items unparked\n");
    }
    let told = bench.run(&of("unpark", &["a", "--json"])).code(0).json();
    assert_eq!(
        (&told["settled"], &told["unchanged"]),
        (&serde_json::json!([]), &serde_json::json!(["a"]))
    );
    bench.run(&of("ack", &[&token])).code(0);
}

#[test]
fn the_same_push_and_the_same_import_change_nothing() {
    let bench = Bench::new();
    let items = r#"{"item_id":"a","item_data":1,"failure_history":[{"error_type":"Timeout","error_message":"30 s"}]}
{"item_id":"b","item_data":1}
"#;
    let file = bench.write("items.jsonl", items);
    bench.feed(&of("push", &[]), items).code(0);
    let before = bench.run(&of("export", &[])).code(0).out;
    bench
        .feed(&of("push", &[]), items)
        .code(0)
        .says("0 items added, 0 merged, 2 pushed before");
    bench.run(&of("import", &[file.to_str().unwrap()])).code(0);
    assert_eq!(bench.run(&of("export", &[])).code(0).out, before);
    // Each run adds a new failure.
    bench.run(&of("redrive", &["a", "--", "false"])).code(1);
    bench.run(&of("redrive", &["a", "--", "false"])).code(1);
    assert_eq!(show(&bench, "a")["failure_count"], 3);
}

#[test]
fn an_item_has_the_time_of_its_failure() {
    let bench = Bench::new();
    let item = r#"{"item_id":"a","item_data":1,"failure_history":[{"error_type":"T","timestamp":"2024-05-01T00:00:00Z"}]}"#;
    bench.feed(&of("push", &[]), item).code(0);
    assert_eq!(show(&bench, "a")["last_attempt"], "2024-05-01T00:00:00Z");
    assert_eq!(listed(&bench, &["--older-than", "30d"]), ["a"]);
}

#[test]
fn parking_again_without_a_reason_keeps_the_reason() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    bench.run(&of("park", &["a", "--reason", "no key"])).code(0);
    bench.run(&of("park", &["a"])).code(0);
    assert_eq!(show(&bench, "a")["parked_reason"], "no key");
    let list = bench.run(&of("list", &["--parked"])).code(0).out;
    assert!(list.contains("no key"), "{list}");
}

#[test]
fn an_unknown_id_is_an_error_of_every_command() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    for command in [
        "list", "analyze", "export", "take", "unpark", "park", "release", "remove", "show",
    ] {
        bench.run(&of(command, &["zz"])).code(4).says("`zz`");
    }
    bench.run(&of("purge", &["zz"])).code(4).says("`zz`");
    bench.run(&of("purge", &["zz", "--yes"])).code(4).says("`zz`");
    bench.run(&of("unpark", &["zz", "--parked"])).code(4).says("`zz`");
    bench
        .run(&of("edit", &["zz", "--patch", "{}"]))
        .code(4)
        .says("`zz`");
    bench
        .run(&of("redrive", &["zz", "--", "true"]))
        .code(4)
        .says("`zz`");
    bench
        .run(&of("redrive", &["zz", "--dry-run"]))
        .code(4)
        .says("`zz`");
    // The existing items are still listed and processed.
    let list = bench.run(&of("list", &["zz", "a", "--json"])).code(4);
    assert_eq!(list.jsonl()[0]["item_id"], "a");
    bench
        .run(&of("redrive", &["zz", "a", "--", "true"]))
        .code(4)
        .says("1 item taken: 1 done");
}

#[test]
fn nothing_to_take_is_explained() {
    let bench = Bench::new();
    push(&bench, &["a", "b", "c"]);
    token_of(&bench, "a");
    bench.run(&of("release", &["b", "--after", "1h"])).code(0);
    bench.run(&of("park", &["c"])).code(0);
    for command in [
        &["take", "--all"][..],
        &["redrive", "--", "true"],
        &["redrive", "--dry-run"],
    ] {
        bench
            .run(&of(command[0], &command[1..]))
            .code(0)
            .says("nothing can be taken now: 1 item is leased until 20")
            .says("1 item is delayed until 20")
            .says("1 item is parked");
    }
    for id in ["a", "b"] {
        bench
            .run(&of("redrive", &[id, "--", "true"]))
            .code(0)
            .says(&format!("`{id}` is "));
    }
}

#[test]
fn a_mistyped_filter_is_noticed() {
    let bench = Bench::new();
    fail(&bench, "a", "Timeout", "late", "2026-11-28T10:00:00Z");
    for command in ["list", "analyze", "export", "take", "park", "unpark", "purge"] {
        // For a command that changes items, it is no failure that none is selected.
        let code = match command {
            "list" | "analyze" | "export" => 4,
            _ => 0,
        };
        bench
            .run(&of(command, &["--error-type", "Timout"]))
            .code(code)
            .says("no last failure has the `error_type` `Timout`")
            .says("did you mean `Timeout`? the error types are `Timeout`");
        bench
            .run(&of(command, &["--signature", "T"]))
            .code(code)
            .says("no item has the signature `T`")
            .says("the signatures are `")
            .says("dlq analyze");
    }
    // Of an empty queue every filter selects nothing.
    bench.run(&of("remove", &["a"])).code(0);
    bench.run(&of("list", &["--signature", "T"])).code(0);
}

#[test]
fn every_command_that_lists_filters_by_state() {
    let bench = Bench::new();
    push(&bench, &["a", "b", "c"]);
    token_of(&bench, "a");
    bench.run(&of("park", &["b"])).code(0);
    for (state, id) in [("leased", "a"), ("parked", "b"), ("pending", "c")] {
        let items = bench
            .run(&of("list", &["--state", state, "--json"]))
            .code(0)
            .jsonl();
        assert_eq!(
            (&items[0]["item_id"], &items[0]["queue_state"]),
            (&id.into(), &state.into())
        );
        assert_eq!(items.len(), 1);
        let items = bench.run(&of("export", &["--state", state])).code(0).jsonl();
        assert_eq!((items.len(), &items[0]["item_id"]), (1, &id.into()));
        assert!(items[0].get("queue_state").is_none());
        let groups = bench
            .run(&of("analyze", &["--state", state, "--json"]))
            .code(0)
            .jsonl();
        assert_eq!(
            (&groups[0]["items"], &groups[0]["samples"][0]),
            (&1.into(), &id.into())
        );
    }
    let told = bench.run(&of("purge", &["--state", "parked", "--yes"])).code(0);
    assert_eq!(told.out, "1 item removed\n");
    assert_eq!(listed(&bench, &[]), ["a", "c"]);
    // A line of the list can be pushed again.
    let lines = bench.run(&of("list", &["--json"])).code(0).out;
    bench
        .feed(&of("push", &[]), lines)
        .code(0)
        .says("2 pushed before");
}

#[test]
fn a_signature_is_shown_whole() {
    let bench = Bench::new();
    let message = "word ".repeat(40);
    fail(
        &bench,
        &"long-id".repeat(20),
        "Long",
        &message,
        "2026-11-28T10:00:00Z",
    );
    let signature = format!("Long: {}", message.trim());
    let Some(analyze) = bench.on_terminal(&of("analyze", &[])) else {
        return;
    };
    let out = crate::support::run(analyze, "").code(0).out;
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].find("SIGNATURE").unwrap() < 60, "{out}");
    assert!(lines[1].contains(&signature), "{out}");
    assert_eq!(listed(&bench, &["--signature", &signature]).len(), 1);
}

#[test]
fn an_id_that_is_given_twice_counts_once() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    assert_eq!(
        bench.run(&of("park", &["a", "a", "a"])).code(0).out,
        "1 item parked\n"
    );
}

#[test]
fn a_release_says_what_it_did() {
    let bench = Bench::new();
    push(&bench, &["a", "b", "c"]);
    let token = token_of(&bench, "a");
    bench.run(&of("park", &["b"])).code(0);
    let told = bench.run(&of("release", &["a", "b", "c"])).code(0);
    assert_eq!(told.out, "3 items released\n");
    let told = told
        .says("`b` is parked, and stays parked")
        .says("`c` was not taken");
    assert!(!told.err.contains("`a`"), "{}", told.err);
    bench.run(&of("ack", &[&token])).code(4);
}

#[test]
fn items_are_parked_by_names_or_by_filters() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    bench
        .run(&of("park", &["a", "--error-type", "Timeout"]))
        .code(2)
        .says("they are named, and a filter is given too");
    bench.run(&of("park", &[])).code(2).says("nothing says which");
    let help = bench.run(&["dlq", "park", "--help"]).code(0).out;
    assert!(help.contains("--job <JOB> <FILTERS>"), "{help}");
}

#[test]
fn an_edit_of_the_queues_own_fields_is_refused() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    token_of(&bench, "a");
    for field in ["lease_token", "crc", "queue_place"] {
        let patch = format!(r#"{{"{field}":"x"}}"#);
        bench
            .run(&of("edit", &["a", "--patch", &patch]))
            .code(1)
            .says(&format!("only the queue itself sets `{field}`"));
    }
    assert_eq!(listed(&bench, &["--state", "leased"]), ["a"]);
    let told = bench
        .run(&of("edit", &["a", "--patch", r#"{"failure_count":"x"}"#]))
        .code(1);
    assert!(
        told.err.contains("edit item") && !told.err.contains("push item"),
        "{}",
        told.err
    );
    let help = bench.run(&["dlq", "edit", "--help"]).code(0).out;
    assert!(help.contains("`vi`"), "{help}");
}

#[test]
fn an_array_that_was_cut_off_is_reported() {
    let bench = Bench::new();
    let file = bench.write(
        "cut.json",
        "[\n{\"item_id\":\"a\",\"item_data\":1},\n{\"item_id\":\"b\",\"item_data\":1}",
    );
    bench
        .run(&of("import", &[file.to_str().unwrap()]))
        .code(1)
        .says("line 1: the array does not end");
    assert_eq!(listed(&bench, &[]), ["a", "b"]);
}

#[test]
fn a_time_that_no_item_can_have_is_named() {
    let bench = Bench::new();
    let item = r#"{"item_id":"a","item_data":1,"last_attempt":"1969-12-31T23:59:59Z"}"#;
    bench
        .feed(&of("push", &[]), item)
        .code(1)
        .says("a time from 1970 to 2262");
    bench
        .run(&["events", "cat", "--job", "job", "--since", "1960-01-01"])
        .code(2)
        .says("from 1970 to 2262");
}

#[test]
fn a_run_with_too_many_commands_at_a_time_is_refused() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    for wrong in ["0", "1025", "100000"] {
        bench
            .run(&of("redrive", &["--concurrency", wrong, "--", "true"]))
            .code(2)
            .says("1..=1024");
    }
    bench
        .run(&of("redrive", &["--concurrency", "1024", "--", "true"]))
        .code(0);
}

#[test]
fn a_line_of_the_shell_needs_a_shell() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    bench
        .run(&of("redrive", &["--", "jq .file | cat"]))
        .code(127)
        .says("sh -c 'jq .file | cat'");
}

#[test]
fn the_report_of_a_run_that_cannot_start_its_command_is_true() {
    let bench = Bench::new();
    bench
        .feed(&of("push", &[]), "{\"item_id\":\"n\\u0000\",\"item_data\":1}\n")
        .code(0);
    push(&bench, &["a"]);
    let told = bench
        .run(&of("redrive", &["--json", "--", "no-such-command"]))
        .code(127);
    let report = told.json();
    assert_eq!(
        (&report["taken"], &report["failed"], &report["released"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert!(!told.err.contains("no item counts as failed"), "{}", told.err);
    bench
        .run(&of("redrive", &["a", "--", "no-such-command"]))
        .code(127)
        .says("no item counts as failed");
}

#[test]
fn a_parked_item_is_run_by_its_id() {
    let bench = Bench::new();
    push(&bench, &["a", "b"]);
    bench.run(&of("park", &["a", "b"])).code(0);
    bench
        .run(&of("redrive", &["--", "true"]))
        .code(0)
        .says("0 items taken");
    bench
        .run(&of("redrive", &["a", "--", "true"]))
        .code(0)
        .says("1 item taken: 1 done");
    bench
        .run(&of("redrive", &["--parked", "--", "true"]))
        .code(0)
        .says("1 item taken: 1 done");
    for command in ["redrive", "take"] {
        let help = bench.run(&["dlq", command, "--help"]).code(0).out;
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            help.contains("only if its id is given, or with `--parked` or `--any`"),
            "{help}"
        );
    }
}

/// A write beyond the file size limit fails, and does not end the tool.
#[cfg(target_os = "linux")]
#[test]
fn a_file_over_the_limit_of_its_size_is_an_error() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    let large = "x".repeat(100_000);
    bench
        .feed(
            &of("push", &[]),
            format!("{{\"item_id\":\"b\",\"item_data\":\"{large}\"}}"),
        )
        .code(0);
    let tool = bench.std(of("export", &[]));
    let words: Vec<&str> = tool.get_args().map(|word| word.to_str().unwrap()).collect();
    let mut shell = std::process::Command::new("sh");
    let variables = tool.get_envs().filter_map(|(name, value)| Some((name, value?)));
    shell.env_clear().envs(variables).current_dir(bench.path("here"));
    let script = r#"ulimit -f 8; "$0" "$@" > ../out"#;
    shell
        .args(["-c", script, env!("CARGO_BIN_EXE_prodigy-storage")])
        .args(words);
    crate::support::run(shell, "")
        .code(1)
        .says("write to standard output");
}

#[test]
fn outside_of_a_git_repository_the_folder_is_named() {
    let bench = Bench::new();
    let told = bench.run(&["dlq", "push", "--job", "job", "-v"]).code(0);
    told.says("no git repository here: the repository has the name of the folder, `here`");
}

/// A killed process leaves settled items in the file. The next command that may write removes them.
#[test]
fn after_a_kill_and_the_next_open_the_file_of_a_small_queue_holds_exactly_the_pending_items() {
    let bench = Bench::new();
    push(&bench, &["a", "b"]);
    let script = "[ \"$PRODIGY_ITEM_ID\" = a ] || kill -9 $PPID";
    let killed = bench.run(&of("redrive", &["--lease", "1h", "--", "sh", "-c", script]));
    assert_eq!(killed.code, None, "{}", killed.err);
    let ids = || -> Vec<String> {
        let text = std::fs::read_to_string(bench.root().join("dlq/shop/job/items.json")).unwrap();
        let items: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        items
            .iter()
            .map(|item| item["item_id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(), ["a", "b"]);
    // A command that only reads does not write.
    assert_eq!(listed(&bench, &[]), ["b"]);
    assert_eq!(ids(), ["a", "b"]);
    bench
        .feed(&["events", "append", "--repo", "shop", "--job", "other"], "{}\n")
        .code(0);
    assert_eq!(ids(), ["b"]);
    assert_eq!(listed(&bench, &["--state", "leased"]), ["b"]);
}
