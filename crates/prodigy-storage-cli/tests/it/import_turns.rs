//! Tests of imports into one store at the same time.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use crate::support::{Bench, run};

const JOB: [&str; 4] = ["--repo", "shop", "--job", "job"];

/// Exports a job with two checkpoints without keys from a store of its own.
pub fn exported(bench: &Bench) -> String {
    let source = bench.path("source");
    let at = ["--base-dir", source.to_str().unwrap()];
    let store = |arguments: &[&str], input: &str| {
        let mut command = bench.std([&at, arguments, &JOB].concat());
        for backend in ["PRODIGY_STORAGE_TYPE", "PRODIGY_STORAGE_URL"] {
            command.env_remove(backend);
        }
        run(command, input).code(0);
    };
    let save = ["checkpoint", "save", "--phase", "map"];
    store(&save, "{\"d\":1}");
    store(&save, "{\"d\":2}");
    store(&["events", "append"], "1\n");
    let file = bench.path("job.jsonl").to_str().unwrap().to_owned();
    store(&["export", &file], "");
    file
}

/// Starts imports of one file at the same time: together they store what one stores.
pub fn imports_at_once(bench: &Bench, file: &str) {
    let start = || bench.std(["import", file]).stdout(Stdio::null()).spawn().unwrap();
    let imports: Vec<Child> = std::iter::repeat_with(start).take(4).collect();
    for mut import in imports {
        assert_eq!(import.wait().unwrap().code(), Some(0));
    }
    let count = |arguments: &[&str]| bench.run(&[arguments, &JOB].concat()).code(0).jsonl().len();
    assert_eq!(count(&["--json", "checkpoint", "list"]), 2);
    assert_eq!(count(&["events", "cat"]), 1);
}

#[test]
fn imports_of_the_same_thing_at_once_store_it_once() {
    let bench = Bench::new();
    let file = exported(&bench);
    imports_at_once(&bench, &file);
}

#[test]
fn an_import_waits_for_the_one_before_it_and_says_so() {
    let bench = Bench::new();
    let file = exported(&bench);
    let mut first = bench
        .std(["lock", "run", "_import", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // `cat` runs under the lock once it gives back what it gets.
    let (mut input, mut output) = (first.stdin.take().unwrap(), first.stdout.take().unwrap());
    std::io::Write::write_all(&mut input, b"x").unwrap();
    output.read_exact(&mut [0]).unwrap();
    // A dry run waits for nobody.
    bench.run(&["import", &file, "--dry-run"]).code(0);
    let mut second = bench.std(["import", &file]);
    let mut second = second
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(second.stderr.take().unwrap()).lines().next();
    let said = said.transpose().unwrap().unwrap_or_default();
    assert!(said.contains("waiting for the lock `_import`: "), "{said}");
    drop(input);
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_eq!(second.wait().unwrap().code(), Some(0));
    let list = [&["--json", "checkpoint", "list"][..], &JOB].concat();
    assert_eq!(bench.run(&list).code(0).jsonl().len(), 2);
}
