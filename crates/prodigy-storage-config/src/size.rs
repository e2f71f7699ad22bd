//! Sizes in bytes: `104857600`, `100MB`, `100MiB`.

use crate::raw::Problem;
use crate::text::shown;

const UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("B", 1),
    ("KB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
    ("PB", 1_000_000_000_000_000),
    ("PiB", 1 << 50),
    ("EB", 1_000_000_000_000_000_000),
    ("EiB", 1 << 60),
];

/// Parses a number of bytes: a whole number with an optional unit. More than `max` is an error.
pub(crate) fn parse(text: &str, max: u64) -> Result<u64, Problem> {
    let how = "write a whole number, or a size such as `100MB` or `100MiB`";
    let text = text.trim();
    if text.starts_with('-') {
        return Err(Problem::new("it must not be negative"));
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return Err(Problem::new(format!("the text `{}` is no size", shown(text))).hint(how));
    }
    let is_exponent = rest
        .strip_prefix(['e', 'E'])
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-')));
    if rest.starts_with(['.', ',', '_']) || is_exponent {
        return Err(Problem::new(format!(
            "the size `{}` is not a whole number of its unit",
            shown(text)
        ))
        .hint("use a smaller unit: `1500KB` instead of `1.5MB`"));
    }
    let unit = rest.trim_start();
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        let problem = Problem::new(format!(
            "the size `{}` has an unknown unit `{}`",
            shown(text),
            shown(unit)
        ));
        let meant = unit.trim_end_matches(['b', 'B', 'i', 'I']);
        let letter = UNITS
            .iter()
            .skip(2)
            .find(|(name, _)| meant.len() == 1 && name.starts_with(&meant.to_ascii_uppercase()));
        return Err(match letter {
            Some(_) => {
                let letter = meant.to_ascii_uppercase();
                problem.hint(format!("write `{digits}{letter}B` or `{digits}{letter}iB`"))
            }
            None => problem.hint("units are B, KB, MB, GB, TB, PB, EB (powers of 1000) and KiB, MiB, GiB, TiB, PiB, EiB (powers of 1024)"),
        });
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor))
        .filter(|bytes| *bytes <= max)
        .ok_or_else(|| Problem::new(format!("it is too large: at most {max} bytes are possible")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Result<u64, Problem> {
        parse(text, i64::MAX as u64)
    }

    #[test]
    fn units_are_of_1000_and_of_1024() {
        for (text, expected) in [
            ("0", 0),
            ("104857600", 104_857_600),
            ("7B", 7),
            ("100MB", 100_000_000),
            ("100MiB", 104_857_600),
            (" 2 KiB ", 2048),
            ("1KB", 1000),
            ("3GB", 3_000_000_000),
            ("1GiB", 1_073_741_824),
            ("1TB", 1_000_000_000_000),
            ("1TiB", 1_099_511_627_776),
            ("7EiB", 8_070_450_532_247_928_832),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_told_apart() {
        for (text, part) in [
            ("", "no size"),
            ("MB", "no size"),
            ("-1MB", "negative"),
            ("1.5MB", "whole number"),
            ("1e3", "whole number"),
            ("8EiB", "too large"),
            ("99999999999999999999", "too large"),
            ("99999999999999999TiB", "too large"),
            ("5XB", "unknown unit"),
        ] {
            assert!(bytes(text).unwrap_err().why.contains(part), "{text}");
        }
        assert_eq!(
            bytes("100M").unwrap_err().hint.unwrap(),
            "write `100MB` or `100MiB`"
        );
        for text in ["1eb", "1e", "1eib"] {
            assert_eq!(
                bytes(text).unwrap_err().hint.unwrap(),
                "write `1EB` or `1EiB`",
                "{text}"
            );
        }
        assert_eq!(bytes("1EB").unwrap(), 1_000_000_000_000_000_000);
        assert_eq!(
            bytes("100mib").unwrap_err().hint.unwrap(),
            "write `100MB` or `100MiB`"
        );
    }
}
