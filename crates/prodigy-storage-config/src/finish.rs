//! Checks the merged values, and expands `~`.

use std::path::{Path, PathBuf};

use crate::config::StorageConfig;
use crate::environment::Environment;
use crate::error::{ConfigError, ConfigErrors};
use crate::keys::KEYS;
use crate::kind::BackendKind;
use crate::merge::Merged;
use crate::notice::Notice;
use crate::origin::Origin;
use crate::paths;

impl StorageConfig {
    /// The configuration, ready for use: `~` is expanded, `use_global: false` is replaced by a `base_dir` in the
    /// project (see [`Loader::project_dir`](crate::Loader::project_dir)), and all values and combinations are
    /// checked.
    ///
    /// If `PRODIGY_HOME` is set and `base_dir` has its default, `PRODIGY_HOME` replaces the default. Of the other
    /// variables, only those for PostgreSQL's passwords are read. Resolving a resolved configuration changes
    /// nothing.
    ///
    /// # Errors
    /// [`ConfigErrors`] with all invalid values and combinations. The settings of other backends than the chosen
    /// one are not checked.
    pub fn resolved(
        &self,
        environment: &impl Environment,
        project_dir: Option<&Path>,
    ) -> Result<Self, ConfigErrors> {
        let mut merged = Merged::of_code(self.clone());
        merged.check_values();
        if self.backend == BackendKind::File {
            let home = environment.home();
            let standing = crate::variables::prodigy_home(environment, home.as_deref(), &mut merged.errors);
            // A `base_dir` other than the default was set on purpose, or by an earlier call of this function.
            if self.file.base_dir == Self::default().file.base_dir {
                if !self.file.use_global {
                    merged.config.file.base_dir = local_root(project_dir);
                } else if let Some((root, _)) = standing {
                    merged.config.file.base_dir = root;
                }
            }
        }
        merged.expand(environment.home().as_deref());
        crate::postgres::find_password(&mut merged.config, environment, environment.home().as_deref());
        merged.check_combinations();
        ConfigErrors::check(merged.errors)?;
        Ok(merged.config)
    }
}

/// The root of all data if `use_global` is false.
pub(crate) fn local_root(project_dir: Option<&Path>) -> PathBuf {
    project_dir.map_or_else(|| PathBuf::from(".prodigy"), |project| project.join(".prodigy"))
}

impl Merged {
    /// Checks each value on its own, if it applies to the chosen backend.
    fn check_values(&mut self) {
        let backend = self.config.backend;
        for (spec, (_, origin)) in KEYS.iter().zip(&self.origins) {
            if spec.backend.is_some_and(|of| of != backend) {
                continue;
            }
            if let Err(problem) = spec.field.check(&mut self.config) {
                let what = format!("invalid value for `{}`", spec.path);
                let mut error = ConfigError::new(origin.clone(), what)
                    .key(spec.path)
                    .why(problem.why);
                if let Some(hint) = problem.hint {
                    error = error.hint(hint);
                }
                self.errors.push(error);
                self.suspect.insert(spec.path);
            }
        }
    }

    /// Expands `~` in the paths that apply to the chosen backend.
    pub(crate) fn expand(&mut self, home: Option<&Path>) {
        let backend = self.config.backend;
        for (spec, (_, origin)) in KEYS.iter().zip(&self.origins) {
            if spec.backend.is_some_and(|of| of != backend) || self.suspect.contains(spec.path) {
                continue;
            }
            let Some(path) = spec.field.path_mut(&mut self.config) else {
                continue;
            };
            if let Some(expanded) = paths::expand(path, home) {
                *path = expanded;
                continue;
            }
            let what = format!("`{}` needs your home folder, which is not known", spec.path);
            self.errors.push(
                ConfigError::new(origin.clone(), what)
                    .key(spec.path)
                    .why("`HOME` is not set, or is not an absolute path")
                    .hint(format!(
                        "set `HOME` or `PRODIGY_HOME`, or give `{}` as a whole path",
                        spec.path
                    )),
            );
        }
    }

    /// Checks the values that depend on each other. They may come from different sources.
    pub(crate) fn check_combinations(&mut self) {
        let suspect = |key: &str| self.suspect.contains(key);
        let retry = &self.config.retry_policy;
        let keys = ["retry_policy.initial_delay", "retry_policy.max_delay"];
        if retry.initial_delay > retry.max_delay && !keys.iter().any(|key| suspect(key)) {
            let [initial, max] = keys.map(|key| self.origin(key));
            // The error names the position of the value from the later source.
            let (at, key) = if max.0 > initial.0 {
                (max.1, keys[1])
            } else {
                (initial.1, keys[0])
            };
            let error = ConfigError::new(
                at.clone(),
                "`retry_policy.initial_delay` is above `retry_policy.max_delay`",
            )
            .key(key)
            .why(format!(
                "`initial_delay` is {} ({}), and `max_delay` is {} ({})",
                humantime::format_duration(retry.initial_delay),
                initial.1,
                humantime::format_duration(retry.max_delay),
                max.1
            ))
            .hint("raise `max_delay` or lower `initial_delay`");
            self.errors.push(error);
        }
        let memory = &self.config.memory;
        if self.config.backend == BackendKind::Memory
            && memory.persist_to_disk
            && memory.persistence_path.is_none()
            && !suspect("backend_config.persistence_path")
        {
            let key = "backend_config.persist_to_disk";
            let error = ConfigError::new(
                self.origin(key).1.clone(),
                "`backend_config.persist_to_disk` needs `backend_config.persistence_path`",
            )
            .key(key)
            .why("the path of the snapshot is missing")
            .hint("add `persistence_path`, or set `persist_to_disk: false`");
            self.errors.push(error);
        }
        if self.config.backend == BackendKind::Postgres
            && self.config.postgres.url.is_none()
            && !suspect("backend_config.url")
        {
            let error = ConfigError::new(
                self.origin("backend").1.clone(),
                "`backend: postgres` needs `backend_config.url`",
            )
            .key("backend_config.url")
            .why("the address of the database is missing")
            .hint("set `url` or PRODIGY_STORAGE_URL to postgresql://USER@HOST/DATABASE");
            self.errors.push(error);
        }
    }

    /// Adds a notice if the project's `.prodigy/` has data of `use_global: false`, which global storage does not
    /// use.
    #[expect(clippy::disallowed_methods, reason = "looks for data in the project")]
    pub(crate) fn notice_local_storage(&mut self, project_dir: Option<&Path>) {
        let Some(local) = project_dir.map(|project| project.join(".prodigy")) else {
            return;
        };
        if self.config.backend != BackendKind::File || !self.config.file.use_global {
            return;
        }
        let holds_data = ["events", "state", "dlq"]
            .iter()
            .any(|folder| local.join(folder).is_dir());
        let same = |a: &Path, b: &Path| match (a.canonicalize(), b.canonicalize()) {
            (Ok(a), Ok(b)) => a == b,
            _ => a == b,
        };
        if holds_data && !same(&local, &self.config.file.base_dir) {
            self.notices.push(Notice::UnusedLocalStorage { path: local });
        }
    }

    pub(crate) fn origins(self) -> Vec<Origin> {
        self.origins.into_iter().map(|(_, origin)| origin).collect()
    }
}
