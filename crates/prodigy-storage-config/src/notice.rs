//! Notices about a valid configuration, for the user.

use std::fmt;
use std::path::PathBuf;

use crate::kind::BackendKind;
use crate::origin::Origin;
use crate::text::shown;

/// A warning about a valid configuration. [`Display`](fmt::Display) prints one line.
///
/// ```
/// use prodigy_storage_config::{Loader, MapEnvironment, Notice};
///
/// let environment = MapEnvironment::new().with("PRODIGY_STORAGE_DIR", "/srv/prodigy");
/// let loaded = Loader::new(environment).load()?;
/// assert!(matches!(&loaded.notices[0], Notice::DeprecatedVariable { name, .. } if name == "PRODIGY_STORAGE_DIR"));
/// # Ok::<(), prodigy_storage_config::ConfigErrors>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A variable was read under its deprecated name.
    DeprecatedVariable {
        /// The name that was read.
        name: String,
        /// The name to use instead.
        instead: &'static str,
    },
    /// A variable was ignored, because another variable for the same setting is set too.
    ShadowedVariable {
        /// The name that was ignored.
        name: String,
        /// The name of the other variable, which was read.
        by: String,
    },
    /// A variable that the clients of PostgreSQL read was ignored.
    ClientVariable {
        /// The name that was ignored.
        name: &'static str,
        /// The setting to use instead, or the reason why no setting does the same.
        instead: &'static str,
    },
    /// `use_global: false` is set, so data is stored in the project and not shared between worktrees.
    LocalStorage {
        /// The origin of `use_global`.
        origin: Origin,
        /// The root of the data.
        path: PathBuf,
    },
    /// A key was ignored, because it belongs to another backend than the chosen one.
    OtherBackend {
        /// The key that was ignored.
        key: &'static str,
        /// The origin of its value.
        origin: Origin,
        /// The backend that is chosen.
        chosen: BackendKind,
        /// The origin of this choice.
        chosen_by: Origin,
    },
    /// Both `use_global: false` and `base_dir` are set. The one from the earlier source was ignored.
    Overruled {
        /// The key that was ignored.
        key: &'static str,
        /// The origin of the value that was ignored.
        origin: Origin,
        /// The key that is used.
        by: &'static str,
        /// The origin of the value that is used.
        by_origin: Origin,
    },
    /// A project's `.prodigy/` contains data of `use_global: false`, which is neither read nor changed.
    UnusedLocalStorage {
        /// The folder.
        path: PathBuf,
    },
    /// A file does not have the key `storage`, but a top-level key with a similar name.
    LooksLikeStorage {
        /// The key as it was written.
        key: String,
        /// The position of the key.
        origin: Origin,
    },
    /// A key that belongs below `storage` is at the top level of a file, where it has no effect.
    AtTopLevel {
        /// The key.
        key: String,
        /// The position of the key.
        origin: Origin,
    },
    /// A key was ignored, because it is one that another program reads from the same file.
    OtherProgram {
        /// The key.
        key: String,
        /// The position of the key.
        origin: Origin,
    },
    /// A project's configuration file weakens durability or locking.
    WeakenedByProject {
        /// The key that weakens them.
        key: &'static str,
        /// The value of the key.
        value: String,
        /// The origin of the value.
        origin: Origin,
    },
    /// The folder of the project can't be entered, so the project's configuration was not read.
    ProjectNotEntered {
        /// The folder of the project.
        path: PathBuf,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeprecatedVariable { name, instead } => {
                write!(f, "variable {} is deprecated: set {instead} instead", shown(name))
            }
            Self::ShadowedVariable { name, by } => {
                write!(
                    f,
                    "variable {} is ignored, since {} is set",
                    shown(name),
                    shown(by)
                )
            }
            Self::ClientVariable { name, instead } => {
                write!(
                    f,
                    "variable {name}, which the clients of PostgreSQL read, is ignored here: {instead}"
                )
            }
            Self::LocalStorage { origin, path } => write!(
                f,
                "`backend_config.use_global: false` ({origin}) is deprecated: data is stored in {} and is not shared between worktrees",
                shown(&path.to_string_lossy())
            ),
            Self::OtherBackend {
                key,
                origin,
                chosen,
                chosen_by,
            } => {
                write!(
                    f,
                    "`{key}` ({origin}) is ignored: the backend is `{chosen}` ({chosen_by})"
                )
            }
            Self::Overruled {
                key,
                origin,
                by,
                by_origin,
            } => {
                write!(
                    f,
                    "`{key}` ({origin}) is ignored: `{by}` ({by_origin}) comes later"
                )
            }
            Self::UnusedLocalStorage { path } => write!(
                f,
                "{} holds data of local storage, which is neither read nor changed while global storage is in use",
                shown(&path.to_string_lossy())
            ),
            Self::AtTopLevel { key, origin } => write!(
                f,
                "`{key}` ({origin}) is at the top level and sets nothing: move it below `storage`"
            ),
            Self::OtherProgram { key, origin } => write!(
                f,
                "`{}` ({origin}) is a key of another program and sets nothing here",
                shown(key)
            ),
            Self::WeakenedByProject { key, value, origin } => write!(
                f,
                "`{key}: {value}` is set by the project ({origin}) and weakens what storage promises"
            ),
            Self::ProjectNotEntered { path } => write!(
                f,
                "the configuration in {} was not looked for: the folder can't be entered",
                shown(&path.to_string_lossy())
            ),
            Self::LooksLikeStorage { key, origin } => {
                write!(
                    f,
                    "`{}` ({origin}) is no key of ours: was `storage` meant?",
                    shown(key)
                )
            }
        }
    }
}
