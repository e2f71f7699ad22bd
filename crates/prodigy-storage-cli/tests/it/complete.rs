//! Tests of completions with names from the store.

use crate::support::{Bench, run, tree};

/// The completions that the tool offers for the last of these words.
fn completed(bench: &Bench, words: &[&str]) -> Vec<String> {
    let mut command = bench.std(["--", "prodigy-storage"]);
    command
        .args(words)
        .env("COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    let found = run(command, "").code(0);
    assert_eq!(found.err, "");
    found
        .out
        .split(['\n', '\u{b}'])
        .map(|word| word.trim().to_owned())
        .collect()
}

#[test]
fn jobs_and_repositories_of_the_store_are_completed() {
    let bench = Bench::new();
    bench.append("1\n");
    for job in ["mapreduce-7", "mapreduce-8"] {
        let append = ["events", "append", "--repo", "here", "--job", job];
        bench.feed(&append, "1\n").code(0);
    }
    let before = tree(&bench.root());
    assert_eq!(
        completed(&bench, &["events", "cat", "--job", "map"]),
        ["mapreduce-7", "mapreduce-8"]
    );
    assert_eq!(
        completed(&bench, &["job", "show", "--repo", "shop", "j"]),
        ["job"]
    );
    assert_eq!(
        completed(&bench, &["events", "cat", "--repo", ""]),
        ["here", "shop"]
    );
    assert_eq!(completed(&bench, &["checkpoint", "ver"]), ["verify"]);
    assert_eq!(tree(&bench.root()), before);
}

#[test]
fn ids_of_what_is_stored_are_completed() {
    let bench = Bench::new();
    let of = ["--repo", "shop", "--job", "job"];
    let feed = |words: &[&str], input: &str| bench.feed(&[words, &of].concat(), input).code(0);
    feed(
        &["dlq", "push"],
        "{\"item_id\":\"item-1\",\"item_data\":1}\n{\"item_id\":\"item-2\",\"item_data\":1}\n",
    );
    feed(&["checkpoint", "save", "--phase", "map"], "1");
    feed(&["document", "put", "--kind", "plan", "--name", "first"], "1");
    feed(&["document", "put", "--kind", "plan", "--name", "second"], "1");
    bench.run(&["lock", "run", "shop/build", "--", "true"]).code(0);
    bench.write("home/.prodigy/worktrees/shop/session-7/x", "");
    let of_job = |words: &[&str], begun: &str| completed(&bench, &[words, &of, &[begun]].concat());
    for command in ["show", "edit", "remove", "park", "release", "list", "take"] {
        assert_eq!(
            of_job(&["dlq", command], "item"),
            ["item-1", "item-2"],
            "{command}"
        );
    }
    assert_eq!(of_job(&["dlq", "show"], "item-2"), ["item-2"]);
    let checkpoint = bench
        .run(&[&["checkpoint", "list", "--json"], &of[..]].concat())
        .code(0)
        .json();
    let name = checkpoint["document"].as_str().unwrap();
    assert_eq!(of_job(&["checkpoint", "delete"], "map"), [name]);
    assert_eq!(of_job(&["checkpoint", "diff", name], "map"), [name]);
    let last = |words: &[&str], flag: &str| completed(&bench, &[words, &of, &[flag, ""]].concat());
    assert_eq!(last(&["checkpoint", "prune"], "--phase"), ["map"]);
    assert_eq!(last(&["document", "list"], "--kind"), ["plan"]);
    assert_eq!(
        last(&["document", "show", "--kind", "plan"], "--name"),
        ["first", "second"]
    );
    assert_eq!(completed(&bench, &["lock", "run", "shop/"]), ["shop/build"]);
    assert_eq!(
        completed(&bench, &["worktree", "path", "--repo", "shop", ""])
            .first()
            .unwrap(),
        "7"
    );
    assert_eq!(completed(&bench, &["repo", "relink", "sh"]), ["shop"]);
}

#[test]
fn a_store_that_cannot_be_read_offers_no_name_and_says_nothing() {
    let bench = Bench::new().with("PRODIGY_CONFIG", "/no/such/file.yaml");
    assert_eq!(completed(&bench, &["events", "cat", "--job", "map"]), [""]);
}

#[test]
fn each_shell_gets_its_script() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let bench = Bench::new().with("COMPLETE", shell);
        let script = bench.run(&[]).code(0).out;
        assert!(
            script.contains("prodigy-storage") && script.contains("COMPLETE"),
            "{shell}: {script}"
        );
    }
}
