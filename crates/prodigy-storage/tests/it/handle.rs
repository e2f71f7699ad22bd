//! Opening storage, locks, and the warnings of a handle.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage::config::{ConfigErrors, MapEnvironment, Notice};
use prodigy_storage::{
    DeadLetter, ErrorKind, Expected, ItemId, JobState, LeaseToken, LockOptions, OrphanedWorktree,
    ReadOptions, SaveOptions, Severity, Storage, StorageConfig, StorageNotice,
};
use serde_json::Value;

use crate::support::{TestClock, builder, file_with, memory_with, on_each, on_each_with_clock};

#[test]
fn a_refused_configuration_tells_everything_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let error = builder(&folder)
        .set("timeout", "never")
        .set("connection_pool_size", "0")
        .open()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    let errors = std::error::Error::source(&error)
        .unwrap()
        .downcast_ref::<ConfigErrors>()
        .unwrap();
    assert_eq!(errors.len(), 2);
}

#[test]
fn the_environment_and_a_named_file_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("storage.yaml");
    std::fs::write(&file, "storage:\n  timeout: 7s\n").unwrap();
    let environment = MapEnvironment::new().with("PRODIGY_STORAGE_TYPE", "memory");
    let storage = Storage::builder()
        .environment(environment)
        .home(folder.path())
        .project_dir(folder.path())
        .config_file(&file)
        .open()
        .unwrap();
    assert_eq!(storage.capabilities().backend, "memory");
    assert_eq!(storage.config().timeout, Duration::from_secs(7));
    assert_eq!(storage.notices(), [StorageNotice::NothingKept]);
}

#[test]
fn opening_for_reading_creates_nothing_and_reads_an_absent_root() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("absent");
    let storage = builder(&folder).base_dir(&root).read_only(true).open().unwrap();
    let job = storage.repo("shop").unwrap().job("j").unwrap();
    assert_eq!(job.events().read::<Value>().unwrap().count(), 0);
    assert!(
        job.events()
            .read_lines(ReadOptions::default())
            .unwrap()
            .next()
            .unwrap()
            .is_none()
    );
    assert!(job.checkpoints().latest_map::<Value>().unwrap().is_none());
    assert_eq!(
        job.dlq().list(&prodigy_storage::Select::any()).unwrap().count(),
        0
    );
    assert!(job.orphans().list().unwrap().is_empty());
    assert!(storage.repositories().all().unwrap().is_empty() && storage.locks().all().unwrap().is_empty());
    assert!(storage.repo("shop").unwrap().jobs().all().unwrap().is_empty());
    assert!(job.finished_at().unwrap().is_none());
    storage.health().unwrap();
    assert_eq!(storage.usage().unwrap().bytes(), 0);
    let refusals = [
        job.events().append(&1).unwrap_err(),
        job.checkpoints()
            .save_map(&1, SaveOptions::default())
            .unwrap_err(),
        job.dlq()
            .push(&DeadLetter::new(ItemId::new("a").unwrap(), 1))
            .unwrap_err(),
        storage.lock("shop").unwrap_err(),
        job.finish().unwrap_err(),
    ];
    for refused in refusals {
        assert_eq!(refused.kind(), ErrorKind::ReadOnly, "{refused}");
    }
    drop(storage);
    assert!(!root.exists());
}

#[test]
fn any_backend_is_read_only_when_it_is_opened_so() {
    let fixture = memory_with(|b| b);
    fixture.job().events().append(&1).unwrap();
    let backend = std::sync::Arc::clone(fixture.storage.backend());
    let reader = builder(&fixture.folder)
        .backend(backend)
        .read_only(true)
        .open()
        .unwrap();
    let job = reader.repo("shop").unwrap().job("job-1").unwrap();
    assert!(reader.capabilities().read_only);
    assert_eq!(job.events().read::<u32>().unwrap().count(), 1);
    let dlq = job.dlq();
    let id = ItemId::new("a").unwrap();
    let refusals = [
        job.events().append(&2).unwrap_err(),
        job.checkpoints()
            .save_map(&1, SaveOptions::default())
            .unwrap_err(),
        dlq.push(&DeadLetter::new(id.clone(), 1)).unwrap_err(),
        dlq.take(&Default::default(), 1, Duration::ZERO).unwrap_err(),
        dlq.ack(&[LeaseToken::random()]).unwrap_err(),
        dlq.release([LeaseToken::random()], Duration::ZERO).unwrap_err(),
        dlq.compact().unwrap_err(),
        dlq.remove(&[id]).unwrap_err(),
        job.orphans()
            .record(&OrphanedWorktree::new("a", "i", "/w", "e"))
            .unwrap_err(),
        reader.lock("shop").unwrap_err(),
        job.finish().unwrap_err(),
    ];
    for refused in refusals {
        assert_eq!(refused.kind(), ErrorKind::ReadOnly, "{refused}");
    }
    assert_eq!(fixture.job().events().read::<u32>().unwrap().count(), 1);

    // A read-only handle loads the snapshot, and never writes or creates it.
    let file = fixture.folder.path().join("snapshot");
    let reader = builder(&fixture.folder)
        .set("backend", "memory")
        .set("backend_config.persist_to_disk", "true")
        .set("backend_config.persistence_path", &file)
        .read_only(true)
        .open()
        .unwrap();
    drop(reader);
    assert!(!file.exists());
}

