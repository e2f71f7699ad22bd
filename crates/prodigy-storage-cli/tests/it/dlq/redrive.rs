//! Tests of `dlq redrive`.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::json;

use super::{fail, listed, of, push, show, take};
use crate::support::{Bench, Run, send};

/// The arguments of a redrive with a shell script.
fn redrive<'a>(more: &[&'a str], script: &'a str) -> Vec<&'a str> {
    of("redrive", &[more, &["--", "sh", "-c", script]].concat())
}

/// The report of a run with `--json`, which is the last line of output.
fn report(run: &Run) -> serde_json::Value {
    serde_json::from_str(run.lines().last().unwrap()).unwrap()
}

fn history(bench: &Bench, id: &str) -> Vec<serde_json::Value> {
    show(bench, id)["failure_history"].as_array().unwrap().clone()
}

#[test]
fn the_code_of_the_command_decides() {
    let bench = Bench::new();
    push(&bench, &["done", "released", "failed", "killed"]);
    let script = r#"case $PRODIGY_ITEM_ID in
        done) ;;
        released) exit 75 ;;
        failed) echo first >&2; echo last >&2; exit 3 ;;
        killed) kill -9 $$ ;;
    esac"#;
    let run = bench.run(&redrive(&["--json"], script)).code(1);
    let told = report(&run);
    assert_eq!(
        (&told["done"], &told["failed"], &told["released"]),
        (&json!(1), &json!(2), &json!(1)),
        "{told}"
    );
    // The standard error of a command goes to the same place as the tool's.
    run.says("first\nlast\n");
    assert_eq!(
        listed(&bench, &["--state", "pending"]),
        ["released", "failed", "killed"]
    );
    assert!(history(&bench, "released").is_empty());
    let failed = &history(&bench, "failed")[0];
    assert_eq!(
        (&failed["error_type"], &failed["error_message"]),
        (&json!("exit 3"), &json!("first\nlast"))
    );
    assert!(
        failed["timestamp"].is_string() && failed["duration_ms"].is_u64(),
        "{failed}"
    );
    assert_eq!(failed["attempt_number"], 2);
    assert_eq!(show(&bench, "failed")["failure_count"], 2);
    let killed = &history(&bench, "killed")[0];
    assert_eq!(
        (&killed["error_type"], &killed["error_message"]),
        (&json!("signal 9"), &json!("signal 9 ended the command"))
    );
}

#[test]
fn all_done_is_a_success_and_so_is_an_empty_queue() {
    let bench = Bench::new();
    push(&bench, &["a", "b"]);
    let run = bench.run(&redrive(&[], "exit 0")).code(0);
    run.says("2 items taken: 2 done");
    assert!(listed(&bench, &[]).is_empty());
    let told = report(&bench.run(&redrive(&["--json"], "exit 1")).code(0));
    assert_eq!((&told["taken"], &told["done"]), (&json!(0), &json!(0)));
    bench
        .run(&["dlq", "redrive", "--repo", "shop", "--job", "other", "--", "true"])
        .code(4);
}

#[test]
fn the_command_gets_the_data_as_a_line_and_the_variables() {
    let bench = Bench::new();
    let item = "{\"item_id\":\"a b\",\"item_data\":{\"n\": 1.0, \"t\": \"x\\ny\"},\"failure_count\":4}\n";
    bench.feed(&of("push", &[]), item).code(0);
    let script = r#"cat; echo "[$PRODIGY_ITEM_ID] $PRODIGY_ATTEMPT $PRODIGY_JOB $PRODIGY_REPO""#;
    let run = bench.run(&redrive(&[], script)).code(0);
    assert_eq!(run.out, "{\"n\": 1.0, \"t\": \"x\\ny\"}\n[a b] 5 job shop\n");
}

