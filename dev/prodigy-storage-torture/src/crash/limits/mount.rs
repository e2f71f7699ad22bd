//! Small file systems, which the checks of full disks fill.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::project::show;

/// The kind of disk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// tmpfs, in memory.
    Memory,
    /// ext4 in an image file.
    Ext4,
}

/// A mounted file system. It is unmounted when this value is dropped.
#[derive(Debug)]
pub(super) struct Mount {
    point: PathBuf,
}

impl Mount {
    /// Creates and mounts a file system in a folder.
    ///
    /// # Errors
    /// Fails if the machine lacks the program, the permission or the loop device.
    pub(super) fn make(kind: Kind, folder: &Path) -> Result<Self> {
        let point = folder.join("mount");
        std::fs::create_dir_all(&point)?;
        let mut mount = Command::new("mount");
        match kind {
            Kind::Memory => mount.args(["-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs"]),
            Kind::Ext4 => {
                let image = folder.join("image");
                File::create(&image)?.set_len(4 << 20)?;
                quietly(
                    Command::new("mkfs.ext4")
                        .args(["-q", "-F", "-m", "0"])
                        .arg(&image),
                )?;
                mount.args(["-t", "ext4", "-o", "loop"]).arg(image)
            }
        };
        quietly(mount.arg(&point))?;
        Ok(Self { point })
    }

    /// The mount point.
    pub(super) fn point(&self) -> &Path {
        &self.point
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let plain = quietly(Command::new("umount").arg(&self.point));
        // A lazy unmount hides the mount at once and frees it when no process uses it.
        if let Err(error) = plain.or_else(|_| quietly(Command::new("umount").arg("-l").arg(&self.point))) {
            eprintln!("NOTICE: {} stays mounted: {error:#}", self.point.display());
        }
    }
}

fn quietly(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("can't start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}`: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
