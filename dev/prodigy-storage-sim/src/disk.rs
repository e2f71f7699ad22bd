//! The contents of a disk: folders, files, and the names that lead to them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use prodigy_storage_file::fs::{FILE_MODE, FOLDER_MODE, FileKind, Metadata};
use prodigy_storage_layout::Timestamp;
use rustix::io::Errno;
use xxhash_rust::xxh3::Xxh3;

use crate::clock::START;

/// The identity of a file or folder, independent of its name.
pub type Inode = u64;

/// The device of all simulated files.
const DEVICE: u64 = 7;
/// The mtime of folders that no process has changed.
const LONG_AGO: i64 = START - 1_234_567_890;
/// The owner of all simulated files.
const OWNER: u32 = 1000;

/// A tree of folders and files below a root, which may be absent.
///
/// Paths are relative to the root; the empty path is the root. A clone is cheap: contents are shared until they are
/// written.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    root: Option<Inode>,
    nodes: BTreeMap<Inode, Node>,
    last: Inode,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) mode: u32,
    pub(crate) modified: Timestamp,
    pub(crate) body: Body,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    File(Arc<Vec<u8>>),
    Folder(Arc<BTreeMap<String, Inode>>),
    Other,
}

impl Node {
    pub(crate) fn file(mode: u32) -> Self {
        Self {
            mode,
            modified: Timestamp::from_nanos(0),
            body: Body::File(Arc::default()),
        }
    }

    pub(crate) fn folder() -> Self {
        Self {
            mode: FOLDER_MODE,
            modified: Timestamp::from_nanos(LONG_AGO),
            body: Body::Folder(Arc::default()),
        }
    }

    pub(crate) fn kind(&self) -> FileKind {
        match self.body {
            Body::File(_) => FileKind::File,
            Body::Folder(_) => FileKind::Folder,
            Body::Other => FileKind::Other,
        }
    }
}

impl Disk {
    /// The bytes of a file; `None` if the path is not a file.
    #[must_use]
    pub fn read(&self, path: impl AsRef<Path>) -> Option<Arc<Vec<u8>>> {
        match &self.node_at(path.as_ref())?.body {
            Body::File(bytes) => Some(Arc::clone(bytes)),
            _ => None,
        }
    }

    /// Sets the bytes of a file; creates the file and its parent folders if they are missing. Returns false, without a
    /// change, if something other than a file is at the path.
    pub fn write(&mut self, path: impl AsRef<Path>, bytes: impl Into<Vec<u8>>) -> bool {
        let path = path.as_ref();
        if let Ok(found) = self.find(path) {
            return match self.nodes.get_mut(&found).map(|node| &mut node.body) {
                Some(Body::File(old)) => {
                    *old = Arc::new(bytes.into());
                    true
                }
                _ => false,
            };
        }
        let mut node = Node::file(FILE_MODE);
        node.body = Body::File(Arc::new(bytes.into()));
        self.plant(path, node)
    }

    /// Creates a folder and its missing parents. Returns false if something other than a folder is in the way.
    pub fn make_folder(&mut self, path: impl AsRef<Path>) -> bool {
        let path = path.as_ref();
        if path.as_os_str().is_empty() {
            self.make_root();
            return true;
        }
        match self.find(path) {
            Ok(found) => self.folder(found).is_some(),
            Err(_) => self.plant(path, Node::folder()),
        }
    }

    /// Creates something that is neither a file nor a folder, such as a link, which is never followed. Returns false if
    /// the name is taken.
    pub fn plant_other(&mut self, path: impl AsRef<Path>) -> bool {
        let mut node = Node::file(0o777);
        node.body = Body::Other;
        self.find(path.as_ref()).is_err() && self.plant(path.as_ref(), node)
    }

    /// Sets the mode of a file or folder; false if the path is absent.
    pub fn set_mode(&mut self, path: impl AsRef<Path>, mode: u32) -> bool {
        let Ok(found) = self.find(path.as_ref()) else {
            return false;
        };
        self.change_mode(found, mode);
        true
    }

    /// Removes a name with everything below it; false if it is absent. The root can't be removed.
    pub fn remove(&mut self, path: impl AsRef<Path>) -> bool {
        let Ok((parent, name)) = self.parent(path.as_ref()) else {
            return false;
        };
        let removed = self
            .entries_mut(parent)
            .is_some_and(|entries| entries.remove(name).is_some());
        self.drop_unreachable();
        removed
    }

    /// The metadata of a path.
    #[must_use]
    pub fn metadata(&self, path: impl AsRef<Path>) -> Option<Metadata> {
        self.find(path.as_ref()).ok().and_then(|found| self.about(found))
    }

