//! Checks whether another user could replace the root with a folder of their own, or may already have done so.
//!
//! The check covers each folder on the path that every user can reach and write to. In such a folder with the sticky bit,
//! for example `/tmp`, any user can create a new name, but only its owner can rename it. Without the sticky bit, any user
//! can rename everything in it at any time.
#![expect(clippy::disallowed_methods, reason = "checks of the root from outside of it")]

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A risk on the path of the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exposed {
    /// A folder that belongs to neither this user nor the superuser, in a folder that every user can write to.
    Planted { folder: PathBuf, uid: u32 },
    /// A folder in which any user can rename the next part of the root's path.
    Loose { folder: PathBuf, mode: u32 },
}

/// Checks the folders on the path of the root, and, if the root is a link, also those on the path that it leads to.
pub(super) fn find(root: &Path, me: u32) -> Option<Exposed> {
    let target = || root.canonicalize().ok().filter(|target| target != root);
    on_path(root, me).or_else(|| on_path(&target()?, me))
}

/// Checks the existing folders on the path, from `/` down to the root.
fn on_path(root: &Path, me: u32) -> Option<Exposed> {
    let mut way: Vec<&Path> = root.ancestors().collect();
    way.reverse();
    let mut loose = None;
    let mut anyone = false;
    for folder in way {
        let Ok(found) = std::fs::metadata(folder) else {
            break;
        };
        let (mode, uid) = (found.mode() & 0o7777, found.uid());
        if anyone && uid != me && uid != 0 {
            let folder = folder.to_owned();
            return Some(Exposed::Planted { folder, uid });
        }
        if mode & 0o001 == 0 || folder == root {
            // Other users can't enter this folder, so the folders below it are safe. The mode of the root is checked
            // elsewhere.
            break;
        }
        anyone = mode & 0o002 != 0;
        if anyone && mode & 0o1000 == 0 && loose.is_none() {
            let folder = folder.to_owned();
            loose = Some(Exposed::Loose { folder, mode });
        }
    }
    loose
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Way {
        _dir: tempfile::TempDir,
        top: PathBuf,
        shared: PathBuf,
        root: PathBuf,
        me: u32,
    }

    fn set(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Creates the folders `top/shared/mine`. The root below them, `top/shared/mine/root`, remains absent.
    fn way() -> Way {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let shared = top.join("shared");
        std::fs::create_dir_all(shared.join("mine")).unwrap();
        for folder in [&top, &shared, &shared.join("mine")] {
            set(folder, 0o755);
        }
        Way {
            _dir: dir,
            root: shared.join("mine/root"),
            me: std::fs::metadata(&top).unwrap().uid(),
            top,
            shared,
        }
    }

    #[test]
    fn a_folder_that_all_may_write_to_counts_unless_it_is_sticky_or_out_of_reach() {
        let way = way();
        assert_eq!(find(&way.root, way.me), None);
        set(&way.shared, 0o777);
        let exposed = Exposed::Loose {
            folder: way.shared.clone(),
            mode: 0o777,
        };
        assert_eq!(find(&way.root, way.me), Some(exposed), "also for an absent root");
        set(&way.shared, 0o1777);
        assert_eq!(find(&way.root, way.me), None, "sticky, like /tmp");
        set(&way.shared, 0o777);
        set(&way.top, 0o700);
        assert_eq!(find(&way.root, way.me), None, "out of reach for other users");
    }

    #[test]
    fn a_link_counts_where_it_is_and_where_it_leads_to() {
        let way = way();
        let (links, root) = (way.top.join("links"), way.shared.join("mine/root"));
        std::fs::create_dir_all(&links).unwrap();
        std::fs::create_dir_all(&root).unwrap();
        set(&links, 0o755);
        let link = links.join("link");
        std::os::unix::fs::symlink(&root, &link).unwrap();
        assert_eq!(find(&link, way.me), None);
        for folder in [&links, &way.shared] {
            set(folder, 0o777);
            let exposed = Exposed::Loose {
                folder: folder.clone(),
                mode: 0o777,
            };
            assert_eq!(find(&link, way.me), Some(exposed));
            set(folder, 0o755);
        }
    }

    #[test]
    fn a_folder_of_another_user_where_all_may_make_one_was_planted() {
        let way = way();
        if way.me == 0 {
            // A folder of the superuser always counts as safe, so this one is given to another user.
            std::os::unix::fs::chown(way.shared.join("mine"), Some(4242), None).unwrap();
        }
        let uid = std::fs::metadata(way.shared.join("mine")).unwrap().uid();
        let stranger = uid + 1;
        assert_eq!(find(&way.root, stranger), None, "only the owner could create it");
        for mode in [0o1777, 0o777] {
            set(&way.shared, mode);
            let folder = way.shared.join("mine");
            assert_eq!(find(&way.root, stranger), Some(Exposed::Planted { folder, uid }));
            assert!(
                !matches!(find(&way.root, uid), Some(Exposed::Planted { .. })),
                "the user's own folder"
            );
        }
    }
}
