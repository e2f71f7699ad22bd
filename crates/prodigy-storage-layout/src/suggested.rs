//! Repository names that are derived from folder names.

use std::borrow::Cow;
use std::ffi::OsStr;

use unicode_normalization::UnicodeNormalization;
use xxhash_rust::xxh3::xxh3_64;

use crate::name::RepoName;
use crate::name_rule::{MAX_NAME_BYTES, is_allowed, is_reserved_on_windows};

/// The name for a folder whose own name has no usable characters.
const FALLBACK: &str = "repository";
/// The length of `-` and 8 hexadecimal digits, in bytes.
const HASH_BYTES: usize = 9;

pub(crate) fn from_folder_name(folder: &OsStr) -> RepoName {
    if folder.is_empty() {
        return named(FALLBACK, folder);
    }
    let text = match folder.to_str() {
        Some(text) => match RepoName::new(text) {
            Ok(name) if !name.is_reserved() => return name,
            _ => Cow::Borrowed(text),
        },
        None => Cow::Owned(folder.to_string_lossy().replace(char::REPLACEMENT_CHARACTER, "-")),
    };
    let name: String = text.nfc().map(|c| if is_allowed(c) { c } else { '-' }).collect();
    let mut name = name.trim_matches(' ').trim_start_matches(['.', ' ']).to_owned();
    if is_reserved_on_windows(&name) {
        // The hash that is appended makes a reserved name such as `con` valid. In `con.txt` it would only change the
        // extension, so the dot is replaced.
        name = name.replacen('.', "-", 1);
    }
    with_hash(if name.is_empty() { FALLBACK } else { &name }, folder)
}

/// The name, truncated if necessary, with a hash of `hashed` appended. Registries store such names, so the hash (the
/// low 32 bits of XXH3-64) must never change.
pub(crate) fn with_hash(name: &str, hashed: &OsStr) -> RepoName {
    let hash = xxh3_64(hashed.as_encoded_bytes()) & 0xffff_ffff;
    let mut end = MAX_NAME_BYTES - HASH_BYTES;
    while !name.is_char_boundary(end.min(name.len())) {
        end -= 1;
    }
    let name = name.get(..end.min(name.len())).unwrap_or(name);
    named(&format!("{}-{hash:08x}", name.trim_end_matches(' ')), hashed)
}

/// Converts a text to a name. The text should always be a valid name; if it is not, a hash takes its place.
fn named(name: &str, hashed: &OsStr) -> RepoName {
    RepoName::new(name).unwrap_or_else(|_| RepoName::numbered(FALLBACK, xxh3_64(hashed.as_encoded_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggested(folder: &str) -> String {
        from_folder_name(OsStr::new(folder)).to_string()
    }

    #[test]
    fn a_valid_name_is_taken_as_it_is() {
        for name in ["shop", "my shop", "a.b_c-d", "größe", "x".repeat(128).as_str()] {
            assert_eq!(suggested(name), name);
        }
    }

    /// Registries store these names. With another hash or rule, a repository would get a second name.
    #[test]
    fn the_mapping_is_frozen() {
        assert_eq!(suggested(""), "repository");
        for (folder, name) in [
            (".config", "config-"),
            ("...", "repository-"),
            (" shop ", "shop-"),
            (" . ", "repository-"),
            ("a\\b\u{202e}c\n", "a-b-c--"),
            ("a\u{a0}b", "a-b-"),
            ("cafe\u{301}", "caf\u{e9}-"),
            ("CON", "CON-"),
            ("nul.tar.gz", "nul-tar.gz-"),
            ("_audit", "_audit-"),
            ("_COPY", "_COPY-"),
        ] {
            let made = suggested(folder);
            let hash = format!("{:08x}", xxh3_64(folder.as_bytes()) & 0xffff_ffff);
            assert_eq!(made, format!("{name}{hash}"), "{folder:?}");
        }
        assert_eq!(suggested(".config"), "config-8c82bd39");
    }

    #[test]
    fn a_cut_name_keeps_whole_characters_and_its_hash() {
        let long = suggested(&"\u{20ac}".repeat(100));
        assert_eq!(long.len(), 39 * 3 + HASH_BYTES);
        assert!(long.starts_with(&"\u{20ac}".repeat(39)));
        assert_ne!(long, suggested(&"\u{20ac}".repeat(101)));
        let spaced = suggested(&format!("NUL{}x", " ".repeat(200)));
        assert!(spaced.starts_with("NUL-"), "{spaced}");
    }

    #[test]
    fn names_that_are_no_unicode_stay_apart() {
        use std::os::unix::ffi::OsStrExt;
        let (one, other) = (
            from_folder_name(OsStr::from_bytes(b"a\xff")),
            from_folder_name(OsStr::from_bytes(b"a\xfe")),
        );
        assert!(one.as_str().starts_with("a--"), "{one}");
        assert_ne!(one, other);
    }
}
