//! Processes with different clocks, which are set forward and back: the roles of `many`, with a clock for each process.
//!
//! libfaketime gives a process its clock: a file holds the offset from the true time, and is replaced while the process
//! runs. Clocks that count from the boot are true. Segments are small and compressed, and some processes are stopped
//! for a while. The checks are the same as in `many`: no event is lost, duplicated or out of order, and a follower misses
//! none.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::many::{harness::Harness, play};
use super::section::{Lab, Tally};

/// The duration in the short and in the full form.
const TIMES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// The number of clocks that processes share.
const CLOCKS: usize = 6;
/// The size at which a segment is sealed: small, so that new segments need names often.
const SEGMENT: &str = "12KiB";
/// An hour in milliseconds.
const HOUR: i64 = 3_600_000;
/// The folder where libfaketime keeps shared memory, which remains when a process is killed.
const SHARED_MEMORY: &str = "/dev/shm";

/// The clocks of the processes: libfaketime reads each from a file.
pub(super) struct Clocks {
    preload: String,
    folder: PathBuf,
    seed: u64,
    given: AtomicU64,
    turns: AtomicU64,
}

pub(super) fn run(lab: &Lab<'_>) -> Result<Tally> {
    let Some(preload) = preload() else {
        let mut tally = Tally::default();
        tally.skip("clocks that differ: `faketime` is missing here (Debian: apt-get install faketime)");
        return Ok(tally);
    };
    let clocks = Clocks {
        preload,
        folder: lab.folder("clocks")?,
        seed: lab.seed,
        given: AtomicU64::new(0),
        turns: AtomicU64::new(0),
    };
    for clock in 0..CLOCKS {
        clocks.set(clock, 0)?;
    }
    play(
        Harness::open(lab, SEGMENT, Some(clocks))?,
        lab.time(TIMES.0, TIMES.1),
    )
}

/// The library to preload, which `faketime` itself would use for a program with threads.
fn preload() -> Option<String> {
    let asked = Command::new("faketime")
        .args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"])
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let process = asked.id();
    let answer = asked.wait_with_output().ok()?;
    clean(process);
    let path = String::from_utf8(answer.stdout).ok()?;
    let path = path.trim();
    (answer.status.success() && !path.is_empty()).then(|| path.to_owned())
}

/// Removes the shared memory of a killed process. A process that ended in order has removed it itself.
pub(super) fn clean(process: u32) {
    for name in ["faketime_shm", "sem.faketime_sem"] {
        let _ = std::fs::remove_file(Path::new(SHARED_MEMORY).join(format!("{name}_{process}")));
    }
}

impl Clocks {
    /// Sets up a command so that its process sees one of the clocks.
    pub(super) fn give(&self, command: &mut Command) {
        let clock = self.given.fetch_add(1, Ordering::Relaxed) % CLOCKS as u64;
        command
            .env("LD_PRELOAD", &self.preload)
            .env("FAKETIME_TIMESTAMP_FILE", self.file(clock as usize))
            .env("FAKETIME_NO_CACHE", "1")
            // Mtimes, and clocks that count from the boot, stay true.
            .env("NO_FAKE_STAT", "1")
            .env("DONT_FAKE_MONOTONIC", "1");
    }

    /// Sets the clocks at random, one after another, while `holds` returns true.
    pub(super) fn set_while(&self, holds: impl Fn() -> bool) -> Result<()> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        while holds() {
            let millis = offset(&mut random);
            self.set(random.usize(..CLOCKS), millis)?;
            self.turns.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(random.u64(5..150)));
        }
        Ok(())
    }

    pub(super) fn count(&self, tally: &mut Tally) {
        tally.add("clocks", CLOCKS);
        tally.add("steps of a clock", self.turns.load(Ordering::Relaxed));
    }

    fn file(&self, clock: usize) -> PathBuf {
        self.folder.join(format!("clock-{clock}"))
    }

    /// Sets a clock to `millis` milliseconds after (or, if negative, before) the true time.
    fn set(&self, clock: usize, millis: i64) -> Result<()> {
        let (file, new) = (self.file(clock), self.folder.join("new"));
        let sign = if millis < 0 { '-' } else { '+' };
        let (seconds, rest) = (millis.unsigned_abs() / 1000, millis.unsigned_abs() % 1000);
        std::fs::write(&new, format!("{sign}{seconds}.{rest:03}\n"))
            .and_then(|()| std::fs::rename(&new, &file))
            .with_context(|| format!("can't set {}", file.display()))
    }
}

/// A random offset from the true time, in milliseconds: often small, sometimes hours, seldom a month. It is never an
/// hour or more behind, because such a process would refuse ids of the true time as too far ahead.
fn offset(random: &mut fastrand::Rng) -> i64 {
    let most = match random.u8(..16) {
        0..4 => 0,
        4..10 => 3_000,
        10..15 => 2 * HOUR,
        _ => 30 * 24 * HOUR,
    };
    random.i64(-most.min(HOUR - HOUR / 12)..=most)
}

#[cfg(test)]
mod tests {
    use super::{HOUR, offset};

    #[test]
    fn clocks_go_back_and_forth_by_little_and_by_much() {
        let mut random = fastrand::Rng::with_seed(1);
        let offsets: Vec<i64> = (0..1_000).map(|_| offset(&mut random)).collect();
        let near = |millis: i64| (1..=3_000).contains(&millis.abs());
        assert!(offsets.iter().any(|millis| near(*millis) && *millis < 0));
        assert!(offsets.iter().any(|millis| *millis > HOUR));
        assert!(offsets.iter().any(|millis| *millis < -HOUR / 2));
        assert!(offsets.iter().all(|millis| *millis > -HOUR));
        assert!(offsets.contains(&0));
    }
}
