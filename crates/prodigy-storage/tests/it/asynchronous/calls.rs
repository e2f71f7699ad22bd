//! Calls from tasks: the threads that they run on, how they wait, and how they end.

use std::cell::RefCell;
use std::rc::Rc;
use std::thread::{self, ThreadId};
use std::time::Duration;

use prodigy_storage::{
    AsyncStorage, DeadLetter, DocumentOptions, ErrorKind, ItemId, OrphanedWorktree, PruneOptions,
    SaveOptions, Select, SessionId,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::support::{Gate, Gated, Tasks, on_each, poll_once, run, run_bare};
use crate::support::{builder, file_with, memory_with};

#[test]
fn a_job_works_as_it_does_for_threads() {
    on_each(async |tasks| {
        let (storage, job) = (&tasks.storage, tasks.job());
        job.events().append(&json!({"n": 1})).await.unwrap();
        job.events()
            .append_batch([json!({"n": 2}), json!({"n": 3})])
            .await
            .unwrap();
        let mut events = job.events().read::<Value>().await.unwrap();
        let mut sum = 0;
        while let Some(event) = events.next().await {
            sum += event.unwrap().event.event["n"].as_u64().unwrap();
        }
        assert_eq!(sum, 6);
        assert!(job.events().summary().await.unwrap().bytes > 0);

        job.checkpoints()
            .save_map(&sum, SaveOptions::at(events.cursor()))
            .await
            .unwrap();
        let latest = job.checkpoints().latest_map::<u64>().await.unwrap().unwrap();
        assert_eq!((latest.data, latest.cursor), (6, Some(events.cursor())));
        assert_eq!(job.checkpoints().list().all().await.unwrap().len(), 1);
        assert_eq!(job.checkpoints().prune(1, PruneOptions::new()).await.unwrap(), []);

        let sessions = job.documents("sessions").unwrap();
        let revision = sessions.put("s-1", &sum, DocumentOptions::new()).await.unwrap();
        let found = sessions.get::<u64>("s-1").await.unwrap().unwrap();
        assert_eq!((found.data, found.revision), (6, revision));
        assert_eq!(job.all_documents().all().await.unwrap()[0].name.as_str(), "s-1");
        assert!(sessions.delete("s-1", DocumentOptions::new()).await.unwrap());

        let letter = DeadLetter::new(ItemId::new("a").unwrap(), 1);
        job.dlq().push(&letter).await.unwrap();
        job.dlq().push_batch([&letter]).await.unwrap();
        assert_eq!(job.dlq().summary().await.unwrap().pending, 1);
        assert_eq!(
            job.dlq()
                .scan(&Select::any())
                .await
                .unwrap()
                .all()
                .await
                .unwrap()
                .len(),
            1
        );
        let listed = job.dlq().list(&Select::any()).await.unwrap().all().await.unwrap();
        assert_eq!((listed.len(), listed[0].failure_count), (1, 1));

        let orphan = OrphanedWorktree::new("agent-1", "a", "/worktree", "busy");
        job.orphans().record(&orphan).await.unwrap();
        let repo = storage.repo("shop").unwrap();
        assert_eq!(repo.orphans().all().await.unwrap()[0].orphans, [orphan]);
        assert!(job.orphans().remove("/worktree").await.unwrap());
        assert_eq!(repo.jobs().all().await.unwrap().len(), 1);
        assert_eq!(storage.repositories().all().await.unwrap().len(), 1);
        let session = SessionId::new("s").unwrap();
        assert_eq!(
            repo.worktrees().path(&session).is_ok(),
            storage.capabilities().root.is_some()
        );

        job.finish().await.unwrap();
        assert!(job.finished_at().await.unwrap().is_some());
        storage.flush().await.unwrap();
        assert!(tasks.beside.job().finished_at().unwrap().is_some());
    });
}

#[test]
fn it_opens_and_works_without_a_runtime() {
    let folder = tempfile::tempdir().unwrap();
    run_bare(async {
        let builder = builder(&folder).base_dir(folder.path().join("root"));
        let storage = builder.open_async().await.unwrap();
        let job = storage.repo("shop").unwrap().job("job-1").unwrap();
        job.events().append("without a runtime").await.unwrap();
        let event = job
            .events()
            .read::<String>()
            .await
            .unwrap()
            .next()
            .await
            .unwrap()
            .unwrap();
        assert_eq!(event.event.event, "without a runtime");
        drop(storage.lock("shop/lock").await.unwrap());
    });
}

#[test]
fn what_is_refused_is_refused_in_the_same_words() {
    run(async {
        let tasks = Tasks::narrow();
        let (job, beside) = (tasks.job(), tasks.beside.job());
        let float = json!({"score": [1.0]});
        let not_json = std::collections::HashMap::from([((1, 2), float)]);
        let refused = job.events().append(&not_json).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            beside.events().append(&not_json).unwrap_err().to_string()
        );
        let refused = job
            .checkpoints()
            .save_map(&[f64::NAN], SaveOptions::new())
            .await
            .unwrap_err();
        let there = beside
            .checkpoints()
            .save_map(&[f64::NAN], SaveOptions::new())
            .unwrap_err();
        assert_eq!(
            (refused.kind(), refused.to_string()),
            (ErrorKind::InvalidInput, there.to_string())
        );
        let (plans, there) = (
            job.documents("plans").unwrap(),
            beside.documents("plans").unwrap(),
        );
        for (name, value) in [("nan", f64::NAN), ("no / name", 1.0)] {
            let refused = plans
                .put(name, &[value], DocumentOptions::new())
                .await
                .unwrap_err();
            let there = there.put(name, &[value], DocumentOptions::new()).unwrap_err();
            assert_eq!(
                (refused.kind(), refused.to_string()),
                (ErrorKind::InvalidInput, there.to_string())
            );
        }
        let refused = tasks.storage.lock("a lock / of no name").await.unwrap_err();
        let there = tasks.beside.storage.lock("a lock / of no name").unwrap_err();
        assert_eq!(refused.to_string(), there.to_string());
    });
}

