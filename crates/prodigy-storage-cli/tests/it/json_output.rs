//! Tests that each line of `--json` output fits `docs/reference/json-output.schema.json`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::support::Bench;

const SCHEMA: &str = include_str!("../../../../docs/reference/json-output.schema.json");
/// Commands without JSON of their own on standard output: they print nothing, or run a command that prints.
const WITHOUT: [&str; 2] = ["dlq-push", "lock-run"];

/// The used part of JSON Schema. An unknown keyword fails the check.
struct Schema {
    definitions: Map<String, Value>,
}

impl Schema {
    fn read() -> Self {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let definitions = schema["$defs"].as_object().unwrap().clone();
        Self { definitions }
    }

    /// The reason why a value does not match the schema; `None` if it matches.
    fn misfit(&self, schema: &Value, value: &Value, place: &str) -> Option<String> {
        let schema = schema.as_object().unwrap();
        schema.iter().find_map(|(word, wanted)| match word.as_str() {
            "description" => None,
            "$ref" => {
                let name = wanted.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                self.misfit(&self.definitions[name], value, place)
            }
            "anyOf" => {
                let misfits = wanted
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|one| self.misfit(one, value, place));
                let misfits: Option<Vec<String>> = misfits.collect();
                Some(format!("none of: {}", misfits?.join("; ")))
            }
            "enum" => {
                let is_one = wanted.as_array().unwrap().contains(value);
                (!is_one).then(|| format!("{place} is {value}, not one of {wanted}"))
            }
            "type" => {
                let is = match wanted.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    other => panic!("{place}: type {other}"),
                };
                (!is).then(|| format!("{place} is {value}, and no {wanted}"))
            }
            "minimum" => {
                let is_less = value
                    .as_i64()
                    .is_some_and(|value| value < wanted.as_i64().unwrap());
                is_less.then(|| format!("{place} is {value}"))
            }
            "format" => {
                assert_eq!(wanted, "date-time");
                let is_time = value
                    .as_str()
                    .is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok());
                (!is_time).then(|| format!("{place} is {value}, and no time"))
            }
            "required" => {
                let mut names = wanted
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|name| name.as_str().unwrap());
                let missing = names.find(|name| value.get(name).is_none());
                missing.map(|name| format!("{place} lacks `{name}`"))
            }
            "properties" => {
                wanted.as_object().unwrap().iter().find_map(|(name, schema)| {
                    self.misfit(schema, value.get(name)?, &format!("{place}.{name}"))
                })
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                let is_known = |name: &str| known.is_some_and(|known| known.contains_key(name));
                let mut others = value.as_object()?.iter().filter(|(name, _)| !is_known(name));
                match wanted {
                    Value::Bool(true) => None,
                    Value::Bool(false) => others
                        .next()
                        .map(|(name, _)| format!("{place} has `{name}`, too")),
                    schema => others
                        .find_map(|(name, value)| self.misfit(schema, value, &format!("{place}.{name}"))),
                }
            }
            "items" => value
                .as_array()?
                .iter()
                .find_map(|item| self.misfit(wanted, item, &format!("{place}[]"))),
            other => panic!("{place}: {other} is a word that this check does not know"),
        })
    }

    /// Runs a command, and checks each line of its output.
    fn check(&self, bench: &Bench, words: &[&str], input: &str, seen: &mut BTreeSet<String>) {
        let pair = words.get(..2).map(|two| two.join("-")).unwrap_or_default();
        let name = match self.definitions.contains_key(&pair) {
            true => pair,
            false => words[0].to_owned(),
        };
        let schema = self
            .definitions
            .get(&name)
            .unwrap_or_else(|| panic!("no definition for {words:?}"));
        let of_job = [
            "status", "health", "doctor", "backup", "restore", "import", "migrate", "usage", "clean", "lock",
            "config", "schema",
        ];
        let mut all = words.to_vec();
        let end = all.iter().position(|word| *word == "--").unwrap_or(all.len());
        all.insert(end, "--json");
        if !of_job.contains(&words[0])
            && !words.contains(&"--repo")
            && !["repo-list", "repo-identify", "repo-unregister"].contains(&&*name)
        {
            all.splice(end..end, ["--repo", "shop"]);
        }
        let run = bench.feed(&all, input);
        assert!(!run.out.is_empty(), "{words:?} printed nothing: {}", run.err);
        for line in run.jsonl() {
            if let Some(misfit) = self.misfit(schema, &line, "it") {
                panic!("{words:?}: {misfit}\n{line}");
            }
        }
        seen.insert(name);
    }
}

