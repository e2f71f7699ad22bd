//! Checks links between pages: the page and its heading exist, and a superseded decision links to its successor.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::{Findings, TextFile};

/// Checks every relative link of every page.
pub(super) fn check(root: &Path, texts: &[TextFile], findings: &mut Findings) {
    let pages: BTreeMap<PathBuf, Vec<String>> = texts
        .iter()
        .filter(|file| file.is_markdown())
        .map(|file| (PathBuf::from(&file.path), anchors(&file.text)))
        .collect();
    for file in texts.iter().filter(|file| file.is_markdown()) {
        let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
        for (number, line) in prose(&file.text) {
            for target in targets(line) {
                if let Some(fault) = broken(root, folder, &file.path, target, &pages) {
                    findings.fault(format_args!("{}:{number}", file.path), fault);
                }
            }
            let superseded = file.path.starts_with("docs/decisions/")
                && line.trim_start_matches(['*', '_']).starts_with("Superseded");
            if superseded && targets(line).next().is_none() {
                let place = format_args!("{}:{number}", file.path);
                findings.fault(place, "a superseded decision links to its successor");
            }
        }
    }
}

/// The reason why a link is broken.
fn broken(
    root: &Path,
    folder: &Path,
    from: &str,
    target: &str,
    pages: &BTreeMap<PathBuf, Vec<String>>,
) -> Option<String> {
    if target.contains(':') {
        return None;
    }
    let (page, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if page.is_empty() {
        PathBuf::from(from)
    } else {
        plain(&folder.join(page))
    };
    if !root.join(&path).exists() {
        return Some(format!("links to `{page}`, which does not exist"));
    }
    let known = anchor.is_empty()
        || pages
            .get(&path)
            .is_none_or(|anchors| anchors.iter().any(|known| known == anchor));
    (!known).then(|| format!("links to `{target}`: that page has no such heading"))
}

/// The path with its `..` resolved, without access to the file system.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// The lines outside of code blocks, with their numbers.
pub(crate) fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((number + 1, line))
    })
}

/// The anchor of each heading, as code hosts generate it.
fn anchors(text: &str) -> Vec<String> {
    prose(text)
        .filter_map(|(_, line)| line.strip_prefix('#'))
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            heading
                .chars()
                .filter_map(|char| match char {
                    ' ' => Some('-'),
                    '-' | '_' => Some(char),
                    char => char.is_alphanumeric().then_some(char),
                })
                .collect()
        })
        .collect()
}

/// The targets of a line's links: `](target)`, outside of code.
pub(crate) fn targets(line: &str) -> impl Iterator<Item = &str> {
    let plain = line.split('`').step_by(2);
    plain.flat_map(|text| {
        text.split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', ' ']).next())
    })
}

#[cfg(test)]
mod tests {
    use super::{Findings, TextFile, anchors, check, targets};

    fn faults(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let mut texts = Vec::new();
        for (path, text) in files {
            let file = folder.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
            let (path, text) = ((*path).to_owned(), (*text).to_owned());
            texts.push(TextFile { path, text });
        }
        let mut findings = Findings::default();
        check(folder.path(), &texts, &mut findings);
        findings.faults
    }

    #[test]
    fn finds_links_and_skips_code() {
        let line = "see [a](docs/a.md#x), `[no](code.md)` and [b](b.md \"title\")";
        assert_eq!(targets(line).collect::<Vec<_>>(), ["docs/a.md#x", "b.md"]);
    }

    #[test]
    fn a_link_needs_its_page_and_its_heading() {
        let page = "# One\n\n## Two *and* `three`: four\n\n```sh\n# no heading\n```\n";
        assert_eq!(anchors(page), ["one", "two-and-three-four"]);
        let links =
            "[a](../b/p.md#two-and-three-four) [b](#x)\n\n[c](q.md)\n# X\n[d](../b/p.md#no-heading)\n";
        let faults = faults(&[("b/p.md", page), ("a/l.md", links)]);
        assert_eq!(
            faults,
            [
                "a/l.md:3: links to `q.md`, which does not exist",
                "a/l.md:5: links to `../b/p.md#no-heading`: that page has no such heading",
            ]
        );
    }

    #[test]
    fn a_superseded_decision_links_to_its_successor() {
        let with = ("docs/decisions/0001-a.md", "Superseded by [2](0002-b.md).\n");
        let without = ("docs/decisions/0002-b.md", "*Superseded.*\n");
        assert_eq!(faults(&[with, without]).len(), 1);
    }
}
