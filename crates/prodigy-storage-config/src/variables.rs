//! Reads values from the environment, the command line and the program.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::environment::Environment;
use crate::error::ConfigError;
use crate::key::{KeySpec, VARIABLE_PREFIX};
use crate::keys::{CONFIG_VARIABLE, HOME_VARIABLE, KEYS, OTHER_VARIABLES, key};
use crate::layer::Layer;
use crate::notice::Notice;
use crate::origin::Origin;
use crate::paths;
use crate::raw::Raw;
use crate::text::{nearest, shown};

const SHORT_PREFIX: &str = "PRODIGY_STORAGE_";

/// Prefixes of the variables that container platforms set for a service named `prodigy-storage`.
const CONTAINER_PREFIXES: [&str; 2] = ["PRODIGY_STORAGE_SERVICE_", "PRODIGY_STORAGE_PORT"];

/// True for a variable that container platforms set for a service whose name is or begins with `prodigy-storage`.
/// For a service `prodigy-storage-db` these are `PRODIGY_STORAGE_DB_SERVICE_HOST`, `…_SERVICE_PORT`, `…_PORT` and
/// `…_PORT_5432_TCP`.
fn is_of_a_service(name: &str) -> bool {
    let is_of_a_port = name.split_once("_PORT_").is_some_and(|(_, rest)| {
        let mut words = rest.split('_');
        let number = words.next().is_some_and(|word| word.parse::<u16>().is_ok());
        number && matches!(words.next(), Some("TCP" | "UDP" | "SCTP"))
    });
    CONTAINER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || name.starts_with(SHORT_PREFIX)
            && !name.starts_with(VARIABLE_PREFIX)
            && (is_of_a_port
                || name.ends_with("_PORT")
                || name.ends_with("_SERVICE_HOST")
                || name.contains("_SERVICE_PORT"))
}

/// The value of a variable; `None` if it is unset or empty.
fn value(environment: &impl Environment, name: &str) -> Option<OsString> {
    environment.var(name).filter(|value| !value.is_empty())
}

/// The path that a variable holds, with `~` expanded.
fn path(
    environment: &impl Environment,
    name: &str,
    home: Option<&Path>,
    errors: &mut Vec<ConfigError>,
) -> Option<PathBuf> {
    let path = PathBuf::from(value(environment, name)?);
    let origin = || Origin::Variable(name.to_owned());
    if let Err(problem) = paths::check(&path).and_then(|()| paths::check_whole(&path)) {
        let mut error = ConfigError::new(origin(), format!("invalid value for {name}")).why(problem.why);
        if let Some(hint) = problem.hint {
            error = error.hint(hint);
        }
        errors.push(error);
        return None;
    }
    let expanded = paths::expand(&path, home);
    if expanded.is_none() {
        errors.push(
            ConfigError::new(
                origin(),
                format!("{name} needs your home folder, which is not known"),
            )
            .why("`HOME` is not set, or is not an absolute path")
            .hint("set `HOME`, or give a whole path"),
        );
    }
    expanded
}

/// The folder that is used instead of `~/.prodigy`, if a variable sets one.
pub(crate) fn prodigy_home(
    environment: &impl Environment,
    home: Option<&Path>,
    errors: &mut Vec<ConfigError>,
) -> Option<(PathBuf, Origin)> {
    let path = path(environment, HOME_VARIABLE, home, errors)?;
    Some((path, Origin::Variable(HOME_VARIABLE.to_owned())))
}

/// The configuration file that a variable names.
pub(crate) fn config_file(
    environment: &impl Environment,
    home: Option<&Path>,
    errors: &mut Vec<ConfigError>,
) -> Option<PathBuf> {
    path(environment, CONFIG_VARIABLE, home, errors)
}

/// Reads all variables that set keys.
pub(crate) fn read(environment: &impl Environment) -> Layer {
    let mut layer = Layer::default();
    for spec in KEYS {
        let mut read: Option<(String, OsString)> = None;
        let long = spec.variable();
        let current = spec
            .variables
            .iter()
            .filter(|variable| variable.instead.is_none());
        for name in std::iter::once(long.as_str()).chain(current.map(|variable| variable.name)) {
            let Some(value) = value(environment, name) else {
                continue;
            };
            match &read {
                None => read = Some((name.to_owned(), value)),
                Some((first, same)) if *same == value => {
                    let (name, by) = (name.to_owned(), first.clone());
                    layer.notices.push(Notice::ShadowedVariable { name, by });
                }
                Some((first, _)) => layer.errors.push(
                    ConfigError::new(
                        Origin::Variable(name.to_owned()),
                        format!("`{}` is set twice", spec.path),
                    )
                    .key(spec.path)
                    .why(format!("{first} sets it too, to another value"))
                    .hint(format!("unset {first} or {name}")),
                ),
            }
        }
        for variable in spec.variables {
            let Some(instead) = variable.instead else { continue };
            let Some(value) = value(environment, variable.name) else {
                continue;
            };
            let name = variable.name.to_owned();
            if let Some((by, _)) = &read {
                layer
                    .notices
                    .push(Notice::ShadowedVariable { name, by: by.clone() });
            } else {
                layer.notices.push(Notice::DeprecatedVariable {
                    name: name.clone(),
                    instead,
                });
                read = Some((name, value));
            }
        }
        if let Some((name, value)) = read {
            layer.set(spec, &Raw::Variable(&value), Origin::Variable(name));
        }
    }
    let mut names = environment.names();
    names.sort_unstable();
    for name in names {
        unknown(&mut layer, &name);
    }
    layer.check_clashes();
    layer
}

