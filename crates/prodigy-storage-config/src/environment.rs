//! The sources of environment variables.
#![expect(
    clippy::disallowed_methods,
    reason = "the one module that reads the environment of the process"
)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// A source of environment variables. A caller passes one; only [`ProcessEnvironment`] reads the variables of the
/// process.
///
/// ```
/// use std::ffi::OsString;
/// use prodigy_storage_config::{Environment, Loader};
///
/// /// An environment with one variable.
/// struct Only(&'static str, &'static str);
///
/// impl Environment for Only {
///     fn var(&self, name: &str) -> Option<OsString> {
///         (name == self.0).then(|| self.1.into())
///     }
///
///     fn names(&self) -> Vec<OsString> {
///         vec![self.0.into()]
///     }
/// }
///
/// let loaded = Loader::new(Only("PRODIGY_STORAGE_TYPE", "memory")).load()?;
/// assert_eq!(loaded.config.backend.as_str(), "memory");
/// # Ok::<(), prodigy_storage_config::ConfigErrors>(())
/// ```
pub trait Environment {
    /// The value of a variable, if it is set. It may be empty; the caller treats an empty value as unset.
    fn var(&self, name: &str) -> Option<OsString>;

    /// The names of all variables that are set and not empty, in any order.
    fn names(&self) -> Vec<OsString>;

    /// The user's home folder: by default the value of `HOME`. A relative path is ignored, since its meaning would
    /// depend on the current folder.
    fn home(&self) -> Option<PathBuf> {
        self.var("HOME")
            .map(PathBuf::from)
            .filter(|home| home.is_absolute())
    }

    /// The user who may own a project's configuration file: by default the effective user of the process.
    fn user(&self) -> u32 {
        rustix::process::geteuid().as_raw()
    }
}

/// The environment variables of this process.
///
/// ```no_run
/// use prodigy_storage_config::{Loader, ProcessEnvironment};
///
/// let loaded = Loader::new(ProcessEnvironment).load()?;
/// println!("{}", loaded.config.file.base_dir.display());
/// # Ok::<(), prodigy_storage_config::ConfigErrors>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::exhaustive_structs, reason = "a unit, written as a value")]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn var(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn names(&self) -> Vec<OsString> {
        std::env::vars_os()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, _)| name)
            .collect()
    }

    fn home(&self) -> Option<PathBuf> {
        std::env::home_dir().filter(|home| home.is_absolute())
    }
}

/// An environment with the variables of a map, for tests and for programs that choose the variables themselves.
///
/// ```
/// use prodigy_storage_config::{Loader, MapEnvironment};
///
/// let environment = MapEnvironment::new().with("PRODIGY_STORAGE_BASE_PATH", "/srv/prodigy");
/// let loaded = Loader::new(environment).load()?;
/// assert_eq!(loaded.config.file.base_dir.to_str(), Some("/srv/prodigy"));
/// # Ok::<(), prodigy_storage_config::ConfigErrors>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MapEnvironment {
    variables: BTreeMap<OsString, OsString>,
    user: Option<u32>,
}

impl MapEnvironment {
    /// An environment without variables.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a variable.
    #[must_use]
    pub fn with(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Sets the user who may own a project's configuration file.
    #[must_use]
    pub fn with_user(mut self, user: u32) -> Self {
        self.user = Some(user);
        self
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for MapEnvironment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Self {
            variables,
            user: None,
        }
    }
}

impl Environment for MapEnvironment {
    fn var(&self, name: &str) -> Option<OsString> {
        self.variables.get(OsStr::new(name)).cloned()
    }

    fn names(&self) -> Vec<OsString> {
        let set = self.variables.iter().filter(|(_, value)| !value.is_empty());
        set.map(|(name, _)| name.clone()).collect()
    }

    fn user(&self) -> u32 {
        self.user.unwrap_or_else(|| ProcessEnvironment.user())
    }
}

/// Implements [`Environment`] for pointers to an environment.
macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<E: Environment + ?Sized> Environment for $pointer {
            fn var(&self, name: &str) -> Option<OsString> {
                (**self).var(name)
            }

            fn names(&self) -> Vec<OsString> {
                (**self).names()
            }

            fn home(&self) -> Option<PathBuf> {
                (**self).home()
            }

            fn user(&self) -> u32 {
                (**self).user()
            }
        }
    )*};
}

forward!(&E, Box<E>);

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
