//! The command `config`.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use prodigy_storage::config::{
    BackendKind, Environment, KeySpec, Loaded, Loader, Notice, Origin, ProcessEnvironment,
};
use prodigy_storage::{Ceilings, Identity, StorageNotice};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::app::App;
use crate::errors::{Failure, Result, print_config};
use crate::exit::Exit;
use crate::new_file::is_standard;
use crate::output::counted;

/// The largest number of bytes that are read of standard input: more than a configuration file may have.
const MOST: u64 = 2 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the values in effect, as a configuration file.
    Show(ShowArgs),
    /// Report everything that is wrong. End with 2 if anything is refused, or with 1 if a key is at the wrong place and
    /// has no effect.
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Print the origin of each value.
    #[arg(long)]
    origin: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// The configuration file to check, as with `--config`; `-` for standard input.
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
}

pub(crate) fn run(app: &mut App<'_>, command: ConfigCommand) -> Result<Exit> {
    match command {
        ConfigCommand::Show(arguments) => match load(app, None, |app, notice| app.notice(notice)) {
            Some(loaded) => show(app, &loaded, arguments.origin),
            None => Ok(Exit::Usage),
        },
        ConfigCommand::Check(arguments) => {
            let named = arguments.file.as_deref();
            let stored = match named.is_some_and(is_standard) {
                true => Some(stored(app)?),
                false => None,
            };
            let file = stored.as_ref().map(|(_, path)| path.as_path()).or(named);
            match load(app, file, report) {
                Some(loaded) => check(app, &loaded),
                None => Ok(Exit::Usage),
            }
        }
    }
}

/// Stores standard input in a temporary file, whose name has the ending of its format. Returns the folder of the file, and
/// its path.
fn stored(app: &mut App<'_>) -> Result<(TempDir, PathBuf)> {
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, format!("read standard input: {error}"));
    let mut text = Vec::new();
    app.input
        .by_ref()
        .take(MOST)
        .read_to_end(&mut text)
        .map_err(failed)?;
    let folder = tempfile::tempdir().map_err(failed)?;
    let name = match is_toml(&String::from_utf8_lossy(&text)) {
        true => "standard-input.toml",
        false => "standard-input.yaml",
    };
    let path = folder.path().join(name);
    std::fs::write(&path, text).map_err(failed)?;
    Ok((folder, path))
}

/// True if the first line with a setting is one of TOML: the heading of a table, or a key with an equals sign.
fn is_toml(text: &str) -> bool {
    let lines = text.lines().map(str::trim);
    let mut settings = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = settings.next();
    first.is_some_and(|line| {
        let sign = line.find([':', '=']).and_then(|at| line.get(at..at + 1));
        line.starts_with('[') || sign == Some("=")
    })
}

/// A key whose value is not the default.
pub(crate) struct Setting {
    pub(crate) key: &'static str,
    pub(crate) value: Value,
    pub(crate) origin: String,
}

/// The settings that differ from the defaults. Empty if the configuration is refused: opening storage reports that.
pub(crate) fn set(app: &App<'_>) -> Vec<Setting> {
    let Ok(loaded) = loader(app, None).load() else {
        return Vec::new();
    };
    let differs = |entry: &Entry| {
        // A key that a file sets to its default does not differ.
        *loaded.origin(entry.key.path) != Origin::Default
            && entry.value != value_of(entry.key, entry.key.default.to_owned())
    };
    entries(&loaded)
        .into_iter()
        .filter(differs)
        .map(|entry| Setting {
            key: entry.key.path,
            value: entry.value,
            origin: entry.origin,
        })
        .collect()
}

/// A loader that reads the configuration files, the environment and the global flags.
fn loader(app: &App<'_>, file: Option<&Path>) -> Loader<ProcessEnvironment> {
    let mut loader = Loader::new(ProcessEnvironment);
    if let Ok(here) = std::env::current_dir() {
        // An error of the identity is ignored: commands that need the repository report a broken `.git`.
        let ceilings = ProcessEnvironment.var("GIT_CEILING_DIRECTORIES");
        let ceilings = ceilings.map(|value| Ceilings::parse(&value)).unwrap_or_default();
        let identity = Identity::below(&here, &ceilings).ok();
        let root = identity.and_then(|identity| identity.worktree);
        loader = loader.project_dir(root.unwrap_or(here));
    }
    if let Some(file) = file.or(app.global.config.as_deref()) {
        loader = loader.file(file);
    }
    if let Some(folder) = &app.global.base_dir {
        loader = loader.flag("backend_config.base_dir", folder);
    }
    loader
}

/// Loads the configuration, and reports its warnings and its errors. `None` if it is refused.
fn load(app: &mut App<'_>, file: Option<&Path>, print: fn(&mut App<'_>, &Notice)) -> Option<Loaded> {
    match loader(app, file).load() {
        Ok(loaded) => {
            for notice in &loaded.notices {
                print(app, notice);
            }
            if loaded.config.backend == BackendKind::Memory && !loaded.config.memory.persist_to_disk {
                app.warn(&StorageNotice::NothingKept.to_string());
            }
            Some(loaded)
        }
        Err(errors) => {
            print_config(&errors, &mut app.err);
            None
        }
    }
}

