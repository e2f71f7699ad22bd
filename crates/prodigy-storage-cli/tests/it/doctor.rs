//! Tests of `doctor`.

use std::path::Path;

use crate::support::{Bench, tree};

const CAT: [&str; 7] = ["events", "cat", "--repo", "shop", "--job", "job", "--payload"];

/// Flips a byte of a file.
fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// Appends three events and damages the second; returns the file and the offset.
fn damaged(bench: &Bench) -> (std::path::PathBuf, usize) {
    bench.append("1\n2\n3\n");
    let file = bench.only_file("events/shop/job", "events-", ".jsonl");
    let second = std::fs::read(&file)
        .unwrap()
        .iter()
        .position(|&byte| byte == b'\n')
        .unwrap()
        + 1;
    flip(&file, second + 95);
    (file, second)
}

#[test]
fn an_absent_root_and_a_whole_one_are_clean_and_nothing_is_made() {
    let bench = Bench::new();
    let run = bench.run(&["doctor"]).code(0);
    assert!(run.out.contains("damage: 0 found, 0 left"), "{}", run.out);
    bench.run(&["doctor", "--repair"]).code(0);
    assert!(!bench.root().exists());
    bench.append("1\n2\n");
    let before = tree(&bench.root());
    let summary = bench.run(&["doctor", "--json"]).code(0).json();
    assert_eq!(
        (&summary["summary"]["events"], &summary["summary"]["notes"]),
        (&2.into(), &0.into())
    );
    assert_eq!(tree(&bench.root()), before);
}

#[test]
fn damage_is_told_with_its_place_and_left_as_it_is() {
    let bench = Bench::new();
    let (file, second) = damaged(&bench);
    let before = std::fs::read(&file).unwrap();
    let place = format!("{} at offset {second}, ", file.display());
    for arguments in [&["doctor"][..], &["doctor", "--verbose"]] {
        let run = bench.run(arguments).code(5);
        assert!(run.out.contains(&place), "{}", run.out);
        for word in [
            "lost: the events",
            "run: prodigy-storage doctor --repair\n",
            "1 found, 1 left",
        ] {
            assert!(run.out.contains(word), "no {word:?} in {}", run.out);
        }
    }
    assert_eq!(std::fs::read(&file).unwrap(), before);
    // Data of other jobs and repositories is not examined.
    bench.run(&["doctor", "--repo", "shop", "--job", "job"]).code(5);
    for (repo, job) in [("shop", "other"), ("outlet", "one")] {
        let append = ["events", "append", "--repo", repo, "--job", job];
        bench.feed(&append, "1\n").code(0);
    }
    bench.run(&["doctor", "--repo", "shop", "--job", "other"]).code(0);
    bench.run(&["doctor", "--repo", "outlet"]).code(0);
    bench.run(&["doctor", "--repo", "../x"]).code(2);
}

#[test]
fn a_repair_keeps_the_bytes_with_a_report_and_the_rest_is_read_on() {
    let bench = Bench::new();
    let (file, second) = damaged(&bench);
    let before = std::fs::read(&file).unwrap();
    let length = before[second..].iter().position(|&byte| byte == b'\n').unwrap();
    let lines = bench.run(&["doctor", "--repair", "--json"]).code(0).jsonl();
    let (finding, summary) = (&lines[0], &lines[1]["summary"]);
    assert_eq!(finding["kind"], "damaged_events");
    assert_eq!(
        (&finding["offset"], &finding["len"]),
        (&second.into(), &length.into())
    );
    assert_eq!((&summary["damage"], &summary["left"]), (&1.into(), &0.into()));
    let kept = Path::new(finding["outcome"]["repaired"]["kept"].as_str().unwrap());
    assert_eq!(std::fs::read(kept).unwrap(), before[second..second + length]);
    let report = std::fs::read(format!("{}.report.json", kept.display())).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    assert!(file.ends_with(report["file"].as_str().unwrap()), "{report}");
    assert_eq!(report["ranges"][0]["offset"], second);
    bench.run(&["doctor"]).code(0);
    let cat = bench.run(&CAT).code(0);
    assert_eq!(cat.out, "1\n3\n");
    assert_eq!(std::fs::read(&file).unwrap().len(), before.len(), "offsets stay");
    bench.append("4\n");
    assert_eq!(bench.run(&CAT).code(0).out, "1\n3\n4\n");
}

