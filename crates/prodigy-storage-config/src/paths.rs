//! Expands `~` in paths, and finds the base of relative paths.

use std::path::{Component, Path, PathBuf};

use prodigy_storage_layout::Identity;

use crate::postgres::PostgresSettings;
use crate::raw::Problem;
use crate::text::shown;

/// Checks that a path may be a value in the configuration.
pub(crate) fn check(path: &Path) -> Result<(), Problem> {
    if path.as_os_str().is_empty() {
        return Err(Problem::new("the path is empty"));
    }
    check_no_database(path)?;
    // Folder names do not need these characters, and YAML does not preserve all of them.
    let unfit = |c: &char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if let Some(c) = path.to_string_lossy().chars().find(unfit) {
        return Err(Problem::new(format!(
            "the path holds a control character, U+{:04X}",
            u32::from(c)
        )));
    }
    if let Some(part) = unexpanded(path) {
        return Err(Problem::new(format!(
            "`{}` in it is not expanded, and would be taken for a folder's name",
            shown(&part)
        ))
        .hint("write the path itself: absolute, or starting with `~/`"));
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

/// Fails for a connection string, which would become the name of a folder, with its password.
fn check_no_database(path: &Path) -> Result<(), Problem> {
    let text = path.to_string_lossy();
    if !PostgresSettings::is_without_scheme(&text) {
        return Ok(());
    }
    Err(Problem::new(format!(
        "`{}` is a connection string of a database, and no path",
        shown(&text)
    ))
    .hint(
        "for a database, set `backend: postgres`, and `backend_config.url` to postgresql://USER@HOST/DATABASE; for a folder of \
         that name write `./...`",
    ))
}

/// Fails for a relative path in a variable, whose meaning would depend on the current folder.
pub(crate) fn check_whole(path: &Path) -> Result<(), Problem> {
    if path.as_os_str().is_empty() || path.is_absolute() || needs_home(path) {
        return Ok(());
    }
    check_no_database(path)?;
    Err(Problem::new(format!(
        "`{}` is a relative path, and would name another place in each folder",
        shown(&path.to_string_lossy())
    ))
    .hint("write an absolute path, or one that starts with `~/`"))
}

/// A part of a path that a shell or a URL parser would have replaced, such as `$VAR`, `%VAR%` or `file://`.
fn unexpanded(path: &Path) -> Option<String> {
    let text = path.to_string_lossy();
    if let Some((scheme, _)) = text.split_once(':')
        && scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        && (text.contains("://") || scheme.eq_ignore_ascii_case("file"))
    {
        return Some(format!("{scheme}:"));
    }
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for (at, _) in text.match_indices('$') {
        let rest = text.get(at + 1..).unwrap_or_default();
        if rest.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '{' | '(')) {
            let end = rest
                .find(|c: char| !name(c) && !matches!(c, '{' | '}' | '(' | ')'))
                .unwrap_or(rest.len());
            return Some(format!("${}", rest.get(..end).unwrap_or_default()));
        }
    }
    for (at, _) in text.match_indices('%') {
        let rest = text.get(at + 1..).unwrap_or_default();
        if let Some((variable, _)) = rest.split_once('%')
            && variable.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && variable.chars().all(name)
        {
            return Some(format!("%{variable}%"));
        }
    }
    None
}

/// The first part of a path, if it begins with `~`.
fn tilde(path: &Path) -> Option<String> {
    match path.components().next() {
        Some(Component::Normal(first)) if first.as_encoded_bytes().starts_with(b"~") => {
            Some(first.to_string_lossy().into_owned())
        }
        _ => None,
    }
}

/// True if the path begins with `~`, so that the home folder has to be known.
pub(crate) fn needs_home(path: &Path) -> bool {
    tilde(path).is_some()
}

/// Expands `~` in a path. `None` if the home folder is needed but not known.
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

/// The base of relative paths in a configuration file. If a project contains the file, it is the main worktree of
/// the project, so that it is the same for all worktrees. Otherwise it is the folder of the file.
pub(crate) fn base_of(file: &Path) -> Result<PathBuf, Problem> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let project = match folder.parent() {
        Some(project) if folder.ends_with(".prodigy") && !project.as_os_str().is_empty() => project,
        _ => folder,
    };
    Identity::at(project)
        .and_then(|identity| identity.main_worktree())
        .map(|main| main.unwrap_or_else(|| folder.to_owned()))
        .map_err(|error| {
            Problem::new(format!(
                "it is a relative path, and the project that the file belongs to is not known: {error}"
            ))
            .hint(format!("write an absolute path, or {}", error.hint()))
        })
}

/// True if the path is relative and does not begin with `~`.
pub(crate) fn is_relative(path: &Path) -> bool {
    !path.is_absolute() && !needs_home(path)
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
    fn what_a_shell_would_replace_is_refused() {
        for (path, part) in [
            ("$HOME/data", "`$HOME`"),
            ("/srv/${USER}/x", "`${USER}`"),
            ("/srv/$(id)/x", "`$(id)`"),
            ("%USERPROFILE%/x", "`%USERPROFILE%`"),
            ("file:///srv", "`file:`"),
            ("file:/srv", "`file:`"),
            ("s3://bucket/x", "`s3:`"),
        ] {
            let why = check(Path::new(path)).unwrap_err().why;
            assert!(why.contains(part), "{path}: {why}");
        }
        for path in ["/srv/100%", "/srv/a$", "/a:b", "./a://b", "/srv/50%-60%"] {
            assert_eq!(check(Path::new(path)), Ok(()), "{path}");
        }
    }

    #[test]
    fn a_connection_string_is_no_path_and_is_shown_without_its_password() {
        for text in [
            "host=127.0.0.1 user=app password=s3cret dbname=jobs",
            "Password = 's3 cret' host = db",
            "application_name=x dbname=jobs password=s3cret",
            "user=app password='x:s3cret@y'",
            "app:s3cret@db/jobs",
        ] {
            for problem in [check(Path::new(text)), check_whole(Path::new(text))] {
                let problem = problem.unwrap_err();
                assert!(problem.why.contains("connection string"), "{}", problem.why);
                assert!(!problem.why.contains("cret"), "{}", problem.why);
                assert!(problem.hint.unwrap().contains("postgresql://"), "{text}");
            }
        }
        for path in [
            "./host=db",
            "/srv/host=db password=x",
            "~/user=a",
            "runs/n=3",
            "a b=c",
        ] {
            assert_eq!(check(Path::new(path)), Ok(()), "{path}");
        }
    }

    #[test]
    fn a_relative_path_of_a_variable_is_refused() {
        for path in ["data", "./data", "../data", "./~x"] {
            assert!(
                check_whole(Path::new(path)).unwrap_err().why.contains("relative"),
                "{path}"
            );
        }
        for path in ["/data", "~", "~/data"] {
            assert_eq!(check_whole(Path::new(path)), Ok(()), "{path}");
        }
    }
}
