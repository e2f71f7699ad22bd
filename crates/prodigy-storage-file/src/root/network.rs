//! Finds the kind of the file system that holds the root, and whether other machines may reach it.
//!
//! There are three sources: the magic number of `statfs`; the type in the mount table, since many file systems share
//! the magic number of FUSE; and the mounts beneath the root, which `statfs` of the root does not show. A FUSE type
//! that is not known to be local counts as a network file system, so that a network file system is never accepted by
//! mistake.
#![expect(clippy::disallowed_methods, reason = "checks of the root from outside of it")]

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The kind of file system that holds the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileSystemKind {
    /// A file system of this machine.
    Local,
    /// A file system in the memory of this machine, with its name. A restart empties it.
    Memory(&'static str),
    /// A file system that other machines may reach: its name, and its mount point if that is beneath the root.
    Network(Cow<'static, str>, Option<PathBuf>),
    /// The kind could not be found, with the reason.
    Unknown(String),
}

/// Finds the kind of file system. `path` is the root or the nearest existing folder above it.
#[cfg(target_os = "linux")]
pub(super) fn find(path: &Path, root: &Path) -> FileSystemKind {
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok();
    match rustix::fs::statfs(path) {
        Ok(found) => match judge(found.f_type as u32, table.as_deref(), path, root) {
            FileSystemKind::Local => {
                in_memory(found.f_type as u32).map_or(FileSystemKind::Local, FileSystemKind::Memory)
            }
            other => other,
        },
        Err(error) => match judge(0, table.as_deref(), path, root) {
            FileSystemKind::Local => FileSystemKind::Unknown(error.to_string()),
            found => found,
        },
    }
}

/// Finds the kind of file system. `path` is the root or the nearest existing folder above it.
#[cfg(not(target_os = "linux"))]
pub(super) fn find(path: &Path, _: &Path) -> FileSystemKind {
    let found = match rustix::fs::statfs(path) {
        Ok(found) => found,
        Err(error) => return FileSystemKind::Unknown(error.to_string()),
    };
    let name: Vec<u8> = found
        .f_fstypename
        .iter()
        .map(|&byte| byte as u8)
        .take_while(|&byte| byte != 0)
        .collect();
    match by_type(&String::from_utf8_lossy(&name)) {
        Some(name) => FileSystemKind::Network(name, None),
        None => FileSystemKind::Local,
    }
}

/// The magic number of FUSE and of file systems built on it, such as virtiofs.
const FUSE: u32 = 0x6573_5546;

/// Decides by the magic number of `path`'s file system, and by the mount table if it could be read.
#[cfg(any(target_os = "linux", test))]
pub(super) fn judge(magic: u32, table: Option<&str>, path: &Path, root: &Path) -> FileSystemKind {
    if let Some(name) = by_magic(magic) {
        return FileSystemKind::Network(name.into(), None);
    }
    let mounts: Vec<Mount> = table
        .unwrap_or_default()
        .lines()
        .filter_map(Mount::parse)
        .collect();
    // If two mounts have the same mount point, the later one hides the earlier one; `max_by_key` returns the later one.
    let holder = mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count());
    match holder.map(|mount| (by_type(&mount.kind), mount)) {
        Some((Some(name), _)) => return FileSystemKind::Network(name, None),
        Some((None, mount)) if magic == FUSE && !is_fuse(&mount.kind) => {
            // The mount table contradicts `statfs`, so the FUSE type is unknown.
            return FileSystemKind::Network("FUSE of a kind that is not known".into(), None);
        }
        None if magic == FUSE => {
            return FileSystemKind::Network("FUSE of a kind that is not known".into(), None);
        }
        _ => {}
    }
    for mount in mounts
        .iter()
        .filter(|mount| mount.point.starts_with(root) && mount.point != root)
    {
        if let Some(name) = by_type(&mount.kind) {
            return FileSystemKind::Network(name, Some(mount.point.clone()));
        }
    }
    FileSystemKind::Local
}

/// The name of a file system that keeps everything in memory; `None` for any other.
#[cfg(any(target_os = "linux", test))]
fn in_memory(magic: u32) -> Option<&'static str> {
    match magic {
        0x0102_1994 => Some("tmpfs"),
        0x8584_58f6 => Some("ramfs"),
        _ => None,
    }
}