#[test]
fn a_damaged_format_is_mended_and_a_newer_one_is_not_touched() {
    let bench = Bench::new();
    bench.append("1\n");
    let format = bench.root().join("format.json");
    let whole = std::fs::read(&format).unwrap();
    flip(&format, 3);
    bench.run(&CAT).code(5).says("format.json");
    let run = bench.run(&["doctor"]).code(5);
    assert!(run.out.contains("format.json"), "{}", run.out);
    bench.run(&["doctor", "--repair"]).code(0);
    assert_eq!(std::fs::read(&format).unwrap(), whole);
    assert_eq!(bench.run(&CAT).code(0).out, "1\n");
    std::fs::write(&format, "{\"format\":3}\n").unwrap();
    bench.run(&["doctor", "--repair"]).code(1).says("newer format");
    assert_eq!(std::fs::read(&format).unwrap(), b"{\"format\":3}\n");
}

#[test]
fn what_is_harmless_is_told_apart() {
    let bench = Bench::new();
    bench.append("1\n");
    let file = bench.only_file("events/shop/job", "events-", ".jsonl");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.extend_from_slice(b"{\"id\":\"half");
    std::fs::write(&file, bytes).unwrap();
    bench.write("home/.prodigy/events/shop/job/notes.txt", "mine");
    bench.write("home/.prodigy/state/shop/.tmp-0123", "half");
    let findings = bench.run(&["doctor", "--json"]).code(0).jsonl();
    let kinds: Vec<_> = findings
        .iter()
        .filter_map(|finding| Some((finding["kind"].as_str()?, finding["severity"].as_str()?)))
        .collect();
    for kind in ["torn_end", "stray", "temporary"] {
        assert!(kinds.contains(&(kind, "note")), "no {kind} in {kinds:?}");
    }
    let leftover = bench.root().join("state/shop/.tmp-0123");
    assert!(leftover.exists());
    bench.run(&["doctor", "--repair"]).code(0);
    assert!(!leftover.exists());
    assert!(bench.root().join("events/shop/job/notes.txt").exists());
}

#[test]
fn other_backends_need_none() {
    let bench = Bench::new().with("PRODIGY__STORAGE__BACKEND", "memory");
    bench.run(&["doctor"]).code(1).says("keeps none");
}

#[test]
fn a_repair_that_leaves_something_is_no_success() {
    let bench = Bench::new();
    bench.run(&["lock", "run", "l", "--", "true"]).code(0);
    let lock = bench.root().join("locks/1/l.lock");
    flip(&lock, 12);
    let file = std::fs::File::open(&lock).unwrap();
    file.lock().unwrap();
    let run = bench.run(&["doctor", "--repair", "--wait", "0s"]).code(1);
    assert!(
        run.out.contains("left: ") && run.out.contains("; 1 not repaired"),
        "{}",
        run.out
    );
    drop(file);
    bench.run(&["doctor", "--repair"]).code(0);
    bench.run(&["doctor"]).code(0);
}

