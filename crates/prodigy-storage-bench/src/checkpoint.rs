//! Saving and loading checkpoints.

use std::fs::File;
use std::io::Write;
use std::time::Instant;

use prodigy_storage::SaveOptions;
use serde::{Deserialize, Serialize};

use crate::append::store;
use crate::event::Event;
use crate::row::{Row, Scale, per_operation};

pub(crate) fn rows() -> Vec<Row> {
    vec![Row {
        name: "checkpoint save, 1 MB, strict",
        against: "serde_json + temp + fsync + rename + fsync of the folder",
        bar: 1.1,
        ours: save,
        theirs: bare_save,
    }]
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    events: Vec<Event>,
}

fn state(n: usize) -> State {
    State {
        events: (0..5_600).map(|event| Event::new(n * 5_600 + event)).collect(),
    }
}

fn save(scale: &Scale) -> anyhow::Result<f64> {
    let saves = scale.of(200).min(50);
    let folder = tempfile::tempdir()?;
    let (_storage, job) = store(&folder, true)?;
    let checkpoints = job.checkpoints();
    checkpoints.save_map(&state(0), SaveOptions::default())?;
    let states: Vec<State> = (1..=saves).map(state).collect();
    let began = Instant::now();
    for state in &states {
        checkpoints.save_map(state, SaveOptions::default())?;
    }
    let took = per_operation(began, saves);
    let latest = checkpoints.latest_map::<State>()?;
    anyhow::ensure!(
        latest.is_some_and(|latest| latest.data.events.len() == 5_600),
        "the checkpoint is not there"
    );
    Ok(took)
}

fn bare_save(scale: &Scale) -> anyhow::Result<f64> {
    let saves = scale.of(200).min(50);
    let folder = tempfile::tempdir()?;
    let states: Vec<State> = (1..=saves).map(state).collect();
    let began = Instant::now();
    let mut buffer = Vec::new();
    for (n, state) in states.iter().enumerate() {
        buffer.clear();
        serde_json::to_writer(&mut buffer, state)?;
        let temp = folder.path().join(format!(".temp-{n}"));
        let mut file = File::create(&temp)?;
        file.write_all(&buffer)?;
        file.sync_all()?;
        std::fs::rename(&temp, folder.path().join(format!("checkpoint-{n}")))?;
        File::open(folder.path())?.sync_all()?;
    }
    let took = per_operation(began, saves);
    let last: State = serde_json::from_slice(&std::fs::read(
        folder.path().join(format!("checkpoint-{}", saves - 1)),
    )?)?;
    anyhow::ensure!(last.events.len() == 5_600, "the checkpoint is not there");
    Ok(took)
}
