//! Absences: what a crate's sources never do.

use super::{Findings, TextFile};

/// What must not occur in a folder's sources.
#[derive(Debug)]
struct Absence {
    /// The folder, and all below it.
    folder: &'static str,
    /// Files of it (or folders, with a slash at the end) that may.
    but: &'static [&'static str],
    /// Any of these.
    words: &'static [&'static str],
    /// Why it matters.
    why: &'static str,
}

/// The sources of all libraries.
const LIBRARIES: &[&str] = &[
    "crates/prodigy-storage/src/",
    "crates/prodigy-storage-backend/src/",
    "crates/prodigy-storage-cache/src/",
    "crates/prodigy-storage-config/src/",
    "crates/prodigy-storage-file/src/",
    "crates/prodigy-storage-layout/src/",
    "crates/prodigy-storage-memory/src/",
    "crates/prodigy-storage-retry/src/",
];

const FILES: &[&str] = &[
    "std::fs",
    "File::open",
    "File::create",
    "OpenOptions::new",
    "rustix::fs::open",
];

const ABSENCES: &[Absence] = &[
    Absence {
        folder: "crates/prodigy-storage-layout/src/",
        but: &["identity.rs", "identity/", "git_dir.rs", "git_dir/"],
        words: &["std::fs", "std::env", "std::net", "std::process", "File::open"],
        why: "the layout crate does no I/O but identity",
    },
    Absence {
        folder: "crates/prodigy-storage-backend/src/",
        but: &[],
        words: FILES,
        why: "the trait and its records know no file",
    },
    Absence {
        folder: "crates/prodigy-storage-retry/src/",
        but: &[],
        words: FILES,
        why: "a generic library: it knows no storage",
    },
    Absence {
        folder: "crates/prodigy-storage-cache/src/",
        but: &[],
        words: FILES,
        why: "a generic library: it knows no storage",
    },
    Absence {
        folder: "crates/prodigy-storage-file/src/",
        but: &["fs/real.rs", "fs/real/", "root.rs", "root/", "holder/"],
        words: FILES,
        why: "system calls go through the file-system trait, so that a simulated one sees them all",
    },
];

/// Where a library may ask the process for what should be handed in.
const ENVIRONMENT: &[&str] = &["crates/prodigy-storage-config/src/environment.rs"];

/// Looks at every source file.
pub(super) fn check(texts: &[TextFile], findings: &mut Findings) {
    for file in texts.iter().filter(|file| file.is_rust()) {
        let code = if is_test(&file.path) {
            ""
        } else {
            shipped(&file.text)
        };
        for absence in ABSENCES {
            let Some(inside) = file.path.strip_prefix(absence.folder) else {
                continue;
            };
            let excepted = |but: &&str| inside == *but || (but.ends_with('/') && inside.starts_with(but));
            if !absence.but.iter().any(excepted) {
                find(file, code, absence.words, absence.why, findings);
            }
        }
        let library = LIBRARIES.iter().any(|folder| file.path.starts_with(folder));
        if library && !ENVIRONMENT.contains(&file.path.as_str()) {
            let words = &["env::var", "env::home_dir", "env::set_var"];
            find(file, code, words, "the environment is handed in", findings);
        }
        if library && file.path.ends_with("/lib.rs") && exports_all(code) {
            findings.fault(&file.path, "re-exports by a glob; a page names what it exports");
        }
        reasons(file, findings);
    }
}

/// A fault for each line of code with one of the words.
fn find(file: &TextFile, code: &str, words: &[&str], why: &str, findings: &mut Findings) {
    for (number, line) in code.lines().enumerate() {
        // The kernel's tables are no files of the store.
        if line.trim_start().starts_with("//") || line.contains("\"/proc/") {
            continue;
        }
        if let Some(word) = words.iter().find(|word| line.contains(**word)) {
            findings.fault(
                format_args!("{}:{}", file.path, number + 1),
                format_args!("has `{word}`: {why}"),
            );
        }
    }
}

/// Whether a source is one of a module `tests`, which only the test harness compiles.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// A source without its tests, which stand at the end.
fn shipped(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod ")
        .and_then(|at| text.get(..at))
        .unwrap_or(text)
}

fn exports_all(code: &str) -> bool {
    code.lines()
        .any(|line| line.trim_start().starts_with("pub use ") && line.trim_end().ends_with("::*;"))
}

/// Every exception from a lint says why.
fn reasons(file: &TextFile, findings: &mut Findings) {
    for (at, _) in file
        .text
        .match_indices("[allow(")
        .chain(file.text.match_indices("[expect("))
    {
        let (before, rest) = file.text.split_at(at);
        let opens = before.ends_with(['#', '!']);
        let end = rest.find(")]").unwrap_or(rest.len());
        if opens && !rest.get(..end).is_some_and(|rest| rest.contains("reason")) {
            let place = format_args!("{}:{}", file.path, before.lines().count());
            findings.fault(place, "excepts from a lint without a `reason`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Findings, TextFile, check};

    fn faults(path: &str, text: &str) -> usize {
        let mut findings = Findings::default();
        check(
            &[TextFile {
                path: path.to_owned(),
                text: text.to_owned(),
            }],
            &mut findings,
        );
        findings.faults.len()
    }

    #[test]
    fn files_are_opened_in_their_places_only() {
        let text = "use std::fs;\n";
        assert_eq!(faults("crates/prodigy-storage-file/src/log/writer.rs", text), 1);
        assert_eq!(faults("crates/prodigy-storage-file/src/fs/real.rs", text), 0);
        assert_eq!(faults("crates/prodigy-storage-layout/src/name.rs", text), 1);
        assert_eq!(faults("crates/prodigy-storage-layout/src/identity.rs", text), 0);
        assert_eq!(faults("crates/prodigy-storage-file/tests/it/main.rs", text), 0);
        assert_eq!(faults("crates/prodigy-storage-file/src/log/tests.rs", text), 0);
        assert_eq!(
            faults("crates/prodigy-storage-file/src/log/tests/crash.rs", text),
            0
        );
    }

    #[test]
    fn tests_at_the_end_and_comments_are_free() {
        let text = "//! No std::fs here.\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert_eq!(faults("crates/prodigy-storage-layout/src/name.rs", text), 0);
    }

    #[test]
    fn an_exception_has_a_reason() {
        let with = format!("#{}expect(dead_code, reason = \"x\")]\nfn f() {{}}\n", '[');
        let without = format!("#{}allow(dead_code)]\nfn f() {{}}\n", '[');
        assert_eq!(faults("xtask/src/main.rs", &with), 0);
        assert_eq!(faults("xtask/src/main.rs", &without), 1);
    }

    #[test]
    fn a_page_exports_by_name() {
        assert_eq!(
            faults("crates/prodigy-storage-cache/src/lib.rs", "pub use cache::*;\n"),
            1
        );
        assert_eq!(
            faults(
                "crates/prodigy-storage-cache/src/lib.rs",
                "pub use cache::{Cache, Stats};\n"
            ),
            0
        );
    }
}
