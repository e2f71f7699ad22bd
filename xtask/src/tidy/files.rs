//! Checks the files as text: no path of a developer's machine, no long file.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Findings, TextFile};

/// A source file with more lines is reported as long.
const LONG: usize = 600;
/// Folders that are not checked, because their content is generated.
const MADE: &[&str] = &["target", "demo", ".git"];
/// The file name extensions of text files.
const TEXT: &[&str] = &[
    "rs", "toml", "md", "yml", "yaml", "sh", "json", "jsonl", "txt", "snap", "sql",
];
/// Starts of paths that exist on one machine only.
const MACHINE: &[&str] = &[
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/Us", "ers/"),
    concat!("C:\\", "Users\\"),
    concat!("/home/", "runner/"),
];

/// Every text file of the project except generated ones.
pub(super) fn read_all(root: &Path) -> Result<Vec<TextFile>> {
    let mut texts = Vec::new();
    walk(root, root, &mut texts)?;
    texts.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(texts)
}

fn walk(root: &Path, folder: &Path, texts: &mut Vec<TextFile>) -> Result<()> {
    let shown = folder.display();
    for entry in fs::read_dir(folder).with_context(|| format!("can't list {shown}"))? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let made = folder == root && MADE.iter().any(|name| entry.file_name() == *name);
            if !made {
                walk(root, &path, texts)?;
            }
        } else if kind.is_file() && is_text(&path) {
            let relative = path.strip_prefix(root).unwrap_or(&path);
            let relative = relative.to_string_lossy().replace('\\', "/");
            // A corpus may contain files that are wrong on purpose, even invalid UTF-8.
            let bytes = fs::read(&path).with_context(|| format!("can't read {relative}"))?;
            texts.push(TextFile {
                path: relative,
                text: String::from_utf8_lossy(&bytes).into_owned(),
            });
        }
    }
    Ok(())
}

fn is_text(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.map_or_else(
        || {
            path.parent()
                .and_then(Path::file_name)
                .is_some_and(|folder| folder == ".ci")
        },
        |extension| TEXT.contains(&extension),
    )
}

/// Checks each file.
pub(super) fn check(texts: &[TextFile], findings: &mut Findings) {
    for file in texts {
        let lines = file.text.lines().count();
        if file.is_rust() && lines > LONG {
            findings.notice(
                &file.path,
                format_args!("{lines} lines: more than one noun lives here"),
            );
        }
        for (number, line) in file.text.lines().enumerate() {
            if let Some(start) = MACHINE.iter().find(|start| names(line, start)) {
                let place = format_args!("{}:{}", file.path, number + 1);
                findings.fault(place, format_args!("names a path of one machine (`{start}..`)"));
            }
        }
    }
}

/// True if a path in the line begins with `start`.
fn names(line: &str, start: &str) -> bool {
    line.match_indices(start).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|char| char.is_alphanumeric() || "._-<>{}*".contains(char))
    })
}

#[cfg(test)]
mod tests {
    use super::{MACHINE, names};

    #[test]
    fn only_the_start_of_a_path_counts() {
        for start in MACHINE {
            assert!(names(&format!("see \"{start}x\""), start));
            assert!(!names(&format!("relative{start}x"), start));
        }
    }
}
