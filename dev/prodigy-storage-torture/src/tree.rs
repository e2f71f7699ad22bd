//! Folders as a person sees them.

use std::fmt::Write;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// All files below a folder, sorted; none if it is not there.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in entries(folder)? {
        if path.symlink_metadata()?.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// A folder drawn as a tree, with sizes; of some folders only their name.
pub(crate) fn draw_but(folder: &Path, closed: &dyn Fn(&Path) -> bool) -> Result<String> {
    let mut text = String::new();
    branch(folder, "", closed, &mut text)?;
    Ok(text)
}

fn branch(folder: &Path, indent: &str, closed: &dyn Fn(&Path) -> bool, text: &mut String) -> Result<()> {
    let paths = entries(folder)?;
    let last = paths.len().saturating_sub(1);
    for (number, path) in paths.iter().enumerate() {
        let (twig, below) = if number == last {
            ("└── ", "    ")
        } else {
            ("├── ", "│   ")
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let about = path.symlink_metadata()?;
        if about.is_dir() {
            writeln!(text, "{indent}{twig}{name}/")?;
            if !closed(path) {
                branch(path, &format!("{indent}{below}"), closed, text)?;
            }
        } else {
            writeln!(text, "{indent}{twig}{name}  ({})", size(about.len()))?;
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listing = match std::fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("can't list {}", folder.display())),
    };
    let mut paths = listing
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Bytes, rounded for a person.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes.div_ceil(1024 * 1024)),
    }
}

#[cfg(test)]
mod tests {
    use super::{draw_but, files};

    #[test]
    fn draws_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/b/c"), "12345").unwrap();
        std::fs::write(folder.path().join("d"), "").unwrap();
        let drawn = draw_but(folder.path(), &|_| false).unwrap();
        assert_eq!(drawn, "├── a/\n│   └── b/\n│       └── c  (5 B)\n└── d  (0 B)\n");
        let drawn = draw_but(folder.path(), &|path| path.ends_with("b")).unwrap();
        assert_eq!(drawn, "├── a/\n│   └── b/\n└── d  (0 B)\n");
        assert_eq!(files(folder.path()).unwrap().len(), 2);
        assert_eq!(files(&folder.path().join("absent")).unwrap().len(), 0);
    }
}
