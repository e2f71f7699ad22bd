//! Completions with names from the store.

use crate::support::{Bench, run, tree};

/// The completions of the last of these words.
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
