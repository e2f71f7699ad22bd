//! A planted bug: a text of the shipped code, and the text that takes its place.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::project::Project;

/// The folder of the lists, one for each subject.
const FOLDER: &str = "xtask/mutants";

/// A bug, as its list describes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Bug {
    #[serde(skip)]
    pub(super) name: String,
    /// The promise that the bug breaks.
    pub(super) promise: String,
    /// The source file, relative to the project's folder.
    pub(super) file: String,
    /// Text that occurs once in the file. White space in it matches any white space.
    replace: String,
    by: String,
    /// The test that has to fail: its package, then `lib` or the name of the test binary, then its name or path.
    test: String,
    /// The package's features that the test needs.
    features: Option<String>,
    /// The property of the conformance suite that the test has to name.
    pub(super) property: Option<String>,
}

impl Bug {
    /// All bugs, by name.
    pub(super) fn read_all(project: &Project) -> Result<Vec<Self>> {
        let mut bugs: BTreeMap<String, Self> = BTreeMap::new();
        let folder =
            std::fs::read_dir(project.path(FOLDER)).with_context(|| format!("can't list {FOLDER}"))?;
        for entry in folder {
            let path = entry?.path();
            let shown = path.display();
            ensure!(
                path.extension().is_some_and(|extension| extension == "toml"),
                "{shown} is no list of bugs: a list is a TOML file"
            );
            let text = std::fs::read_to_string(&path).with_context(|| format!("can't read {shown}"))?;
            for bug in Self::parse(&text).with_context(|| format!("in {shown}"))? {
                if let Some(other) = bugs.insert(bug.name.clone(), bug) {
                    bail!("in {shown}: another list has a bug `{}`", other.name);
                }
            }
        }
        ensure!(!bugs.is_empty(), "{FOLDER} has no list of bugs");
        Ok(bugs.into_values().collect())
    }

    /// The named bugs; all bugs if no name is given.
    pub(super) fn select(bugs: Vec<Self>, names: &[String]) -> Result<Vec<Self>> {
        if let Some(unknown) = names
            .iter()
            .find(|name| bugs.iter().all(|bug| bug.name != **name))
        {
            bail!("there is no planted bug `{unknown}`: `cargo xtask mutants --list` names them");
        }
        let wanted = |bug: &Self| names.is_empty() || names.contains(&bug.name);
        Ok(bugs.into_iter().filter(wanted).collect())
    }

    fn parse(text: &str) -> Result<Vec<Self>> {
        let list: BTreeMap<String, Self> = toml::from_str(text)?;
        list.into_iter()
            .map(|(name, bug)| {
                let bug = Self { name, ..bug };
                let words = bug.test.split_whitespace().count();
                ensure!(
                    words == 3,
                    "`{}`: `test` has {words} words, not a package, a target and a test",
                    bug.name
                );
                Ok(bug)
            })
            .collect()
    }

    fn word_of_test(&self, index: usize) -> &str {
        self.test.split_whitespace().nth(index).unwrap_or_default()
    }

    /// The crate whose test has to fail.
    pub(super) fn package(&self) -> &str {
        self.word_of_test(0)
    }

    /// The name of the test without its modules.
    pub(super) fn test_name(&self) -> &str {
        let path = self.word_of_test(2);
        path.rsplit("::").next().unwrap_or(path)
    }

    /// The property or the test that has to fail.
    pub(super) fn caught_by(&self) -> &str {
        self.property.as_deref().unwrap_or_else(|| self.test_name())
    }

    /// The arguments of the `cargo test` that has to fail.
    pub(super) fn test_arguments(&self) -> Vec<String> {
        let target: &[&str] = match self.word_of_test(1) {
            "lib" => &["--lib"],
            binary => &["--test", binary],
        };
        let path = self.word_of_test(2);
        let filter: &[&str] = if path.contains("::") {
            &["--exact", path]
        } else {
            &[path]
        };
        let words = ["-p", self.package()].into_iter().chain(target.iter().copied());
        let features = self.features.iter().flat_map(|features| ["--features", features]);
        let words = words.chain(features);
        words
            .chain(["--"])
            .chain(filter.iter().copied())
            .map(str::to_owned)
            .collect()
    }

