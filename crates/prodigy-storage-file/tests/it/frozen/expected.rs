//! The results that reading the fixture must give.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use prodigy_storage_backend::{Cursor, EventId, Revision};
use prodigy_storage_file::Finding;
use prodigy_storage_layout::{Document, Entry, JobAddress, JobId, RepoName, Timestamp};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frozen {
    modes: BTreeMap<PathBuf, String>,
    #[serde(deserialize_with = "by_job")]
    pub jobs: BTreeMap<JobAddress, Contents>,
    #[serde(deserialize_with = "by_document")]
    pub documents: BTreeMap<Document, Stored>,
    pub locks: BTreeMap<String, u64>,
    pub cursors: Vec<Position>,
    pub findings: Vec<ExpectedFinding>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Contents {
    pub events: Vec<Event>,
    pub items: Vec<Item>,
}

/// An event, with its payload and its metadata as text.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Event {
    pub id: EventId,
    #[serde(deserialize_with = "micros")]
    pub timestamp: i64,
    pub event: String,
    #[serde(default)]
    pub correlation_id: Option<String>,
    #[serde(default)]
    pub metadata: Option<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Item {
    pub id: String,
    pub body: Value,
    #[serde(default)]
    pub lease_token: Option<String>,
    #[serde(default)]
    pub lease_until: Option<Timestamp>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Stored {
    revision: String,
    pub body: Value,
}

/// A cursor, and the ids of the events that follow it.
#[derive(Clone, Debug, Deserialize)]
pub struct Position {
    job: String,
    pub cursor: Cursor,
    pub after: Vec<EventId>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ExpectedFinding {
    pub severity: String,
    kind: String,
    pub place: String,
    pub offset: usize,
    pub len: usize,
}

impl Frozen {
    pub fn load() -> Self {
        let text = fs::read_to_string(folder().join("expected.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Copies the store to a folder, and sets the modes that git does not keep.
    pub fn unpack(&self, root: &Path) {
        fs::create_dir(root).unwrap();
        let from = folder().join("store");
        for (name, mode) in &self.modes {
            let (from, to) = (from.join(name), root.join(name));
            if from.is_dir() {
                fs::create_dir(&to).unwrap();
            } else {
                fs::write(&to, fs::read(&from).unwrap()).unwrap();
            }
            let mode = u32::from_str_radix(mode, 8).unwrap();
            fs::set_permissions(&to, fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    /// The time at which the leases in the fixture end.
    pub fn lease_end(&self) -> Timestamp {
        let items = self.jobs.values().flat_map(|contents| &contents.items);
        items.filter_map(|item| item.lease_until).max().unwrap()
    }

    /// Asserts that the doctor's findings are exactly the expected ones.
    pub fn check_findings(&self, root: &Path, found: &[Finding]) {
        let expected: BTreeSet<_> = self.findings.iter().map(ExpectedFinding::key).collect();
        let found: BTreeSet<_> = found
            .iter()
            .map(|finding| {
                let place = Path::new(&finding.place).strip_prefix(root.canonicalize().unwrap());
                let mut key = serde_json::to_value(finding).unwrap();
                let mut text = |name: &str| key[name].take().as_str().unwrap().to_owned();
                let (severity, kind) = (text("severity"), text("kind"));
                (
                    severity,
                    kind,
                    place.unwrap().to_str().unwrap().to_owned(),
                    finding.offset as usize,
                    finding.len as usize,
                )
            })
            .collect();
        let missing: Vec<_> = expected.difference(&found).collect();
        assert!(missing.is_empty(), "not found: {missing:?} in {found:?}");
        let more: Vec<_> = found
            .difference(&expected)
            .filter(|key| key.0 == "damage")
            .collect();
        assert!(more.is_empty(), "damage that is none: {more:?}");
    }
}

impl ExpectedFinding {
    fn key(&self) -> (String, String, String, usize, usize) {
        (
            self.severity.clone(),
            self.kind.clone(),
            self.place.clone(),
            self.offset,
            self.len,
        )
    }
}

impl Stored {
    pub fn revision(&self) -> Revision {
        self.revision.parse().unwrap()
    }
}

impl Position {
    pub fn job(&self) -> JobAddress {
        job(&self.job)
    }
}

pub fn job(name: &str) -> JobAddress {
    let (repo, job) = name.split_once('/').unwrap();
    JobAddress::new(RepoName::new(repo).unwrap(), JobId::new(job).unwrap())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1")
}

fn by_job<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<JobAddress, Contents>, D::Error> {
    let named = BTreeMap::<String, Contents>::deserialize(from)?;
    Ok(named
        .into_iter()
        .map(|(name, contents)| (job(&name), contents))
        .collect())
}

fn by_document<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<Document, Stored>, D::Error> {
    let named = BTreeMap::<PathBuf, Stored>::deserialize(from)?;
    let document = |path: PathBuf| match Entry::parse(&path) {
        Some(Entry::Document(document)) => document,
        other => panic!("{} is {other:?}", path.display()),
    };
    Ok(named
        .into_iter()
        .map(|(path, stored)| (document(path), stored))
        .collect())
}

fn micros<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    Ok(Timestamp::deserialize(from)?.as_nanos() / 1000)
}
