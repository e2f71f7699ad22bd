mod push;

use std::time::Duration;

use prodigy_storage_layout::Timestamp;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;
use crate::error::ErrorKind;
use crate::queue::{Change, Eligible, ItemId, QueueItem, Select};

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000)
}

fn normal(json: &str) -> Value {
    serde_json::from_str(normalise(&raw(json)).unwrap().body.get()).unwrap()
}

/// The stored item after another push of it; `None` if the push changes nothing.
fn pushed(stored: &str, pushed: &str) -> Option<Value> {
    let stored = normalise(&raw(stored)).unwrap().body;
    let stored = first(&stored, now()).unwrap();
    let merged = merge(&stored, &raw(pushed), later()).unwrap();
    merged.map(|body| serde_json::from_str(body.get()).unwrap())
}

fn merged(stored: &str, push: &str) -> Value {
    pushed(stored, push).unwrap()
}

fn later() -> Timestamp {
    Timestamp::from_millis(now().as_millis() + 1000)
}

/// The error type and the number of each failure of an item.
fn failures(item: &Value) -> Vec<(String, u64)> {
    let of = |failure: &Value| {
        let kind = failure["error_type"].as_str().unwrap().to_owned();
        (kind, failure["attempt_number"].as_u64().unwrap())
    };
    item["failure_history"]
        .as_array()
        .unwrap()
        .iter()
        .map(of)
        .collect()
}

fn change(stored: &str, change: &Change) -> Box<RawValue> {
    changed(&ItemId::new("a").unwrap(), &raw(stored), change, now())
        .unwrap()
        .unwrap()
}

