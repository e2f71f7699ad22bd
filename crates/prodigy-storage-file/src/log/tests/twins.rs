//! Tests of segments whose two forms hold different events, as format 1 could leave them.

use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::ScanOptions;
use prodigy_storage_layout::events_folder;

use super::super::listing;
use super::support::{NEVER, Place, id, ids, lines, name, payloads, set_mode};
use crate::doctor::{Doctor, DoctorScope, Finding, FindingKind, FindingOutcome};
use crate::log::Logs;

impl Place {
    /// A log with one segment, whose compressed form holds the events `a1` and `a3`, and whose plain form `b2` and
    /// `b4`.
    fn with_two_forms(&self) -> Arc<Logs> {
        let path = self.plant(&name(0, 0), lines([(id(1), "a1"), (id(3), "a3")]));
        set_mode(&path, 0o400);
        // A writer compresses the segment, because it is sealed.
        let writer = self.with(self.options().compression(true));
        self.clock.turn(1_000);
        self.append(&writer, &["newest"]).unwrap();
        writer.flush(NEVER).unwrap();
        assert!(!path.exists(), "{:?}", self.files());
        drop(writer);
        let path = self.plant(&name(0, 0), lines([(id(2), "b2"), (id(4), "b4")]));
        set_mode(&path, 0o600);
        self.store()
    }

    fn doctor(&self, repair: bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        let doctor = Doctor::new(self.options()).unwrap();
        let mut told = |finding| findings.push(finding);
        if repair {
            doctor
                .repair(&DoctorScope::all(), Duration::ZERO, &mut told)
                .unwrap();
        } else {
            doctor.examine(&DoctorScope::all(), &mut told).unwrap();
        }
        findings
    }
}

const ALL: [&str; 5] = ["a1", "b2", "a3", "b4", "newest"];

#[test]
fn readers_return_the_events_of_both_forms() {
    let place = Place::new();
    let store = place.with_two_forms();
    assert_eq!(place.payloads(&store), ALL);
    // A cursor from the middle continues in both forms.
    let mut cursor = None;
    let mut followed = Vec::new();
    for _ in 0..ALL.len() {
        let options = cursor.map_or_else(ScanOptions::all, ScanOptions::after);
        let mut scan = place.scan(&store, &options);
        followed.extend(super::support::take(&mut *scan).unwrap());
        cursor = Some(scan.cursor());
    }
    assert_eq!(payloads(&followed), ALL);
    assert!(place.after(&store, cursor).0.is_empty());
}

#[test]
fn an_id_in_either_form_is_stored_and_new_ids_lie_above_both() {
    let place = Place::new();
    let store = place.with_two_forms();
    let events = [(id(1), "a1"), (id(2), "b2"), (id(3), "a3"), (id(5), "new")];
    let appended = place.give(&store, &events).unwrap();
    assert_eq!((appended.stored, appended.duplicates), (1, 3));
    let place = Place::new();
    place.with_two_forms();
    let store = place.store();
    place.append(&store, &["next"]).unwrap();
    let all = ids(&place.items(&store));
    assert!(all.is_sorted_by(|a, b| a < b), "{all:?}");
    let plain = std::fs::read(place.log().join(name(0, 0))).unwrap();
    assert_eq!(
        plain,
        lines([(id(2), "b2"), (id(4), "b4")]),
        "it is not written to"
    );
}

#[test]
fn the_doctor_tells_of_two_forms_and_a_repair_loses_neither() {
    let place = Place::new();
    let store = place.with_two_forms();
    // A follower has read a part of each form.
    let mut scan = place.scan(&store, &ScanOptions::all());
    for _ in 0..2 {
        super::support::take(&mut *scan).unwrap();
    }
    let cursor = scan.cursor();
    drop(scan);
    let findings = place.doctor(false);
    let told = findings
        .iter()
        .find(|finding| finding.why.contains("plain segment of the same name"));
    assert!(
        told.is_some_and(|finding| finding.kind == FindingKind::TwoForms && finding.lost == "nothing"),
        "{findings:?}"
    );
    let findings = place.doctor(true);
    assert!(
        findings
            .iter()
            .any(|finding| matches!(finding.outcome, FindingOutcome::Repaired { .. })),
        "{findings:?}"
    );
    assert!(
        place.files().iter().all(|file| !file.ends_with(".zst")),
        "{:?}",
        place.files()
    );
    let plain = std::fs::read(place.log().join(name(0, 0))).unwrap();
    assert_eq!(
        plain,
        lines([(id(1), "a1"), (id(2), "b2"), (id(3), "a3"), (id(4), "b4")])
    );
    assert_eq!(place.payloads(&place.store()), ALL);
    assert_eq!(
        payloads(&place.after(&place.store(), Some(cursor)).0),
        ALL[2..],
        "each once"
    );
    assert!(
        place
            .doctor(false)
            .iter()
            .all(|finding| !finding.why.contains("same name"))
    );
}

#[test]
fn a_repair_that_was_cut_short_is_ended_by_the_next_one() {
    let place = Place::new();
    let store = place.with_two_forms();
    // The plain form already has the events of both forms.
    place.plant(
        &name(0, 0),
        lines([(id(1), "a1"), (id(2), "b2"), (id(3), "a3"), (id(4), "b4")]),
    );
    assert_eq!(place.payloads(&store), ALL);
    place.doctor(true);
    assert_eq!(place.payloads(&place.store()), ALL);
    assert!(
        place.files().iter().all(|file| !file.ends_with(".zst")),
        "{:?}",
        place.files()
    );
}

#[test]
fn a_compression_that_died_before_its_end_is_no_second_segment() {
    let place = Place::new();
    let store = place.with_two_forms();
    let path = place.plant(&name(0, 0), lines([(id(1), "a1"), (id(3), "a3")]));
    set_mode(&path, 0o400);
    let folder = events_folder(&place.job);
    let listing = listing::list(&store.root, &folder, NEVER).unwrap();
    assert!(
        listing.segments.keys().all(|name| name.twin_form().is_none()),
        "{listing:?}"
    );
    assert_eq!(place.payloads(&store), ["a1", "a3", "newest"]);
}