    /// Every path below the root, sorted; a folder comes before its contents.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        if let Some(root) = self.root {
            self.walk(root, Path::new(""), &mut |path, _| paths.push(path.to_owned()));
        }
        paths
    }

    /// Every file below the root.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        if let Some(root) = self.root {
            self.walk(root, Path::new(""), &mut |path, node| {
                if node.kind() == FileKind::File {
                    paths.push(path.to_owned());
                }
            });
        }
        paths
    }

    /// A hash of all names, kinds, modes and bytes: equal for disks that differ only in inodes and times.
    #[must_use]
    pub fn content_hash(&self) -> u128 {
        let mut hash = Xxh3::new();
        if let Some(root) = self.root {
            hash.update(b"root");
            self.walk(root, Path::new(""), &mut |path, node| {
                let name = path.as_os_str().as_encoded_bytes();
                hash.update(&(name.len() as u64).to_le_bytes());
                hash.update(name);
                hash.update(&node.mode.to_le_bytes());
                match &node.body {
                    Body::File(bytes) => {
                        hash.update(&(bytes.len() as u64).to_le_bytes());
                        hash.update(bytes);
                    }
                    Body::Folder(_) => hash.update(b"folder"),
                    Body::Other => hash.update(b"other"),
                }
            });
        }
        hash.digest128()
    }

    fn walk(&self, folder: Inode, at: &Path, visit: &mut dyn FnMut(&Path, &Node)) {
        let Some(entries) = self.folder(folder) else {
            return;
        };
        for (name, inode) in entries {
            let path = at.join(name);
            if let Some(node) = self.nodes.get(inode) {
                visit(&path, node);
                self.walk(*inode, &path, visit);
            }
        }
    }

    fn node_at(&self, path: &Path) -> Option<&Node> {
        self.nodes.get(&self.find(path).ok()?)
    }

    fn plant(&mut self, path: &Path, node: Node) -> bool {
        self.make_root();
        let parent = path.parent().unwrap_or(Path::new(""));
        if !self.make_folder(parent) {
            return false;
        }
        let Ok((parent, name)) = self.parent(path) else {
            return false;
        };
        let inode = self.add(node);
        self.link(parent, name, inode);
        true
    }
}

/// Operations by inode, for the simulated file system and the crash model.
impl Disk {
    pub(crate) fn root(&self) -> Option<Inode> {
        self.root
    }

    pub(crate) fn make_root(&mut self) -> Inode {
        if let Some(root) = self.root {
            return root;
        }
        let root = self.add(Node::folder());
        self.root = Some(root);
        root
    }

    pub(crate) fn set_root(&mut self, root: Option<Inode>) {
        self.root = root;
    }

    /// Adds a file or folder without a name.
    pub(crate) fn add(&mut self, node: Node) -> Inode {
        self.last += 1;
        self.nodes.insert(self.last, node);
        self.last
    }

    pub(crate) fn put_node(&mut self, inode: Inode, node: Node) {
        self.last = self.last.max(inode);
        self.nodes.insert(inode, node);
    }

    pub(crate) fn node(&self, inode: Inode) -> Option<&Node> {
        self.nodes.get(&inode)
    }

    pub(crate) fn folder(&self, inode: Inode) -> Option<&BTreeMap<String, Inode>> {
        match &self.nodes.get(&inode)?.body {
            Body::Folder(entries) => Some(entries),
            _ => None,
        }
    }

    fn entries_mut(&mut self, folder: Inode) -> Option<&mut BTreeMap<String, Inode>> {
        match &mut self.nodes.get_mut(&folder)?.body {
            Body::Folder(entries) => Some(Arc::make_mut(entries)),
            _ => None,
        }
    }

    pub(crate) fn link(&mut self, folder: Inode, name: &str, inode: Inode) {
        if let Some(entries) = self.entries_mut(folder) {
            entries.insert(name.to_owned(), inode);
        }
    }

    /// Sets the mtime of a folder whose names were changed.
    pub(crate) fn stamp(&mut self, folder: Inode, now: Timestamp) {
        if let Some(node) = self.nodes.get_mut(&folder) {
            node.modified = now;
        }
    }

    /// Removes a name, unless it refers to another file than `inode` by now.
    pub(crate) fn unlink(&mut self, folder: Inode, name: &str, inode: Inode) {
        if let Some(entries) = self.entries_mut(folder)
            && entries.get(name) == Some(&inode)
        {
            entries.remove(name);
        }
    }

    pub(crate) fn change_mode(&mut self, inode: Inode, mode: u32) {
        if let Some(node) = self.nodes.get_mut(&inode) {
            node.mode = mode;
        }
    }

    pub(crate) fn write_at(&mut self, inode: Inode, bytes: &[u8], offset: u64, now: Timestamp) {
        let Some(node) = self.nodes.get_mut(&inode) else {
            return;
        };
        node.modified = now;
        if let Body::File(file) = &mut node.body {
            let file = Arc::make_mut(file);
            let start = offset as usize;
            let end = start + bytes.len();
            if file.len() < end {
                file.resize(end, 0);
            }
            if let Some(place) = file.get_mut(start..end) {
                place.copy_from_slice(bytes);
            }
        }
    }

