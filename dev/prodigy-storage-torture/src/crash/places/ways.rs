//! The ways to take the root away from running processes, and the folders of one trial of a way.

use std::io;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::judge::{Op, Span};
use crate::crash::power::disk::quietly;
use crate::crash::section::Lab;
use crate::crash::strace::started_by;
use crate::tool::Tool;

/// The job of all processes, which is the job of `torture-served`.
pub(super) const ADDRESS: [&str; 4] = ["--repo", "crash", "--job", "struck"];
/// The lock that a process holds before the root is taken away.
const LOCK: &str = "crash/struck/gate";
/// The user and group `nobody`.
const NOBODY: u32 = 65534;
/// The number in the checkpoint of the root's copy; `OTHER` is the number in the other store's checkpoint.
pub(super) const COPIED: i64 = 0;
pub(super) const OTHER: i64 = -2;

/// The contents of the root's path after the root was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leads {
    /// An earlier copy of the store.
    Copy,
    /// Another store.
    Other,
    /// An empty folder.
    Empty,
    Nowhere,
    /// The same folder, which is read-only for a new process.
    Same,
    /// The same folder, in which a new process can't write.
    ReadOnly,
    /// The same folder, which its processes may no longer enter.
    Shut,
}

/// A way in which the folder of the store disappears or is replaced while processes use it.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) what: &'static str,
    pub(super) leads: Leads,
    /// True if the processes run as another user.
    others: bool,
    /// True if the root's path is a symbolic link from the beginning.
    linked: bool,
    go: fn(&Place<'_>) -> Result<()>,
}

pub(super) const WAYS: &[Way] = &[
    Way {
        what: "restored from a copy",
        leads: Leads::Copy,
        others: false,
        linked: false,
        go: |place| place.away().and_then(|()| place.bring("copy")),
    },
    Way {
        what: "moved",
        leads: Leads::Nowhere,
        others: false,
        linked: false,
        go: |place| place.away(),
    },
    Way {
        what: "replaced by another store",
        leads: Leads::Other,
        others: false,
        linked: false,
        go: |place| place.away().and_then(|()| place.bring("other")),
    },
    Way {
        what: "replaced by an empty folder",
        leads: Leads::Empty,
        others: false,
        linked: false,
        go: |place| place.away().and_then(|()| place.bring("empty")),
    },
    Way {
        what: "removed",
        leads: Leads::Nowhere,
        others: false,
        linked: false,
        go: |place| place.remove(),
    },
    Way {
        what: "removed and created again",
        leads: Leads::Other,
        others: false,
        linked: false,
        go: |place| place.remove().and_then(|()| place.bring("other")),
    },
    Way {
        what: "moved, with a link in its place",
        leads: Leads::Same,
        others: false,
        linked: false,
        go: |place| {
            place.away()?;
            Ok(std::os::unix::fs::symlink(place.old(), place.base())?)
        },
    },
    Way {
        what: "a link that was pointed at a copy",
        leads: Leads::Copy,
        others: false,
        linked: true,
        go: |place| place.point("copy"),
    },
    Way {
        what: "a link that was pointed at another store",
        leads: Leads::Other,
        others: false,
        linked: true,
        go: |place| place.point("other"),
    },
    Way {
        what: "mounted read-only",
        leads: Leads::ReadOnly,
        others: false,
        linked: false,
        go: |place| {
            quietly(
                Command::new("mount")
                    .arg("--bind")
                    .arg(place.base())
                    .arg(place.base()),
            )?;
            quietly(
                Command::new("mount")
                    .args(["-o", "remount,ro,bind"])
                    .arg(place.base()),
            )
        },
    },
    Way {
        what: "another user's from now on",
        leads: Leads::Shut,
        others: true,
        linked: false,
        go: |place| own(place.base(), 0),
    },
];

impl Way {
    /// The thing that this machine lacks for this way, if any.
    pub(super) fn lacking(&self) -> Option<String> {
        let user = Command::new("id").arg("-u").output().ok()?.stdout;
        let is_special = self.others || self.leads == Leads::ReadOnly;
        (is_special && user.trim_ascii() != b"0").then(|| "only root can do that".to_owned())
    }
}

/// Gives another user access to the paths of the stores and the programs.
pub(super) fn open_to_all(lab: &Lab<'_>) -> Result<()> {
    for folder in lab.scratch.ancestors().take(1).chain(lab.binary.parent()) {
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755))?;
    }
    Ok(())
}

/// Changes the owner of a folder and its contents. Processes are working there, so files may vanish meanwhile.
fn own(path: &Path, user: u32) -> Result<()> {
    let missing_is_fine = |done: io::Result<()>| match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    };
    missing_is_fine(lchown(path, Some(user), Some(user)))?;
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => own(&path, user)?,
            _ => missing_is_fine(lchown(&path, Some(user), Some(user)))?,
        }
    }
    Ok(())
}

/// The folders of one trial: the root, and its possible replacements.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) way: &'a Way,
    tool: Tool,
    folder: PathBuf,
}

