//! Tests of the time of an event: it is the clock's time at the append. Scans by time use it, whatever the ids are.

use std::sync::Arc;

use prodigy_storage_backend::{ScanItem, ScanOptions, record};
use prodigy_storage_layout::Timestamp;

use super::support::{Hand, NEVER, Place, at, drain, id, ids, line, mode, name, payloads, set_mode};
use crate::doctor::{Doctor, DoctorScope, Finding, FindingKind};
use crate::log::Logs;

const SECOND: i64 = 1_000;
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// The time from the start of the tests' clock (January 2027) to about the year 2100, in milliseconds.
const FAR: i64 = 27_000 * DAY;

impl Place {
    /// Opens the store as another process with the same options, and with a clock of its own.
    fn at(&self, millis: i64) -> (Arc<Logs>, Arc<Hand>) {
        let clock = Arc::new(Hand::at(millis));
        (
            self.with(self.options().clock(clock.clone()).compression(true)),
            clock,
        )
    }

    fn between(&self, store: &Arc<Logs>, since: Option<i64>, until: Option<i64>) -> Vec<String> {
        let options = ScanOptions::all().between(since.map(at), until.map(at));
        payloads(&drain(&mut *self.scan(store, &options)))
    }

    /// The times and the payloads of all events.
    fn times(&self, store: &Arc<Logs>) -> Vec<(Timestamp, String)> {
        let mut scan = self.scan(store, &ScanOptions::all());
        let mut times = Vec::new();
        while let Some(item) = scan.next().unwrap() {
            if let ScanItem::Record(record) = item {
                let event: serde_json::Value = record.parse_event().unwrap().event;
                times.push((record.time(), event.as_str().unwrap().to_owned()));
            }
        }
        times
    }

    /// The times in each plain segment, in the order of its lines.
    fn segments(&self) -> Vec<Vec<Timestamp>> {
        let plain = self.files().into_iter().filter(|file| file.ends_with(".jsonl"));
        plain
            .map(|file| {
                let bytes = std::fs::read(self.log().join(file)).unwrap();
                let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                lines
                    .map(|line| record::read_line(line).unwrap().time())
                    .collect()
            })
            .collect()
    }
}

#[test]
fn one_event_of_the_year_2100_dates_no_later_one() {
    let place = Place::new();
    let (wrong, _) = place.at(FAR);
    place.append(&wrong, &["far"]).unwrap();
    drop(wrong);
    let (store, clock) = place.at(0);
    for payload in ["0", "1", "2"] {
        place.append(&store, &[payload]).unwrap();
        clock.turn(HOUR);
    }
    let expected = [(FAR, "far"), (0, "0"), (HOUR, "1"), (2 * HOUR, "2")];
    let expected: Vec<_> = expected
        .map(|(millis, payload)| (at(millis), payload.to_owned()))
        .into();
    assert_eq!(
        place.times(&store),
        expected,
        "in the order of ids, at their true times"
    );
    for compressed in [false, true] {
        if compressed {
            place.seal(&store);
            store.flush(NEVER).unwrap();
        }
        assert_eq!(place.between(&store, Some(2 * HOUR), Some(DAY)), ["2"]);
        assert_eq!(place.between(&store, Some(HOUR), None), ["far", "1", "2"]);
        assert_eq!(place.between(&store, None, Some(DAY)), ["0", "1", "2"]);
        assert_eq!(place.between(&store, None, Some(HOUR)), ["0"]);
        assert_eq!(place.between(&store, Some(DAY), Some(FAR)), [] as [&str; 0]);
        assert_eq!(place.between(&store, Some(FAR), None), ["far"]);
    }
}

