//! The system calls at which processes are stopped, one per process.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::scene::{Launch, Scene};
use crate::tool;

/// Calls that change a disk's contents or state.
const CALLS: &[&str] = &[
    "openat2",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fchmod",
    "renameat",
    "renameat2",
    "unlinkat",
    "mkdirat",
    "flock",
    "close",
];

/// A system call of a process.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) name: String,
    /// The ordinal of the call among those of its name, from 1.
    pub(super) number: u64,
}

/// System calls in random order, repeated endlessly.
#[derive(Debug)]
pub(super) struct Walk {
    calls: Vec<Call>,
    next: usize,
}

impl Walk {
    /// No system calls, for machines on which processes can't be traced.
    pub(super) const fn none() -> Self {
        Self {
            calls: Vec::new(),
            next: 0,
        }
    }

    /// The system calls of a run that is not stopped, at most 40 of each name.
    pub(super) fn over(scene: &mut dyn Scene, folder: &Path, random: &mut fastrand::Rng) -> Result<Self> {
        let Launch { command, input, .. } = scene.rehearse()?;
        let file = folder.join("calls.txt");
        let calls = CALLS.join(",");
        let mut command = super::death::under_strace(&command, &file, &["-e", &format!("trace={calls}")]);
        command.current_dir(folder);
        tool::finish(command, &input)?.expect_code(0)?;
        let mut calls = Vec::new();
        for (name, count) in counted(&std::fs::read_to_string(&file)?) {
            // The number per name is limited, so that frequent calls do not crowd out the others.
            let mut numbers: Vec<u64> = (1..=count).collect();
            random.shuffle(&mut numbers);
            numbers.truncate(40);
            calls.extend(numbers.into_iter().map(|number| Call {
                name: name.to_owned(),
                number,
            }));
        }
        random.shuffle(&mut calls);
        Ok(Self { calls, next: 0 })
    }

    /// The next system call; `None` if the list is empty.
    pub(super) fn next(&mut self) -> Option<Call> {
        let call = self.calls.get(self.next % self.calls.len().max(1)).cloned();
        self.next += 1;
        call
    }
}

/// The number of calls of each name in a trace.
fn counted(trace: &str) -> BTreeMap<&str, u64> {
    let mut counts = BTreeMap::new();
    for line in trace.lines() {
        // `PID  NAME(arguments`; a line `PID <... NAME resumed>` belongs to a call that was counted before.
        let called = line
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.split_once('('));
        if let Some((name, _)) = called {
            *counts.entry(name).or_default() += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn a_call_that_is_interrupted_counts_once() {
        let trace = "7  fsync(3 <unfinished ...>\n8  write(1, \"a(b\", 3) = 3\n7  <... fsync resumed>) = 0\n7  +++ exited with 0 +++\n";
        let counts: Vec<_> = counted(trace).into_iter().collect();
        assert_eq!(counts, [("fsync", 1), ("write", 1)]);
    }
}
