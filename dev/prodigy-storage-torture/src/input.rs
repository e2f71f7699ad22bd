//! Real input: a file of JSON lines.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use uuid::Uuid;

use crate::project::Project;

/// JSON values, one per line, in the order of the file.
#[derive(Debug)]
pub(crate) struct Input {
    path: PathBuf,
    lines: Vec<String>,
}

impl Input {
    /// Reads the lines of a file; by default, of the file in the project.
    pub(crate) fn read(project: &Project, path: Option<&Path>) -> Result<Self> {
        let path = path.map_or_else(
            || project.path("crates/prodigy-storage/examples/demo/commits.jsonl"),
            Path::to_owned,
        );
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
        let mut lines = Vec::new();
        for (number, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let place = || format!("{} line {}: not a JSON value", path.display(), number + 1);
            let _: serde::de::IgnoredAny = serde_json::from_str(line).with_context(place)?;
            lines.push(line.to_owned());
        }
        ensure!(
            lines.len() >= 100,
            "{} has {} values, too few to show anything",
            path.display(),
            lines.len()
        );
        Ok(Self { path, lines })
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The lines, without their ends.
    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The number of positions whose lines have at least `bytes` bytes together. It is a multiple of the number of
    /// lines, so that each line is used.
    pub(crate) fn positions_for(&self, bytes: usize) -> usize {
        let whole: usize = self.lines.iter().map(String::len).sum();
        self.lines.len() * bytes.div_ceil(whole.max(1)).max(1)
    }

    /// The line at a position. Positions after the last line begin again with the first.
    pub(crate) fn at(&self, position: usize) -> &str {
        self.lines
            .get(position % self.lines.len().max(1))
            .map_or("null", String::as_str)
    }
}

/// All lines as one text.
pub(crate) fn joined<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines {
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }
    text
}

/// An input line for `events append --with-ids`.
pub(crate) fn with_id(id: Uuid, event: &str) -> String {
    format!(r#"{{"id":"{id}","event":{event}}}"#)
}

/// Fails unless two texts are the same JSON value.
pub(crate) fn same_value(place: &str, sent: &[u8], found: &[u8]) -> Result<()> {
    if sent == found {
        return Ok(());
    }
    let value = |text: &[u8]| {
        serde_json::from_slice::<Value>(text).with_context(|| format!("{place}: no JSON value"))
    };
    if value(sent)? == value(found)? {
        return Ok(());
    }
    let short = |text: &[u8]| {
        String::from_utf8_lossy(text)
            .chars()
            .take(120)
            .collect::<String>()
    };
    bail!("{place}: sent {} .. but found {} ..", short(sent), short(found))
}
