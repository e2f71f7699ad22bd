//! The shell commands that the tool prints.

use std::borrow::Cow;

use prodigy_storage::Storage;
use prodigy_storage::config::BackendKind;
pub(crate) use prodigy_storage::{
    shell_flags as flags, shell_flags_of as flags_of, shell_operands as operands, shell_word as as_word,
};

use crate::cli::Global;

/// The tool's name, with the flags that select the store of this run.
pub(crate) fn tool(global: &Global) -> String {
    let mut tool = "prodigy-storage".to_owned();
    for (flag, value) in [("--config", &global.config), ("--base-dir", &global.base_dir)] {
        if let Some(value) = value {
            tool.push(' ');
            tool.push_str(&flags([(flag, value)]));
        }
    }
    tool
}

/// The command that reads all data of a store. A database has no doctor: the server checks its files.
pub(crate) fn doctor(global: &Global, storage: &Storage) -> Option<String> {
    match storage.config().backend {
        BackendKind::Postgres => None,
        _ => Some(format!("{} doctor", tool(global))),
    }
}

/// The beginning of a command that only the superuser may run.
pub(crate) fn sudo() -> &'static str {
    match rustix::process::geteuid().is_root() {
        true => "",
        false => "sudo ",
    }
}

/// The commands in a text, with the flags that select the store of this run, so that they can be pasted.
pub(crate) fn in_this_store<'t>(text: &'t str, global: &Global) -> Cow<'t, str> {
    const NAME: &str = "`prodigy-storage ";
    let tool = tool(global);
    if tool == "prodigy-storage" || !text.contains(NAME) {
        return Cow::Borrowed(text);
    }
    let mut parts = text.split(NAME);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.starts_with("--") {
            true => shown.push_str(NAME),
            false => shown.push_str(&format!("`{tool} ")),
        }
        shown.push_str(part);
    }
    Cow::Owned(shown)
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
        let hint = "`prodigy-storage job list` lists them, and `prodigy-storage --base-dir x health` looks";
        assert_eq!(
            in_this_store(hint, &global),
            "`prodigy-storage --base-dir '/a b' job list` lists them, and `prodigy-storage --base-dir x health` looks"
        );
        assert_eq!(in_this_store(hint, &Global::default()), hint);
    }
}
