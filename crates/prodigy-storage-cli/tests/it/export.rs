//! Tests of `export`, and of `import` of an exported file.

use std::collections::BTreeSet;
use std::path::Path;

use prodigy_storage::config::MapEnvironment;
use prodigy_storage::{
    CheckpointKey, DeadLetter, DocumentOptions, Failure, ItemId, Job, JobState, OrphanedWorktree, Phase,
    ReadOptions, SaveOptions, Storage,
};
use serde_json::{Value, json};

use crate::support::{Bench, Run, run};

fn open(root: &Path) -> Job {
    let storage = Storage::builder().environment(MapEnvironment::default());
    let storage = storage.flag("backend_config.base_dir", root).open().unwrap();
    storage.repo("shop").unwrap().job("job").unwrap()
}

/// A job with data of each kind, and checkpoints at the beginning, in the middle and at the end of its log.
fn fill(root: &Path) {
    let job = open(root);
    job.checkpoints()
        .save_setup(&json!({"n": 1.50}), SaveOptions::new())
        .unwrap();
    for (end, key) in [(4, "middle"), (9, "end")] {
        let begun = job.events().read::<Value>().unwrap().count() as u32;
        job.events().append_batch(begun..end).unwrap();
        let cursor = job.events().end().unwrap();
        let options = SaveOptions::at(cursor).key(CheckpointKey::new(key).unwrap());
        job.checkpoints().save_map(&json!({"at": end}), options).unwrap();
    }
    let documents = job.documents("plans").unwrap();
    documents.put("a", &json!(["x"]), DocumentOptions::new()).unwrap();
    let letter =
        DeadLetter::new(ItemId::new("one").unwrap(), 1).failure(Failure::new("Timeout", "30 s").attempt(1));
    job.dlq().push(&letter).unwrap();
    job.orphans()
        .record(&OrphanedWorktree::new("agent", "one", "/src/wt", "busy"))
        .unwrap();
    job.finish().unwrap();
}

fn export(bench: &Bench) -> std::path::PathBuf {
    fill(&bench.root());
    let file = bench.path("job.jsonl");
    let written = bench
        .run(&["export", "--repo", "shop", "--job", "job", file.to_str().unwrap()])
        .code(0);
    assert!(written.out.contains("18 lines"), "{}", written.out);
    file
}

fn import(bench: &Bench, root: &Path, file: &Path) -> Run {
    run(
        bench.std([
            "--json",
            "--base-dir",
            root.to_str().unwrap(),
            "import",
            file.to_str().unwrap(),
        ]),
        "",
    )
}

fn rest(job: &Job, key: &str) -> Vec<u32> {
    let found = job.checkpoints().find::<Value>(key).unwrap().unwrap();
    let events = job
        .events()
        .read_with::<u32>(ReadOptions::new().from(found.cursor))
        .unwrap();
    events.map(|event| event.unwrap().event).collect()
}

#[test]
fn a_job_is_exported_and_imported_with_the_positions_of_its_checkpoints() {
    let bench = Bench::new();
    let file = export(&bench);
    let (copy, old) = (bench.path("copy"), open(&bench.root()));
    let first = import(&bench, &copy, &file).code(0).jsonl();
    assert!(
        first
            .iter()
            .all(|line| line["known"] == 0 && line["left_out"] == 0),
        "{first:?}"
    );
    let new = open(&copy);
    let events = |job: &Job| {
        let events = job.events().read::<u32>().unwrap().map(Result::unwrap);
        events.map(|event| (event.id, event.event)).collect::<Vec<_>>()
    };
    assert_eq!(events(&new), events(&old));
    assert_eq!(
        (rest(&new, "middle"), rest(&new, "end")),
        (vec![4, 5, 6, 7, 8], vec![])
    );
    let latest = new.checkpoints().latest_map::<Value>().unwrap().unwrap();
    assert_eq!(latest.data["at"], 9);
    assert_eq!(
        new.checkpoints().latest_setup::<Value>().unwrap().unwrap().data["n"],
        1.5
    );
    assert_eq!(new.orphans().list().unwrap(), old.orphans().list().unwrap());
    let letter = |job: &Job| {
        job.dlq()
            .get(&ItemId::new("one").unwrap())
            .unwrap()
            .unwrap()
            .body
            .get()
            .to_owned()
    };
    assert_eq!(letter(&new), letter(&old));
    assert!(new.finished_at().unwrap().is_some());
    let again = import(&bench, &copy, &file).code(0).jsonl();
    assert!(
        again
            .iter()
            .all(|line| line["stored"] == 0 && line["left_out"] == 0),
        "{again:?}"
    );
    assert_eq!(events(&new).len(), 9);
}

