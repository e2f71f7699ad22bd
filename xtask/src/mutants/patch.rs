//! A planted bug, read from its file.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::project::Project;

/// Where they lie.
const FOLDER: &str = "xtask/mutants";

/// A mutant.
#[derive(Debug)]
pub(super) struct Patch {
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// The promise that it breaks, in a sentence.
    pub(super) what: String,
    /// Arguments of the `cargo test` that has to fail.
    pub(super) test: Vec<String>,
    /// The property, or the test, that has to be among what fails.
    pub(super) caught_by: String,
}

impl Patch {
    /// All of them, by name.
    pub(super) fn read_all(project: &Project) -> Result<Vec<Self>> {
        let mut patches = Vec::new();
        let folder =
            std::fs::read_dir(project.path(FOLDER)).with_context(|| format!("can't list {FOLDER}"))?;
        let mut paths = folder
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?;
        paths.sort();
        for path in paths {
            if path.extension().is_none_or(|extension| extension != "patch") {
                continue;
            }
            let shown = path.display();
            let text = std::fs::read_to_string(&path).with_context(|| format!("can't read {shown}"))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let patch = Self::parse(&name, path.clone(), &text).with_context(|| format!("in {shown}"))?;
            patches.push(patch);
        }
        if patches.is_empty() {
            bail!("there is no patch in {FOLDER}");
        }
        Ok(patches)
    }

    /// The named patches; all of them without a name.
    pub(super) fn select(patches: Vec<Self>, names: &[String]) -> Result<Vec<Self>> {
        if let Some(unknown) = names
            .iter()
            .find(|name| patches.iter().all(|patch| patch.name != **name))
        {
            bail!("there is no mutant `{unknown}`: `cargo xtask mutants --list` names them");
        }
        let wanted = |patch: &Self| names.is_empty() || names.contains(&patch.name);
        Ok(patches.into_iter().filter(wanted).collect())
    }

    fn parse(name: &str, path: PathBuf, text: &str) -> Result<Self> {
        let field = |field: &str| {
            text.lines()
                .map_while(|line| line.strip_prefix("# "))
                .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
                .map(str::trim)
                .filter(|value| !value.is_empty())
                .with_context(|| format!("its first lines lack `# {field}: ..`"))
        };
        Ok(Self {
            name: name.to_owned(),
            path,
            what: field("what")?.to_owned(),
            test: field("test")?.split_whitespace().map(str::to_owned).collect(),
            caught_by: field("caught by")?.to_owned(),
        })
    }

    /// Whether it is a property of the conformance suite that catches it, and not a test.
    #[cfg(any(test, feature = "docs"))]
    pub(super) fn is_caught_by_property(&self) -> bool {
        self.test.iter().any(|word| word.contains("every_property_holds"))
    }

    /// The crate whose test has to fail.
    #[cfg(any(test, feature = "docs"))]
    pub(super) fn package(&self) -> &str {
        let mut words = self.test.iter();
        words
            .find(|word| *word == "-p" || *word == "--package")
            .and_then(|_| words.next())
            .map_or("the workspace", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::Patch;

    const TEXT: &str = "# what: it breaks\n# test: -p one --lib -- --exact a::b\n# caught by: b\n--- a/x\n";

    #[test]
    fn the_first_lines_say_what_it_is() {
        let patch = Patch::parse("m", "m.patch".into(), TEXT).unwrap();
        assert_eq!(patch.what, "it breaks");
        assert_eq!(patch.test, ["-p", "one", "--lib", "--", "--exact", "a::b"]);
        assert_eq!((patch.package(), patch.caught_by.as_str()), ("one", "b"));
        assert!(!patch.is_caught_by_property());
    }

    #[test]
    fn what_lacks_is_named() {
        for field in ["what", "test", "caught by"] {
            let text = TEXT.replace(&format!("# {field}:"), "# other:");
            let error = Patch::parse("m", "m.patch".into(), &text).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
        // Behind the first lines it is part of the change.
        let late = format!("--- a/x\n{TEXT}");
        assert!(Patch::parse("m", "m.patch".into(), &late).is_err());
    }

    #[test]
    fn a_name_that_there_is_not_is_refused() {
        let all = || vec![Patch::parse("m", "m.patch".into(), TEXT).unwrap()];
        assert_eq!(Patch::select(all(), &[]).unwrap().len(), 1);
        assert_eq!(Patch::select(all(), &["m".to_owned()]).unwrap().len(), 1);
        assert!(Patch::select(all(), &["n".to_owned()]).is_err());
    }
}