#[test]
fn a_newest_id_more_than_an_hour_ahead_is_a_warning_of_the_doctor_and_appending_continues() {
    for (ahead, warned) in [
        (0, false),
        (HOUR - SECOND, false),
        (HOUR + SECOND, true),
        (FAR, true),
    ] {
        let place = Place::new();
        let (wrong, _) = place.at(ahead);
        place.append(&wrong, &["ahead"]).unwrap();
        drop(wrong);
        let (store, _) = place.at(0);
        place.append(&store, &["now"]).unwrap();
        let doctor = Doctor::new(place.options()).unwrap();
        let mut findings = Vec::new();
        let mut told = |finding: Finding| findings.push(finding);
        doctor.examine(&DoctorScope::all(), &mut told).unwrap();
        let told = findings
            .iter()
            .filter(|finding| finding.kind == FindingKind::AheadOfClock);
        assert_eq!(
            told.count(),
            usize::from(warned),
            "{ahead} ms ahead: {findings:?}"
        );
        let now = place
            .times(&store)
            .into_iter()
            .find(|(_, payload)| payload == "now");
        assert_eq!(now.map(|(time, _)| time), Some(at(0)), "{ahead} ms ahead");
    }
}

#[test]
fn a_step_back_of_a_second_is_clamped_and_a_larger_one_begins_a_segment() {
    let place = Place::new();
    let store = place.store();
    place.append(&store, &["a"]).unwrap();
    place.clock.turn(-SECOND);
    place.append(&store, &["b"]).unwrap();
    assert_eq!(
        place.segments(),
        [[at(0), at(0)]],
        "the second event keeps the first one's time"
    );
    place.clock.turn(-1);
    place.append(&store, &["c"]).unwrap();
    assert_eq!(place.segments(), [vec![at(0), at(0)], vec![at(-SECOND - 1)]]);
    assert_eq!(mode(&place.log().join(&place.files()[0])), 0o400);
    place.clock.turn(DAY);
    place.append(&store, &["d"]).unwrap();
    assert_eq!(place.segments()[1], [at(-SECOND - 1), at(DAY - SECOND - 1)]);
    assert_eq!(place.payloads(&store), ["a", "b", "c", "d"]);
}

#[test]
fn a_step_back_begins_a_segment_for_given_ids_as_well() {
    let place = Place::new();
    let store = place.store();
    place.append(&store, &["main"]).unwrap();
    place.give(&store, &[(id(-5), "late")]).unwrap();
    place.clock.turn(-2 * SECOND);
    place.give(&store, &[(id(-4), "later"), (id(20), "new")]).unwrap();
    for times in place.segments() {
        assert!(times.is_sorted(), "{times:?}");
    }
    let late: Vec<_> = place
        .times(&store)
        .into_iter()
        .filter(|(_, payload)| payload != "main")
        .collect();
    let expected = [(0, "late"), (-2 * SECOND, "later"), (-2 * SECOND, "new")];
    assert_eq!(
        late,
        expected.map(|(millis, payload)| (at(millis), payload.to_owned()))
    );
}

#[test]
fn a_segment_that_ends_in_the_future_is_not_adopted() {
    for (ahead, adopted) in [(0, true), (SECOND, true), (SECOND + 1, false), (FAR, false)] {
        let place = Place::new();
        let path = place.plant(&name(0, 0), line(id(ahead), "ahead"));
        set_mode(&path, 0o600);
        let store = place.store();
        place.append(&store, &["now"]).unwrap();
        assert_eq!(
            place.files().len(),
            if adopted { 1 } else { 2 },
            "{ahead} ms ahead"
        );
        assert_eq!(
            mode(&path),
            if adopted { 0o600 } else { 0o400 },
            "{ahead} ms ahead"
        );
        assert_eq!(place.payloads(&store), ["ahead", "now"], "{ahead} ms ahead");
        // The time in an id may be ahead of the clock by up to an hour.
        let now = place.times(&store)[1].0;
        assert_eq!(now, at(if adopted { ahead } else { 0 }));
    }
}