#[test]
fn a_command_need_not_read_its_input_whatever_its_size() {
    let bench = Bench::new();
    let data = "x".repeat(1 << 20);
    bench.feed(&of("push", &[]), format!("{{\"item_id\":\"a\",\"item_data\":\"{data}\"}}\n{{\"item_id\":\"b\",\"item_data\":\"{data}\"}}\n")).code(0);
    let script = "[ $PRODIGY_ITEM_ID = b ] || [ $(wc -c) = 1048579 ]";
    bench.run(&redrive(&[], script)).code(0);
    assert!(listed(&bench, &[]).is_empty());
}

#[test]
fn a_process_that_the_command_leaves_behind_holds_nothing_up() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    // The background process keeps the standard error of the command open. Its standard output is redirected, because
    // `run` waits until the pipe of standard output is closed.
    bench
        .run(&redrive(&[], "sleep 600 > /dev/null & echo $! > pid"))
        .code(0);
    let pid = std::fs::read_to_string(bench.path("here/pid")).unwrap();
    send("KILL", pid.trim().parse().unwrap());
    assert!(listed(&bench, &[]).is_empty());
}

#[test]
fn filters_ids_and_a_limit_select() {
    let bench = Bench::new();
    fail(&bench, "t1", "Timeout", "late", "2026-11-01T10:00:00Z");
    fail(&bench, "t2", "Timeout", "late", "2026-11-01T10:00:00Z");
    push(&bench, &["a", "b", "c", "parked"]);
    bench.run(&of("park", &["parked"])).code(0);
    bench
        .run(&redrive(&["--error-type", "Timeout", "--limit", "1"], "exit 0"))
        .code(0);
    assert_eq!(listed(&bench, &[]), ["t2", "a", "b", "c", "parked"]);
    bench.run(&redrive(&["a", "c"], "exit 0")).code(0);
    assert_eq!(listed(&bench, &[]), ["t2", "b", "parked"]);
    bench.run(&redrive(&[], "exit 0")).code(0);
    assert_eq!(listed(&bench, &[]), ["parked"]);
    bench.run(&redrive(&["--parked"], "exit 0")).code(0);
    assert!(listed(&bench, &[]).is_empty());
    bench.run(&of("redrive", &[])).code(2).says("COMMAND");
    for wrong in [
        ["--concurrency", "0"],
        ["--rate", "fast"],
        ["--lease", "0s"],
        ["--limit", "x"],
    ] {
        bench.run(&redrive(&wrong, "exit 0")).code(2);
    }
}

#[test]
fn an_item_that_fails_is_tried_once_in_a_run_and_so_is_one_that_is_pushed_meanwhile() {
    let bench = Bench::new();
    push(&bench, &["a", "b"]);
    let tool = env!("CARGO_BIN_EXE_prodigy-storage");
    let script = format!(
        "echo $PRODIGY_ITEM_ID; echo '{{\"item_id\":\"new-'$PRODIGY_ITEM_ID'\",\"item_data\":1}}' | {tool} dlq push --repo shop --job job 2>&1; exit 1"
    );
    let run = bench.run(&redrive(&[], &script)).code(1);
    let worked: Vec<&str> = run
        .lines()
        .into_iter()
        .filter(|line| !line.contains(' '))
        .collect();
    assert_eq!(worked, ["a", "b"], "{}", run.out);
    assert_eq!(listed(&bench, &[]).len(), 4);
}

#[test]
fn after_the_last_attempt_an_item_is_parked() {
    let bench = Bench::new();
    push(&bench, &["a", "b"]);
    let script = "[ $PRODIGY_ITEM_ID = b ] || { echo broken >&2; exit 2; }";
    let run = bench
        .run(&redrive(&["--max-attempts", "2", "--json"], script))
        .code(1);
    let told = report(&run);
    assert_eq!((&told["done"], &told["parked"]), (&json!(1), &json!(1)), "{told}");
    assert_eq!(listed(&bench, &["--parked"]), ["a"]);
    let item = show(&bench, "a");
    assert_eq!(item["failure_count"], 2);
    assert_eq!(item["failure_history"][0]["error_message"], "broken");
    assert!(
        item["parked_reason"].as_str().unwrap().contains("failed 2 times"),
        "{item}"
    );
}

