//! Tests of `export`, and of `import` of an exported file.

use std::path::Path;

use prodigy_storage::config::MapEnvironment;
use prodigy_storage::{
    CheckpointKey, DeadLetter, DocumentOptions, Failure, ItemId, Job, OrphanedWorktree, Phase, ReadOptions,
    SaveOptions, Storage,
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
    for stored in [5, 0] {
        let run = import(&bench, &root, &file).code(0);
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
