use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prodigy_storage_layout::{SegmentForm, SegmentName, Stamp, Timestamp};
use proptest::prelude::*;

use crate::strategy;

/// The time 2025-11-15T07:36:06Z, in seconds since 1970.
const SECONDS: i64 = 1_763_192_166;

fn at(nanos: i64) -> Timestamp {
    Timestamp::from_nanos(SECONDS * 1_000_000_000 + nanos)
}

#[test]
fn the_forms_of_other_programs() {
    for (text, nanos) in [
        ("20251115_073606", 0),
        ("20251115-073606", 0),
        ("20251115T073606Z", 0),
        ("20251115T073606", 0),
        ("20251115073606", 0),
        ("2025-11-15T07-36-06Z", 0),
        ("2025-11-15 07:36:06", 0),
        ("2025-11-15t07:36:06z", 0),
        ("2025-11-15T07:36:06.123+00:00", 123_000_000),
        ("2025-11-15T07-36-06.123456+00-00", 123_456_000),
        ("2025-11-15T07:36:06.1234567899Z", 123_456_789),
        ("2025-11-15T09:06:06+01:30", 0),
        ("2025-11-14T23:36:06-0800", 0),
        ("2025-11-14T23:36:06-08", 0),
        ("1763192166", 0),
        ("1763192166123", 123_000_000),
        ("1763192166123456", 123_456_000),
        ("1763192166123456789", 123_456_789),
    ] {
        let stamp = Stamp::parse(text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(stamp.time(), at(nanos), "{text}");
        assert_eq!(stamp.to_string(), text);
        assert!(!stamp.is_canonical(), "{text}");
        assert_eq!(Timestamp::parse(text), Some(at(nanos)), "{text}");
    }
    let midnight = Timestamp::parse("2025-11-15T00:00:00Z").unwrap();
    assert_eq!(Timestamp::parse("20251115"), Some(midnight));
    assert_eq!(Timestamp::parse("2025-11-15"), Some(midnight));
}

#[test]
fn a_leap_second_is_the_second_before_it() {
    assert_eq!(
        Timestamp::parse("2016-12-31T23:59:60Z"),
        Timestamp::parse("2016-12-31T23:59:59Z")
    );
    assert!(Timestamp::parse("2016-12-31T23:59:61Z").is_none());
}

#[test]
fn what_is_no_time() {
    for text in [
        "",
        "x",
        "1",
        "12345678",
        "20251315",
        "20250229_000000",
        "2025-11-15T",
        "2025-11-15T07",
        "2025-11-15T07:36",
        "2025-11-15T24:00:00Z",
        "2025-11-15T07:36:06.Z",
        "2025-11-15T07:36:06ZZ",
        "2025-11-15T07:36:06+24:00",
        "2025-11-15T07:36-06Z",
        "2025-1115",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+01:00",
        "2263-01-01",
        "17631921661",
        "99999999999999",
        "9999999999999999999",
        "20251115T073606Z/..",
        "20251115T073606Z\0",
        "2025-11-15T07:36:06\u{661}",
        "-763192166",
        "+1763192166",
        " 20251115",
        "20251115T073606Z\n",
    ] {
        assert_eq!(Timestamp::parse(text), None, "{text:?}");
        assert_eq!(Stamp::parse(text), None, "{text:?}");
    }
    let long = format!("2025-11-15T07:36:06.{}Z", "1".repeat(60));
    assert_eq!(Stamp::parse(&long), None);
}

#[test]
fn the_ends_of_time() {
    assert_eq!(Timestamp::from_nanos(-1), Timestamp::MIN);
    assert_eq!(Timestamp::from_millis(i64::MIN), Timestamp::MIN);
    assert_eq!(Timestamp::from_millis(i64::MAX), Timestamp::MAX);
    assert_eq!(Timestamp::MAX.next(), Timestamp::MAX);
    assert_eq!(Timestamp::MIN.next().as_nanos(), 1);
    assert_eq!(Timestamp::MIN.to_string(), "19700101T000000.000000000Z");
    assert_eq!(Timestamp::MAX.to_string(), "22620411T234716.854775807Z");
    assert_eq!(
        Timestamp::from(UNIX_EPOCH - Duration::from_secs(1)),
        Timestamp::MIN
    );
    assert_eq!(
        Timestamp::from(UNIX_EPOCH + Duration::from_nanos(5)).as_nanos(),
        5
    );
    let before = SystemTime::now();
    let now = Timestamp::now();
    assert!(Timestamp::from(before) <= now && now <= Timestamp::from(SystemTime::now()));
}

#[test]
fn texts_of_a_time() {
    let time = at(123_456_789);
    assert_eq!(time.to_string(), "20251115T073606.123456789Z");
    assert_eq!(time.to_rfc3339(), "2025-11-15T07:36:06.123456Z");
    assert_eq!(time.as_millis(), SECONDS * 1000 + 123);
    assert_eq!(
        serde_json::to_string(&time).unwrap(),
        "\"2025-11-15T07:36:06.123456789Z\""
    );
    assert!(serde_json::from_str::<Timestamp>("\"yesterday\"").is_err());
    assert!("yesterday".parse::<Timestamp>().is_err());
}

#[test]
fn stamps_of_one_time_are_ordered_but_not_equal() {
    let canonical = Stamp::from(at(0));
    let [one, other] = ["1763192166", "20251115_073606"].map(|text| Stamp::parse(text).unwrap());
    assert!(canonical < one && one < other && other < Stamp::from(at(1)));
}

#[test]
fn segment_names() {
    let (name, form) = SegmentName::parse("events-20251115T073606.000000000Z.jsonl.zst").unwrap();
    assert_eq!(
        (name.lower(), name.made(), form),
        (at(0), at(0), SegmentForm::Zstd)
    );
    assert_eq!(name, SegmentName::new(at(0), at(0)));

    let late = SegmentName::new(at(0), at(7));
    assert_eq!(
        late.stem(),
        "events-20251115T073606.000000000Z-20251115T073606.000000007Z"
    );
    assert_eq!(SegmentName::from_stem(late.stem()), Some(late.clone()));
    assert!(late.is_canonical() && name < late && late < SegmentName::new(at(1), at(1)));

    for (file, form) in [
        ("events-20251115-073606.jsonl", SegmentForm::Plain),
        ("events-2025-11-15T07-36-06Z.jsonl.gz", SegmentForm::Gzip),
    ] {
        let (name, found) = SegmentName::parse(file).unwrap();
        assert_eq!((name.lower(), name.made(), found), (at(0), at(0), form));
        assert!(!name.is_canonical());
        assert_eq!(name.file_name(form), file);
    }
    for file in [
        "events-.jsonl",
        "events-x.jsonl",
        "event-20251115_073606.jsonl",
        "events-20251115_073606.json",
        "events-20251115_073606.jsonl.bz2",
        "events-20251115_073606.jsonl.zst.jsonl",
        ".events-20251115_073606.jsonl",
        // The lower bound and the creation time are equal, which is only valid in the short form; or one of them is not
        // canonical.
        "events-20251115T073606.000000000Z-20251115T073606.000000000Z.jsonl",
        "events-20251115T073606.000000000Z-20251115_073606.jsonl",
        "events-20251115_073606-20251115T073606.000000000Z.jsonl",
    ] {
        assert_eq!(SegmentName::parse(file), None, "{file}");
    }
}

#[test]
fn the_canonical_form_is_one_of_digits_and_letters_in_their_places() {
    let good = "20251115T073606.123456789Z";
    assert!(Stamp::is_canonical_form(good));
    for at in 0..good.len() {
        let mut text = good.to_owned();
        text.replace_range(at..=at, "x");
        assert!(!Stamp::is_canonical_form(&text), "{text}");
        assert!(!Stamp::is_canonical_form(&good[at + 1..]));
    }
    assert!(!Stamp::is_canonical_form(&format!("{good}0")));
    // A leap second has the canonical form, but is read as the second before it.
    let leap = Stamp::parse("20161231T235960.000000000Z").unwrap();
    assert!(!leap.is_canonical());
    assert_eq!(leap.to_string(), "20161231T235960.000000000Z");
}

proptest! {
    #[test]
    fn texts_of_the_canonical_form_sort_as_their_stamps(
        one in "20[0-9]{2}(0[1-9]|1[0-3])[0-3][0-9]T[0-2][0-9][0-6][0-9][0-6][0-9]\\.[0-9]{9}Z",
        other in strategy::time(),
    ) {
        let other = other.to_string();
        prop_assert!(Stamp::is_canonical_form(&one) && Stamp::is_canonical_form(&other));
        if let Some(stamp) = Stamp::parse(&one) {
            prop_assert_eq!(stamp.is_canonical(), stamp.time().to_string() == one);
            let ours = Stamp::parse(&other).unwrap();
            prop_assert!(ours.is_canonical());
            prop_assert!(one > other || stamp <= ours);
            prop_assert!(one <= other || !stamp.is_canonical() || stamp > ours);
        }
    }

    #[test]
    fn text_sorts_as_time(one in strategy::time(), other in strategy::time()) {
        prop_assert_eq!(one.to_string().cmp(&other.to_string()), one.cmp(&other));
        prop_assert!(one == Timestamp::MAX || one.next().to_string() > one.to_string());
    }

    #[test]
    fn a_time_is_read_back_from_each_text(time in strategy::time()) {
        prop_assert_eq!(time.to_string().len(), 26);
        prop_assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
        let json = serde_json::to_string(&time).unwrap();
        prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
        let micros = Timestamp::from_nanos(time.as_nanos() / 1000 * 1000);
        prop_assert_eq!(Timestamp::parse(&time.to_rfc3339()), Some(micros));
        let mut bytes = Vec::new();
        time.write_rfc3339(&mut bytes);
        prop_assert_eq!(bytes, time.to_rfc3339().into_bytes());
        prop_assert!(Stamp::parse(&time.to_string()).unwrap() == Stamp::from(time));
    }

    #[test]
    fn a_stamp_is_read_back_from_its_text(stamp in strategy::stamp()) {
        let text = stamp.to_string();
        let read = Stamp::parse(&text).unwrap();
        prop_assert_eq!(&read, &stamp);
        prop_assert_eq!(read.is_canonical(), stamp.is_canonical());
        prop_assert_eq!(serde_json::from_str::<Stamp>(&serde_json::to_string(&stamp).unwrap()).unwrap(), stamp);
    }

    #[test]
    fn any_text_is_no_stamp_or_kept(text in "[0-9TZtz:+., _-]{0,40}") {
        if let Some(stamp) = Stamp::parse(&text) {
            prop_assert_eq!(stamp.to_string(), text);
        }
    }

    #[test]
    fn a_segment_is_read_back_from_its_name(segment in strategy::segment()) {
        for form in SegmentForm::ALL {
            let (read, found) = SegmentName::parse(&segment.file_name(form)).unwrap();
            prop_assert_eq!(&read, &segment);
            prop_assert_eq!(found, form);
            prop_assert_eq!((read.lower(), read.made()), (segment.lower(), segment.made()));
        }
    }

    #[test]
    fn segments_are_ordered_by_lower_bound_then_by_making(one in strategy::segment(), other in strategy::segment()) {
        let key = |segment: &SegmentName| (segment.lower(), segment.made());
        if key(&one) != key(&other) {
            prop_assert_eq!(one.cmp(&other), key(&one).cmp(&key(&other)));
        }
        prop_assert_eq!(one == other, one.stem() == other.stem());
    }
}

#[test]
fn a_time_of_jiff_outside_the_range_becomes_its_end() {
    for (time, expected) in [
        (jiff::Timestamp::MIN, Timestamp::MIN),
        (jiff::Timestamp::UNIX_EPOCH, Timestamp::MIN),
        (jiff::Timestamp::MAX, Timestamp::MAX),
        (jiff::Timestamp::from(Timestamp::MAX), Timestamp::MAX),
    ] {
        assert_eq!(Timestamp::from(time), expected, "{time}");
    }
}