#[test]
fn a_lock_keeps_others_out_until_it_is_released() {
    on_each(|fixture| {
        let name = "shop/job-1/resume";
        let held = fixture
            .storage
            .lock_with(name, LockOptions::new("resume"))
            .unwrap();
        assert_eq!((held.name().as_str(), held.is_inert()), (name, false));
        let refused = fixture
            .storage
            .lock_with(name, LockOptions::default().wait(Duration::ZERO))
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::LockUnavailable);
        assert!(
            refused.to_string().contains(&std::process::id().to_string()),
            "{refused}"
        );
        let locks = fixture.storage.locks().all().unwrap();
        assert!(locks.iter().any(|lock| lock.name.as_str() == name && lock.held));
        let first = held.fencing().unwrap().token();
        held.release().unwrap();
        let again = fixture.storage.lock(name).unwrap();
        assert!(again.fencing().unwrap().token() > first);
        assert_eq!(
            fixture.storage.lock("a/b/c/d/e").unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    });
}

#[test]
fn without_locking_a_guard_is_inert_and_says_so() {
    let fixture = memory_with(|b| b.set("enable_locking", "false"));
    let one = fixture.storage.lock("shop").unwrap();
    let two = fixture.storage.lock("shop").unwrap();
    assert!(one.is_inert() && two.is_inert());
    // An inert guard has no token, since the token would protect nothing.
    let refused = one.fencing().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.hint().unwrap().contains("enable_locking"), "{refused}");
    assert!(
        fixture
            .storage
            .notices()
            .contains(&StorageNotice::LockingDisabled)
    );
    assert_eq!(fixture.storage.health().unwrap().severity(), Severity::Warning);
    one.release().unwrap();
}

#[test]
fn local_storage_lies_in_the_project_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let storage = builder(&folder)
        .set("backend_config.use_global", "false")
        .open()
        .unwrap();
    storage
        .repo("shop")
        .unwrap()
        .job("j")
        .unwrap()
        .events()
        .append(&1)
        .unwrap();
    assert!(folder.path().join(".prodigy/events/shop/j").is_dir());
    assert!(matches!(
        storage.notices(),
        [StorageNotice::Config(Notice::LocalStorage { .. })]
    ));

    let mut config = StorageConfig::default();
    config.file.use_global = false;
    let same = builder(&folder).config(config).open().unwrap();
    assert_eq!(same.config().file.base_dir, storage.config().file.base_dir);
    assert!(matches!(
        same.notices(),
        [StorageNotice::Config(Notice::LocalStorage { .. })]
    ));
}

#[test]
fn local_data_that_stays_unread_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join(".prodigy/events/shop/j")).unwrap();
    std::fs::write(
        folder.path().join(".prodigy/events/shop/j/events-20251115.jsonl"),
        "",
    )
    .unwrap();
    let storage = builder(&folder)
        .base_dir(folder.path().join("root"))
        .open()
        .unwrap();
    assert!(matches!(
        storage.notices(),
        [StorageNotice::Config(Notice::UnusedLocalStorage { .. })]
    ));
}

#[test]
fn a_finished_job_is_marked_once() {
    on_each(|fixture| {
        let job = fixture.job();
        assert!(job.finished_at().unwrap().is_none());
        job.events().append(&1).unwrap();
        job.finish().unwrap();
        let first = job.finished_at().unwrap().unwrap();
        job.finish().unwrap();
        assert_eq!(job.finished_at().unwrap(), Some(first));
        let stats = fixture.storage.stats();
        assert_eq!(stats.operation("put document").unwrap().latency.count(), 1);
        job.events().append(&2).unwrap();
        assert_eq!(job.events().read::<u32>().unwrap().count(), 2);
        assert_eq!(
            fixture.storage.repo("shop").unwrap().jobs().all().unwrap(),
            [job.address().job.clone()]
        );
        assert_eq!(fixture.storage.repositories().all().unwrap().len(), 1);
    });
}

