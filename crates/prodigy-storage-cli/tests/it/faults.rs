//! Tests of unexpected contents at paths of the store: a command that can't count data there reports it.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::planted::shell;
use crate::support::{Bench, Run, SAVE};

const JOB: [&str; 4] = ["--repo", "shop", "--job", "job"];
const STATE: &str = "state/shop/mapreduce/jobs/job";

fn words<'a>(command: &[&'a str]) -> Vec<&'a str> {
    [command, &JOB].concat()
}

/// A job with three dead letters (one is parked), a checkpoint in each of two phases, an event and a document.
fn filled() -> Bench {
    let bench = Bench::new();
    bench.append("{\"n\":1}\n");
    let letters = "{\"item_id\":\"a\",\"item_data\":1}\n{\"item_id\":\"b\",\"item_data\":2}\n{\"item_id\":\"c\",\"item_data\":3}\n";
    bench.feed(&words(&["dlq", "push"]), letters).code(0);
    bench.run(&words(&["dlq", "park", "a"])).code(0);
    bench.feed(&SAVE, "1").code(0);
    bench
        .feed(&words(&["checkpoint", "save", "--phase", "setup"]), "1")
        .code(0);
    let put = ["document", "put", "--kind", "notes", "--name", "n"];
    bench.feed(&words(&put), "1").code(0);
    bench
}

fn findings(bench: &Bench, code: i32) -> Vec<Value> {
    let run = bench.run(&["doctor", "--json"]).code(code);
    let is_about_contents = |line: &Value| line.get("kind").is_some_and(|kind| kind != "mode");
    run.jsonl().into_iter().filter(is_about_contents).collect()
}

/// The finding about a path.
fn finding(bench: &Bench, code: i32, below: &str) -> Value {
    let place = bench.root().join(below).display().to_string();
    let mut found = findings(bench, code);
    found.retain(|finding| finding["place"] == *place);
    found
        .into_iter()
        .next()
        .unwrap_or_else(|| panic!("no finding about {place}"))
}

/// Runs the commands that count the data of a job.
fn counting(bench: &Bench) -> Vec<Run> {
    let commands: [&[&str]; 6] = [
        &["status"],
        &["job", "list", "--repo", "shop"],
        &["job", "list", "--all-repos"],
        &["job", "show", "job", "--repo", "shop"],
        &["repo", "list"],
        &["usage", "--jobs"],
    ];
    commands.iter().map(|command| bench.run(command)).collect()
}

#[test]
fn commands_that_count_say_what_they_could_not_read() {
    let bench = filled();
    for run in counting(&bench) {
        run.code(0);
    }
    let items = bench.root().join("dlq/shop/job/items.json");
    let whole = fs::read(&items).unwrap();
    let flipped = String::from_utf8(whole.clone())
        .unwrap()
        .replace("\"item_data\":2", "\"item_data\":7");
    for bytes in [b"[\n]\n".to_vec(), flipped.into_bytes(), Vec::new()] {
        fs::write(&items, &bytes).unwrap();
        for run in counting(&bench) {
            let run = run.code(5);
            let named = "shop/job: 1 damaged place in the dead letters: not counted";
            assert!(
                run.err.contains(named) || run.out.contains(named),
                "{}{}",
                run.err,
                run.out
            );
        }
    }
    fs::write(&items, whole).unwrap();
    let setup = bench.root().join(STATE).join("setup-checkpoint.json");
    fs::write(&setup, "").unwrap();
    let show = bench
        .run(&["job", "show", "job", "--repo", "shop", "--json"])
        .code(5);
    let show = show.says("damaged: shop/job: 1 checkpoint is an empty file");
    assert_eq!(show.json()["checkpoints"]["count"], 1);
    for run in counting(&bench) {
        run.code(5);
    }
}

#[test]
fn a_doctor_misses_the_items_that_were_cut_from_a_queue() {
    let bench = filled();
    let items = bench.root().join("dlq/shop/job/items.json");
    fs::write(&items, "[\n]\n").unwrap();
    let found = finding(&bench, 5, "dlq/shop/job/items.json");
    let why = found["why"].as_str().unwrap();
    assert!(
        why.contains("at least 3 items are missing") && why.contains("holds 0 items"),
        "{why}"
    );
    assert_ne!(found["lost"], "nothing");
    bench.run(&["doctor", "--repair"]).code(0);
    bench.run(&["doctor"]).code(0);
}

