//! Tests of `import`: of a root that another program wrote, and of a project's own folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Bench, Run, run, tree};

const JOB: [&str; 4] = ["--repo", "shop", "--job", "mapreduce-1001"];

fn copy(from: &Path, to: &Path) {
    for path in tree(from).into_iter().filter(|path| path.is_file()) {
        let to = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, std::fs::read(path).unwrap()).unwrap();
    }
}

/// A copy of a root that the Prodigy program, version 0.4.4, wrote.
fn bench() -> (Bench, PathBuf) {
    let bench = Bench::new();
    let old = bench.path("old");
    let fixture = "../prodigy-storage-file/tests/fixtures/prodigy-0.4.4";
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture), &old);
    (bench, old)
}

fn import(bench: &Bench, arguments: &[&str]) -> Run {
    bench.run(&[&["--json", "import"], arguments].concat())
}

fn number(report: &[Value], kind: &str, field: &str) -> u64 {
    let of = report.iter().find(|line| line["kind"] == kind).unwrap();
    of[field].as_u64().unwrap()
}

/// The data of a job, without parts that depend on the time of the import.
fn contents(bench: &Bench, root: &Path, job: &[&str]) -> Vec<BTreeSet<String>> {
    let at = ["--base-dir", root.to_str().unwrap()];
    let lines = |arguments: &[&str], fields: &[&str]| {
        let all = run(bench.std([&at, arguments].concat()), "").code(0).jsonl();
        let of = |line: &Value| {
            fields
                .iter()
                .map(|field| line[field].to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        all.iter().map(of).collect::<BTreeSet<String>>()
    };
    let show = run(
        bench.std([&at[..], &["checkpoint", "show", "--payload"], job].concat()),
        "",
    );
    vec![
        lines(
            &[&["events", "cat"], job].concat(),
            &["id", "correlation_id", "event", "metadata"],
        ),
        lines(
            &[&["dlq", "export"], job].concat(),
            &["item_id", "item_data", "failure_history", "failure_count"],
        ),
        lines(
            &["--json", "document", "list", "--repo", "shop"],
            &["kind", "name"],
        ),
        lines(&[&["--json", "checkpoint", "list"], job].concat(), &["phase"]),
        BTreeSet::from([show.out]),
    ]
}

/// The kinds, each with the numbers of what was stored, known and left out.
fn counts(lines: &[Value]) -> Vec<[Value; 4]> {
    let count = |line: &Value| ["kind", "stored", "known", "left_out"].map(|field| line[field].clone());
    lines.iter().map(count).collect()
}

#[test]
fn a_root_of_another_program_is_imported_once_with_its_ids_and_times() {
    let (bench, old) = bench();
    let path = old.to_str().unwrap();
    let before = tree(&old);
    let planned = import(&bench, &[path, "--dry-run"]).code(0).jsonl();
    assert!(!bench.root().exists(), "a dry run stores nothing");
    let first = import(&bench, &[path]).code(0).jsonl();
    for (kind, count) in [
        ("events", 14),
        ("dead letters", 3),
        ("checkpoints", 5),
        ("orphaned worktrees", 1),
        ("sessions", 1),
        ("mappings", 2),
        ("metadata", 1),
    ] {
        assert_eq!(number(&planned, kind, "stored"), count, "{kind}");
        assert_eq!(number(&first, kind, "stored"), count, "{kind}");
    }
    // A dry run counts as the import does: before the first one, and after it.
    assert_eq!(counts(&planned), counts(&first));
    let planned = import(&bench, &[path, "--dry-run"]).code(0).jsonl();
    let second = import(&bench, &[path]).code(0).jsonl();
    assert_eq!(counts(&planned), counts(&second));
    assert!(number(&planned, "events", "known") == 14 && number(&planned, "events", "stored") == 0);
    let events = bench
        .run(&[&["events", "cat"], &JOB[..]].concat())
        .code(0)
        .jsonl();
    let times: Vec<&str> = events
        .iter()
        .map(|event| event["metadata"]["imported"]["timestamp"].as_str().unwrap())
        .collect();
    assert!(times.is_sorted() && times.len() == 14, "{times:?}");
    assert_eq!(
        times[0], "2026-11-28T11:00:00.262599787Z",
        "rotated files are read, too"
    );
    assert_eq!(
        events[0]["metadata"]["imported"]["id"],
        "173e42d1-78ab-4800-a10a-07661bd2e559"
    );
    assert_eq!(events[0]["metadata"]["thread"], "main");
    let session = [
        "document",
        "show",
        "--repo",
        "shop",
        "--kind",
        "sessions",
        "--payload",
    ];
    let name = ["--name", "session-faa335eb-cad6-4e33-89d3-687739180286"];
    let session = bench.run(&[&session[..], &name].concat()).code(0).json();
    assert_eq!(session["mapreduce_data"]["job_id"], "mapreduce-1001");
    let orphans = bench
        .run(&["--json", "worktree", "orphans", "--repo", "shop"])
        .code(0);
    assert!(orphans.out.contains("/tmp/wt/agent-1"), "{}", orphans.out);
    bench.run(&["doctor"]).code(0);

    let one_run = contents(&bench, &bench.root(), &JOB);
    let again = import(&bench, &[path]).code(0).jsonl();
    assert!(
        again
            .iter()
            .all(|line| line["stored"] == 0 && line["left_out"] == 0),
        "{again:?}"
    );
    assert_eq!(contents(&bench, &bench.root(), &JOB), one_run);
    assert_eq!(tree(&old), before, "what is imported stays as it is");
}

#[test]
fn an_import_that_is_killed_continues_and_ends_as_one_run_does() {
    let (bench, old) = bench();
    let log = old.join("events/shop/mapreduce-1001/events-20261128_140000.jsonl");
    let lines: String = (0..20_000)
        .map(|n| {
            format!(
                "{{\"id\":\"k{n}\",\"timestamp\":\"2026-11-28T14:00:00.{n:09}Z\",\"event\":{{\"n\":{n}}}}}\n"
            )
        })
        .collect();
    std::fs::write(log, lines).unwrap();
    let path = old.to_str().unwrap();
    let (killed, whole) = (bench.path("killed"), bench.path("whole"));
    let mut kills = 0;
    for size in [1, 400_000, 2_000_000] {
        let mut child = bench
            .std(["--base-dir", killed.to_str().unwrap(), "import", path])
            .spawn()
            .unwrap();
        let bytes = || {
            tree(&killed)
                .iter()
                .filter_map(|path| path.metadata().ok())
                .map(|found| found.len())
                .sum::<u64>()
        };
        // Waits until bytes are written, so the test does not depend on time.
        while bytes() < size && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        kills += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(kills > 0, "each run ended before it was killed");
    for root in [&killed, &whole] {
        run(
            bench.std(["--base-dir", root.to_str().unwrap(), "import", path]),
            "",
        )
        .code(0);
    }
    assert!(contents(&bench, &killed, &JOB) == contents(&bench, &whole, &JOB));
    assert_eq!(contents(&bench, &whole, &JOB)[0].len(), 20_014);
}

#[test]
fn a_projects_own_folder_is_imported_under_a_name() {
    let bench = Bench::new();
    let item = r#"{"item_id":"a","item_data":1}"#;
    bench.write("p/.prodigy/mapreduce/dlq/j/items/a.json", item);
    bench.write(
        "p/.prodigy/events/j/events-1.jsonl",
        "{\"timestamp\":\"2026-01-02T03:04:05Z\",\"event\":1}\nno event\n",
    );
    bench.write(
        "p/.prodigy/state/mapreduce/jobs/j/job-state.json",
        r#"{"updated_at":"2026-01-02T03:04:05Z","n":7}"#,
    );
    bench.write("p/.prodigy/notes.txt", "mine");
    let path = bench.path("p/.prodigy");
    let path = path.to_str().unwrap();
    bench.run(&["import", path]).code(2).says("--repo");
    let run = import(&bench, &[path, "--repo", "shop"])
        .code(1)
        .says("line 2")
        .says("notes.txt");
    assert_eq!(number(&run.jsonl(), "events", "stored"), 1);
    let job = ["--repo", "shop", "--job", "j"];
    let state = bench
        .run(&[&["checkpoint", "show", "--payload"], &job[..]].concat())
        .code(0)
        .json();
    assert_eq!(state["n"], 7);
    assert_eq!(
        bench
            .run(&[&["dlq", "export"], &job[..]].concat())
            .code(0)
            .jsonl()
            .len(),
        1
    );
}

#[test]
fn an_older_state_is_kept_and_never_comes_after_a_newer_checkpoint() {
    let (bench, old) = bench();
    bench
        .feed(
            &[&["checkpoint", "save", "--phase", "map"], &JOB[..]].concat(),
            "{\"mine\":1}",
        )
        .code(0);
    let run = import(&bench, &[old.to_str().unwrap()])
        .code(0)
        .says("older than a checkpoint of the job");
    let stored = number(&run.jsonl(), "checkpoints", "stored");
    let state = bench
        .run(&[&["checkpoint", "show", "--payload"], &JOB[..]].concat())
        .code(0)
        .json();
    assert_eq!(state["mine"], 1);
    let list = [&["--json", "document", "list", "--kind", "states"], &JOB[..]].concat();
    let kept = bench.run(&list).code(0).jsonl().len() as u64;
    assert!(kept > 0 && kept < stored, "{kept} of {stored} are of this job");
}

#[test]
fn lines_without_a_time_that_can_be_kept_are_counted_and_named_with_the_reason() {
    let bench = Bench::new();
    let lines = [
        r#"{"id":"a","timestamp":"2025-07-25T11:01:04Z","event":1}"#,
        r#"{"id":"b","timestamp":"1600-01-01T00:00:00Z","event":2}"#,
        r#"{"timestamp":"9999-01-01T00:00:00Z","event":3}"#,
        r#"{"id":"d","event":4}"#,
    ];
    bench.write("old/events/shop/job/events-1.jsonl", lines.join("\n") + "\n");
    for stored in [1, 0] {
        let run = import(&bench, &[bench.path("old").to_str().unwrap()]).code(1);
        let report = run.jsonl();
        assert_eq!(number(&report, "events", "stored"), stored);
        assert_eq!(number(&report, "events", "known"), 1 - stored);
        assert_eq!(number(&report, "events", "left_out"), 3);
        run.says("line 2: event b: its time `1600-01-01T00:00:00Z` is no time between 1970 and 2262")
            .says("line 3: event without an id: its time `9999-01-01T00:00:00Z`")
            .says("line 4: event d: it has no field `timestamp`");
    }
}

/// An imported event is found by the time of its import, and with `--original-time` by its own time.
pub fn times_of_an_imported_event(bench: &Bench) {
    let event = "{\"timestamp\":\"2026-01-02T03:04:05Z\",\"event\":1}\n";
    bench.write("here/.prodigy/events/old/events-1.jsonl", event);
    bench.run(&["migrate", "--repo", "mill"]).code(0);
    let found = |more: &[&str]| {
        let cat = ["events", "cat", "--repo", "mill", "--job", "old"];
        bench.run(&[&cat[..], more].concat()).code(0).lines().len()
    };
    let spring = "2026-04-01T00:00:00Z";
    assert_eq!(found(&["--since", "1h"]), 1);
    assert_eq!(found(&["--until", spring]), 0);
    assert_eq!(found(&["--since", "1h", "--original-time"]), 0);
    assert_eq!(found(&["--until", spring, "--original-time"]), 1);
    assert_eq!(found(&["--since", "2026-01-01T00:00:00Z", "--original-time"]), 1);
    assert_eq!(found(&["--filter", "metadata.imported.timestamp~^2026-01"]), 1);
    // An event of this store has only one time, so `--original-time` changes nothing.
    bench
        .feed(&["events", "append", "--repo", "mill", "--job", "old"], "2\n")
        .code(0);
    assert_eq!(found(&["--since", "1h", "--original-time"]), 1);
}

#[test]
fn an_imported_event_is_found_by_both_of_its_times() {
    times_of_an_imported_event(&Bench::new());
}

#[test]
fn a_project_means_its_own_folder_and_another_folder_is_refused_and_stores_nothing() {
    let bench = Bench::new();
    let event = "{\"timestamp\":\"2026-01-02T03:04:05Z\",\"event\":1}\n";
    let item = r#"{"item_id":"a","item_data":1}"#;
    bench.write("stuff/project/.prodigy/events/j/events-1.jsonl", event);
    bench.write("stuff/project/.prodigy/state/mapreduce/dlq/j/items/a.json", item);
    bench.write("stuff/other/mapreduce/dlq/j/items/b.json", item);
    let stuff = bench.path("stuff");
    for command in [
        &["migrate"][..],
        &["import", "--repo", "q"],
        &["import", "--repo", "q", "--dry-run"],
    ] {
        bench
            .run(&[command, &[stuff.to_str().unwrap()]].concat())
            .code(2)
            .says("it has none of the folders events, ")
            .says("PROJECT/.prodigy");
        assert_eq!(bench.run(&["repo", "list"]).code(0).out, "");
        assert!(!bench.root().join("events").exists(), "{command:?}");
    }
    let project = bench.path("stuff/project");
    bench.run(&["migrate", project.to_str().unwrap()]).code(0);
    bench
        .run(&["import", project.to_str().unwrap(), "--repo", "q"])
        .code(0);
    for repo in ["project", "q"] {
        let job = ["--repo", repo, "--job", "j"];
        let events = bench.run(&[&["events", "cat"], &job[..]].concat()).code(0);
        assert_eq!(events.lines().len(), 1, "{repo}");
        let items = bench.run(&[&["dlq", "export"], &job[..]].concat()).code(0);
        assert_eq!(items.lines().len(), 1, "{repo}");
    }
}
