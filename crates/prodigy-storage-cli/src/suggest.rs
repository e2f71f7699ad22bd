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
        let like = error.get(ContextKind::Suggested).is_some();
        let flags = command.get_arguments().chain(table.get_arguments());
        let flags = flags.filter(|flag| flag.get_action().takes_values());
        let tip = match before(&wrong, arguments, flags.filter_map(clap::Arg::get_long)) {
            Some((flag, word)) => format!("to pass '{word}' as the value of '{flag}', use '{flag}={word}'"),
            None if like => format!("to pass '{wrong}' as a value, put '-- {wrong}' at the end"),
            None => return,
        };
        let tip = ContextValue::StyledStrs(vec![StyledStr::from(tip)]);
        error.insert(ContextKind::Suggested, tip);
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

/// The word before the wrong one, if it is one of these flags, and the wrong one as it was typed: clap names no more of `-5m` than `-5`.
fn before<'a, 'n>(
    wrong: &str,
    arguments: &'a [OsString],
    mut flags: impl Iterator<Item = &'n str>,
) -> Option<(&'a str, &'a str)> {
    let is_it = |word: &OsString| word.to_str().is_some_and(|word| word.starts_with(wrong));
    let at = arguments.iter().position(is_it)?;
    let before = arguments.get(at.checked_sub(1)?)?.to_str()?;
    let name = before.strip_prefix("--")?;
    let is_flag = flags.any(|flag| flag == name);
    Some((before, arguments.get(at)?.to_str()?)).filter(|_| is_flag)
}

/// The known word with the fewest typing errors: at most one for each three letters of the typed word, and at least one.
fn nearest<'n>(typed: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let most = (typed.chars().count() / 3).max(1);
    known
        .map(|name| (strsim::damerau_levenshtein(typed, name), name))
        .filter(|(errors, _)| *errors <= most)
        .min_by_key(|(errors, _)| *errors)
        .map(|(_, name)| name)
}
