//! The one thing about sources that no lint sees: a library names what it exports.

use super::{Findings, TextFile};

/// Looks at the page of every library.
pub(super) fn check(texts: &[TextFile], findings: &mut Findings) {
    for file in texts {
        let library = file.path.starts_with("crates/") && file.path.ends_with("/src/lib.rs");
        if library && exports_all(&file.text) {
            findings.fault(&file.path, "re-exports by a glob; name the exports");
        }
    }
}

fn exports_all(code: &str) -> bool {
    code.lines()
        .any(|line| line.trim_start().starts_with("pub use ") && line.trim_end().ends_with("::*;"))
}

#[cfg(test)]
mod tests {
    use super::exports_all;

    #[test]
    fn a_glob_is_found() {
        assert!(exports_all("pub use cache::*;\n"));
        assert!(!exports_all("use cache::*;\npub use cache::{Cache, Stats};\n"));
    }
}
