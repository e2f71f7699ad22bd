//! Removes credentials from the address of a remote.

/// The length of the longest address that is accepted, in bytes: more than any hand-written one has.
const MAX_BYTES: usize = 4096;

/// Removes user, password, query and fragment from an address. `None` for an empty address, for one that is not UTF-8,
/// and for a command (`ext::…`), whose arguments may contain secrets.
pub(crate) fn without_credentials(address: &[u8]) -> Option<String> {
    let address = std::str::from_utf8(address).ok()?.trim();
    if address.is_empty() || address.len() > MAX_BYTES || address.starts_with("ext::") {
        return None;
    }
    if let Some((transport, rest)) = address.split_once("://") {
        let scheme = transport.rsplit("::").next()?;
        // A password may contain an unescaped slash, and must still be removed.
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let port = authority.split_once(':').map(|(_, port)| port);
        let is_whole = authority.contains('@')
            || authority.starts_with('[')
            || port.is_none_or(|port| port.bytes().all(|digit| digit.is_ascii_digit()));
        let searched = if is_whole { authority } else { rest };
        let user = searched.rfind('@').map_or(0, |at| at + 1);
        let rest = rest.get(user..)?;
        let rest = match scheme {
            "http" | "https" | "ftp" | "ftps" => rest.split(['?', '#']).next().unwrap_or(rest),
            _ => rest,
        };
        return Some(format!("{transport}://{rest}"));
    }
    // The form `user@host:path`. If a slash precedes the first colon, the address is a local path instead.
    let first = address.split('/').next().unwrap_or(address);
    let user = match first.contains(':') {
        true => first.rfind('@').map_or(0, |at| at + 1),
        false => 0,
    };
    address.get(user..).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_lose_their_credentials_and_nothing_else() {
        for (address, kept) in [
            ("https://github.com/a/b.git", "https://github.com/a/b.git"),
            (
                "https://user:secret@github.com:8443/a/b",
                "https://github.com:8443/a/b",
            ),
            ("https://secret@github.com/a/b", "https://github.com/a/b"),
            ("https://user:sec@ret@host/a", "https://host/a"),
            ("https://user:sec/ret@host/a", "https://host/a"),
            ("https://host/a?token=secret#secret", "https://host/a"),
            ("https://host/a@b", "https://host/a@b"),
            ("https://[::1]:80/a@b", "https://[::1]:80/a@b"),
            ("ssh://git@host:22/a", "ssh://host:22/a"),
            (
                "codecommit::us-east-1://secret@repo",
                "codecommit::us-east-1://repo",
            ),
            ("git@github.com:a/b.git", "github.com:a/b.git"),
            ("user:secret@host:a", "host:a"),
            ("/srv/git/a@b:c.git", "/srv/git/a@b:c.git"),
            ("../shop", "../shop"),
            (" file:///srv/a ", "file:///srv/a"),
        ] {
            assert_eq!(
                without_credentials(address.as_bytes()).as_deref(),
                Some(kept),
                "{address}"
            );
        }
        for address in ["", " ", "ext::ssh -i secret host"] {
            assert_eq!(without_credentials(address.as_bytes()), None, "{address}");
        }
        assert_eq!(without_credentials(b"\xff"), None);
    }

    proptest! {
        #[test]
        fn no_password_survives(password in "[!-?A-~]{1,20}", host in "[a-z]{1,9}", path in "[a-z]{0,9}") {
            let address = format!("https://user:S3CRET{password}@{host}/{path}");
            let kept = without_credentials(address.as_bytes()).unwrap();
            prop_assert!(!kept.contains("S3CRET"), "{}", kept);
        }
    }
}