#[test]
fn a_torn_end_of_a_segment_in_the_future_is_mended_before_it_is_sealed() {
    let place = Place::new();
    let mut bytes = line(id(FAR), "ahead");
    let whole = bytes.len();
    bytes.extend_from_slice(b"{\"id\":\"torn");
    let path = place.plant(&name(0, 0), &bytes);
    let store = place.store();
    place.append(&store, &["now"]).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), &bytes[..whole]);
    assert_eq!(place.items(&store).len(), 2, "no damage stays behind");
}

#[test]
fn scans_by_time_find_what_a_look_at_every_event_finds() {
    for compression in [false, true] {
        let place = Place::new();
        let open = |clock: &Arc<Hand>| {
            let options = place.options().clock(clock.clone()).max_file_size(1_500);
            place.with(options.compression(compression))
        };
        let clock = Arc::new(Hand::at(0));
        let mut stores = [open(&clock), open(&clock)];
        let mut random = fastrand::Rng::with_seed(11);
        // Records of format 1: the time of each is the one in its id.
        place.plant(
            &name(-90, -90),
            (0..30).flat_map(|n| line(id(n - 90), "old")).collect::<Vec<u8>>(),
        );
        for n in 0..300 {
            clock.turn(random.i64(-1_800..2_000));
            let store = &stores[random.usize(..2)];
            let payloads: Vec<String> = (0..random.usize(1..4)).map(|k| format!("{n}.{k}")).collect();
            let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
            place.relaxed(store, &payloads).unwrap();
            if random.u8(..) < 8 {
                stores[random.usize(..2)] = open(&clock);
            }
        }
        let store = place.store();
        stores[0].flush(NEVER).unwrap();
        stores[1].flush(NEVER).unwrap();
        for times in place.segments() {
            assert!(times.is_sorted(), "{times:?}");
        }
        let all = place.times(&store);
        assert!(all.len() > 300);
        for _ in 0..60 {
            let pick = |random: &mut fastrand::Rng| all[random.usize(..all.len())].0;
            let (since, until) = (pick(&mut random), pick(&mut random));
            for (since, until) in [
                (Some(since), None),
                (None, Some(until)),
                (Some(since), Some(until)),
            ] {
                let options = ScanOptions::all().between(since, until);
                let mut scan = place.scan(&store, &options);
                let found = payloads(&drain(&mut *scan));
                let asked = |time: Timestamp| {
                    since.is_none_or(|since| time >= since) && until.is_none_or(|until| time < until)
                };
                let expected: Vec<_> = all
                    .iter()
                    .filter(|(time, _)| asked(*time))
                    .map(|(_, payload)| payload.clone())
                    .collect();
                assert_eq!(
                    found, expected,
                    "{since:?} until {until:?}, compression {compression}"
                );
            }
        }
    }
}

#[test]
fn a_cursor_behind_a_scan_until_a_time_goes_on_with_the_rest() {
    for compression in [false, true] {
        let place = Place::new();
        let clock = Arc::new(Hand::at(0));
        let options = place.options().clock(clock.clone()).max_file_size(700);
        let store = place.with(options.compression(compression));
        let mut stored = Vec::new();
        for n in 0..40 {
            // The clock moves forward twice and then back, so that the order of times differs from the order of ids.
            clock.turn(if n % 3 == 2 { -40 * SECOND } else { 30 * SECOND });
            place.append(&store, &[&format!("{n}")]).unwrap();
        }
        store.flush(NEVER).unwrap();
        stored.extend(ids(&place.items(&store)));
        let mut followed = Vec::new();
        let options = ScanOptions::all().between(None, Some(at(150 * SECOND)));
        let mut scan = place.scan(&store, &options);
        followed.extend(ids(&drain(&mut *scan)));
        assert!(!followed.is_empty() && followed.len() < stored.len());
        let (rest, _) = place.after(&store, Some(scan.cursor()));
        followed.extend(ids(&rest));
        followed.sort();
        assert_eq!(followed, stored, "each once, compression {compression}");
    }
}