fn names(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
    for below in command
        .get_subcommands()
        .filter(|below| below.get_name() != "help")
    {
        let path = format!("{path}{}", below.get_name());
        match below.has_subcommands() {
            true => names(below, &format!("{path}-"), found),
            false => drop(found.insert(path)),
        }
    }
}

#[test]
fn each_line_fits_the_definition_of_its_command() {
    let bench = Bench::new();
    let schema = Schema::read();
    let mut seen = BTreeSet::new();
    let mut check = |words: &[&str], input: &str| schema.check(&bench, words, input, &mut seen);
    let events = "{\"type\":\"started\",\"worktree\":\"w\"}\n{\"type\":\"done\"}\n";
    check(&["events", "append", "--job", "job", "--ack"], events);
    check(&["events", "append", "--job", "other", "--ack"], events);
    for command in ["cat", "tail", "stats"] {
        check(&["events", command, "--job", "job"], "");
        check(&["events", command, "--all-jobs"], "");
    }
    check(&["events", "search", "done", "--all-jobs"], "");
    check(&["events", "follow", "--job", "job", "--for", "0s"], "");
    check(&["events", "follow", "--all-jobs", "--for", "0s"], "");
    check(&["events", "end", "--job", "job"], "");

    check(
        &["checkpoint", "save", "--job", "job", "--phase", "map"],
        "{\"a\":1}",
    );
    check(
        &["checkpoint", "save", "--job", "job", "--phase", "map"],
        "{\"a\":2,\"b\":3}",
    );
    check(&["checkpoint", "show", "--job", "job"], "");
    let list = bench
        .run(&["checkpoint", "list", "--job", "job", "--repo", "shop", "--json"])
        .code(0);
    let documents: Vec<String> = list
        .jsonl()
        .iter()
        .map(|one| one["document"].as_str().unwrap().to_owned())
        .collect();
    check(&["checkpoint", "list", "--job", "job"], "");
    check(&["checkpoint", "verify", "--job", "job"], "");
    check(
        &["checkpoint", "diff", "--job", "job", &documents[0], &documents[1]],
        "",
    );
    check(
        &["checkpoint", "prune", "--job", "job", "--keep", "1", "--dry-run"],
        "",
    );
    check(&["checkpoint", "delete", "--job", "job", &documents[0]], "");

    let name = ["--kind", "plan", "--name", "one"];
    check(&[&["document", "put"], &name[..]].concat(), "1");
    check(&[&["document", "show"], &name[..]].concat(), "");
    check(&["document", "list"], "");
    check(&[&["document", "delete"], &name[..]].concat(), "");
    bench
        .feed(
            &[
                "document", "put", "--repo", "shop", "--job", "job", "--kind", "plan", "--name", "x",
            ],
            "1",
        )
        .code(0);

    let failed = r#"{"item_id":"ID","item_data":1,"failure_history":[{"error_type":"Timeout","error_message":"slow"}]}"#;
    let items: String = ["a", "b", "c", "d", "e"]
        .map(|id| failed.replace("ID", id) + "\n")
        .concat();
    check(&["dlq", "import", "--job", "job"], &items);
    for command in ["list", "export", "analyze"] {
        check(&["dlq", command, "--job", "job"], "");
    }
    check(&["dlq", "show", "--job", "job", "a"], "");
    check(
        &["dlq", "edit", "--job", "job", "a", "--patch", "{\"item_data\":2}"],
        "",
    );
    check(&["dlq", "redrive", "--job", "job", "--dry-run", "--", "true"], "");
    check(&["dlq", "take", "--job", "job", "--limit", "1"], "");
    let taken = |bench: &Bench| {
        let words = ["dlq", "take", "--job", "job", "--repo", "shop", "--limit", "1"];
        bench.run(&words).code(0).json()["lease_token"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let token = taken(&bench);
    check(&["dlq", "list", "--job", "job"], "");
    check(&["dlq", "renew", "--job", "job", &token], "");
    check(&["dlq", "ack", "--job", "job", &token], "");
    check(&["dlq", "release", "--job", "job", "a"], "");
    check(&["dlq", "park", "--job", "job", "c"], "");
    check(&["dlq", "unpark", "--job", "job", "c"], "");
    check(&["dlq", "park", "--job", "job", "--error-type", "Timeout"], "");
    check(&["dlq", "unpark", "--job", "job", "--parked"], "");
    check(&["dlq", "purge", "--job", "job", "--error-type", "Timeout"], "");
    check(&["dlq", "remove", "--job", "job", "a"], "");
    check(&["dlq", "compact", "--job", "job"], "");
    bench
        .run(&["dlq", "park", "--job", "job", "--repo", "shop", "d"])
        .code(0);

    bench.run(&["lock", "run", "shop/build", "--", "true"]).code(0);
    check(&["lock", "list"], "");
    bench.write("home/.prodigy/worktrees/shop/session-7/x", "");
    check(&["worktree", "list"], "");
    check(&["worktree", "path", "7"], "");
    let orphans =
        r#"[{"path":"/w","agent_id":"a","item_id":"i","failed_at":"2026-11-24T00:00:00Z","error":"busy"}]"#;
    bench.write("home/.prodigy/orphaned_worktrees/shop/job.json", orphans);
    check(&["worktree", "orphans"], "");
    check(&["export", "--job", "job"], "");
    check(&["export", "--job", "job", "written.jsonl"], "");
    for words in [
        &["status"][..],
        &["health"],
        &["doctor"],
        &["usage"],
        &["usage", "--jobs"],
        &["config", "show"],
    ] {
        check(words, "");
    }
    check(&["config", "show", "--origin"], "");
    check(&["config", "check"], "");
    for command in [
        &["job", "list"][..],
        &["job", "show", "job"],
        &["job", "finish", "job"],
        &["job", "delete", "job"],
        &["repo", "list"],
        &["repo", "identify"],
    ] {
        check(command, "");
    }
    bench.run(&["repo", "register", "--as", "free"]).code(0);
    check(&["repo", "unregister", "free"], "");
    check(&["repo", "unregister", "free", "--yes"], "");
    let archive = bench.path("archive.tar.zst");
    check(&["backup", archive.to_str().unwrap()], "");
    check(&["restore", archive.to_str().unwrap(), "--check"], "");
    let jobs = bench.path("job.jsonl");
    bench
        .run(&[
            "export",
            "--repo",
            "shop",
            "--job",
            "other",
            jobs.to_str().unwrap(),
        ])
        .code(0);
    let page = bench.path("page.html");
    check(&["report", "--output", page.to_str().unwrap()], "");
    check(&["import", jobs.to_str().unwrap(), "--repo", "mill"], "");
    let event = "{\"timestamp\":\"2026-01-02T03:04:05Z\",\"event\":1}\n";
    bench.write("here/.prodigy/events/old/events-1.jsonl", event);
    check(&["migrate", "--repo", "mill"], "");
    check(&["doctor"], "");
    let copied = bench.path("copied");
    let copied = copied.to_str().unwrap();
    let copy = ["copy", "--to", copied, "--repo", "shop", "--job", "other"];
    check(&copy, "");
    check(&[&copy[..], &["--yes"]].concat(), "");
    check(&["clean", "--idle-jobs", "1ns"], "");
    check(&["job", "delete", "other", "--yes"], "");
    // Damage makes the doctor print a finding.
    let file = bench.only_file("events/shop/job", "events-", ".jsonl");
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace("started", "stalled");
    bench.write(file.strip_prefix(bench.path("")).unwrap().to_str().unwrap(), text);
    check(&["doctor"], "");
    check(&["clean", "--idle-jobs", "1ns", "--yes"], "");
    check(&["clean", "--log"], "");

    let mut all = BTreeSet::new();
    names(&prodigy_storage_cli::command(), "", &mut all);
    // Not checked: `repo relink` and `repo register`, which print the same as `repo identify`, and commands that need
    // a server.
    let elsewhere = [
        "repo-relink",
        "repo-register",
        "schema-show",
        "schema-migrate",
        "schema-renew",
    ];
    let unchecked: Vec<&String> = all
        .iter()
        .filter(|name| {
            !seen.contains(*name) && !WITHOUT.contains(&name.as_str()) && !elsewhere.contains(&name.as_str())
        })
        .collect();
    assert_eq!(unchecked, [""; 0], "these print JSON that no line above checks");
}

#[test]
fn each_command_that_prints_json_has_a_definition() {
    let schema = Schema::read();
    let mut all = BTreeSet::new();
    names(&prodigy_storage_cli::command(), "", &mut all);
    for name in &all {
        let has = schema.definitions.contains_key(name);
        assert_eq!(
            has,
            !WITHOUT.contains(&name.as_str()),
            "{name}: a definition in docs/reference/json-output.schema.json"
        );
    }
}

#[test]
fn the_check_finds_what_does_not_fit() {
    let schema = Schema::read();
    let misfit = |name: &str, value: Value| schema.misfit(&schema.definitions[name], &value, "it");
    let good = serde_json::json!({"document": "d", "phase": "map", "modified": "2026-11-24T00:00:00Z", "bytes": 1, "checksum": "valid"});
    assert_eq!(misfit("checkpoint-list", good.clone()), None);
    for (field, value) in [
        ("bytes", Value::from(-1)),
        ("bytes", "1".into()),
        ("checksum", "broken".into()),
        ("modified", "yesterday".into()),
        ("more", 1.into()),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        assert!(misfit("checkpoint-list", bad).unwrap().contains(field));
    }
    assert!(
        misfit("checkpoint-list", serde_json::json!({}))
            .unwrap()
            .contains("lacks")
    );
    assert!(
        misfit("job-delete", serde_json::json!({"repo": "r"}))
            .unwrap()
            .starts_with("none of: ")
    );
}

#[test]
fn a_stored_text_of_several_lines_is_one_line_of_the_output() {
    let bench = Bench::new();
    let job = ["--repo", "shop", "--job", "job"];
    let text = "{\n\"a\": \"b\\n\",\r\n\"n\": 1.0\n}\n";
    let save = ["checkpoint", "save", "--phase", "map"];
    bench.feed(&[&save[..], &job].concat(), text).code(0);
    let put = ["document", "put", "--kind", "notes", "--name", "one"];
    bench.feed(&[&put[..], &job].concat(), text).code(0);
    // States and dead letters of another program.
    bench.write(
        "home/.prodigy/state/shop/mapreduce/jobs/other/setup-checkpoint.json",
        text,
    );
    let item = r#"{"item_id":"i","item_data":{"a":1,"b":2},"failure_history":[]}"#.replace(',', ",\n");
    bench.write(
        "home/.prodigy/dlq/shop/other/mapreduce/dlq/other/items/i.json",
        &item,
    );
    let old = bench.write("old/dlq/shop/job/mapreduce/dlq/job/items/i.json", &item);
    let import = bench
        .run(&["import", bench.path("old").to_str().unwrap()])
        .code(0);
    assert!(old.exists() && import.err.is_empty(), "{}", import.err);
    let other = ["--repo", "shop", "--job", "other"];
    for (command, job) in [
        (&["checkpoint", "show"][..], job),
        (&["checkpoint", "show"], other),
        (&["document", "show", "--kind", "notes", "--name", "one"], job),
        (&["dlq", "list"], job),
        (&["dlq", "show", "i"], job),
        (&["dlq", "export"], job),
        (&["dlq", "take", "--all"], job),
    ] {
        for json in [&["--json"][..], &[]] {
            if json.is_empty() && command[0] == "dlq" {
                continue;
            }
            let run = bench.run(&[command, &job, json].concat());
            let lines = run.lines();
            assert_eq!(lines.len(), 1, "{command:?}: {} {}", run.out, run.err);
            let value: Value = serde_json::from_str(lines[0]).unwrap();
            if command[0] != "dlq" {
                assert_eq!(value["data"]["a"], "b\n", "{command:?}");
                assert!(lines[0].contains("1.0"), "{}", run.out);
                let payload = bench.run(&[command, &job, &["--payload"]].concat()).code(0);
                assert_eq!(payload.out.trim_end(), text.trim_end(), "{command:?}");
            }
        }
    }
}
