//! Runs each example of the help as it is printed.

use std::path::PathBuf;
use std::process::Command;

use crate::support::{Bench, run};

/// The commands in a help text: lines that begin with two spaces, and lines that a backslash, a pipe or an open quote
/// continues.
fn examples(help: &str) -> Vec<String> {
    let mut examples: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in help.lines().filter_map(|line| line.strip_prefix("  ")) {
        assert!(line.len() + 2 <= 80, "a terminal of 80 columns wraps: {line}");
        match examples.last_mut() {
            Some(example) if is_open => example.push_str(&format!("\n{line}")),
            _ => examples.push(line.to_owned()),
        }
        is_open = line.ends_with('\\') || line.ends_with('|');
    }
    examples.retain(|example| !example.starts_with('#'));
    examples
}

/// A store with everything that the examples use, and replacements for the names in the examples.
fn place() -> (Bench, Vec<(&'static str, String)>) {
    let mut stored = Vec::new();
    let bench = Bench::new();
    let at = "2026-01-01T00:00:00Z";
    let item = |id: &str, more: &str| {
        format!(
            r#"{{"item_id":"{id}","item_data":{{"file":"a.rs"}},"error_signature":"S","failure_history":[{{"error_type":"Timeout","timestamp":"{at}"}}]{more}}}"#
        )
    };
    let items = [
        item("TAKEN", ""),
        item("ID", ""),
        item("PARKED", r#","reprocess_eligible":false"#),
    ];
    let push = ["dlq", "push", "--repo", "here", "--job", "J"];
    bench.feed(&push, items.join("\n")).code(0);
    let of = ["--repo", "here", "--job", "J"];
    let append = [&["events", "append"], &of[..]].concat();
    bench.feed(&append, "{\"status\":\"failed\"}\n").code(0);
    // A job with a leased item can't be copied, so the examples of `copy` use jobs without dead letters.
    for repo in ["here", "shop"] {
        let append = ["events", "append", "--repo", repo, "--job", "job-7"];
        bench.feed(&append, "1").code(0);
    }
    let save = [&["checkpoint", "save", "--phase", "setup"], &of[..]].concat();
    bench.feed(&save, "{\"items\":3}").code(0);
    for (state, name) in [("1", "OLD.json"), ("2", "NEW.json")] {
        let save = [&["checkpoint", "save", "--phase", "map", "--json"], &of[..]].concat();
        let saved = bench.feed(&save, state).code(0).json();
        let document = saved["document"].as_str().unwrap().to_owned();
        stored.push((name, document));
    }
    let put = [
        "document",
        "put",
        "--repo",
        "here",
        "--kind",
        "workflows",
        "--name",
        "nightly",
    ];
    bench.feed(&put, "1").code(0);
    let taken = bench
        .run(&["dlq", "take", "--repo", "here", "--job", "J", "TAKEN"])
        .code(0);
    let token = taken.json()["lease_token"].as_str().unwrap().to_owned();
    bench.write("here/letters.jsonl", item("imported", ""));
    bench.write("here/old/.prodigy/dlq/J/items/item_9.json", item("item_9", ""));
    bench.write("here/mapreduce/dlq/J/items/item_0.json", item("item_0", ""));
    bench.write(
        "here/.prodigy/mapreduce/dlq/J/items/item_8.json",
        item("item_8", ""),
    );
    for (name, text) in [
        ("here/work.sh", "#!/bin/sh\nexit 0\n"),
        ("here/fix.sh", "#!/bin/sh\nexit 0\n"),
        ("bin/nano", "#!/bin/sh\nexit 0\n"),
        ("bin/vi", "#!/bin/sh\nexit 0\n"),
    ] {
        let script = bench.write(name, text);
        assert!(
            Command::new("chmod")
                .arg("+x")
                .arg(script)
                .status()
                .unwrap()
                .success()
        );
    }
    stored.push(("TOKEN", token));
    (bench, stored)
}

fn run_each(help: &str) -> usize {
    let (bench, stored) = place();
    let tool = PathBuf::from(env!("CARGO_BIN_EXE_prodigy-storage"));
    let folders = [bench.path("bin"), tool.parent().unwrap().to_owned()];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&path))).unwrap();
    let examples = examples(help);
    if help.contains("repo unregister --yes here") {
        bench.run(&["repo", "register", "--as", "here"]).code(0);
    }
    for example in &examples {
        let mut shell = Command::new("sh");
        let environment = bench.std([""; 0]);
        let variables = environment
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        shell
            .env_clear()
            .envs(variables)
            .env("PATH", &path)
            .current_dir(bench.path("here"));
        let line = stored
            .iter()
            .fold(example.clone(), |line, (word, text)| line.replace(word, text));
        shell.args(["-c", &line]);
        run(shell, "").code(0);
    }
    examples.len()
}

#[test]
fn every_example_of_every_help_runs_as_it_is_printed() {
    if Command::new("jq").arg("--version").output().is_err() {
        eprintln!("SKIPPED: this machine has no `jq`, which the examples use");
        return;
    }
    let table = prodigy_storage_cli::command();
    let dlq = table.find_subcommand("dlq").unwrap();
    let mut count = run_each(&dlq.get_after_help().unwrap().to_string());
    assert_eq!(count, 6);
    for group in table.get_subcommands() {
        // The guide of `dlq` was run above.
        let whole = (group.get_name() != "dlq").then_some(group);
        for command in group.get_subcommands().chain(whole) {
            let help = command.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            let (group, name) = (group.get_name(), command.get_name());
            // Examples of `schema` need a database server.
            let found = match group == "schema" {
                true => examples(&help).len(),
                false => run_each(&help),
            };
            assert!(found > 0, "`{group} {name}` has no example");
            count += found;
        }
    }
    assert!(count > 70, "{count}");
}

/// The width of the terminal does not change how examples are printed.
#[test]
fn the_help_has_its_examples_in_whole_lines() {
    let bench = Bench::new();
    let help = bench.run(&["dlq", "push", "--help"]).code(0).out;
    assert!(
        help.contains(
            "    '\"error_message\":\"no answer in 30 s\"}]}' |\n    prodigy-storage dlq push --job J"
        ),
        "{help}"
    );
    for command in [
        &["dlq", "help"][..],
        &["help", "dlq"],
        &["dlq", "help", "redrive"],
    ] {
        bench.run(command).code(0);
    }
}
