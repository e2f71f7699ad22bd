//! The outcome of a run of tests.

/// The largest number of failed tests that a line lists.
const SHOWN: usize = 4;

/// The outcome of one `cargo test`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The text to replace does not occur exactly once.
    NotPlanted(String),
    /// The code does not compile.
    NotCompiled(String),
    /// All tests passed.
    Passed { tests: usize },
    /// The names of failed properties of the conformance suite, and of failed tests.
    Failed(Vec<String>),
    /// The tests took too long and were killed.
    Hung,
}

impl Outcome {
    /// Parses the output of libtest.
    pub(super) fn of(success: bool, output: &str) -> Self {
        if success {
            let ran = |line: &str| {
                let rest = line.strip_prefix("test result: ok. ")?;
                rest.split_whitespace().next()?.parse::<usize>().ok()
            };
            return Self::Passed {
                tests: output.lines().filter_map(ran).sum(),
            };
        }
        let mut failed: Vec<String> = Vec::new();
        let mut listed = false;
        for line in output.lines() {
            if line.ends_with("properties do not hold:") {
                listed = true;
            } else if listed && let Some(name) = property(line) {
                failed.push(name.to_owned());
            } else if let Some(name) = line
                .strip_prefix("test ")
                .and_then(|rest| rest.strip_suffix(" ... FAILED"))
            {
                failed.push(name.trim_end_matches(" - should panic").to_owned());
            }
        }
        Self::Failed(failed)
    }

    /// True if this property, or a test of this name in any module, is among the failures.
    pub(super) fn is_caught_by(&self, wanted: &str) -> bool {
        matches!(self, Self::Failed(names) if names.iter().any(|name| is_named(name, wanted)))
    }

    /// The outcome as one line of text. The expected failure comes first.
    pub(super) fn line(&self, wanted: &str) -> String {
        match self {
            Self::NotPlanted(why) => format!("DOES NOT FIT: {why}"),
            Self::NotCompiled(why) => format!("DOES NOT COMPILE: {why}"),
            Self::Passed { tests: 0 } => "NO TEST RAN: there is none of that name".to_owned(),
            Self::Passed { tests } => format!("SURVIVED: {tests} tests passed"),
            Self::Hung => "DID NOT END in time".to_owned(),
            Self::Failed(names) if names.is_empty() => "failed, but no test did".to_owned(),
            Self::Failed(names) => {
                let (expected, others): (Vec<&str>, Vec<&str>) = names
                    .iter()
                    .map(String::as_str)
                    .partition(|name| is_named(name, wanted));
                let rest = names.len().saturating_sub(SHOWN);
                let shown: Vec<&str> = expected.iter().chain(&others).copied().take(SHOWN).collect();
                let shown = shown.join(", ");
                let shown = if rest > 0 {
                    format!("{shown} and {rest} more")
                } else {
                    shown
                };
                if wanted.is_empty() || !expected.is_empty() {
                    shown
                } else {
                    format!("NOT BY `{wanted}`, but by {shown}")
                }
            }
        }
    }
}

fn is_named(name: &str, wanted: &str) -> bool {
    name.rsplit("::").next() == Some(wanted)
}

/// The name of the property in a line of the conformance suite's list: `name (topic): difference`.
fn property(line: &str) -> Option<&str> {
    let is_word = |text: &str| {
        text.starts_with(|char: char| char.is_ascii_lowercase())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let (name, rest) = line.split_once(" (")?;
    let (topic, _) = rest.split_once("): ")?;
    (is_word(name) && is_word(topic)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    const FAILED: &str = "\
running 2 tests
test conformance::every_property_holds ... FAILED
test other ... ok

---- conformance::every_property_holds stdout ----
thread 'x' panicked at a.rs:1:2:
memory: 2 properties do not hold:
appended_is_read (log): events: expected 2, got 1
    promised: what was appended is read
a_lease_ends (queue): items (of one): expected 2, got 1
test result: FAILED. 1 passed; 1 failed; 0 ignored
";

    #[test]
    fn properties_and_tests_that_failed_are_named() {
        let outcome = Outcome::of(false, FAILED);
        let names = [
            "conformance::every_property_holds",
            "appended_is_read",
            "a_lease_ends",
        ];
        assert_eq!(outcome, Outcome::Failed(names.map(str::to_owned).to_vec()));
        assert!(outcome.is_caught_by("a_lease_ends") && !outcome.is_caught_by("other"));
        assert!(outcome.is_caught_by("every_property_holds") && !outcome.is_caught_by("property_holds"));
        assert!(outcome.line("a_lease_ends").starts_with("a_lease_ends, "));
        assert!(outcome.line("other").starts_with("NOT BY `other`"));
    }

    #[test]
    fn a_run_that_passes_catches_nothing() {
        let passed = |tests: usize| Outcome::of(true, &format!("test result: ok. {tests} passed; 0 failed"));
        assert!(!passed(3).is_caught_by("a") && passed(3).line("a").starts_with("SURVIVED"));
        assert!(passed(0).line("a").starts_with("NO TEST RAN"));
        let outcome = Outcome::of(false, "error: test failed");
        assert!(!outcome.is_caught_by("a"), "{outcome:?}");
    }
}
