//! Pushes of an item whose key is stored already.

use super::*;

#[test]
fn a_push_adds_to_the_stored_item() {
    let value = merged(
        r#"{"item_id":"a","item_data":1,"first_attempt":"2026-01-01T00:00:00Z","last_attempt":"2026-01-02T00:00:00Z",
            "failure_history":[{"error_type":"A"}],"worktree_artifacts":{"branch_name":"b"},"old":1,"both":1}"#,
        r#"{"item_id":"a","item_data":2,"last_attempt":"2026-01-01T12:00:00Z","reprocess_eligible":false,
            "failure_history":[{"error_type":"B"},{"error_type":"C"}],"both":2,"new":2}"#,
    );
    assert_eq!(value["item_data"], 2);
    assert_eq!(value["first_attempt"], "2026-01-01T00:00:00Z");
    assert_eq!(value["last_attempt"], "2026-01-02T00:00:00Z");
    assert_eq!(value["failure_count"], 3);
    assert_eq!(
        failures(&value),
        [("A".into(), 1), ("B".into(), 2), ("C".into(), 3)]
    );
    assert_eq!(value["error_signature"], "C");
    assert_eq!(value["worktree_artifacts"], json!({"branch_name":"b"}));
    assert_eq!(value["reprocess_eligible"], false);
    assert_eq!(
        (&value["old"], &value["both"], &value["new"]),
        (&json!(1), &json!(2), &json!(2))
    );
}

