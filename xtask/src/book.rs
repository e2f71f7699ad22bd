//! `cargo xtask book` builds an mdBook of the pages. Its links are also checked for `cargo xtask docs`.
//!
//! Pages link to files all over the project. So the book is made from a copy in which each file keeps its path in the project.

mod html;
#[cfg(feature = "docs")]
mod render;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::project::{Project, must};
use crate::tidy::links::{plain, prose, targets};

/// The table of contents, which mdBook wants under this name.
const SUMMARY: &str = "SUMMARY.md";

/// Builds the book with mdBook and checks its links, for `cargo xtask book`.
pub(crate) fn run(project: &Project) -> Result<()> {
    if Command::new("mdbook").arg("--version").output().is_err() {
        bail!("this machine has no mdbook: `cargo install --locked mdbook`");
    }
    let book = project.target().join("book");
    match fs::remove_dir_all(&book) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let pages = gather(project, &book.join("src"))?;
    fs::copy(project.path("docs/book.toml"), book.join("book.toml"))?;
    must(Command::new("mdbook").arg("build").arg(&book))?;
    let links = html::check(&book.join("book"))?;
    println!(
        "{links} links of {pages} pages lead somewhere: {}",
        book.join("book/index.html").display()
    );
    Ok(())
}

/// Checks that the table of contents lists each page once, and that each link of the book leads to a page or file, and to an
/// anchor that mdBook gives it. Needs no mdBook.
#[cfg(feature = "docs")]
pub(crate) fn check(project: &Project) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pages = gather(project, folder.path())?;
    render::pages(folder.path())?;
    let links = html::check(folder.path())?;
    println!("the book: {links} links of {pages} pages lead somewhere");
    Ok(())
}

/// Copies the pages of the book and the files that they link to. Returns the number of pages; fails if a page is missing from the
/// table of contents.
fn gather(project: &Project, sources: &Path) -> Result<usize> {
    let docs = Path::new("docs");
    let summary = read(&project.path(docs.join(SUMMARY)))?;
    let pages = pages(project.root(), docs, &summary)?;
    for page in &pages {
        copy(project.root(), page, sources)?;
        let folder = page.parent().unwrap_or(Path::new(""));
        for (_, line) in prose(&read(&project.path(page))?) {
            for target in targets(line).filter(|target| !target.contains(':') && !target.starts_with('#')) {
                let file = plain(&folder.join(target.split('#').next().unwrap_or(target)));
                if file.extension().is_some_and(|extension| extension == "md") {
                    if !pages.contains(&file) {
                        bail!(
                            "{} links to {}, which docs/{SUMMARY} does not list",
                            page.display(),
                            file.display()
                        );
                    }
                } else {
                    copy(project.root(), &file, sources)?;
                }
            }
        }
    }
    fs::write(sources.join(SUMMARY), from_the_top(docs, &summary))?;
    Ok(pages.len())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))
}

/// The pages that the table of contents lists, as paths in the project. Fails unless each page of `docs` is listed
/// once.
fn pages(root: &Path, docs: &Path, summary: &str) -> Result<BTreeSet<PathBuf>> {
    let mut listed = BTreeSet::new();
    for (_, line) in prose(summary) {
        for target in targets(line) {
            let page = plain(&docs.join(target));
            if !root.join(&page).is_file() {
                bail!("docs/{SUMMARY} lists {target}, which does not exist");
            }
            if !listed.insert(page) {
                bail!("docs/{SUMMARY} lists {target} twice");
            }
        }
    }
    let mut folders = vec![docs.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let is_page = path.extension().is_some_and(|extension| extension == "md");
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if is_page && entry.file_name() != SUMMARY && !listed.contains(&path) {
                bail!("docs/{SUMMARY} does not list {}", path.display());
            }
        }
    }
    Ok(listed)
}

/// The table of contents, with its links made relative to the project's folder.
fn from_the_top(docs: &Path, summary: &str) -> String {
    let mut parts = summary.split("](");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (target, rest) = part.split_once(')').unwrap_or((part, ""));
        text.push_str(&format!("]({}){rest}", plain(&docs.join(target)).display()));
    }
    text
}

/// Copies a file, or a folder with its contents.
fn copy(root: &Path, path: &Path, to: &Path) -> Result<()> {
    let (from, to_path) = (root.join(path), to.join(path));
    if from.is_dir() {
        for entry in fs::read_dir(&from)? {
            copy(root, &path.join(entry?.file_name()), to)?;
        }
        return Ok(());
    }
    if let Some(folder) = to_path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(&from, &to_path).with_context(|| format!("can't copy {}", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{from_the_top, pages};

    #[test]
    fn each_page_is_listed_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("docs/how-to")).unwrap();
        for name in [
            "TOP.md",
            "docs/SUMMARY.md",
            "docs/how-to/a.md",
            "docs/how-to/b.md",
        ] {
            fs::write(root.join(name), "").unwrap();
        }
        let found =
            |summary: &str| pages(root, Path::new("docs"), summary).map_err(|error| error.to_string());
        let whole = "- [a](how-to/a.md)\n- [b](how-to/b.md)\n- [top](../TOP.md)\n";
        assert_eq!(found(whole).unwrap().len(), 3);
        let refused = |summary: &str| found(summary).unwrap_err();
        assert_eq!(
            refused("[a](how-to/a.md)"),
            "docs/SUMMARY.md does not list docs/how-to/b.md"
        );
        assert!(refused("[c](c.md)").ends_with("lists c.md, which does not exist"));
        assert!(refused("[a](how-to/a.md)\n[a](how-to/a.md)").ends_with("lists how-to/a.md twice"));
        let top = from_the_top(Path::new("docs"), whole);
        assert_eq!(
            top,
            "- [a](docs/how-to/a.md)\n- [b](docs/how-to/b.md)\n- [top](TOP.md)\n"
        );
    }
}
