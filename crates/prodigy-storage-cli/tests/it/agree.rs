//! `status`, `health` and `doctor` agree about what is wrong with a store.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Bench, Run, SAVE, commands, run, tree};

/// Prints the body of the latest checkpoint.
const SHOW: [&str; 7] = [
    "checkpoint",
    "show",
    "--repo",
    "shop",
    "--job",
    "job",
    "--payload",
];

/// A store with a job of five events and a checkpoint at the end of its log.
fn stored() -> Bench {
    let bench = Bench::new();
    bench.append("1\n2\n3\n4\n5\n");
    let end = ["events", "end", "--repo", "shop", "--job", "job"];
    let end = bench.run(&end).code(0).out;
    let save = [&SAVE[..], &["--cursor", end.trim()]].concat();
    bench.feed(&save, "{\"done\":5}").code(0);
    bench
}

/// Changes the log of a job: the first path is the folder of all logs, the second is the segment.
type Change = fn(&Path, &Path);

fn folder(segment: &Path) -> &Path {
    segment.parent().unwrap()
}

const CHANGES: [(&str, Change); 8] = [
    ("the log is gone", |_, segment| {
        fs::remove_dir_all(folder(segment)).unwrap();
    }),
    ("the segment is gone", |_, segment| {
        fs::remove_file(segment).unwrap();
    }),
    ("the log has another name", |_, segment| {
        fs::rename(folder(segment), folder(segment).with_file_name("jobb")).unwrap();
    }),
    ("the segment has another name", |_, segment| {
        let name = "events-20270115T080000.000000000Z.jsonl";
        fs::rename(segment, folder(segment).join(name)).unwrap();
    }),
    ("all logs are gone", |events, _| {
        fs::remove_dir_all(events).unwrap();
    }),
    ("the first line is gone", |_, segment| {
        let text = fs::read_to_string(segment).unwrap();
        fs::write(segment, text.split_once('\n').unwrap().1).unwrap();
    }),
    ("the last line is gone", |_, segment| {
        let text = fs::read_to_string(segment).unwrap();
        let last = text.trim_end().rfind('\n').unwrap();
        fs::write(segment, &text[..=last]).unwrap();
    }),
    ("the last line is another event", |_, segment| {
        let text = fs::read_to_string(segment).unwrap();
        let last = text.trim_end().rfind('\n').unwrap();
        fs::write(segment, &text[..=last]).unwrap();
    }),
];

/// Fails unless all three report damage.
fn all_see(bench: &Bench, what: &str) {
    bench.run(&["doctor"]).code(5).prints("missing events");
    let status = bench.run(&["status"]).code(5);
    assert!(status.out.contains("ahead of its log"), "{what}: {}", status.out);
    let health = bench.run(&["health"]).code(1);
    assert!(health.out.contains("failure  data: "), "{what}: {}", health.out);
}

fn none_sees(bench: &Bench) {
    bench.run(&["status"]).code(0).prints("no problems seen");
    bench.run(&["health"]).code(0);
    bench.run(&["doctor"]).code(0);
}

#[test]
fn a_log_without_events_that_a_checkpoint_covers_is_damage_for_all_three() {
    for (what, change) in CHANGES {
        println!("{what}");
        let bench = stored();
        none_sees(&bench);
        change(
            &bench.root().join("events"),
            &bench.only_file("events/shop/job", "events-", ".jsonl"),
        );
        if what == "the last line is another event" {
            bench.append("\"another one, which is longer\"\n");
        }
        all_see(&bench, what);
    }
}

#[test]
fn a_finished_job_without_its_log_is_damage_for_all_three() {
    let bench = Bench::new();
    bench.append("1\n2\n3\n");
    bench.run(&["job", "finish", "--repo", "shop", "job"]).code(0);
    none_sees(&bench);
    fs::remove_dir_all(bench.root().join("events/shop/job")).unwrap();
    all_see(&bench, "finished");
}

