//! Durations as text: `30s`, `500ms`, `1h 30m`.

use std::fmt;
use std::time::Duration;

use crate::text::shown;

/// The longest duration that is accepted: 100 years of 365.25 days, `100y`.
///
/// The present time plus this duration is still a valid timestamp, so deadlines and leases can be computed
/// exactly.
pub const MAX_DURATION: Duration = Duration::from_secs(100 * 31_557_600);

/// The error for a text that is not a duration, or is longer than [`MAX_DURATION`].
///
/// ```
/// use prodigy_storage_config::parse_duration;
///
/// assert_eq!(parse_duration("1m 30s")?.as_secs(), 90);
/// let error = parse_duration("soon").unwrap_err();
/// assert!(error.to_string().contains("soon"), "{error}");
/// # Ok::<(), prodigy_storage_config::InvalidDuration>(())
/// ```
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is {problem}")]
pub struct InvalidDuration {
    text: String,
    problem: String,
}

/// The same as `Display`: a `main` that returns the error prints it so.
impl fmt::Debug for InvalidDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Parses a duration: numbers with units, in the form that `humantime` parses, and at most [`MAX_DURATION`].
///
/// ```
/// use prodigy_storage_config::parse_duration;
///
/// assert_eq!(parse_duration("1h 30m").unwrap().as_secs(), 5400);
/// assert!(parse_duration("1000y").unwrap_err().to_string().contains("at most 100y"));
/// ```
///
/// # Errors
/// [`InvalidDuration`], which has the text and the problem.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = |problem: String| InvalidDuration {
        text: shown(text),
        problem,
    };
    let too_long = || invalid("too long: a duration is at most 100y".to_owned());
    let text = text.trim();
    if text.starts_with('-') {
        return Err(invalid("negative: a duration is at least 0s".to_owned()));
    }
    let mut sum = Duration::ZERO;
    let mut rest = text;
    loop {
        let (piece, after) = rest.split_at(piece_end(rest));
        // `humantime` panics if the sum of several numbers with units overflows. So each of these is parsed alone,
        // and they are added with a check here.
        let piece = humantime::parse_duration(piece).map_err(|error| match error {
            humantime::DurationError::NumberOverflow => too_long(),
            error => invalid(format!("not a duration: {error}")),
        })?;
        sum = sum
            .checked_add(piece)
            .filter(|sum| *sum <= MAX_DURATION)
            .ok_or_else(too_long)?;
        if after.is_empty() {
            return Ok(sum);
        }
        rest = after;
    }
}

/// The position after the first number with its unit.
fn piece_end(text: &str) -> usize {
    let in_unit = |(_, c): &(usize, char)| c.is_alphabetic();
    let Some((unit, _)) = text.char_indices().find(in_unit) else {
        return text.len();
    };
    let after = text.get(unit..).unwrap_or_default();
    after
        .find(|c: char| c.is_ascii_digit())
        .map_or(text.len(), |digits| unit + digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The sum of the numbers in each of these texts overflows in `humantime`.
    const OVERFLOWS: [&str; 3] = [
        "18446744073709551615s 999999999ns 1ns",
        "18446744073709551615s 1000000000ns",
        "584542046090y 7months 15days 17h 5m 3s 1s",
    ];

    #[test]
    fn the_forms_of_humantime_are_read() {
        for (text, expected) in [
            ("30s", Duration::from_secs(30)),
            ("500ms", Duration::from_millis(500)),
            ("1h 30m", Duration::from_secs(5400)),
            (" 1h30m ", Duration::from_secs(5400)),
            ("2 days 5 minutes", Duration::from_secs(2 * 86_400 + 300)),
            ("0s", Duration::ZERO),
            ("100y", MAX_DURATION),
        ] {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
        for text in [
            "", " ", "s", "5", "-1s", "1 parsec", "1s x", "1s 5", "\u{1b}s", "1s\0",
        ] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_duration_out_of_range_is_an_error_and_never_a_panic() {
        for text in OVERFLOWS
            .into_iter()
            .chain(["1000y", "100y 1ns", "99999999999999999999999s"])
        {
            let error = parse_duration(text).unwrap_err().to_string();
            assert!(error.contains("at most 100y") && error.contains(text), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_reads_back(secs in 0..=MAX_DURATION.as_secs() - 1, nanos in 0..1_000_000_000_u32) {
            let duration = Duration::new(secs, nanos);
            prop_assert_eq!(parse_duration(&humantime::format_duration(duration).to_string()), Ok(duration));
        }

        #[test]
        fn pieces_of_durations_never_panic(pieces in proptest::collection::vec((any::<u64>(), "(ns|us|ms|s|m|h|d|w|M|y|months| )"), 0..6)) {
            let text: String = pieces.iter().map(|(number, unit)| format!("{number}{unit} ")).collect();
            let _ = parse_duration(&text).map(|duration| assert!(duration <= MAX_DURATION));
        }
    }
}
