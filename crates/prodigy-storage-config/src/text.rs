//! Makes text from users safe to show, and finds similar words.

use std::borrow::Cow;

use crate::keys::sections;
use crate::postgres::{PostgresSettings, without_password};

/// The largest number of characters of a caller's text in a message.
const SHOWN: usize = 200;

/// The text as a message shows it: control and direction-changing characters are escaped, a long text is cut, and a
/// connection string at a wrong place has no password.
pub(crate) fn shown(text: &str) -> String {
    let text = match text.contains("://") || PostgresSettings::is_without_scheme(text) {
        true => Cow::Owned(without_password(text)),
        false => Cow::Borrowed(text),
    };
    let mut out = String::with_capacity(text.len().min(SHOWN));
    for (index, c) in text.chars().enumerate() {
        if index == SHOWN {
            out.push('…');
            break;
        }
        let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || hidden {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// The known word that is most similar to a misspelt one; `None` if none is similar enough.
pub(crate) fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest_by(typed, known, |word| word)
}

/// Like [`nearest`], for values that each have a word. Of several equally similar ones, the first is returned.
pub(crate) fn nearest_by<'w, T>(
    typed: &str,
    known: impl IntoIterator<Item = T>,
    word: impl Fn(&T) -> &'w str,
) -> Option<T> {
    let typed = typed.to_lowercase().replace(['-', '.'], "_");
    // Such a long word is not a misspelling of a key, and computing the distance takes quadratic time.
    if typed.len() > 100 {
        return None;
    }
    known
        .into_iter()
        .map(|known| {
            let word = word(&known).to_lowercase().replace('.', "_");
            let (typed, word) = below_section(&typed, &word);
            let most = 1.max(typed.len().min(word.len()) / 3);
            (strsim::damerau_levenshtein(typed, word), most, known)
        })
        .filter(|(distance, most, _)| distance <= most)
        .min_by_key(|(distance, ..)| *distance)
        .map(|(.., known)| known)
}

/// Both words without the longest section that they have in common: a right section makes a wrong name no more similar.
fn below_section<'w>(typed: &'w str, word: &'w str) -> (&'w str, &'w str) {
    let rest = |text: &'w str, section: &str| text.strip_prefix(section)?.strip_prefix('_');
    sections()
        .filter_map(|section| {
            let section = section.replace('.', "_");
            Some((rest(typed, &section)?, rest(word, &section)?))
        })
        .min_by_key(|(typed, _)| typed.len())
        .unwrap_or((typed, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_move_the_cursor_is_escaped() {
        assert_eq!(shown("a\u{1b}[2J\n\u{202e}b"), "a\\u{1b}[2J\\n\\u{202e}b");
        assert_eq!(shown("größe/日本"), "größe/日本");
        assert_eq!(shown(&"x".repeat(5000)).chars().count(), SHOWN + 1);
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let known = ["max_retries", "max_delay", "jitter"];
        assert_eq!(nearest("max_retrys", known), Some("max_retries"));
        assert_eq!(nearest("Max-Retries", known), Some("max_retries"));
        assert_eq!(nearest("jiter", known), Some("jitter"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest(&"j".repeat(100_000), known), None);
        let known = [
            "backend_config.url",
            "backend_config.base_dir",
            "retention.events.max_age",
        ];
        assert_eq!(nearest("backend_config.foo", known), None);
        assert_eq!(nearest("backend_config_foo", known), None);
        assert_eq!(nearest("backend_config.ur", known), Some("backend_config.url"));
        assert_eq!(
            nearest("backend-config.base-dri", known),
            Some("backend_config.base_dir")
        );
        assert_eq!(nearest("retention.events.foo_bar", known), None);
        assert_eq!(
            nearest("backnd_config.base_dir", known),
            Some("backend_config.base_dir")
        );
    }
}
