//! Finding and reading every source.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::environment::Environment;
use crate::error::ConfigErrors;
use crate::loaded::Loaded;

/// Gathers the configuration from all its sources.
///
/// The later source wins, key by key: defaults; `config.{yml,yaml,toml}` in `~/.prodigy` (or `PRODIGY_HOME`); the
/// same in `.prodigy` of the project; the file of `PRODIGY_CONFIG`; the one of [`Loader::file`]; the environment;
/// [`Loader::flag`]; [`Loader::set`].
///
/// ```
/// use prodigy_storage_config::{Loader, MapEnvironment};
///
/// let loaded = Loader::new(MapEnvironment::new())
///     .set("backend_config.base_dir", "/srv/prodigy")
///     .flag("timeout", "5s")
///     .load()?;
/// assert_eq!(loaded.config.timeout.as_secs(), 5);
/// # Ok::<(), prodigy_storage_config::ConfigErrors>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a loader does nothing until `load` is called"]
pub struct Loader<E> {
    pub(crate) environment: E,
    pub(crate) project_dir: Option<PathBuf>,
    pub(crate) home: Option<PathBuf>,
    pub(crate) file: Option<PathBuf>,
    pub(crate) flags: Vec<(String, OsString)>,
    pub(crate) code: Vec<(String, OsString)>,
}

impl<E: Environment> Loader<E> {
    /// A loader that reads variables, and the home folder, from here.
    pub fn new(environment: E) -> Self {
        let home = environment.home();
        Self {
            environment,
            project_dir: None,
            home,
            file: None,
            flags: Vec::new(),
            code: Vec::new(),
        }
    }

    /// The project: the root of the current worktree, else the current folder. Its `.prodigy/config.*` is read, and
    /// `use_global: false` puts data there. Without it no project is read.
    pub fn project_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.project_dir = Some(path.into());
        self
    }

    /// The home folder, instead of the one in the environment; `None` means that there is no home folder.
    pub fn home(mut self, home: Option<PathBuf>) -> Self {
        self.home = home;
        self
    }

    /// A configuration file named outright, in code or by `--config`. It must exist.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// A value from the command line, for the key at this path: `flag("backend_config.base_dir", dir)`.
    pub fn flag(mut self, key: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.flags.push((key.into(), value.into()));
        self
    }

    /// A value that the program itself decides; it wins over every other source.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.code.push((key.into(), value.into()));
        self
    }

    /// Reads every source and puts them together.
    ///
    /// # Errors
    /// [`ConfigErrors`] with everything that is wrong in any source.
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        crate::gather::gather(self)
    }
}
