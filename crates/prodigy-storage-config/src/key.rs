//! Describes one key of the configuration.

use crate::field::Field;
use crate::kind::BackendKind;

/// The prefix of the variables of all keys, as in `PRODIGY__STORAGE__RETRY_POLICY__MAX_RETRIES`.
pub(crate) const VARIABLE_PREFIX: &str = "PRODIGY__STORAGE__";

/// One key of the configuration, as [`KEYS`](crate::KEYS) describes it.
///
/// ```
/// let timeout = prodigy_storage_config::key("timeout").expect("a key");
/// assert_eq!((timeout.default, timeout.variable().as_str()), ("30s", "PRODIGY__STORAGE__TIMEOUT"));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct KeySpec {
    /// The path of the key below `storage`, with its parts joined by dots, such as `retry_policy.max_retries`.
    pub path: &'static str,
    /// The default as text, or `none`.
    pub default: &'static str,
    /// The meaning of the key, in one line.
    pub meaning: &'static str,
    /// Other variables that set the key, besides [`KeySpec::variable`], in order of precedence.
    pub variables: &'static [VariableSpec],
    /// The reason why the key is deprecated; `None` if it is not.
    pub deprecated: Option<&'static str>,
    /// The backend that uses the key; `None` if all backends do.
    pub backend: Option<BackendKind>,
    /// The value that weakens durability or locking, if the key has such a value.
    pub(crate) weaker: Option<&'static str>,
    pub(crate) field: Field,
}

/// An environment variable whose name does not follow from a key's path.
///
/// ```
/// let root = prodigy_storage_config::key("backend_config.base_dir").expect("a key");
/// let names: Vec<&str> = root.variables.iter().map(|variable| variable.name).collect();
/// assert!(names.contains(&"PRODIGY_STORAGE_BASE_PATH"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct VariableSpec {
    /// The name of the variable.
    pub name: &'static str,
    /// The name of the variable to use instead, if this one is deprecated.
    pub instead: Option<&'static str>,
    /// The effect of the variable, in one line.
    pub meaning: &'static str,
}

impl KeySpec {
    pub(crate) const fn new(
        path: &'static str,
        default: &'static str,
        field: Field,
        meaning: &'static str,
    ) -> Self {
        Self {
            path,
            default,
            meaning,
            variables: &[],
            deprecated: None,
            backend: None,
            weaker: None,
            field,
        }
    }

    pub(crate) const fn of(mut self, backend: BackendKind) -> Self {
        self.backend = Some(backend);
        self
    }

    pub(crate) const fn weaker(mut self, value: &'static str) -> Self {
        self.weaker = Some(value);
        self
    }

    pub(crate) const fn also(mut self, variables: &'static [VariableSpec]) -> Self {
        self.variables = variables;
        self
    }

    pub(crate) const fn deprecated(mut self, why: &'static str) -> Self {
        self.deprecated = Some(why);
        self
    }

    /// The section of the key: its path without its name. `None` if the key is directly below `storage`.
    #[must_use]
    pub fn section(&self) -> Option<&'static str> {
        self.path.rsplit_once('.').map(|(section, _)| section)
    }

    /// The key's name within its section.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }

    /// A short description of the values that the key takes, such as `bool`, `bytes`, or `` `file` or `memory` ``.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.field.kind()
    }

    /// The variable that sets the key, such as `PRODIGY__STORAGE__RETRY_POLICY__MAX_RETRIES`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!(
            "{VARIABLE_PREFIX}{}",
            self.path.replace('.', "__").to_ascii_uppercase()
        )
    }

    /// The name of the command-line flag for the key, such as `--base-dir`.
    #[must_use]
    pub fn flag(&self) -> String {
        format!("--{}", self.name().replace('_', "-"))
    }
}
