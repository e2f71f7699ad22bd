//! The stored form of a registry entry.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use prodigy_storage_layout::{
    Evidence, Identity, IdentityError, IdentityKind, KnownRepo, NameRole, Present, Relation, RepoName,
    Timestamp,
};
use serde::{Deserialize, Serialize};

/// The `kind` of an entry that a repair put in place of a damaged one (`docs/reference/on-disk-format.md`).
pub(super) const LOST: &str = "lost";

/// The stored form of a registry entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The name as it was registered. On a file system that ignores case, the file of an entry is also found under
    /// other names.
    pub(super) name: String,
    /// The path of the common git directory, as [`text_of`] writes it.
    pub(super) identity: String,
    #[serde(default)]
    file_id: Option<(u64, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    born: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    #[serde(default)]
    pub(super) kind: String,
    #[serde(default)]
    folder: String,
    pub(super) registered_at: Timestamp,
}

impl Entry {
    pub(super) fn new(
        name: &RepoName,
        identity: &Identity,
        evidence: &Evidence,
        registered_at: Timestamp,
    ) -> Self {
        Self {
            name: name.to_string(),
            identity: text_of(&evidence.path),
            file_id: evidence.file_id,
            born: evidence.born,
            origin: evidence.origin.clone(),
            kind: kind_of(identity.kind).to_owned(),
            folder: identity.folder_name.to_string_lossy().into_owned(),
            registered_at,
        }
    }

    /// True if the entry was registered under another name: its file was moved or copied by hand, or the file system ignores case.
    pub(super) fn is_misplaced(&self, name: &RepoName) -> bool {
        self.name != name.as_str()
    }

    pub(super) fn evidence(&self) -> Evidence {
        Evidence {
            path: path_of(&self.identity).unwrap_or_default(),
            file_id: self.file_id,
            born: self.born,
            origin: self.origin.clone(),
        }
    }

    /// The repository that exists at the recorded path now, if any.
    fn present(&self) -> Present {
        let Some(recorded) = path_of(&self.identity) else {
            return Present::Unreadable;
        };
        match Identity::at(&recorded) {
            Ok(found) if found.common_dir == recorded => Present::Found(found.evidence()),
            Ok(_) | Err(IdentityError::NotFound { .. }) => Present::Nothing,
            Err(_) => Present::Unreadable,
        }
    }

    /// The facts about the entry that decide whether it belongs to the repository `found`.
    pub(super) fn known(&self, role: NameRole, found: &Evidence) -> KnownRepo {
        let recorded = self.evidence();
        let concerns = role != NameRole::Other || recorded.relation(found) != Relation::Unrelated;
        KnownRepo {
            role,
            present: match concerns {
                true => self.present(),
                false => Present::Nothing,
            },
            recorded,
            active: false,
        }
    }
}

const fn kind_of(kind: IdentityKind) -> &'static str {
    match kind {
        IdentityKind::Repository => "repository",
        IdentityKind::BareRepository => "bare_repository",
        IdentityKind::Submodule => "submodule",
        IdentityKind::Folder => "folder",
    }
}

/// The prefix of a path that is stored as hexadecimal digits, because it is not Unicode. No absolute path begins
/// with it.
const HEX: &str = "hex:";

/// A path as text: unchanged if it is Unicode, otherwise its bytes in hexadecimal digits.
pub(super) fn text_of(path: &Path) -> String {
    match path.to_str() {
        Some(text) => text.to_owned(),
        None => {
            let bytes = path.as_os_str().as_encoded_bytes();
            bytes
                .iter()
                .fold(HEX.to_owned(), |text, byte| text + &format!("{byte:02x}"))
        }
    }
}

/// The path that a text stores; `None` if it should be hexadecimal digits and is not.
pub(super) fn path_of(text: &str) -> Option<PathBuf> {
    let Some(digits) = text.strip_prefix(HEX) else {
        return Some(PathBuf::from(text));
    };
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    for pair in digits.as_bytes().chunks(2) {
        bytes.push(u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?);
    }
    Some(PathBuf::from(OsString::from_vec(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn any_path_survives_as_text() {
        for bytes in [
            &b"/srv/shop/.git"[..],
            b"/srv/\xff\x00x/.git",
            "/srv/\u{e9}".as_bytes(),
        ] {
            let path = Path::new(OsStr::from_bytes(bytes));
            assert_eq!(path_of(&text_of(path)).as_deref(), Some(path));
        }
        assert!(text_of(Path::new(OsStr::from_bytes(b"/\xff"))).starts_with("hex:2fff"));
        assert_eq!(path_of("hex:zz"), None);
    }
}
