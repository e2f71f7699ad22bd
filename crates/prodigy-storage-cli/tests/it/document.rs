//! Tests of `document`.

use crate::support::Bench;

/// The arguments of a command for a document of a job, and for one of the repository.
fn each_owner<'a>(command: &'a str, more: &[&'a str]) -> [Vec<&'a str>; 2] {
    let fixed = ["document", command, "--repo", "shop"];
    [&["--job", "job"] as &[&str], &[]].map(|owner| [&fixed as &[&str], owner, more].concat())
}

const PLAN: [&str; 4] = ["--kind", "plans", "--name", "p-1"];

#[test]
fn a_document_is_put_shown_listed_and_deleted() {
    let bench = Bench::new();
    let value = "{\"steps\": [1.0, \"\\u00e9\"]}";
    let all = |command| each_owner(command, &PLAN).into_iter();
    for ((put, show), delete) in all("put").zip(all("show")).zip(all("delete")) {
        bench.run(&show).code(4).says("the repository `shop`");
        bench.run(&delete).code(4);
        let stored = bench
            .feed(&[&put as &[&str], &["--json"]].concat(), value)
            .code(0)
            .json();
        let shown = bench.run(&show).code(0).json();
        assert_eq!(shown["revision"], stored["revision"]);
        assert_eq!((&shown["kind"], &shown["name"]), (&"plans".into(), &"p-1".into()));
        assert_eq!(shown["verified"], true);
        let payload = bench.run(&[&show as &[&str], &["--payload"]].concat()).code(0);
        assert_eq!(payload.out, format!("{value}\n"));
        bench.feed(&put, "[]").code(0).says("");
        assert_eq!(bench.run(&show).json()["data"], serde_json::json!([]));
    }
    for list in each_owner("list", &["--json"]) {
        let listed = bench.run(&list).code(0).jsonl();
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(
            (&listed[0]["kind"], &listed[0]["name"]),
            (&"plans".into(), &"p-1".into())
        );
    }
    for list in each_owner("list", &["--kind", "sessions"]) {
        let list = bench.run(&list).code(4).says("the kinds are `plans`");
        assert_eq!(list.out, "", "no document of another kind");
    }
    for delete in all("delete") {
        bench.run(&delete).code(0);
        bench.run(&delete).code(4);
    }
}

#[test]
fn a_revision_that_is_not_the_present_one_is_a_conflict() {
    let bench = Bench::new();
    let with = |command, revision: &str| {
        let mut arguments = each_owner(command, &PLAN)[0].clone();
        let revision = revision.to_owned();
        arguments.push("--expected-revision");
        move |bench: &Bench| bench.feed(&[&arguments as &[&str], &[&revision]].concat(), "1")
    };
    with("put", "absent")(&bench).code(0);
    with("put", "absent")(&bench).code(1).says("expected no document");
    let other = "0123456789abcdef0123456789abcdef";
    with("put", other)(&bench).code(1).says("expected revision");
    with("delete", other)(&bench).code(1).says("expected revision");
    let shown = bench.run(&each_owner("show", &PLAN)[0]).json();
    let present = shown["revision"].as_str().unwrap();
    with("delete", present)(&bench).code(0);
}

#[test]
fn names_and_values_are_checked_before_anything_is_stored() {
    let bench = Bench::new();
    for (kind, name) in [("..", "a"), ("a", ".."), ("a/b", "c"), ("a", "b/c")] {
        for put in each_owner("put", &["--kind", kind, "--name", name]) {
            bench.feed(&put, "1").code(2);
        }
    }
    for put in each_owner("put", &PLAN) {
        bench.feed(&put, "{").code(1).says("not a JSON value");
    }
    assert!(!bench.root().join("state").exists());
}
