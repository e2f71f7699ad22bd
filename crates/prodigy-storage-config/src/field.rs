//! Reads and writes the value of one key in the configuration.

use std::path::PathBuf;
use std::time::Duration;

use prodigy_storage_backend::Durability;
use prodigy_storage_cache::CacheType;

use crate::config::StorageConfig;
use crate::duration::MAX_DURATION;
use crate::kind::BackendKind;
use crate::raw::{Problem, Raw};

type At<T> = fn(&mut StorageConfig) -> &mut T;

/// How to access the field of a key in [`StorageConfig`], and the type of its values.
#[derive(Debug)]
pub(crate) enum Field {
    Backend(At<BackendKind>),
    Durability(At<Durability>),
    CacheType(At<CacheType>),
    Bool(At<bool>),
    /// A number, at least 1.
    Count(At<usize>),
    Retries(At<u32>),
    /// A size in bytes, at least 1.
    Bytes(At<u64>),
    /// A size in bytes, at least 1; or `none`.
    OptionalBytes(At<Option<u64>>),
    /// A duration above zero.
    Period(At<Duration>),
    /// A duration that may be zero.
    Delay(At<Duration>),
    /// A duration above zero; or `none`.
    OptionalPeriod(At<Option<Duration>>),
    /// A number, at least 1; or `none`.
    OptionalCount(At<Option<usize>>),
    /// A factor: a finite number, at least 1.
    Factor(At<f64>),
    Path(At<PathBuf>),
    OptionalPath(At<Option<PathBuf>>),
    /// A text that is not empty.
    Name(At<String>),
    /// A connection string. It is shown without its password.
    Url(At<Option<String>>),
}

/// The largest integer that is accepted, since TOML can't express a larger one.
const MAX_INTEGER: u64 = i64::MAX as u64;