impl<'a> Place<'a> {
    /// Creates a store in a folder, a copy of it, another store, and an empty folder.
    pub(super) fn prepare(lab: &Lab<'_>, way: &'a Way, folder: &Path) -> Result<Self> {
        let tool = Tool::new(lab.binary, folder)?
            .with("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_FILE_SIZE", "8KiB")
            .with("PRODIGY__STORAGE__BACKEND_CONFIG__ENABLE_COMPRESSION", "true");
        let place = Self {
            way,
            tool,
            folder: folder.to_owned(),
        };
        fill(&place.tool, COPIED)?;
        quietly(
            Command::new("cp")
                .arg("-a")
                .arg(place.base())
                .arg(folder.join("copy")),
        )?;
        fill(&place.tool.clone().over(folder.join("other")), OTHER)?;
        std::fs::create_dir(folder.join("empty"))?;
        std::fs::set_permissions(folder.join("empty"), PermissionsExt::from_mode(0o700))?;
        if way.linked {
            place.away()?;
            std::os::unix::fs::symlink(place.old(), place.base())?;
        }
        if way.others {
            own(folder, NOBODY)?;
        }
        Ok(place)
    }

    pub(super) fn tool(&self) -> &Tool {
        &self.tool
    }

    pub(super) fn base(&self) -> &Path {
        self.tool.base()
    }

    /// The folder of the root after it was moved.
    pub(super) fn old(&self) -> PathBuf {
        self.folder.join("old")
    }

    /// Changes a command so that the user who owns the root runs it.
    pub(super) fn by_user(&self, command: Command) -> Command {
        if !self.way.others {
            return command;
        }
        let mut outer = Command::new("setpriv");
        let user = NOBODY.to_string();
        outer.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
        started_by(outer, &command)
    }

    pub(super) fn go(&self) -> Result<()> {
        (self.way.go)(self).with_context(|| format!("can't have the root {}", self.way.what))
    }

    fn away(&self) -> Result<()> {
        Ok(std::fs::rename(self.base(), self.old())?)
    }

    fn bring(&self, name: &str) -> Result<()> {
        Ok(std::fs::rename(self.folder.join(name), self.base())?)
    }

    /// Replaces the symbolic link at the root's path atomically, by one to this folder.
    fn point(&self, name: &str) -> Result<()> {
        let link = self.folder.join("link");
        std::os::unix::fs::symlink(self.folder.join(name), &link)?;
        Ok(std::fs::rename(link, self.base())?)
    }

    /// Removes the root. Files may be created meanwhile.
    fn remove(&self) -> Result<()> {
        let mut tries = 0;
        while let Err(error) = std::fs::remove_dir_all(self.base()) {
            tries += 1;
            ensure!(tries < 100, "can't remove {}: {error}", self.base().display());
        }
        Ok(())
    }

    /// True if a new process can store data at the root's path after the root was taken away.
    fn takes_writers(&self) -> bool {
        !matches!(self.way.leads, Leads::Nowhere | Leads::ReadOnly)
    }

    /// Stores an event at the root's path by a new process. Returns the event's id, or `None` if the write was
    /// refused as expected.
    pub(super) fn mark(&self) -> Result<Option<String>> {
        let append = ["events", "append", "--ack"].iter().chain(&ADDRESS);
        if self.takes_writers() {
            let id = self.tool.done(append, br#"{"n":"marker"}"#)?;
            return Ok(Some(String::from_utf8(id)?.trim().to_owned()));
        }
        if self.way.leads == Leads::ReadOnly {
            let refused = self.tool.run(append, br#"{"n":"marker"}"#)?.expect_code(1)?;
            ensure!(
                refused.errors().contains("storage directory not writable"),
                "{}",
                refused.unexpected("that nothing can be written")
            );
        }
        Ok(None)
    }

    /// Takes the lock by a new process, if the lock is free. Returns the request with the token as its answer.
    pub(super) fn lock_once(&self) -> Result<Option<Op>> {
        if !self.takes_writers() {
            return Ok(None);
        }
        let words = [
            "lock",
            "run",
            LOCK,
            "--wait",
            "0s",
            "--",
            "printenv",
            "PRODIGY_LOCK_FENCING",
        ];
        let start = Instant::now();
        let answer = self.tool.run(words, b"")?;
        let span = Span::since(start);
        if answer.code() == Some(3) {
            return Ok(None);
        }
        let token = String::from_utf8(answer.expect_code(0)?.stdout)?;
        // Removes the origin from the token.
        let token = token.split('@').next().unwrap_or_default();
        Ok(Some(Op {
            by: usize::MAX,
            request: "lock".to_owned(),
            span,
            answer: format!("stored {}", token.trim()),
        }))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.way.leads == Leads::ReadOnly {
            // If nothing was mounted, this fails.
            let _ = quietly(Command::new("umount").arg("-l").arg(self.base()));
        }
    }
}

/// Stores a checkpoint, some events and a dead letter, and takes and releases a lock.
fn fill(tool: &Tool, n: i64) -> Result<()> {
    let with = |words: &[&'static str]| words.iter().chain(&ADDRESS).copied().collect::<Vec<_>>();
    let state = format!(r#"{{"n":{n}}}"#);
    tool.done(with(&["checkpoint", "save", "--phase", "map"]), state.as_bytes())?;
    tool.done(with(&["events", "append"]), b"1\n2\n3\n")?;
    tool.done(with(&["dlq", "push"]), br#"{"item_id":"first","item_data":0}"#)?;
    tool.done(["lock", "run", LOCK, "--", "true"], b"")?;
    Ok(())
}
