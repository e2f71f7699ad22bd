//! A file system in an image file, whose power can be cut.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::cut::Cutter;

/// The largest number of attempts to mount or unmount. They fail while the last process is exiting, or if another
/// program takes the free loop device first.
const TRIES: u32 = 150;
const APART: Duration = Duration::from_millis(20);

/// The number of EIO on Linux.
const EIO: i32 = 5;

/// The kind of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// ext4 with options by which it commits its journal only on request, and does not flush a file because of a
    /// rename.
    Ext4,
    /// XFS with its defaults.
    Xfs,
}

impl Kind {
    /// All tested kinds.
    pub(crate) const ALL: [Self; 2] = [Self::Ext4, Self::Xfs];

    /// The name for `mount -t`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// The smallest accepted size, with room for a long run.
    const fn bytes(self) -> u64 {
        match self {
            Self::Ext4 => 96 << 20,
            Self::Xfs => 320 << 20,
        }
    }

    const fn options(self) -> &'static str {
        match self {
            Self::Ext4 => "loop,commit=300,noauto_da_alloc",
            Self::Xfs => "loop",
        }
    }

    fn format(self, image: &Path) -> Result<()> {
        let mut command = Command::new(format!("mkfs.{}", self.name()));
        match self {
            Self::Ext4 => command.args(["-q", "-F"]),
            Self::Xfs => command.args(["-q", "-f"]),
        };
        quietly(command.arg(image))
    }
}

/// A mounted image. It is unmounted when this value is dropped; the image file remains.
#[derive(Debug)]
pub(crate) struct Disk {
    kind: Kind,
    image: PathBuf,
    point: PathBuf,
    cutter: Cutter,
    mounted: bool,
}

impl Disk {
    /// Creates and mounts a file system in a folder.
    ///
    /// # Errors
    /// Fails if the machine lacks the program, the permission or the loop device.
    pub(crate) fn make(kind: Kind, folder: &Path, cutter: &Cutter) -> Result<Self> {
        let image = folder.join(format!("{}.img", kind.name()));
        let point = folder.join(format!("{}.mount", kind.name()));
        std::fs::create_dir_all(&point)?;
        File::create(&image)?.set_len(kind.bytes())?;
        kind.format(&image)?;
        let mut disk = Self {
            kind,
            image,
            point,
            cutter: cutter.clone(),
            mounted: false,
        };
        disk.mount()?;
        Ok(disk)
    }

    /// The mount point.
    pub(crate) fn point(&self) -> &Path {
        &self.point
    }

    /// Cuts the power: unsynced data is lost, and every call fails from now on.
    pub(crate) fn cut(&mut self) -> Result<()> {
        self.cutter.cut(&self.point)
    }

    /// Restores the power: mounts the file system again, which recovers from its log.
    pub(crate) fn restore(&mut self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }

    fn mount(&mut self) -> Result<()> {
        let (kind, options) = (self.kind.name(), self.kind.options());
        let mut command = Command::new("mount");
        command
            .args(["-t", kind, "-o", options])
            .arg(&self.image)
            .arg(&self.point);
        for _ in 0..TRIES {
            patiently(&mut command)?;
            self.mounted = true;
            match self.probe() {
                Ok(()) => return Ok(()),
                // The kernel releases a loop device a moment after the unmount. If that happens when the device is in
                // use again, every call fails with EIO, and the mount is repeated.
                Err(error) if error.raw_os_error() == Some(EIO) => self.unmount()?,
                Err(error) => {
                    return Err(error).with_context(|| format!("can't use {}", self.point.display()));
                }
            }
            thread::sleep(APART);
        }
        bail!("{} answers nothing but input/output errors", self.point.display())
    }

    /// Writes and syncs a file, to find out whether the disk works.
    fn probe(&self) -> std::io::Result<()> {
        let probe = self.point.join("probe");
        let mut file = File::create(&probe)?;
        file.write_all(b"probe")?;
        file.sync_all()?;
        std::fs::remove_file(probe)
    }

    fn unmount(&mut self) -> Result<()> {
        patiently(Command::new("umount").arg(&self.point))?;
        self.mounted = false;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted && self.unmount().is_err() {
            // A lazy unmount hides the mount at once and frees it when no process uses it.
            let detached = quietly(Command::new("umount").arg("-l").arg(&self.point));
            if let Err(error) = detached {
                eprintln!("NOTICE: {} stays mounted: {error:#}", self.point.display());
            }
        }
    }
}

/// Repeats a command until it succeeds, up to [`TRIES`] times.
fn patiently(command: &mut Command) -> Result<()> {
    let mut tries = 0;
    while let Err(error) = quietly(command) {
        tries += 1;
        if tries == TRIES {
            return Err(error);
        }
        thread::sleep(APART);
    }
    Ok(())
}

/// Runs a command, and shows its output only if it fails.
pub(crate) fn quietly(command: &mut Command) -> Result<()> {
    let shown = crate::project::show(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("can't start `{shown}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}`: {}: {}", output.status, said.trim());
    }
    Ok(())
}
