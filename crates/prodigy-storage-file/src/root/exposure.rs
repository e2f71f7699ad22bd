//! Checks whether other users can replace, or have replaced, the root by a folder of theirs.
//!
//! Only folders that all may write to, and reach, are of interest. In one with the sticky bit, such as `/tmp`, any user
//! may be the first to make a name, and only its owner may rename it. Without it any user may do both at any time.
#![expect(clippy::disallowed_methods, reason = "checks of the root from outside of it")]

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The fault of a folder above the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exposed {
    /// A user who is neither this one nor the superuser made this folder, where all may make one.
    Planted { folder: PathBuf, uid: u32 },
    /// Any user may rename what leads to the root away from this folder.
    Loose { folder: PathBuf, mode: u32 },
}

/// Looks at the folders from the top down to the root, as far as they are there.
pub(super) fn find(root: &Path, me: u32) -> Option<Exposed> {
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
            // Nobody else gets any deeper; who may write to the root itself is another question.
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

    /// `top/shared/mine/root`, without the last.
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
        assert_eq!(find(&way.root, way.me), None, "as /tmp is");
        set(&way.shared, 0o777);
        set(&way.top, 0o700);
        assert_eq!(find(&way.root, way.me), None, "no one else gets there");
    }

    #[test]
    fn a_folder_of_another_user_where_all_may_make_one_was_planted() {
        let way = way();
        if way.me == 0 {
            // Nothing of the superuser counts as planted.
            std::os::unix::fs::chown(way.shared.join("mine"), Some(4242), None).unwrap();
        }
        let uid = std::fs::metadata(way.shared.join("mine")).unwrap().uid();
        let stranger = uid + 1;
        assert_eq!(find(&way.root, stranger), None, "not all could make it");
        for mode in [0o1777, 0o777] {
            set(&way.shared, mode);
            let folder = way.shared.join("mine");
            assert_eq!(find(&way.root, stranger), Some(Exposed::Planted { folder, uid }));
            assert!(
                !matches!(find(&way.root, uid), Some(Exposed::Planted { .. })),
                "one's own"
            );
        }
    }
}
