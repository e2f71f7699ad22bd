//! Finds and reads configuration files.
#![expect(clippy::disallowed_methods, reason = "configuration files")]

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::ConfigError;
use crate::format::Format;
use crate::layer::Layer;
use crate::origin::Origin;
use crate::read;
use crate::text::shown;
use crate::tree::Parsed;

/// The largest configuration file that is read, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// Finds the configuration file in a folder. `None` if no file is there; several files are an error.
pub(crate) fn discover(folder: &Path, errors: &mut Vec<ConfigError>) -> Option<PathBuf> {
    let mut found = Vec::new();
    for name in ["config.yml", "config.yaml", "config.toml"] {
        let path = folder.join(name);
        match fs::symlink_metadata(&path) {
            Ok(_) => found.push(path),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => {
                errors.push(unreadable(&path, &error));
                return None;
            }
        }
    }
    if let [first, second, ..] = found.as_slice() {
        let others: Vec<_> = found
            .iter()
            .map(|path| format!("`{}`", shown(&name(path))))
            .collect();
        errors.push(
            ConfigError::new(whole(second), "more than one configuration file in one folder")
                .why(format!(
                    "{} has {}",
                    shown(&folder.to_string_lossy()),
                    others.join(" and ")
                ))
                .hint(format!(
                    "keep one of them, `{}` perhaps, and remove the others",
                    shown(&name(first))
                )),
        );
        return None;
    }
    found.pop()
}

/// Opens a file for reading. If the file is a pipe, this does not block.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(path)
}

