//! Where variables are read from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// A source of environment variables, handed in so that nothing but [`ProcessEnvironment`] touches the real one.
pub trait Environment {
    /// The value of a variable, if it is set. An empty value counts as unset; the caller sees to that.
    fn var(&self, name: &str) -> Option<OsString>;

    /// The names of all variables that are set, in any order. A name that is not Unicode may be left out.
    fn names(&self) -> Vec<String>;

    /// The user's home folder; `HOME` unless the implementation knows better.
    fn home(&self) -> Option<PathBuf> {
        self.var("HOME")
            .filter(|home| !home.is_empty())
            .map(PathBuf::from)
    }
}

/// The variables of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn var(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .collect()
    }

    fn home(&self) -> Option<PathBuf> {
        std::env::home_dir().filter(|home| !home.as_os_str().is_empty())
    }
}

/// Variables out of a map: for tests and for programs that decide themselves what storage may see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MapEnvironment {
    variables: BTreeMap<String, OsString>,
}

impl MapEnvironment {
    /// An environment in which nothing is set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same environment with one more variable.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }
}

impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for MapEnvironment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Self { variables }
    }
}

impl Environment for MapEnvironment {
    fn var(&self, name: &str) -> Option<OsString> {
        self.variables.get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.variables.keys().cloned().collect()
    }
}

impl<E: Environment + ?Sized> Environment for &E {
    fn var(&self, name: &str) -> Option<OsString> {
        (**self).var(name)
    }

    fn names(&self) -> Vec<String> {
        (**self).names()
    }

    fn home(&self) -> Option<PathBuf> {
        (**self).home()
    }
}

impl<E: Environment + ?Sized> Environment for Box<E> {
    fn var(&self, name: &str) -> Option<OsString> {
        (**self).var(name)
    }

    fn names(&self) -> Vec<String> {
        (**self).names()
    }

    fn home(&self) -> Option<PathBuf> {
        (**self).home()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_home_unless_empty() {
        let set = MapEnvironment::new().with("HOME", "/home/ada");
        assert_eq!(set.home(), Some(PathBuf::from("/home/ada")));
        assert_eq!(Environment::home(&&set), set.home());
        let boxed: Box<dyn Environment> = Box::new(set);
        assert_eq!(boxed.home(), Some(PathBuf::from("/home/ada")));
        assert_eq!(MapEnvironment::new().with("HOME", "").home(), None);
        assert_eq!(MapEnvironment::new().home(), None);
    }

    #[test]
    fn a_map_names_what_it_holds() {
        let map: MapEnvironment = [("B", "2"), ("A", "1")].into_iter().collect();
        assert_eq!(map.names(), ["A", "B"]);
        assert_eq!(map.var("A"), Some(OsString::from("1")));
        assert_eq!(map.var("C"), None);
    }
}
