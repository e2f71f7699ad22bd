//! Tests of commands whose standard output is closed.

use crate::support::{Bench, Run, run, started_by};

/// Runs the tool in a shell with this redirection of its standard output.
fn redirected(bench: &Bench, to: &str, arguments: &[&str], input: &str) -> Run {
    let tool = bench.std(arguments);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &format!("exec \"$@\" {to}"), "sh"]);
    run(started_by(shell, &tool), input)
}

const JOB: [&str; 4] = ["--repo", "shop", "--job", "job"];

fn of(words: &[&'static str]) -> Vec<&'static str> {
    [words, &JOB].concat()
}

fn filled() -> Bench {
    let bench = Bench::new();
    bench.append("1\n");
    let push = of(&["dlq", "push"]);
    bench.feed(&push, "{\"item_id\":\"a\",\"item_data\":1}\n").code(0);
    bench
        .feed(&of(&["checkpoint", "save", "--phase", "map"]), "1")
        .code(0);
    bench
}

#[test]
fn a_command_that_prints_its_result_fails_if_standard_output_is_closed() {
    let bench = filled();
    for arguments in [
        of(&["events", "cat"]),
        of(&["events", "stats"]),
        of(&["events", "follow", "--for", "0s"]),
        of(&["events", "append", "--ack"]),
        of(&["checkpoint", "show"]),
        of(&["checkpoint", "list"]),
        of(&["dlq", "take", "--all"]),
        of(&["dlq", "list"]),
        of(&["dlq", "show", "a"]),
        of(&["dlq", "analyze"]),
        of(&["dlq", "export"]),
        of(&["dlq", "redrive", "--dry-run"]),
        vec!["worktree", "list", "--repo", "shop"],
        vec!["lock", "list"],
        vec!["usage"],
        vec!["config", "show"],
        vec!["repo", "identify"],
    ] {
        redirected(&bench, ">&-", &arguments, "2\n")
            .code(1)
            .says("error: write to standard output: it is closed; nothing was done");
        // With `> /dev/null` a user discards the output on purpose.
        if !arguments.contains(&"take") && !arguments.contains(&"append") {
            redirected(&bench, "> /dev/null", &arguments, "").code(0);
        }
    }
    // The refused commands leased no item and stored no event.
    let letter = bench.run(&of(&["dlq", "list", "--json"])).code(0).json();
    assert!(letter["lease_until"].is_null(), "{letter}");
    assert_eq!(bench.run(&of(&["events", "cat"])).code(0).lines().len(), 1);
}

#[test]
fn a_command_whose_result_is_what_it_stores_needs_no_output() {
    let bench = filled();
    for (arguments, input) in [
        (of(&["events", "append"]), "2\n"),
        (of(&["checkpoint", "save", "--phase", "map"]), "2"),
        (of(&["dlq", "push"]), "{\"item_id\":\"b\",\"item_data\":1}\n"),
        (vec!["health"], ""),
        (vec!["doctor"], ""),
        (vec!["config", "check"], ""),
    ] {
        redirected(&bench, ">&-", &arguments, input).code(0);
        redirected(&bench, "1<> /dev/null", &arguments, input).code(0);
    }
}

#[test]
fn a_dash_in_the_place_of_a_file_is_standard_output_or_input() {
    let bench = Bench::new();
    bench.append("{\"n\":1}\n");
    let job = ["--repo", "shop", "--job", "job"];
    let plain = bench.run(&[&["export"][..], &job].concat()).code(0);
    let dash = bench.run(&[&["export"][..], &job, &["-"]].concat()).code(0);
    let without_time = |run: &Run| run.lines()[1..].join("\n");
    assert_eq!(without_time(&dash), without_time(&plain));
    for words in [&["report", "--output", "-"][..], &["report", "-o", "-", "--json"]] {
        let page = bench.run(&[words, &job].concat()).code(0);
        assert!(page.out.starts_with("<!doctype html>"), "{:.80}", page.out);
        assert!(page.out.trim_end().ends_with("</html>"), "{}", page.err);
    }
    let import = ["import", "-", "--repo", "other", "--json"];
    let run = bench.feed(&import, dash.out.as_str()).code(0);
    assert_eq!(run.jsonl()[0]["stored"], 1);
    bench
        .feed(&import, "no line of an export\n")
        .code(5)
        .says("read standard input: line 1");
    assert!(!bench.path("here/-").exists());
}
