//! Loads the configuration.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::environment::Environment;
use crate::error::ConfigErrors;
use crate::loaded::Loaded;

/// Loads the configuration from all its sources.
///
/// If several sources set a key, the last one takes precedence, in this order: the defaults;
/// `config.{yml,yaml,toml}` in `~/.prodigy` (or `PRODIGY_HOME`); the same file in `.prodigy` of the project; the
/// file that `PRODIGY_CONFIG` names; [`Loader::file`]; the environment; [`Loader::flag`]; [`Loader::set`].
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
    /// A loader that reads variables and the home folder from this environment.
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

    /// Sets the project's folder: the root of the current worktree or, outside of a worktree, the current folder.
    /// The loader reads `.prodigy/config.*` in it, and with `use_global: false` data is stored in its `.prodigy/`.
    /// By default there is no project.
    pub fn project_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.project_dir = Some(path.into());
        self
    }

    /// Sets the home folder, instead of that of the environment. With `None` there is no home folder.
    pub fn home(mut self, home: Option<PathBuf>) -> Self {
        self.home = home;
        self
    }

    /// Sets the configuration file that the program or `--config` names. It must exist.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Sets the key at this path from the command line, as in `flag("backend_config.base_dir", dir)`.
    pub fn flag(mut self, key: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.flags.push((key.into(), value.into()));
        self
    }

    /// Sets the key at this path from the program. This takes precedence over all other sources.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.code.push((key.into(), value.into()));
        self
    }

    /// Reads and merges all sources.
    ///
    /// # Errors
    /// [`ConfigErrors`] with all errors in all sources.
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        crate::gather::gather(self)
    }
}
