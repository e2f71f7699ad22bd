//! The page of a report: one HTML file that loads nothing.
//!
//! The data is JSON in a script element that browsers do not run. The character `<`, the only one that could end the
//! element, is escaped. The page's script inserts data as text, never as HTML. In addition, the page's content security
//! policy allows only its own script and style (by their hashes), and forbids loading and sending anything.

use data_encoding::BASE64;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::errors::{Failure, Result};
use crate::exit::Exit;

const HTML: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The page with this data embedded.
pub(super) fn of(data: &impl Serialize) -> Result<String> {
    let data = serde_json::to_string(data)
        .map_err(|error| Failure::new(Exit::Failed, format!("write JSON: {error}")))?;
    let policy = format!(
        "default-src 'none'; base-uri 'none'; form-action 'none'; style-src {}; script-src {}",
        hash(STYLE),
        hash(SCRIPT)
    );
    // The data is inserted last, so that nothing in it is replaced.
    let page = HTML
        .replace("{policy}", &policy)
        .replace("{style}", STYLE)
        .replace("{script}", SCRIPT);
    Ok(page.replacen("{data}", &data.replace('<', "\\u003c"), 1))
}

/// The number of bytes of this JSON on the page.
pub(super) fn length(json: &str) -> usize {
    json.len() + 5 * memchr::memchr_iter(b'<', json.as_bytes()).count()
}

fn hash(text: &str) -> String {
    format!("'sha256-{}'", BASE64.encode(&Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_data_ends_its_element_or_is_replaced() {
        let data = "</script><!--{style}{data}";
        let page = of(&data).unwrap();
        let (_, rest) = page
            .split_once(r#"<script type="application/json" id="data">"#)
            .unwrap();
        let (json, _) = rest.split_once("</script>").unwrap();
        assert_eq!(serde_json::from_str::<String>(json).unwrap(), data);
        assert_eq!(json.len(), length(&serde_json::to_string(data).unwrap()));
        assert_eq!(page.matches(STYLE).count(), 1);
    }

    #[test]
    fn the_page_names_no_other_place_and_writes_no_html() {
        for text in [HTML, STYLE, SCRIPT] {
            let without_namespace = text.replace("http://www.w3.org/2000/svg", "");
            for word in [
                "http:",
                "https:",
                "url(",
                "@import",
                "import(",
                "innerHTML",
                "outerHTML",
                "insertAdjacent",
                "eval(",
            ] {
                assert!(!without_namespace.contains(word), "{word}");
            }
        }
    }
}
