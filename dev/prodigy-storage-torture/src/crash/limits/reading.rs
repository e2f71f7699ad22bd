//! Checks that existing data can be read from places where nothing can be written.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::super::scenario::{JOB, REPO};
use super::super::section::{Lab, Tally};
use super::super::strace::started_by;
use super::{Lacking, NOBODY, READ_ONLY};
use crate::tool::{Tool, finish};
use crate::tree;

/// Commands that read existing data.
const READS: &[&[&str]] = &[
    &["events", "cat", "--repo", REPO, "--job", JOB],
    &["events", "stats", "--repo", REPO, "--job", JOB],
    &["checkpoint", "show", "--repo", REPO, "--job", JOB],
    &["checkpoint", "list", "--repo", REPO, "--job", JOB],
    &["dlq", "list", "--repo", REPO, "--job", JOB],
    &["lock", "list"],
    &["usage"],
];

/// Runs the commands on a read-only mount, and as a user who may read but not write.
pub(super) fn run(lab: &Lab<'_>, lacking: &Lacking, tally: &mut Tally) -> Result<()> {
    let folder = lab.folder("reading")?;
    let tool = Tool::new(lab.binary, &folder)?.over(folder.join("store"));
    fill(lab, &tool)?;
    let plain = READS
        .iter()
        .map(|read| tool.done(*read, b""))
        .collect::<Result<Vec<_>>>()?;
    let before = tree::files(tool.base())?;
    let mut outers = Vec::new();
    if lacking.unshare.is_none() {
        let mut outer = Command::new("unshare");
        outer.args(["-m", "sh", "-c", READ_ONLY]).arg(tool.base());
        outers.push(outer);
    }
    if lacking.setpriv.is_none() {
        for path in all(tool.base())? {
            let more = if path.is_dir() { 0o055 } else { 0o044 };
            let mode = path.metadata()?.permissions().mode() | more;
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode))?;
        }
        let mut outer = Command::new("setpriv");
        outer.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
        outers.push(outer);
    }
    for outer in outers {
        for (read, wanted) in READS.iter().zip(&plain) {
            let mut again = Command::new(outer.get_program());
            again.args(outer.get_args());
            let answer = finish(started_by(again, &tool.command(*read)), b"")?.expect_code(0)?;
            ensure!(
                answer.stdout == *wanted,
                "`{}` says something else there",
                read.join(" ")
            );
            tally.add("reads where nothing can be written", 1_u64);
        }
    }
    ensure!(
        tree::files(tool.base())? == before,
        "reading has made or removed a file"
    );
    Ok(())
}

fn fill(lab: &Lab<'_>, tool: &Tool) -> Result<()> {
    let events = crate::input::joined((0..9).map(|position| lab.input.at(position)));
    tool.done(["events", "append", "--repo", REPO, "--job", JOB], &events)?;
    let state = lab.input.at(0).as_bytes();
    tool.done(
        [
            "checkpoint",
            "save",
            "--phase",
            "map",
            "--repo",
            REPO,
            "--job",
            JOB,
        ],
        state,
    )?;
    let item = br#"{"item_id":"item","item_data":1}"#;
    tool.done(["dlq", "push", "--repo", REPO, "--job", JOB], item)?;
    tool.done(["lock", "run", "crash/read", "--", "true"], b"")?;
    Ok(())
}

/// A folder and everything below it.
fn all(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![folder.to_owned()];
    for entry in std::fs::read_dir(folder).with_context(|| format!("can't list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(all(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}