#[test]
fn removed_events_a_deleted_job_and_a_repaired_line_are_no_missing_events() {
    let removed = Bench::new().with("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_FILE_SIZE", "4096");
    let pad = "x".repeat(1500);
    for number in 0..6 {
        removed.append(&format!("{{\"n\":{number},\"pad\":\"{pad}\"}}\n"));
        removed.feed(&SAVE, format!("{{\"done\":{number}}}")).code(0);
        if number == 0 {
            let end = ["events", "end", "--repo", "shop", "--job", "job"];
            let end = removed.run(&end).code(0).out;
            let early = [&SAVE[..7], &["setup", "--cursor", end.trim()]].concat();
            removed.feed(&early, "{}").code(0);
        }
    }
    removed.run(&["clean", "--events", "0s", "--yes"]).code(0);
    none_sees(&removed);

    let deleted = stored();
    let delete = ["job", "delete", "--repo", "shop", "--yes", "job"];
    deleted.run(&delete).code(0);
    none_sees(&deleted);

    let repaired = stored();
    let segment = repaired.only_file("events/shop/job", "events-", ".jsonl");
    let mut text = fs::read(&segment).unwrap();
    // A byte of the third event.
    let at = text.len() / 2;
    text[at] ^= 1;
    fs::write(&segment, text).unwrap();
    repaired.run(&["doctor", "--repair"]);
    repaired.run(&["doctor"]).code(0);
    repaired.run(&["status"]).code(0);
    repaired.run(&["health"]).code(0);
}

/// A store with the repositories `shop` and `lib`, each with a job, in folders of these names. `None` if git is not installed.
fn two_repositories() -> Option<Bench> {
    let bench = Bench::new();
    for name in ["shop", "lib"] {
        let made = Command::new("git")
            .args(["init", "-q"])
            .arg(bench.path(name))
            .status();
        made.ok()?;
        append_in(&bench, name, "1\n").code(0);
    }
    none_sees(&bench);
    Some(bench)
}

/// Appends to the job `job` of the repository in this folder.
fn append_in(bench: &Bench, folder: &str, lines: &str) -> Run {
    let mut append = bench.std(["events", "append", "--job", "job"]);
    append.current_dir(bench.path(folder));
    run(append, lines)
}

/// The first of the tool's commands that a run advises and that begins so.
fn advised(run: &Run, start: &str) -> String {
    // A command of the shell is below its problem, or in a hint.
    let below = run
        .out
        .lines()
        .filter_map(|line| line.strip_prefix("         run: "));
    let quoted = run.err.split('`').skip(1).step_by(2);
    let all = commands(run).into_iter().chain(below).chain(quoted);
    let command = all.into_iter().find(|command| command.starts_with(start));
    command
        .unwrap_or_else(|| panic!("no `{start}` in {}{}", run.out, run.err))
        .to_owned()
}

/// Fails unless all three report an entry under a wrong name. Returns the command that each of them names.
fn all_see_an_entry(bench: &Bench, start: &str) -> [String; 3] {
    let doctor = bench.run(&["doctor"]).code(1);
    let status = bench.run(&["status"]).code(1);
    let health = bench.run(&["health"]).code(1);
    assert!(status.out.contains("failure  registry: "), "{}", status.out);
    assert!(health.out.contains("failure  registry: "), "{}", health.out);
    [&doctor, &status, &health].map(|run| advised(run, start))
}

fn events_of(bench: &Bench, name: &str) -> usize {
    let cat = ["events", "cat", "--payload", "--job", "job", "--repo", name];
    bench.run(&cat).lines().len()
}

#[test]
fn an_entry_whose_folder_was_renamed_is_found_by_all_three_and_the_command_mends_it() {
    for command in 0..4 {
        let Some(bench) = two_repositories() else { return };
        for area in ["events", "state"] {
            let area = bench.root().join(area);
            fs::rename(area.join("shop"), area.join("store")).unwrap();
        }
        let [doctor, status, health] = all_see_an_entry(&bench, "prodigy-storage repo ");
        let refused = append_in(&bench, "shop", "2\n").code(1);
        let refused = advised(&refused, "prodigy-storage repo relink store ");
        assert_eq!((events_of(&bench, "store"), events_of(&bench, "lib")), (1, 1));
        let command = [doctor, status, health, refused][command].clone();
        crate::planted::shell(&bench, &command).code(0);
        append_in(&bench, "shop", "2\n").code(0);
        assert_eq!(events_of(&bench, "store"), 2);
        none_sees(&bench);
    }
}

