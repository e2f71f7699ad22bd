//! Reads all sources in one pass.
#![expect(clippy::disallowed_methods, reason = "finds configuration files")]

use std::path::{Path, PathBuf};

use prodigy_storage_layout::Identity;

use crate::environment::Environment;
use crate::error::ConfigErrors;
use crate::files::{self, Source};
use crate::layer::Layer;
use crate::loaded::Loaded;
use crate::loader::Loader;
use crate::merge::Merged;
use crate::notice::Notice;
use crate::origin::Origin;
use crate::variables;

pub(crate) fn gather<E: Environment>(loader: &Loader<E>) -> Result<Loaded, ConfigErrors> {
    let environment = &loader.environment;
    let home = loader.home.as_deref();
    let mut start = Layer::default();
    let standing = variables::prodigy_home(environment, home, &mut start.errors);
    let prodigy_home = standing
        .as_ref()
        .map(|(path, _)| path.clone())
        .or_else(|| home.map(|home| home.join(".prodigy")));
    let mut sources: Vec<(PathBuf, Source)> = Vec::new();
    if let Some(folder) = prodigy_home {
        let found = files::discover(&folder, &mut start.errors);
        sources.extend(found.map(|path| (path, Source::Home)));
    }
    if let Some(project) = &loader.project_dir {
        let user = environment.user();
        let found = of_project(project, &mut start);
        sources.extend(found.map(|path| (path, Source::Project { user })));
    }
    let variable = variables::config_file(environment, home, &mut start.errors);
    sources.extend(variable.map(|path| (path, Source::Named("PRODIGY_CONFIG"))));
    let named = loader.file.clone();
    sources.extend(named.map(|path| (path, Source::Named("`--config` or the program"))));
    let sources = last_of_each(sources);

    let mut layers = vec![start];
    layers.extend(sources.iter().map(|(path, source)| files::load(path, *source)));
    layers.push(variables::read(environment));
    let flags = loader
        .flags
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_os_str()));
    layers.push(variables::assigned(flags, |flag| Origin::Flag(flag.to_owned())));
    let code = loader
        .code
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_os_str()));
    layers.push(variables::assigned(code, |_| Origin::Code));

    let mut merged = Merged::of(layers);
    merged.place_root(standing, loader.project_dir.as_deref());
    merged.expand(home);
    crate::postgres::find_password(&mut merged.config, environment, home);
    merged.check_combinations();
    ConfigErrors::check(std::mem::take(&mut merged.errors))?;
    merged.notice_local_storage(loader.project_dir.as_deref());
    merged
        .notices
        .extend(crate::postgres::ignored_variables(&merged.config, environment));
    Ok(Loaded {
        config: merged.config.clone(),
        notices: std::mem::take(&mut merged.notices),
        origins: merged.origins(),
        files: sources.into_iter().map(|(path, _)| path).collect(),
    })
}

/// The configuration file of a project: the one in the current worktree or, if that has none, in the main
/// worktree.
fn of_project(project: &Path, start: &mut Layer) -> Option<PathBuf> {
    let folder = project.join(".prodigy");
    if let Err(error) = std::fs::symlink_metadata(&folder)
        && error.kind() == std::io::ErrorKind::PermissionDenied
    {
        let path = project.to_owned();
        start.notices.push(Notice::ProjectNotEntered { path });
        return None;
    }
    let before = start.errors.len();
    let found = files::discover(&folder, &mut start.errors);
    if found.is_some() || start.errors.len() > before {
        return found;
    }
    // A broken `.git` is ignored here, since commands that need the repository report it.
    let main = Identity::at(project).ok()?.main_worktree().ok()??;
    if main == project {
        return None;
    }
    files::discover(&main.join(".prodigy"), &mut start.errors)
}

/// Keeps only the last occurrence of each file. A file can occur twice if the home folder is the project, or if a
/// named file is also found.
fn last_of_each(sources: Vec<(PathBuf, Source)>) -> Vec<(PathBuf, Source)> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut kept: Vec<(PathBuf, Source)> = Vec::new();
    for source in sources {
        kept.retain(|(path, _)| real(path) != real(&source.0));
        kept.push(source);
    }
    kept
}