#[test]
fn values_with_line_breaks_and_nulls_are_exported_and_imported() {
    let (bench, of) = (Bench::new(), ["--repo", "shop", "--job", "job"]);
    let put = |words: &[&str], input: &str| {
        bench.feed(&[words, &of[..]].concat(), input).code(0);
    };
    put(&["events", "append"], "null\n");
    for (phase, state) in [("setup", "null"), ("map", "{\r\n \"a\": \"x\"\n}\n")] {
        put(&["checkpoint", "save", "--phase", phase], state);
    }
    let job = open(&bench.root());
    let plans = job.documents("plans").unwrap();
    plans.put("none", &Value::Null, DocumentOptions::new()).unwrap();
    let file = bench.path("job.jsonl");
    bench
        .run(&[&["export"][..], &of, &[file.to_str().unwrap()]].concat())
        .code(0);
    let copy = bench.path("copy");
    let lines = import(&bench, &copy, &file).code(0).jsonl();
    assert!(lines.iter().all(|line| line["left_out"] == 0), "{lines:?}");
    let new = open(&copy);
    assert_eq!(
        new.events()
            .read::<Value>()
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .event,
        Value::Null
    );
    let checkpoints = new.checkpoints();
    assert_eq!(
        checkpoints.latest_setup::<Value>().unwrap().unwrap().data,
        Value::Null
    );
    assert_eq!(checkpoints.latest_map::<Value>().unwrap().unwrap().data["a"], "x");
    let plan = new.documents("plans").unwrap().get::<Value>("none").unwrap();
    assert_eq!(plan.unwrap().data, Value::Null);
}

#[test]
fn an_export_goes_into_another_backend() {
    let bench = Bench::new();
    let file = export(&bench);
    let memory = Bench::of_memory();
    memory
        .run(&["import", file.to_str().unwrap(), "--repo", "other"])
        .code(0);
    let cat = memory
        .run(&["events", "cat", "--repo", "other", "--job", "job", "--payload"])
        .code(0);
    assert_eq!(cat.lines().len(), 9);
}

#[test]
fn an_export_that_was_cut_short_is_refused_and_nothing_is_stored() {
    let bench = Bench::new();
    let file = export(&bench);
    let whole = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let without = |at: usize| {
        let mut left = lines.clone();
        left.remove(at);
        left.join("\n")
    };
    for text in [
        without(0),
        without(5),
        without(lines.len() - 1),
        whole[..whole.len() / 2].to_owned(),
        String::new(),
    ] {
        std::fs::write(&file, text).unwrap();
        import(&bench, &bench.path("copy"), &file).code(5);
        assert!(!bench.path("copy").exists());
    }
    bench.run(&["export", "--repo", "shop", "--job", "none"]).code(4);
}

#[test]
fn a_line_that_was_changed_is_refused_with_its_number_unless_the_checksums_are_taken_away() {
    let bench = Bench::new();
    let file = export(&bench);
    let whole = std::fs::read_to_string(&file).unwrap();
    let number = 1 + whole
        .lines()
        .position(|line| line.contains("\"event\":4"))
        .unwrap();
    let changed = whole.replace("\"event\":4", "\"event\":5");
    std::fs::write(&file, &changed).unwrap();
    import(&bench, &bench.path("copy"), &file)
        .code(5)
        .says(&format!("line {number} is not as it was exported"));
    let mut swapped: Vec<&str> = whole.lines().collect();
    swapped.swap(5, 6);
    std::fs::write(&file, swapped.join("\n")).unwrap();
    import(&bench, &bench.path("copy"), &file)
        .code(5)
        .says("some were moved, added or left out");
    assert!(!bench.path("copy").exists());
    let without = changed.lines().map(|line| match line.rsplit_once(",\"crc\":\"") {
        Some((text, _)) => format!("{text}}}\n"),
        None => panic!("{line}"),
    });
    std::fs::write(&file, without.collect::<String>()).unwrap();
    import(&bench, &bench.path("copy"), &file).code(0);
}

