//! Reads and writes the configuration as text.

use std::collections::BTreeSet;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::config::StorageConfig;
#[cfg(any(feature = "yaml", feature = "toml"))]
use crate::error::ConfigErrors;
use crate::field::Value;
#[cfg(any(feature = "yaml", feature = "toml"))]
use crate::format::Format;
use crate::key::KeySpec;
use crate::keys::{KEYS, sections_of};
use crate::read::{ROOT, is_below};

/// The error for a configuration that can't be written to a file.
///
/// ```
/// # #[cfg(feature = "toml")] {
/// use prodigy_storage_config::StorageConfig;
///
/// let config = StorageConfig::default();
/// let text = config.to_toml()?; // `NotWritable` names a value that a file can't hold
/// # }
/// # Ok::<(), prodigy_storage_config::NotWritable>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration can't be written: {why}")]
pub struct NotWritable {
    why: String,
}

impl NotWritable {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }
}

impl StorageConfig {
    /// The configuration as a YAML file. Keys of other backends than the chosen one are left out. With
    /// `use_global: false`, `base_dir` is left out too, since it results from that.
    ///
    /// # Errors
    /// [`NotWritable`] for a path that is not Unicode.
    #[cfg(feature = "yaml")]
    pub fn to_yaml(&self) -> Result<String, NotWritable> {
        crate::format::yaml::write(self)
    }

    /// The configuration as a TOML file, with the same keys as from [`StorageConfig::to_yaml`].
    ///
    /// # Errors
    /// [`NotWritable`] for a path that is not Unicode.
    #[cfg(feature = "toml")]
    pub fn to_toml(&self) -> Result<String, NotWritable> {
        crate::format::toml::write(self)
    }

    /// Parses the text of a YAML file. No other source is read, and paths are not expanded; for that, call
    /// [`StorageConfig::resolved`].
    ///
    /// # Errors
    /// [`ConfigErrors`] with all errors.
    #[cfg(feature = "yaml")]
    pub fn from_yaml(text: &str) -> Result<Self, ConfigErrors> {
        from_text(Format::Yaml, text)
    }

    /// Parses the text of a TOML file, like [`StorageConfig::from_yaml`].
    ///
    /// # Errors
    /// [`ConfigErrors`] with all errors.
    #[cfg(feature = "toml")]
    pub fn from_toml(text: &str) -> Result<Self, ConfigErrors> {
        from_text(Format::Toml, text)
    }
}

#[cfg(any(feature = "yaml", feature = "toml"))]
fn from_text(format: Format, text: &str) -> Result<StorageConfig, ConfigErrors> {
    use crate::error::ConfigError;
    use crate::merge::Merged;
    use crate::origin::Origin;
    use crate::read::read;

    let parsed = format.parse(text).map_err(|why| {
        let origin = Origin::File {
            path: "<text>".into(),
            line: 0,
            column: 0,
        };
        ConfigErrors::one(ConfigError::new(origin, "the text can't be read").why(why))
    })?;
    let mut merged = Merged::of(vec![read(&parsed, None)]);
    merged.check_combinations();
    ConfigErrors::check(merged.errors)?;
    Ok(merged.config)
}

/// The keys that are written to a file, with their values.
#[derive(Debug)]
pub(crate) struct Document {
    keys: Vec<(&'static KeySpec, Value)>,
}

impl Document {
    pub(crate) fn new(config: &StorageConfig) -> Result<Self, NotWritable> {
        let mut config = config.clone();
        let mut left_out = BTreeSet::new();
        if !config.file.use_global {
            left_out.insert("backend_config.base_dir");
        }
        let mut keys = Vec::new();
        for spec in KEYS {
            if spec.backend.is_some_and(|of| of != config.backend) || left_out.contains(spec.path) {
                continue;
            }
            let value = match spec.field.value(&mut config) {
                Value::None => continue,
                Value::Path(path) => {
                    let text = path.to_str().ok_or_else(|| {
                        NotWritable::new(format!("`{}` is a path that is not Unicode", spec.path))
                    })?;
                    Value::Text(text.to_owned())
                }
                value => value,
            };
            keys.push((spec, value));
        }
        Ok(Self { keys })
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut root = serializer.serialize_map(Some(1))?;
        root.serialize_entry(ROOT, &Storage(self))?;
        root.end()
    }
}

struct Storage<'d>(&'d Document);

impl Serialize for Storage<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (spec, value) in self.0.keys.iter().filter(|(spec, _)| spec.section().is_none()) {
            map.serialize_entry(spec.name(), value)?;
        }
        self.0.write_sections(None, &mut map)?;
        map.end()
    }
}

impl Document {
    /// Writes those sections directly within `parent` that have a key.
    fn write_sections<M: SerializeMap>(&self, parent: Option<&str>, map: &mut M) -> Result<(), M::Error> {
        for (name, section) in sections_of(parent) {
            if self.keys.iter().any(|(spec, _)| is_below(spec, section)) {
                let document = self;
                map.serialize_entry(name, &Section { document, section })?;
            }
        }
        Ok(())
    }
}

struct Section<'d> {
    document: &'d Document,
    section: &'static str,
}

impl Serialize for Section<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (spec, value) in self
            .document
            .keys
            .iter()
            .filter(|(spec, _)| spec.section() == Some(self.section))
        {
            map.serialize_entry(spec.name(), value)?;
        }
        self.document.write_sections(Some(self.section), &mut map)?;
        map.end()
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_u64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Path(value) => value.serialize(serializer),
            Self::None => serializer.serialize_none(),
        }
    }
}