#[test]
fn swapped_entries_are_found_by_all_three_and_one_command_mends_both() {
    for command in 0..4 {
        let Some(bench) = two_repositories() else { return };
        let entry = |name: &str| bench.root().join("state").join(name).join("repository.json");
        let (shop, lib) = (fs::read(entry("shop")).unwrap(), fs::read(entry("lib")).unwrap());
        fs::write(entry("shop"), lib).unwrap();
        fs::write(entry("lib"), shop).unwrap();
        let [doctor, status, health] = all_see_an_entry(&bench, "prodigy-storage repo ");
        append_in(&bench, "lib", "2\n").code(1);
        let refused = append_in(&bench, "shop", "2\n").code(1);
        let refused = advised(&refused, "prodigy-storage repo relink shop ");
        assert_eq!((events_of(&bench, "shop"), events_of(&bench, "lib")), (1, 1));
        let command = [doctor, status, health, refused][command].clone();
        crate::planted::shell(&bench, &command).code(0);
        none_sees(&bench);
        append_in(&bench, "shop", "2\n").code(0);
        assert_eq!((events_of(&bench, "shop"), events_of(&bench, "lib")), (2, 1));
        append_in(&bench, "lib", "2\n").code(0);
        assert_eq!((events_of(&bench, "shop"), events_of(&bench, "lib")), (2, 2));
    }
}

#[test]
fn a_copy_of_an_entry_under_another_name_takes_nothing_from_its_owner() {
    let Some(bench) = two_repositories() else { return };
    let entry = |name: &str| bench.root().join("state").join(name).join("repository.json");
    fs::create_dir(bench.root().join("state/store")).unwrap();
    fs::copy(entry("shop"), entry("store")).unwrap();
    let [command, ..] = all_see_an_entry(&bench, "prodigy-storage repo ");
    append_in(&bench, "shop", "2\n").code(0);
    crate::planted::shell(&bench, &command).code(0);
    append_in(&bench, "shop", "3\n").code(0);
    assert_eq!(events_of(&bench, "shop"), 3);
    none_sees(&bench);
}

#[test]
fn a_renamed_folder_of_states_is_found_by_all_three_and_gets_its_name_back() {
    for command in 0..5 {
        let Some(bench) = two_repositories() else { return };
        let save = [
            "checkpoint",
            "save",
            "--phase",
            "map",
            "--repo",
            "shop",
            "--job",
            "job",
        ];
        bench.feed(&save, "1").code(0);
        let state = bench.root().join("state");
        fs::rename(state.join("shop"), state.join("store")).unwrap();
        let [doctor, status, health] = all_see_an_entry(&bench, "mv ");
        let refused = append_in(&bench, "shop", "2\n").code(1);
        let refused = advised(&refused, "mv ");
        let shop = bench.path("shop");
        let relinks = ["shop", "store"].map(|name| {
            let relink = ["repo", "relink", name, shop.to_str().unwrap()];
            advised(&bench.run(&relink).code(1), "mv ")
        });
        let commands = [doctor, status, health, refused, relinks[command % 2].clone()];
        crate::planted::shell(&bench, &commands[command]).code(0);
        append_in(&bench, "shop", "2\n").code(0);
        assert_eq!(events_of(&bench, "shop"), 2);
        assert_eq!(bench.run(&SHOW).code(0).out, "1\n");
        none_sees(&bench);
    }
}

/// Fails unless `status`, `health` and `doctor` report this path as a problem.
fn all_name(bench: &Bench, path: &str) {
    for command in ["status", "health", "doctor"] {
        let run = bench.run(&[command]);
        let lines = run.out.lines();
        let mut problems = lines.filter(|line| !line.starts_with(['n', 'o', ' ']));
        assert!(
            problems.any(|line| line.contains(path)),
            "{command}: {}{}",
            run.out,
            run.err
        );
    }
}

