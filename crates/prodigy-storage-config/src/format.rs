//! The formats of configuration files, with a module for each.

#[cfg(feature = "toml")]
pub(crate) mod toml;
#[cfg(feature = "yaml")]
pub(crate) mod yaml;

use std::path::Path;

use crate::tree::Parsed;

/// The format of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Yaml,
    Toml,
}

impl Format {
    /// The format by the extension of the name.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "yaml" | "yml" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            _ => None,
        }
    }

    /// Parses a text in this format. Fails if this build can't parse the format.
    pub(crate) fn parse(self, text: &str) -> Result<Parsed, &'static str> {
        // A byte order mark is removed, since it is not part of the text and counts in no column.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        match self {
            #[cfg(feature = "yaml")]
            Self::Yaml => Ok(yaml::parse(text)),
            #[cfg(not(feature = "yaml"))]
            Self::Yaml => {
                let _ = text;
                Err("this build reads no YAML: its feature `yaml` is off")
            }
            #[cfg(feature = "toml")]
            Self::Toml => Ok(toml::parse(text)),
            #[cfg(not(feature = "toml"))]
            Self::Toml => {
                let _ = text;
                Err("this build reads no TOML: its feature `toml` is off")
            }
        }
    }
}
