//! The quarantine: copies of damaged bytes that have to go from their place.

use std::path::{Path, PathBuf};

use prodigy_storage_backend::{Durability, Result};
use prodigy_storage_layout::QUARANTINE;

use super::{Replace, Root, TempFile};

/// The folder of damaged bytes below a root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quarantine<'r>(&'r Root);

impl<'r> Quarantine<'r> {
    pub(crate) fn of(root: &'r Root) -> Self {
        Self(root)
    }

    /// A new path in it whose name states the place of the bytes.
    pub(crate) fn path_for(self, path: &Path, offset: u64) -> PathBuf {
        let flat = path.to_string_lossy().replace(['/', '\\'], "_");
        // Names are up to 255 bytes; the end of a path says most.
        let tail: String = {
            let mut chars: Vec<char> = flat.chars().rev().take(100).collect();
            chars.reverse();
            while chars.iter().map(|c| c.len_utf8()).sum::<usize>() > 150 {
                chars.remove(0);
            }
            chars.into_iter().collect()
        };
        let random = uuid::Uuid::new_v4().simple().to_string();
        Path::new(QUARANTINE).join(format!(
            "{}-{}-{offset}-{tail}",
            self.0.now(),
            random.get(..8).unwrap_or_default()
        ))
    }

    /// Keeps bytes under a name that states their place. Durable on return.
    pub(crate) fn keep(self, path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
        let kept = self.path_for(path, offset);
        TempFile::write_whole(
            self.0,
            "quarantine",
            &kept,
            &[bytes],
            Replace::Never,
            Durability::Strict,
        )?;
        tracing::warn!(from = %path.display(), offset, bytes = bytes.len(), to = %kept.display(), "moved to quarantine");
        Ok(())
    }
}