#[test]
fn each_stray_is_printed_with_its_command_on_demand() {
    let bench = Bench::new();
    bench.append("1\n");
    for name in ["one", "two", "three"] {
        bench.write(&format!("home/.prodigy/{name}.txt"), "mine");
    }
    let counted = bench.run(&["doctor"]).code(0).prints("stray (3; the first)");
    let each = bench.run(&["doctor", "--verbose"]).code(0);
    for name in ["one", "two", "three"] {
        each.out
            .lines()
            .find(|line| {
                line.contains("run: ") && line.contains(&format!("mv {}", bench.root().join(name).display()))
            })
            .unwrap_or_else(|| panic!("no command for {name}: {}", each.out));
    }
    let last = |out: &str| out.lines().last().unwrap().to_owned();
    assert_eq!(last(&each.out), last(&counted.out), "the summary is the same");
    assert!(
        last(&each.out).contains("0 warnings, 3 notes"),
        "{}",
        last(&each.out)
    );
    // One command moves all of them; of more than a command should name, the first.
    let command = |out: &str| {
        let run = out.lines().find_map(|line| line.strip_prefix("         run: "));
        run.unwrap().to_owned()
    };
    assert!(!counted.out.contains("--verbose"), "{}", counted.out);
    crate::planted::shell(&bench, &command(&counted.out)).code(0);
    assert!(!bench.run(&["doctor"]).code(0).out.contains("stray"));
    for number in 0..23 {
        bench.write(&format!("home/.prodigy/{number}.txt"), "mine");
    }
    let many = bench.run(&["doctor"]).code(0).prints("stray (23; the first)");
    let many = many.prints("also: `prodigy-storage doctor --verbose` prints the command for each");
    crate::planted::shell(&bench, &command(&many.out)).code(0);
    bench.run(&["doctor"]).code(0).prints("stray (3; the first)");
}

#[test]
fn a_folder_that_is_no_store_is_said_to_be_none_and_nothing_in_it_is_to_be_moved() {
    let bench = Bench::new();
    let project = bench.write("project/src/main.rs", "fn main() {}");
    let project = project
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    bench.write("project/README", "mine");
    let at = |words: &[&str]| bench.run(&[&["--base-dir", &project][..], words].concat());
    for words in [&["doctor"][..], &["doctor", "--verbose"], &["doctor", "--repair"]] {
        let doctor = at(words).code(1).out;
        assert!(
            doctor.contains("this is no store") && doctor.contains("config show --origin"),
            "{doctor}"
        );
        assert!(!doctor.contains("mv ") && !doctor.contains("README"), "{doctor}");
    }
    at(&["health"])
        .code(0)
        .prints("warning  root: ")
        .prints("none of a store");
    assert!(!at(&["status"]).code(0).out.contains("no problems"));
    // A folder with the names of a store, and without its mark.
    bench.write("project/state/notes.txt", "mine");
    let doctor = at(&["doctor"]).out;
    assert!(!doctor.contains("mv "), "{doctor}");
    // A user's configuration is in the root before anything is stored there, and afterwards.
    for stored in [false, true] {
        let bench = Bench::new();
        bench.write("home/.prodigy/config.yml", "storage: {}\n");
        if stored {
            bench.append("1\n");
        }
        bench.run(&["health"]).code(0);
        let doctor = bench.run(&["doctor"]).code(0).out;
        assert!(
            doctor.ends_with("0 warnings, 0 notes\n") || doctor.contains("mode"),
            "{doctor}"
        );
        assert!(!doctor.contains("config.yml"), "{doctor}");
    }
}

#[test]
fn a_repository_whose_path_is_gone_is_reported_with_the_ways_out() {
    let bench = Bench::new();
    let git = std::process::Command::new("git")
        .args(["init", "-q"])
        .arg(bench.path("here"))
        .status();
    assert!(git.unwrap().success());
    bench.feed(&["events", "append", "--job", "job"], "1\n").code(0);
    let list = bench.run(&["repo", "list", "--json"]).code(0).json();
    assert_eq!(list["gone"], false);
    assert!(!bench.run(&["doctor"]).code(0).out.contains("repository"));
    std::fs::rename(bench.path("here"), bench.path("there")).unwrap();
    std::fs::create_dir(bench.path("here")).unwrap();
    for command in [&["doctor"][..], &["repo", "list"]] {
        let run = bench.run(command).code(0);
        let said = format!("{}{}", run.out, run.err);
        for part in [
            "`here` is registered for is gone",
            "repo relink here PATH",
            "repo unregister --yes here",
            "not mounted",
        ] {
            assert!(said.contains(part), "{command:?}: no {part:?} in {said}");
        }
    }
    assert_eq!(
        bench.run(&["repo", "list", "--json"]).code(0).json()["gone"],
        true
    );
    let there = bench.path("there");
    bench
        .run(&["repo", "relink", "here", there.to_str().unwrap()])
        .code(0);
    assert!(!bench.run(&["doctor"]).code(0).out.contains("is gone"));
}

