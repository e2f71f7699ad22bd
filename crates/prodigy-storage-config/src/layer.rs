//! The settings from one source.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::StorageConfig;
use crate::error::ConfigError;
use crate::key::KeySpec;
use crate::keys::{KEYS, key};
use crate::notice::Notice;
use crate::origin::Origin;
use crate::raw::{Problem, Raw};

/// The keys that one source sets, and its errors.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    pub(crate) values: StorageConfig,
    /// The origin of each key that the source sets.
    origins: BTreeMap<&'static str, Origin>,
    /// Keys that the source tried to set, and failed. Further errors about their values are not reported.
    pub(crate) suspect: BTreeSet<&'static str>,
    pub(crate) errors: Vec<ConfigError>,
    pub(crate) notices: Vec<Notice>,
    /// True if the source is the configuration file of a project, which other people may have written.
    pub(crate) of_project: bool,
}

impl Layer {
    /// The layer of a source that could not be read at all.
    pub(crate) fn failed(error: ConfigError) -> Self {
        Self {
            errors: vec![error],
            ..Self::default()
        }
    }

    /// Marks all keys that the source does not set as suspect: it may set them in a part that could not be read.
    pub(crate) fn suspect_unset(&mut self) {
        let unset = KEYS
            .iter()
            .map(|spec| spec.path)
            .filter(|path| !self.origins.contains_key(path));
        self.suspect.extend(unset);
    }

    /// Parses and stores the value of a key, or adds an error.
    pub(crate) fn set(&mut self, spec: &'static KeySpec, raw: &Raw<'_>, origin: Origin) {
        match spec.field.set(&mut self.values, raw) {
            Ok(()) => {
                self.origins.insert(spec.path, origin);
            }
            Err(problem) => self.refuse(spec, problem, origin),
        }
    }

    /// Adds an error about the value of a key.
    pub(crate) fn refuse(&mut self, spec: &'static KeySpec, problem: Problem, origin: Origin) {
        self.suspect.insert(spec.path);
        let what = format!("invalid value for `{}`", spec.path);
        let mut error = ConfigError::new(origin, what).key(spec.path).why(problem.why);
        if let Some(hint) = problem.hint {
            error = error.hint(hint);
        }
        self.errors.push(error);
    }

    pub(crate) fn origin(&self, path: &str) -> Option<&Origin> {
        self.origins.get(path)
    }

    /// The keys that the source sets, in the order of the table.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&'static KeySpec, &Origin)> {
        KEYS.iter()
            .filter_map(|spec| self.origins.get(spec.path).map(|origin| (spec, origin)))
    }

    /// Adds an error for each pair of keys that one source must not set together.
    pub(crate) fn check_clashes(&mut self) {
        let mut errors = Vec::new();
        if let Some(chosen_by) = self.origin("backend") {
            let chosen = self.values.backend;
            for (spec, origin) in self.keys() {
                let Some(of) = spec.backend.filter(|of| *of != chosen) else {
                    continue;
                };
                let what = format!("`{}` can't be combined with `backend: {chosen}`", spec.path);
                errors.push(
                    ConfigError::new(origin.clone(), what)
                        .key(spec.path)
                        .why(format!(
                            "it is a key of the `{of}` backend, and the backend is set at {chosen_by}"
                        ))
                        .hint(format!("remove `{}`, or set `backend: {of}`", spec.path)),
                );
            }
        }
        let base_dir = key("backend_config.base_dir").and_then(|spec| self.origin(spec.path));
        let use_global = key("backend_config.use_global").and_then(|spec| self.origin(spec.path));
        if let (Some(base_dir), Some(use_global), false) = (base_dir, use_global, self.values.file.use_global)
        {
            errors.push(
                ConfigError::new(
                    base_dir.clone(),
                    "`backend_config.base_dir` can't be combined with `backend_config.use_global: false`",
                )
                .key("backend_config.base_dir")
                .why(format!(
                    "without global storage data is stored in the project's `.prodigy/`; `use_global` is set at {use_global}"
                ))
                .hint("remove one of them; `use_global: false` is deprecated"),
            );
        }
        self.errors.extend(errors);
    }

    /// Sorts the errors of a file by position, and removes repeated ones.
    pub(crate) fn sort_errors(&mut self) {
        self.errors.sort_by_key(|error| (error.line(), error.column()));
        self.errors.dedup();
    }
}
