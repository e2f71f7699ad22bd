//! A configuration together with where it came from.

use std::path::{Path, PathBuf};

use crate::config::StorageConfig;
use crate::key::KeySpec;
use crate::keys::KEYS;
use crate::notice::Notice;
use crate::origin::Origin;

/// The result of [`Loader::load`](crate::Loader::load).
///
/// ```
/// use prodigy_storage_config::{Loader, MapEnvironment};
///
/// let environment = MapEnvironment::new().with("HOME", "/home/me").with("PRODIGY__STORAGE__TIMEOUT", "5s");
/// let loaded = Loader::new(environment).load()?;
/// for (key, value, origin) in loaded.effective() {
///     println!("{} = {value}  # {origin}", key.path);
/// }
/// assert_eq!(loaded.origin("timeout").to_string(), "variable PRODIGY__STORAGE__TIMEOUT");
/// # Ok::<(), prodigy_storage_config::ConfigErrors>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Loaded {
    /// The configuration: checked, paths expanded.
    pub config: StorageConfig,
    /// Notices for the user.
    pub notices: Vec<Notice>,
    /// One origin a key, in the order of [`KEYS`].
    pub(crate) origins: Vec<Origin>,
    pub(crate) files: Vec<PathBuf>,
}

impl Loaded {
    /// Where the effective value of a key came from; [`Origin::Default`] for a path that is no key.
    ///
    /// For a `base_dir` that follows from `use_global: false` it is where that was set, and for the default one
    /// under `PRODIGY_HOME` that variable.
    #[must_use]
    pub fn origin(&self, key: &str) -> &Origin {
        KEYS.iter()
            .zip(&self.origins)
            .find(|(spec, _)| spec.path == key)
            .map_or(&Origin::Default, |(_, origin)| origin)
    }

    /// Every key that counts under the chosen backend, with its value as text and where that came from.
    pub fn effective(&self) -> impl Iterator<Item = (&'static KeySpec, String, &Origin)> {
        let mut config = self.config.clone();
        let backend = config.backend;
        KEYS.iter()
            .zip(&self.origins)
            .filter(move |(spec, _)| spec.backend.is_none_or(|of| of == backend))
            .map(move |(spec, origin)| (spec, spec.field.text(&mut config), origin))
    }

    /// The configuration files that were read, in their order; a later one wins.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }
}
