//! Health checks, which find conditions under which the next write would fail. They leave no files behind.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use prodigy_storage_backend::{Check, ErrorKind, Severity, StorageError, time_to_store};
use prodigy_storage_layout::{
    DELETIONS, DLQ, EVENTS, Entry, LOCKS, MOVED, ORPHANED, QUARANTINE, STATE, WORKTREES,
};

use super::check::{check, check_owner, exposed, lock_root};
use super::exposure::Exposed;
use super::fault::{
    CLEAN, FREE_SPACE, RAISE_FILES, RAISE_LIMIT, as_user, command, file_limit, make_mutable, make_sticky,
    quoted, sudo,
};
use super::held::held;
use super::{FORMAT, InTheWay, Root, displaced, is_folder, is_no_store, is_of_user, network};
use crate::fs::{FileKind, FsFolder, Metadata};

/// The top-level folders that are written to.
const AREAS: [&str; 8] = [EVENTS, DLQ, STATE, LOCKS, DELETIONS, MOVED, ORPHANED, QUARANTINE];
/// The root itself, and the top-level folders that are written to.
const PLACES: [&str; 9] = [
    ROOT, EVENTS, DLQ, STATE, LOCKS, DELETIONS, MOVED, ORPHANED, QUARANTINE,
];
const ROOT: &str = "";
/// The largest number of files and folders below the root that are checked.
const MOST: usize = 10_000;
/// The largest number of names outside of the layout that are examined.
const MOST_UNKNOWN: usize = 100;
/// If a process may open fewer files than this, some of its writes fail.
const LEAST_FILES: u64 = 20;
/// If a process may open fewer files than this, it may fail while it works on many jobs at once.
const FEW_FILES: u64 = 256;
/// The largest number of paths that the message of a check names.
const NAMED: usize = 5;
/// If fewer bytes than this are free on a large file system, there is a warning.
const LITTLE_SPACE: u64 = 64 << 20;
/// If fewer inodes than this are free, there is a warning.
const FEW_INODES: u64 = 1_000;
/// The largest number of inodes that the first write of a job needs: for its folders, its file, a temporary file, a
/// lock file, and the files of the root.
const FIRST_WRITE_INODES: u64 = 12;

/// Checks whether a write would succeed: the root, the files below it, its file system, its format, and the free space.
/// The checks are the same for a read-only handle.
pub(crate) fn health(root: &Root) -> Vec<Check> {
    let top = Path::new("");
    let at = root.options.root.display().to_string();
    let mut checks = Vec::new();
    match root.fs.metadata(top) {
        Ok(found) => {
            checks.push(Check::new(
                "root",
                Severity::Ok,
                format!("{at} is there, mode {:04o}, owner {}", found.mode, found.uid),
            ));
            let tree = TreeCheck::new(root, found.uid).looked();
            match tree.owner_of_most() {
                Some(most) => checks.push(owner_changed(root, &at, found.uid, most)),
                None => checks.extend(owner(root, &at, found.uid)),
            }
            if is_no_store(root) {
                checks.push(
                    Check::new(
                        "root",
                        Severity::Warning,
                        format!("{at} has files, and none of a store: the path may be mistyped"),
                    )
                    .with_hint(
                        "correct `--base-dir` or the configuration; the first write begins a store there",
                    )
                    .with_command("prodigy-storage config show --origin"),
                );
            }
            if found.mode & 0o022 != 0 {
                checks.push(
                    Check::new(
                        "mode",
                        Severity::Warning,
                        format!("others may write to {at}: mode {:04o}", found.mode),
                    )
                    .with_command(format!(
                        "{}chmod go-w {}",
                        of_owner(root, found.uid),
                        quoted(&root.options.root)
                    )),
                );
            }
            checks.extend(writable(root, &PLACES));
            checks.extend(tree.checks());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            checks.push(Check::new(
                "root",
                Severity::Ok,
                format!("{at} does not exist yet; the first write creates it"),
            ));
            checks.extend(check_owner(root).err().map(|error| failure("owner", &error)));
            checks.extend(writable(root, &[ROOT]));
        }
        Err(error) => {
            let command = command(root, top, &error);
            let check = failure("root", &root.write_fault("check health", top, error));
            checks.push(with(check, command));
        }
    }
    checks.extend(open_files());
    checks.extend(way(root));
    checks.push(file_system(root));
    // A read-only handle holds no lock on the root, so the lock is taken here and released at once.
    let locks = match root.options.read_only {
        true => lock_root(root).map(drop),
        false => Ok(()),
    };
    match check(root).and(locks) {
        Ok(()) => checks.push(Check::new("format", Severity::Ok, format!("format {FORMAT}"))),
        Err(error) => {
            let command = match error.kind() {
                ErrorKind::Refused if root.fs.metadata(top).is_ok_and(|found| found.mode & 0o002 != 0) => {
                    Some(format!("chmod o-w {}", quoted(&root.options.root)))
                }
                ErrorKind::Damaged => Some("prodigy-storage doctor --repair".to_owned()),
                _ => None,
            };
            checks.push(with(failure("format", &error), command));
        }
    }
    checks.extend(space(root));
    checks.extend(held(root));
    let clock = time_to_store(&*root.options.clock, "check health", &at);
    checks.extend(clock.err().map(|error| failure("clock", &error)));
    checks
}

