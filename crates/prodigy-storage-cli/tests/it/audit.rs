//! Tests that removals by commands are recorded in the audit log.

use serde_json::Value;

use crate::support::{Bench, SAVE};

const JOB: [&str; 4] = ["--repo", "shop", "--job", "job"];

/// A job with events, three checkpoints and two dead letters.
fn filled() -> Bench {
    let bench = Bench::new();
    bench.append("1\n");
    for number in 0..3 {
        bench.feed(&SAVE, number.to_string()).code(0);
    }
    let letters = "{\"item_id\":\"a\",\"item_data\":1}\n{\"item_id\":\"b\",\"item_data\":2}\n";
    bench
        .feed(&[&["dlq", "push"], &JOB[..]].concat(), letters)
        .code(0);
    for owner in [&JOB[..], &JOB[..2]] {
        bench.feed(&[&document("put"), owner].concat(), "1").code(0);
    }
    bench
}

fn document(command: &str) -> [&str; 6] {
    ["document", command, "--kind", "notes", "--name", "one"]
}

/// Rule, kind, count and outcome of each entry.
fn log(bench: &Bench) -> Vec<(String, String, u64, Value)> {
    let entries = bench.run(&["clean", "--log", "--json"]).code(0).jsonl();
    entries
        .iter()
        .map(|entry| {
            let removal = &entry["removal"];
            if removal["repo"].is_null() {
                assert_eq!(removal["job"]["job"], "job");
            }
            let text = |field: &str| removal[field].as_str().unwrap().to_owned();
            (
                text("rule"),
                text("kind"),
                removal["count"].as_u64().unwrap(),
                removal["outcome"].clone(),
            )
        })
        .collect()
}

fn entry(rule: &str, kind: &str, count: u64) -> (String, String, u64, Value) {
    (rule.to_owned(), kind.to_owned(), count, "due".into())
}

#[test]
fn each_command_that_removes_is_in_the_audit_log() {
    let bench = filled();
    let list = bench
        .run(&[&["--json", "checkpoint", "list"], &JOB[..]].concat())
        .jsonl();
    let oldest = list[0]["document"].as_str().unwrap();
    bench
        .run(&[&["checkpoint", "delete", oldest], &JOB[..]].concat())
        .code(0);
    bench
        .run(&[&["checkpoint", "prune", "--keep", "1"], &JOB[..]].concat())
        .code(0);
    for owner in [&JOB[..], &JOB[..2]] {
        bench.run(&[&document("delete"), owner].concat()).code(0);
    }
    // An id that no item has removes nothing, so no entry is written.
    bench
        .run(&[&["dlq", "remove", "a", "none"], &JOB[..]].concat())
        .code(4);
    bench
        .run(&[&["dlq", "purge", "--any", "--yes"], &JOB[..]].concat())
        .code(0);
    bench
        .run(&["job", "delete", "job", "--repo", "shop", "--yes"])
        .code(0);
    assert_eq!(
        log(&bench),
        [
            entry("checkpoint delete", "checkpoints", 1),
            entry("checkpoint prune", "checkpoints", 1),
            entry("document delete", "documents", 1),
            entry("document delete", "documents", 1),
            entry("dlq remove", "dead_letters", 1),
            entry("dlq purge", "dead_letters", 1),
            entry("job delete", "job", 1),
        ]
    );
    let shown = bench.run(&["clean", "--log"]).code(0);
    assert_eq!(shown.out.matches("removed").count(), 7, "{}", shown.out);
    let of_repo = |line: &&str| line.contains("document delete") && line.trim_end().ends_with(" shop");
    assert_eq!(
        shown.lines().into_iter().filter(of_repo).count(),
        1,
        "{}",
        shown.out
    );
}

#[test]
fn what_removes_nothing_is_not_in_the_audit_log() {
    let bench = filled();
    bench
        .run(&[&["checkpoint", "prune", "--keep", "1", "--dry-run"], &JOB[..]].concat())
        .code(0);
    bench
        .run(&[&["checkpoint", "prune", "--keep", "9"], &JOB[..]].concat())
        .code(0);
    bench
        .run(&[&["checkpoint", "delete", "none"], &JOB[..]].concat())
        .code(4);
    bench
        .run(&[&["dlq", "purge", "--any"], &JOB[..]].concat())
        .code(0);
    bench
        .run(&[&["dlq", "remove", "none"], &JOB[..]].concat())
        .code(4);
    for owner in [&JOB[..], &JOB[..2]] {
        let missing = ["document", "delete", "--kind", "notes", "--name", "none"];
        bench.run(&[&missing, owner].concat()).code(4);
    }
    bench.run(&["job", "delete", "job", "--repo", "shop"]).code(1);
    assert_eq!(log(&bench), []);
}

#[test]
fn a_removal_that_failed_is_in_the_audit_log_with_its_reason() {
    let bench = filled();
    let hold = ["lock", "run", "shop/job/mine", "--"];
    let tool = env!("CARGO_BIN_EXE_prodigy-storage");
    let delete = [tool, "job", "delete", "job", "--repo", "shop", "--yes"];
    // `lock run` holds a lock of the job while it runs the deletion, which is therefore refused.
    bench
        .with("PRODIGY__STORAGE__TIMEOUT", "100ms")
        .with("PRODIGY__STORAGE__RETRY_POLICY__MAX_RETRIES", "0")
        .check_log(&[&hold[..], &delete[..]].concat());
}

impl Bench {
    fn check_log(&self, command: &[&str]) {
        self.run(command).code(3);
        let entries = log(self);
        assert_eq!(entries.len(), 2, "{entries:?}");
        assert_eq!(entries[0], entry("job delete", "job", 1));
        let why = entries[1].3["kept"]["why"].as_str().unwrap();
        assert!(why.contains("lock"), "{why}");
    }
}

#[test]
fn a_removal_that_the_log_could_not_take_is_reported() {
    let bench = filled();
    let purge = bench.std([&["dlq", "purge", "--any", "--yes"], &JOB[..]].concat());
    // With this limit, no file can grow.
    let script = r#"trap "" XFSZ; ulimit -f 0; exec "$0" "$@""#;
    let limited = crate::support::within(script, &purge);
    let run = crate::support::run(limited, "");
    let left = bench
        .run(&[&["dlq", "list", "--any"], &JOB[..]].concat())
        .lines()
        .len();
    assert_eq!(run.code, Some(1), "{}", run.err);
    assert!(
        left > 0
            || run
                .err
                .contains("the audit log lacks the removal of dead letters"),
        "{}",
        run.err
    );
    assert!(run.err.contains("file"), "{}", run.err);
}
