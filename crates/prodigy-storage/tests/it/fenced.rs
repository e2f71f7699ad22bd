use std::time::Duration;

use prodigy_storage::config::MapEnvironment;
use prodigy_storage::{
    DeadLetter, DocumentOptions, ErrorKind, Event, Fence, ItemId, Job, JobState, OrphanedWorktree, Phase,
    Result, SaveOptions, Select, Storage,
};
use serde_json::Value;

use crate::support::{Fixture, builder, file_with, memory_with, on_each};

const LOCK: &str = "shop/job-1/coordinator";
const MINUTE: Duration = Duration::from_secs(60);

fn letter(id: &str) -> DeadLetter<u32> {
    DeadLetter::new(ItemId::new(id).unwrap(), 1)
}

fn orphan(path: &str) -> OrphanedWorktree {
    OrphanedWorktree::new("agent", "item", path, "busy")
}

/// A kind of write: its name, and a function that makes it.
type Write = (&'static str, fn(&Job) -> Result<()>);

/// Every kind of write that a job has.
const WRITES: [Write; 12] = [
    ("append", |job| job.events().append(&1).map(drop)),
    ("append batch", |job| job.events().append_batch([1, 2]).map(drop)),
    ("push", |job| job.dlq().push(&letter("pushed")).map(drop)),
    ("take", |job| job.dlq().take(&Select::any(), 1, MINUTE).map(drop)),
    ("park", |job| {
        job.dlq().park(&[ItemId::new("kept").unwrap()], None).map(drop)
    }),
    ("save", |job| {
        job.checkpoints().save_map(&1, SaveOptions::new()).map(drop)
    }),
    ("save setup", |job| {
        job.checkpoints().save_setup(&1, SaveOptions::new()).map(drop)
    }),
    ("prune", |job| {
        job.checkpoints().prune(1, Default::default()).map(drop)
    }),
    ("put", |job| {
        let documents = job.documents("notes")?;
        documents.put("n", &1, DocumentOptions::new()).map(drop)
    }),
    ("delete", |job| {
        job.documents("notes")?
            .delete("kept", DocumentOptions::new())
            .map(drop)
    }),
    ("orphan", |job| job.orphans().record(&orphan("/tmp/w")).map(drop)),
    ("finish", |job| job.finish()),
];

/// Creates a job on which each of the writes has an effect.
fn prepare(fixture: &Fixture) -> Job {
    let job = fixture.job();
    job.dlq().push(&letter("kept")).unwrap();
    for _ in 0..3 {
        job.checkpoints().save_map(&1, SaveOptions::new()).unwrap();
    }
    let documents = job.documents("notes").unwrap();
    documents.put("kept", &1, DocumentOptions::new()).unwrap();
    job
}

#[test]
fn every_write_of_a_coordinator_that_was_replaced_fails_as_fenced() {
    on_each(|fixture| {
        let job = prepare(fixture);
        let hold = || fixture.storage.lock(LOCK).unwrap();
        let old = job.fenced(&hold()).unwrap();
        assert_eq!(old.fence().unwrap().lock().unwrap().as_str(), LOCK);
        old.events().append(&"planned").unwrap();
        let new = job.fenced(&hold()).unwrap();
        new.events().append(&"took over").unwrap();
        for (name, write) in WRITES {
            let error = write(&old).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Fenced, "{name}: {error}");
            assert!(!error.is_transient(), "{name}");
        }
        for (name, write) in WRITES {
            write(&new).expect(name);
            write(&job).expect(name);
        }
        let stored: Vec<Event<Value>> = job.events().read().unwrap().map(Result::unwrap).collect();
        assert_eq!(stored[0].event, "planned");
        assert_eq!(
            stored[0].fence.as_ref().unwrap().token(),
            old.fence().unwrap().token()
        );
        assert_eq!(stored[1].fence.as_ref(), new.fence());
        assert_eq!(stored.iter().filter(|event| event.fence.is_none()).count(), 3);
    });
}

/// A new holder calls `fenced` and then reads: nothing may come after what it reads.
#[test]
fn once_a_new_coordinator_has_a_fenced_job_no_write_of_the_old_one_is_accepted() {
    on_each(|fixture| {
        let job = prepare(fixture);
        let hold = || fixture.storage.lock(LOCK).unwrap();
        let lock = hold();
        let old = job.fenced(&lock).unwrap();
        old.events().append(&"planned").unwrap();
        drop(lock);
        let new = job.fenced(&hold()).unwrap();
        let read = new.events().read::<Value>().unwrap().count();
        let saved = new.checkpoints().latest_map::<Value>().unwrap().unwrap();
        for (name, write) in WRITES {
            let error = write(&old).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Fenced, "{name}: {error}");
        }
        assert_eq!(new.events().read::<Value>().unwrap().count(), read);
        let again = new.checkpoints().latest_map::<Value>().unwrap().unwrap();
        assert_eq!(again.id, saved.id);
        assert_eq!(new.dlq().summary().unwrap().items, 1);
    });
}

#[test]
fn a_fenced_job_alone_stores_no_job_and_reopens_no_finished_one() {
    on_each(|fixture| {
        let repo = fixture.storage.repo("shop").unwrap();
        let lock = fixture.storage.lock("coordinator").unwrap();
        repo.job("empty").unwrap().fenced(&lock).unwrap();
        assert_eq!(repo.jobs().all().unwrap(), []);
        let job = fixture.job();
        job.events().append(&1).unwrap();
        job.finish().unwrap();
        job.fenced(&lock).unwrap();
        assert_eq!(job.status().unwrap().state, JobState::Finished);
    });
}

