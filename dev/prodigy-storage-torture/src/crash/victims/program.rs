//! Runs a victim, a program with a fault: `prodigy-storage-torture victim FAULT FOLDER` stores lines from its input.
//!
//! They write the format that the tool reads, and acknowledge as it does, but share no code with it.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use uuid::Uuid;

use super::Expected;

/// The fault of a victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// No fault: events are synced, then acknowledged.
    None,
    /// No fault: a document is synced and renamed, and the folder is synced.
    NoneSaving,
    /// Events are acknowledged when they are written, and never synced.
    NoSync,
    /// Events are acknowledged before they are written and synced.
    Early,
    /// One sync covers three events, of which the first two are acknowledged before it.
    Grouped,
    /// A document is synced and renamed; the folder is not synced.
    RenameUnsynced,
    /// A document is renamed and the folder is synced; the document is not.
    EmptyRename,
    /// A document overwrites the previous one, without a sync.
    Overwrite,
    /// Each event is in a new synced file; the folder is not synced.
    NewFileUnlisted,
}

/// Options of `victim`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The fault of the victim.
    fault: Fault,
    /// The root of the store.
    folder: PathBuf,
}

/// The path of the job below the root, the same as in `power`.
const JOB: &str = "power/lost";

impl Fault {
    /// All faults.
    pub(super) const ALL: [Self; 9] = [
        Self::None,
        Self::NoneSaving,
        Self::NoSync,
        Self::Early,
        Self::Grouped,
        Self::RenameUnsynced,
        Self::EmptyRename,
        Self::Overwrite,
        Self::NewFileUnlisted,
    ];

    /// The name of the fault on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::NoneSaving => "none-saving",
            Self::NoSync => "no-sync",
            Self::Early => "early",
            Self::Grouped => "grouped",
            Self::RenameUnsynced => "rename-unsynced",
            Self::EmptyRename => "empty-rename",
            Self::Overwrite => "overwrite",
            Self::NewFileUnlisted => "new-file-unlisted",
        }
    }

    /// True if the victim saves checkpoints. Otherwise it appends events.
    pub(super) const fn saves(self) -> bool {
        matches!(
            self,
            Self::NoneSaving | Self::RenameUnsynced | Self::EmptyRename | Self::Overwrite
        )
    }

    /// True if the fault is only visible between two calls, so that the victim has to be stopped there.
    pub(super) const fn needs_trace(self) -> bool {
        matches!(self, Self::Early)
    }

    /// The expected verdict of the checks.
    pub(super) const fn expected(self) -> Expected {
        match self {
            Self::None | Self::NoneSaving => Expected::Whole,
            // On the tested file systems, the sync of a new file also stores its name.
            Self::NewFileUnlisted => Expected::Hidden,
            _ => Expected::Caught,
        }
    }
}

/// Stores each line of its input, and prints an acknowledgement for it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    if options.fault.saves() {
        let folder = options.folder.join("state/power/mapreduce/jobs/lost");
        made(&folder)?;
        for number in 1.. {
            let Some(line) = lines.next() else { break };
            save(options.fault, &folder, number, &line?)?;
            println!("saved");
        }
        return Ok(());
    }
    let folder = options.folder.join("events").join(JOB);
    made(&folder)?;
    let mut segment = created(&folder)?;
    // The initial data is synced, so that only later data can be lost.
    segment.sync_all()?;
    synced(&folder)?;
    for number in 1.. {
        let Some(line) = lines.next() else { break };
        let (id, record) = record(&line?);
        match options.fault {
            Fault::Early => {
                println!("{id}");
                segment.write_all(record.as_bytes())?;
                segment.sync_data()?;
            }
            Fault::Grouped => {
                segment.write_all(record.as_bytes())?;
                if number % 3 == 0 {
                    segment.sync_data()?;
                }
                println!("{id}");
            }
            Fault::NewFileUnlisted => {
                segment = created(&folder)?;
                segment.write_all(record.as_bytes())?;
                segment.sync_all()?;
                println!("{id}");
            }
            Fault::None => {
                segment.write_all(record.as_bytes())?;
                segment.sync_data()?;
                println!("{id}");
            }
            _ => {
                segment.write_all(record.as_bytes())?;
                println!("{id}");
            }
        }
    }
    Ok(())
}

/// A record in the on-disk format.
fn record(event: &str) -> (Uuid, String) {
    let id = Uuid::now_v7();
    let time = jiff::Timestamp::now();
    let body = format!(r#"{{"id":"{id}","timestamp":"{time}","event":{event}"#);
    let crc = crc32c::crc32c(body.as_bytes());
    (id, format!("{body},\"crc\":\"{crc:08x}\"}}\n"))
}

fn save(fault: Fault, folder: &Path, number: u32, state: &str) -> Result<()> {
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S.%9fZ").to_string();
    match fault {
        Fault::Overwrite => {
            let path = folder.join("map-checkpoint-20250101T000000.000000000Z.json");
            if number == 1 {
                written(&path, state)?.sync_all()?;
                synced(folder)?;
            } else {
                let mut file = OpenOptions::new().write(true).open(path)?;
                file.write_all(state.as_bytes())?;
            }
        }
        _ => {
            let new = folder.join(format!(".tmp-{:032x}", u128::from(number)));
            let file = written(&new, state)?;
            if fault != Fault::EmptyRename {
                file.sync_all()?;
            }
            fs::rename(new, folder.join(format!("map-checkpoint-{time}.json")))?;
            if fault != Fault::RenameUnsynced {
                synced(folder)?;
            }
        }
    }
    Ok(())
}

fn written(path: &Path, text: &str) -> Result<File> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

/// A new segment, named after the current time.
fn created(folder: &Path) -> Result<File> {
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S.%9fZ").to_string();
    written(&folder.join(format!("events-{time}.jsonl")), "")
}

/// Creates a folder and its parents durably.
fn made(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for folder in folder.ancestors().take(7) {
        synced(folder)?;
    }
    Ok(())
}

fn synced(folder: &Path) -> Result<()> {
    Ok(File::open(folder)?.sync_all()?)
}