#[test]
fn an_unknown_job_is_missing_also_beside_findings_about_its_repository() {
    let bench = Bench::new();
    bench.append("1\n");
    bench.write("home/.prodigy/state/shop/notes/foo.txt", "mine");
    for repair in [&[][..], &["--repair"]] {
        let of = |job: &'static str| [&["doctor", "--repo", "shop", "--job", job][..], repair].concat();
        bench
            .run(&of("jbo"))
            .code(4)
            .says("no job `jbo`")
            .says("the jobs are ");
        bench.run(&of("job")).code(0);
        // A job without events is known by its checkpoint.
        let state = bench
            .root()
            .join("state/shop/mapreduce/jobs/half/setup-checkpoint.json");
        std::fs::create_dir_all(state.parent().unwrap()).unwrap();
        std::fs::write(&state, "{}").unwrap();
        bench.run(&of("half")).code(0);
    }
}

#[test]
fn each_finding_has_its_kind_and_why_it_matters() {
    let bench = Bench::new();
    bench.append("1\n");
    bench.write("home/.prodigy/notes.txt", "mine");
    let run = bench.run(&["doctor", "--verbose"]).code(0);
    let run = run.prints("note     stray: /");
    run.prints("         why it matters: it takes space, and the store does not read it\n         lost: nothing\n         run: ");
}

#[test]
fn the_place_of_a_torn_end_that_a_repair_keeps_is_printed() {
    let bench = Bench::new();
    let of = ["--repo", "shop", "--job", "job"];
    let items: String = (0..6)
        .map(|item| format!("{{\"item_id\":\"{item}\",\"item_data\":\"0123456789\"}}\n"))
        .collect();
    bench.feed(&[&["dlq", "push"][..], &of].concat(), items).code(0);
    bench.run(&[&["dlq", "park", "0"][..], &of].concat()).code(0);
    let file = bench.root().join("dlq/shop/job/items.json");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() * 2 / 3]).unwrap();
    let run = bench.run(&["doctor", "--repair"]).code(0);
    let kept = run
        .out
        .lines()
        .find_map(|line| line.split_once("repaired: 1; the bytes are kept in "));
    let (_, kept) = kept.unwrap_or_else(|| panic!("{}", run.out));
    let kept = std::fs::read(kept).unwrap();
    assert!(bytes.windows(kept.len()).any(|part| part == kept) && !kept.is_empty());
    assert!(!run.out.contains("torn end"), "{}", run.out);
}

#[test]
fn the_command_for_a_finished_job_that_lost_its_newest_events_accepts_the_loss() {
    for whole_log in [false, true] {
        let bench = Bench::new();
        bench.append("1\n");
        bench.append("2\n");
        bench.run(&["job", "finish", "--repo", "shop", "job"]).code(0);
        let finished = || {
            bench
                .run(&["job", "show", "--repo", "shop", "job", "--json"])
                .json()["finished_at"]
                .clone()
        };
        let before = finished();
        let log = bench.root().join("events/shop/job");
        match whole_log {
            true => std::fs::remove_dir_all(log).unwrap(),
            false => std::fs::remove_file(bench.only_file("events/shop/job", "events-", "")).unwrap(),
        }
        let doctor = bench.run(&["doctor"]).code(5).prints("missing events");
        let fix = doctor.out.split('`').find(|part| part.contains("job finish"));
        crate::planted::shell(&bench, fix.unwrap()).code(0);
        bench.run(&["doctor"]).code(0).prints("damage: 0 found");
        assert_eq!(finished(), before);
    }
}
