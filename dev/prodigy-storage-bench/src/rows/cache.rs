//! Rows that read a checkpoint from the cache.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use prodigy_storage::{CheckpointId, Phase, SaveOptions, Storage};

use super::checkpoint::{LARGE, State};
use crate::bar::Bar;
use crate::clock::per_operation;
use crate::lab::Lab;
use crate::row::{ALL_ROUNDS, Contestant, Plan, Role, Row, Turn};
use crate::store;

pub(crate) fn rows() -> Vec<Row> {
    vec![Row {
        key: "cached-read",
        group: "checkpoint",
        work: "cached read of a 1 MB checkpoint's bytes, revision checked",
        against: "uncached, checksum verified",
        unit: "µs",
        bar: Bar::AtMost(0.1),
        rounds: ALL_ROUNDS,
        plan,
    }]
}

/// A store with one checkpoint of 1 MB.
#[derive(Debug)]
pub(crate) struct Saved {
    storage: Storage,
    id: CheckpointId,
    bytes: Vec<u8>,
}

impl Saved {
    pub(crate) fn new(storage: Storage, seed: u64) -> Result<Self> {
        let checkpoints = store::job(&storage)?.checkpoints();
        let state = State::new(seed, 0, LARGE);
        let id = checkpoints.save_map(&state, SaveOptions::default())?.id;
        Ok(Self {
            storage,
            id,
            bytes: serde_json::to_vec(&state)?,
        })
    }

    /// Reads the checkpoint's bytes `reads` times, and returns microseconds per read. The first read fills the cache
    /// and is not timed.
    pub(crate) fn reads(&self, reads: usize) -> Result<f64> {
        let checkpoints = store::job(&self.storage)?.checkpoints();
        let get = || {
            let stored = checkpoints.stored(&self.id)?;
            stored.context("no checkpoint")
        };
        let mut stored = get()?;
        let began = Instant::now();
        for _ in 0..reads {
            stored = get()?;
        }
        let took = per_operation(began, reads);
        ensure!(stored.is_verified(), "the checkpoint has no checksum");
        let found = memchr::memmem::find(stored.body(), &self.bytes);
        ensure!(found.is_some(), "the checkpoint is another one");
        Ok(took)
    }

    /// Reads the checkpoint `reads` times as raw JSON through the typed store, and returns microseconds per read.
    fn typed(&self, reads: usize) -> Result<f64> {
        let checkpoints = store::job(&self.storage)?.checkpoints();
        let mut latest = checkpoints.latest_raw(Phase::Map)?;
        let began = Instant::now();
        for _ in 0..reads {
            latest = checkpoints.latest_raw(Phase::Map)?;
        }
        let took = per_operation(began, reads);
        let latest = latest.context("no checkpoint")?;
        ensure!(
            latest.data.get().as_bytes() == self.bytes,
            "the checkpoint is another one"
        );
        Ok(took)
    }
}

fn plan(lab: &Lab) -> Result<Plan> {
    let (many, few) = (lab.of(5_000), lab.of(200));
    let work = |cached: bool, reads: usize, typed: bool| {
        let bench = lab.bench();
        move |turn: Turn| {
            let folder = bench.folder()?;
            let mut config = store::config(&folder.path().join("root"), false);
            config.enable_cache = cached;
            let saved = Saved::new(Storage::with_config(config)?, turn.seed)?;
            if typed {
                saved.typed(reads)
            } else {
                saved.reads(reads)
            }
        }
    };
    Ok(Plan::Measure(vec![
        Contestant::ours(work(true, many, false)),
        Contestant::new(Role::Against, "uncached", work(false, few, false)),
        Contestant::new(Role::Variant, "latest_raw, cached", work(true, few, true)),
        Contestant::new(Role::Variant, "latest_raw, uncached", work(false, few, true)),
    ]))
}