/// The check that failed with this error.
pub(crate) fn failure(name: &'static str, error: &StorageError) -> Check {
    let mut check = Check::new(name, Severity::Failure, format!("{error:#}"));
    check.hint = error.hint().map(str::to_owned);
    check
}

fn with(mut check: Check, command: Option<String>) -> Check {
    check.command = command;
    check
}

/// The beginning of a command that only the owner of a file may run, or the superuser.
fn of_owner(root: &Root, owner: u32) -> &'static str {
    match root.fs.user() {
        Some(me) if me == owner => "",
        _ => sudo(root),
    }
}

/// The check that reports a root of another user; `None` if this user owns it.
fn owner(root: &Root, at: &str, owner: u32) -> Option<Check> {
    let me = root.fs.user().filter(|me| *me != owner)?;
    if let Err(error) = check_owner(root) {
        return Some(failure("owner", &error).with_command(as_user(root, owner)));
    }
    let check = Check::new(
        "owner",
        Severity::Warning,
        format!("{at} belongs to user {owner}, and this is user {me}"),
    );
    let check = check.with_hint(if me == 0 {
        "files written here are given to that user"
    } else {
        "that user can remove what is written here, and can't read it unless it is given to that user"
    });
    Some(check.with_command(as_user(root, owner)))
}

/// The check that reports a root whose folder alone has another owner than most of what is below it.
fn owner_changed(root: &Root, at: &str, owner: u32, most: u32) -> Check {
    let severity = match check_owner(root) {
        Ok(()) => Severity::Warning,
        Err(_) => Severity::Failure,
    };
    let found = format!("{at} belongs to user {owner}, and most of what is below it to user {most}");
    Check::new("owner", severity, found)
        .with_hint("somebody gave away the folder alone: give it back")
        .with_command(format!(
            "{}chown -h {most} {}",
            sudo(root),
            quoted(&root.options.root)
        ))
}

/// Checks that files can be written in these folders, by writing test files. Failures of the same kind share one check.
fn writable(root: &Root, folders: &[&str]) -> Vec<Check> {
    let mut failures: Vec<(io::ErrorKind, Check, Vec<&str>)> = Vec::new();
    for folder in folders {
        let error = match root.fs.probe_write(Path::new(folder)) {
            Ok(()) => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => error,
        };
        let kind = error.kind();
        match failures.iter_mut().find(|failure| failure.0 == kind) {
            Some((_, _, others)) => others.push(folder),
            None => {
                let command = command(root, Path::new(folder), &error);
                let error = root.write_fault("check health", Path::new(folder), error);
                let check = failure("writable", &error);
                failures.push((kind, with(check, command), Vec::new()));
            }
        }
    }
    let check = |(_, mut check, others): (_, Check, Vec<&str>)| {
        if !others.is_empty() {
            check
                .found
                .push_str(&format!("; the same in {}", others.join(", ")));
        }
        check
    };
    failures.into_iter().map(check).collect()
}

/// The check of the files and folders below the root.
struct TreeCheck<'a> {
    root: &'a Root,
    /// The user id of the root's owner.
    owner: u32,
    left: usize,
    /// Files and folders that this user can't read, write or enter.
    closed: Examples,
    /// The commands that give this user access to the first few of them.
    opening: Vec<String>,
    /// Files and folders whose owner is not the owner of the root.
    strange: Examples,
    /// Folders into which other users may reach.
    open: Examples,
    /// How many files and folders each user owns.
    owners: BTreeMap<u32, usize>,
    in_the_way: InTheWay,
    /// Data of the store under names that nothing reads.
    displaced: Examples,
    /// The number of names outside of the layout that may still be examined for such data.
    unknown: usize,
}

