//! Names, times and paths: parsing and printing are inverse, and no path leaves the root.

use std::ffi::OsStr;
use std::fmt::Display;
use std::path::{Component, Path};
use std::str::FromStr;

use prodigy_storage_backend::{Cursor, EventId, ItemId, Revision};
use prodigy_storage_layout::{
    AgentId, Entry, JobAddress, JobId, LockName, RepoName, SegmentForm, SegmentName, SessionId, Stamp,
    Timestamp,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Input: a text, which is parsed as every kind of name.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(repo) = RepoName::new(text) {
        one_component(repo.as_str());
        both_ways(&repo);
        let job = JobAddress::new(repo.clone(), JobId::new(text).unwrap());
        inside(&Entry::Queue(job.clone()));
        inside(&Entry::StateLock(job));
        // A prefix alone is not a session.
        if let Ok(session) = SessionId::new(text) {
            inside(&Entry::Worktree(repo, session));
        }
        both_ways(&AgentId::new(text).unwrap());
    } else {
        assert!(JobId::new(text).is_err() && AgentId::new(text).is_err());
    }
    if let Ok(session) = SessionId::new(text) {
        one_component(&session.folder_name());
        both_ways(&session);
    }
    if let Ok(lock) = LockName::new(text) {
        assert!((1..=LockName::MAX_PARTS).contains(&lock.parts().count()));
        lock.parts().for_each(one_component);
        both_ways(&lock);
        inside(&Entry::Lock(lock));
    }
    times(text);
    if let Ok(item) = ItemId::new(text) {
        both_ways(&item);
    }
    if let Ok(cursor) = Cursor::new(text) {
        both_ways(&cursor);
    }
    if let Ok(id) = text.parse::<EventId>() {
        assert_eq!(id.to_string(), text.to_lowercase());
        both_ways(&id);
    }
    if let Some(revision) = Revision::parse(bytes) {
        assert_eq!(revision.to_string(), text);
    }
    if let Some(entry) = Entry::parse(Path::new(text)) {
        assert_eq!(entry.path().as_os_str(), OsStr::new(text), "one spelling only");
        inside(&entry);
    }
}

fn times(text: &str) {
    if let Some(time) = Timestamp::parse(text) {
        both_ways(&time);
        assert_eq!(
            Timestamp::parse(&time.to_rfc3339()).unwrap().as_nanos(),
            time.as_nanos() / 1000 * 1000
        );
        let mut written = Vec::new();
        time.write_rfc3339(&mut written);
        assert_eq!(written, time.to_rfc3339().as_bytes());
        let id = EventId::floor(time);
        assert!(id.is_v7() && id.time() <= time && EventId::floor(id.time()) == id);
    }
    if let Some(stamp) = Stamp::parse(text) {
        assert_eq!(stamp.to_string(), text, "a stamp keeps its text");
        both_ways_by(&stamp, Stamp::parse);
        assert_eq!(stamp.is_canonical(), stamp.time().to_string() == text);
    }
    if let Some((segment, form)) = SegmentName::parse(text) {
        assert_eq!(segment.file_name(form), text);
        let plain = segment.file_name(SegmentForm::Plain);
        assert_eq!(
            SegmentName::parse(&plain),
            Some((segment.clone(), SegmentForm::Plain))
        );
        if segment.is_canonical() {
            assert_eq!(
                SegmentName::new(segment.lower(), segment.made()),
                segment,
                "one name only"
            );
        }
    }
}

/// Checks that the text of a parsed value is parsed as the same value.
fn both_ways<T>(value: &T)
where
    T: Display + FromStr + Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    both_ways_by(value, |text| text.parse().ok());
    let json = serde_json::to_string(value).unwrap();
    assert_eq!(
        serde_json::from_str::<T>(&json).as_ref().ok(),
        Some(value),
        "{json}"
    );
}

fn both_ways_by<T: Display + PartialEq + std::fmt::Debug>(value: &T, parse: impl Fn(&str) -> Option<T>) {
    let text = value.to_string();
    assert_eq!(parse(&text).as_ref(), Some(value), "{text}");
}

/// Checks that a name is one plain component of a path on any system.
fn one_component(name: &str) {
    assert!((1..=136).contains(&name.len()), "{} bytes", name.len());
    let parts: Vec<_> = Path::new(name).components().collect();
    assert_eq!(parts, [Component::Normal(OsStr::new(name))]);
    assert!(!name.contains(['/', '\\', '\0']) && !name.chars().any(char::is_control));
}

/// Checks that the path of an entry is below the root, and belongs to this entry only.
fn inside(entry: &Entry) {
    let path = entry.path();
    assert!(
        path.components().all(|part| matches!(part, Component::Normal(_))),
        "{}",
        path.display()
    );
    assert_eq!(Entry::parse(&path).as_ref(), Some(entry));
}