/// Fails for a project's configuration file that another user may have written: it or its folder belongs to another
/// user, which git also refuses as dubious ownership, or every user may write to it.
fn check_owner(path: &Path, metadata: &fs::Metadata, user: u32) -> Result<(), Box<ConfigError>> {
    let trusted = |owner: u32| owner == user || owner == 0;
    // The owner of a symbolic link decides which file is read, so the link's owner is checked too.
    let link = fs::symlink_metadata(path).map_err(|error| unreadable(path, &error))?;
    // The owner of the folder may put any file of this user there. The folder may be a symbolic link as well.
    let folder = path.parent().unwrap_or(Path::new(""));
    let folders = [fs::symlink_metadata(folder), fs::metadata(folder)];
    let folders = folders
        .into_iter()
        .flatten()
        .map(|folder| (folder.uid(), "the folder of "));
    let mut owners = [(metadata.uid(), ""), (link.uid(), "")]
        .into_iter()
        .chain(folders);
    if let Some((owner, of_it)) = owners.find(|(owner, _)| !trusted(*owner)) {
        return Err(ConfigError::new(
            whole(path),
            format!("{of_it}the project's configuration file belongs to another user"),
        )
        .why(format!("user {owner} owns it, and this is user {user}"))
        .hint("check it, and name it in PRODIGY_CONFIG to use it on purpose")
        .into());
    }
    if metadata.mode() & 0o002 != 0 {
        return Err(ConfigError::new(
            whole(path),
            "every user may write the project's configuration file",
        )
        .why(format!("its mode is {:04o}", metadata.mode() & 0o7777))
        .hint("check it, then take the permission away with `chmod o-w`, or name it in PRODIGY_CONFIG to use it on purpose")
        .into());
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn whole(path: &Path) -> Origin {
    Origin::File {
        path: path.to_owned(),
        line: 0,
        column: 0,
    }
}

fn unreadable(path: &Path, error: &io::Error) -> ConfigError {
    if error.kind() == io::ErrorKind::PermissionDenied
        && let Some(denied) = Denied::on_the_way_to(path)
    {
        return denied.error(path);
    }
    ConfigError::new(whole(path), "the configuration file can't be read").why(error.to_string())
}

/// A file or folder on the path of a configuration file that this user must not enter or read.
struct Denied {
    at: PathBuf,
    is_file: bool,
    owner: u32,
    mode: u32,
}

impl Denied {
    /// The first such folder, from the top down, since nothing below it can be seen; or the file itself.
    fn on_the_way_to(path: &Path) -> Option<Self> {
        let mut way: Vec<&Path> = path.ancestors().filter(|at| !at.as_os_str().is_empty()).collect();
        way.reverse();
        let mut last = None;
        for at in way {
            match fs::metadata(at) {
                Ok(found) => last = Some((at, found)),
                Err(_) => break,
            }
        }
        let (at, found) = last?;
        Some(Self {
            at: at.to_owned(),
            is_file: at == path,
            owner: found.uid(),
            mode: found.mode() & 0o7777,
        })
    }

    fn error(&self, path: &Path) -> ConfigError {
        let place = shown(&self.at.to_string_lossy());
        let (what, verb) = match self.is_file {
            true => ("the configuration file can't be read", "read"),
            false => (
                "a folder can't be entered, so its configuration is not known",
                "enter",
            ),
        };
        let (owner, mode) = (self.owner, self.mode);
        let why = format!("this user may not {verb} {place}: user {owner} owns it, its mode is {mode:04o}");
        let named = if self.is_file { path } else { &self.at };
        ConfigError::new(whole(named), what).why(why).hint(
            "run this as its owner, change its owner or mode, or set PRODIGY_HOME to a folder of this user",
        )
    }
}

/// The reason why a configuration file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The file was found in the user's own folder.
    Home,
    /// The file was found in a project. It has to belong to this user or to root.
    Project { user: u32 },
    /// The file was named by this source, and has to exist.
    Named(&'static str),
}

/// Reads the settings in a file.
pub(crate) fn load(path: &Path, source: Source) -> Layer {
    match content(path, source) {
        Ok(parsed) => {
            let mut layer = read::read(&parsed, Some(path));
            if matches!(source, Source::Project { .. }) {
                layer.of_project = true;
            }
            layer
        }
        Err(error) => {
            let mut layer = Layer::failed(*error);
            if path.exists() {
                layer.suspect_unset();
            }
            layer
        }
    }
}

fn content(path: &Path, source: Source) -> Result<Parsed, Box<ConfigError>> {
    let file = open(path).map_err(|error| match (error.kind(), source) {
        (io::ErrorKind::NotFound, Source::Named(by)) => {
            ConfigError::new(whole(path), "the configuration file does not exist")
                .why(format!("it is named by {by}"))
        }
        _ => unreadable(path, &error),
    })?;
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    if metadata.is_dir() {
        return Err(ConfigError::new(
            whole(path),
            "the path leads to a folder, not to a configuration file",
        )
        .into());
    }
    if !metadata.is_file() {
        return Err(
            ConfigError::new(whole(path), "the configuration file is not a regular file")
                .why("a pipe or a device may never end, or never answer")
                .hint("copy its content into a file, and name that")
                .into(),
        );
    }
    let Some(format) = Format::of(path) else {
        return Err(
            ConfigError::new(whole(path), "the configuration file's format is not known")
                .why("its name ends neither in .yaml or .yml nor in .toml")
                .into(),
        );
    };
    if let Source::Project { user } = source {
        check_owner(path, &metadata, user)?;
    }
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(
            ConfigError::new(whole(path), "the configuration file is too large")
                .why(format!("a configuration has at most {MAX_SIZE} bytes"))
                .into(),
        );
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let at = error.valid_up_to();
        let good = bytes.get(..at).unwrap_or_default();
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = good
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        let column = String::from_utf8_lossy(good.get(start..).unwrap_or_default())
            .chars()
            .count()
            + 1;
        ConfigError::new(
            Origin::File {
                path: path.to_owned(),
                line,
                column,
            },
            "the file is not UTF-8 text",
        )
        .why(format!(
            "the byte at offset {at} is not part of a valid character"
        ))
        .hint("save the file as UTF-8")
    })?;
    format.parse(text).map_err(|why| {
        ConfigError::new(whole(path), "the configuration file can't be read")
            .why(why)
            .into()
    })
}
