//! Checks of sources that no lint makes: a library lists its exports by name, and a hint for users contains no Rust
//! code.

use super::{Findings, TextFile};

/// Checks every source of the libraries and of the tool.
pub(super) fn check(texts: &[TextFile], findings: &mut Findings) {
    for file in texts {
        let shipped = file.path.starts_with("crates/") && file.path.contains("/src/") && file.is_rust();
        if shipped && file.path.ends_with("/src/lib.rs") && exports_all(&file.text) {
            findings.fault(&file.path, "re-exports by a glob; name the exports");
        }
        if shipped && let Some(hint) = hint_with_code(&file.text) {
            findings.fault(
                &file.path,
                format_args!("a hint names an item of Rust, and users of the tool read it: {hint}"),
            );
        }
    }
}

fn exports_all(code: &str) -> bool {
    code.lines()
        .any(|line| line.trim_start().starts_with("pub use ") && line.trim_end().ends_with("::*;"))
}

/// The first hint that contains a path or a function of Rust.
fn hint_with_code(code: &str) -> Option<&str> {
    let mut texts = code.split("hint(").skip(1).filter_map(|rest| {
        let text = rest.trim_start();
        let text = text.strip_prefix("format!(").unwrap_or(text).trim_start();
        text.strip_prefix('"')?.split('"').next()
    });
    texts.find(|text| text.contains("::") || text.contains("()"))
}

#[cfg(test)]
mod tests {
    use super::{exports_all, hint_with_code};

    #[test]
    fn a_glob_is_found() {
        assert!(exports_all("pub use cache::*;\n"));
        assert!(!exports_all("use cache::*;\npub use cache::{Cache, Stats};\n"));
    }

    #[test]
    fn a_hint_that_names_an_item_of_rust_is_found() {
        for (code, found) in [
            ("e.with_hint(\"look at the file\").f::<u8>()", None),
            (
                "e.with_hint(\n    \"read it as `a::B`\",\n)",
                Some("read it as `a::B`"),
            ),
            (
                "e.hint(format!(\"call `open()` on {x}\"))",
                Some("call `open()` on {x}"),
            ),
        ] {
            assert_eq!(hint_with_code(code), found, "{code}");
        }
    }
}
