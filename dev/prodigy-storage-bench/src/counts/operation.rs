//! The operations that are counted, each repeated in a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use prodigy_storage::{LeaseToken, SaveOptions, Select, Storage, Taken};
use tempfile::TempDir;

use crate::event::{Event, Source};
use crate::lab::Lab;
use crate::raw::{self, Appender};
use crate::rows::checkpoint::{LARGE, State};
use crate::rows::dlq::{LEASE, TAKEN, letter};
use crate::store;

/// The operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    LimitAppend,
    AppendRelaxed,
    AppendStrict,
    AppendBatch,
    LimitScan,
    Scan,
    CheckpointSave,
    CheckpointLoad,
    DlqPush,
    DlqTake,
    CachedRead,
}

/// The numbers of repetitions in the two runs of an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) few: usize,
    pub(super) many: usize,
}

/// An operation and its repetitions.
#[derive(Debug, clap::Args)]
pub(crate) struct Operation {
    kind: Kind,
    times: usize,
    folder: PathBuf,
    /// Only prepare the folder.
    #[arg(long)]
    prepare: bool,
}

/// A command that repeats an operation, and the folder that it works in.
#[derive(Debug)]
pub(super) struct Prepared {
    command: Command,
    _folder: TempDir,
}

impl Prepared {
    /// Passes the command to a function that runs and counts it. The folder exists until then.
    pub(super) fn run<R>(&self, count: impl FnOnce(&Command) -> Result<R>) -> Result<R> {
        count(&self.command)
    }
}

/// The number of items in the queue when items are taken.
const ITEMS: usize = 10_000;
const BATCH: usize = 100;
const SEED: u64 = 11;

impl Kind {
    pub(super) const ALL: [Self; 11] = [
        Self::LimitAppend,
        Self::AppendRelaxed,
        Self::AppendStrict,
        Self::AppendBatch,
        Self::LimitScan,
        Self::Scan,
        Self::CheckpointSave,
        Self::CheckpointLoad,
        Self::DlqPush,
        Self::DlqTake,
        Self::CachedRead,
    ];