#[test]
fn a_step_of_the_clock_neither_ends_nor_prolongs_a_wait() {
    const YEARS: i64 = 50 * 365 * 86_400;
    on_each_with_clock(|fixture, clock| {
        let pause = || std::thread::sleep(Duration::from_millis(20));
        let wait = |longest| {
            let options = LockOptions::new("").wait(longest);
            fixture.storage.lock_with("shop/job-1", options).map(drop)
        };
        for step in [YEARS, -YEARS] {
            std::thread::scope(|scope| {
                let held = fixture.storage.lock("shop/job-1").unwrap();
                let patient = scope.spawn(|| wait(Duration::from_secs(600)));
                pause();
                clock.advance_secs(step);
                pause();
                assert!(!patient.is_finished());
                let impatient = scope.spawn(|| wait(Duration::from_millis(100)));
                pause();
                clock.advance_secs(-step);
                let refused = impatient.join().unwrap().unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::LockUnavailable);
                drop(held);
                patient.join().unwrap().unwrap();
            });
        }
    });
}

#[test]
fn a_job_that_is_finished_again_under_a_lock_keeps_its_mark() {
    on_each_with_clock(|fixture, clock| {
        let job = fixture.job();
        job.events().append(&1).unwrap();
        let lock = fixture.storage.lock("shop/job-1").unwrap();
        let fenced = job.fenced(&lock).unwrap();
        fenced.finish().unwrap();
        let first = job.finished_at().unwrap();
        clock.advance_secs(5);
        fenced.finish().unwrap();
        assert_eq!(job.finished_at().unwrap(), first);
        drop(lock);
    });
}

#[test]
fn a_write_after_the_end_reopens_a_job_whatever_the_clock_of_the_process_that_finished_it() {
    // The clock of the store is far ahead of the clock of the file system.
    let clock = TestClock::new();
    let fixture = file_with(|b| b.clock(Arc::clone(&clock) as _));
    let job = fixture.job();
    let letter = |id: &str| DeadLetter::new(ItemId::new(id).unwrap(), 1);
    let state = || job.status().unwrap().state;
    job.events().append(&1).unwrap();
    // Two files that are written within one tick of the kernel's clock get the same time.
    let pause = || std::thread::sleep(Duration::from_millis(30));
    for id in ["a", "b"] {
        job.finish().unwrap();
        assert_eq!(state(), JobState::Finished);
        pause();
        job.dlq().push(&letter(id)).unwrap();
        assert_eq!(state(), JobState::Open);
        clock.advance_secs(-3600);
    }
}

#[test]
fn calls_that_finish_a_job_at_once_agree_on_one_mark() {
    on_each(|fixture| {
        let job = fixture.job();
        job.events().append(&1).unwrap();
        let finish = || {
            job.finish().unwrap();
            job.finished_at().unwrap().unwrap()
        };
        let marks: BTreeSet<_> = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..8).map(|_| scope.spawn(finish)).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        assert_eq!(marks.len(), 1, "{marks:?}");
        assert_eq!(job.status().unwrap().state, JobState::Finished);
    });
}

#[test]
fn a_finished_job_stays_finished_while_its_files_are_compacted_and_compressed() {
    for compression in ["false", "true"] {
        let fixture = file_with(|builder| builder.set("backend_config.enable_compression", compression));
        let job = fixture.job();
        job.events().append(&"started").unwrap();
        for id in ["a", "b"] {
            let letter = DeadLetter::new(ItemId::new(id).unwrap(), 1);
            job.dlq().push(&letter).unwrap();
        }
        job.dlq().remove(&[ItemId::new("a").unwrap()]).unwrap();
        job.finish().unwrap();
        let at = job.status().unwrap().last_activity;
        fixture.storage.flush().unwrap();
        let status = job.status().unwrap();
        assert_eq!((status.state, status.last_activity), (JobState::Finished, at));
        assert_eq!(
            job.events().summary().unwrap().compressed,
            u64::from(compression == "true")
        );
    }
}

