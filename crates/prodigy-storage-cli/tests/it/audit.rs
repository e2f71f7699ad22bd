//! Tests that removals by commands are recorded in the audit log.

use std::process::Stdio;

use prodigy_storage::{Removal, RemovalKind, RemovalOutcome, Timestamp};
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
    (rule.to_owned(), kind.to_owned(), count, "removed".into())
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
        assert_eq!(entries.len(), 1, "{entries:?}");
        let why = entries[0].3["kept"]["why"].as_str().unwrap();
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

/// Of several processes that remove the same at the same time, one has removed it.
#[test]
fn a_removal_by_several_processes_at_once_is_in_the_audit_log_once() {
    let rounds = 2;
    for command in [
        &["job", "delete", "job", "--repo", "shop", "--yes"][..],
        &["clean", "--idle-jobs", "0s", "--yes"],
        &[
            "checkpoint",
            "prune",
            "--keep",
            "1",
            "--repo",
            "shop",
            "--job",
            "job",
        ],
        &["dlq", "purge", "--any", "--yes", "--repo", "shop", "--job", "job"],
    ] {
        for _ in 0..rounds {
            let bench = filled();
            let start = |_| {
                let mut tool = bench.std(command.iter().chain(&["--json"]));
                tool.stdout(Stdio::piped()).stderr(Stdio::piped());
                tool.spawn().unwrap()
            };
            let running: Vec<_> = (0..3).map(start).collect();
            let mut deleted = 0;
            for run in running {
                let out = run.wait_with_output().unwrap().stdout;
                deleted += String::from_utf8(out)
                    .unwrap()
                    .matches("\"deleted\":true")
                    .count();
            }
            let log = log(&bench);
            let made = log.iter().filter(|entry| entry.3 == "removed");
            let counts: Vec<_> = made.map(|entry| (entry.1.as_str(), entry.2)).collect();
            match command[0] {
                "job" => assert_eq!((counts, deleted), (vec![("job", 1)], 1), "{log:?}"),
                "clean" => assert_eq!(counts, [("job", 1)], "{log:?}"),
                _ => {
                    let all: u64 = counts.iter().map(|(_, count)| count).sum();
                    assert_eq!(all, 2, "{command:?}: {log:?}");
                }
            }
        }
    }
}

/// A removal that was refused before anything was removed is not one that the log lacks.
#[test]
fn a_read_only_root_lacks_no_entry_of_what_was_not_removed() {
    let bench = Bench::new();
    let root = bench.root().display().to_string();
    let script = format!(
        "for job in one two; do echo 1 | prodigy-storage events append --repo shop --job $job >&2; done\n\
         mount -o remount,ro '{root}' || exit 77\n\
         prodigy-storage job delete one --repo shop --yes; echo code $?\n\
         prodigy-storage clean --idle-jobs 0s --yes; echo code $?"
    );
    let Some(shown) = crate::planted::on_tmpfs(&bench, "size=4m", &script) else {
        return;
    };
    assert_eq!(
        shown.out.matches("code 1\n").count(),
        2,
        "{}{}",
        shown.out,
        shown.err
    );
    assert!(!shown.err.contains("audit log"), "{}", shown.err);
    assert_eq!(
        shown.err.matches("not removed: job of ").count(),
        2,
        "{}",
        shown.err
    );
    assert!(shown.err.contains("nothing was removed"), "{}", shown.err);
}

/// A process that dies in the middle of a deletion has written how much it was to remove.
#[test]
fn a_deletion_that_died_is_begun_in_the_log_until_one_ends_it() {
    let bench = filled();
    let storage = prodigy_storage::Storage::builder()
        .environment(prodigy_storage::config::MapEnvironment::new())
        .base_dir(bench.root())
        .open()
        .unwrap();
    let job = storage.repo("shop").unwrap().job("job").unwrap();
    let begin = |kind, rule: &str, bytes| {
        let removal = Removal::new(kind, rule, Timestamp::now()).job(job.address().clone());
        storage
            .audit_log()
            .unwrap()
            .append(&removal.size(1, bytes).outcome(RemovalOutcome::Begun))
            .unwrap();
    };
    let counted = |bench: &Bench| -> u64 {
        let entries = bench.run(&["clean", "--log", "--json"]).code(0).jsonl();
        let bytes = entries
            .iter()
            .map(|entry| entry["removal"]["bytes"].as_u64().unwrap());
        bytes.sum()
    };
    let cut_short = |bench: &Bench| {
        bench.write(
            "home/.prodigy/deletions/shop/job.json",
            "{\"deleted_at\":\"2026-11-28T15:00:00Z\"}\n",
        );
    };
    // Killed in `job delete`, and again in the clean that was to end it.
    begin(RemovalKind::Job, "job delete", 47_000);
    begin(RemovalKind::UnfinishedDeletion, "clean", 0);
    let shown = bench.run(&["clean", "--log"]).code(0);
    let begun = "begun, not known to have ended";
    assert_eq!(shown.out.matches(begun).count(), 2, "{}", shown.out);
    assert!(!shown.out.contains("removed"), "{}", shown.out);
    cut_short(&bench);
    let ended = bench.run(&["clean", "--yes"]).code(0);
    assert!(
        ended.err.contains("removed ") && !ended.err.contains("removed 0 B"),
        "{}",
        ended.err
    );
    assert_eq!(counted(&bench), 47_000);
    assert_eq!(log(&bench), [entry("clean", "unfinished_deletion", 1)]);
    // `job delete` ends it as `clean` does.
    let bench = filled();
    let opened = prodigy_storage::Storage::builder()
        .environment(prodigy_storage::config::MapEnvironment::new())
        .base_dir(bench.root())
        .open()
        .unwrap();
    let removal = Removal::new(RemovalKind::Job, "job delete", Timestamp::now()).job(job.address().clone());
    let begun = removal.size(1, 47_000).outcome(RemovalOutcome::Begun);
    opened.audit_log().unwrap().append(&begun).unwrap();
    cut_short(&bench);
    let delete = ["job", "delete", "job", "--repo", "shop", "--yes"];
    bench.run(&delete).code(0);
    assert_eq!(log(&bench), [entry("job delete", "job", 1)]);
    assert_eq!(counted(&bench), 47_000);
    // A deletion that no entry counts is counted by the clean that ends it.
    let bench = filled();
    cut_short(&bench);
    bench.run(&["clean", "--yes"]).code(0);
    assert!(counted(&bench) > 0);
}

#[test]
fn a_long_reason_why_data_was_kept_widens_no_other_row_of_the_log() {
    let bench = filled();
    bench
        .run(&["job", "delete", "job", "--repo", "shop", "--yes"])
        .code(0);
    let why = "a reason of many words ".repeat(12);
    let storage = prodigy_storage::Storage::builder()
        .environment(prodigy_storage::config::MapEnvironment::new())
        .base_dir(bench.root())
        .open()
        .unwrap();
    let kept = Removal::new(
        RemovalKind::Quarantine,
        "retention.quarantine.max_age",
        Timestamp::now(),
    );
    let kept = kept.size(1, 1).outcome(RemovalOutcome::Kept { why: why.clone() });
    storage.audit_log().unwrap().append(&kept).unwrap();
    let shown = bench.run(&["clean", "--log"]).code(0);
    let lines = shown.lines();
    assert!(lines[0].ends_with("JOB       WHY"), "{lines:?}");
    assert!(lines[1].contains("removed") && lines[1].len() < 130, "{lines:?}");
    assert!(
        lines[2].contains("  kept  ") && lines[2].ends_with(why.trim_end()),
        "{lines:?}"
    );
}