/// A value that is neither `Send` nor `'static`. It records the thread that serialises it.
struct Here<'a>(Rc<RefCell<Option<ThreadId>>>, &'a str);

impl Serialize for Here<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        *self.0.borrow_mut() = Some(thread::current().id());
        serializer.serialize_str(self.1)
    }
}

#[test]
fn what_is_given_is_serialised_in_the_task_at_once() {
    on_each(async |tasks| {
        let job = tasks.job();
        let serialised = Rc::new(RefCell::new(None));
        let here = |text| Here(Rc::clone(&serialised), text);
        let text = String::from("borrowed");
        let appended = job.events().append(&here(&text));
        assert_eq!(serialised.take(), Some(thread::current().id()));
        let saved = job.checkpoints().save_map(&here(&text), SaveOptions::new());
        assert_eq!(serialised.take(), Some(thread::current().id()));
        let pushed = job
            .dlq()
            .push(&DeadLetter::new(ItemId::new("a").unwrap(), here(&text)));
        assert_eq!(serialised.take(), Some(thread::current().id()));
        drop(text);
        appended.await.unwrap();
        saved.await.unwrap();
        pushed.await.unwrap();
        assert_eq!(serialised.take(), None);
    });
}

#[test]
fn a_future_that_is_not_polled_does_nothing() {
    on_each(async |tasks| {
        drop(tasks.job().events().append(&1));
        drop(tasks.job().finish());
        tasks.storage.flush().await.unwrap();
        assert_eq!(tasks.storage.repositories().all().await.unwrap(), []);
    });
}

#[test]
fn a_future_that_is_dropped_before_its_call_begins_does_nothing() {
    run(async {
        let tasks = Tasks::narrow();
        let job = tasks.job();
        let gate = Gate::save(&job, "dropped before it begins").await;
        let mut gated = job.checkpoints().latest_map::<Gated>();
        assert!(poll_once(&mut gated).is_pending());
        gate.begun();
        let mut waits = job.finish();
        assert!(poll_once(&mut waits).is_pending());
        drop(waits);
        gate.open();
        gated.await.unwrap();
        tasks.storage.flush().await.unwrap();
        assert_eq!(tasks.beside.job().finished_at().unwrap(), None);
    });
}

#[test]
fn a_call_that_was_given_up_undoes_no_newer_one() {
    run(async {
        for tasks in [Tasks::new(memory_with(|b| b)), Tasks::new(file_with(|b| b))] {
            let job = tasks.job();
            let (documents, dlq) = (job.documents("sessions").unwrap(), job.dlq());
            let letter = DeadLetter::new(ItemId::new("a").unwrap(), 1);
            for round in 0..200 {
                let mut old = documents.put("a", &"old", DocumentOptions::new());
                let mut deletion = documents.delete("b", DocumentOptions::new());
                let mut pushed = dlq.push(&letter);
                let _ = (
                    poll_once(&mut old),
                    poll_once(&mut deletion),
                    poll_once(&mut pushed),
                );
                drop((old, deletion, pushed));
                for name in ["a", "b"] {
                    documents.put(name, &round, DocumentOptions::new()).await.unwrap();
                }
                dlq.remove(&[ItemId::new("a").unwrap()]).await.unwrap();
                tasks.storage.flush().await.unwrap();
                for name in ["a", "b"] {
                    let stored = documents.get::<Value>(name).await.unwrap();
                    assert_eq!(
                        stored.map(|stored| stored.data),
                        Some(Value::from(round)),
                        "{name}"
                    );
                }
                assert_eq!(dlq.summary().await.unwrap().items, 0, "in round {round}");
            }
        }
    });
}