#[test]
fn a_listing_longer_than_a_page_gives_every_job_once() {
    let storage = Storage::in_memory().unwrap();
    let repo = storage.repo("shop").unwrap();
    let names: Vec<String> = (0..10_001).map(|n| format!("job-{n:05}")).collect();
    for name in &names {
        repo.job(name).unwrap().events().append(&1).unwrap();
    }
    let mut jobs = repo.jobs();
    for name in &names {
        assert_eq!(jobs.next().unwrap().unwrap().as_str(), name);
    }
    assert!(jobs.next().is_none());
}

#[test]
fn names_that_are_none_are_refused_and_nothing_is_created() {
    on_each(|fixture| {
        for name in ["", ".", "..", "a/b", "a\0b", ".x", &"x".repeat(4096)] {
            assert_eq!(
                fixture.storage.repo(name).unwrap_err().kind(),
                ErrorKind::InvalidInput
            );
            assert_eq!(
                fixture
                    .storage
                    .repo("shop")
                    .unwrap()
                    .job(name)
                    .unwrap_err()
                    .kind(),
                ErrorKind::InvalidInput
            );
        }
        assert!(!fixture.folder.path().join("root").exists());
    });
}

#[test]
fn a_backend_of_the_callers_gets_the_layers_too() {
    let fixture = memory_with(|b| b);
    let shared = builder(&fixture.folder)
        .backend(std::sync::Arc::clone(fixture.storage.backend()))
        .set("enable_cache", "true")
        .open()
        .unwrap();
    fixture
        .job()
        .checkpoints()
        .save_map(&1, SaveOptions::default())
        .unwrap();
    let seen = shared.repo("shop").unwrap().job("job-1").unwrap().checkpoints();
    for n in 1..4 {
        assert_eq!(seen.latest_map::<u32>().unwrap().unwrap().data, n);
        let latest = seen.latest_map::<u32>().unwrap().unwrap();
        // The cache never hides a write of another handle.
        let options = SaveOptions::new().expected_revision(Expected::Revision(latest.revision));
        fixture.job().checkpoints().save_map(&(n + 1), options).unwrap();
    }
    assert!(shared.stats().get("cache.hits") > 0);
    assert_eq!(shared.stats().get("retry.retries"), 0);
}

#[test]
fn usage_and_health_tell_of_the_root() {
    let fixture = file_with(|b| b);
    fixture.job().events().append(&1).unwrap();
    fixture.storage.flush().unwrap();
    let usage = fixture.storage.usage().unwrap();
    assert!(
        usage
            .areas
            .iter()
            .any(|area| area.area == "events" && area.bytes > 0)
    );
    assert!(!fixture.storage.health().unwrap().checks.is_empty());
    assert!(fixture.storage.stats().get("log.appends") > 0);
}

#[test]
fn usage_counts_every_file_of_the_root() {
    let fixture = file_with(|b| b);
    fixture.job().events().append(&1).unwrap();
    fixture.storage.flush().unwrap();
    let root = fixture.storage.capabilities().root.unwrap();
    for (file, bytes) in [
        ("sessions/1/log", 1000),
        ("top", 200),
        ("events/beside", 30),
        ("state/.hidden/x", 4),
    ] {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, vec![b'x'; bytes]).unwrap();
    }
    let usage = fixture.storage.usage().unwrap();
    let of = |name: &str| -> u64 {
        let areas = usage
            .areas
            .iter()
            .filter(|area| area.area == name && area.repo.is_none());
        areas.map(|area| area.bytes).sum()
    };
    let format = std::fs::metadata(root.join("format.json")).unwrap().len();
    assert_eq!(of("other"), 1200 + format);
    assert_eq!((of("events"), of("state")), (30, 4));
    let all = std::process::Command::new("find")
        .arg(&root)
        .args(["-type", "f", "-printf", "%s\n"])
        .output()
        .unwrap();
    let sizes = String::from_utf8(all.stdout).unwrap();
    let sum: u64 = sizes.lines().map(|size| size.parse::<u64>().unwrap()).sum();
    assert_eq!(usage.bytes(), sum);
}

#[test]
fn a_handle_is_shared_between_threads() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    on_each(|fixture| {
        shared(&fixture.storage);
        shared(&fixture.job());
        let storage = fixture.storage.clone();
        let job = fixture.job();
        std::thread::spawn(move || {
            storage
                .repo("shop")
                .unwrap()
                .job("job-1")
                .unwrap()
                .events()
                .append(&1)
                .unwrap()
        })
        .join()
        .unwrap();
        assert_eq!(job.events().read::<u32>().unwrap().count(), 1);
    });
}