#[test]
fn a_queue_of_pushes_alone_that_was_emptied_is_a_warning() {
    let bench = Bench::new();
    bench
        .feed(&words(&["dlq", "push"]), "{\"item_id\":\"a\",\"item_data\":1}")
        .code(0);
    fs::write(bench.root().join("dlq/shop/job/items.json"), "[]").unwrap();
    let found = findings(&bench, 0);
    let warned = found.iter().any(|found| {
        found["severity"] == "warning" && found["why"].as_str().unwrap().contains("items may be missing")
    });
    assert!(warned, "{found:?}");
}

#[test]
fn a_job_that_was_finished_behind_the_end_of_its_log_is_damage() {
    let bench = Bench::new();
    bench.append("{\"n\":1}\n{\"n\":2}\n");
    bench.run(&["job", "finish", "job", "--repo", "shop"]).code(0);
    assert!(findings(&bench, 0).is_empty());
    let log = bench.only_file("events/shop/job", "events-", ".jsonl");
    let whole = fs::read(&log).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    fs::remove_file(&log).unwrap();
    fs::write(&log, &whole[..first]).unwrap();
    let found = findings(&bench, 5);
    assert_eq!(found[0]["kind"], "missing_events", "{found:?}");
    assert!(
        found[0]["place"].as_str().unwrap().ends_with("finished.json"),
        "{found:?}"
    );
    // It is finished with what is left.
    bench.run(&["job", "finish", "job", "--repo", "shop"]).code(0);
    assert!(
        !findings(&bench, 0)
            .iter()
            .any(|found| found["kind"] == "missing_events")
    );
}

#[test]
fn a_checkpoint_whose_position_is_past_the_end_of_the_log_is_damage() {
    let bench = filled();
    let log = bench.only_file("events/shop/job", "events-", ".jsonl");
    let cut = fs::read(&log).unwrap();
    bench.append("{\"n\":2}\n");
    let end = bench.run(&words(&["events", "end"])).code(0);
    let save = [&SAVE[..], &["--cursor", end.out.trim()]].concat();
    bench.feed(&save, "2").code(0);
    assert!(findings(&bench, 0).is_empty());
    let newest = fs::read_dir(log.parent().unwrap()).unwrap();
    let files: Vec<PathBuf> = newest.map(|entry| entry.unwrap().path()).collect();
    for file in &files {
        let whole = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        // Only the first line of the log remains, in its first segment; every other segment is empty.
        fs::write(file, if *file == log { &cut[..] } else { b"" }).unwrap();
        let found = findings(&bench, 5);
        assert_eq!(found[0]["kind"], "missing_events", "{found:?}");
        assert_eq!(
            found
                .iter()
                .filter(|found| found["kind"] == "missing_events")
                .count(),
            1
        );
        fs::write(file, whole).unwrap();
    }
    assert!(
        !findings(&bench, 0)
            .iter()
            .any(|found| found["kind"] == "missing_events")
    );
    fs::remove_dir_all(log.parent().unwrap()).unwrap();
    let found = findings(&bench, 5);
    assert!(
        found[0]["why"].as_str().unwrap().contains("the log is gone"),
        "{found:?}"
    );
}

#[test]
fn an_empty_or_zeroed_document_is_our_damage_and_blocks_no_save() {
    for bytes in [&b""[..], &[0; 300]] {
        let bench = filled();
        let setup = format!("{STATE}/setup-checkpoint.json");
        fs::write(bench.root().join(&setup), bytes).unwrap();
        assert_eq!(finding(&bench, 5, &setup)["kind"], "damaged_document");
        let save = words(&["checkpoint", "save", "--phase", "setup"]);
        bench.feed(&save, "2").code(0);
        let show = bench
            .run(&words(&["checkpoint", "show", "--phase", "setup"]))
            .code(0);
        assert_eq!(show.json()["data"], 2);
        fs::write(bench.root().join(&setup), bytes).unwrap();
        bench.run(&["doctor", "--repair"]).code(0);
        assert!(!bench.root().join(&setup).exists());
        bench.run(&["doctor"]).code(0);
        // A list of orphans is read before a save changes it, so a save fails until the list is repaired.
        let orphans = bench.root().join("orphaned_worktrees/shop/job.json");
        fs::create_dir_all(orphans.parent().unwrap()).unwrap();
        fs::write(&orphans, bytes).unwrap();
        let found = finding(&bench, 5, "orphaned_worktrees/shop/job.json");
        assert_eq!(found["kind"], "damaged_document");
        bench.run(&["doctor", "--repair"]).code(0);
        assert!(!orphans.exists());
    }
}

