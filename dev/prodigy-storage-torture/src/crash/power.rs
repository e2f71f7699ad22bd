//! Power loss on real file systems: acknowledged data exists when they are mounted again.
//!
//! The tool works on a file system in an image file. Its process is killed at a system call or at a random moment, or
//! stays alive. The file system is then shut down without flushing its log, unmounted and mounted again, which drops
//! all data that was not synced. Then another process checks the acknowledged data, continues, and checks again.
//!
//! This does not detect a missing flush of the disk's own cache, since the image is in memory and on the host's disk.
//! Nor does it detect some missing syncs of folders, which these file systems make up for. The simulated disk detects
//! both.

pub(super) mod cut;
pub(super) mod death;
pub(super) mod disk;
mod letters;
pub(super) mod log;
pub(super) mod lost;
pub(super) mod process;
pub(super) mod scene;
pub(super) mod states;
mod tokens;
mod walk;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::section::{Lab, Tally};
use super::strace;
use crate::tool::Tool;
use cut::Cutter;
use death::Death;
use disk::{Disk, Kind};
use letters::Letters;
use log::Log;
use scene::Scene;
use states::States;
use tokens::Tokens;
use walk::{Call, Walk};

/// The number of power losses per file system, in the short and in the full form.
const LOSSES: (u32, u32) = (14, 180);
/// The number of losses before a store is replaced by a new one.
const LIFE: u32 = 24;
/// After this number of losses all stores are checked, not only the one that was written to.
const ROUND: u32 = 6;
/// The longest time before a random kill, in microseconds.
const LONGEST: u64 = 60_000;

/// Runs all power losses.
pub(super) fn run(lab: &Lab<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    let disks = disks(lab, &mut tally)?;
    let traces = traces();
    if !traces && !disks.is_empty() {
        tally.skip("stops at a system call need strace; processes are stopped at random moments only");
    }
    for (kind, _) in &disks {
        tally.add(losses_on(kind.name()), 0_u32);
    }
    for (kind, mut disk) in disks {
        let name = kind.name();
        let mut bench = Bench::new(lab, &mut disk, name, traces)?;
        bench.run().with_context(|| format!("on {name}"))?;
        bench.count(name, &mut tally);
    }
    Ok(tally)
}

/// True if processes can be traced on this machine.
pub(super) fn traces() -> bool {
    strace::lacking().is_none()
}

/// One disk for each kind of file system that this machine supports.
pub(super) fn disks(lab: &Lab<'_>, tally: &mut Tally) -> Result<Vec<(Kind, Disk)>> {
    let cutter = match Cutter::make(lab.scratch) {
        Ok(cutter) => cutter,
        Err(error) => {
            tally.skip(format!("no loss of power: {error:#}"));
            return Ok(Vec::new());
        }
    };
    let mut disks = Vec::new();
    for kind in Kind::ALL {
        let mut disk = match Disk::make(kind, lab.scratch, &cutter) {
            Ok(disk) => disk,
            Err(error) => {
                tally.skip(format!("no loss of power on {}: {error:#}", kind.name()));
                continue;
            }
        };
        // Tries a power loss before the disk has any data, to find out whether this machine supports it.
        if let Err(error) = disk.cut() {
            tally.skip(format!("no loss of power on {}: {error:#}", kind.name()));
            continue;
        }
        disk.restore()?;
        disks.push((kind, disk));
    }
    Ok(disks)
}

/// The tool with a store on a disk, with small compressed segments.
pub(super) fn tool(lab: &Lab<'_>, store: PathBuf) -> Result<Tool> {
    let tool = Tool::new(lab.binary, lab.scratch)?
        .over(store)
        .with("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_FILE_SIZE", "12KiB")
        .with("PRODIGY__STORAGE__BACKEND_CONFIG__ENABLE_COMPRESSION", "true");
    Ok(tool)
}

/// A disk, and the scenes on it: each stores one kind of data.
struct Bench<'a> {
    lab: &'a Lab<'a>,
    disk: &'a mut Disk,
    random: fastrand::Rng,
    /// Each scene with its name, and the system calls at which its process is stopped.
    scenes: Vec<(&'static str, Box<dyn Scene + 'a>, Walk)>,
    stores: u32,
    losses: u32,
    at_calls: u64,
    alive: u64,
    crowds: u64,
    checked: u64,
}

/// The names of the scenes, which take turns. Each stores one kind of data.
const SCENES: [&str; 5] = ["events", "events again", "checkpoints", "dead letters", "tokens"];

impl<'a> Bench<'a> {
    fn new(lab: &'a Lab<'a>, disk: &'a mut Disk, name: &str, traces: bool) -> Result<Self> {
        let mut random = lab.random(name);
        let mut scenes = Vec::new();
        for what in SCENES {
            // The rehearsal, which finds the system calls, runs outside of the disk, so that the disk has no data
            // yet.
            let mut rehearsed = scene(
                what,
                lab,
                lab.scratch.join(format!("rehearsal-{name}-{}", what.len())),
            )?;
            let walk = if traces {
                Walk::over(rehearsed.as_mut(), lab.scratch, &mut random)?
            } else {
                Walk::none()
            };
            scenes.push((what, scene(what, lab, store(disk.point(), 0))?, walk));
        }
        Ok(Self {
            lab,
            disk,
            random,
            scenes,
            stores: 1,
            losses: 0,
            at_calls: 0,
            alive: 0,
            crowds: 0,
            checked: 0,
        })
    }