#[test]
fn a_push_without_failures_is_an_attempt_only_at_a_time_of_its_own() {
    let stored = r#"{"item_id":"a","item_data":1,"failure_history":[{"error_type":"A"}],"failure_count":4}"#;
    let value = merged(
        stored,
        r#"{"item_id":"a","item_data":1,"last_attempt":"2030-01-01T00:00:00Z"}"#,
    );
    assert_eq!(
        (&value["failure_count"], &value["last_attempt"]),
        (&json!(5), &json!("2030-01-01T00:00:00Z"))
    );
    assert_eq!(failures(&value), [("A".into(), 4)]);
    assert_eq!(value["error_signature"], "A");
    // A push without a time is no attempt: only its other fields are merged.
    let value = merged(stored, r#"{"item_id":"a","item_data":2,"x":3}"#);
    assert_eq!(
        (&value["failure_count"], &value["item_data"], &value["x"]),
        (&json!(4), &json!(2), &json!(3))
    );
    assert_eq!(value["last_attempt"], "2027-01-15T08:00:00.000000000Z");
    // The same item again changes nothing.
    for item in [
        r#"{"item_id":"a","item_data":1}"#,
        r#"{"item_id":"a","item_data":1,"failure_count":7,"x":[]}"#,
    ] {
        assert_eq!(pushed(item, item), None, "{item}");
    }
}

/// This happens when a file is imported twice, or a command is run twice.
#[test]
fn the_same_failure_without_a_time_counts_once() {
    let letter = |failure: &str| format!(r#"{{"item_id":"a","item_data":1,"failure_history":[{failure}]}}"#);
    let one = r#"{"error_type":"A","error_message":"m","agent_id":null}"#;
    let cases = [
        (one, None),
        (r#"{"error_message":"m","error_type":"A"}"#, None),
        (
            r#"{"error_type":"A","error_message":"m","attempt_number":1}"#,
            None,
        ),
        (
            r#"{"error_type":"A","error_message":"m"},{"error_type":"A","error_message":"m"}"#,
            None,
        ),
        (
            r#"{"error_type":"A","error_message":"m","attempt_number":2}"#,
            Some(2),
        ),
        (
            r#"{"error_type":"A","error_message":"m","timestamp":"2026-01-01T00:00:00Z"}"#,
            Some(2),
        ),
        (r#"{"error_type":"A","error_message":"other"}"#, Some(2)),
        (
            r#"{"error_type":"A","error_message":"m","agent_id":"x"}"#,
            Some(2),
        ),
        (
            r#"{"error_type":"B"},{"error_type":"A","error_message":"m"},{"error_type":"B"}"#,
            Some(2),
        ),
    ];
    for (failures, expected) in cases {
        let found = pushed(&letter(one), &letter(failures));
        let found = found.map(|item| item["failure_count"].as_u64().unwrap());
        assert_eq!(found, expected, "{failures}");
    }
}

#[test]
fn the_attempts_have_the_times_of_their_failures() {
    let failure = |time: &str| format!(r#"{{"error_type":"A","timestamp":"{time}"}}"#);
    let (early, late) = ("2024-01-01T00:00:00Z", "2025-06-01T00:00:00Z");
    let times = |fields: &str| {
        let item = normalise(&raw(&format!(r#"{{"item_id":"a","item_data":1,{fields}}}"#))).unwrap();
        let value: Value = serde_json::from_str(first(&item.body, now()).unwrap().get()).unwrap();
        let of = |name: &str| value[name].as_str().unwrap().to_owned();
        (of("first_attempt"), of("last_attempt"))
    };
    let both = format!("{},{}", failure(late), failure(early));
    assert_eq!(
        times(&format!(r#""failure_history":[{both}]"#)),
        (early.into(), late.into())
    );
    // A failure without a time gets the present time.
    let (first, last) = times(&format!(r#""failure_history":[{both},{{}}]"#));
    assert_eq!(
        (first.as_str(), last.as_str()),
        (early, "2027-01-15T08:00:00.000000000Z")
    );
    // Given times are kept.
    assert_eq!(
        times(&format!(r#""last_attempt":"{late}""#)),
        (late.into(), late.into())
    );
    let given =
        format!(r#""first_attempt":"2020-01-01T00:00:00Z","last_attempt":"{late}","failure_history":[{{}}]"#);
    assert_eq!(times(&given), ("2020-01-01T00:00:00Z".into(), late.into()));
    // A new failure sets `last_attempt` to its time, unless it is earlier than the stored one.
    let stored = format!(
        r#"{{"item_id":"a","item_data":1,"failure_history":[{}]}}"#,
        failure("2025-01-01T00:00:00Z")
    );
    for (time, expected) in [(late, late), (early, "2025-01-01T00:00:00Z")] {
        let push = format!(
            r#"{{"item_id":"a","item_data":1,"failure_history":[{}]}}"#,
            failure(time)
        );
        let value = merged(&stored, &push);
        assert_eq!(
            (&value["first_attempt"], &value["last_attempt"]),
            (&json!("2025-01-01T00:00:00Z"), &json!(expected))
        );
    }
}

/// A failure that a worker reports is always new, even if the history has an equal failure.
#[test]
fn a_failure_of_a_worker_counts_without_a_time() {
    for failures in [r#"[{"error_type":"A"}]"#, "[]"] {
        let item = format!(r#"{{"item_id":"a","item_data":1,"failure_history":{failures}}}"#);
        let item = normalise(&raw(&item)).unwrap();
        let stored = first(&item.body, now()).unwrap();
        let failed = fail(&stored, &item.body, later())
            .unwrap()
            .expect("another failure");
        let found = facts(&failed).unwrap();
        assert_eq!(
            (found.failure_count, found.last_attempt),
            (2, Some(later())),
            "{failures}"
        );
    }
}

#[test]
fn a_failure_gets_its_number_and_its_time() {
    let text = r#"{"item_id":"a","item_data":1,"last_attempt":"2026-01-02T00:00:00Z","failure_count":9,
        "failure_history":[{"error_type":"A"},{"attempt_number":20,"error_type":"B","timestamp":"2026-01-01T00:00:00Z"},{"error_type":"C","attempt_number":null}]}"#;
    let item = normalise(&raw(text)).unwrap();
    let value: Value = serde_json::from_str(first(&item.body, now()).unwrap().get()).unwrap();
    assert_eq!(
        failures(&value),
        [("A".into(), 7), ("B".into(), 20), ("C".into(), 21)]
    );
    let times = [
        "2026-01-02T00:00:00Z",
        "2026-01-01T00:00:00Z",
        "2026-01-02T00:00:00Z",
    ];
    for (failure, time) in value["failure_history"].as_array().unwrap().iter().zip(times) {
        assert_eq!(failure["timestamp"], time);
    }
    // New failures are numbered after the last number and the count.
    let one = r#"{"item_id":"a","item_data":1,"failure_history":[{"error_type":"A","attempt_number":3}]}"#;
    let more = r#"{"item_id":"a","item_data":1,"failure_history":[{"error_type":"B"},{"error_type":"C"}]}"#;
    assert_eq!(
        failures(&merged(one, more)),
        [("A".into(), 3), ("B".into(), 4), ("C".into(), 5)]
    );
    let counted = r#"{"item_id":"a","item_data":1,"failure_count":7}"#;
    assert_eq!(
        failures(&merged(counted, more)),
        [("B".into(), 8), ("C".into(), 9)]
    );
}

#[test]
fn a_failure_that_is_in_the_history_counts_once() {
    let at = |second: u32, rest: &str| format!(r#"{{"timestamp":"2026-01-01T00:00:{second:02}Z",{rest}}}"#);
    let letter = |failures: &[String]| {
        format!(
            r#"{{"item_id":"a","item_data":1,"failure_history":[{}]}}"#,
            failures.join(",")
        )
    };
    let one = letter(&[at(1, r#""error_type":"A""#)]);
    let cases = [
        // The same push again, also with the number that the queue gave the failure.
        (&[at(1, r#""error_type":"A""#)][..], None),
        (&[at(1, r#""error_type":"A","attempt_number":1"#)], None),
        (&[at(1, r#""attempt_number":1,"error_type":"more words""#)], None),
        // A failure with another time, with another number, or another failure at the same time.
        (&[at(2, r#""error_type":"A""#)], Some(2)),
        (&[at(1, r#""error_type":"A","attempt_number":2"#)], Some(2)),
        (&[at(1, r#""error_type":"B""#)], Some(2)),
        // A push with a longer history, or with the same failure twice.
        (
            &[at(1, r#""error_type":"A""#), at(2, r#""error_type":"B""#)],
            Some(2),
        ),
        (
            &[at(2, r#""error_type":"B""#), at(2, r#""error_type":"B""#)],
            Some(2),
        ),
    ];
    for (failures, expected) in cases {
        let found = pushed(&one, &letter(failures));
        let found = found.map(|item| item["failure_count"].as_u64().unwrap());
        assert_eq!(found, expected, "{failures:?}");
    }
    // A failure that is not the last one is recognised too, even if its time is written in another form.
    let two = letter(&[at(1, r#""error_type":"A""#), at(2, r#""error_type":"B""#)]);
    let again = letter(&[r#"{"error_type":"A","timestamp":"2026-01-01T00:00:01.000000000Z"}"#.into()]);
    assert!(pushed(&two, &again).is_none());
}

#[test]
fn a_letter_pushed_twice_leaves_the_item_as_it_is() {
    let letter = DeadLetter::new(ItemId::new("a").unwrap(), 1).failure(Failure::new("T", "m"));
    let item = letter.to_item().unwrap();
    let stored = first(&item.body, now()).unwrap();
    assert!(merge(&stored, &item.body, later()).unwrap().is_none());
}
