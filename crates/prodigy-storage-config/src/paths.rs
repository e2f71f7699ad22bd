//! Paths in values: `~` and what a relative one starts at.

use std::path::{Component, Path, PathBuf};

use crate::raw::Problem;
use crate::text::shown;

/// Whether a path may stand in the configuration.
pub(crate) fn check(path: &Path) -> Result<(), Problem> {
    if path.as_os_str().is_empty() {
        return Err(Problem::new("the path is empty"));
    }
    // None is of use in a folder's name, and YAML would not keep every one.
    let unfit = |c: &char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if let Some(c) = path.to_string_lossy().chars().find(unfit) {
        return Err(Problem::new(format!(
            "the path holds a control character, U+{:04X}",
            u32::from(c)
        )));
    }
    match tilde(path) {
        Some(user) if user != "~" => Err(Problem::new(format!(
            "another user's home, `{}`, is not expanded",
            shown(&user)
        ))
        .hint(
            "write `~/...` for your own home, or the whole path; for a folder of that name write `./~...`",
        )),
        _ => Ok(()),
    }
}

/// The first part of a path, where it starts with `~`.
fn tilde(path: &Path) -> Option<String> {
    match path.components().next() {
        Some(Component::Normal(first)) if first.as_encoded_bytes().starts_with(b"~") => {
            Some(first.to_string_lossy().into_owned())
        }
        _ => None,
    }
}

/// Whether the path needs the home folder.
pub(crate) fn needs_home(path: &Path) -> bool {
    tilde(path).is_some()
}

/// The path with `~` replaced; `None` when the home folder is needed and not known.
pub(crate) fn expand(path: &Path, home: Option<&Path>) -> Option<PathBuf> {
    if !needs_home(path) {
        return Some(path.to_owned());
    }
    let mut rest = path.components();
    rest.next();
    let rest = rest.as_path();
    let home = home?;
    Some(if rest.as_os_str().is_empty() {
        home.to_owned()
    } else {
        home.join(rest)
    })
}

/// A path of a file's value, seen from the file's folder.
pub(crate) fn beside(path: &Path, file: &Path) -> PathBuf {
    if path.is_absolute() || needs_home(path) {
        return path.to_owned();
    }
    file.parent()
        .map_or_else(|| path.to_owned(), |folder| folder.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_home_is_expanded() {
        let home = Some(Path::new("/home/ada"));
        for (path, expected) in [
            ("~", "/home/ada"),
            ("~/", "/home/ada"),
            ("~/a/b", "/home/ada/a/b"),
            ("/a/~/b", "/a/~/b"),
            ("./~x", "./~x"),
            ("a~", "a~"),
        ] {
            assert_eq!(
                expand(Path::new(path), home),
                Some(PathBuf::from(expected)),
                "{path}"
            );
            assert_eq!(check(Path::new(path)), Ok(()), "{path}");
        }
        assert_eq!(expand(Path::new("~/a"), None), None);
        assert_eq!(expand(Path::new("/a"), None), Some(PathBuf::from("/a")));
        assert!(check(Path::new("~bob/x")).unwrap_err().why.contains("~bob"));
        assert!(check(Path::new("")).is_err());
        for c in ['\0', '\n', '\u{1b}', '\u{85}', '\u{2028}'] {
            let problem = check(Path::new(&format!("/a{c}b"))).unwrap_err();
            assert!(
                problem.why.ends_with(&format!("U+{:04X}", u32::from(c))),
                "{}",
                problem.why
            );
        }
    }

    #[test]
    fn a_relative_path_starts_at_its_file() {
        assert_eq!(
            beside(Path::new("data"), Path::new("/p/.prodigy/config.yaml")),
            Path::new("/p/.prodigy/data")
        );
        assert_eq!(
            beside(Path::new("/data"), Path::new("/p/config.yaml")),
            Path::new("/data")
        );
        assert_eq!(
            beside(Path::new("~/data"), Path::new("/p/config.yaml")),
            Path::new("~/data")
        );
        assert_eq!(
            beside(Path::new("data"), Path::new("config.yaml")),
            Path::new("data")
        );
    }
}
