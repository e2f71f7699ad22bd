//! Merges all sources. If several sources set a key, the last one takes precedence.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::StorageConfig;
use crate::error::ConfigError;
use crate::finish::local_root;
use crate::keys::KEYS;
use crate::layer::Layer;
use crate::notice::Notice;
use crate::origin::Origin;

/// Several layers merged into one configuration.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) config: StorageConfig,
    /// The origin of each key, in the order of the table, with the position of its source; 0 is the default.
    pub(crate) origins: Vec<(usize, Origin)>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) errors: Vec<ConfigError>,
    /// Keys for which no further errors are reported, since a source failed to set them.
    pub(crate) suspect: BTreeSet<&'static str>,
}

impl Merged {
    /// A configuration without sources, since the program made all its values.
    pub(crate) fn of_code(config: StorageConfig) -> Self {
        Self {
            config,
            origins: KEYS.iter().map(|_| (1, Origin::Code)).collect(),
            notices: Vec::new(),
            errors: Vec::new(),
            suspect: BTreeSet::new(),
        }
    }

    /// Merges layers. The first one has the lowest precedence.
    pub(crate) fn of(layers: Vec<Layer>) -> Self {
        let mut merged = Self::of_code(StorageConfig::default());
        merged.origins = KEYS.iter().map(|_| (0, Origin::Default)).collect();
        let mut of_project = BTreeSet::new();
        for (index, mut layer) in layers.into_iter().enumerate() {
            if layer.of_project {
                of_project.insert(index + 1);
            }
            for (spec, slot) in KEYS.iter().zip(&mut merged.origins) {
                let Some(origin) = layer.origin(spec.path).cloned() else {
                    continue;
                };
                spec.field.copy(&mut layer.values, &mut merged.config);
                *slot = (index + 1, origin);
                merged.suspect.remove(spec.path);
            }
            merged.suspect.append(&mut layer.suspect);
            merged.notices.append(&mut layer.notices);
            merged.errors.append(&mut layer.errors);
        }
        merged.pass_over_other_backend();
        merged.notice_weakened(&of_project);
        merged
    }

    /// Adds a notice for each value from a project's file that is in effect and weakens durability or locking.
    fn notice_weakened(&mut self, of_project: &BTreeSet<usize>) {
        for (spec, (rank, origin)) in KEYS.iter().zip(&self.origins) {
            let value = spec.field.text(&mut self.config);
            if of_project.contains(rank) && spec.weaker == Some(value.as_str()) {
                let (key, origin) = (spec.path, origin.clone());
                self.notices
                    .push(Notice::WeakenedByProject { key, value, origin });
            }
        }
    }

    pub(crate) fn origin(&self, path: &str) -> (usize, &Origin) {
        KEYS.iter()
            .zip(&self.origins)
            .find(|(spec, _)| spec.path == path)
            .map_or((0, &Origin::Default), |(_, (rank, origin))| (*rank, origin))
    }

    /// Resets a key to its default. Returns the origin of its former value.
    fn pass_over(&mut self, path: &str) -> Origin {
        let mut default = StorageConfig::default();
        for (spec, slot) in KEYS.iter().zip(&mut self.origins) {
            if spec.path == path {
                spec.field.copy(&mut default, &mut self.config);
                return std::mem::replace(slot, (0, Origin::Default)).1;
            }
        }
        Origin::Default
    }

    fn pass_over_other_backend(&mut self) {
        let chosen = self.config.backend;
        let chosen_by = self.origin("backend").1.clone();
        for spec in KEYS
            .iter()
            .filter(|spec| spec.backend.is_some_and(|of| of != chosen))
        {
            if self.origin(spec.path).0 > 0 {
                let origin = self.pass_over(spec.path);
                let chosen_by = chosen_by.clone();
                self.notices.push(Notice::OtherBackend {
                    key: spec.path,
                    origin,
                    chosen,
                    chosen_by,
                });
            }
        }
    }

    /// Sets the root of the data by `base_dir` or by `use_global: false`, whichever comes from the later source.
    ///
    /// `standing` is the folder that is used instead of `~/.prodigy`, with its origin.
    pub(crate) fn place_root(&mut self, standing: Option<(PathBuf, Origin)>, project_dir: Option<&Path>) {
        const BASE_DIR: &str = "backend_config.base_dir";
        const USE_GLOBAL: &str = "backend_config.use_global";
        let (base_rank, base_origin) = self.origin(BASE_DIR);
        let (global_rank, global_origin) = self.origin(USE_GLOBAL);
        let (base_origin, global_origin) = (base_origin.clone(), global_origin.clone());
        if self.config.file.use_global {
            if let (0, Some((root, origin))) = (base_rank, standing) {
                self.config.file.base_dir = root;
                self.set_origin(BASE_DIR, (0, origin));
            }
            return;
        }
        // If both came from the same source, there is an error for that already.
        if base_rank > global_rank {
            self.pass_over(USE_GLOBAL);
            self.notices.push(Notice::Overruled {
                key: USE_GLOBAL,
                origin: global_origin,
                by: BASE_DIR,
                by_origin: base_origin,
            });
            return;
        }
        if base_rank > 0 && base_rank < global_rank {
            self.notices.push(Notice::Overruled {
                key: BASE_DIR,
                origin: base_origin,
                by: USE_GLOBAL,
                by_origin: global_origin.clone(),
            });
        }
        let root = local_root(project_dir);
        self.notices.push(Notice::LocalStorage {
            origin: global_origin.clone(),
            path: root.clone(),
        });
        self.config.file.base_dir = root;
        self.set_origin(BASE_DIR, (global_rank, global_origin));
    }

    fn set_origin(&mut self, path: &str, origin: (usize, Origin)) {
        if let Some((_, slot)) = KEYS
            .iter()
            .zip(&mut self.origins)
            .find(|(spec, _)| spec.path == path)
        {
            *slot = origin;
        }
    }
}
