//! The name of a store, which contains its own checksum.
//!
//! If the name were changed by damage, the store would seem to be another one: it would refuse the tokens of current
//! holders, and a copy of it would not be recognised as a copy.

use prodigy_storage_backend::record;

/// The number of hexadecimal digits of the random part.
const RANDOM: usize = 32;
/// The length of a name: the random part, a hyphen, and eight hexadecimal digits of checksum.
const WHOLE: usize = RANDOM + 1 + 8;

/// Creates a new random name.
pub(super) fn draw() -> String {
    with_checksum(&uuid::Uuid::new_v4().simple().to_string())
}

fn with_checksum(random: &str) -> String {
    format!("{random}-{:08x}", record::checksum(random.as_bytes()))
}

/// True if the checksum in a name matches. A name of an earlier version has none, so only its form is checked.
pub(super) fn is_whole(name: &str) -> bool {
    match name.split_at_checked(RANDOM) {
        Some((random, rest)) if random.bytes().all(is_digit) => {
            rest.is_empty() || with_checksum(random) == name
        }
        _ => false,
    }
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// Parses a name at the start of these bytes, up to a quotation mark. A single changed byte is restored with the help
/// of the checksum.
pub(crate) fn salvage(bytes: &[u8]) -> Option<String> {
    if let Some(name) = bytes.get(..WHOLE).filter(|_| bytes.get(WHOLE) == Some(&b'"')) {
        let mut name = name.to_vec();
        for at in 0..WHOLE {
            let found = *name.get(at)?;
            for byte in std::iter::once(found).chain(*b"0123456789abcdef-") {
                *name.get_mut(at)? = byte;
                if let Some(whole) = std::str::from_utf8(&name).ok().filter(|name| is_whole(name)) {
                    return Some(whole.to_owned());
                }
            }
            *name.get_mut(at)? = found;
        }
        return None;
    }
    let name = bytes.get(..RANDOM).filter(|_| bytes.get(RANDOM) == Some(&b'"'))?;
    let name = std::str::from_utf8(name).ok()?;
    is_whole(name).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_changed_byte_of_a_name_passes_and_each_is_put_right() {
        let name = draw();
        assert!(is_whole(&name) && name.len() == WHOLE);
        for at in 0..WHOLE {
            for byte in 0..128 {
                let mut changed = name.clone().into_bytes();
                if changed[at] == byte {
                    continue;
                }
                changed[at] = byte;
                assert!(
                    !is_whole(std::str::from_utf8(&changed).unwrap()),
                    "byte {at} as {byte}"
                );
                changed.push(b'"');
                assert_eq!(salvage(&changed).as_ref(), Some(&name), "byte {at} as {byte}");
            }
        }
    }

    #[test]
    fn a_name_of_an_earlier_version_is_read() {
        let name = "0b2b5c8f2e1d4c9b8f0a6d7e5c4b3a29";
        assert!(is_whole(name));
        assert_eq!(salvage(format!("{name}\"").as_bytes()).as_deref(), Some(name));
        for wrong in [
            "",
            "0b2b",
            &name.to_uppercase(),
            &format!("{name}-"),
            &format!("{name}-00000000"),
        ] {
            assert!(!is_whole(wrong), "{wrong}");
        }
    }
}
