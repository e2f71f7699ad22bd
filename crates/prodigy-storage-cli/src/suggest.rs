//! "Did you mean" for commands and flags: suggests the name with the fewest typing errors, and for a command lists
//! all names.

use std::ffi::OsString;

use clap::Command;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

/// Replaces the proposals of clap, which compares letters and not typing errors, and so finds no `job` in `jbo`.
pub(crate) fn improve(error: &mut Error, table: &Command, arguments: &[OsString]) {
    let kind = match error.kind() {
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        _ => return,
    };
    let Some(ContextValue::String(wrong)) = error.get(kind) else {
        return;
    };
    let wrong = wrong.clone();
    let mut command = table;
    for word in arguments.iter().skip(1).map_while(|word| word.to_str()) {
        // `help` takes the words of a command, too.
        if word == "help" {
            continue;
        }
        if word.starts_with(&wrong) {
            break;
        }
        command = command.find_subcommand(word).unwrap_or(command);
    }
    if kind == ContextKind::InvalidArg {
        let flags = command.get_arguments().filter_map(clap::Arg::get_long);
        if let Some(flag) = wrong.strip_prefix("--").and_then(|wrong| nearest(wrong, flags)) {
            let flag = ContextValue::String(format!("--{flag}"));
            error.insert(ContextKind::SuggestedArg, flag);
        }
        return;
    }
    let names = || {
        let shown = command.get_subcommands().filter(|below| !below.is_hide_set());
        shown.map(Command::get_name)
    };
    match nearest(&wrong, names()) {
        Some(near) => {
            let near = ContextValue::Strings(vec![near.to_owned()]);
            error.insert(ContextKind::SuggestedSubcommand, near)
        }
        None => error.remove(ContextKind::SuggestedSubcommand),
    };
    let all = format!("the commands are {}", names().collect::<Vec<_>>().join(", "));
    let all = ContextValue::StyledStrs(vec![StyledStr::from(all)]);
    error.insert(ContextKind::Suggested, all);
}

/// The known word with the fewest typing errors: at most one, and one more for each three letters of the typed word.
fn nearest<'n>(typed: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let most = 1 + typed.chars().count() / 3;
    known
        .map(|name| (strsim::damerau_levenshtein(typed, name), name))
        .filter(|(errors, _)| *errors <= most)
        .min_by_key(|(errors, _)| *errors)
        .map(|(_, name)| name)
}