#[test]
fn json_of_an_export_to_a_file_is_one_object() {
    let bench = Bench::new();
    bench.append("1\n2\n");
    let run = bench
        .run(&["--json", "export", "--repo", "shop", "--job", "job", "all.jsonl"])
        .code(0);
    assert_eq!(
        run.json(),
        json!({"kind": "written", "file": "all.jsonl", "lines": 4, "damaged": 0})
    );
}

#[test]
fn each_save_of_one_state_stays_a_checkpoint_and_the_last_save_stays_the_last() {
    let bench = Bench::new();
    let job = open(&bench.root());
    let saves = [
        (Phase::Reduce, "idle"),
        (Phase::Map, "idle"),
        (Phase::Map, "busy"),
        (Phase::Map, "idle"),
        (Phase::Setup, "idle"),
    ];
    for (phase, state) in saves {
        job.checkpoints().save(phase, &state, SaveOptions::new()).unwrap();
    }
    drop(job);
    let file = bench.path("job.jsonl");
    bench
        .run(&["export", "--repo", "shop", "--job", "job", file.to_str().unwrap()])
        .code(0);
    let root = bench.path("new");
    // The exported store has all checkpoints of the file.
    for (root, stored) in [(&root, 5), (&root, 0), (&bench.root(), 0)] {
        let run = import(&bench, root, &file).code(0);
        let checkpoints = run
            .jsonl()
            .into_iter()
            .find(|line| line["kind"] == "checkpoints")
            .unwrap();
        assert_eq!(
            (&checkpoints["stored"], &checkpoints["known"]),
            (&json!(stored), &json!(5 - stored))
        );
    }
    let checkpoints = open(&root).checkpoints();
    let mut found: Vec<_> = checkpoints
        .list()
        .map(|entry| checkpoints.get::<String>(&entry.unwrap().id).unwrap().unwrap())
        .collect();
    found.sort_by_key(|checkpoint| checkpoint.order());
    let found: Vec<_> = found
        .iter()
        .map(|found| (found.phase, found.data.as_str()))
        .collect();
    assert_eq!(found, saves);
}

#[test]
#[cfg(target_os = "linux")]
fn an_export_that_is_killed_leaves_nothing_beside_its_file() {
    let bench = Bench::new();
    let append = [
        "events", "append", "--repo", "shop", "--job", "job", "--batch", "1000",
    ];
    bench.feed(&append, "\"0123456789\"\n".repeat(20_000)).code(0);
    let here = bench.path("here");
    let target = bench.path("here/all.jsonl");
    for signal in ["TERM", "KILL"] {
        let mut tool = bench.std(["export", "--repo", "shop", "--job", "job", "all.jsonl"]);
        let mut child = tool.spawn().unwrap();
        let descriptors = format!("/proc/{}/fd", child.id());
        let has_begun = || {
            let mut open = std::fs::read_dir(&descriptors).into_iter().flatten().flatten();
            open.any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to.starts_with(&here)))
        };
        while child.try_wait().unwrap().is_none() && !has_begun() {}
        crate::support::send(signal, child.id());
        child.wait().unwrap();
        let left = crate::support::tree(&here);
        let left: Vec<_> = left.iter().filter(|path| **path != target).collect();
        assert!(left.is_empty(), "{left:?}");
        let _ = std::fs::remove_file(&target);
    }
}

