//! `copy`.

use crate::support::Bench;

const JOB: [&str; 4] = ["--repo", "shop", "--job", "job"];

#[test]
fn a_store_is_copied_into_a_folder_and_compared() {
    let bench = Bench::new();
    bench.append("{\"n\":1}\n{\"n\":2}\n");
    let cursor = bench.run(&[&["events", "end"][..], &JOB].concat()).code(0).out;
    let save = ["checkpoint", "save", "--phase", "map", "--cursor", cursor.trim()];
    bench.feed(&[&save[..], &JOB].concat(), "2").code(0);
    bench.append("{\"n\":3}\n");
    let target = bench.path("copy");
    let target = target.to_str().unwrap();
    let copied = bench.run(&["copy", "--to", target, "--json"]).code(0).json();
    assert_eq!((&copied["events"], &copied["stored"]), (&3.into(), &3.into()));
    let again = bench.run(&["copy", "--to", target, "--json"]).code(0).json();
    assert_eq!(
        (&again["stored"], &again["checksum"]),
        (&0.into(), &copied["checksum"])
    );

    let there = |command: &[&str]| {
        bench
            .run(&[&["--base-dir", target], command, &JOB].concat())
            .code(0)
    };
    let cursor = there(&["checkpoint", "show"]).json()["cursor"]
        .as_str()
        .unwrap()
        .to_owned();
    let behind = there(&["events", "follow", "--for", "0s", "--cursor", &cursor]).jsonl();
    assert_eq!((behind.len(), &behind[0]["event"]["n"]), (1, &3.into()));

    bench.run(&["copy", "--to", target, "--schema", "other"]).code(2);
    let root = bench.root();
    bench
        .run(&["copy", "--to", root.to_str().unwrap()])
        .code(1)
        .says("the same store");
}
