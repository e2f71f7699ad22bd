//! Times and durations on the command line.

use std::time::{Duration, SystemTime};

use jiff::civil::Time;
use jiff::fmt::temporal::Pieces;
use jiff::tz::{Offset, TimeZone};
use prodigy_storage::Timestamp;
use prodigy_storage::config::parse_duration;

/// The accepted forms of a time, for messages.
const FORMS: &str = "write a time from 1970 to 2262: a local date (`2026-11-24`) or date and time (`2026-11-24 21:01`), a time with \
     its zone (`2026-11-24T21:01:58Z`), or how long ago (`10m`)";

/// Parses a duration: `90s`, `1h 30m`; at most `100y`.
///
/// # Errors
/// The text, the error, and the accepted forms.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| format!("{error}; write a duration such as `90s` or `1h 30m`"))
}

/// Parses a time: RFC 3339, the compact form, a local date or a date and a time, or a duration before now. Local is the
/// zone of `TZ`, or of the machine.
///
/// # Errors
/// The text, the error, and the accepted forms.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    if let Some(time) = date(text, TimeZone::system) {
        return Ok(time);
    }
    // As `journalctl` takes it.
    match parse_duration(text.strip_prefix('-').unwrap_or(text)) {
        // Events are never older than 1970.
        Ok(ago) => Ok(SystemTime::now()
            .checked_sub(ago)
            .map_or(Timestamp::MIN, Timestamp::from)),
        Err(_) if text.contains('-') => Err(format!("`{text}` is not a time that exists; {FORMS}")),
        Err(error) => Err(format!("{error}; {FORMS}")),
    }
}

/// Parses a date, or a date and a time. Without a zone it is local: of two equal times around a clock change the
/// earlier one, and for a skipped hour the hour after it.
fn date(text: &str, local: impl FnOnce() -> TimeZone) -> Option<Timestamp> {
    let pieces = Pieces::parse(text).ok()?;
    let civil = pieces
        .date()
        .to_datetime(pieces.time().unwrap_or(Time::midnight()));
    let zone = match (pieces.to_numeric_offset(), pieces.time_zone_annotation()) {
        (Some(offset), _) => offset.to_time_zone(),
        (None, None) => local(),
        (None, Some(_)) => pieces.to_time_zone().ok()??,
    };
    let nanos = zone.to_timestamp(civil).ok()?.as_nanosecond();
    let nanos = i64::try_from(nanos).ok()?;
    (nanos >= 0).then(|| Timestamp::from_nanos(nanos))
}

/// A time as RFC 3339: on a terminal in the local zone, to the second and with its offset; elsewhere in UTC.
pub(crate) fn shown(time: Timestamp, terminal: bool) -> String {
    let zone = terminal.then(TimeZone::system);
    let local = zone.and_then(|zone| local(time, &zone, "%Y-%m-%dT%H:%M:%S"));
    local.map_or_else(|| time.to_rfc3339(), |(text, offset)| text + &mark(offset))
}

/// A time in this zone, to the second, and its offset.
fn local(time: Timestamp, zone: &TimeZone, form: &str) -> Option<(String, Offset)> {
    let time = jiff::Timestamp::from_nanosecond(time.as_nanos().into()).ok()?;
    let text = zone.to_datetime(time).strftime(form).to_string();
    Some((text, zone.to_offset(time)))
}

fn mark(offset: Offset) -> String {
    match offset {
        Offset::UTC => "Z".to_owned(),
        offset => offset.to_string(),
    }
}

/// The times of a column of a table. On a terminal they are local, and the heading has the offset; elsewhere they are UTC.
pub(crate) struct Times(Option<(TimeZone, Offset)>);

impl Times {
    pub(crate) fn new(terminal: bool) -> Self {
        Self::of(terminal.then(TimeZone::system))
    }

    fn of(zone: Option<TimeZone>) -> Self {
        Self(zone.map(|zone| {
            let now = zone.to_offset(jiff::Timestamp::now());
            (zone, now)
        }))
    }

    pub(crate) fn heading(&self, name: &str) -> String {
        match &self.0 {
            None => name.to_owned(),
            Some((_, Offset::UTC)) => format!("{name} (UTC)"),
            Some((_, offset)) => format!("{name} (UTC{offset})"),
        }
    }

    /// A time. If its offset is not that of the heading, as before a change of the clocks, it has an offset of its own.
    pub(crate) fn cell(&self, time: Timestamp) -> String {
        let local = self.0.as_ref().and_then(|(zone, now)| {
            let (text, offset) = local(time, zone, "%Y-%m-%d %H:%M:%S")?;
            Some(match offset == *now {
                true => text,
                false => text + &mark(offset),
            })
        });
        local.unwrap_or_else(|| time.to_rfc3339())
    }
}

