//! Links between pages: what they point at is there.

use std::path::Path;

use super::{Findings, TextFile};

/// Looks at every relative link of every page.
pub(super) fn check(root: &Path, texts: &[TextFile], findings: &mut Findings) {
    for file in texts.iter().filter(|file| file.is_markdown()) {
        let folder = root.join(&file.path);
        let folder = folder.parent().unwrap_or(root);
        let mut fenced = false;
        for (number, line) in file.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            }
            if fenced {
                continue;
            }
            for target in targets(line) {
                let page = target.split('#').next().unwrap_or(target);
                if !page.is_empty() && !page.contains(':') && !folder.join(page).exists() {
                    let place = format_args!("{}:{}", file.path, number + 1);
                    findings.fault(place, format_args!("links to `{page}`, which is not there"));
                }
            }
        }
    }
}

/// What a line's links point at: `](target)`, outside of code.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let plain = line.split('`').step_by(2);
    plain.flat_map(|text| {
        text.split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', ' ']).next())
    })
}

#[cfg(test)]
mod tests {
    use super::targets;

    #[test]
    fn finds_links_and_passes_over_code() {
        let line = "see [a](docs/a.md#x), `[no](code.md)` and [b](b.md \"title\")";
        assert_eq!(targets(line).collect::<Vec<_>>(), ["docs/a.md#x", "b.md"]);
    }
}
