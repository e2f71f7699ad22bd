//! `worktree`, `repo`, `health` and `usage`.

use std::fs;

use crate::support::{Bench, tree};

/// A repository that git would take for one.
fn repository(bench: &Bench, below: &str) -> String {
    for folder in ["objects", "refs"] {
        fs::create_dir_all(bench.path(below).join(".git").join(folder)).unwrap();
    }
    bench.write(&format!("{below}/.git/HEAD"), "ref: refs/heads/main\n");
    bench.path(below).to_str().unwrap().to_owned()
}

#[test]
fn identify_registers_nothing_and_a_write_does() {
    let bench = Bench::new();
    let shop = repository(&bench, "one/shop");
    let told = bench.run(&["repo", "identify", &shop, "--json"]).code(0).json();
    assert_eq!(
        (&told["name"], &told["kind"]),
        (&"shop".into(), &"repository".into())
    );
    let told = bench.run(&["repo", "identify"]).code(0);
    assert_eq!(told.lines()[..2], ["name      here", "kind      folder"]);
    assert!(!bench.root().exists());
    bench
        .run(&["repo", "identify", "no-such-folder"])
        .code(4)
        .says("no-such-folder");
    // Without `--repo`, the repository here.
    bench.feed(&["events", "append", "--job", "job"], "1\n").code(0);
    assert!(bench.root().join("state/here/repository.json").is_file());
    assert_eq!(
        bench
            .run(&["events", "cat", "--repo", "here", "--job", "job", "--payload"])
            .out,
        "1\n"
    );
}

#[test]
fn a_moved_repository_is_relinked() {
    let bench = Bench::new();
    let before = repository(&bench, "old/shop");
    let append = |at: &str| {
        let mut command = bench.std(["events", "append", "--job", "job"]);
        command.current_dir(at);
        crate::support::run(command, "1\n")
    };
    append(&before).code(0);
    fs::rename(bench.path("old"), bench.path("new")).unwrap();
    let after = bench.path("new/shop").to_str().unwrap().to_owned();
    append(&after).code(1).says("relink");
    let told = bench
        .run(&["repo", "relink", "shop", &after, "--json"])
        .code(0)
        .json();
    assert_eq!(told["name"], "shop");
    append(&after).code(0);
    let all = bench
        .run(&["events", "cat", "--repo", "shop", "--job", "job"])
        .code(0);
    assert_eq!(all.lines().len(), 2);
    bench
        .run(&["repo", "relink", &after, "shop"])
        .code(2)
        .says("the name comes first");
}

#[test]
fn worktrees_have_a_place_and_those_that_are_there_are_listed() {
    let bench = Bench::new();
    let path = bench
        .run(&["worktree", "path", "agent-1", "--repo", "shop"])
        .code(0)
        .out;
    let expected = bench.root().join("worktrees/shop/session-agent-1");
    assert_eq!(path, format!("{}\n", expected.display()));
    assert_eq!(
        bench
            .run(&["worktree", "path", "session-agent-1", "--repo", "shop"])
            .code(0)
            .out,
        path
    );
    assert!(!bench.root().exists());
    assert!(
        bench
            .run(&["worktree", "list", "--repo", "shop"])
            .code(0)
            .out
            .is_empty()
    );
    fs::create_dir_all(&expected).unwrap();
    assert_eq!(
        bench.run(&["worktree", "list", "--repo", "shop"]).code(0).out,
        "agent-1\n"
    );
    let listed = bench
        .run(&["worktree", "list", "--repo", "shop", "--json"])
        .code(0)
        .json();
    assert_eq!(
        (&listed["session"], &listed["exists"]),
        (&"agent-1".into(), &true.into())
    );
    bench.run(&["worktree", "path", "../x", "--repo", "shop"]).code(2);
}

#[test]
fn orphans_are_listed_by_job() {
    let bench = Bench::new();
    for job in ["a", "b"] {
        let record = serde_json::json!({"job_id": job, "orphaned_worktrees": [{
            "agent_id": "agent-1", "item_id": format!("item-{job}"), "worktree_path": "/srv/w",
            "timestamp": "2026-01-02T03:04:05Z", "error": "busy",
        }]});
        bench.write(
            &format!("home/.prodigy/orphaned_worktrees/shop/{job}.json"),
            record.to_string(),
        );
    }
    let all = bench
        .run(&["worktree", "orphans", "--repo", "shop", "--json"])
        .code(0)
        .jsonl();
    assert_eq!(
        all.iter()
            .map(|orphan| orphan["item_id"].as_str().unwrap())
            .collect::<Vec<_>>(),
        ["item-a", "item-b"]
    );
    let one = bench
        .run(&["worktree", "orphans", "--repo", "shop", "--job", "b"])
        .code(0);
    assert_eq!(one.lines().len(), 2);
    assert!(
        one.out.contains("item-b") && one.out.contains("/srv/w"),
        "{}",
        one.out
    );
}

#[test]
fn health_and_usage_create_nothing_and_tell_what_is_there() {
    let bench = Bench::new();
    bench.run(&["health"]).code(0);
    bench.run(&["usage"]).code(0);
    assert!(!bench.root().exists());
    bench.append("1\n");
    let before = tree(&bench.root());
    let health = bench.run(&["health", "--json"]).code(0).json();
    assert_eq!(health["severity"], "ok", "{health}");
    let usage = bench.run(&["usage", "--json"]).code(0).json();
    let events = usage["areas"]
        .as_array()
        .unwrap()
        .iter()
        .find(|area| area["area"] == "events")
        .unwrap()
        .clone();
    assert_eq!((&events["repo"], &events["files"]), (&"shop".into(), &1.into()));
    assert!(bench.run(&["usage"]).code(0).out.contains("in all"));
    assert_eq!(tree(&bench.root()), before);
}

#[test]
fn a_failing_check_is_a_failure() {
    let bench = Bench::new();
    bench.write("home/.prodigy", "a file stands where the root belongs");
    let bench = bench.with("PRODIGY_STORAGE_BASE_PATH", "");
    bench
        .run(&["health", "--base-dir", bench.root().to_str().unwrap()])
        .code(1);
}