/// The number of paths that a check found, and descriptions of the first few.
#[derive(Default)]
struct Examples {
    named: Vec<String>,
    count: usize,
}

impl Examples {
    fn add(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(what());
        }
    }

    fn text(&self) -> String {
        let more = self.count - self.named.len();
        let mut text = self.named.join("; ");
        if more > 0 {
            text.push_str(&format!("; and {more} more"));
        }
        text
    }
}

impl<'a> TreeCheck<'a> {
    fn new(root: &'a Root, owner: u32) -> Self {
        Self {
            root,
            owner,
            left: MOST,
            closed: Examples::default(),
            opening: Vec::new(),
            strange: Examples::default(),
            open: Examples::default(),
            owners: BTreeMap::new(),
            in_the_way: InTheWay::default(),
            displaced: Examples::default(),
            unknown: MOST_UNKNOWN,
        }
    }

    /// Looks at the files and folders.
    fn looked(mut self) -> Self {
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            // If a folder can't be opened or listed, another check reports it.
            let Ok(opened) = self.root.fs.folder(&folder) else {
                continue;
            };
            let names = if folder.as_os_str().is_empty() {
                self.renamed_areas();
                AREAS.iter().rev().map(|area| (*area).to_owned()).collect()
            } else {
                self.names(&*opened)
            };
            for name in names {
                let path = folder.join(&name);
                let Ok(found) = opened.metadata_of(name.as_ref()) else {
                    continue;
                };
                self.look(&path, &found, &*opened, name.as_ref());
                if !path.starts_with(QUARANTINE) && self.is_displaced(&path, found.kind) {
                    continue;
                }
                if found.kind == FileKind::Folder {
                    folders.push(path);
                }
            }
        }
        self
    }

    /// Looks for the folders of areas that were renamed.
    fn renamed_areas(&mut self) {
        for entry in self.root.fs.list(Path::new("")).unwrap_or_default() {
            let path = Path::new(&entry.name);
            if entry.kind == FileKind::Folder && !is_of_user(&entry.name) {
                self.is_displaced(path, entry.kind);
            }
        }
        let worktrees = Path::new(WORKTREES);
        for entry in self.root.fs.list(worktrees).unwrap_or_default() {
            self.is_displaced(&worktrees.join(entry.name), entry.kind);
        }
    }

    /// True for data of the store under a name that nothing reads.
    fn is_displaced(&mut self, path: &Path, kind: FileKind) -> bool {
        if self.unknown == 0 || is_folder(path) || Entry::parse(path).is_some() {
            return false;
        }
        self.unknown -= 1;
        let found = displaced(self.root, path, kind);
        for part in &found {
            let path = self.root.absolute(&part.path);
            self.displaced.add(|| path.display().to_string());
        }
        !found.is_empty()
    }

    /// The user who owns most of what is below the root, if that is not the owner of the root. `None` if this process runs as the
    /// owner of the root: that user may have wanted the store.
    fn owner_of_most(&self) -> Option<u32> {
        let all: usize = self.owners.values().sum();
        let (most, _) = self.owners.iter().find(|(_, count)| **count * 2 > all)?;
        (*most != self.owner && self.root.fs.user() != Some(self.owner)).then_some(*most)
    }

    fn checks(self) -> Vec<Check> {
        let is_root_alone = self.owner_of_most().is_some();
        let mut checks = Vec::new();
        if self.closed.count > 0 {
            let what = format!(
                "this user can't use everything below the root: {}",
                self.closed.text()
            );
            checks.push(
                Check::new("below the root", Severity::Failure, what)
                    .with_hint("it has another owner or mode, or is immutable")
                    .with_command(self.opening.join(" && ")),
            );
        }
        let root_mode = self.root.fs.metadata(Path::new("")).map_or(0, |found| found.mode);
        // Without access to the root, nobody reaches the folders below it.
        if self.open.count > 0 && root_mode & 0o011 != 0 {
            let what = format!("other users may reach into folders: {}", self.open.text());
            checks.push(Check::new("modes", Severity::Warning, what).with_command(format!(
                "{}chmod 0700 {}",
                of_owner(self.root, self.owner),
                quoted(&self.root.options.root)
            )));
        }
        let mut in_the_way = Examples::default();
        for path in self.in_the_way.paths() {
            let what = self.root.describe_misplaced(&path);
            in_the_way.add(|| format!("{} is {what}", self.root.absolute(&path).display()));
        }
        if in_the_way.count > 0 {
            let what = format!(
                "reads and writes fail where a link or a file is in the way of a folder, or something else in the way of a file: {}",
                in_the_way.text()
            );
            checks.push(
                Check::new("below the root", Severity::Failure, what)
                    .with_hint("the doctor says what to do about each")
                    .with_command("prodigy-storage doctor"),
            );
        }
        if self.displaced.count > 0 {
            let what = format!(
                "nothing reads what was renamed or moved below the root: {}",
                self.displaced.text()
            );
            checks.push(
                Check::new("below the root", Severity::Warning, what)
                    .with_hint("the doctor names the place to which each belongs")
                    .with_command("prodigy-storage doctor"),
            );
        }
        if self.strange.count > 0 && !is_root_alone {
            let what = format!(
                "user {}, who owns the root, does not own everything below it: {}",
                self.owner,
                self.strange.text()
            );
            checks.push(
                Check::new("below the root", Severity::Warning, what)
                    .with_hint("give it to the owner of the root")
                    .with_command(format!(
                        "{}chown -hR {} {}",
                        sudo(self.root),
                        self.owner,
                        quoted(&self.root.options.root)
                    )),
            );
        }
        if self.left == 0 {
            let what = format!("only the first {MOST} files and folders below the root were checked");
            checks.push(Check::new("below the root", Severity::Ok, what));
        }
        checks
    }

    /// The names in a folder, up to the number of files and folders that may still be checked.
    fn names(&mut self, folder: &dyn FsFolder) -> Vec<String> {
        let mut names = Vec::new();
        let listed = folder.names(&mut |name, _| {
            if names.len() < self.left {
                names.push(name.to_owned());
            }
        });
        self.left -= names.len();
        listed.map_or_else(|_| Vec::new(), |()| names)
    }

    fn look(&mut self, path: &Path, found: &Metadata, folder: &dyn FsFolder, name: &OsStr) {
        self.in_the_way.add(path, found.kind);
        *self.owners.entry(found.uid).or_default() += 1;
        let write = match found.kind {
            FileKind::Folder => true,
            FileKind::File => is_opened_for_writing(path) || found.is_writable(),
            FileKind::Other => return,
        };
        if found.kind == FileKind::Folder && found.mode & 0o077 != 0 {
            let at = self.root.absolute(path);
            self.open
                .add(|| format!("{} (mode {:04o})", at.display(), found.mode));
        }
        let describe = || {
            format!(
                "{} (owner {}, mode {:04o})",
                self.root.absolute(path).display(),
                found.uid,
                found.mode
            )
        };
        match folder.may(name, found.kind, write) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.closed.add(describe);
                if self.opening.len() < NAMED {
                    self.opening.push(self.open_to_this_user(path, found, write));
                }
            }
            _ if found.uid != self.owner => self.strange.add(describe),
            _ => {}
        }
    }
}