#[test]
fn a_rehearsal_lists_what_would_be_taken_and_takes_nothing() {
    let bench = Bench::new();
    fail(&bench, "t1", "Timeout", "late", "2026-11-01T10:00:00Z");
    push(&bench, &["a", "b", "parked", "taken"]);
    bench.run(&of("park", &["parked"])).code(0);
    take(&bench, &["taken"]);
    let run = bench
        .run(&of("redrive", &["--dry-run"]))
        .code(0)
        .says("3 items would be taken");
    let ids: Vec<&str> = run
        .lines()
        .iter()
        .skip(1)
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(ids, ["t1", "a", "b"]);
    let run = bench
        .run(&of(
            "redrive",
            &["--dry-run", "--limit", "2", "--json", "--", "touch", "ran"],
        ))
        .code(0);
    assert_eq!(run.jsonl().len(), 2);
    assert_eq!(run.jsonl()[0]["item_id"], "t1");
    assert!(!bench.path("here/ran").exists());
    assert_eq!(listed(&bench, &["--state", "pending"]), ["t1", "a", "b"]);
}

#[test]
fn a_command_that_cannot_be_started_ends_the_run_and_nothing_failed() {
    let bench = Bench::new();
    push(&bench, &["a", "b", "c"]);
    bench
        .run(&of("redrive", &["--", "no-such-command-here"]))
        .code(127)
        .says("no-such-command-here");
    bench
        .run(&of("redrive", &["--concurrency", "2", "--", "/"]))
        .code(126);
    assert_eq!(listed(&bench, &["--state", "pending"]).len(), 3);
    assert_eq!(show(&bench, "a")["failure_count"], 1);
}

#[test]
fn a_released_item_waits_for_its_delay() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    bench.run(&redrive(&["--release-after", "1h"], "exit 75")).code(0);
    assert_eq!(listed(&bench, &["--state", "delayed"]), ["a"]);
}

#[test]
fn an_id_that_no_variable_can_hold_fails_its_item_alone() {
    let bench = Bench::new();
    bench
        .feed(&of("push", &[]), "{\"item_id\":\"a\\u0000b\",\"item_data\":1}\n")
        .code(0);
    push(&bench, &["c"]);
    let told = report(&bench.run(&redrive(&["--json"], "exit 0")).code(1));
    assert_eq!((&told["done"], &told["failed"]), (&json!(1), &json!(1)), "{told}");
}

/// Each command ends only while the other one is running.
#[test]
fn commands_run_at_the_same_time() {
    let bench = Bench::new();
    push(&bench, &["a", "b"]);
    let script = r#"mkdir -p both; touch "both/$PRODIGY_ITEM_ID"; until [ $(ls both | wc -l) = 2 ]; do sleep 0.02; done"#;
    bench.run(&redrive(&["--concurrency", "2"], script)).code(0);
    assert!(listed(&bench, &[]).is_empty());
}

/// Without renewals the lease would end long before the command.
#[test]
fn leases_are_renewed_while_a_command_runs() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    let tool = env!("CARGO_BIN_EXE_prodigy-storage");
    let script = format!("sleep 3; {tool} dlq take --repo shop --job job --all");
    let run = bench.run(&redrive(&["--lease", "1s", "--json"], &script)).code(0);
    assert_eq!(run.lines().len(), 1, "another took it: {}", run.out);
    assert_eq!(report(&run)["done"], 1);
}

#[test]
fn an_item_that_another_worker_settled_meanwhile_is_lost_to_it() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    let tool = env!("CARGO_BIN_EXE_prodigy-storage");
    let script = format!("{tool} dlq remove --repo shop --job job a");
    let run = bench.run(&redrive(&["--json"], &script)).code(1);
    assert_eq!(report(&run)["lost"], 1);
}