#[test]
fn a_damaged_mark_is_found_by_all_three() {
    let marks = [
        ("moved/jobs/shop/job.json", true),
        ("moved/repositories/shop.json", true),
        ("moved/store.json", true),
        ("deletions/shop/job.json", true),
        // The mark of a copy that has not ended stops no write.
        ("state/_copy/documents/_copy/copy-12345678.json", false),
    ];
    for (path, stops_writes) in marks {
        for text in ["", "{\"moved_to\":", "damaged"] {
            let bench = Bench::new();
            bench.append("1\n");
            none_sees(&bench);
            let mark = bench.root().join(path);
            fs::create_dir_all(folder(&mark)).unwrap();
            fs::write(&mark, text).unwrap();
            all_name(&bench, path);
            let code = i32::from(stops_writes);
            bench.run(&["health"]).code(code);
            let append = ["events", "append", "--repo", "shop", "--job", "job"];
            let written = bench.feed(&append, "2\n");
            assert_eq!(written.code == Some(0), !stops_writes, "{path}: {}", written.err);
            if !path.starts_with("deletions") {
                // A repair leaves it: a person has to say whether the data is in its place.
                bench.run(&["doctor", "--repair"]).code(5);
                assert!(mark.exists(), "{path}");
                let scope: &[&str] = match path {
                    "moved/jobs/shop/job.json" => &["--repo", "shop", "--job", "job"],
                    "moved/repositories/shop.json" => &["--repo", "shop"],
                    _ => &[],
                };
                bench.run(&[&["copy", "--reopen"], scope].concat()).code(0);
                none_sees(&bench);
            }
        }
    }
}

#[test]
fn lines_in_another_order_are_no_missing_events() {
    let bench = stored();
    let segment = bench.only_file("events/shop/job", "events-", ".jsonl");
    let text = fs::read_to_string(&segment).unwrap();
    let mut lines: Vec<_> = text.lines().map(|line| format!("{line}\n")).collect();
    lines.reverse();
    fs::write(&segment, lines.concat()).unwrap();
    let found = bench.run(&["doctor"]).code(5);
    let found = found
        .prints("damage   out of order")
        .prints("4 events stand behind one with a later id");
    assert!(!found.out.contains("missing"), "{}", found.out);
    assert!(!bench.run(&["status"]).out.contains("lacks events"));
    bench
        .run(&["doctor", "--repair"])
        .code(5)
        .prints("no event is damaged, so none is moved");
    crate::planted::shell(&bench, &advised(&found, "LC_ALL=C sort ")).code(0);
    assert_eq!(fs::read_to_string(&segment).unwrap(), text);
    none_sees(&bench);
}

#[test]
fn a_copy_of_a_segment_under_a_later_name_is_found() {
    let bench = stored();
    let segment = bench.only_file("events/shop/job", "events-", ".jsonl");
    let copy = folder(&segment).join("events-20991201T000000.000000000Z.jsonl");
    fs::rename(&segment, &copy).unwrap();
    fs::copy(&copy, &segment).unwrap();
    let found = bench.run(&["doctor"]).code(5);
    let found = found
        .prints("damage   out of order")
        .prints("5 events have ids below the time in the name of the segment");
    assert!(!found.out.contains("run: LC_ALL"), "{}", found.out);
    fs::remove_file(&copy).unwrap();
    none_sees(&bench);
}

/// The paths below a folder, with the contents of the files.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    tree(folder)
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap_or_default()))
        .collect()
}

/// A store with one of everything.
fn full() -> Bench {
    let bench = stored();
    let job = ["--repo", "shop", "--job", "job"];
    let push = [&["dlq", "push"][..], &job].concat();
    let item = "{\"item_id\":\"a\",\"item_data\":1}";
    bench.feed(&push, item).code(0);
    let put = [
        "document", "put", "--repo", "shop", "--kind", "notes", "--name", "one",
    ];
    bench.feed(&put, "{}").code(0);
    bench.feed(&[&put[..], &["--job", "job"]].concat(), "{}").code(0);
    let of_gone = ["events", "append", "--repo", "shop", "--job", "gone"];
    bench.feed(&of_gone, "1\n").code(0);
    bench
        .run(&["job", "delete", "--repo", "shop", "--yes", "gone"])
        .code(0);
    bench.run(&["lock", "run", "one", "--", "true"]).code(0);
    fs::create_dir_all(bench.root().join("worktrees/shop/session-1")).unwrap();
    let mark = bench.root().join("moved/jobs/shop/away.json");
    fs::create_dir_all(folder(&mark)).unwrap();
    fs::write(
        mark,
        "{\"moved_to\":\"/elsewhere\",\"moved_at\":\"2026-01-01T00:00:00Z\"}",
    )
    .unwrap();
    bench
}

const JOB: &str = "state/shop/mapreduce/jobs/job";

