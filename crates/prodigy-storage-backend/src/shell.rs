//! The words of a shell, for commands in messages.

use std::borrow::Cow;
use std::ffi::OsStr;

use prodigy_storage_layout::JobAddress;

use crate::error::escape;

/// Quotes a text or a path as one word of a shell, if necessary. For commands in messages.
///
/// ```
/// use std::ffi::OsStr;
/// use std::os::unix::ffi::OsStrExt;
///
/// use prodigy_storage_backend::shell_word;
///
/// assert_eq!(shell_word("/srv/jobs"), "/srv/jobs");
/// assert_eq!(shell_word("it's"), r"'it'\''s'");
/// // A byte that a terminal does not show, or that is no text, is written as a number.
/// assert_eq!(shell_word("two\nlines"), r#""$(printf 'two\012lines')""#);
/// assert_eq!(shell_word(OsStr::from_bytes(b"/srv/\xff")), r#""$(printf '/srv/\377')""#);
/// ```
#[must_use]
pub fn shell_word<W: AsRef<OsStr> + ?Sized>(word: &W) -> Cow<'_, str> {
    let word = word.as_ref();
    let Some(text) = word.to_str() else {
        return Cow::Owned(printed(word.as_encoded_bytes()));
    };
    let is_plain = |char: char| char.is_alphanumeric() || "/._-+,:@%".contains(char);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => Cow::Borrowed(text),
        false if matches!(escape(text), Cow::Borrowed(_)) => {
            Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
        }
        false => Cow::Owned(printed(text.as_bytes())),
    }
}

/// A word of a shell that gives these bytes. Every shell has `printf`. The result of a command loses its last newlines, so
/// bytes that end with one are quoted in the way of bash, zsh and ksh.
fn printed(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (place, &byte) in bytes.iter().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || b"/._+,:@= ".contains(&byte);
        match is_plain || (byte == b'-' && place > 0) {
            true => text.push(char::from(byte)),
            false => text.push_str(&format!("\\{byte:03o}")),
        }
    }
    match bytes.last() {
        Some(b'\n') => format!("$'{text}'"),
        _ => format!("\"$(printf '{text}')\""),
    }
}

/// True if a program would read this argument as a flag.
fn is_like_a_flag(word: &OsStr) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}

/// Flags with their values, each value quoted as [one word](shell_word). A value that begins with `-` follows `=`, so that it is not
/// read as another flag.
///
/// ```
/// use prodigy_storage_backend::shell_flags;
///
/// assert_eq!(shell_flags([("--repo", "the shop"), ("--job", "-j")]), "--repo 'the shop' --job=-j");
/// ```
#[must_use]
pub fn shell_flags<'t, W: AsRef<OsStr>>(flags: impl IntoIterator<Item = (&'t str, W)>) -> String {
    let flag = |(flag, value): (&str, W)| {
        let between = if is_like_a_flag(value.as_ref()) { '=' } else { ' ' };
        format!("{flag}{between}{}", shell_word(&value))
    };
    flags.into_iter().map(flag).collect::<Vec<_>>().join(" ")
}

/// The [flags](shell_flags) that name a job.
///
/// ```
/// use prodigy_storage_backend::shell_flags_of;
/// use prodigy_storage_layout::{JobAddress, JobId, RepoName};
///
/// let job = JobAddress::new(RepoName::new("shop")?, JobId::new("nightly")?);
/// assert_eq!(shell_flags_of(&job), "--repo shop --job nightly");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn shell_flags_of(job: &JobAddress) -> String {
    shell_flags([("--repo", job.repo.as_str()), ("--job", job.job.as_str())])
}

/// The arguments at the end of a command, each quoted as [one word](shell_word). They follow `--` if one of them begins with `-`, so
/// that it is not read as a flag.
///
/// ```
/// use prodigy_storage_backend::shell_operands;
///
/// assert_eq!(shell_operands(["shop", "/srv/the shop"]), "shop '/srv/the shop'");
/// assert_eq!(shell_operands(["-x", "/srv/x"]), "-- -x /srv/x");
/// ```
#[must_use]
pub fn shell_operands<W: AsRef<OsStr>>(operands: impl IntoIterator<Item = W>) -> String {
    let operands: Vec<W> = operands.into_iter().collect();
    let has_flag = operands.iter().any(|operand| is_like_a_flag(operand.as_ref()));
    let words = operands.iter().map(shell_word);
    let words = has_flag.then_some(Cow::Borrowed("--")).into_iter().chain(words);
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn shells_read_a_quoted_word_as_the_bytes_that_it_stands_for() {
        use std::os::unix::ffi::OsStrExt;
        let names: [&[u8]; 8] = [
            b"it's $HOME\n`x`.txt",
            b"-n\t%s\\!\"1",
            b"x\xff\xfe7",
            "caf\u{e9}\u{202e} \u{ad}".as_bytes(),
            b"\n\nfirst",
            b"\x1b[31m",
            b" ",
            b"",
        ];
        let in_shell = |shell: &str, name: &[u8]| {
            let word = shell_word(OsStr::from_bytes(name)).into_owned();
            assert_eq!(escape(&word), word, "a terminal shows it as it is");
            let line = format!("printf %s. {word}");
            let output = std::process::Command::new(shell)
                .args(["-c", &line])
                .output()
                .ok()?;
            assert_eq!(output.stdout, [name, b"."].concat(), "{shell}: {line}");
            Some(())
        };
        for name in names {
            in_shell("sh", name).unwrap();
            for shell in ["bash", "dash", "zsh"] {
                let _ = in_shell(shell, name);
            }
        }
        let _ = in_shell("bash", b"a line\n");
    }
}