#[test]
fn no_more_calls_run_at_once_than_the_pool_has_connections() {
    run(async {
        let tasks = Tasks::new(memory_with(|builder| builder.set("connection_pool_size", "2")));
        let (mut gates, mut jobs, mut calls) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..3 {
            let job = tasks
                .storage
                .repo("shop")
                .unwrap()
                .job(format!("job-{number}"))
                .unwrap();
            gates.push(Gate::save(&job, &format!("no more than two, {number}")).await);
            jobs.push(job);
        }
        for job in jobs {
            let mut call = job.checkpoints().latest_map::<Gated>();
            assert!(poll_once(&mut call).is_pending());
            calls.push(call);
        }
        let third = gates.pop().unwrap();
        for gate in &gates {
            gate.begun();
        }
        assert!(!third.has_begun());
        gates.pop().unwrap().open();
        third.begun();
        third.open();
        gates.pop().unwrap().open();
        for call in calls {
            call.await.unwrap();
        }
    });
}

#[test]
fn the_wait_for_a_thread_counts_towards_the_timeout() {
    run(async {
        let set = |builder: prodigy_storage::StorageBuilder| {
            builder.set("connection_pool_size", "1").set("timeout", "50ms")
        };
        let tasks = Tasks::new(memory_with(set));
        let job = tasks.job();
        let gate = Gate::save(&job, "the wait counts").await;
        let mut gated = job.checkpoints().latest_map::<Gated>();
        assert!(poll_once(&mut gated).is_pending());
        gate.begun();
        let sessions = job.documents("sessions").unwrap();
        let mut late = sessions.put("s-1", &1, DocumentOptions::new());
        assert!(poll_once(&mut late).is_pending());
        tokio::time::sleep(Duration::from_millis(60)).await;
        gate.open();
        let error = late.await.unwrap_err();
        assert_eq!(
            (error.kind(), error.operation()),
            (ErrorKind::Timeout, "put document")
        );
        assert!(error.hint().unwrap().contains("connection_pool_size"), "{error}");
        assert!(sessions.get::<u32>("s-1").await.unwrap().is_none());
        // The call is counted as its task experienced it.
        let stats = tasks.storage.stats();
        let puts = stats.operation("put document").unwrap();
        assert_eq!((puts.latency.count(), puts.failures), (1, 1));
        assert!(puts.latency.quantile(1.0).unwrap() >= Duration::from_millis(60));
        assert_eq!(stats.get("limit.timeouts"), 1);
        assert!(stats.get("limit.waits") >= 1);
        assert!(stats.get("limit.waited_ms") >= 60);
    });
}

#[test]
fn a_flush_waits_for_what_was_begun_before_it() {
    run(async {
        let tasks = Tasks::new(file_with(|builder| builder));
        let job = tasks.job();
        let gate = Gate::save(&job, "a flush waits").await;
        let mut gated = job.checkpoints().latest_map::<Gated>();
        assert!(poll_once(&mut gated).is_pending());
        gate.begun();
        // The call continues after its future is dropped.
        drop(gated);
        let mut flush = tasks.storage.flush();
        assert!(poll_once(&mut flush).is_pending());
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(poll_once(&mut flush).is_pending());
        gate.open();
        flush.await.unwrap();
    });
}

#[derive(Debug)]
struct Panics;

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("as the test wants it")
    }
}

#[test]
fn a_panic_of_a_call_continues_in_its_task_and_costs_no_thread() {
    run(async {
        let tasks = Tasks::narrow();
        let job = tasks.job();
        job.checkpoints().save_map(&1, SaveOptions::new()).await.unwrap();
        for _ in 0..3 {
            let task = tokio::spawn(job.checkpoints().latest_map::<Panics>());
            assert!(task.await.unwrap_err().is_panic());
        }
        assert_eq!(
            job.checkpoints().latest_map::<u32>().await.unwrap().unwrap().data,
            1
        );
    });
}

#[test]
fn a_handle_for_reading_refuses_writes() {
    run(async {
        let tasks = Tasks::new(file_with(|builder| builder.read_only(true)));
        let error = tasks.job().events().append(&1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnly);
        let error = tasks.storage.lock("shop/lock").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnly);
    });
}

#[test]
fn futures_streams_and_guards_go_from_thread_to_thread() {
    fn is_send<T: Send>(_: &T) {}
    fn is_sync<T: Send + Sync>(_: &T) {}
    run(async {
        let storage = AsyncStorage::in_memory().unwrap();
        let job = storage.repo("shop").unwrap().job("job-1").unwrap();
        is_sync(&storage);
        is_sync(&job.dlq());
        is_send(&job.events().append(&1));
        is_send(&job.events().read::<u32>().await.unwrap());
        is_send(&job.events().follow::<u32>(None).await.unwrap());
        is_send(&storage.locks());
        is_sync(&storage.lock("shop/lock").await.unwrap());
    });
}