/// Renames of what belongs to the store: the folder, the beginning of the name in it, and the new name, in which `*` is the old one.
const RENAMES: [(&str, &str, &str); 31] = [
    ("", "state", "State"),
    ("", "state", "state.old"),
    ("", "events", "events-1"),
    ("", "dlq", "DLQ"),
    ("", "worktrees", "Worktrees"),
    ("", "locks", "locks.old"),
    ("", "deletions", ".deletions"),
    ("", "moved", "moved~"),
    ("state", "shop", ".shop"),
    ("state/shop", "mapreduce", "mapreduce.old"),
    ("state/shop", "mapreduce", "x"),
    ("state/shop", "documents", "Documents"),
    ("state/shop/documents", "notes", ".notes"),
    ("state/shop/documents/notes", "one.json", ".*"),
    ("state/shop/documents/notes", "one.json", "*.bak"),
    ("state/shop/mapreduce", "jobs", "jobs.1"),
    ("state/shop/mapreduce/jobs", "job", ".job"),
    (JOB, "documents", "documents.old"),
    (JOB, "map-checkpoint", "*.bak"),
    (JOB, "map-checkpoint", ".*"),
    ("events", "shop", ".shop"),
    ("events/shop", "job", ".job "),
    ("events/shop/job", "events-", "*.bak"),
    ("dlq", "shop", ".shop"),
    ("dlq/shop", "job", ".job"),
    ("dlq/shop/job", "items.json", "*.old"),
    ("worktrees", "shop", ".shop"),
    ("locks", "state", "state.old"),
    ("moved", "jobs", "jobs.old"),
    ("moved/jobs", "shop", ".shop"),
    ("state/shop/documents/notes", "one.json", "ONE.JSON"),
];

#[test]
fn what_was_renamed_below_the_root_gets_its_name_back() {
    for (at, start, new) in RENAMES {
        println!("{at}/{start} -> {new}");
        let bench = full();
        let before = contents(&bench.root());
        let at = bench.root().join(at);
        let names = fs::read_dir(&at)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let name = names
            .filter(|name| name.starts_with(start))
            .max_by_key(|name| name == start)
            .unwrap();
        fs::rename(at.join(&name), at.join(new.replace('*', &name))).unwrap();
        let found = bench.run(&["doctor"]).code(5);
        let found = found.prints("displaced");
        for command in ["status", "health"] {
            bench.run(&[command]).prints("nothing reads what was renamed");
        }
        let command = advised(&found, "test ! -e ");
        assert!(!found.out.contains("quarantine"), "{}", found.out);
        crate::planted::shell(&bench, &command).code(0);
        assert_eq!(contents(&bench.root()), before);
    }
}

#[test]
fn what_was_renamed_is_not_moved_over_what_took_its_place() {
    let bench = full();
    let state = bench.root().join("state/shop");
    fs::rename(state.join("mapreduce"), state.join("mapreduce.old")).unwrap();
    bench.feed(&SAVE, "{\"again\":1}").code(0);
    let found = bench.run(&["doctor"]);
    let found = found
        .prints("warning  displaced")
        .prints("where there is other data now");
    assert!(!found.out.contains("mv "), "{}", found.out);
    // The folder of another job takes no place.
    fs::rename(
        state.join("mapreduce/jobs/job"),
        state.join("mapreduce/jobs/other"),
    )
    .unwrap();
    let found = bench.run(&["doctor"]).code(5);
    crate::planted::shell(&bench, &advised(&found, "test ! -e ")).code(0);
    assert_eq!(bench.run(&SHOW).code(0).out, "{\"done\":5}\n");
}

#[test]
fn data_of_the_store_under_an_unknown_name_is_never_moved_to_quarantine() {
    // A document elsewhere, and a queue and its journal under names that people give to a copy.
    for (from, to) in [
        ("state/shop/documents/notes/one.json", "old/of/mine/x"),
        ("dlq/shop/job/items.json", "dlq/shop/job/items (copy).json"),
        ("dlq/shop/job/items.journal", "dlq/shop/job/Copy of items.journal"),
    ] {
        let bench = full();
        bench
            .run(&["dlq", "park", "a", "--repo", "shop", "--job", "job"])
            .code(0);
        let to = bench.root().join(to);
        fs::create_dir_all(folder(&to)).unwrap();
        fs::copy(bench.root().join(from), to).unwrap();
        let found = bench.run(&["doctor"]);
        let found = found.prints("warning  displaced").prints("its place is unknown");
        assert!(!found.out.contains("mv "), "{}", found.out);
    }
}