/// Adds an error for a variable that is not known, although its name looks like that of a key.
fn unknown(layer: &mut Layer, name: &OsStr) {
    let is_unicode = name.to_str().is_some();
    let name = &*name.to_string_lossy();
    if is_of_a_service(name) {
        return;
    }
    let tail = if let Some(tail) = name.strip_prefix(VARIABLE_PREFIX) {
        tail
    } else if let Some(tail) = name.strip_prefix(SHORT_PREFIX) {
        tail
    } else {
        return;
    };
    let own = |spec: &'static KeySpec| spec.variables.iter().map(|variable| variable.name);
    let is_key = |spec| own(spec).any(|known| known == name);
    if is_unicode
        && (KEYS.iter().any(|spec| spec.variable() == name || is_key(spec))
            || OTHER_VARIABLES.iter().any(|variable| variable.name == name))
    {
        return;
    }
    // The text after the prefix is compared with the path of each key, with the last part of the path, and with
    // the names of the key's other variables.
    let tail = tail.replace("__", "_");
    let mut words: Vec<(String, Option<&'static KeySpec>, String)> = Vec::new();
    for variable in OTHER_VARIABLES {
        if let Some(tail) = variable.name.strip_prefix(SHORT_PREFIX) {
            words.push((tail.to_owned(), None, variable.name.to_owned()));
        }
    }
    for spec in KEYS {
        words.push((spec.path.replace('.', "_"), Some(spec), spec.variable()));
        words.push((spec.name().to_owned(), Some(spec), spec.variable()));
        for variable in spec
            .variables
            .iter()
            .filter(|variable| variable.instead.is_none())
        {
            let tail = variable.name.strip_prefix(SHORT_PREFIX).unwrap_or(variable.name);
            words.push((tail.to_owned(), Some(spec), variable.name.to_owned()));
        }
    }
    let near = nearest(&tail, words.iter().map(|(word, ..)| word.as_str()));
    let near = near.and_then(|near| words.iter().find(|(word, ..)| word == near));
    let mut error = ConfigError::new(
        Origin::Variable(name.to_owned()),
        format!("unknown variable {}", shown(name)),
    )
    .why(format!(
        "names that start with {VARIABLE_PREFIX} or {SHORT_PREFIX} are settings of storage{}",
        if is_unicode {
            ""
        } else {
            ", and this one is not valid Unicode"
        }
    ));
    error = match near {
        Some((_, spec, variable)) => {
            layer.suspect.extend(spec.map(|spec| spec.path));
            error.hint(format!("did you mean {variable}?"))
        }
        None => error.hint(format!(
            "unset it, or see which there are: {VARIABLE_PREFIX}<SECTION>__<KEY>"
        )),
    };
    layer.errors.push(error);
}

/// Reads keys that were set one by one, each with its path and a value: by command-line flags, or by the program.
pub(crate) fn assigned<'a>(
    values: impl Iterator<Item = (&'a str, &'a OsStr)>,
    origin: impl Fn(&str) -> Origin,
) -> Layer {
    let mut layer = Layer::default();
    for (path, value) in values {
        if let Some(spec) = key(path) {
            layer.set(spec, &Raw::Untyped(value), origin(&spec.flag()));
            continue;
        }
        let mut error = ConfigError::new(origin(path), format!("unknown key `{}`", shown(path))).key(path);
        let there: Vec<_> = KEYS
            .iter()
            .filter(|spec| path.rsplit_once('.').map(|(section, _)| section) == spec.section())
            .map(KeySpec::name)
            .collect();
        let name = path.rsplit('.').next();
        let elsewhere: Vec<_> = KEYS
            .iter()
            .filter(|spec| Some(spec.name()) == name)
            .map(|spec| format!("`{}`", spec.path))
            .collect();
        error = match nearest(path, KEYS.iter().map(|spec| spec.path)) {
            _ if !elsewhere.is_empty() => error.hint(format!("did you mean {}?", elsewhere.join(" or "))),
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None if there.is_empty() => error,
            None => error.hint(format!("known keys there are {}", there.join(", "))),
        };
        layer.errors.push(error);
    }
    layer.check_clashes();
    layer
}