#[test]
fn each_kind_of_write_raises_the_mark_for_the_next_coordinator() {
    for (name, write) in WRITES {
        on_each(|fixture| {
            let job = prepare(fixture);
            let hold = || fixture.storage.lock(LOCK).unwrap();
            let old = job.fenced(&hold()).unwrap();
            let token = hold().fencing().unwrap();
            write(&job.with_fence(token)).expect(name);
            let error = old.events().append(&1).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Fenced, "{name}: {error}");
        });
    }
}

#[test]
fn an_item_that_was_taken_is_not_settled_by_a_coordinator_that_was_replaced() {
    on_each(|fixture| {
        let job = prepare(fixture);
        let hold = || fixture.storage.lock(LOCK).unwrap();
        let old = job.fenced(&hold()).unwrap();
        let taken = old.dlq().take(&Select::any(), 1, MINUTE).unwrap();
        job.fenced(&hold()).unwrap().events().append(&1).unwrap();
        assert_eq!(taken[0].ack().unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(taken[0].extend(MINUTE).unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(job.dlq().summary().unwrap().leased, 1);
    });
}

#[test]
fn an_inert_guard_makes_no_fenced_job() {
    for fixture in [
        memory_with(|builder| builder.set("enable_locking", "false")),
        file_with(|builder| builder.set("enable_locking", "false")),
    ] {
        let lock = fixture.storage.lock(LOCK).unwrap();
        let error = fixture.job().fenced(&lock).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    }
}

#[test]
fn marks_outlive_the_process_and_the_deletion_of_everything_that_was_written() {
    let fixture = file_with(|builder| builder);
    let job = prepare(&fixture);
    let hold = || fixture.storage.lock(LOCK).unwrap();
    let old = job.fenced(&hold()).unwrap();
    let new = job.fenced(&hold()).unwrap();
    new.dlq().push(&letter("x")).unwrap();
    new.dlq()
        .remove(&[ItemId::new("x").unwrap(), ItemId::new("kept").unwrap()])
        .unwrap();
    let reopened = builder(&fixture.folder)
        .base_dir(fixture.folder.path().join("root"))
        .set("timeout", "29s")
        .open()
        .unwrap();
    let token = old.fence().cloned();
    let again = reopened
        .repo("shop")
        .unwrap()
        .job("job-1")
        .unwrap()
        .with_fence(token);
    assert_eq!(
        again.dlq().push(&letter("y")).unwrap_err().kind(),
        ErrorKind::Fenced
    );
}

/// Opens storage as a command under `lock run` does, with this value of the variable for the token.
fn child(fixture: &Fixture, value: &str) -> Result<Storage> {
    builder(&fixture.folder)
        .environment(MapEnvironment::new().with("PRODIGY_STORAGE_FENCE", value))
        .base_dir(fixture.folder.path().join("root"))
        .open()
}

#[test]
fn a_process_takes_its_token_from_the_environment() {
    let fixture = file_with(|builder| builder);
    let hold = || fixture.storage.lock(LOCK).unwrap().fencing().unwrap();
    let (old, new) = (hold(), hold());
    let job = |fence: &Fence| {
        let storage = child(&fixture, &fence.to_string()).unwrap();
        storage.repo("shop").unwrap().job("job-1").unwrap()
    };
    assert_eq!(job(&old).fence(), Some(&old));
    job(&old).events().append(&"planned").unwrap();
    job(&new).events().append(&"took over").unwrap();
    let error = job(&old)
        .checkpoints()
        .save_map(&1, SaveOptions::new())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    let events: Vec<Event<Value>> = job(&new).events().read().unwrap().map(Result::unwrap).collect();
    assert_eq!(events[0].fence, Some(old));
    // Writes through a job handle without a token are not refused.
    job(&new).with_fence(None).events().append(&"plain").unwrap();
    assert!(
        job(&new)
            .checkpoints()
            .latest::<Value>(Phase::Map)
            .unwrap()
            .is_none()
    );
    assert!(
        child(&fixture, "")
            .unwrap()
            .repo("shop")
            .unwrap()
            .job("j")
            .unwrap()
            .fence()
            .is_none()
    );
}

#[test]
fn a_variable_that_holds_no_token_is_refused() {
    let fixture = file_with(|builder| builder);
    for value in ["x", "shop/a=", "shop/a=0", "shop//a=5"] {
        let error = child(&fixture, value).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{value}");
        assert!(error.target().contains("PRODIGY_STORAGE_FENCE"), "{error}");
    }
}

#[test]
fn the_tokens_of_events_restore_damaged_marks() {
    let fixture = file_with(|builder| builder);
    let job = fixture.job();
    let hold = || fixture.storage.lock(LOCK).unwrap();
    let old = job.fenced(&hold()).unwrap();
    job.fenced(&hold()).unwrap().events().append(&1).unwrap();
    let marks = fixture
        .folder
        .path()
        .join("root/state/shop/mapreduce/jobs/job-1/fencing.json");
    let mut bytes = std::fs::read(&marks).unwrap();
    let at = bytes.len() - 5;
    bytes[at] ^= 1;
    std::fs::write(&marks, bytes).unwrap();
    assert_eq!(old.events().append(&2).unwrap_err().kind(), ErrorKind::Damaged);
    let doctor = fixture.storage.doctor().unwrap();
    let scope = prodigy_storage::doctor::DoctorScope::default();
    doctor.repair(&scope, MINUTE, &mut |_| {}).unwrap();
    assert_eq!(old.events().append(&2).unwrap_err().kind(), ErrorKind::Fenced);
}
