//! A configuration with the origins of its values.

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
    /// The configuration, checked and with expanded paths.
    pub config: StorageConfig,
    /// Notices about the configuration, for the user.
    pub notices: Vec<Notice>,
    /// The origin of each key, in the order of [`KEYS`].
    pub(crate) origins: Vec<Origin>,
    pub(crate) files: Vec<PathBuf>,
}

impl Loaded {
    /// The origin of the effective value of a key; [`Origin::Default`] for a path that is not a key.
    ///
    /// If `base_dir` results from `use_global: false`, its origin is the origin of `use_global`. If it results from
    /// `PRODIGY_HOME`, its origin is that variable.
    #[must_use]
    pub fn origin(&self, key: &str) -> &Origin {
        KEYS.iter()
            .zip(&self.origins)
            .find(|(spec, _)| spec.path == key)
            .map_or(&Origin::Default, |(_, origin)| origin)
    }

    /// All keys that apply to the chosen backend, each with its value as text and the origin of the value.
    pub fn effective(&self) -> impl Iterator<Item = (&'static KeySpec, String, &Origin)> {
        let mut config = self.config.clone();
        let backend = config.backend;
        KEYS.iter()
            .zip(&self.origins)
            .filter(move |(spec, _)| spec.backend.is_none_or(|of| of == backend))
            .map(move |(spec, origin)| (spec, spec.field.text(&mut config), origin))
    }

    /// The configuration files that were read, in order. A later file takes precedence.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }
}