impl Field {
    /// A short description of the values that the key takes.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Backend(_) => "`file`, `memory` or `postgres`",
            Self::Durability(_) => "`strict` or `relaxed`",
            Self::CacheType(_) => "`memory`",
            Self::Bool(_) => "bool",
            Self::Count(_) => "integer, at least 1",
            Self::Retries(_) => "integer",
            Self::Bytes(_) => "bytes",
            Self::OptionalBytes(_) => "bytes, or `none`",
            Self::Period(_) => "duration, above zero",
            Self::Delay(_) => "duration",
            Self::OptionalPeriod(_) => "duration, or `none`",
            Self::OptionalCount(_) => "integer, or `none`",
            Self::Factor(_) => "float, at least 1",
            Self::Path(_) | Self::OptionalPath(_) => "path",
            Self::Name(_) => "text",
            Self::Url(_) => "connection string",
        }
    }

    /// Parses a value in the type of this key, checks it, and stores it in the configuration.
    pub(crate) fn set(&self, config: &mut StorageConfig, raw: &Raw<'_>) -> Result<(), Problem> {
        let mut next = config.clone();
        match self {
            Self::Backend(at) => *at(&mut next) = raw.backend()?,
            Self::Durability(at) => {
                let words: Vec<_> = Durability::ALL
                    .iter()
                    .map(|kind| (kind.as_str(), *kind))
                    .collect();
                *at(&mut next) = raw.choice(&words)?;
            }
            Self::CacheType(at) => *at(&mut next) = raw.choice(&[("memory", CacheType::Memory)])?,
            Self::Bool(at) => *at(&mut next) = raw.boolean()?,
            Self::Count(at) => *at(&mut next) = raw.integer(MAX_INTEGER.min(usize::MAX as u64))?,
            Self::Retries(at) => *at(&mut next) = raw.integer(u64::from(u32::MAX))?,
            Self::Bytes(at) => *at(&mut next) = raw.bytes(MAX_INTEGER)?,
            Self::OptionalBytes(at) => {
                *at(&mut next) = if raw.is_none() {
                    None
                } else {
                    Some(raw.bytes(MAX_INTEGER)?)
                };
            }
            Self::Period(at) | Self::Delay(at) => *at(&mut next) = raw.duration()?,
            Self::OptionalPeriod(at) => {
                *at(&mut next) = if raw.is_none() {
                    None
                } else {
                    Some(raw.duration()?)
                };
            }
            Self::OptionalCount(at) => {
                *at(&mut next) = if raw.is_none() {
                    None
                } else {
                    Some(raw.integer(MAX_INTEGER.min(usize::MAX as u64))?)
                };
            }
            Self::Factor(at) => *at(&mut next) = raw.float()?,
            Self::Path(at) => *at(&mut next) = raw.path()?,
            Self::OptionalPath(at) => {
                *at(&mut next) = if matches!(raw, Raw::Null) {
                    None
                } else {
                    Some(raw.path()?)
                };
            }
            Self::Name(at) => raw.text("a text")?.clone_into(at(&mut next)),
            Self::Url(at) => {
                *at(&mut next) = if raw.is_none() {
                    None
                } else {
                    Some(raw.secret("a connection string")?.to_owned())
                };
            }
        }
        self.check(&mut next)?;
        *config = next;
        Ok(())
    }

    /// Checks the value of this key in a configuration.
    pub(crate) fn check(&self, config: &mut StorageConfig) -> Result<(), Problem> {
        let count = |value: u64| match value {
            0 => Err(Problem::new("it must be at least 1")),
            _ if value > MAX_INTEGER => Err(Problem::new(format!("it must be at most {MAX_INTEGER}"))),
            _ => Ok(()),
        };
        let period = |value: Duration| match value {
            Duration::ZERO => Err(Problem::new("it must be above zero")),
            _ if value > MAX_DURATION => Err(Problem::new("it is too long: a duration is at most 100y")),
            _ => Ok(()),
        };
        match self {
            Self::Count(at) => count(u64::try_from(*at(config)).unwrap_or(u64::MAX)),
            Self::OptionalCount(at) => {
                at(config).map_or(Ok(()), |value| count(u64::try_from(value).unwrap_or(u64::MAX)))
            }
            Self::Bytes(at) => count(*at(config)),
            Self::OptionalBytes(at) => at(config).map_or(Ok(()), count),
            Self::Period(at) => period(*at(config)),
            Self::OptionalPeriod(at) => at(config).map_or(Ok(()), period),
            Self::Delay(at) if at(config).is_zero() => Ok(()),
            Self::Delay(at) => period(*at(config)),
            Self::Factor(at) => {
                let factor = *at(config);
                if factor.is_finite() && factor >= 1.0 {
                    Ok(())
                } else {
                    Err(Problem::new("it must be a finite number of at least 1"))
                }
            }
            Self::Path(at) => crate::paths::check(at(config)),
            Self::OptionalPath(at) => at(config).as_deref().map_or(Ok(()), crate::paths::check),
            Self::Name(at) if at(config).trim().is_empty() => Err(Problem::new("it must not be empty")),
            Self::Url(at) if at(config).as_ref().is_some_and(|url| url.trim().is_empty()) => {
                Err(Problem::new("it must not be empty"))
            }
            _ => Ok(()),
        }
    }

    /// The path in this key's field, if the key is a path and is set.
    pub(crate) fn path_mut<'c>(&self, config: &'c mut StorageConfig) -> Option<&'c mut PathBuf> {
        match self {
            Self::Path(at) => Some(at(config)),
            Self::OptionalPath(at) => at(config).as_mut(),
            _ => None,
        }
    }

    /// Copies the value of this key from one configuration to another.
    pub(crate) fn copy(&self, from: &mut StorageConfig, to: &mut StorageConfig) {
        match self {
            Self::Backend(at) => *at(to) = *at(from),
            Self::Durability(at) => *at(to) = *at(from),
            Self::CacheType(at) => *at(to) = *at(from),
            Self::Bool(at) => *at(to) = *at(from),
            Self::Count(at) => *at(to) = *at(from),
            Self::Retries(at) => *at(to) = *at(from),
            Self::Bytes(at) => *at(to) = *at(from),
            Self::OptionalBytes(at) => *at(to) = *at(from),
            Self::Period(at) | Self::Delay(at) => *at(to) = *at(from),
            Self::OptionalPeriod(at) => *at(to) = *at(from),
            Self::OptionalCount(at) => *at(to) = *at(from),
            Self::Factor(at) => *at(to) = *at(from),
            Self::Path(at) => at(to).clone_from(at(from)),
            Self::OptionalPath(at) => at(to).clone_from(at(from)),
            Self::Name(at) => at(to).clone_from(at(from)),
            Self::Url(at) => at(to).clone_from(at(from)),
        }
    }

    /// The value of this key as text, without a password. If a path is not Unicode, some of its characters are
    /// replaced.
    pub(crate) fn text(&self, config: &mut StorageConfig) -> String {
        match self.value(config) {
            Value::Text(value) if matches!(self, Self::Url(_)) => crate::postgres::without_password(&value),
            Value::Bool(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Float(value) => format!("{value:?}"),
            Value::Text(value) => value,
            Value::Path(value) => value.to_string_lossy().into_owned(),
            Value::None => "none".to_owned(),
        }
    }

    /// The value of this key, in a type that both YAML and TOML can express.
    pub(crate) fn value(&self, config: &mut StorageConfig) -> Value {
        match self {
            Self::Backend(at) => Value::Text(at(config).to_string()),
            Self::Durability(at) => Value::Text(at(config).to_string()),
            Self::CacheType(at) => Value::Text(
                match at(config) {
                    // `CacheType` may get more kinds in a later version of its crate.
                    CacheType::Memory | _ => "memory",
                }
                .to_owned(),
            ),
            Self::Bool(at) => Value::Bool(*at(config)),
            Self::Count(at) => Value::Integer(u64::try_from(*at(config)).unwrap_or(u64::MAX)),
            Self::Retries(at) => Value::Integer(u64::from(*at(config))),
            Self::Bytes(at) => Value::Integer(*at(config)),
            Self::OptionalBytes(at) => at(config).map_or(Value::None, Value::Integer),
            Self::Period(at) | Self::Delay(at) => {
                Value::Text(humantime::format_duration(*at(config)).to_string())
            }
            Self::OptionalPeriod(at) => at(config).map_or(Value::None, |value| {
                Value::Text(humantime::format_duration(value).to_string())
            }),
            Self::OptionalCount(at) => at(config).map_or(Value::None, |value| {
                Value::Integer(u64::try_from(value).unwrap_or(u64::MAX))
            }),
            Self::Factor(at) => Value::Float(*at(config)),
            Self::Path(at) => Value::Path(at(config).clone()),
            Self::OptionalPath(at) => at(config).clone().map_or(Value::None, Value::Path),
            Self::Name(at) => Value::Text(at(config).clone()),
            Self::Url(at) => at(config).clone().map_or(Value::None, Value::Text),
        }
    }
}

/// A value that can be written to a file.
#[derive(Debug)]
pub(crate) enum Value {
    Bool(bool),
    Integer(u64),
    Float(f64),
    Text(String),
    Path(PathBuf),
    None,
}