    /// The text of the file with the bug in it.
    ///
    /// # Errors
    /// Fails unless the text to replace occurs exactly once.
    pub(super) fn plant(&self, text: &str) -> Result<String> {
        let mut places = occurrences(text, &self.replace);
        let place = places
            .next()
            .with_context(|| format!("{} does not contain `{}`", self.file, self.replace))?;
        ensure!(
            places.next().is_none(),
            "{} contains `{}` more than once",
            self.file,
            self.replace
        );
        let (before, rest) = text.split_at(place.start);
        let after = rest.get(place.len()..).unwrap_or_default();
        Ok(format!("{before}{}{after}", self.by))
    }
}

/// The occurrences of a text in another one. A run of white space matches any run of white space.
fn occurrences<'a>(text: &'a str, wanted: &'a str) -> impl Iterator<Item = std::ops::Range<usize>> + 'a {
    let first = wanted.split_whitespace().next();
    let starts = first.into_iter().flat_map(|first| text.match_indices(first));
    starts.filter_map(|(start, _)| {
        let mut rest = text.get(start..)?;
        for (index, word) in wanted.split_whitespace().enumerate() {
            let trimmed = rest.trim_start();
            if index > 0 && trimmed.len() == rest.len() {
                return None;
            }
            rest = trimmed.strip_prefix(word)?;
        }
        Some(start..text.len() - rest.len())
    })
}

#[cfg(test)]
mod tests {
    use super::{Bug, occurrences};

    const LIST: &str = "[m]\npromise = 'it holds'\nfile = 'a.rs'\nreplace = 'if a { b; }'\nby = 'b;'\ntest = 'one lib a::b'\n";

    fn bug() -> Bug {
        Bug::parse(LIST).unwrap().remove(0)
    }

    #[test]
    fn a_bug_names_its_test() {
        let bug = bug();
        assert_eq!((bug.name.as_str(), bug.promise.as_str()), ("m", "it holds"));
        assert_eq!((bug.package(), bug.caught_by()), ("one", "b"));
        assert_eq!(
            bug.test_arguments(),
            ["-p", "one", "--lib", "--", "--exact", "a::b"]
        );
        let text = LIST.replace("one lib a::b", "one it b") + "property = 'p'\n";
        let bug = Bug::parse(&text).unwrap().remove(0);
        assert_eq!(bug.test_arguments(), ["-p", "one", "--test", "it", "--", "b"]);
        assert_eq!(bug.caught_by(), "p");
    }

    #[test]
    fn a_bug_without_a_field_or_with_an_unknown_one_is_refused() {
        for field in ["promise", "file", "replace", "by", "test"] {
            let text = LIST.replace(&format!("{field} ="), "other =");
            assert!(Bug::parse(&text).is_err(), "{field}");
        }
        assert!(Bug::parse(&LIST.replace("one lib a::b", "a::b")).is_err());
    }

    #[test]
    fn a_text_is_found_whatever_its_line_breaks_are() {
        let text = "x;\nif a {\n    b;\n}\ny;\n";
        assert_eq!(bug().plant(text).unwrap(), "x;\nb;\ny;\n");
        assert_eq!(occurrences("aa", "a").count(), 2);
        assert_eq!(occurrences("ab", "a b").count(), 0);
        assert_eq!(occurrences("anything", " ").count(), 0);
    }

    #[test]
    fn a_text_that_is_absent_or_occurs_twice_is_refused() {
        let error = bug().plant("if a { c; }").unwrap_err().to_string();
        assert!(error.contains("does not contain"), "{error}");
        let error = bug().plant("if a { b; } if a { b; }").unwrap_err().to_string();
        assert!(error.contains("more than once"), "{error}");
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let all = || Bug::parse(LIST).unwrap();
        assert_eq!(Bug::select(all(), &[]).unwrap().len(), 1);
        assert_eq!(Bug::select(all(), &["m".to_owned()]).unwrap().len(), 1);
        assert!(Bug::select(all(), &["n".to_owned()]).is_err());
    }
}