#[test]
fn an_item_of_another_shape_is_reported_and_the_others_are_worked_on() {
    let bench = Bench::new();
    push(&bench, &["a", "b"]);
    let file = bench.root().join("dlq/shop/job/items.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let foreign = r#"{"item_id":"odd","item_data":1,"reprocess_eligible":"yes"},"#;
    std::fs::write(&file, text.replacen('{', &format!("{foreign}\n{{"), 1)).unwrap();
    bench
        .run(&redrive(&[], "exit 0"))
        .code(6)
        .says("skipped: odd")
        .says("2 items taken: 2 done");
    let list = bench.run(&of("list", &[])).code(6).says("skipped: odd");
    assert_eq!(list.lines().len(), 2);
    assert!(
        list.out.contains("odd") && list.out.contains("unreadable"),
        "{}",
        list.out
    );
    // Filters do not select the unreadable item.
    for filter in [&["--attempts", "1"][..], &["odd", "--attempts", "1"]] {
        let purge = [filter, &["--yes"]].concat();
        bench
            .run(&of("purge", &purge))
            .code(6)
            .says("`odd` cannot be read");
    }
    // The id of the unreadable item selects it.
    bench.run(&redrive(&["odd"], "exit 0")).code(0);
    assert!(listed(&bench, &[]).is_empty());
}

/// A running `dlq redrive`. Its commands have started, which is known from a line that each prints.
struct Running {
    tool: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    fn start(bench: &Bench, arguments: &[&str], commands: usize) -> Self {
        let mut tool = bench
            .std(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(tool.stdout.take().unwrap());
        for _ in 0..commands {
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
        }
        Self { tool, output }
    }

    fn said(&mut self) -> BufReader<std::process::ChildStderr> {
        BufReader::new(self.tool.stderr.take().unwrap())
    }

    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        (self.tool.wait().unwrap().code(), rest)
    }
}

/// Reads standard error up to a line that contains a text.
fn wait_for(said: &mut impl BufRead, wanted: &str) {
    let mut line = String::new();
    while !line.contains(wanted) {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "no {wanted:?}");
    }
}

#[test]
fn the_first_interrupt_takes_no_more_and_settles_what_is_in_hand() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let bench = Bench::new();
        push(&bench, &["a", "b", "c"]);
        let script = "echo ready; until [ -e go ]; do sleep 0.02; done";
        let mut running = Running::start(&bench, &redrive(&["--json"], script), 1);
        let mut said = running.said();
        send(signal, running.tool.id());
        wait_for(&mut said, "once more");
        bench.write("here/go", "");
        let (ended, rest) = running.end();
        assert_eq!(ended, Some(code), "{signal}");
        let told: serde_json::Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
        assert_eq!((&told["taken"], &told["done"]), (&json!(1), &json!(1)), "{told}");
        assert_eq!(listed(&bench, &["--state", "pending"]), ["b", "c"]);
    }
}

#[test]
fn the_second_interrupt_ends_the_commands_and_releases_their_items() {
    let bench = Bench::new();
    push(&bench, &["a", "b", "c"]);
    let script = "trap 'echo asked; kill $!; exit 1' TERM; sleep 600 & echo ready; wait";
    let arguments = redrive(&["--concurrency", "2", "--json"], script);
    let mut running = Running::start(&bench, &arguments, 2);
    let mut said = running.said();
    send("INT", running.tool.id());
    wait_for(&mut said, "once more");
    send("INT", running.tool.id());
    let (ended, rest) = running.end();
    assert_eq!(ended, Some(130));
    let lines: Vec<&str> = rest.lines().collect();
    assert_eq!(lines[..2], ["asked", "asked"], "{rest}");
    let told: serde_json::Value = serde_json::from_str(lines[2]).unwrap();
    assert_eq!(
        (&told["taken"], &told["released"], &told["failed"]),
        (&json!(2), &json!(2), &json!(0)),
        "{told}"
    );
    assert_eq!(listed(&bench, &["--state", "pending"]).len(), 3);
    assert!(history(&bench, "a").is_empty());
}

