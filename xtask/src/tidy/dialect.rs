//! Checks for plain English: listed phrases must not occur in comments, pages and messages.

use super::{Findings, TextFile};

/// Phrases, each with a replacement or with an advice.
const PHRASES: &[(&str, &str)] = &[
    ("all the same", "even so, or leave it out"),
    ("anew", "again, or new"),
    ("are none", "say what it is instead"),
    ("are those of", "repeat the noun"),
    ("as it is where", "say what happens, and when"),
    ("but for", "except"),
    ("for ever", "forever, or without a limit"),
    ("go on", "continue"),
    ("goes on", "continues"),
    ("in the place of", "instead of, or at the path of"),
    ("in vain", "without success"),
    ("is none", "say what it is instead"),
    ("is that of", "repeat the noun"),
    ("lies", "is"),
    ("looked at", "read, checked or examined"),
    ("may stand", "may be"),
    ("no such thing", "repeat the noun"),
    ("passed over", "skipped or ignored"),
    ("passes over", "skips or ignores"),
    ("so long", "the duration"),
    ("so many", "the number of"),
    ("so often", "the number of times"),
    ("stand there", "be there"),
    ("stands", "is"),
    ("stood", "was"),
    ("tell of", "report"),
    ("tells", "reports, logs, returns or states"),
    ("that stand", "that are"),
    (
        "told",
        "reported, logged or returned; \"by default\" for \"unless told\"",
    ),
    ("what became of", "the outcome of"),
    ("what there is to know", "name the facts"),
    ("where there is one", "if it has one"),
    ("who comes", "the process, thread or user that"),
    ("who reads", "a reader"),
    ("whoever", "the process, thread or user that"),
];

/// Beginnings of a comment line that lack a noun as the subject.
const OPENINGS: &[&str] = &[
    "None is",
    "None of",
    "Of what",
    "One of",
    "One that",
    "So many",
    "That which",
    "Those that",
    "What ",
    "Who ",
];

/// Pages that are not checked: decisions are never rewritten, and the list of changes quotes earlier texts.
const SETTLED: &[&str] = &["docs/decisions/", "CHANGELOG.md"];

/// Reports every line with a listed phrase.
pub(super) fn check(texts: &[TextFile], findings: &mut Findings) {
    let mut total = 0;
    for file in texts {
        let settled = SETTLED.iter().any(|start| file.path.starts_with(start));
        if settled || file.is_as_given() || !(file.is_rust() || file.is_markdown()) {
            continue;
        }
        let mut is_shipped = is_shipped(&file.path);
        for (number, line) in file.text.lines().enumerate() {
            is_shipped &= line != "mod tests {";
            let message = || message(line).filter(|_| is_shipped);
            if let Some(advice) = dialect(file, line).or_else(message) {
                total += 1;
                findings.fault(format_args!("{}:{}", file.path, number + 1), advice);
            }
        }
    }
    findings.sum(format!("{total} lines of dialect"));
}

/// The advice for a line of a comment or page that has a listed phrase.
fn dialect(file: &TextFile, line: &str) -> Option<String> {
    let text = if file.is_rust() {
        let comment = line.trim_start().strip_prefix("//")?;
        comment.trim_start_matches(['/', '!']).trim_start()
    } else {
        line
    };
    if file.is_rust()
        && let Some(opening) = OPENINGS.iter().find(|opening| text.starts_with(**opening))
    {
        return Some(format!(
            "begins with \"{}\": name the subject",
            opening.trim_end()
        ));
    }
    phrase(&text.to_lowercase())
}

/// The advice for the first listed phrase in a string literal of a line of code.
fn message(line: &str) -> Option<String> {
    let is_comment = line.trim_start().starts_with("//");
    let mut texts = line.split('"').skip(1).step_by(2).filter(|_| !is_comment);
    texts.find_map(|text| phrase(&text.to_lowercase()))
}

/// True if messages of the source are shown to users.
fn is_shipped(path: &str) -> bool {
    let is_source = path.starts_with("crates/") && path.contains("/src/") && path.ends_with(".rs");
    is_source
        && !["/tests/", "/tests.rs", "/conformance/"]
            .iter()
            .any(|part| path.contains(part))
}

/// The advice for the first listed phrase in a lower-case text.
fn phrase(text: &str) -> Option<String> {
    let (phrase, instead) = PHRASES.iter().find(|(phrase, _)| has(text, phrase))?;
    Some(format!("\"{phrase}\": {instead}"))
}

/// True if a text contains a phrase as whole words.
fn has(text: &str, phrase: &str) -> bool {
    text.match_indices(phrase).any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default().chars().next_back();
        let after = text.get(at + phrase.len()..).unwrap_or_default().chars().next();
        let is_word =
            |char: Option<char>| char.is_some_and(|char| char.is_alphanumeric() || "_-".contains(char));
        !is_word(before) && !is_word(after)
    })
}

#[cfg(test)]
mod tests {
    use super::{Findings, TextFile, check, dialect, message};

    fn file(path: &str, text: &str) -> TextFile {
        TextFile {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_phrase_is_found_as_whole_words_in_comments_and_pages() {
        let source = file("a.rs", "");
        let page = file("a.md", "");
        assert!(dialect(&source, "    /// Everything, but for the last.").is_some());
        assert!(dialect(&source, "//! Is Told at the end").is_some());
        assert!(dialect(&source, "let text = \"is told\";").is_none());
        assert!(dialect(&source, "/// A retold list, and a butterfly.").is_none());
        assert!(dialect(&source, "/// What is left.").is_some());
        assert!(dialect(&source, "/// Reports what is left.").is_none());
        assert!(dialect(&page, "What is left is reported").is_none());
        assert!(dialect(&page, "What is left is told").is_some());
    }

    #[test]
    fn a_message_of_a_shipped_source_is_checked() {
        let text =
            "fn f() {\n    warn!(\"the rest is told\");\n}\nmod tests {\n    const A: &str = \"is told\";\n";
        let faults = |path: &str| {
            let mut findings = Findings::default();
            check(&[file(path, text)], &mut findings);
            findings.faults.len()
        };
        assert_eq!(faults("crates/new/src/lib.rs"), 1);
        assert_eq!(faults("crates/new/src/tests/a.rs"), 0);
        assert_eq!(faults("dev/new/src/lib.rs"), 0);
        assert!(
            message("    told(\"a\", \"b\")").is_none(),
            "names are no messages"
        );
    }

    #[test]
    fn a_line_of_dialect_is_a_fault_except_in_a_settled_page() {
        let mut findings = Findings::default();
        let text = "/// The rest is told.\n";
        check(&[file("crates/new/src/lib.rs", text)], &mut findings);
        assert_eq!(findings.faults.len(), 1, "{:?}", findings.faults);
        let mut findings = Findings::default();
        check(&[file("docs/decisions/0001-a.md", text)], &mut findings);
        assert!(findings.faults.is_empty());
    }
}
