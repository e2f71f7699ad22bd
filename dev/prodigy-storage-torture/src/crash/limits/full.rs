//! Checks a disk that is filled and freed several times while one handle stays open.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::super::dialogue::Dialogue;
use super::super::scenario::{JOB, REPO};
use super::super::section::{Lab, Tally};
use super::mount::{Kind, Mount};
use crate::input::same_value;
use crate::segment;
use crate::tool::Tool;

/// The number of times that the disk is filled and freed.
const ROUNDS: usize = 4;
/// The number of events that are appended before each filling of the disk.
const EVENTS: usize = 5;
/// The disk has to be full before this number of events is stored.
const MOST: usize = 400;

/// Runs the cases on tmpfs and on ext4.
pub(super) fn run(lab: &Lab<'_>, tally: &mut Tally) -> Result<()> {
    for (name, kind) in [("tmpfs", Kind::Memory), ("ext4", Kind::Ext4)] {
        let folder = lab.folder(&format!("full-{name}"))?;
        match Mount::make(kind, &folder) {
            Ok(mount) => one(lab, &folder, &mount, tally).with_context(|| format!("a full {name}"))?,
            Err(error) => tally.skip(format!("a full {name}: {error:#}")),
        }
    }
    Ok(())
}

fn one(lab: &Lab<'_>, folder: &Path, mount: &Mount, tally: &mut Tally) -> Result<()> {
    let tool = Tool::new(lab.binary, folder)?
        .over(mount.point().join("store"))
        .with("PRODIGY__STORAGE__RETRY_POLICY__INITIAL_DELAY", "1ms");
    let ballast = mount.point().join("ballast");
    let mut handle = Dialogue::start(tool.command_of(lab.served))?;
    let mut stored: HashMap<String, usize> = HashMap::new();
    let (mut next, mut refused) = (0, 0_usize);
    for round in 0..ROUNDS {
        for _ in 0..EVENTS {
            let answer = handle.ask(&append(lab, next))?;
            let id = answer
                .strip_prefix("stored ")
                .with_context(|| format!("round {round}: {answer}"))?;
            stored.insert(id.to_owned(), next);
            next += 1;
        }
        fill(&ballast)?;
        // The last block of the full disk still has room for some events, so it appends until an event is refused.
        let full = loop {
            let answer = handle.ask(&append(lab, next))?;
            match answer.strip_prefix("stored ") {
                Some(id) => stored.insert(id.to_owned(), next),
                None => break answer,
            };
            next += 1;
            ensure!(stored.len() < MOST, "the disk does not fill");
        };
        must_report_full(&full)?;
        refused += 1;
        // The partial line was removed, and every line of every segment is complete.
        segment::check(tool.base(), REPO, JOB).context("after a refused event")?;
        let item = format!(
            r#"push {{"item_id":"item-{round}","item_data":{}}}"#,
            lab.input.at(next)
        );
        let big = format!("save {:?}", "x".repeat(16 << 10));
        for request in [&big, &item] {
            let answer = handle.ask(request)?;
            if answer.starts_with("failed") {
                must_report_full(&answer)?;
                refused += 1;
            }
        }
        std::fs::remove_file(&ballast)?;
        // After space is freed, the same handle stores the refused data.
        for request in [&big, &item] {
            let answer = handle.ask(request)?;
            ensure!(
                answer.starts_with("stored"),
                "round {round}, with space again: {answer}"
            );
        }
    }
    handle.end()?;
    let cat = tool
        .run(["events", "cat", "--repo", REPO, "--job", JOB], b"")?
        .expect_code(0)?;
    let mut read = 0;
    for line in cat.lines() {
        let record = segment::record(line)?;
        let position = stored.get(&record.id.to_string());
        let position = position.with_context(|| format!("{} was refused, and is read", record.id))?;
        same_value(
            "event",
            lab.input.at(*position).as_bytes(),
            record.event.get().as_bytes(),
        )?;
        read += 1;
    }
    ensure!(
        read == stored.len(),
        "{read} of {} acknowledged events are read",
        stored.len()
    );
    let segments = segment::list(tool.base(), REPO, JOB)?.len();
    ensure!(segments == 1, "the handle went on in {segments} segments");
    let items = tool
        .run(["--json", "dlq", "list", "--repo", REPO, "--job", JOB], b"")?
        .expect_code(0)?;
    ensure!(
        items.lines().count() == ROUNDS,
        "{} items are listed",
        items.lines().count()
    );
    cleaned(&tool, mount, &ballast)?;
    tally.add("full disks that a clean freed", 1_u64);
    tally.add(
        "disks that were full and had space again, under one handle",
        ROUNDS,
    );
    tally.add("writes that a full disk refused", refused);
    Ok(())
}

/// Cleans the full disk: the removal of the old job frees space.
fn cleaned(tool: &Tool, mount: &Mount, ballast: &Path) -> Result<()> {
    let young = ["events", "append", "--repo", REPO, "--job", "young"];
    tool.run(young, b"1\n")?.expect_code(0)?;
    fill(ballast)?;
    // A second file fills the space that the first one left.
    fill(&mount.point().join("more"))?;
    let clean = [
        "clean",
        "--yes",
        "--idle-jobs",
        "1ns",
        "--repo",
        REPO,
        "--job",
        JOB,
    ];
    let freed = tool.run(clean, b"")?.expect_code(0)?;
    ensure!(freed.stderr.contains("removed "), "{}", freed.stderr);
    tool.run(["job", "show", JOB, "--repo", REPO], b"")?
        .expect_code(4)?;
    tool.run(young, b"2\n")?.expect_code(0)?;
    tool.run(["clean", "--log"], b"")?.expect_code(0)?;
    std::fs::remove_file(ballast)?;
    Ok(())
}

fn append(lab: &Lab<'_>, position: usize) -> String {
    format!("append {}", lab.input.at(position))
}

/// Fails unless the message says that the disk is full, and how to find what uses the space.
fn must_report_full(answer: &str) -> Result<()> {
    for words in [
        "failed DiskFull",
        "disk space full",
        " are free",
        "used by area: ",
        "events ",
    ] {
        ensure!(answer.contains(words), "it does not say {words:?}: {answer}");
    }
    Ok(())
}

/// Writes a file until no space is left.
fn fill(path: &Path) -> Result<()> {
    let mut file = File::create(path)?;
    let mut block = 64 << 10;
    while block > 0 {
        match file.write(&vec![0; block]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => block /= 2,
            Err(error) => bail!("can't fill the disk: {error}"),
        }
    }
    // A failed sync is ignored: the full disk may not store all of the ballast.
    let _ = file.sync_all();
    Ok(())
}
