//! One pass over every source.

use std::path::{Path, PathBuf};

use crate::environment::Environment;
use crate::error::ConfigErrors;
use crate::files;
use crate::layer::Layer;
use crate::loaded::Loaded;
use crate::loader::Loader;
use crate::merge::Merged;
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
    let project = loader
        .project_dir
        .as_deref()
        .map(|project| project.join(".prodigy"));

    let mut sources: Vec<(PathBuf, Option<&str>)> = Vec::new();
    for folder in [prodigy_home, project].into_iter().flatten() {
        sources.extend(files::discover(&folder, &mut start.errors).map(|path| (path, None)));
    }
    let variable = variables::config_file(environment, home, &mut start.errors);
    sources.extend(variable.map(|path| (path, Some("PRODIGY_CONFIG"))));
    sources.extend(
        loader
            .file
            .clone()
            .map(|path| (path, Some("`--config` or the program"))),
    );
    let sources = last_of_each(sources);

    let mut layers = vec![start];
    layers.extend(
        sources
            .iter()
            .map(|(path, named_by)| files::load(path, *named_by)),
    );
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
    merged.check_combinations();
    ConfigErrors::check(std::mem::take(&mut merged.errors))?;
    merged.notice_local_storage(loader.project_dir.as_deref());
    Ok(Loaded {
        config: merged.config.clone(),
        notices: std::mem::take(&mut merged.notices),
        origins: merged.origins(),
        files: sources.into_iter().map(|(path, _)| path).collect(),
    })
}

/// Leaves out a file that comes again later: the home folder may be the project, a named file the found one.
fn last_of_each<'n>(sources: Vec<(PathBuf, Option<&'n str>)>) -> Vec<(PathBuf, Option<&'n str>)> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut kept: Vec<(PathBuf, Option<&'n str>)> = Vec::new();
    for source in sources {
        kept.retain(|(path, _)| real(path) != real(&source.0));
        kept.push(source);
    }
    kept
}
