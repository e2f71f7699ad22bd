//! Tests of `import` where a repository, a job or a document has a name that the store does not take.

use std::path::Path;

use serde_json::Value;

use crate::support::Bench;

const EVENT: &str = "{\"timestamp\":\"2026-01-02T03:04:05Z\",\"event\":1}\n";

/// Names that are not allowed, each with the beginning of the reason.
fn refused() -> [(String, &'static str); 4] {
    [
        ("con".to_owned(), "Windows"),
        (".dot".to_owned(), "dot"),
        ("x".repeat(140), "128"),
        ("cafe\u{301}".to_owned(), "normalisation form C"),
    ]
}

/// A root of another program below `below`, with a job `good` of `shop`, and jobs and repositories with names that are not allowed.
fn filled(below: &str) -> Bench {
    let bench = Bench::new();
    for (name, _) in refused() {
        bench.write(&format!("{below}/events/shop/{name}/kept.jsonl"), EVENT);
        bench.write(&format!("{below}/events/{name}/job/kept.jsonl"), EVENT);
        bench.write(&format!("{below}/state/shop/mappings/{name}.json"), "{}");
    }
    bench.write(&format!("{below}/events/_audit/clean/kept.jsonl"), EVENT);
    bench.write(&format!("{below}/events/shop/good/kept.jsonl"), EVENT);
    bench.write(&format!("{below}/state/shop/mappings/good.json"), "{}");
    bench.write(
        &format!("{below}/state/shop/mapreduce/jobs/con/job-state.json"),
        r#"{"updated_at":"2026-01-02T03:04:05Z","n":7}"#,
    );
    // There are several repositories, so nothing says which this session is of.
    bench.write(&format!("{below}/sessions/s.json"), "{}");
    bench
}

fn number(report: &[Value], kind: &str, field: &str) -> u64 {
    let of = report.iter().find(|line| line["kind"] == kind).unwrap();
    of[field].as_u64().unwrap()
}

fn is_imported_but_for_the_names(bench: &Bench, path: &Path) {
    let path = path.to_str().unwrap();
    for (more, stored) in [(&["--dry-run"][..], 1), (&[], 1), (&[], 0)] {
        let mut run = bench.run(&[&["--json", "import", path], more].concat()).code(1);
        let report = run.jsonl();
        assert_eq!(number(&report, "events", "stored"), stored, "{report:?}");
        assert_eq!(number(&report, "events", "left_out"), 9, "{report:?}");
        assert_eq!(number(&report, "mappings", "stored"), stored, "{report:?}");
        assert_eq!(number(&report, "mappings", "left_out"), 4, "{report:?}");
        assert_eq!(number(&report, "checkpoints", "left_out"), 1, "{report:?}");
        assert_eq!(number(&report, "sessions", "left_out"), 1, "{report:?}");
        for (name, why) in refused() {
            for place in [
                format!("events/shop/{name}: "),
                format!("events/{name}: "),
                format!("state/shop/mappings/{name}.json: "),
            ] {
                let place = format!("left out: {path}/{place}");
                let line = run.err.lines().find(|line| line.contains(&place));
                assert!(
                    line.is_some_and(|line| line.contains(why)),
                    "{place}: {}",
                    run.err
                );
            }
        }
        run = run
            .says("state/shop/mapreduce/jobs/con: job id \"con\" is refused")
            .says("events/_audit: the store keeps data of its own")
            .says("s.json: nothing says which repository it belongs to");
        run.says("copy the folder, change the name everywhere in the copy");
    }
    let events = bench
        .run(&["events", "cat", "--repo", "shop", "--job", "good"])
        .code(0);
    assert_eq!(events.lines().len(), 1);
    let jobs = bench.run(&["--json", "job", "list", "--all-repos"]).jsonl();
    assert_eq!(jobs.len(), 1, "{jobs:?}");
}

#[cfg(unix)]
#[test]
fn a_line_break_in_a_name_begins_no_line_of_the_messages() {
    let bench = Bench::new();
    bench.write("old/events/x\nerror: forged/job/kept.jsonl", EVENT);
    bench.write("old/events/shop/y\nerror: forged/kept.jsonl", "{");
    bench.write("old/events/shop/good/z\nerror: forged.jsonl", "{\n");
    bench.write("old/state/shop/mapreduce/jobs/good/u\nerror: forged.json", "{");
    bench.write("old/u\nerror: forged", "");
    std::os::unix::fs::symlink("nowhere", bench.path("old/v\nerror: forged")).unwrap();
    let run = bench
        .run(&["import", bench.path("old").to_str().unwrap()])
        .code(1);
    let forged = |text: &str| text.lines().any(|line| line.starts_with("error: forged"));
    assert!(!forged(&run.err), "{}", run.err);
    for name in ["x", "y", "z", "u", "v"] {
        let shown = format!("/{name}\\u{{a}}error: forged");
        assert!(run.err.contains(&shown), "{shown}: {}", run.err);
    }
    // No part of these paths names the repository.
    bench.write("bare/sessions/w\nerror: forged.json", "{}");
    let run = bench
        .run(&["import", bench.path("bare").to_str().unwrap()])
        .code(2);
    assert!(
        !forged(&run.err) && run.err.contains("w\\u{a}error"),
        "{}",
        run.err
    );
}

#[test]
fn what_has_a_name_that_is_not_allowed_is_left_out_and_the_rest_is_imported() {
    let bench = filled("old");
    is_imported_but_for_the_names(&bench, &bench.path("old"));
}

#[test]
fn doctor_says_what_to_do_by_hand_where_a_name_is_not_allowed() {
    let bench = Bench::new();
    for (name, _) in refused() {
        bench.write(&format!("home/.prodigy/events/shop/{name}/kept.jsonl"), EVENT);
        bench.write(&format!("home/.prodigy/state/shop/mappings/{name}.json"), "{}");
    }
    bench.write("home/.prodigy/events/shop/good/kept.jsonl", EVENT);
    let named = |bench: &Bench| {
        let found = bench.run(&["doctor", "--verbose"]).out;
        let by_hand = found
            .matches("give the file or folder another name in the copy")
            .count();
        (by_hand, found.matches("prodigy-storage import ").count())
    };
    assert_eq!(named(&bench), (8, 1));
    bench
        .run(&["import", bench.root().to_str().unwrap()])
        .code(1)
        .says("left out: ");
    // The command that doctor named has done what it can, and is not named again.
    assert_eq!(named(&bench), (8, 0));
}
