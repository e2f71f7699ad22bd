//! The signature that failures with one cause share.

/// The length of the longest signature, in characters.
const LONGEST: usize = 240;

/// The signature of a failure: its type and its message. Parts of the message that differ between items are
/// masked.
///
/// Numbers become `<n>`, UUIDs, hashes and other long ids `<id>`, paths and addresses `<path>`, quoted text
/// `<text>`. White space counts as one space, and a long message is cut.
///
/// ```
/// use prodigy_storage_backend::dead_letter::signature;
///
/// let a = signature("CommandFailed", "exit code 101 in /srv/session-12/src/lib.rs:7 (commit 3f9c2ab41d)");
/// let b = signature("CommandFailed", "exit code 1 in /srv/session-9/a.rs:120 (commit 0017fe3c9a)");
/// assert_eq!(a, "CommandFailed: exit code <n> in <path> (commit <id>)");
/// assert_eq!(a, b);
/// ```
#[must_use]
pub fn signature(error_type: &str, message: &str) -> String {
    let error_type = error_type.trim();
    let masked = mask(message);
    let whole = match (error_type.is_empty(), masked.is_empty()) {
        (true, _) => masked,
        (false, true) => error_type.to_owned(),
        (false, false) => format!("{error_type}: {masked}"),
    };
    match whole.char_indices().nth(LONGEST) {
        Some((end, _)) => whole.get(..end).unwrap_or_default().trim_end().to_owned(),
        None => whole,
    }
}

fn mask(message: &str) -> String {
    let mut out = String::with_capacity(message.len().min(4 * LONGEST));
    let mut rest = message.trim();
    let mut before = ' ';
    // Text that is far beyond the longest signature is not read.
    while let Some(c) = rest.chars().next().filter(|_| out.len() < 8 * LONGEST) {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        if c.is_whitespace() {
            out.push(' ');
            rest = rest.trim_start();
            before = ' ';
        } else if let Some(behind) = quoted(c, before, after) {
            out.push_str("<text>");
            rest = behind;
            before = c;
        } else if is_word(c) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (run, behind) = rest.split_at(end);
            // A full stop or colon at the end of a word belongs to the sentence.
            let word = run.trim_end_matches(['.', ':']);
            mask_word(&mut out, word);
            out.push_str(run.get(word.len()..).unwrap_or_default());
            rest = behind;
            before = run.chars().next_back().unwrap_or(c);
        } else {
            out.push(c);
            rest = after;
            before = c;
        }
    }
    out
}

/// The text after the closing quotation mark; `None` if `open` does not begin a quotation, or if it is not closed.
fn quoted(open: char, before: char, after: &str) -> Option<&str> {
    match open {
        '"' | '`' => after.find(open).and_then(|end| after.get(end + 1..)),
        '\u{201c}' => after.split_once('\u{201d}').map(|(_, behind)| behind),
        // A `'` inside a word is an apostrophe; one at the edge of a word is a quotation mark.
        '\'' if !before.is_alphanumeric() => after.match_indices('\'').find_map(|(end, _)| {
            let behind = after.get(end + 1..)?;
            (!behind.starts_with(char::is_alphanumeric)).then_some(behind)
        }),
        _ => None,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric()
        || matches!(
            c,
            '_' | '-' | '.' | '/' | '\\' | '~' | ':' | '@' | '%' | '+' | '$' | '#'
        )
}

fn mask_word(out: &mut String, word: &str) {
    if is_path(word) {
        out.push_str("<path>");
    } else if is_id(word) {
        out.push_str("<id>");
    } else {
        let mut in_number = false;
        let mut before = ' ';
        let mut rest = word.chars().peekable();
        while let Some(c) = rest.next() {
            let point = in_number && matches!(c, '.' | ':') && rest.peek().is_some_and(char::is_ascii_digit);
            if c.is_ascii_digit() || point {
                if !in_number {
                    out.push_str("<n>");
                }
                in_number = true;
            } else {
                in_number = false;
                // A sign directly before a number is part of the number.
                let sign =
                    matches!(c, '-' | '+') && before == ' ' && rest.peek().is_some_and(char::is_ascii_digit);
                if !sign {
                    out.push(c);
                }
            }
            before = c;
        }
    }
}

/// True for a path or an address: a word that has a separator, and other characters around it.
fn is_path(word: &str) -> bool {
    let separator = |c| matches!(c, '/' | '\\');
    word.contains(separator) && word.contains(|c: char| !separator(c))
}

/// True for a UUID, a hash or a random id.
fn is_id(word: &str) -> bool {
    let hex = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    if let Some(hex) = hex {
        return !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    }
    let letters = word.bytes().filter(u8::is_ascii_alphabetic).count();
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    if letters == 0 || digits == 0 {
        return false;
    }
    let plain = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    (letters + digits >= 7 && word.bytes().all(plain))
        || (letters + digits >= 16 && letters + digits == word.len())
}
