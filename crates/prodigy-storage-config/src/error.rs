//! Errors of a configuration.

use std::fmt;
use std::path::Path;

use crate::origin::Origin;

/// One error in a configuration.
///
/// [`Display`](fmt::Display) prints several lines: the problem, its position, the reason, and the advice how to
/// fix it.
///
/// ```
/// # #[cfg(feature = "yaml")] {
/// use prodigy_storage_config::StorageConfig;
///
/// let errors = StorageConfig::from_yaml("storage:\n  timeuot: 30s\n").unwrap_err();
/// let error = errors.iter().next().expect("one error");
/// assert_eq!((error.line(), error.suggestion()), (Some(2), Some("did you mean `timeout`?")));
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError {
    what: String,
    origin: Origin,
    key: Option<String>,
    why: Option<String>,
    hint: Option<String>,
}

/// The same as `Display`: a `main` that returns the error prints it so.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ConfigError {
    pub(crate) fn new(origin: Origin, what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            origin,
            key: None,
            why: None,
            hint: None,
        }
    }

    pub(crate) fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub(crate) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The problem, in one line.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The origin of the wrong value.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The configuration file that has the error, if it is in a file.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.origin.file()
    }

    /// The line of the error in the configuration file, from 1; `None` if the error is not in a line of a file.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.origin.line()
    }

    /// The column of the error in characters, from 1; `None` if the error is not in a line of a file.
    #[must_use]
    pub fn column(&self) -> Option<usize> {
        self.origin.column()
    }

    /// The path of the key below `storage`, as it was written, such as `retry_policy.max_retrys`.
    #[must_use]
    pub fn key_path(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The reason why the value or key is wrong.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// The advice how to fix the error.
    #[must_use]
    pub fn suggestion(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  where: {}", self.what, self.origin)?;
        if let Some(why) = &self.why {
            write!(f, "\n  why: {why}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// All errors in all sources of a configuration. There is at least one.
///
/// ```
/// # #[cfg(feature = "toml")] {
/// use prodigy_storage_config::StorageConfig;
///
/// let errors = StorageConfig::from_toml("[storage]\ntimeout = true\nenable_cache = 1\n").unwrap_err();
/// for error in &errors {
///     eprintln!("{error}");
/// }
/// assert_eq!(errors.len(), 2);
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

/// The same as `Display`: a `main` that returns the error prints it so.
impl fmt::Debug for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ConfigErrors {
    #[cfg(any(feature = "yaml", feature = "toml"))]
    pub(crate) fn one(error: ConfigError) -> Self {
        Self(vec![error])
    }

    /// `Ok` if there are no errors.
    pub(crate) fn check(errors: Vec<ConfigError>) -> Result<(), Self> {
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Self(errors))
        }
    }

    /// The errors, in the order in which the sources are read, and by position within a file.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }

    /// The number of errors.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for ConfigErrors {
    type Item = ConfigError;
    type IntoIter = std::vec::IntoIter<ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