/// A key with its value and the origin of the value.
struct Entry {
    key: &'static KeySpec,
    value: Value,
    origin: String,
}

/// The values in effect. A key that is not set, or whose value follows from another key, is left out: a file with the
/// other keys has the same effect.
fn entries(loaded: &Loaded) -> Vec<Entry> {
    let local = !loaded.config.file.use_global;
    let counts = |key: &KeySpec, text: &str| {
        let follows = local && key.path == "backend_config.base_dir";
        let unset = text == "none" && key.default == "none";
        !follows && !unset
    };
    loaded
        .effective()
        .filter(|(key, text, _)| counts(key, text))
        .map(|(key, text, origin)| Entry {
            key,
            value: value_of(key, text),
            origin: origin.to_string(),
        })
        .collect()
}

/// The value as JSON: a number or a boolean if the default of its key has that type, otherwise a string.
fn value_of(key: &KeySpec, text: String) -> Value {
    let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
    match (parse(key.default), parse(&text)) {
        (Some(Value::Bool(_)), Some(value @ Value::Bool(_)))
        | (Some(Value::Number(_)), Some(value @ Value::Number(_))) => value,
        _ => match parse(&text) {
            // A size as a plain number of bytes; the key's default has a unit, so it is not a JSON number.
            Some(value @ Value::Number(_)) if !text.is_empty() => value,
            _ => Value::String(text),
        },
    }
}

fn show(app: &mut App<'_>, loaded: &Loaded, origin: bool) -> Result<Exit> {
    let entries = entries(loaded);
    if app.json() {
        let shown = if origin {
            with_origins(entries)
        } else {
            nested(entries)
        };
        app.json_line(&shown)?;
        return Ok(Exit::Done);
    }
    app.line("storage:")?;
    let mut section = "";
    for entry in &entries {
        let (of, name) = entry.key.path.rsplit_once('.').unwrap_or(("", entry.key.path));
        if of != section {
            section = of;
            app.line(format!("  {section}:"))?;
        }
        let indent = if of.is_empty() { "  " } else { "    " };
        let line = format!("{indent}{name}: {}", yaml(&entry.value)?);
        match origin {
            true => app.line(format!("{line:<48} # {}", entry.origin))?,
            false => app.line(line)?,
        }
    }
    Ok(Exit::Done)
}

/// A value as YAML: JSON is valid YAML, and a plain word needs no quotes.
fn yaml(value: &Value) -> Result<String> {
    match value {
        Value::String(text)
            if text.starts_with(|first: char| first.is_ascii_lowercase())
                && text.chars().all(|char| char.is_ascii_alphanumeric()) =>
        {
            Ok(text.clone())
        }
        other => serde_json::to_string(other)
            .map_err(|error| Failure::new(Exit::Failed, format!("write the configuration: {error}"))),
    }
}

fn nested(entries: Vec<Entry>) -> Value {
    let mut storage = Map::new();
    for entry in entries {
        match entry.key.path.rsplit_once('.') {
            None => {
                storage.insert(entry.key.path.to_owned(), entry.value);
            }
            Some((section, name)) => {
                let section = storage.entry(section).or_insert_with(|| json!({}));
                if let Value::Object(section) = section {
                    section.insert(name.to_owned(), entry.value);
                }
            }
        }
    }
    json!({ "storage": storage })
}

fn with_origins(entries: Vec<Entry>) -> Value {
    let keys = entries.into_iter().map(|entry| {
        let told = json!({"value": entry.value, "origin": entry.origin});
        (entry.key.path.to_owned(), told)
    });
    Value::Object(keys.collect())
}

/// Reports a notice. A key without effect is an error of the checked file.
fn report(app: &mut App<'_>, notice: &Notice) {
    match sets_nothing(notice) {
        true => app.error(&notice.to_string()),
        false => app.notice(notice),
    }
}

/// True if the notice is about a known key at a place where it has no effect.
fn sets_nothing(notice: &Notice) -> bool {
    matches!(
        notice,
        Notice::AtTopLevel { .. } | Notice::LooksLikeStorage { .. }
    )
}

fn check(app: &mut App<'_>, loaded: &Loaded) -> Result<Exit> {
    let misplaced = loaded
        .notices
        .iter()
        .filter(|notice| sets_nothing(notice))
        .count();
    let exit = match misplaced {
        0 => Exit::Done,
        _ => Exit::Failed,
    };
    let files: Vec<String> = loaded.files().map(|file| file.display().to_string()).collect();
    if app.json() {
        let notices: Vec<String> = loaded.notices.iter().map(ToString::to_string).collect();
        app.json_line(&json!({"valid": misplaced == 0, "files": files, "notices": notices}))?;
        return Ok(exit);
    }
    for file in &files {
        app.line(prodigy_storage::escape(file).as_bytes())?;
    }
    let read = counted(files.len(), "file");
    app.line(match misplaced {
        0 => format!("the configuration is valid ({read} read)"),
        some => format!("{} set nothing ({read} read)", counted(some, "key")),
    })?;
    Ok(exit)
}