/// File systems that other machines may reach. For each: its name; its magic numbers, from linux/magic.h or its own
/// headers; and its types in the mount table (Linux) or in `statfs` (elsewhere).
const NETWORKS: &[(&str, &[u32], &[&str])] = &[
    ("NFS", &[0x6969], &["nfs", "nfs4"]),
    (
        "SMB",
        &[0x517b, 0xfe53_4d42, 0xff53_4d42],
        &["cifs", "smb3", "smb2", "smbfs"],
    ),
    ("9P", &[0x0102_1997], &["9p"]),
    ("Ceph", &[0x00c3_6400], &["ceph"]),
    ("AFS", &[0x5346_414f, 0x6b41_4653], &["afs", "auristorfs"]),
    ("Coda", &[0x7375_7245], &["coda"]),
    ("Lustre", &[0x0bd0_0bd0], &["lustre", "lustre_tgt"]),
    ("GFS2", &[0x0116_1970], &["gfs2", "gfs"]),
    ("OCFS2", &[0x7461_636f], &["ocfs2"]),
    ("GPFS", &[0x4750_4653], &["gpfs"]),
    ("BeeGFS", &[0x1983_0326], &["beegfs", "fhgfs"]),
    ("OrangeFS", &[0x2003_0528], &["pvfs2", "orangefs"]),
    ("PanFS", &[0xaad7_aaea], &["panfs"]),
    ("WekaFS", &[], &["wekafs"]),
    ("StorNext", &[0xbeef_dead], &["cvfs"]),
    ("ACFS", &[0x6163_6673], &["acfs"]),
    ("NCP", &[0x0000_564c], &["ncpfs"]),
    ("a folder shared by VirtualBox", &[0x786f_4256], &["vboxsf"]),
    ("a folder shared by VMware", &[0xbacb_acbc], &["vmhgfs"]),
    ("a folder shared by Parallels", &[0x7c7c_6673], &["prl_fs"]),
    ("virtiofs, a folder of the host", &[], &["virtiofs"]),
    ("AFP", &[], &["afpfs"]),
    ("WebDAV", &[], &["webdav"]),
    (
        "FUSE of a kind that is not known",
        &[],
        &["fuse", "macfuse", "osxfuse"],
    ),
];

#[cfg(any(target_os = "linux", test))]
fn by_magic(magic: u32) -> Option<&'static str> {
    let row = NETWORKS.iter().find(|(_, numbers, _)| numbers.contains(&magic))?;
    Some(row.0)
}

/// FUSE types that keep their data on this machine, or show another folder of this machine.
const LOCAL_FUSE: &[&str] = &[
    "bindfs",
    "cryfs",
    "ecryptfs",
    "encfs",
    "ext2",
    "ext4",
    "exfat",
    "fuse-overlayfs",
    "fuse2fs",
    "gocryptfs",
    "lxcfs",
    "mergerfs",
    "ntfs",
    "ntfs-3g",
    "portal",
    "securefs",
    "snapfuse",
    "squashfuse",
    "unionfs",
    "unionfs-fuse",
    "veracrypt",
    "zfs",
];

#[cfg(any(target_os = "linux", test))]
fn is_fuse(kind: &str) -> bool {
    kind == "fuse" || kind == "fuseblk" || kind.starts_with("fuse.") || kind.starts_with("fuseblk.")
}

/// The name of the network file system with this type in the mount table (Linux) or in `statfs` (elsewhere).
fn by_type(kind: &str) -> Option<Cow<'static, str>> {
    // `fuseblk` is backed by a block device of this machine.
    if kind == "fuseblk" || kind.starts_with("fuseblk.") {
        return None;
    }
    if let Some(fuse) = kind.strip_prefix("fuse.") {
        return (!LOCAL_FUSE.contains(&fuse)).then(|| format!("FUSE of kind {fuse}").into());
    }
    let row = NETWORKS.iter().find(|(_, _, types)| types.contains(&kind))?;
    Some(Cow::Borrowed(row.0))
}

/// A line of the mount table, such as `36 35 98:0 / /mnt/a\040b rw,noatime master:1 - ext3 /dev/root rw`.
#[cfg(any(target_os = "linux", test))]
#[derive(Debug)]
struct Mount {
    point: PathBuf,
    kind: String,
}

#[cfg(any(target_os = "linux", test))]
impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (place, what) = line.split_once(" - ")?;
        Some(Self {
            point: unescape(place.split(' ').nth(4)?),
            kind: what.split(' ').next()?.to_owned(),
        })
    }
}

