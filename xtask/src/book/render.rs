//! Renders pages with the parser and the anchors of mdBook, so that links are checked where mdBook is not installed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

/// Writes each page below a folder as HTML, beside its source.
pub(super) fn pages(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            pages(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            fs::write(path.with_extension("html"), page(&fs::read_to_string(&path)?))?;
        }
    }
    Ok(())
}

fn page(text: &str) -> String {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_HEADING_ATTRIBUTES;
    let mut events = Vec::new();
    let mut anchors = BTreeMap::new();
    // The heading that is being read: the index of its start in `events`, and its text so far.
    let mut heading: Option<(usize, String)> = None;
    for mut event in Parser::new_ext(text, options) {
        match &mut event {
            Event::Start(Tag::Heading { .. }) => heading = Some((events.len(), String::new())),
            Event::Text(text) | Event::Code(text) => {
                if let Some((_, title)) = &mut heading {
                    title.push_str(text);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                if let Some((at, title)) = heading.take()
                    && let Some(Event::Start(Tag::Heading { id, .. })) = events.get_mut(at)
                    && id.is_none()
                {
                    *id = Some(anchor(&title, &mut anchors).into());
                }
            }
            Event::Start(Tag::Link { dest_url, .. }) => {
                if let Some(page) = to_html(dest_url) {
                    *dest_url = page.into();
                }
            }
            _ => {}
        }
        events.push(event);
    }
    let mut out = String::new();
    html::push_html(&mut out, events.into_iter());
    out
}

/// The target of a link to a page, changed for the HTML pages: `page.md` becomes `page.html`. `None` for other links.
fn to_html(target: &CowStr<'_>) -> Option<String> {
    let (page, anchor) = match target.split_once('#') {
        Some((page, anchor)) => (page, format!("#{anchor}")),
        None => (&**target, String::new()),
    };
    let page = page.strip_suffix(".md").filter(|page| !page.contains(':'))?;
    Some(format!("{page}.html{anchor}"))
}

/// The anchor of a heading. If an earlier heading has the same text, the anchor gets a number.
fn anchor(title: &str, seen: &mut BTreeMap<String, usize>) -> String {
    let anchor: String = title
        .chars()
        .filter_map(|char| match char {
            '-' | '_' => Some(char),
            char if char.is_alphanumeric() => Some(char.to_ascii_lowercase()),
            char => char.is_whitespace().then_some('-'),
        })
        .collect();
    let count = seen.entry(anchor.clone()).or_default();
    *count += 1;
    match *count {
        1 => anchor,
        count => format!("{anchor}-{}", count - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::{page, pages};
    use crate::book::html;

    #[test]
    fn headings_have_the_anchors_that_mdbook_gives_them() {
        let html = page("# One `two`: *three*\n\n## Again\n\nText\n=\n\n## Again\n\n## Named {#own}\n");
        let ids: Vec<&str> = html
            .split(" id=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert_eq!(ids, ["one-two-three", "again", "text", "again-1", "own"]);
    }

    #[test]
    fn links_of_every_form_lead_to_pages_and_anchors() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("b.md", "# There\n");
        write(
            "a.md",
            "[one](b.md#there) [two][ref] [out](https://a.example/x.md) `[code](c.md)`\n\n[ref]: b.md\n",
        );
        pages(folder.path()).unwrap();
        assert_eq!(html::check(folder.path()).unwrap(), 2);
        write("a.md", "[one][ref]\n\n[ref]: b.md#here\n");
        pages(folder.path()).unwrap();
        let error = html::check(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("a.html links to b.html#here"), "{error}");
    }
}
