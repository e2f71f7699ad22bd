//! Tests of `dlq edit`.

use super::{fail, of, push, show, take};
use crate::support::{Bench, Run, run};

/// An editor script; `$1` is the file.
fn editor(bench: &Bench, script: &str) -> String {
    let path = bench.write("editor.sh", script);
    format!("sh {}", path.display())
}

fn edit_with(bench: &Bench, script: &str) -> Run {
    let mut tool = bench.std(of("edit", &["a"]));
    tool.env("EDITOR", editor(bench, script))
        .env("TMPDIR", bench.path(""));
    run(tool, "")
}

/// The file that keeps a refused edit.
fn kept(run: &Run) -> String {
    let path = run.err.split("your text is kept in ").nth(1).unwrap();
    std::fs::read_to_string(path.lines().next().unwrap()).unwrap()
}

fn left_behind(bench: &Bench) -> usize {
    let entries = std::fs::read_dir(bench.path("")).unwrap();
    entries
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with("prodigy-item-")
        })
        .count()
}

#[test]
fn an_editor_changes_an_item() {
    let bench = Bench::new();
    bench
        .feed(
            &of("push", &[]),
            r#"{"item_id":"a","item_data":{"n":1.0,"big":123456789012345678901}}"#,
        )
        .code(0);
    let script = r#"grep -q '^    "n": 1.0,$' "$1" || exit 9
        ls -l "$1" | grep -q '^-rw------- ' || exit 8
        sed -i 's/"n": 1.0/"n": 2.50/' "$1""#;
    let told = edit_with(&bench, script).code(0);
    assert_eq!(told.out, "`a` edited\n");
    let line = bench.run(&of("show", &["a"])).code(0).out;
    assert!(
        line.contains(r#""item_data":{"n":2.50,"big":123456789012345678901}"#),
        "{line}"
    );
    assert_eq!(left_behind(&bench), 0);
}

#[test]
fn visual_goes_before_editor_and_both_may_have_arguments() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    let mut tool = bench.std(of("edit", &["a", "--json"]));
    tool.env("EDITOR", "false").env("VISUAL", "sed -i s/of/by/");
    assert_eq!(run(tool, "").code(0).json(), serde_json::json!({"edited": "a"}));
    assert_eq!(show(&bench, "a")["item_data"], serde_json::json!({"by": "a"}));
}

#[test]
fn an_editor_that_fails_or_changes_nothing_leaves_the_item() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    let before = show(&bench, "a");
    edit_with(&bench, "sed -i s/of/by/ \"$1\"; exit 1")
        .code(1)
        .says("it ended with exit status: 1");
    edit_with(&bench, "true").code(0).says("was not edited");
    assert_eq!(show(&bench, "a"), before);
    assert_eq!(left_behind(&bench), 0);
    bench.run(&of("edit", &["zz"])).code(4).says("`zz`");
}

#[test]
fn an_edit_of_an_item_that_changed_meanwhile_is_refused_and_kept() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    let tool = env!("CARGO_BIN_EXE_prodigy-storage");
    let script = format!(
        "{tool} dlq edit --repo shop --job job a --patch '{{\"item_data\":{{\"of\":\"other\"}}}}' && sed -i s/of/by/ \"$1\""
    );
    let told = edit_with(&bench, &script).code(1).says("was changed meanwhile");
    assert!(kept(&told).contains("\"by\": \"a\""), "{}", told.err);
    assert_eq!(show(&bench, "a")["item_data"], serde_json::json!({"of": "other"}));
    let script = format!("{tool} dlq remove --repo shop --job job a && sed -i s/of/by/ \"$1\"");
    let told = edit_with(&bench, &script).code(4).says("no item `a`");
    assert!(kept(&told).contains("\"by\""), "{}", told.err);
}

#[test]
fn an_edit_that_is_no_item_is_refused_and_kept() {
    let bench = Bench::new();
    push(&bench, &["a"]);
    let before = show(&bench, "a");
    for (script, why) in [
        ("echo '{\"item_id\":' > \"$1\"", "is not JSON"),
        ("echo '{\"item_id\":\"a\"}' > \"$1\"", "`item_data` is missing"),
        (
            "sed -i 's/\"item_id\": \"a\"/\"item_id\": \"b\"/' \"$1\"",
            "keeps its id",
        ),
    ] {
        let told = edit_with(&bench, script).code(1).says(why);
        assert!(!kept(&told).is_empty());
        assert_eq!(show(&bench, "a"), before, "{script}");
    }
}

#[test]
fn a_merge_patch_changes_what_it_names() {
    let bench = Bench::new();
    bench
        .feed(
            &of("push", &[]),
            r#"{"item_id":"a","item_data":{"n":1.0,"m":2},"mine":true}"#,
        )
        .code(0);
    let patch = r#"{"item_data":{"m":null,"k":[3]},"mine":null}"#;
    bench.run(&of("edit", &["a", "--patch", patch])).code(0);
    let line = bench.run(&of("show", &["a"])).code(0).out;
    assert!(
        line.contains(r#""item_data":{"n":1.0,"k":[3]}"#) && !line.contains("mine"),
        "{line}"
    );
    bench
        .feed(&of("edit", &["a", "--patch", "-"]), r#"{"item_data":7}"#)
        .code(0);
    assert_eq!(show(&bench, "a")["item_data"], 7);
    for (patch, code) in [
        ("{", 2),
        ("7", 2),
        (r#"{"item_id":"b"}"#, 1),
        (r#"{"item_data":null}"#, 1),
    ] {
        bench.run(&of("edit", &["a", "--patch", patch])).code(code);
    }
    assert_eq!(show(&bench, "a")["item_data"], 7);
    bench.run(&of("edit", &["zz", "--patch", "{}"])).code(4);
}

#[test]
fn an_edit_ends_a_lease_and_says_that_a_parked_item_stays_parked() {
    let bench = Bench::new();
    fail(&bench, "a", "Timeout", "late", "2026-11-28T10:00:00Z");
    let token = &take(&bench, &["a"])[0].1;
    bench
        .run(&of("edit", &["a", "--patch", r#"{"item_data":1}"#]))
        .code(0)
        .says("ended that lease");
    bench.run(&of("ack", &[token])).code(4);
    bench.run(&of("park", &["a"])).code(0);
    bench
        .run(&of("edit", &["a", "--patch", r#"{"item_data":2}"#]))
        .code(0)
        .says("dlq unpark a");
    assert_eq!(show(&bench, "a")["failure_count"], 1);
}
