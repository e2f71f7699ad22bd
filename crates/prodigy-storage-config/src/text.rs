//! Makes text from users safe to show, and finds similar words.

/// The largest number of characters of a user's text that a message shows.
const SHOWN: usize = 200;

/// The text as a message shows it: control and direction-changing characters are escaped, and a long text is cut.
pub(crate) fn shown(text: &str) -> String {
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
    let typed = typed.to_lowercase().replace('-', "_");
    // A word as long as this is not a misspelt key, and comparing it would take too long.
    if typed.len() > 100 {
        return None;
    }
    known
        .into_iter()
        .map(|known| {
            let word = word(&known).to_lowercase();
            (strsim::damerau_levenshtein(&typed, &word), word.len(), known)
        })
        .filter(|(distance, length, _)| *distance <= 1.max(typed.len().min(*length) / 3))
        .min_by_key(|(distance, ..)| *distance)
        .map(|(.., known)| known)
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
    }
}
