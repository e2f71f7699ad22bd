//! Storage traits of another program (`theirs`), implemented with `AsyncStorage` (`ours`). The tests run them on the
//! file and the memory backend: `cargo test --example third_party_store --features tokio`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests"))]

mod ours;
#[cfg_attr(not(test), allow(dead_code, reason = "the tests call the rest"))]
mod theirs;

use ours::Store;
use prodigy_storage::AsyncStorage;
use serde_json::json;
use theirs::{CheckpointStore, DeadLetterStore, EventStore, Result, ValueStore};

#[tokio::main]
async fn main() -> Result {
    let storage = AsyncStorage::open().await?;
    let store = Store::new(&storage, "shop")?;
    EventStore::append(&store, "import", "started", json!({ "items": 2 })).await?;
    store.add("import", "item-1", json!(1), "no answer").await?;
    CheckpointStore::save(&store, "import", "after-item-1", &json!({ "done": 1 })).await?;
    store
        .values("sessions")?
        .save("session-7", &json!({ "user": "ada" }))
        .await?;
    println!(
        "{} event, dead letters: {:?}",
        store.count("import").await?,
        store.stats("import").await?
    );
    EventStore::archive(&store, "import").await
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use prodigy_storage::Storage;
    use prodigy_storage::config::MapEnvironment;

    use super::theirs::{LetterStats, Query};
    use super::*;

    /// A store on each backend, and the folder to keep until the end.
    async fn stores() -> Vec<(Store, Option<tempfile::TempDir>)> {
        let folder = tempfile::tempdir().unwrap();
        let file = Storage::builder()
            .environment(MapEnvironment::default())
            .home(folder.path())
            .base_dir(folder.path().join("root"))
            .open_async();
        let memory = AsyncStorage::in_memory().unwrap();
        vec![
            (Store::new(&file.await.unwrap(), "shop").unwrap(), Some(folder)),
            (Store::new(&memory, "shop").unwrap(), None),
        ]
    }

    #[tokio::test]
    async fn events_are_appended_queried_subscribed_to_counted_and_archived() {
        for (store, _folder) in stores().await {
            let before = SystemTime::now() - Duration::from_secs(1);
            let first = EventStore::append(&store, "j", "started", json!(0))
                .await
                .unwrap();
            let mut subscription = store.subscribe("j").await.unwrap();
            for n in 1..4 {
                EventStore::append(&store, "j", "step", json!(n)).await.unwrap();
            }
            assert_eq!(store.count("j").await.unwrap(), 4);

            let all = store.query("j", Query::default()).await.unwrap();
            assert_eq!(all.len(), 4);
            assert_eq!(
                (all[0].id.as_str(), all[0].kind.as_str()),
                (first.as_str(), "started")
            );
            assert!(all[0].at > before);
            let query = |kind: &str, since, limit| Query {
                kind: Some(kind.into()),
                since,
                limit,
            };
            let steps = store
                .query("j", query("step", Some(before), Some(2)))
                .await
                .unwrap();
            let data: Vec<_> = steps.iter().map(|event| event.data.clone()).collect();
            assert_eq!(data, [json!(1), json!(2)]);
            let later = SystemTime::now() + Duration::from_secs(60);
            assert!(
                store
                    .query("j", query("step", Some(later), None))
                    .await
                    .unwrap()
                    .is_empty()
            );

            EventStore::archive(&store, "j").await.unwrap();
            let mut seen = Vec::new();
            while let Some(event) = subscription.recv().await {
                seen.push(event.data);
            }
            assert_eq!(seen, [json!(1), json!(2), json!(3)]);
        }
    }

    #[tokio::test]
    async fn sessions_and_workflows_are_values_with_a_name() {
        for (store, _folder) in stores().await {
            let (sessions, workflows) = (
                store.values("sessions").unwrap(),
                store.values("workflows").unwrap(),
            );
            sessions.save("s1", &json!({ "user": "ada" })).await.unwrap();
            sessions.save("s1", &json!({ "user": "bob" })).await.unwrap();
            workflows
                .save("nightly", &json!(["build", "test"]))
                .await
                .unwrap();
            assert_eq!(sessions.load("s1").await.unwrap(), Some(json!({ "user": "bob" })));
            assert_eq!(sessions.names().await.unwrap(), ["s1"]);
            assert_eq!(workflows.names().await.unwrap(), ["nightly"]);
            assert!(sessions.delete("s1").await.unwrap());
            assert!(!sessions.delete("s1").await.unwrap());
            assert_eq!(sessions.load("s1").await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn checkpoints_are_found_by_the_callers_id() {
        for (store, _folder) in stores().await {
            for n in 0..3 {
                let id = format!("step-{n}");
                CheckpointStore::save(&store, "j", &id, &json!(n)).await.unwrap();
            }
            assert_eq!(
                CheckpointStore::load(&store, "j", "step-1").await.unwrap(),
                Some(json!(1))
            );
            assert_eq!(CheckpointStore::load(&store, "j", "step-9").await.unwrap(), None);
            assert_eq!(store.latest("j").await.unwrap(), Some(json!(2)));
        }
    }

    #[tokio::test]
    async fn dead_letters_are_added_listed_removed_archived_and_counted() {
        for (store, _folder) in stores().await {
            for id in ["a", "b", "c"] {
                store
                    .add("j", id, json!({ "item": id }), "no answer")
                    .await
                    .unwrap();
            }
            store
                .add("j", "a", json!({ "item": "a" }), "wrong answer")
                .await
                .unwrap();
            assert_eq!(store.get("j", "b").await.unwrap(), Some(json!({ "item": "b" })));
            assert!(store.remove("j", "b").await.unwrap());
            assert!(!store.remove("j", "b").await.unwrap());
            assert_eq!(store.get("j", "b").await.unwrap(), None);
            assert!(DeadLetterStore::archive(&store, "j", "c").await.unwrap());
            let letters = DeadLetterStore::list(&store, "j").await.unwrap();
            assert_eq!(letters.len(), 1);
            assert_eq!((letters[0].id.as_str(), letters[0].attempts), ("a", 2));
            assert!(letters[0].error.as_ref().unwrap().contains("wrong answer"));
            let stats = LetterStats {
                pending: 1,
                archived: 1,
            };
            assert_eq!(store.stats("j").await.unwrap(), stats);
        }
    }
}