impl TreeCheck<'_> {
    /// The command that gives this user access to a file or folder: its owner, its mode or its attributes keep the user out.
    fn open_to_this_user(&self, path: &Path, found: &Metadata, write: bool) -> String {
        let at = self.root.absolute(path);
        let (rights, needed) = match (found.kind, write) {
            (FileKind::Folder, _) => ("rwx", 0o700),
            (_, true) => ("rw", 0o600),
            (_, false) => ("r", 0o400),
        };
        if found.uid != self.owner {
            format!("{}chown -hR {} {}", sudo(self.root), self.owner, quoted(&at))
        } else if found.mode & needed != needed {
            let before = of_owner(self.root, found.uid);
            format!("{before}chmod u+{rights} {}", quoted(&at))
        } else {
            make_mutable(self.root, &at)
        }
    }
}

/// True if writers open this file for writing, so that it must be writable: a file of a queue, or a lock file. Segments
/// may be sealed, and documents are replaced as a whole.
fn is_opened_for_writing(path: &Path) -> bool {
    [DLQ, LOCKS].iter().any(|area| path.starts_with(area))
}

/// The check of the folders above the root. If one of them is unsafe, another user could replace the root.
fn way(root: &Root) -> Option<Check> {
    let (found, hint, command) = match exposed(root)? {
        Exposed::Planted { folder, uid } => (
            format!(
                "user {uid} made {}, where any user may make a folder",
                folder.display()
            ),
            "use a folder that only you may write to",
            "export PRODIGY_STORAGE_BASE_PATH=\"$HOME/.prodigy\"".to_owned(),
        ),
        Exposed::Loose { folder, mode } => (
            format!(
                "any user may replace the root by another folder: {} has mode {mode:04o}",
                folder.display()
            ),
            "with the sticky bit, only the owner of a folder in it may rename that folder",
            make_sticky(root, &folder),
        ),
    };
    let check = Check::new("way to the root", Severity::Warning, found).with_hint(hint);
    Some(check.with_command(command))
}

