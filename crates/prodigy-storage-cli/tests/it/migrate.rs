//! Tests of the repository to which `migrate` gives the data of a project.
#![cfg(unix)]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Bench, Run, run};

/// Two git repositories, whose `.prodigy` are links to folders on another disk.
fn linked() -> Bench {
    let bench = Bench::new();
    for name in ["a", "b"] {
        let project = bench.path(name);
        let init = Command::new("git").args(["init", "-q"]).arg(&project).status();
        assert!(init.unwrap().success());
        bench.write(
            &format!("disk/data/{name}/events/nightly/events-1.jsonl"),
            format!("{{\"timestamp\":\"2026-11-28T11:00:00Z\",\"event\":{{\"of\":\"{name}\"}}}}\n"),
        );
        symlink(bench.path(&format!("disk/data/{name}")), project.join(".prodigy")).unwrap();
    }
    bench
}

fn inside(bench: &Bench, folder: &Path, arguments: &[&str]) -> Run {
    let mut command = bench.std(arguments);
    command.current_dir(folder);
    run(command, "")
}

fn events(bench: &Bench, repo: &str) -> Vec<Value> {
    let cat = ["events", "cat", "--payload", "--repo", repo, "--job", "nightly"];
    bench.run(&cat).code(0).jsonl()
}

#[test]
fn data_behind_a_link_is_stored_under_the_name_of_the_project_that_has_the_link() {
    let bench = linked();
    for name in ["a", "b"] {
        let project = bench.path(name);
        let local = project.join(".prodigy");
        // Once from the project, as a person does it, and once as `status` and `doctor` name it.
        match name {
            "a" => inside(&bench, &project, &["migrate"]),
            _ => bench.run(&["migrate", local.to_str().unwrap()]),
        }
        .code(0);
        let own = inside(&bench, &project, &["--json", "repo", "identify"])
            .code(0)
            .json();
        assert_eq!(own["name"], name, "{own}");
    }
    let repos = bench.run(&["--json", "repo", "list"]).code(0).jsonl();
    let repos: Vec<&Value> = repos.iter().map(|repo| &repo["repo"]).collect();
    assert_eq!(repos, ["a", "b"]);
    for name in ["a", "b"] {
        assert_eq!(events(&bench, name), [json!({"of": name})]);
    }
}

#[test]
fn the_folder_that_a_link_leads_to_needs_a_name() {
    let bench = linked();
    let data = bench.path("disk/data");
    for name in ["a", "b"] {
        inside(&bench, &data, &["migrate", name])
            .code(2)
            .says("nothing says which repository it belongs to")
            .says("--repo");
        inside(&bench, &data.join(name), &["migrate", "."])
            .code(2)
            .says("--repo");
    }
    assert_eq!(bench.run(&["repo", "list"]).code(0).out, "");
    inside(&bench, &data, &["migrate", "a", "--repo", "a"]).code(0);
    assert_eq!(events(&bench, "a"), [json!({"of": "a"})]);
}

#[test]
fn a_project_without_data_is_not_registered_and_the_command_says_that_it_found_nothing() {
    let bench = Bench::new();
    let project = bench.path("empty");
    std::fs::create_dir_all(project.join(".prodigy/events")).unwrap();
    for arguments in [&["migrate"][..], &["migrate", "--dry-run"]] {
        inside(&bench, &project, arguments)
            .code(0)
            .says("nothing to import was found");
        assert_eq!(bench.run(&["repo", "list"]).code(0).out, "");
    }
    let local = project.join(".prodigy");
    bench
        .run(&["import", local.to_str().unwrap(), "--repo", "shop"])
        .code(0)
        .says("nothing to import was found");
    // With data, a dry run registers nothing, and the import does.
    let event = "{\"timestamp\":\"2026-01-02T03:04:05Z\",\"event\":1}\n";
    bench.write("empty/.prodigy/events/nightly/events-1.jsonl", event);
    inside(&bench, &project, &["migrate", "--dry-run"]).code(0);
    assert_eq!(bench.run(&["repo", "list"]).code(0).out, "");
    inside(&bench, &project, &["migrate"]).code(0);
    let entry = bench.run(&["--json", "repo", "list"]).code(0).json();
    assert_eq!(entry["repo"], "empty");
    assert_eq!(entry["path"], project.canonicalize().unwrap().to_str().unwrap());
}