/// The time that has passed since then; zero if it is in the future.
pub(crate) fn passed(since: Timestamp) -> Duration {
    let nanos = Timestamp::now().as_nanos().saturating_sub(since.as_nanos());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

/// An age as a table cell: `45s`, `12m`, `3h`, `5d`.
pub(crate) fn age(passed: Duration) -> String {
    let seconds = passed.as_secs();
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The age of what happened at this time, as a table cell; `-` without a time.
pub(crate) fn age_of(since: Option<Timestamp>) -> String {
    since.map_or_else(|| "-".to_owned(), |since| age(passed(since)))
}

/// A remaining time in its two largest units, rounded up: `30s`, `4m 12s`, `2d 3h`.
pub(crate) fn left(rest: Duration) -> String {
    let seconds = rest.as_secs() + u64::from(rest.subsec_nanos() > 0);
    let two = |large: u64, large_unit, small: u64, small_unit| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit} {small}{small_unit}"),
    };
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_rests() {
        let ages = [(0, "0s"), (59, "59s"), (60, "1m"), (7199, "1h"), (90_000, "1d")];
        for (seconds, wanted) in ages {
            assert_eq!(age(Duration::from_secs(seconds)), wanted);
        }
        let rests = [
            (1, "1s"),
            (60_000, "1m"),
            (251_001, "4m 12s"),
            (3_720_000, "1h 2m"),
            (270_000_000, "3d 3h"),
        ];
        for (millis, wanted) in rests {
            assert_eq!(left(Duration::from_millis(millis)), wanted);
        }
    }

    #[test]
    fn the_times_of_a_table_have_their_offset_in_the_heading() {
        let time = Timestamp::parse("2026-11-24T21:01:58.5Z").unwrap();
        let kabul = Times::of(TimeZone::posix("XYZ-4:30").ok());
        assert_eq!(kabul.heading("TIME"), "TIME (UTC+04:30)");
        assert_eq!(kabul.cell(time), "2026-11-25 01:31:58");
        let utc = Times::of(Some(TimeZone::UTC));
        assert_eq!(
            (utc.heading("TIME").as_str(), utc.cell(time).as_str()),
            ("TIME (UTC)", "2026-11-24 21:01:58")
        );
        let pipe = Times::of(None);
        assert_eq!(
            (pipe.heading("TIME").as_str(), pipe.cell(time).as_str()),
            ("TIME", "2026-11-24T21:01:58.500000Z")
        );
        let of_another_offset = Times(Some((TimeZone::posix("XYZ-4:30").unwrap(), Offset::UTC)));
        assert_eq!(of_another_offset.cell(time), "2026-11-25 01:31:58+04:30");
    }

    #[test]
    fn a_date_without_a_zone_is_local_and_one_with_a_zone_is_not() {
        let zone = || TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").unwrap();
        for (text, wanted) in [
            ("2026-11-24", "2026-11-24T05:00:00Z"),
            ("20261124", "2026-11-24T05:00:00Z"),
            ("2026-11-24 21:01", "2026-11-25T02:01:00Z"),
            ("2026-11-24T21:01:58.5", "2026-11-25T02:01:58.5Z"),
            ("2026-07-01 12:00", "2026-07-01T16:00:00Z"),
            ("2026-11-24 21:01Z", "2026-11-24T21:01:00Z"),
            ("2026-11-24 21:01:58Z", "2026-11-24T21:01:58Z"),
            ("2026-11-24T01:00:00+01:00", "2026-11-24T00:00:00Z"),
            ("2026-11-24 01:00+01", "2026-11-24T00:00:00Z"),
            ("20261124T000000.000000000Z", "2026-11-24T00:00:00Z"),
            // This hour occurs twice; the other one is skipped.
            ("2026-11-01 01:30", "2026-11-01T05:30:00Z"),
            ("2026-03-08 02:30", "2026-03-08T07:30:00Z"),
        ] {
            assert_eq!(date(text, zone), Timestamp::parse(wanted), "{text}");
        }
        for text in [
            "",
            "24.11.2026",
            "1969-12-31",
            "2300-01-01",
            "2026-11-24 21:01 CET",
        ] {
            assert_eq!(date(text, zone), None, "{text}");
        }
    }

    #[test]
    fn a_time_may_be_how_long_ago_and_one_that_does_not_exist_is_refused() {
        for text in ["10m", "-10m"] {
            let passed = Timestamp::now().as_millis() - time(text).unwrap().as_millis();
            assert!((600_000..660_000).contains(&passed), "{text}: {passed}");
        }
        assert!(time("9000000years").unwrap_err().contains("at most 100y"));
        for text in ["2026-02-30", "2026-13-01", "2026-11-24T25:00:00Z"] {
            let says = time(text).unwrap_err();
            assert!(says.contains("is not a time that exists; write a time"), "{says}");
        }
        assert!(time("yesterday").is_err() && time("").is_err());
    }
}
