//! The shell commands that the tool prints.

use std::borrow::Cow;

use crate::cli::Global;

/// The tool's name, with the flags that select the store of this run.
pub(crate) fn tool(global: &Global) -> String {
    let mut tool = "prodigy-storage".to_owned();
    let flags = [("--config", &global.config), ("--base-dir", &global.base_dir)];
    for (flag, value) in flags {
        if let Some(value) = value {
            tool.push_str(&format!(" {flag} {}", as_word(&value.to_string_lossy())));
        }
    }
    tool
}

/// A text quoted as one word of a shell.
pub(crate) fn as_word(text: &str) -> Cow<'_, str> {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "/._-".contains(char);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("'{}'", text.replace('\'', r"'\''"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_word_of_a_shell() {
        assert_eq!(as_word("mapreduce-7.a_b"), "mapreduce-7.a_b");
        assert_eq!(as_word("a;b"), "'a;b'");
        assert_eq!(as_word(""), "''");
        assert_eq!(as_word("it's"), r"'it'\''s'");
    }

    #[test]
    fn the_flags_of_the_run_are_part_of_a_command() {
        let mut global = Global::default();
        assert_eq!(tool(&global), "prodigy-storage");
        global.base_dir = Some("/a b".into());
        assert_eq!(tool(&global), "prodigy-storage --base-dir '/a b'");
    }
}