#[test]
fn what_is_missing_is_filled() {
    let item = normalise(&raw(r#"{"item_data":{"k":[1]},"item_id":"a\u00e9"}"#)).unwrap();
    assert_eq!(item.id.as_str(), "aé");
    let time = "2027-01-15T08:00:00.000000000Z";
    assert_eq!(
        first(&item.body, now()).unwrap().get(),
        format!(
            r#"{{"item_id":"aé","item_data":{{"k":[1]}},"first_attempt":"{time}","last_attempt":"{time}","failure_count":1,"failure_history":[],"reprocess_eligible":true,"manual_review_required":false}}"#
        )
    );
}

#[test]
fn what_is_given_is_kept_byte_for_byte_on_one_line() {
    let data = "{ \"b\": 1.50e+2,\t\"a\": 123456789012345678901234567890, \"s\": \"\\u00e9\\/\" }";
    let text =
        format!("{{\r\n\"item_id\":\"a\",\n\"item_data\":{data},\"x\":\n[1,\n2],\"failure_count\":7}}");
    let item = normalise(&raw(&text)).unwrap();
    assert!(item.body.get().contains(&format!("\"item_data\":{data},")));
    assert!(item.body.get().contains("\"x\":[1, 2]"), "{}", item.body);
    assert!(item.body.get().contains("\"failure_count\":7,"));
    assert!(!item.body.get().contains(['\n', '\r']));
}

#[test]
fn a_normal_item_is_left_as_it_is() {
    let once = normalise(&raw(
        r#"{"item_id":"a","item_data":null,"zz":1,"failure_history":[{"error_type":"T"}],"parked_reason":"p"}"#,
    ));
    let once = once.unwrap().body;
    let again = normalise(&once).unwrap().body;
    assert_eq!(once.get(), again.get());
    let numbered = first(&once, now()).unwrap();
    assert_eq!(first(&numbered, Timestamp::MIN).unwrap().get(), numbered.get());
    assert_eq!(normalise(&numbered).unwrap().body.get(), numbered.get());
}

#[test]
fn the_queue_s_own_fields_are_left_out() {
    let value =
        normal(r#"{"item_id":"a","item_data":1,"lease_token":"t","lease_until":"x","crc":"00000000"}"#);
    for name in ["lease_token", "lease_until", "crc"] {
        assert!(value.get(name).is_none(), "{value}");
    }
}

#[test]
fn the_signature_is_that_of_the_last_failure() {
    let value = normal(
        r#"{"item_id":"a","item_data":1,"failure_history":[{"error_type":"A","error_message":"x"},{"error_type":"B","error_message":"took 3s"}]}"#,
    );
    assert_eq!(value["error_signature"], "B: took <n>s");
    assert_eq!(value["failure_count"], 2);
    let value = normal(
        r#"{"item_id":"a","item_data":1,"error_signature":"mine","failure_history":[{"error_type":{"CommandFailed":{"exit_code":1}}}]}"#,
    );
    assert_eq!(value["error_signature"], "mine");
    let value = normal(r#"{"item_id":"a","item_data":1,"failure_history":[{"error_type":{"Exit":1}}]}"#);
    assert_eq!(value["error_signature"], r#"{"Exit":1}"#);
}

#[test]
fn a_wrong_type_is_named() {
    let deep = format!(
        r#"{{"item_id":"a","item_data":{}{}}}"#,
        "[".repeat(127),
        "]".repeat(127)
    );
    let cases = [
        ("[1]", "an item is an object"),
        (r#"{"item_data":1}"#, "`item_id` is missing"),
        (r#"{"item_id":null,"item_data":1}"#, "`item_id` is missing"),
        (
            r#"{"item_id":7,"item_data":1}"#,
            "`item_id`: expected a text, found a number",
        ),
        (r#"{"item_id":"","item_data":1}"#, "1 to 1024 bytes"),
        (r#"{"item_id":"a"}"#, "`item_data` is missing"),
        (
            r#"{"item_id":"a","item_data":1,"item_data":2}"#,
            "`item_data` occurs twice",
        ),
        (
            r#"{"item_id":"a","item_data":1,"first_attempt":"soon"}"#,
            "`first_attempt`: expected a time from 1970 to 2262 such as \"2026-11-24T21:01:58Z\", found a text",
        ),
        (
            r#"{"item_id":"a","item_data":1,"failure_count":-1}"#,
            "`failure_count`",
        ),
        (
            r#"{"item_id":"a","item_data":1,"failure_history":{}}"#,
            "`failure_history`: expected a list",
        ),
        (
            r#"{"item_id":"a","item_data":1,"failure_history":[{},3]}"#,
            "`failure_history[1]`",
        ),
        (
            r#"{"item_id":"a","item_data":1,"failure_history":[{"duration_ms":"3"}]}"#,
            "`failure_history[0].duration_ms`: expected a whole number",
        ),
        (
            r#"{"item_id":"a","item_data":1,"worktree_artifacts":[]}"#,
            "`worktree_artifacts`",
        ),
        (
            r#"{"item_id":"a","item_data":1,"reprocess_eligible":"no"}"#,
            "`reprocess_eligible`: expected true or false",
        ),
        (r#"{"item_id":"a","item_data":"\ud800"}"#, "surrogate"),
        (deep.as_str(), "nested over 127"),
    ];
    for (json, expected) in cases {
        let error = normalise(&raw(json)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{json}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn parking_sets_its_fields_and_nothing_else() {
    let stored =
        r#"{"item_id":"a","item_data":{ "n": 1.50 },"manual_review_required":false,"x":[1],"queue_birth":3}"#;
    let park = |reason: Option<&str>| Change::Park {
        reason: reason.map(str::to_owned),
    };
    let parked = change(stored, &park(Some("a \"licence\"")));
    assert_eq!(
        parked.get(),
        r#"{"item_id":"a","item_data":{ "n": 1.50 },"manual_review_required":true,"x":[1],"reprocess_eligible":false,"parked_reason":"a \"licence\""}"#
    );
    // Unparking removes the reason. Parking again without a reason keeps it.
    for (again, parked_now) in [(park(None), true), (Change::Unpark, false)] {
        let value: Value = serde_json::from_str(change(parked.get(), &again).get()).unwrap();
        let reason = parked_now.then(|| json!("a \"licence\""));
        assert_eq!(value.get("parked_reason"), reason.as_ref());
        assert_eq!(
            (&value["reprocess_eligible"], &value["manual_review_required"]),
            (&json!(!parked_now), &json!(parked_now))
        );
        assert_eq!((&value["x"], value.get("failure_count")), (&json!([1]), None));
    }
    let other: Value = serde_json::from_str(change(parked.get(), &park(Some("gone"))).get()).unwrap();
    assert_eq!(other["parked_reason"], "gone");
    // If an item that is not parked has an old reason, parking it removes that reason.
    let stale = r#"{"item_id":"a","item_data":1,"parked_reason":"old"}"#;
    let value: Value = serde_json::from_str(change(stale, &park(None)).get()).unwrap();
    assert!(value.get("parked_reason").is_none(), "{value}");
    // An item that is not parked can't be unparked.
    let id = ItemId::new("a").unwrap();
    for eligible in [
        r#"{"item_id":"a","item_data":1}"#,
        r#"{"item_id":"a","reprocess_eligible":true}"#,
    ] {
        assert!(
            changed(&id, &raw(eligible), &Change::Unpark, now())
                .unwrap()
                .is_none()
        );
    }
    let letter: DeadLetter<Value> = serde_json::from_str(parked.get()).unwrap();
    assert_eq!(letter.parked_reason.as_deref(), Some("a \"licence\""));
    // A worker's failure leaves a parked item parked, even if the failure says that the item is eligible.
    let failed = r#"{"item_id":"a","item_data":1,"failure_history":[{"error_type":"A"}]"#;
    let value = merged(parked.get(), &format!(r#"{failed},"reprocess_eligible":true}}"#));
    assert_eq!(
        (&value["reprocess_eligible"], &value["manual_review_required"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(value["parked_reason"], "a \"licence\"");
    // A push may park an item, with a reason.
    let park = format!(r#"{failed},"reprocess_eligible":false,"parked_reason":"another"}}"#);
    for stored in [parked.get(), r#"{"item_id":"a","item_data":1}"#] {
        let value = merged(stored, &park);
        assert_eq!(
            (&value["reprocess_eligible"], &value["parked_reason"]),
            (&json!(false), &json!("another"))
        );
    }
    let value = merged(
        r#"{"item_id":"a","item_data":1}"#,
        &format!(r#"{failed},"parked_reason":"none"}}"#),
    );
    assert!(value.get("parked_reason").is_none(), "{value}");
}

#[test]
fn an_edit_replaces_the_contents_under_the_same_id() {
    let stored = r#"{"item_id":"a","item_data":1,"x":1,"failure_history":[{"error_type":"A"}]}"#;
    let edited = change(
        stored,
        &Change::Edit(raw(
            r#"{"item_id":"a","item_data":2,"failure_history":[{"error_type":"B"}]}"#,
        )),
    );
    let value: Value = serde_json::from_str(edited.get()).unwrap();
    assert_eq!((&value["item_data"], value.get("x")), (&json!(2), None));
    assert_eq!(failures(&value), [("B".into(), 1)]);
    let id = ItemId::new("a").unwrap();
    for contents in [r#"{"item_id":"b","item_data":2}"#, r#"{"item_id":"a"}"#, "[]"] {
        let error = edit(&id, &raw(contents), now()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{contents}");
    }
}

#[test]
fn a_change_gives_the_contents_after_it() {
    let stored = r#"{"item_id":"a","item_data":{"now":2},"failure_history":[{"error_type":"A"}]}"#;
    let failed = |id: &str| {
        let letter = DeadLetter::new(ItemId::new(id).unwrap(), 1).failure(Failure::new("B", "m").at(later()));
        Change::Fail(letter.to_item().unwrap())
    };
    let value: Value = serde_json::from_str(change(stored, &failed("a")).get()).unwrap();
    assert_eq!(value["failure_count"], 2);
    assert_eq!(
        value["item_data"],
        json!({"now": 2}),
        "a failure leaves the data unchanged"
    );
    let id = ItemId::new("a").unwrap();
    let delay = Duration::from_secs(1);
    for same in [Change::Remove, Change::Extend(delay), Change::Release { delay }] {
        assert!(changed(&id, &raw(stored), &same, now()).unwrap().is_none());
    }
    let error = changed(&id, &raw(stored), &failed("b"), now()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let not_an_item = QueueItem {
        id: id.clone(),
        body: raw("{}"),
    };
    let error = changed(&id, &raw(stored), &Change::Fail(not_an_item), now()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(
        park(&id, &raw("[]"), None).unwrap_err().kind(),
        ErrorKind::Damaged
    );
    assert_eq!(unpark(&id, &raw("[]")).unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn an_item_of_another_program_is_merged_into() {
    let stored = raw(r#"{"item_id":"a","failure_count":"many","last_attempt":7,"x":{}}"#);
    let value = merge(&stored, &raw(r#"{"item_id":"a","item_data":2}"#), now())
        .unwrap()
        .unwrap();
    let value: Value = serde_json::from_str(value.get()).unwrap();
    assert_eq!(value["failure_count"], 1);
    assert_eq!(value["x"], json!({}));
    assert_eq!(value["last_attempt"], "2027-01-15T08:00:00.000000000Z");
    facts(&raw(&value.to_string())).unwrap();
    assert_eq!(
        merge(&raw("[]"), &raw(r#"{"item_id":"a","item_data":2}"#), now())
            .unwrap_err()
            .kind(),
        ErrorKind::Damaged
    );
}

#[test]
fn facts_decide_what_is_taken() {
    let body = normalise(
        &raw(r#"{"item_id":"a","item_data":{"reprocess_eligible":true},"reprocess_eligible":false,"error_signature":"S","failure_count":3,"last_attempt":"2026-01-02T00:00:00Z","failure_history":[{"error_type":"U"},{"error_type":"T"}]}"#),
    )
    .unwrap()
    .body;
    let found = facts(&body).unwrap();
    assert_eq!(
        (found.eligible, found.review, found.failure_count),
        (false, false, 3)
    );
    let (a, b) = (ItemId::new("a").unwrap(), ItemId::new("b").unwrap());
    let at = Timestamp::parse("2026-01-02T00:00:00Z").unwrap();
    let just_before = Timestamp::from_nanos(at.as_nanos() - 1);
    let cases = [
        (Select::eligible(), false),
        (Select::any(), true),
        (Select::any().with(Eligible::No), true),
        (Select::ids([b.clone(), a.clone()]), true),
        (Select::ids([b]), false),
        (Select::ids([]), false),
        (Select::any().signature("S"), true),
        (Select::any().signature("T"), false),
        (Select::any().not_after(at), true),
        (Select::ids([a.clone()]).not_after(just_before), false),
        (Select::any().not_before(at), true),
        (
            Select::any().not_before(Timestamp::from_nanos(at.as_nanos() + 1)),
            false,
        ),
        (
            Select::any().older_than(
                Duration::from_secs(60),
                Timestamp::from_millis(at.as_millis() + 60_000),
            ),
            true,
        ),
        (
            Select::any().older_than(
                Duration::from_secs(61),
                Timestamp::from_millis(at.as_millis() + 60_000),
            ),
            false,
        ),
        (Select::any().attempts(3..=3), true),
        (Select::any().attempts(1..=2), false),
        (Select::any().attempts(4..=9), false),
        (Select::any().error_type("T"), true),
        (Select::any().error_type("U"), false),
    ];
    for (select, expected) in cases {
        assert_eq!(selects(&select, &a, &found), expected, "{select:?}");
    }
    let error = facts(&raw(r#"{"item_id":"a","reprocess_eligible":1}"#)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign);
    assert!(error.to_string().contains("`reprocess_eligible`"), "{error}");
    assert_eq!(
        facts(&raw(r#"{"item_id":"a","failure_count":null}"#)).unwrap(),
        Facts::default()
    );
}

#[test]
fn signatures_mask_what_differs() {
    let cases = [
        ("exit code 17", "exit code <n>"),
        ("took 1.25s, limit -3", "took <n>s, limit <n>"),
        ("0197f4e2-8a3b-7c1d-9e2f-3a4b5c6d7e8f is gone", "<id> is gone"),
        ("at 0xDEADbeef", "at <id>"),
        ("commit 3f9c2ab41d", "commit <id>"),
        ("token A1b2C3d4E5f6G7h8", "token <id>"),
        ("added decade facade", "added decade facade"),
        ("open ./a/b.rs:3:7: denied", "open <path>: denied"),
        ("C:\\temp\\x", "<path>"),
        ("https://h.example/p?q=1", "<path>?q=<n>"),
        ("1 / 2", "<n> / <n>"),
        (
            "no field `a b` in \"c\" or 'd e'",
            "no field <text> in <text> or <text>",
        ),
        ("can't, won't", "can't, won't"),
        ("a\n\t b", "a b"),
        ("agent-17 worker_3", "agent-<n> worker_<n>"),
        ("\"open", "\"open"),
        ("", ""),
    ];
    for (message, expected) in cases {
        assert_eq!(signature("", message), expected);
    }
    assert_eq!(signature(" T ", ""), "T");
    assert_eq!(signature("T", &"é ".repeat(5000)).chars().count(), 240);
}

#[test]
fn typed_items_come_back() {
    let letter = DeadLetter::new(ItemId::new("a").unwrap(), vec![1, 2])
        .failure(Failure::new("T", "m").attempt(1).at(now()).agent("x").step("s"))
        .artifacts(WorktreeArtifacts::new("/w", "b"))
        .eligible(false)
        .review(true);
    let item = letter.to_item().unwrap();
    let back: DeadLetter<Vec<i32>> = serde_json::from_str(item.body.get()).unwrap();
    assert_eq!(back.failure_history, letter.failure_history);
    assert_eq!(back.worktree_artifacts, letter.worktree_artifacts);
    assert_eq!(
        (back.item_data, back.failure_count, back.first_attempt),
        (vec![1, 2], Some(1), Some(now()))
    );
    assert!(!back.reprocess_eligible && back.manual_review_required && back.extra.is_empty());
    let raw_data: DeadLetter<Box<RawValue>> = serde_json::from_str(item.body.get()).unwrap();
    assert_eq!(raw_data.item_data.get(), "[1,2]");
    let foreign: DeadLetter<Value> = serde_json::from_str(
        r#"{"item_id":"a","item_data":{},"failure_history":[{"error_type":{"E":1},"error_message":null,"k":2}],"reprocess_eligible":null,"x":1}"#,
    )
    .unwrap();
    assert!(foreign.reprocess_eligible);
    assert_eq!(foreign.failure_history[0].error_type, r#"{"E":1}"#);
    assert_eq!(
        (&foreign.failure_history[0].extra["k"], &foreign.extra["x"]),
        (&json!(2), &json!(1))
    );
}

proptest::proptest! {
    #[test]
    fn no_message_breaks_a_signature(kind in ".{0,20}", message in "\\PC{0,60}|[a-f0-9/'\"`. \\\\-]{0,80}") {
        let found = signature(&kind, &message);
        proptest::prop_assert!(found.chars().count() <= 240);
        let digits = found.strip_prefix(kind.trim()).is_some_and(|rest| rest.contains(|c: char| c.is_ascii_digit()));
        proptest::prop_assert!(!digits || message.is_empty(), "{}", found);
    }
}
