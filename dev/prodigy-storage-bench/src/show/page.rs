//! Writes `docs/assurance/performance.md`: the parts between marker comments are generated, and the other text is
//! kept.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{plot, table};
use crate::report::Report;

/// The page; the folder of its plots is next to it.
const PAGE: &str = "performance.md";
const PLOTS: &str = "performance";
/// The raw numbers, in the folder of the plots.
const FIGURES: &str = "figures.json";

fn marks(name: &str) -> (String, String) {
    (
        format!("<!-- generated: {name} -->"),
        format!("<!-- end: {name} -->"),
    )
}

/// Replaces the part of a text between the marker comments with this name.
///
/// # Errors
/// Fails unless each marker comment occurs exactly once.
pub(crate) fn replaced(text: &str, name: &str, content: &str) -> Result<String> {
    let (open, close) = marks(name);
    for mark in [&open, &close] {
        ensure!(
            text.matches(mark.as_str()).count() == 1,
            "the page needs `{mark}` once"
        );
    }
    let (before, rest) = text.split_once(open.as_str()).context("no opening mark")?;
    let (_, after) = rest
        .split_once(close.as_str())
        .with_context(|| format!("`{close}` stands before `{open}`"))?;
    Ok(format!("{before}{open}\n\n{}\n\n{close}{after}", content.trim()))
}

/// Writes a generated part of the page in this folder of pages.
pub(crate) fn write_part(docs: &Path, name: &str, content: &str) -> Result<()> {
    let path = docs.join(PAGE);
    let shown = || path.display().to_string();
    let text = fs::read_to_string(&path).with_context(shown)?;
    fs::write(&path, replaced(&text, name, content).with_context(shown)?).with_context(shown)
}

/// The raw numbers of earlier runs in this folder of pages; `None` if there is no file with them.
pub(crate) fn earlier(docs: &Path) -> Result<Option<Report>> {
    let path = docs.join(PLOTS).join(FIGURES);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let report = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    Ok(Some(report))
}

/// Writes tables, plots and raw numbers.
pub(crate) fn write(docs: &Path, report: &Report) -> Result<()> {
    let folder = docs.join(PLOTS);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    write_part(docs, "machine", &machine(report))?;
    write_part(docs, "bars", &table::bars(report))?;
    write_part(docs, "peers", &table::peers(report))?;
    write_part(docs, "behind", &table::behind(report))?;
    let mut shown = String::new();
    for name in plot::groups(report) {
        let file = format!("{name}.svg");
        let path = folder.join(&file);
        fs::write(&path, plot::group(report, name)).with_context(|| path.display().to_string())?;
        shown.push_str(&format!(
            "![{name}: times as multiples of what each row is held against]({PLOTS}/{file})\n\n"
        ));
    }
    write_part(docs, "plots", &shown)?;
    let path = folder.join(FIGURES);
    fs::write(&path, json(report)?).with_context(|| path.display().to_string())
}

/// One line per row, so that two runs can be compared by a diff.
pub(crate) fn json(report: &Report) -> Result<String> {
    let mut head = serde_json::to_value(report)?;
    let rows = head
        .as_object_mut()
        .and_then(|head| head.remove("rows"))
        .unwrap_or_default();
    let rows = rows
        .as_array()
        .into_iter()
        .flatten()
        .map(serde_json::to_string)
        .collect::<Result<Vec<_>, _>>()?;
    let head = serde_json::to_string(&head)?;
    let head = head.strip_suffix('}').unwrap_or(&head);
    Ok(format!("{head},\"rows\":[\n{}\n]}}\n", rows.join(",\n")))
}

/// The generated description of the machine, of the amount of work, and of the run of each row.
pub(crate) fn machine(report: &Report) -> String {
    let size = match report.divisor {
        1 => "full size".to_owned(),
        some => format!("sizes divided by {some} (`--quick`)"),
    };
    let runs = report.runs();
    let mut text = format!("{}; {size}.\n\n", report.machine.line());
    for (run, keys) in &runs {
        let rows = match runs.len() {
            1 => String::new(),
            _ => format!(": `{}`", keys.join("`, `")),
        };
        let mark = if runs.len() == 1 { "" } else { "- " };
        text.push_str(&format!("{mark}{}{rows}.\n", run.line()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{earlier, json, replaced, write};
    use crate::report::Report;
    use crate::report::sample::report;

    #[test]
    fn text_around_the_marks_stays() {
        let page = "a\n<!-- generated: x -->\nold\n<!-- end: x -->\nb\n";
        let new = replaced(page, "x", "new\n").unwrap();
        assert_eq!(new, "a\n<!-- generated: x -->\n\nnew\n\n<!-- end: x -->\nb\n");
        assert_eq!(replaced(&new, "x", "new").unwrap(), new);
    }

    #[test]
    fn a_page_without_marks_is_not_written() {
        assert!(replaced("a", "x", "new").is_err());
        assert!(replaced("<!-- end: x --> <!-- generated: x -->", "x", "new").is_err());
        let twice = "<!-- generated: x --><!-- end: x --><!-- end: x -->";
        assert!(replaced(twice, "x", "new").is_err());
    }

    #[test]
    fn raw_numbers_are_a_line_a_row_and_whole() {
        let text = json(&report()).unwrap();
        assert_eq!(text.lines().count(), 2 + report().rows.len());
        let read: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(read.rows.len(), report().rows.len());
    }

    #[test]
    fn a_run_fills_the_page_and_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let page: String = ["machine", "bars", "peers", "behind", "plots"]
            .map(|name| format!("<!-- generated: {name} --><!-- end: {name} -->\n"))
            .concat();
        std::fs::write(folder.path().join("performance.md"), page).unwrap();
        write(folder.path(), &report()).unwrap();
        let page = std::fs::read_to_string(folder.path().join("performance.md")).unwrap();
        for part in [
            "Example CPU",
            "2026-11-30",
            "| `fast` |",
            "(performance/append.svg)",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(folder.path().join("performance/append.svg").is_file());
        assert_eq!(
            earlier(folder.path()).unwrap().unwrap().rows.len(),
            report().rows.len()
        );
    }
}
