//! The checkpoints of a job, for tasks.

use prodigy_storage_backend::{StoredDocument, to_raw};
use prodigy_storage_layout::Phase;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::sync::Arc;

use super::mirror::{method, mirror, rows};
use super::target::HasTarget;
use super::{Call, ItemStream};
use crate::checkpoints::{
    Checkpoint, CheckpointEntry, CheckpointId, Checkpoints, PruneOptions, SaveOptions, SavedCheckpoint,
};

mirror! {
    /// [`Checkpoints`] for asynchronous tasks.
    ///
    /// ```
    /// # use prodigy_storage::{AsyncStorage, SaveOptions};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let checkpoints = AsyncStorage::in_memory()?.repo("shop")?.job("mapreduce-7")?.checkpoints();
    /// checkpoints.save_map(&7, SaveOptions::new()).await?;
    /// let latest = checkpoints.latest_map::<u32>().await?.expect("it was saved");
    /// assert_eq!(latest.data, 7);
    /// # Ok::<(), prodigy_storage::StorageError>(())
    /// # }).unwrap();
    /// ```
    AsyncCheckpoints of Checkpoints {
        async fn latest<T: DeserializeOwned>(&self, phase: Phase) -> Option<Checkpoint<T>>;
        async fn latest_before<T: DeserializeOwned>(&self, id: &CheckpointId) -> Option<Checkpoint<T>>;
        async fn latest_setup<T: DeserializeOwned>(&self) -> Option<Checkpoint<T>>;
        async fn latest_map<T: DeserializeOwned>(&self) -> Option<Checkpoint<T>>;
        async fn latest_reduce<T: DeserializeOwned>(&self) -> Option<Checkpoint<T>>;
        async fn latest_raw(&self, phase: Phase) -> Option<Checkpoint<Box<RawValue>>>;
        async fn get<T: DeserializeOwned>(&self, id: &CheckpointId) -> Option<Checkpoint<T>>;
        #[wrapped]
        fn list(&self) -> ItemStream<CheckpointEntry>;
        #[wrapped]
        fn list_phase(&self, phase: Phase) -> ItemStream<CheckpointEntry>;
        async fn find<T: DeserializeOwned>(&self, key: impl AsRef<str>) -> Option<Checkpoint<T>>;
        async fn phases(&self) -> Vec<Phase>;
        async fn delete(&self, id: &CheckpointId) -> bool;
        async fn stored(&self, id: &CheckpointId) -> Option<StoredDocument>;
        async fn prune(&self, keep: usize, options: PruneOptions) -> Vec<CheckpointEntry>;
    }
}

impl AsyncCheckpoints {
    /// Like [`Checkpoints::save`]. The state is serialised before this method returns.
    pub fn save<T: Serialize + ?Sized>(
        &self,
        phase: Phase,
        state: &T,
        options: SaveOptions,
    ) -> Call<SavedCheckpoint> {
        let state = to_raw(state).map_err(|fault| self.blocking.refused(phase, fault));
        let (blocking, threads) = (self.blocking.clone(), Arc::clone(&self.threads));
        Call::new(async move {
            let state = state?;
            threads
                .call(blocking.target(), "save", move || {
                    blocking.save(phase, &*state, options)
                })
                .await
        })
    }

    /// Like [`Checkpoints::save_setup`]. The state is serialised before this method returns.
    pub fn save_setup<T: Serialize + ?Sized>(
        &self,
        state: &T,
        options: SaveOptions,
    ) -> Call<SavedCheckpoint> {
        self.save(Phase::Setup, state, options)
    }

    /// Like [`Checkpoints::save_map`]. The state is serialised before this method returns.
    pub fn save_map<T: Serialize + ?Sized>(&self, state: &T, options: SaveOptions) -> Call<SavedCheckpoint> {
        self.save(Phase::Map, state, options)
    }

    /// Like [`Checkpoints::save_reduce`]. The state is serialised before this method returns.
    pub fn save_reduce<T: Serialize + ?Sized>(
        &self,
        state: &T,
        options: SaveOptions,
    ) -> Call<SavedCheckpoint> {
        self.save(Phase::Reduce, state, options)
    }
}
