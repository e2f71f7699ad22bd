//! Checks of checkpoints: a large one is returned unchanged, and a damaged one is skipped.

use anyhow::{Context, Result, bail, ensure};

use super::{Bench, Seen};
use crate::input::same_value;
use crate::tree;

/// Saves two checkpoints, flips a byte of the newer one, and reads again.
pub(super) fn checkpoint(bench: &Bench) -> Result<Seen> {
    let tool = bench.tool("checkpoint")?;
    let address = ["--repo", "shop", "--job", "big", "--phase", "map"];
    let save = |state: &[u8]| tool.done(["checkpoint", "save"].iter().chain(&address), state);
    let show = |more: &[&str]| {
        tool.run(
            ["checkpoint", "show", "--payload"]
                .iter()
                .chain(&address)
                .chain(more),
            b"",
        )
    };
    let before = br#"{"done":0}"#;
    save(before)?;
    save(&bench.document)?;
    let shown = show(&[])?.expect_code(0)?;
    same_value("checkpoint", &bench.document, shown.stdout.trim_ascii_end())?;

    let mut found = Vec::new();
    for path in tree::files(&tool.base().join("state"))? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with("map-checkpoint-") {
            found.push(path);
        }
    }
    let newest = found.iter().max().context("no checkpoint lies in state/")?;
    ensure!(
        found.len() == 2,
        "{} checkpoints lie there, two were saved",
        found.len()
    );
    let mut bytes = std::fs::read(newest)?;
    let middle = bytes.len() / 2;
    let Some(byte) = bytes.get_mut(middle) else {
        bail!("{} is empty", newest.display())
    };
    *byte ^= 0b10;
    std::fs::write(newest, &bytes)?;

    let fallback = show(&[])?.expect_code(0)?;
    same_value("the checkpoint before", before, fallback.stdout.trim_ascii_end())?;
    let name = newest.file_name().unwrap_or_default().to_string_lossy();
    if !fallback.stderr.contains(&*name) {
        return Err(fallback.unexpected(&format!("a warning that names {name}")));
    }
    show(&["--strict"])?.expect_code(5)?;
    ensure!(newest.is_file(), "a reader has moved the damaged checkpoint");
    Ok(Seen::Holds(format!(
        "{} bytes back as the same value; with a flipped byte the one before it, with a warning (5 with --strict)",
        bench.document.len()
    )))
}
