//! Checks the links of the built pages: the linked file must exist and have the anchor.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::tidy::links::plain;

/// Checks the links of all pages in a folder. Returns the number of links; fails if a link is broken.
pub(super) fn check(book: &Path) -> Result<usize> {
    let mut pages = BTreeMap::new();
    read(book, &mut pages)?;
    let mut links = 0;
    let mut broken = Vec::new();
    for (page, text) in &pages {
        let folder = page.parent().unwrap_or(Path::new(""));
        for target in values(text, "href") {
            if target.contains(':') || target.starts_with("//") {
                continue;
            }
            links += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() {
                page.clone()
            } else {
                plain(&folder.join(file))
            };
            let leads = match pages.get(&path) {
                Some(text) => anchor.is_empty() || values(text, "id").any(|id| id == anchor),
                None => path.exists(),
            };
            if !leads {
                let page = page.strip_prefix(book).unwrap_or(page);
                broken.push(format!("{} links to {target}", page.display()));
            }
        }
    }
    if !broken.is_empty() {
        bail!(
            "{} links of the book lead nowhere:\n{}",
            broken.len(),
            broken.join("\n")
        );
    }
    Ok(links)
}

/// Reads every page of the folder.
fn read(folder: &Path, pages: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read(&path, pages)?;
        } else if path.extension().is_some_and(|extension| extension == "html") {
            let text = fs::read_to_string(&path)?;
            pages.insert(path, text);
        }
    }
    Ok(())
}

/// The values of an attribute in HTML. mdBook writes them in double quotes.
fn values<'t>(text: &'t str, attribute: &str) -> impl Iterator<Item = &'t str> {
    let start = format!(" {attribute}=\"");
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&start)?;
        let (value, after) = after.split_once('"')?;
        rest = after;
        Some(value)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::check;

    #[test]
    fn a_link_needs_its_file_and_its_anchor() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("a")).unwrap();
        fs::write(
            root.join("a/x.html"),
            "<h1 id=\"one\"><a class=\"h\" href=\"#one\">",
        )
        .unwrap();
        fs::write(root.join("y.svg"), "").unwrap();
        let good = "<a href=\"a/x.html#one\"> <a href=\"y.svg\"> <a href=\"https://x.example/#z\">";
        fs::write(root.join("b.html"), good).unwrap();
        assert_eq!(check(root).unwrap(), 3);
        for (bad, told) in [
            ("a/x.html#two", "a/x.html#two"),
            ("z.html", "z.html"),
            ("a/../c.svg", "c.svg"),
        ] {
            fs::write(root.join("b.html"), format!("<a href=\"{bad}\">")).unwrap();
            let error = check(root).unwrap_err().to_string();
            assert!(
                error.contains("b.html links to") && error.ends_with(told),
                "{error}"
            );
        }
    }
}