    /// The operation in words, for the table.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::LimitAppend => "the limit: the full line by serde_json + write, an event",
            Self::AppendRelaxed => "append, relaxed, an event",
            Self::AppendStrict => "append, strict, an event",
            Self::AppendBatch => "append, relaxed, a batch of 100",
            Self::LimitScan => "the limit: read + crc + serde_json typed, an event",
            Self::Scan => "scan, typed, an event",
            Self::CheckpointSave => "checkpoint save, 1 MB, strict",
            Self::CheckpointLoad => "load of the latest of 1 MB, typed",
            Self::DlqPush => "DLQ push of 2 KB, strict",
            Self::DlqTake => "DLQ take of 10 at 10,000 items",
            Self::CachedRead => "cached read of 1 MB, revision checked",
        }
    }

    pub(super) const fn size(self) -> Size {
        let (few, many) = match self {
            Self::LimitAppend | Self::AppendRelaxed | Self::LimitScan | Self::Scan => (2_000, 12_000),
            Self::AppendStrict | Self::DlqPush => (200, 1_200),
            Self::AppendBatch => (20, 120),
            Self::CheckpointSave | Self::CheckpointLoad => (3, 13),
            Self::DlqTake => (20, 120),
            Self::CachedRead => (10, 1_010),
        };
        Size { few, many }
    }

    /// A command that repeats the operation `times` times, in a prepared folder.
    pub(super) fn prepared(self, lab: &Lab, times: usize) -> Result<Prepared> {
        let folder = lab.bench().folder()?;
        self.prepare(folder.path(), times)?;
        let name = clap::ValueEnum::to_possible_value(&self).context("an operation without a name")?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("operation")
            .arg(name.get_name())
            .arg(times.to_string())
            .arg(folder.path());
        Ok(Prepared {
            command,
            _folder: folder,
        })
    }

    fn prepare(self, folder: &Path, times: usize) -> Result<()> {
        let mut source = Source::new(SEED);
        match self {
            Self::Scan => {
                let storage = store::open(folder, false)?;
                let mut batch = prodigy_storage::Batch::new();
                for n in 0..times {
                    batch.push(source.event(n))?;
                }
                store::job(&storage)?.events().append_prepared(&mut batch, None)?;
            }
            Self::LimitScan => raw::write_buffered(&folder.join("log"), &mut source, 0..times)?,
            Self::CheckpointLoad | Self::CachedRead => {
                let storage = store::open(folder, false)?;
                let checkpoints = store::job(&storage)?.checkpoints();
                checkpoints.save_map(&State::new(SEED, 0, LARGE), SaveOptions::default())?;
            }
            Self::DlqTake => {
                let storage = store::open(folder, false)?;
                let letters = (0..ITEMS).map(|n| letter(SEED, n)).collect::<Result<Vec<_>>>()?;
                store::job(&storage)?.dlq().push_batch(letters)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Operation {
    /// Runs the operation.
    pub(crate) fn run(&self) -> Result<()> {
        let (folder, times) = (self.folder.as_path(), self.times);
        if self.prepare {
            return self.kind.prepare(folder, times);
        }
        let mut source = Source::new(SEED);
        match self.kind {
            Kind::LimitAppend => {
                let mut file = Appender::open(&folder.join("log"), false)?;
                for n in 0..times {
                    file.append(n, source.event(n))?;
                }
            }
            Kind::AppendRelaxed | Kind::AppendStrict => {
                let storage = store::open(folder, self.kind == Kind::AppendStrict)?;
                let log = store::job(&storage)?.events();
                for n in 0..times {
                    log.append(source.event(n))?;
                }
            }
            Kind::AppendBatch => {
                let storage = store::open(folder, false)?;
                let log = store::job(&storage)?.events();
                let mut batch = prodigy_storage::Batch::new();
                for start in (0..times * BATCH).step_by(BATCH) {
                    batch.clear();
                    for n in start..start + BATCH {
                        batch.push(source.event(n))?;
                    }
                    log.append_prepared(&mut batch, None)?;
                }
            }
            Kind::LimitScan => {
                let count = raw::scan(&folder.join("log"), |_| ())?;
                ensure!(count == times, "{count} of {times} events");
            }
            Kind::Scan => {
                let storage = store::open(folder, false)?;
                let mut count = 0;
                for event in store::job(&storage)?.events().read::<Event>()? {
                    count += usize::from(event?.verified);
                }
                ensure!(count == times, "{count} of {times} events");
            }
            Kind::CheckpointSave => {
                let storage = store::open(folder, true)?;
                let checkpoints = store::job(&storage)?.checkpoints();
                let state = State::new(SEED, 0, LARGE);
                for _ in 0..times {
                    checkpoints.save_map(&state, SaveOptions::default())?;
                }
            }
            Kind::CheckpointLoad => {
                let storage = store::open(folder, false)?;
                let checkpoints = store::job(&storage)?.checkpoints();
                for _ in 0..times {
                    checkpoints.latest_map::<State>()?.context("no checkpoint")?;
                }
            }
            Kind::DlqPush => {
                let storage = store::open(folder, true)?;
                let dlq = store::job(&storage)?.dlq();
                let mut item = letter(SEED, 0)?;
                for n in 0..times {
                    item.item_id = prodigy_storage::ItemId::new(format!("item-{n:07}"))?;
                    dlq.push(&item)?;
                }
            }
            Kind::DlqTake => {
                let storage = store::open(folder, true)?;
                let dlq = store::job(&storage)?.dlq();
                let mut tokens: Vec<LeaseToken> = Vec::new();
                for _ in 0..times {
                    let taken = dlq.take(&Select::eligible(), TAKEN, LEASE)?;
                    taken.iter().for_each(Taken::keep);
                    tokens.extend(taken.iter().map(|taken| taken.token().clone()));
                }
                ensure!(tokens.len() == times * TAKEN, "{} items were taken", tokens.len());
            }
            Kind::CachedRead => cached_reads(folder, times)?,
        }
        Ok(())
    }
}

fn cached_reads(folder: &Path, times: usize) -> Result<()> {
    let mut config = store::config(&folder.join("root"), false);
    config.enable_cache = true;
    let storage = Storage::with_config(config)?;
    let checkpoints = store::job(&storage)?.checkpoints();
    let listed = checkpoints.list().all()?;
    let id = &listed.first().context("no checkpoint")?.id;
    for _ in 0..times {
        let stored = checkpoints.stored(id)?;
        ensure!(stored.is_some_and(|stored| stored.is_verified()), "no checkpoint");
    }
    Ok(())
}