/// The check of the number of files that this process may open; `None` without a limit.
fn open_files() -> Option<Check> {
    let limit = file_limit()?;
    let (severity, why) = match limit {
        0..LEAST_FILES => (
            Severity::Failure,
            "writes and reads fail: one of them opens several files",
        ),
        LEAST_FILES..FEW_FILES => (
            Severity::Warning,
            "a process that works on many jobs at once opens more",
        ),
        _ => return None,
    };
    let found = format!("the limit of open files of this process is {limit}: {why}");
    Some(
        Check::new("open files", severity, found)
            .with_hint(RAISE_FILES)
            .with_command(RAISE_LIMIT),
    )
}

fn file_system(root: &Root) -> Check {
    match super::check::file_system(root) {
        network::FileSystemKind::Local => Check::new("file system", Severity::Ok, "of this machine"),
        network::FileSystemKind::Memory(name) => Check::new(
            "file system",
            Severity::Warning,
            format!("{name} keeps everything in memory: a restart of the machine loses all data"),
        )
        .with_hint("move the store to a disk: `prodigy-storage copy --to DIR`, with a folder there"),
        network::FileSystemKind::Network(name, at) => {
            let at = at.map_or_else(String::new, |at| format!(" at {}", at.display()));
            Check::new(
                "file system",
                Severity::Warning,
                format!("{name}{at}: nothing is promised on a network file system"),
            )
            .with_hint("move the store to a local disk: `prodigy-storage copy --to DIR`, with a folder there")
        }
        network::FileSystemKind::Unknown(why) => Check::new(
            "file system",
            Severity::Warning,
            format!("whether it is a network file system is unknown: {why}"),
        )
        .with_hint("nothing is promised on a network file system"),
    }
}

/// A size in bytes, as text with a unit.
pub(super) fn size(bytes: u64) -> String {
    let in_units = |shift: u32, unit: &str| format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64);
    match bytes {
        0..0x400 => format!("{bytes} B"),
        0x400..0x10_0000 => in_units(10, "KiB"),
        0x10_0000..0x4000_0000 => in_units(20, "MiB"),
        _ => in_units(30, "GiB"),
    }
}

/// True if less than a hundredth of the file system is free, or less than [`LITTLE_SPACE`]; of a small file system, less than a tenth.
fn is_scarce(free: u64, capacity: u64) -> bool {
    free < (capacity / 100).max(LITTLE_SPACE.min(capacity / 10))
}

fn space(root: &Root) -> Vec<Check> {
    let Ok(space) = root.fs.space() else {
        return Vec::new();
    };
    let mut checks = Vec::new();
    let found = format!("{} of {} are free", size(space.free), size(space.capacity));
    let severity = if space.free == 0 {
        Severity::Failure
    } else if is_scarce(space.free, space.capacity) {
        Severity::Warning
    } else {
        Severity::Ok
    };
    let check = Check::new("space", severity, found);
    checks.push(match severity {
        Severity::Ok => check,
        _ => check.with_hint(FREE_SPACE).with_command(CLEAN),
    });
    if let Some(free) = space.free_inodes
        && free < FEW_INODES
    {
        let severity = if free < FIRST_WRITE_INODES {
            Severity::Failure
        } else {
            Severity::Warning
        };
        let what = format!("{free} inodes are free on the file system: each new file needs one");
        checks.push(
            Check::new("inodes", severity, what)
                .with_hint("remove small files that are not needed")
                .with_command(CLEAN),
        );
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_scarce_by_its_share_or_its_amount_and_not_on_a_small_healthy_disk() {
        const MIB: u64 = 1 << 20;
        for (free, capacity, scarce) in [
            (8 * MIB, 8 * MIB, false),
            (3 * MIB, 4 * MIB, false),
            (MIB / 2, 8 * MIB, true),
            (63 * MIB, 1024 * MIB, true),
            (65 * MIB, 1024 * MIB, false),
            (900 * MIB, 100_000 * MIB, true),
            (1100 * MIB, 100_000 * MIB, false),
            (0, 0, false),
        ] {
            assert_eq!(is_scarce(free, capacity), scarce, "{free} of {capacity}");
        }
    }

    #[test]
    fn a_size_has_a_unit() {
        let sizes = [0, 1023, 1024, 3 << 19, 5 << 29].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "2.5 GiB"]);
    }
}
