//! Short writes and reads: every call handles only a part of its buffer.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::super::pool;
use super::super::scenario;
use super::super::section::{Lab, Tally};
use crate::project::show;
use crate::tool::finish;

/// Wraps calls of the C library so that each does half of the requested work; prints the number of such calls at the
/// end.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static long shortened;

static size_t half(size_t n) {
    if (n < 2) return n;
    __atomic_add_fetch(&shortened, 1, __ATOMIC_RELAXED);
    return n / 2;
}

ssize_t write(int fd, const void *from, size_t n) { return syscall(SYS_write, fd, from, half(n)); }
ssize_t read(int fd, void *to, size_t n) { return syscall(SYS_read, fd, to, half(n)); }
ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at) {
    return syscall(SYS_pwrite64, fd, from, half(n), at);
}
ssize_t pread64(int fd, void *to, size_t n, off64_t at) {
    return syscall(SYS_pread64, fd, to, half(n), at);
}

__attribute__((destructor)) static void tell(void) {
    const char *path = getenv("SHORTENED");
    if (!path) return;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0) return;
    dprintf(fd, "%ld\n", shortened);
    close(fd);
}
"#;

/// Runs every scenario with a tool whose reads and writes are all short.
pub(super) fn run(lab: &Lab<'_>, tally: &mut Tally) -> Result<()> {
    let folder = lab.folder("short")?;
    let (source, shim) = (folder.join("shim.c"), folder.join("shim.so"));
    std::fs::write(&source, SHIM)?;
    let mut compile = Command::new("cc");
    compile
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&shim)
        .arg(&source);
    match compile.output() {
        Ok(output) => ensure!(
            output.status.success(),
            "`{}`: {}",
            show(&compile),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => {
            tally.skip(format!("short writes and reads: cc can't be started: {error}"));
            return Ok(());
        }
    }
    let scenarios: Vec<_> = scenario::all().enumerate().collect();
    let counts = pool::each(&scenarios, |(number, scenario)| {
        let folder = lab.folder(&format!("short/{number:02}"))?;
        let prepared = scenario.prepared(lab, &folder)?;
        let trial = prepared.trial("short")?;
        let told = folder.join("told");
        let mut command = trial.command();
        command.env("LD_PRELOAD", &shim).env("SHORTENED", &told);
        let place = || format!("scenario `{}`", scenario.name);
        let answer = finish(command, &trial.act.input)?
            .expect_code(0)
            .with_context(place)?;
        trial.check(&answer).with_context(place)?;
        let told = std::fs::read_to_string(&told).with_context(place)?;
        Ok(told
            .lines()
            .filter_map(|line| line.parse::<u64>().ok())
            .sum::<u64>())
    })?;
    let shortened: u64 = counts.iter().sum();
    ensure!(
        counts.iter().all(|count| *count > 0),
        "the C library was not asked"
    );
    tally.add(
        "writes and reads that did half of what they were asked for",
        shortened,
    );
    Ok(())
}
