//! Checks of repositories: two with the same folder name are kept apart, and three worktrees of one share their data.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{Bench, Seen, folder};
use crate::git::{git, has_git};
use crate::tool::lines;

/// Appends from each place without naming a repository, then reads from each.
pub(super) fn apart_and_together(bench: &Bench) -> Result<Seen> {
    if !has_git() {
        return Ok(Seen::Skipped("there is no git here".to_owned()));
    }
    let place = folder(bench, "repositories")?;
    let tool = bench.tool("repositories")?;
    let home = tool.home().to_owned();
    let one = repository(&place.join("one/shop"), &home)?;
    let other = repository(&place.join("two/shop"), &home)?;
    let mut of_one = vec![one.clone()];
    for number in 1..=3 {
        let worktree = place.join(format!("elsewhere/tree-{number}"));
        let path = worktree.to_string_lossy().into_owned();
        git(
            &one,
            &home,
            &[
                "worktree",
                "add",
                "--quiet",
                "-b",
                &format!("tree-{number}"),
                &path,
            ],
        )?;
        of_one.push(worktree);
    }
    let append = |at: &Path, text: &str| {
        let arguments = ["events", "append", "--job", "same-name"];
        tool.clone()
            .within(at)
            .done(arguments, format!("{{\"from\":\"{text}\"}}\n").as_bytes())
    };
    for (number, at) in of_one.iter().enumerate() {
        append(at, &format!("one-{number}"))?;
    }
    append(&other, "two")?;
    let cat = |at: &Path| {
        tool.clone()
            .within(at)
            .done(["events", "cat", "--job", "same-name", "--payload"], b"")
    };
    let all = cat(&one)?;
    ensure!(
        lines(&all).count() == of_one.len(),
        "one has {} events of {}",
        lines(&all).count(),
        of_one.len()
    );
    for at in &of_one {
        ensure!(
            cat(at)? == all,
            "{} sees another log than its repository",
            at.display()
        );
    }
    let of_other = cat(&other)?;
    ensure!(
        of_other == b"{\"from\":\"two\"}\n",
        "the other has {}",
        String::from_utf8_lossy(&of_other)
    );
    Ok(Seen::Holds(
        "two repositories named `shop` are apart, three worktrees of one share its log".to_owned(),
    ))
}

/// A repository with one commit.
fn repository(at: &Path, home: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(at).with_context(|| format!("can't make {}", at.display()))?;
    git(at, home, &["init", "--quiet"])?;
    git(
        at,
        home,
        &["commit", "--quiet", "--allow-empty", "--message", "start"],
    )?;
    Ok(at.to_owned())
}
