//! The rules for all names.

use unicode_general_category::{GeneralCategory, get_general_category};
use unicode_normalization::is_nfc;

use crate::name_error::NameProblem;

/// The length of the longest name, in bytes. Even with the longest suffix that a path adds, it is below 255 bytes, the
/// limit of file systems.
pub(crate) const MAX_NAME_BYTES: usize = 128;

/// Checks one name. The length is checked first, so that the other checks never process a very long text.
pub(crate) fn check(name: &str) -> Result<(), NameProblem> {
    if name.is_empty() {
        return Err(NameProblem::Empty);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(NameProblem::TooLong { bytes: name.len() });
    }
    if name == "." || name == ".." {
        return Err(NameProblem::Dots);
    }
    for (at, char) in name.char_indices() {
        if char == '/' || char == '\\' {
            return Err(NameProblem::Separator { char, at });
        }
        if char == ' ' {
            if at == 0 || at + 1 == name.len() {
                return Err(NameProblem::Space { char, at });
            }
        } else if char.is_whitespace() && !char.is_control() {
            return Err(NameProblem::Space { char, at });
        } else if is_unprintable(char) {
            return Err(NameProblem::Control { char, at });
        }
    }
    if name.starts_with('.') {
        return Err(NameProblem::LeadingDot);
    }
    if !is_nfc(name) {
        return Err(NameProblem::NotNfc);
    }
    if is_reserved_on_windows(name) {
        return Err(NameProblem::ReservedOnWindows);
    }
    Ok(())
}

/// True if a name may contain this character.
pub(crate) fn is_allowed(char: char) -> bool {
    char == ' ' || !(char == '/' || char == '\\' || char.is_whitespace() || is_unprintable(char))
}

/// True for control, format, surrogate, private-use and unassigned characters, and for separators other than the space.
pub(crate) fn is_unprintable(char: char) -> bool {
    use GeneralCategory as G;
    if char.is_ascii() {
        return char.is_ascii_control();
    }
    matches!(
        get_general_category(char),
        G::Control
            | G::Format
            | G::Surrogate
            | G::PrivateUse
            | G::Unassigned
            | G::LineSeparator
            | G::ParagraphSeparator
    )
}

/// True if Windows treats the name as a device. Windows compares the part before the first dot, and ignores case and
/// spaces at the end of that part.
pub(crate) fn is_reserved_on_windows(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end_matches(' ');
    if ["CON", "PRN", "AUX", "NUL"]
        .iter()
        .any(|device| stem.eq_ignore_ascii_case(device))
    {
        return true;
    }
    let Some((device, number)) = stem.split_at_checked(3) else {
        return false;
    };
    let mut number = number.chars();
    (device.eq_ignore_ascii_case("COM") || device.eq_ignore_ascii_case("LPT"))
        && matches!(number.next(), Some('0'..='9' | '¹' | '²' | '³'))
        && number.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_windows_reserves() {
        for name in [
            "con",
            "CON",
            "Nul.txt",
            "aux.a.b",
            "com0",
            "COM9",
            "lpt¹",
            "LPT³.log",
            "con .x",
            "prn.",
        ] {
            assert!(is_reserved_on_windows(name), "{name}");
        }
        for name in [
            "cone", "com", "com10", "lpt", "lptx", "xcon", "a.con", "com⁴", "con-", "é", "coéx",
        ] {
            assert!(!is_reserved_on_windows(name), "{name}");
        }
    }

    #[test]
    fn every_ascii_character() {
        for c in (0u8..128).map(char::from) {
            let refused = c.is_ascii_control() || c == '/' || c == '\\';
            assert_eq!(check(&format!("a{c}b")).is_err(), refused, "{c:?}");
            assert_eq!(is_allowed(c), !refused, "{c:?}");
        }
    }
}