#[test]
fn a_checkpoint_whose_events_were_removed_is_exported_without_its_position_and_the_export_says_so() {
    let bench = Bench::new();
    let root = bench.root();
    let job = open(&root);
    job.events().append_batch(0..2).unwrap();
    let cursor = job.events().end().unwrap();
    job.checkpoints()
        .save_map(&json!({"at": 2}), SaveOptions::at(cursor))
        .unwrap();
    job.events().append_batch(2..4).unwrap();
    // This seals the segment.
    job.finish().unwrap();
    job.events().append_batch(4..6).unwrap();
    assert_eq!(
        job.events()
            .remove_before(prodigy_storage::Timestamp::MAX)
            .unwrap()
            .segments,
        1
    );
    drop(job);
    let written = bench
        .run(&["export", "--repo", "shop", "--job", "job"])
        .code(6)
        .says("without a position");
    let lines = written.jsonl();
    let of = |kind: &str| {
        lines
            .iter()
            .filter(|line| line["kind"] == kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (of("checkpoint").len(), of("event").len(), of("end").len()),
        (1, 2, 1)
    );
    assert_eq!(of("checkpoint")[0]["position"], Value::Null);
}

/// The payloads of the events behind the newest checkpoint.
fn replayed(job: &Job) -> Vec<u32> {
    let newest = job.checkpoints().latest_map::<Value>().unwrap();
    let cursor = newest.and_then(|newest| newest.cursor);
    let events = job
        .events()
        .read_with::<u32>(ReadOptions::new().from(cursor))
        .unwrap();
    events.map(|event| event.unwrap().event).collect()
}

fn checkpoint(job: &Job, key: &str) {
    let options = SaveOptions::at(job.events().end().unwrap()).key(CheckpointKey::new(key).unwrap());
    job.checkpoints().save_map(&json!(key), options).unwrap();
}

#[test]
fn a_checkpoint_that_would_skip_events_of_the_job_that_the_export_lacks_is_left_out() {
    let bench = Bench::new();
    let (copy, file) = (bench.path("copy"), bench.path("job.jsonl"));
    let (old, new) = (open(&bench.root()), open(&copy));
    let export = || {
        bench
            .run(&["export", "--repo", "shop", "--job", "job", file.to_str().unwrap()])
            .code(0)
    };
    old.events().append_batch(0..2).unwrap();
    checkpoint(&old, "before");
    new.events().append_batch(100..102).unwrap();
    old.events().append_batch(2..4).unwrap();
    checkpoint(&old, "behind");
    export();
    for words in [&["--dry-run"][..], &[]] {
        let base = [
            "--base-dir",
            copy.to_str().unwrap(),
            "import",
            file.to_str().unwrap(),
        ];
        bench
            .run(&[&base[..], words].concat())
            .code(1)
            .says("a resume would skip that event");
    }
    let all = new
        .events()
        .read::<u32>()
        .unwrap()
        .map(|event| event.unwrap().event);
    assert_eq!(all.collect::<Vec<_>>(), [0, 1, 100, 101, 2, 3]);
    assert_eq!(replayed(&new), [100, 101, 2, 3]);
    // Nothing says whether the source has removed an event that an earlier import brought, or another store had it.
    std::fs::remove_file(&file).unwrap();
    let third = bench.path("third");
    // This seals the segment.
    old.finish().unwrap();
    old.events().append_batch(4..6).unwrap();
    export();
    import(&bench, &third, &file).code(0);
    let removed = old
        .events()
        .remove_before(prodigy_storage::Timestamp::MAX)
        .unwrap();
    assert_eq!(removed.segments, 1);
    checkpoint(&old, "later");
    std::fs::remove_file(&file).unwrap();
    let run = bench.run(&["export", "--repo", "shop", "--job", "job", file.to_str().unwrap()]);
    run.says("without a position");
    import(&bench, &third, &file)
        .code(1)
        .says("a resume would skip that event");
}

#[test]
fn a_job_that_was_written_to_after_its_end_is_open_in_its_copy() {
    let bench = Bench::new();
    let append = |event: u32| {
        open(&bench.root()).events().append_batch([event]).unwrap();
    };
    append(1);
    open(&bench.root()).finish().unwrap();
    for (name, state) in [("one", JobState::Finished), ("two", JobState::Open)] {
        let file = bench.path(&format!("{name}.jsonl"));
        let export = ["export", "--repo", "shop", "--job", "job", file.to_str().unwrap()];
        bench.run(&export).code(0);
        let copy = bench.path(name);
        import(&bench, &copy, &file).code(0);
        assert_eq!(open(&copy).status().unwrap().state, state, "{name}");
        std::thread::sleep(std::time::Duration::from_millis(10));
        append(2);
    }
}

#[test]
fn a_checkpoint_skips_no_event_that_the_export_of_another_store_brought() {
    let bench = Bench::new();
    let new = bench.path("new");
    for (store, events, codes) in [("one", 0..3, 0), ("two", 10..13, 1)] {
        let job = open(&bench.path(store));
        job.events().append_batch(events).unwrap();
        checkpoint(&job, store);
        let file = bench.path(&format!("{store}.jsonl"));
        let root = bench.path(store);
        let base = ["--base-dir", root.to_str().unwrap(), "export"];
        let of = ["--repo", "shop", "--job", "job", file.to_str().unwrap()];
        bench.run(&[&base[..], &of].concat()).code(0);
        import(&bench, &new, &file).code(codes);
    }
    assert_eq!(replayed(&open(&new)), [10, 11, 12]);
}

#[test]
fn a_position_before_a_late_event_is_kept_and_the_export_says_what_a_resume_reads_again() {
    let bench = Bench::new();
    let job = open(&bench.root());
    let late = prodigy_storage::EventId::floor("2026-01-01T00:00:00Z".parse().unwrap());
    job.events().append_batch(0..3).unwrap();
    checkpoint(&job, "end");
    job.events().append_batch(3..4).unwrap();
    let file = bench.path("job.jsonl");
    let export = ["export", "--repo", "shop", "--job", "job", file.to_str().unwrap()];
    bench.run(&export).code(0);
    std::fs::remove_file(&file).unwrap();
    let mut batch = prodigy_storage::Batch::new();
    batch.push(&9).unwrap();
    batch.set_ids([late]);
    job.events().append_prepared(&mut batch, None).unwrap();
    assert_eq!(replayed(&job), [9, 3]);
    bench
        .run(&export)
        .code(6)
        .says("checkpoint")
        .says("3 events before it come after event");
    let copy = bench.path("copy");
    import(&bench, &copy, &file).code(0);
    let new = open(&copy);
    assert!(
        new.checkpoints()
            .latest_map::<Value>()
            .unwrap()
            .unwrap()
            .cursor
            .is_some()
    );
    assert_eq!(replayed(&new), [9, 0, 1, 2, 3]);
}

/// Stores with one job, whose programs keep the events that they have seen as the state of their checkpoints.
struct Programs {
    bench: Bench,
    random: fastrand::Rng,
    next: u32,
}

const STORES: [&str; 3] = ["one", "two", "three"];

impl Programs {
    fn job(&self, store: usize) -> Job {
        open(&self.bench.path(STORES[store]))
    }

    fn all(job: &Job) -> BTreeSet<u32> {
        let events = job.events().read::<u32>().unwrap();
        events.map(|event| event.unwrap().event).collect()
    }

    /// Resumes from the newest checkpoint: the events that its state contains, and those behind its cursor. `None` for a gap.
    fn resume(&self, job: &Job) -> Option<(BTreeSet<u32>, prodigy_storage::Cursor)> {
        let newest = job.checkpoints().latest_map::<BTreeSet<u32>>().unwrap();
        let (mut seen, cursor) = newest.map_or_else(Default::default, |newest| (newest.data, newest.cursor));
        let mut events = match job.events().read_with::<u32>(ReadOptions::new().from(cursor)) {
            Err(error) => {
                assert_eq!(error.kind(), prodigy_storage::ErrorKind::CursorGap, "{error}");
                return None;
            }
            Ok(events) => events,
        };
        let some = self.random.clone().bool().then_some(2);
        while some.is_none_or(|some| seen.len() < some)
            && let Some(event) = events.next()
        {
            seen.insert(event.unwrap().event);
        }
        Some((seen, events.cursor()))
    }

    fn append(&mut self, store: usize) {
        let until = self.next + self.random.u32(1..5);
        let (job, events) = (self.job(store), self.next..until);
        self.next = until;
        match self.random.u32(..4) {
            // Events that are stored late.
            0 => {
                let mut batch = prodigy_storage::Batch::new();
                let ids = events.clone().map(|event| {
                    let now = prodigy_storage::Timestamp::now().as_nanos();
                    let early = now - self.random.i64(0..2_000_000_000);
                    let time = prodigy_storage::Timestamp::from_nanos(early);
                    prodigy_storage::EventId::for_key(time, event.to_le_bytes())
                });
                let ids: BTreeSet<_> = ids.collect();
                events.for_each(|event| batch.push(&event).unwrap());
                batch.set_ids(ids);
                job.events().append_prepared(&mut batch, None).unwrap();
            }
            _ => drop(job.events().append_batch(events).unwrap()),
        }
        if self.random.bool() {
            // This seals the segment.
            job.finish().unwrap();
        }
    }

    fn move_by_a_file(&self, from: usize, into: usize) {
        let file = self.bench.path("moved.jsonl");
        drop(std::fs::remove_file(&file));
        let run = |store: usize, command: &str, of_job: &[&str]| {
            let root = self.bench.path(STORES[store]);
            let words = [
                "--base-dir",
                root.to_str().unwrap(),
                command,
                file.to_str().unwrap(),
            ];
            let run = self.bench.run(&[&words, of_job].concat());
            assert!(matches!(run.code, Some(0 | 1 | 6)), "{}", run.err);
        };
        run(from, "export", &["--repo", "shop", "--job", "job"]);
        run(into, "import", &[]);
    }

    fn clean(&self, store: usize) {
        let job = self.job(store);
        job.events()
            .remove_before(prodigy_storage::Timestamp::now())
            .unwrap();
    }

    /// Checks that a resume in a store misses nothing. Saves what it has seen.
    fn check(&self, store: usize, what: &str) {
        let job = self.job(store);
        let newest = job.checkpoints().latest_map::<BTreeSet<u32>>().unwrap();
        let cursor = newest.as_ref().and_then(|newest| newest.cursor.clone());
        let mut seen = newest.map(|newest| newest.data).unwrap_or_default();
        match job.events().read_with::<u32>(ReadOptions::new().from(cursor)) {
            Err(error) => assert_eq!(
                error.kind(),
                prodigy_storage::ErrorKind::CursorGap,
                "{what}: {error}"
            ),
            Ok(events) => {
                seen.extend(events.map(|event| event.unwrap().event));
                let all = Self::all(&job);
                let missed: Vec<_> = all.difference(&seen).collect();
                assert!(missed.is_empty(), "{what}: {missed:?} of {all:?}");
            }
        }
    }
}

#[test]
fn a_resume_from_any_imported_checkpoint_misses_no_event() {
    for seed in 0..6 {
        let mut programs = Programs {
            bench: Bench::new(),
            random: fastrand::Rng::with_seed(seed),
            next: 0,
        };
        (0..STORES.len()).for_each(|store| programs.append(store));
        for step in 0..20 {
            let store = programs.random.usize(..STORES.len());
            let operation = programs.random.u32(..12);
            match operation {
                0..4 => programs.append(store),
                4..7 => {
                    let job = programs.job(store);
                    if let Some((seen, cursor)) = programs.resume(&job) {
                        job.checkpoints()
                            .save_map(&seen, SaveOptions::at(cursor))
                            .unwrap();
                    }
                }
                7..10 => programs.move_by_a_file((store + 1) % STORES.len(), store),
                10 => programs.clean(store),
                _ => {
                    let root = programs.bench.path(STORES[store]);
                    programs
                        .bench
                        .run(&["--base-dir", root.to_str().unwrap(), "doctor", "--repair"])
                        .code(0);
                }
            }
            (0..STORES.len())
                .for_each(|of| programs.check(of, &format!("{seed} {step} {store} {operation} {of}")));
        }
    }
}