#[test]
fn a_damaged_note_about_deleted_logs_is_found_and_repaired() {
    let bench = filled();
    bench
        .run(&["job", "delete", "job", "--repo", "shop", "--yes"])
        .code(0);
    let note = bench.root().join("deletions/shop.json");
    fs::write(&note, "").unwrap();
    bench
        .feed(&words(&["events", "append"]), "1\n")
        .code(5)
        .says("doctor --repair");
    assert_eq!(
        finding(&bench, 5, "deletions/shop.json")["kind"],
        "damaged_document"
    );
    bench.run(&["doctor", "--repair"]).code(0);
    bench.feed(&words(&["events", "append"]), "1\n").code(0);
}

#[test]
fn a_file_at_the_path_of_a_folder_is_named_by_every_command_that_looks_there() {
    for below in [
        "state",
        "locks",
        "state/shop/mapreduce",
        "state/shop/mapreduce/jobs",
        STATE,
        "state/shop/mapreduce/jobs/job/documents",
        "state/shop/mapreduce/jobs/job/documents/notes",
        "events/shop/job",
        "dlq/shop/job",
        "dlq/shop",
    ] {
        let bench = filled();
        let path = bench.root().join(below);
        fs::remove_dir_all(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        let text = path.display().to_string();
        let archive = bench.path("a.tar.zst");
        let backup = bench.run(&["backup", archive.to_str().unwrap()]).code(6);
        backup.says(&text).says("left out of the archive");
        bench.run(&["health"]).code(1).prints(&text);
        let found = finding(&bench, 5, below);
        assert_eq!(found["kind"], "in_the_way", "{below}");
    }
}

#[test]
fn half_a_format_file_stops_a_writer_and_is_repaired() {
    let bench = filled();
    let format = bench.root().join("format.json");
    let whole = fs::read(&format).unwrap();
    for len in [1, 20, 60] {
        fs::write(&format, &whole[..len]).unwrap();
        bench.run(&["status"]).code(5);
        bench.run(&["doctor", "--repair"]).code(0);
        bench.run(&["status"]).code(0);
    }
    fs::write(&format, "another program's").unwrap();
    let left = bench.run(&["doctor", "--repair"]).code(5);
    left.prints("left: too much of it is damaged").prints(&format!(
        "run: mkdir -p -m 0700 {}",
        bench.root().join("quarantine").display()
    ));
    fs::write(&format, "{\"format\":99}").unwrap();
    for words in [&["status"][..], &["doctor"], &["doctor", "--repair"]] {
        let hint = format!("`mv {0} {0}.damaged`", format.display());
        bench.run(words).code(1).says(&hint);
    }
    shell(&bench, &format!("mv {0} {0}.damaged", format.display())).code(0);
    bench.run(&["status"]).code(0);
}

#[test]
fn a_broken_registry_entry_ends_a_listing_with_a_code_and_hides_no_other_repository() {
    let bench = filled();
    let entry = bench.root().join("state/shop/repository.json");
    for (text, code) in [("", 5), ("[", 5), ("{\"foo\":1}", 5), ("FIFO", 6)] {
        let _ = fs::remove_file(&entry);
        match text {
            "FIFO" => fs::create_dir(&entry).unwrap(),
            _ => fs::write(&entry, text).unwrap(),
        }
        let run = bench.run(&["repo", "list"]);
        assert!(
            run.code == Some(code) || run.code == Some(5),
            "{text}: {:?} {}",
            run.code,
            run.err
        );
        run.prints("shop");
    }
}

#[test]
fn health_fails_where_a_fencing_mark_is_damaged() {
    let bench = filled();
    fs::write(bench.root().join(STATE).join("fencing.json"), "").unwrap();
    bench.run(&["health"]).code(1).prints("fencing.json");
}

#[test]
fn doctor_and_readers_give_one_advice_about_another_programs_event_file() {
    let bench = filled();
    let stray = bench.root().join("events/shop/job/events-zzz.jsonl");
    fs::write(&stray, "{\"event\":1}\n").unwrap();
    bench.run(&words(&["events", "cat"])).code(6).says("import");
    let found = finding(&bench, 0, "events/shop/job/events-zzz.jsonl");
    assert_eq!(found["kind"], "foreign");
    assert!(
        found["advice"]
            .as_str()
            .unwrap()
            .contains("prodigy-storage import"),
        "{found}"
    );
    assert!(
        found["command"]
            .as_str()
            .is_none_or(|command| !command.contains("mv ")),
        "{found}"
    );
}

#[test]
fn a_listing_of_documents_has_files_only() {
    let bench = filled();
    let folder = bench.root().join(STATE).join("documents/notes");
    fs::create_dir(folder.join("folder.json")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.join("link.json")).unwrap();
    let list = bench.run(&words(&["document", "list", "--json"])).code(6);
    let list = list.says("2 links or other things");
    let names: Vec<Value> = list
        .jsonl()
        .into_iter()
        .map(|line| line["name"].clone())
        .collect();
    assert_eq!(names, ["n"]);
    fs::remove_dir(folder.join("folder.json")).unwrap();
    fs::remove_file(folder.join("link.json")).unwrap();
    fs::write(folder.join("empty.json"), "").unwrap();
    bench
        .run(&words(&["document", "list"]))
        .code(5)
        .says("notes/empty is an empty file");
}

#[test]
fn commands_for_newcomers_say_how_to_go_on() {
    let bench = filled();
    let missing = words(&["checkpoint", "save"]);
    bench
        .feed(&missing, "1")
        .code(2)
        .says("--phase <setup|map|reduce|NAME>");
    let all = words(&["dlq", "redrive", "--all", "--dry-run", "--json"]);
    assert_eq!(bench.run(&all).code(0).lines().len(), 2);
    bench
        .run(&words(&["dlq", "redrive", "--all", "a", "--dry-run"]))
        .code(2);
    let ids = words(&["events", "append", "--with-ids"]);
    bench
        .feed(&ids, "{\"id\":1}\n")
        .code(1)
        .says("give the whole input again");
}

/// Runs the commands that the findings of the doctor name, and returns the findings.
fn repaired(bench: &Bench) -> Vec<Value> {
    let found = findings(bench, 5);
    for finding in &found {
        shell(bench, finding["command"].as_str().unwrap());
    }
    found
}

#[test]
fn a_queue_that_text_was_written_over_is_damage_and_the_named_command_frees_its_place() {
    let push = words(&["dlq", "push"]);
    for text in ["garbage\n", "call Ada\n"] {
        let bench = Bench::new();
        bench.feed(&push, "{\"item_id\":\"a\",\"item_data\":1}").code(0);
        let items = bench.root().join("dlq/shop/job/items.json");
        fs::write(&items, text).unwrap();
        let place = items.display().to_string();
        let run = bench.run(&["health"]).code(1);
        assert!(
            run.out.contains("1 damaged place in the dead letters"),
            "{}",
            run.out
        );
        for run in counting(&bench) {
            run.code(5);
        }
        bench.run(&words(&["dlq", "list"])).code(5).says("unreadable");
        bench
            .feed(&push, "{\"item_id\":\"b\",\"item_data\":1}")
            .code(5)
            .says("doctor --repair");
        assert_eq!(fs::read_to_string(&items).unwrap(), text);
        let found = repaired(&bench);
        assert_eq!(
            (found.len(), found[0]["place"].as_str()),
            (1, Some(&*place)),
            "{found:?}"
        );
        assert!(findings(&bench, 0).is_empty());
        let kept = bench.only_file("quarantine", "", "items.json");
        assert_eq!(fs::read_to_string(kept).unwrap(), text);
        bench.feed(&push, "{\"item_id\":\"b\",\"item_data\":1}").code(0);
    }
}

#[test]
fn text_of_another_program_where_no_process_of_ours_has_worked_is_left_alone() {
    let bench = Bench::new();
    bench.append("1\n");
    let items = bench.write("home/.prodigy/dlq/shop/job/items.json", "garbage\n");
    let setup = bench.write(
        &format!("home/.prodigy/{STATE}/setup-checkpoint.json"),
        "garbage\n",
    );
    // A refused write leaves no sign that the file is ours.
    for _ in 0..2 {
        bench
            .feed(&words(&["dlq", "push"]), "{\"item_id\":\"a\",\"item_data\":1}")
            .code(6);
        bench.run(&words(&["dlq", "take", "--all"]));
    }
    bench.run(&["doctor", "--repair"]).code(0);
    for path in [items, setup] {
        assert_eq!(fs::read_to_string(path).unwrap(), "garbage\n");
    }
}

#[test]
fn each_file_of_ours_that_text_was_written_over_is_damage_that_a_named_command_ends() {
    let files = [
        "setup-checkpoint.json",
        "map-checkpoint-",
        "finished.json",
        "fencing.json",
        "repository.json",
        "format.json",
        "events-",
    ];
    for file in files {
        let bench = filled();
        let fenced = "echo 2 | PRODIGY_STORAGE_FENCE=L=5 prodigy-storage events append --repo shop --job job";
        shell(&bench, fenced).code(0);
        bench
            .feed(&words(&["checkpoint", "save", "--phase", "setup"]), "1")
            .code(0);
        bench.run(&["repo", "register", "--as", "shop"]).code(0);
        if file == "finished.json" {
            bench.run(&["job", "finish", "job", "--repo", "shop"]).code(0);
        }
        let folder = match file {
            "format.json" => "",
            "repository.json" => "state/shop",
            "events-" => "events/shop/job",
            _ => STATE,
        };
        let path = bench.only_file(folder, file, "");
        fs::write(&path, "garbage\n").unwrap();
        assert_ne!(bench.run(&["health"]).code, Some(0), "{file}");
        assert_ne!(bench.run(&["status"]).code, Some(0), "{file}");
        let found = repaired(&bench);
        assert!(
            found
                .iter()
                .any(|found| found["place"] == *path.display().to_string()),
            "{file} {found:?}"
        );
        if file == "repository.json" {
            // The repair does not know the repository: each look at the store names the command of the person who does.
            for look in ["status", "health", "doctor"] {
                let run = bench.run(&[look]).code(1);
                run.prints("`prodigy-storage repo relink shop PATH`");
            }
            bench.run(&["repo", "relink", "shop", "."]).code(0);
        }
        for look in ["status", "health", "doctor"] {
            let run = bench.run(&[look]);
            assert_eq!(run.code, Some(0), "{file}: {look}: {}", run.out);
        }
    }
}

#[test]
fn a_journal_that_counts_items_without_their_file_is_damage_with_its_command() {
    let bench = filled();
    let items = bench.root().join("dlq/shop/job/items.json");
    let journal = items.with_file_name("items.journal");
    assert!(journal.exists());
    fs::remove_file(&items).unwrap();
    let found = repaired(&bench);
    assert_eq!(found[0]["place"], *journal.display().to_string(), "{found:?}");
    assert!(findings(&bench, 0).is_empty());
    bench.run(&["health"]).code(0);
}

#[test]
fn health_reads_the_newest_events_of_a_compressed_log() {
    let bench = Bench::new()
        .with("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_FILE_SIZE", "4000")
        .with("PRODIGY__STORAGE__BACKEND_CONFIG__ENABLE_COMPRESSION", "true");
    let lines: String = (0..100).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    bench.append(&lines);
    bench.run(&["job", "finish", "job", "--repo", "shop"]).code(0);
    bench.run(&["health"]).code(0);
    let folder = fs::read_dir(bench.root().join("events/shop/job")).unwrap();
    let archives = folder.map(|entry| entry.unwrap().path());
    let newest = archives
        .filter(|path| path.extension().is_some_and(|ending| ending == "zst"))
        .max()
        .unwrap();
    fs::remove_file(&newest).unwrap();
    fs::write(&newest, "").unwrap();
    bench
        .run(&["health"])
        .code(1)
        .prints("1 damaged place in the events");
}