/// Replaces each backslash and three octal digits with the byte that they mean. The mount table escapes spaces, tabs,
/// line ends and backslashes like this.
#[cfg(any(target_os = "linux", test))]
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.first_chunk::<3>().filter(|_| byte == b'\\');
        let value = octal.and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match value {
            Some(value) => {
                bytes.push(value);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXT4: u32 = 0xef53;

    const TABLE: &str = "\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:50 / /mnt/ssh rw - fuse.sshfs me@host:/ rw
31 22 0:51 / /mnt/gluster rw shared:1 master:2 - fuse.glusterfs host:/vol rw
32 22 0:52 / /mnt/bucket rw - fuse.s3fs s3fs rw
33 22 0:53 / /mnt/usb\\040stick rw - fuseblk /dev/sdb1 rw
34 22 0:54 / /mnt/secret rw - fuse.gocryptfs /home/me/c rw
35 22 0:55 / /mnt/new rw - fuse.some-new-thing x rw
36 22 0:56 / /mnt/dav rw - fuse https://dav rw
37 22 0:57 / /mnt/host rw - virtiofs host rw
38 22 0:58 / /mnt/ssh/local rw - tmpfs none rw
39 22 0:59 / /data/deep/below rw - nfs4 host:/x rw
40 22 0:60 / /cover rw - ext4 /dev/x rw
41 22 0:61 / /cover rw - cifs //host/x rw
no line of a table
";

    fn name(magic: u32, path: &str) -> Option<String> {
        let path = Path::new(path);
        match judge(magic, Some(TABLE), path, path) {
            FileSystemKind::Network(name, None) => Some(name.into_owned()),
            FileSystemKind::Network(name, Some(point)) => Some(format!("{name} at {}", point.display())),
            FileSystemKind::Local => None,
            FileSystemKind::Memory(_) => panic!("`judge` never returns Memory"),
            FileSystemKind::Unknown(why) => panic!("{why}"),
        }
    }

    #[test]
    fn network_file_systems_are_told_by_their_number() {
        for (magic, told) in [
            (0x6969, "NFS"),
            (0x517b, "SMB"),
            (0xfe53_4d42, "SMB"),
            (0xff53_4d42, "SMB"),
            (0x0102_1997, "9P"),
            (0x00c3_6400, "Ceph"),
            (0x5346_414f, "AFS"),
            (0x6b41_4653, "AFS"),
            (0x7375_7245, "Coda"),
            (0x0bd0_0bd0, "Lustre"),
            (0x0116_1970, "GFS2"),
            (0x7461_636f, "OCFS2"),
            (0x4750_4653, "GPFS"),
            (0x1983_0326, "BeeGFS"),
        ] {
            // The magic number alone is enough, since the mount table may be unreadable.
            let found = judge(magic, None, Path::new("/x"), Path::new("/x"));
            assert_eq!(found, FileSystemKind::Network(told.into(), None), "{magic:#x}");
        }
        // The magic numbers of ext4, xfs, btrfs, tmpfs, overlayfs, zfs and f2fs.
        for magic in [
            EXT4,
            0x5846_5342,
            0x9123_683e,
            0x0102_1994,
            0x794c_7630,
            0x2fc1_2fc1,
            0xf2f5_2010,
        ] {
            assert_eq!(name(magic, "/home/me/.prodigy"), None, "{magic:#x}");
        }
    }

    #[test]
    fn kinds_of_fuse_are_told_by_the_mount_table() {
        assert_eq!(name(FUSE, "/mnt/ssh/root").as_deref(), Some("FUSE of kind sshfs"));
        assert_eq!(
            name(FUSE, "/mnt/gluster").as_deref(),
            Some("FUSE of kind glusterfs")
        );
        assert_eq!(
            name(FUSE, "/mnt/bucket/a/b").as_deref(),
            Some("FUSE of kind s3fs")
        );
        assert_eq!(
            name(FUSE, "/mnt/new/root").as_deref(),
            Some("FUSE of kind some-new-thing")
        );
        assert_eq!(
            name(FUSE, "/mnt/host/root").as_deref(),
            Some("virtiofs, a folder of the host")
        );
        assert!(name(FUSE, "/mnt/dav/root").unwrap().contains("not known"));
        assert_eq!(name(FUSE, "/mnt/usb stick/root"), None, "a disk of this machine");
        assert_eq!(name(FUSE, "/mnt/secret/root"), None, "a folder of this machine");
    }

    #[test]
    fn a_fuse_that_the_table_does_not_show_is_not_passed_over() {
        for table in [None, Some(""), Some(TABLE)] {
            let path = Path::new("/elsewhere");
            let found = judge(FUSE, table, path, path);
            assert!(
                matches!(&found, FileSystemKind::Network(name, None) if name.contains("not known")),
                "{found:?}"
            );
        }
    }

    #[test]
    fn the_mount_that_holds_the_path_counts_and_no_name_that_begins_alike() {
        assert_eq!(name(0x0102_1994, "/mnt/ssh/local/root"), None);
        assert_eq!(name(EXT4, "/mnt/sshx"), None);
        assert_eq!(name(EXT4, "/data/deep/bel"), None);
        assert_eq!(
            name(0, "/cover/x").as_deref(),
            Some("SMB"),
            "the later mount hides the earlier one"
        );
    }

    #[test]
    fn a_network_mount_beneath_the_root_is_seen() {
        assert_eq!(name(EXT4, "/data").as_deref(), Some("NFS at /data/deep/below"));
        assert_eq!(name(EXT4, "/data/other"), None);
    }

    #[test]
    fn the_table_may_hold_anything() {
        for line in [
            "",
            " - ",
            "a b c d e - ",
            "1 2 3 4 - nfs",
            "1 2 3 4 \\0 - nfs",
            "1 2 3 4 \\777 - nfs",
        ] {
            let _ = judge(FUSE, Some(line), Path::new("/"), Path::new("/"));
        }
        assert_eq!(unescape("/a\\040b\\134c\\x"), Path::new("/a b\\c\\x"));
    }
}
