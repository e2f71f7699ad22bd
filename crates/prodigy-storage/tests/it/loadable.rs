//! A stored value can always be loaded as its own type; a value for which that is impossible is refused with the
//! path of the field.

use std::collections::{BTreeMap, HashMap};

use prodigy_storage::{
    AppendOptions, DeadLetter, DocumentOptions, ErrorKind, EventFilter, ItemId, Phase, ReadOptions,
    SaveOptions, StorageError,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::support::{Fixture, on_each};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Scored {
    score: Option<f64>,
    #[serde(default)]
    weight: f32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Outcome {
    Done { took: f64 },
    Pair(u8, f64),
    Alone(f64),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    results: Vec<Scored>,
    by_name: BTreeMap<String, f64>,
    outcome: Option<Outcome>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flattened {
    name: String,
    #[serde(flatten)]
    more: BTreeMap<String, u64>,
}

fn scored(score: f64) -> State {
    let fine = Scored {
        score: Some(0.5),
        weight: 1.0,
    };
    let mut results = vec![fine; 4];
    results[3].score = Some(score);
    State {
        results,
        ..State::default()
    }
}

fn item(id: &str) -> ItemId {
    ItemId::new(id).unwrap()
}

/// Stores a value by each kind of call, and returns the result of each call.
fn store<T: Serialize>(fixture: &Fixture, value: &T) -> [Result<(), StorageError>; 5] {
    let job = fixture.job();
    [
        job.checkpoints()
            .save(Phase::Map, value, SaveOptions::default())
            .map(drop),
        job.events().append(value).map(drop),
        job.events()
            .append_with(&1, AppendOptions::new().metadata(value))
            .map(drop),
        job.dlq().push(&DeadLetter::new(item("item-1"), value)).map(drop),
        job.dlq()
            .push_batch([DeadLetter::new(item("item-2"), value)])
            .map(drop),
    ]
}

fn nothing_is_stored(fixture: &Fixture) {
    let job = fixture.job();
    assert!(job.checkpoints().list().all().unwrap().is_empty());
    assert_eq!(job.events().read::<RawJson>().unwrap().count(), 0);
    assert_eq!(
        job.dlq().scan(&prodigy_storage::Select::any()).unwrap().count(),
        0
    );
}

type RawJson = Box<RawValue>;

/// Stores a value by each kind of call, and checks that each copy loads as the same type.
fn loads_again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    on_each(|fixture| {
        for stored in store(fixture, value) {
            stored.unwrap();
        }
        let job = fixture.job();
        let latest = job.checkpoints().latest::<T>(Phase::Map).unwrap().unwrap();
        assert_eq!(&latest.data, value);
        let event = job.events().read::<T>().unwrap().next().unwrap().unwrap();
        assert_eq!(&event.event, value);
        for item in job.dlq().scan(&prodigy_storage::Select::any()).unwrap() {
            assert_eq!(&item.unwrap().data::<T>().unwrap(), value);
        }
    });
}

fn is_refused<T: Serialize>(value: &T, path: &str, words: &str) {
    on_each(|fixture| {
        for (at, refused) in store(fixture, value).into_iter().enumerate() {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{at}: {error}");
            let prefix = if at < 3 { "" } else { "item_data." };
            let named = match path {
                "" if at < 3 => String::new(),
                "" => "`item_data`: ".to_owned(),
                path => format!("`{prefix}{path}`: "),
            };
            assert!(
                error.why().starts_with(&named) && error.why().contains(words),
                "{at}: {error}, not {named}"
            );
            assert!(error.hint().is_some(), "{at}: {error}");
        }
        nothing_is_stored(fixture);
    });
}

const NOT_FINITE: &str = "NaN or infinite";

#[test]
fn a_float_that_json_cant_hold_is_refused_with_the_path_of_its_field() {
    for score in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        is_refused(&scored(score), "results[3].score", NOT_FINITE);
    }
    let mut state = scored(1.0);
    state.results[1].weight = f32::NAN;
    is_refused(&state, "results[1].weight", NOT_FINITE);
    let mut state = State::default();
    state.by_name.insert("a b".into(), f64::INFINITY);
    is_refused(&state, "by_name.a b", NOT_FINITE);
    for (outcome, path) in [
        (Outcome::Done { took: f64::NAN }, "outcome.Done.took"),
        (Outcome::Pair(1, f64::NAN), "outcome.Pair[1]"),
        (Outcome::Alone(f64::NAN), "outcome.Alone"),
    ] {
        let outcome = Some(outcome);
        is_refused(
            &State {
                outcome,
                ..State::default()
            },
            path,
            NOT_FINITE,
        );
    }
    is_refused(&f64::NAN, "", NOT_FINITE);
}

#[test]
fn a_name_that_stands_twice_in_a_flattened_object_is_refused() {
    let more = |name: &str| Flattened {
        name: "a".into(),
        more: BTreeMap::from([("x".to_owned(), 1), (name.to_owned(), 2)]),
    };
    is_refused(&more("name"), "name", "twice");
    loads_again(&more("other"));
    let many = Flattened {
        name: "a".into(),
        more: (0..100).map(|n| (format!("key {n}"), n)).collect(),
    };
    loads_again(&many);
}

#[test]
fn a_raw_number_that_no_type_loads_is_refused_with_its_path() {
    for (text, path) in [
        (r#"{"a":[0,{"b":1e999}]}"#, "a[1].b"),
        (r#"{"data":{"data":-1e400}}"#, "data.data"),
    ] {
        let raw = RawValue::from_string(text.into()).unwrap();
        is_refused(&raw, path, "64-bit float");
        on_each(|fixture| {
            let item = format!(r#"{{"item_id":"a","item_data":{text}}}"#);
            let item = RawValue::from_string(item).unwrap();
            let error = fixture.job().dlq().push_raw(&item).unwrap_err();
            let named = format!("`item_data.{path}`: ");
            assert!(error.why().starts_with(&named), "{error}");
        });
    }
}

#[test]
fn keys_that_are_no_text_are_refused_with_their_path() {
    let keys = BTreeMap::from([("outer", HashMap::from([(vec![1], 2)]))]);
    is_refused_without_hint(&keys);
    let none = BTreeMap::from([("outer", HashMap::from([(None::<u8>, 2)]))]);
    is_refused_without_hint(&none);
}

fn is_refused_without_hint<T: Serialize>(value: &T) {
    on_each(|fixture| {
        for refused in store(fixture, value) {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.why().contains("outer."), "{error}");
        }
        nothing_is_stored(fixture);
    });
}

#[test]
fn what_is_accepted_loads_into_its_own_type() {
    loads_again(&scored(f64::MAX));
    loads_again(&scored(-0.0));
    loads_again(&scored(f64::MIN_POSITIVE));
    loads_again(&(u128::MAX, i128::MIN, u64::MAX, i64::MIN));
    loads_again(&BTreeMap::from([(1u64, true), (u64::MAX, false)]));
    loads_again(&BTreeMap::from([(true, 1), (false, 2)]));
    loads_again(&BTreeMap::from([('x', ()), ('é', ())]));
    loads_again(&BTreeMap::from([(i128::MIN, 1)]));
    loads_again(&State {
        outcome: Some(Outcome::Pair(1, 2.0)),
        ..State::default()
    });
}

#[test]
fn what_is_nested_too_deep_to_load_is_refused() {
    for depth in 120..132usize {
        let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let raw = RawValue::from_string(text).unwrap();
        on_each(|fixture| {
            let job = fixture.job();
            let [saved, appended, _, pushed, _] = store(fixture, &raw);
            assert_eq!(saved.is_ok(), depth <= 127, "{depth}: {saved:?}");
            if saved.is_ok() {
                let latest = job.checkpoints().latest::<serde_json::Value>(Phase::Map).unwrap();
                assert!(latest.unwrap().data.is_array());
            }
            if appended.is_ok() {
                let event = job.events().read::<serde_json::Value>().unwrap().next();
                assert!(event.unwrap().unwrap().event.is_array());
            }
            if pushed.is_ok() {
                let item = job
                    .dlq()
                    .scan(&prodigy_storage::Select::any())
                    .unwrap()
                    .next()
                    .unwrap()
                    .unwrap();
                assert!(item.data::<serde_json::Value>().unwrap().is_array(), "{depth}");
            }
        });
    }
}

#[test]
fn a_latest_checkpoint_of_another_type_is_named_and_the_one_before_is_reached() {
    on_each(|fixture| {
        let checkpoints = fixture.job().checkpoints();
        let good = checkpoints.save_map(&7, SaveOptions::default()).unwrap();
        let bad = checkpoints.save_map("text", SaveOptions::default()).unwrap();
        let error = checkpoints.latest_map::<u32>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let stamp = bad.id.time().unwrap().to_string();
        assert!(
            error
                .to_string()
                .contains(&format!("map-checkpoint-{stamp}.json")),
            "{error}"
        );
        assert!(
            error.hint().unwrap().contains("the checkpoint before it"),
            "{error}"
        );
        let before = checkpoints.latest_before::<u32>(&bad.id).unwrap().unwrap();
        assert_eq!((before.data, before.id), (7, good.id.clone()));
        assert!(checkpoints.latest_before::<u32>(&good.id).unwrap().is_none());
    });
}

/// Raw JSON is stored unchanged. If it has a name twice, a reader gets the last value or an error.
#[test]
fn of_a_name_that_stands_twice_in_raw_json_the_last_counts_for_every_reader() {
    #[derive(Debug, Deserialize)]
    struct Derived {
        #[expect(dead_code, reason = "it is never loaded")]
        a: u8,
    }
    const TWICE: &str = r#"{"a":1,"b":0,"a":2}"#;
    on_each(|fixture| {
        let (job, raw) = (fixture.job(), RawValue::from_string(TWICE.to_owned()).unwrap());
        let events = job.events();
        events.append(&raw).unwrap();
        let value = events
            .read::<serde_json::Value>()
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        assert_eq!(value.event["a"], 2);
        let map = events
            .read::<BTreeMap<String, u8>>()
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        assert_eq!(map.event["a"], 2);
        let bytes = events.read::<Box<RawValue>>().unwrap().next().unwrap().unwrap();
        assert_eq!(bytes.event.get(), TWICE);
        assert!(events.read::<Derived>().unwrap().next().unwrap().is_err());
        for (filter, count) in [("a=2", 1), ("a=1", 0), ("a!=1", 1)] {
            let filter: EventFilter = filter.parse().unwrap();
            let read = events.read_with::<Box<RawValue>>(ReadOptions::new().filter(filter));
            assert_eq!(read.unwrap().count(), count);
        }
        let checkpoints = job.checkpoints();
        checkpoints.save_map(&raw, SaveOptions::default()).unwrap();
        let saved = checkpoints.latest_map::<serde_json::Value>().unwrap().unwrap();
        assert_eq!(saved.data["a"], 2);
        let plans = job.documents("plans").unwrap();
        plans.put("one", &raw, DocumentOptions::new()).unwrap();
        assert_eq!(
            plans.get::<serde_json::Value>("one").unwrap().unwrap().data["a"],
            2
        );
        assert!(plans.get::<Derived>("one").is_err());
        // The fields of a dead letter are merged one by one, so a name that occurs twice is refused. Its data is
        // raw JSON, in which it is not.
        let item = |text: String| RawValue::from_string(text).unwrap();
        let refused = job
            .dlq()
            .push_raw(&item(r#"{"item_id":"x","item_data":1,"item_data":2}"#.to_owned()))
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        job.dlq()
            .push_raw(&item(format!(r#"{{"item_id":"x","item_data":{TWICE}}}"#)))
            .unwrap();
        let stored = job.dlq().get(&ItemId::new("x").unwrap()).unwrap().unwrap();
        assert_eq!(stored.data::<serde_json::Value>().unwrap()["a"], 2);
        assert!(stored.data::<Derived>().is_err());
    });
}
