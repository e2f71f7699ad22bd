use std::path::PathBuf;
use std::sync::Arc;

use prodigy_storage::{
    CheckpointKey, Clock, Durability, ErrorKind, Event, Expected, Fence, Phase, PruneOptions, ReadOptions,
    SaveOptions, Storage, StorageBuilder, Timestamp,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::{Fixture, TestClock, builder, file_with, memory_with, on_each, on_each_with_clock};

fn folder(fixture: &Fixture) -> PathBuf {
    fixture.folder.path().join("root/state/shop/mapreduce/jobs/job-1")
}

/// Flips a byte in the state of a map checkpoint, one that has exactly `back` newer ones.
fn damage(fixture: &Fixture, back: usize) {
    let mut files: Vec<_> = std::fs::read_dir(folder(fixture))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|file| file.file_name().unwrap().to_str().unwrap().starts_with("map-"));
    files.sort();
    let file = &files[files.len() - 1 - back];
    let mut bytes = std::fs::read(file).unwrap();
    let at = bytes.len() - 5;
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_state_that_gives_no_body_is_refused_with_why_and_stores_nothing() {
    on_each(|fixture| {
        let checkpoints = fixture.job().checkpoints();
        let raw = |text: String| RawValue::from_string(text).unwrap();
        let nested = |depth: usize| raw(format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
        for (state, why) in [
            (nested(128), "its nesting is over 128"),
            (
                raw("\"\\ud800\"".to_owned()),
                "`\\ud800` is half of a surrogate pair",
            ),
        ] {
            let error = checkpoints.save_map(&state, SaveOptions::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.why().contains(why), "{error}");
            assert!(
                error.hint().is_some() && error.target().contains("job-1"),
                "{error}"
            );
        }
        let keys = std::collections::BTreeMap::from([((1, 2), 3)]);
        let error = checkpoints.save_map(&keys, SaveOptions::default()).unwrap_err();
        assert!(format!("{error:#}").contains("key must be a string"), "{error:#}");
        assert!(checkpoints.list().all().unwrap().is_empty());
        assert!(!fixture.folder.path().join("root").exists());

        checkpoints
            .save_map(&nested(127), SaveOptions::default())
            .unwrap();
        let latest = checkpoints.latest_raw(Phase::Map).unwrap().unwrap();
        assert_eq!(latest.data.get(), nested(127).get());
        assert!(checkpoints.latest_map::<Value>().unwrap().is_some());
    });
}

#[test]
fn the_latest_of_each_phase_comes_back_with_what_it_was_saved_with() {
    on_each(|fixture| {
        let job = fixture.job();
        let checkpoints = job.checkpoints();
        assert!(checkpoints.latest_map::<Value>().unwrap().is_none());
        checkpoints
            .save_setup(&json!({"items": 3}), SaveOptions::default())
            .unwrap();
        checkpoints
            .save_map(&json!({"done": 1}), SaveOptions::default())
            .unwrap();
        job.events().append(&1).unwrap();
        let mut read = job.events().read::<Value>().unwrap();
        read.next().unwrap().unwrap();
        let options = SaveOptions::new().cursor(read.cursor()).schema_version(7);
        let fenced = job.with_fence(Fence::unnamed(4).unwrap());
        let added = fenced
            .checkpoints()
            .save_map(&json!({"done": 2}), options)
            .unwrap();
        checkpoints
            .save_reduce(&json!([]), SaveOptions::default())
            .unwrap();

        let latest = checkpoints.latest_map::<Value>().unwrap().unwrap();
        assert_eq!(latest.data, json!({"done": 2}));
        assert_eq!((latest.revision, &latest.id), (added.revision, &added.id));
        assert_eq!(
            (latest.schema_version, latest.fencing.map(|fence| fence.token())),
            (Some(7), Some(4))
        );
        assert_eq!(latest.cursor, Some(read.cursor()));
        assert!(latest.verified && latest.skipped.is_empty() && latest.saved_at > Timestamp::MIN);
        assert_eq!(
            checkpoints.latest_setup::<Value>().unwrap().unwrap().data["items"],
            3
        );
        assert_eq!(
            checkpoints.latest_raw(Phase::Reduce).unwrap().unwrap().data.get(),
            "[]"
        );
        assert_eq!(checkpoints.list().all().unwrap().len(), 4);
        assert_eq!(
            checkpoints.get::<Value>(&added.id).unwrap().unwrap().data["done"],
            2
        );
        let other = fixture.storage.repo("shop").unwrap().job("job-2").unwrap();
        assert!(other.checkpoints().get::<Value>(&added.id).unwrap().is_none());
    });
}

#[test]
fn the_events_before_a_checkpoints_cursor_are_synced_before_it_is_stored() {
    for durability in [Durability::Strict, Durability::Relaxed] {
        let fixture = file_with(|builder| builder.set("durability", "relaxed"));
        let job = fixture.job();
        job.events().append(&1).unwrap();
        let mut read = job.events().read::<Value>().unwrap();
        read.next().unwrap().unwrap();
        let syncs = || fixture.storage.stats().get("file.syncs");
        let save = |cursor| {
            let begun = syncs();
            let options = SaveOptions::new().cursor(cursor).durability(durability);
            job.checkpoints().save_map(&1, options).unwrap();
            syncs() - begun
        };
        save(None);
        let plain = save(None);
        let covering = save(Some(read.cursor()));
        assert!(
            covering > plain,
            "{durability:?}: {covering} syncs, {plain} without events"
        );
        assert_eq!(
            save(Some(read.cursor())),
            plain,
            "what was synced once is not synced again"
        );
    }
    // If events can't be made durable, no checkpoint with a cursor that covers them is saved.
    on_each(|fixture| {
        let job = fixture.job();
        job.events().append(&1).unwrap();
        let foreign = SaveOptions::at("v1.nobody.7".parse().unwrap());
        let error = job.checkpoints().save_map(&1, foreign).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(job.checkpoints().list().all().unwrap().is_empty());
    });
}

#[test]
fn resuming_at_a_checkpoints_cursor_reads_each_event_once() {
    on_each(|fixture| {
        let job = fixture.job();
        job.events().append_batch(0..10).unwrap();
        let mut read = job.events().read::<u32>().unwrap();
        let sum: u32 = read.by_ref().take(6).map(|event| event.unwrap().event).sum();
        job.checkpoints()
            .save_map(&sum, SaveOptions::at(read.cursor()))
            .unwrap();
        job.events().append_batch(10..15).unwrap();

        let latest = job.checkpoints().latest_map::<u32>().unwrap().unwrap();
        let rest = job
            .events()
            .read_with::<u32>(ReadOptions::after(latest.cursor.unwrap()))
            .unwrap();
        let rest: Vec<Event<u32>> = rest.collect::<Result<_, _>>().unwrap();
        assert_eq!(rest.len(), 9);
        assert_eq!(
            latest.data + rest.iter().map(|event| event.event).sum::<u32>(),
            (0..15).sum::<u32>()
        );
    });
}

#[test]
fn a_save_that_expects_another_latest_one_is_a_conflict() {
    on_each(|fixture| {
        let checkpoints = fixture.job().checkpoints();
        let expecting = |expected_revision| SaveOptions::new().expected_revision(expected_revision);
        let first = checkpoints.save_map(&1, expecting(Expected::Absent)).unwrap();
        let refused = checkpoints.save_map(&2, expecting(Expected::Absent)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        checkpoints
            .save_map(&3, expecting(Expected::Revision(first.revision)))
            .unwrap();
        let refused = checkpoints
            .save_map(&4, expecting(Expected::Revision(first.revision)))
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert_eq!(checkpoints.latest_map::<u32>().unwrap().unwrap().data, 3);
    });
}

#[test]
fn a_writer_with_an_older_token_is_fenced_off_also_after_a_save_without_one() {
    on_each(|fixture| {
        let checkpoints = fixture.job().checkpoints();
        let hold = || fixture.storage.lock("shop/resume").unwrap();
        let under = |fence: &Fence| fixture.job().with_fence(fence.clone()).checkpoints();
        let plain = SaveOptions::new;
        let older = hold().fencing().unwrap();
        let newer = hold().fencing().unwrap();
        under(&older).save_map(&1, plain()).unwrap();
        under(&newer).save_map(&2, plain()).unwrap();
        checkpoints.save_map(&3, SaveOptions::default()).unwrap();
        for phase in Phase::ALL {
            let refused = under(&older).save(phase, &4, plain()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Fenced);
            assert!(refused.why().contains("of lock shop/resume"), "{refused}");
        }
        under(&newer).save_map(&5, plain()).unwrap();
        let latest = checkpoints.latest_map::<u32>().unwrap().unwrap();
        // A checkpoint stores the fencing token and the name of its lock.
        let fencing = latest.fencing.unwrap();
        assert_eq!(
            (latest.data, fencing.lock(), fencing.token()),
            (5, newer.lock(), newer.token())
        );
    });
}

#[test]
fn the_latest_is_the_last_saved_also_where_the_clock_stepped_back() {
    let clock = TestClock::new();
    let fixture = file_with(|b| b.clock(Arc::clone(&clock) as _));
    let checkpoints = fixture.job().checkpoints();
    checkpoints.save_map(&1, SaveOptions::default()).unwrap();
    clock.advance_secs(-3600);
    checkpoints.save_map(&2, SaveOptions::default()).unwrap();
    assert_eq!(checkpoints.latest_map::<u32>().unwrap().unwrap().data, 2);
}

/// The phase and the state of the checkpoint with the greatest `order`.
fn last(storage: &Storage) -> Option<(Phase, u32)> {
    let checkpoints = storage.repo("shop").unwrap().job("job-1").unwrap().checkpoints();
    let latest = Phase::ALL.map(|phase| checkpoints.latest::<u32>(phase).unwrap());
    let last = latest
        .into_iter()
        .flatten()
        .max_by_key(prodigy_storage::Checkpoint::order)?;
    Some((last.phase, last.data))
}

#[test]
fn the_last_save_of_a_job_comes_last_whatever_its_phase_and_the_clock() {
    for file in [true, false] {
        let clock = TestClock::new();
        let set = |b: StorageBuilder| b.clock(Arc::clone(&clock) as _);
        let fixture = if file { file_with(set) } else { memory_with(set) };
        // With files, another process has its own backend on the same root; with memory, the handles share the
        // backend.
        let other = builder(&fixture.folder).clock(Arc::clone(&clock) as _);
        let other = if file {
            other.base_dir(fixture.folder.path().join("root"))
        } else {
            other.backend(Arc::clone(fixture.storage.backend()))
        };
        let other = other.open().unwrap();
        let (s, m, r) = (Phase::Setup, Phase::Map, Phase::Reduce);
        // In this sequence, each phase is saved after each other phase, and after itself.
        let phases = [s, r, s, m, r, m, s, s, m, m, r, r, s];
        let mut n = 0;
        for (mine, theirs) in [(&fixture.storage, &other), (&fixture.storage, &fixture.storage)] {
            for phase in phases {
                let storage = if n % 2 == 0 { mine } else { theirs };
                let checkpoints = storage.repo("shop").unwrap().job("job-1").unwrap().checkpoints();
                checkpoints.save(phase, &n, SaveOptions::default()).unwrap();
                for reader in [mine, theirs] {
                    assert_eq!(last(reader), Some((phase, n)), "file: {file}, save {n}");
                }
                clock.advance_secs(-3600);
                n += 1;
            }
        }
    }
}

#[test]
fn a_setup_checkpoint_of_another_program_or_a_damaged_one_stops_no_save() {
    let clock = TestClock::new();
    let fixture = file_with(|b| b.clock(Arc::clone(&clock) as _));
    let checkpoints = fixture.job().checkpoints();
    checkpoints.save_setup(&1, SaveOptions::default()).unwrap();
    let setup = folder(&fixture).join("setup-checkpoint.json");
    let whole = std::fs::read_to_string(&setup).unwrap();
    clock.advance_secs(-3600);
    for text in [
        r#"{"saved_at":"2200-01-01T00:00:00Z","schema_version":1,"data":1}"#,
        &whole[..whole.len() - 9],
        "no JSON",
        "",
    ] {
        std::fs::write(&setup, text).unwrap();
        let other = file_with(|b| {
            b.clock(Arc::clone(&clock) as _)
                .base_dir(fixture.folder.path().join("root"))
        });
        let saved = other
            .job()
            .checkpoints()
            .save_map(&2, SaveOptions::default())
            .unwrap();
        let time = saved.id.time().unwrap();
        assert!(
            time < Timestamp::from_nanos(clock.now().as_nanos() + 1_000),
            "{text}: {time}"
        );
    }
}

#[test]
fn a_damaged_newest_one_is_skipped_and_told() {
    let fixture = file_with(|b| b);
    let checkpoints = fixture.job().checkpoints();
    for n in 1..=3 {
        checkpoints
            .save_map(&json!({"n": n}), SaveOptions::default())
            .unwrap();
    }
    damage(&fixture, 0);
    let latest = checkpoints.latest_map::<Value>().unwrap().unwrap();
    assert_eq!(latest.data["n"], 2);
    assert_eq!(latest.skipped.len(), 1);
    assert_eq!(latest.skipped[0].error.kind(), ErrorKind::Damaged);
    damage(&fixture, 1);
    damage(&fixture, 2);
    assert_eq!(
        checkpoints.latest_map::<Value>().unwrap_err().kind(),
        ErrorKind::Damaged
    );
}

#[test]
fn a_long_row_of_damaged_ones_is_skipped_and_told() {
    let fixture = file_with(|b| b);
    let checkpoints = fixture.job().checkpoints();
    for n in 0..12 {
        checkpoints
            .save_map(&json!({"n": n}), SaveOptions::default())
            .unwrap();
    }
    let listed = checkpoints.list_phase(Phase::Map).all().unwrap();
    for damaged in 1..12 {
        damage(&fixture, damaged - 1);
        let latest = checkpoints.latest_map::<Value>().unwrap().unwrap();
        assert_eq!(latest.data["n"], 11 - damaged);
        let skipped: Vec<_> = latest.skipped.iter().map(|skipped| &skipped.id).collect();
        let wanted: Vec<_> = listed.iter().rev().take(damaged).map(|entry| &entry.id).collect();
        assert_eq!(skipped, wanted);
    }
    damage(&fixture, 11);
    assert_eq!(
        checkpoints.latest_map::<Value>().unwrap_err().kind(),
        ErrorKind::Damaged
    );
}

#[test]
fn a_bare_setup_checkpoint_was_saved_when_its_file_was_changed() {
    let fixture = file_with(|b| b);
    std::fs::create_dir_all(folder(&fixture)).unwrap();
    let path = folder(&fixture).join("setup-checkpoint.json");
    std::fs::write(&path, "{\"items\": 3}\n").unwrap();
    let changed = Timestamp::from(std::fs::metadata(&path).unwrap().modified().unwrap());
    let checkpoints = fixture.job().checkpoints();
    let latest = checkpoints.latest_setup::<Value>().unwrap().unwrap();
    let got = checkpoints.get::<Value>(&latest.id).unwrap().unwrap();
    for found in [latest, got] {
        assert_eq!((found.saved_at, found.verified), (changed, false));
        assert_eq!(found.data["items"], 3);
    }
}

#[test]
fn a_state_of_another_type_never_falls_back_to_an_older_one() {
    on_each(|fixture| {
        let checkpoints = fixture.job().checkpoints();
        checkpoints.save_map(&1, SaveOptions::default()).unwrap();
        checkpoints.save_map("text", SaveOptions::default()).unwrap();
        assert_eq!(
            checkpoints.latest_map::<u32>().unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    });
}

#[test]
fn a_bare_document_of_another_program_is_all_state() {
    let fixture = file_with(|b| b);
    std::fs::create_dir_all(folder(&fixture)).unwrap();
    std::fs::write(
        folder(&fixture).join("map-checkpoint-20251115_073606.json"),
        "{\"phase\": \"map\", \"data\": 1}\n",
    )
    .unwrap();
    let latest = fixture
        .job()
        .checkpoints()
        .latest_map::<Value>()
        .unwrap()
        .unwrap();
    assert_eq!(latest.data, json!({"phase": "map", "data": 1}));
    assert_eq!(latest.saved_at.to_rfc3339(), "2025-11-15T07:36:06.000000Z");
    assert!(!latest.verified && latest.cursor.is_none() && latest.schema_version.is_none());
}

#[test]
fn pruning_keeps_the_newest_and_a_dry_run_keeps_all() {
    on_each(|fixture| {
        let checkpoints = fixture.job().checkpoints();
        checkpoints.save_setup(&0, SaveOptions::default()).unwrap();
        for n in 0..4 {
            checkpoints.save_map(&n, SaveOptions::default()).unwrap();
            checkpoints.save_reduce(&n, SaveOptions::default()).unwrap();
        }
        let dry = PruneOptions::new().dry_run(true);
        assert_eq!(checkpoints.prune(1, dry).unwrap().len(), 6);
        assert_eq!(checkpoints.list().all().unwrap().len(), 9);
        let maps = PruneOptions::new().phase(Phase::Map);
        assert_eq!(checkpoints.prune(2, maps).unwrap().len(), 2);
        assert_eq!(checkpoints.prune(0, PruneOptions::default()).unwrap().len(), 4);
        assert_eq!(checkpoints.list().all().unwrap().len(), 3);
        assert_eq!(checkpoints.latest_map::<u32>().unwrap().unwrap().data, 3);
    });
}

#[test]
fn pruning_never_takes_the_newest_valid_one() {
    let fixture = file_with(|b| b);
    let checkpoints = fixture.job().checkpoints();
    for n in 0..4 {
        checkpoints
            .save_map(&json!({"n": n}), SaveOptions::default())
            .unwrap();
    }
    damage(&fixture, 0);
    damage(&fixture, 1);
    assert_eq!(checkpoints.prune(2, PruneOptions::default()).unwrap().len(), 1);
    assert_eq!(checkpoints.latest_map::<Value>().unwrap().unwrap().data["n"], 1);
}

#[test]
fn pruning_passes_over_a_checkpoint_of_another_program_that_is_over_the_limit() {
    let fixture = file_with(|b| b);
    let checkpoints = fixture.job().checkpoints();
    for n in 0..3 {
        checkpoints.save_map(&n, SaveOptions::default()).unwrap();
    }
    let other = folder(&fixture).join("map-checkpoint-20991128_150000.json");
    let file = std::fs::File::create(&other).unwrap();
    file.set_len(66 << 20).unwrap();
    assert_eq!(checkpoints.prune(1, PruneOptions::default()).unwrap().len(), 2);
    assert!(other.exists());
    assert_eq!(checkpoints.list().all().unwrap().len(), 2);
}

#[test]
fn one_checkpoint_is_deleted_and_the_one_before_is_the_latest() {
    on_each(|fixture| {
        let checkpoints = fixture.job().checkpoints();
        let other = fixture
            .storage
            .repo("shop")
            .unwrap()
            .job("other")
            .unwrap()
            .checkpoints();
        checkpoints.save_map(&1, SaveOptions::new()).unwrap();
        let second = checkpoints.save_map(&2, SaveOptions::new()).unwrap().id;
        let setup = checkpoints.save_setup(&3, SaveOptions::new()).unwrap().id;
        assert!(!other.delete(&second).unwrap(), "of another job");
        assert!(checkpoints.delete(&second).unwrap());
        assert!(!checkpoints.delete(&second).unwrap());
        assert_eq!(checkpoints.latest_map::<u32>().unwrap().unwrap().data, 1);
        assert!(checkpoints.delete(&setup).unwrap());
        assert!(checkpoints.latest_setup::<u32>().unwrap().is_none());
        assert_eq!(checkpoints.list().count(), 1);
    });
}

#[test]
fn a_phase_of_the_callers_own_is_a_series_in_the_order_of_all_saves() {
    on_each_with_clock(|fixture, clock| {
        let checkpoints = fixture.job().checkpoints();
        let phase = |name: &str| name.parse::<Phase>().unwrap();
        let names = [
            "review", "map", "setup", "merge", "reduce", "review", "setup", "merge", "map",
        ];
        for (number, name) in names.into_iter().enumerate() {
            checkpoints
                .save(phase(name), &number, SaveOptions::new())
                .unwrap();
            // The clock steps back before each save.
            clock.advance_secs(-100);
            let mut latest = Vec::new();
            for phase in checkpoints.phases().unwrap() {
                latest.extend(checkpoints.latest::<usize>(phase).unwrap());
            }
            let last = latest.iter().max_by_key(|checkpoint| checkpoint.order()).unwrap();
            assert_eq!((last.phase, last.data), (phase(name), number), "{name}");
        }
        let listed: Vec<_> = checkpoints.list_phase(phase("merge")).all().unwrap();
        assert_eq!(listed.len(), 2);
        let before = checkpoints
            .latest_before::<usize>(&listed[1].id)
            .unwrap()
            .unwrap();
        assert_eq!((before.data, &before.id), (3, &listed[0].id));
        let pruned = checkpoints.prune(1, PruneOptions::new()).unwrap();
        assert_eq!(pruned.len(), 3, "one each of review, merge and map");
        assert_eq!(
            checkpoints
                .latest::<usize>(phase("review"))
                .unwrap()
                .unwrap()
                .data,
            5
        );
        assert!(checkpoints.latest::<usize>(phase("none")).unwrap().is_none());
    });
}

#[test]
fn a_checkpoint_is_found_by_the_callers_key() {
    on_each(|fixture| {
        let checkpoints = fixture.job().checkpoints();
        let keyed = |key: &str| SaveOptions::new().key(CheckpointKey::new(key).unwrap());
        let find = |key: &str| checkpoints.find::<u32>(key).unwrap();
        assert!(find("a").is_none());
        let review = "review".parse::<Phase>().unwrap();
        checkpoints.save_map(&1, keyed("a")).unwrap();
        checkpoints.save(review, &2, keyed("b.json")).unwrap();
        checkpoints.save_map(&3, keyed("größe")).unwrap();
        checkpoints.save_map(&4, SaveOptions::new()).unwrap();
        for (key, data) in [("a", 1), ("b.json", 2), ("größe", 3)] {
            let found = find(key).unwrap();
            assert_eq!((found.data, found.key.unwrap().as_str()), (data, key));
        }
        assert_eq!(checkpoints.latest_map::<u32>().unwrap().unwrap().data, 4);
        // The last checkpoint with a key is found, whatever its phase.
        checkpoints.save_setup(&5, keyed("a")).unwrap();
        assert_eq!(find("a").unwrap().data, 5);
        checkpoints.save(review, &6, keyed("a")).unwrap();
        assert_eq!(find("a").unwrap().data, 6);
        checkpoints.delete(&find("a").unwrap().id).unwrap();
        assert_eq!(find("a").unwrap().data, 5);
        let other = fixture.storage.repo("shop").unwrap().job("other").unwrap();
        assert!(other.checkpoints().find::<u32>("b.json").unwrap().is_none());
        assert_eq!(
            checkpoints.find::<u32>("a/b").unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(
            checkpoints.find::<String>("größe").unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    });
}

#[test]
fn a_damaged_checkpoint_of_a_key_is_skipped() {
    let fixture = file_with(|b| b);
    let checkpoints = fixture.job().checkpoints();
    for state in 1..=2 {
        let options = SaveOptions::new().key(CheckpointKey::new("a").unwrap());
        checkpoints.save_map(&state, options).unwrap();
    }
    damage(&fixture, 0);
    let found = checkpoints.find::<u32>("a").unwrap().unwrap();
    assert_eq!((found.data, found.skipped.len()), (1, 1));
    damage(&fixture, 1);
    assert_eq!(
        checkpoints.find::<u32>("a").unwrap_err().kind(),
        ErrorKind::Damaged
    );
}