#[test]
fn a_third_interrupt_kills_a_command_that_does_not_end() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    let script = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
    let mut running = Running::start(&bench, &redrive(&[], script), 1);
    let mut said = running.said();
    send("INT", running.tool.id());
    wait_for(&mut said, "once more");
    send("INT", running.tool.id());
    wait_for(&mut said, "SIGTERM");
    send("INT", running.tool.id());
    assert_eq!(running.end().0, Some(130));
    assert_eq!(listed(&bench, &["--state", "pending"]), ["a"]);
}

/// After a kill, only leased items have to wait for the end of their leases.
#[test]
fn a_tool_that_is_killed_leaves_the_rest_as_it_was() {
    let bench = Bench::new();
    push(&bench, &["a", "b", "c"]);
    let script = "[ $PRODIGY_ITEM_ID = a ] && exit 0; echo ready; until [ -e go ]; do sleep 0.02; done";
    let mut running = Running::start(&bench, &redrive(&["--lease", "10m"], script), 1);
    running.tool.kill().unwrap();
    running.tool.wait().unwrap();
    bench.write("here/go", "");
    assert_eq!(listed(&bench, &[]), ["b", "c"]);
    // A leased item is pending again after its lease; other items were always pending.
    let leased = listed(&bench, &["--state", "leased"]);
    assert_eq!(leased[0], "b");
    assert_eq!(listed(&bench, &["--state", "pending"]).len(), 2 - leased.len());
    assert_eq!(show(&bench, "b")["failure_count"], 1);
}

#[test]
fn the_report_adds_up() {
    let bench = Bench::new();
    let ids: Vec<String> = (0..60).map(|number| format!("i{number}")).collect();
    push(&bench, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let script = "case $PRODIGY_ITEM_ID in *1) exit 1 ;; *2) exit 75 ;; *3) kill $$ ;; esac";
    let run = bench
        .run(&redrive(&["--concurrency", "4", "--json"], script))
        .code(1);
    let told = report(&run);
    let count = |name: &str| told[name].as_u64().unwrap();
    assert_eq!(count("taken"), 60);
    assert_eq!((count("failed"), count("released")), (12, 6));
    let sum: u64 = [
        "done",
        "failed",
        "released",
        "parked",
        "kept",
        "lost",
        "unsettled",
    ]
    .iter()
    .map(|name| count(name))
    .sum();
    assert_eq!(sum, 60, "{told}");
    assert_eq!(listed(&bench, &[]).len(), 18);
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_gets_a_progress_bar_and_a_pipe_gets_none() {
    let bench = Bench::new();
    push(&bench, &["a", "b"]);
    let script = "echo trouble >&2; echo result; sleep 0.5";
    let piped = bench.run(&redrive(&["a"], script)).code(0);
    assert_eq!(piped.out, "result\n");
    assert_eq!(
        piped.err.lines().collect::<Vec<_>>(),
        ["trouble", "1 item taken: 1 done"]
    );
    let Some(tool) = bench.on_terminal(&redrive(&["b"], script)) else {
        return;
    };
    let shown = crate::support::run(tool, "").code(0);
    assert!(
        shown.out.contains("of 1") && shown.out.contains("trouble"),
        "{:?}",
        shown.out
    );
    assert!(shown.out.contains("1 item taken: 1 done"), "{:?}", shown.out);
    // The bar is removed before the output of a command is written, so no such line has a bar.
    for line in ["trouble", "result"] {
        let (before, _) = shown.out.split_once(&format!("{line}\r\n")).unwrap();
        let same_line = before.rsplit(['\r', '\n']).next().unwrap();
        assert!(!same_line.contains("of 1"), "{:?}", shown.out);
    }
}