    fn run(&mut self) -> Result<()> {
        let losses = if self.lab.quick { LOSSES.0 } else { LOSSES.1 };
        let launch = if self.lab.quick { ROUND } else { LIFE };
        for number in 0..losses {
            if number > 0 && number % launch == 0 {
                self.replace_stores()?;
            }
            let lost = if number % ROUND == ROUND - 2 {
                self.crowd()
            } else {
                self.loss(number)
            };
            lost.with_context(|| format!("loss of power {number}"))?;
            if number % ROUND == ROUND - 1 {
                for (what, scene, _) in &self.scenes {
                    let checked = scene
                        .check()
                        .with_context(|| format!("{what}, looked at in passing"))?;
                    self.checked += checked as u64;
                }
            }
        }
        Ok(())
    }

    /// Runs a process, cuts the power, and checks the data of its scene.
    fn loss(&mut self, number: u32) -> Result<()> {
        let turn = number as usize % self.scenes.len();
        let kind = number / 2 % 4;
        let Some((what, scene, walk)) = self.scenes.get_mut(turn) else {
            return Ok(());
        };
        let time = Duration::from_micros(self.random.u64(..LONGEST));
        let death = match (kind, walk.next()) {
            (0..2, Some(Call { name, number })) => Death::Call { name, number },
            (2, _) => Death::Powerless(time),
            _ => Death::After(time),
        };
        match death {
            Death::Call { .. } => self.at_calls += 1,
            Death::Powerless(_) => self.alive += 1,
            Death::After(_) | Death::Lines(_) | Death::AtItsEnd => {}
        }
        self.losses += 1;
        let context = || format!("{what}, stopped by {death:?}");
        let launch = scene.begin(&mut self.random).with_context(context)?;
        let ended = death::lose(launch, &death, self.disk).with_context(context)?;
        scene.end(&ended, &death).with_context(context)?;
        self.checked += check_and_continue(scene.as_mut()).with_context(context)?;
        Ok(())
    }

    /// Runs one process of each scene at the same time, cuts the power, and checks the data of all scenes.
    fn crowd(&mut self) -> Result<()> {
        let time = Duration::from_micros(self.random.u64(..LONGEST));
        let death = Death::Powerless(time);
        let random = &mut self.random;
        let launches = self.scenes.iter_mut().map(|(_, scene, _)| scene.begin(random));
        let launches = launches.collect::<Result<Vec<_>>>()?;
        let all = death::lose_all(launches, time, self.disk)?;
        self.losses += 1;
        self.alive += 1;
        self.crowds += 1;
        for ((what, scene, _), ended) in self.scenes.iter_mut().zip(&all) {
            let context = || format!("{what}, of all at once, which lost the power after {time:?}");
            scene.end(ended, &death).with_context(context)?;
        }
        for (what, scene, _) in &mut self.scenes {
            let checked = check_and_continue(scene.as_mut());
            self.checked += checked.with_context(|| format!("{what}, of all at once"))?;
        }
        Ok(())
    }

    /// Replaces the stores by new ones, so that the first use of a store is tested often.
    fn replace_stores(&mut self) -> Result<()> {
        std::fs::remove_dir_all(store(self.disk.point(), self.stores - 1))?;
        for (what, scene, _) in &mut self.scenes {
            *scene = self::scene(what, self.lab, store(self.disk.point(), self.stores))?;
        }
        self.stores += 1;
        Ok(())
    }

    fn count(&self, name: &str, tally: &mut Tally) {
        tally.add(losses_on(name), self.losses);
        tally.add(
            "of these with a process stopped at its n-th system call",
            self.at_calls,
        );
        tally.add("of these while the process lived on", self.alive);
        tally.add(
            "of these with all kinds of processes at work at once",
            self.crowds,
        );
        tally.add("first uses of a store that ended so", self.stores);
        tally.add("acknowledged things looked for, each there", self.checked);
    }
}

fn losses_on(name: &str) -> String {
    format!("losses of power on {name}")
}

/// Checks the data of a scene, continues with another process, and checks again.
fn check_and_continue(scene: &mut dyn Scene) -> Result<u64> {
    let before = scene.check()?;
    scene.continue_work().context("while it continued")?;
    let after = scene.check().context("after it continued")?;
    Ok((before + after) as u64)
}

fn store(point: &Path, number: u32) -> PathBuf {
    point.join(format!("store-{number}"))
}

/// Creates the scene with this name, with a store of its own.
pub(super) fn scene<'a>(what: &str, lab: &Lab<'a>, store: PathBuf) -> Result<Box<dyn Scene + 'a>> {
    let tool = tool(lab, store)?;
    Ok(match what {
        "checkpoints" => Box::new(States::new(tool)),
        "dead letters" => Box::new(Letters::new(tool)),
        "tokens" => Box::new(Tokens::new(tool)),
        "events" => Box::new(Log::new(tool, lab.input, "lost")),
        _ => Box::new(Log::new(tool, lab.input, "again")),
    })
}