    pub(crate) fn set_len(&mut self, inode: Inode, len: u64, now: Timestamp) {
        let Some(node) = self.nodes.get_mut(&inode) else {
            return;
        };
        node.modified = now;
        if let Body::File(file) = &mut node.body {
            Arc::make_mut(file).resize(len as usize, 0);
        }
    }

    pub(crate) fn len_of(&self, inode: Inode) -> u64 {
        match self.nodes.get(&inode).map(|node| &node.body) {
            Some(Body::File(bytes)) => bytes.len() as u64,
            _ => 0,
        }
    }

    /// The number of names of a file.
    fn links(&self, inode: Inode) -> u64 {
        let folders = self.nodes.values().filter_map(|node| match &node.body {
            Body::Folder(entries) => Some(entries),
            _ => None,
        });
        let names = folders.map(|entries| entries.values().filter(|found| **found == inode).count() as u64);
        names.sum::<u64>() + u64::from(self.root == Some(inode))
    }

    pub(crate) fn about(&self, inode: Inode) -> Option<Metadata> {
        let node = self.nodes.get(&inode)?;
        Some(Metadata {
            kind: node.kind(),
            len: self.len_of(inode),
            mode: node.mode,
            uid: OWNER,
            identity: (DEVICE, inode),
            links: self.links(inode),
            modified: node.modified,
            changed: node.modified,
        })
    }

    /// The inode of a path. Links are not followed.
    pub(crate) fn find(&self, path: &Path) -> io::Result<Inode> {
        let mut at = self.root.ok_or(io::ErrorKind::NotFound)?;
        for part in path.components() {
            let name = match part {
                Component::Normal(name) => name.to_str().ok_or(io::ErrorKind::InvalidInput)?,
                Component::CurDir => continue,
                _ => return Err(Errno::XDEV.into()),
            };
            let node = self.nodes.get(&at).ok_or(io::ErrorKind::NotFound)?;
            let entries = match &node.body {
                Body::Folder(entries) => entries,
                Body::Other => return Err(Errno::LOOP.into()),
                Body::File(_) => return Err(io::ErrorKind::NotADirectory.into()),
            };
            if node.mode & 0o100 == 0 {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            at = *entries.get(name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    /// The folder of a path, and its last part.
    pub(crate) fn parent<'p>(&self, path: &'p Path) -> io::Result<(Inode, &'p str)> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or(io::ErrorKind::InvalidInput)?;
        let parent = self.find(path.parent().unwrap_or(Path::new("")))?;
        match self.nodes.get(&parent).map(|node| &node.body) {
            Some(Body::Folder(_)) => Ok((parent, name)),
            Some(Body::Other) => Err(Errno::LOOP.into()),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Removes files that have no name.
    pub(crate) fn drop_unreachable(&mut self) {
        let mut reached = BTreeSet::new();
        let mut next: Vec<Inode> = self.root.into_iter().collect();
        while let Some(inode) = next.pop() {
            if reached.insert(inode)
                && let Some(entries) = self.folder(inode)
            {
                next.extend(entries.values());
            }
        }
        self.nodes.retain(|inode, _| reached.contains(inode));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_listed() {
        let mut disk = Disk::default();
        assert_eq!(disk.paths(), [] as [PathBuf; 0]);
        assert!(disk.write("a/b/file", "text"));
        assert!(disk.make_folder("a/c"));
        assert!(disk.plant_other("a/link"));
        assert_eq!(disk.read("a/b/file").unwrap().as_slice(), b"text");
        let paths: Vec<_> = disk
            .paths()
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        assert_eq!(paths, ["a", "a/b", "a/b/file", "a/c", "a/link"]);
        assert_eq!(disk.files(), [PathBuf::from("a/b/file")]);
        assert!(disk.remove("a/b") && disk.read("a/b/file").is_none());
        assert!(!disk.write("a/c", "a folder stands there"));
    }

    #[test]
    fn the_hash_tells_names_modes_and_bytes_apart_and_nothing_else() {
        let mut one = Disk::default();
        one.write("x", "1");
        let mut other = Disk::default();
        other.write("y", "1");
        assert_ne!(one.content_hash(), other.content_hash());
        other.remove("y");
        other.write("x", "1");
        assert_ne!(
            one.find(Path::new("x")).unwrap(),
            other.find(Path::new("x")).unwrap()
        );
        assert_eq!(one.content_hash(), other.content_hash());
        other.set_mode("x", 0o400);
        assert_ne!(one.content_hash(), other.content_hash());
        assert_ne!(Disk::default().content_hash(), {
            let mut rooted = Disk::default();
            rooted.make_folder("");
            rooted.content_hash()
        });
    }

    #[test]
    fn a_clone_keeps_what_it_had() {
        let mut disk = Disk::default();
        disk.write("x", "1");
        let before = disk.clone();
        disk.write("x", "2");
        disk.write("y", "2");
        assert_eq!(before.read("x").unwrap().as_slice(), b"1");
        assert!(before.read("y").is_none());
    }
}
