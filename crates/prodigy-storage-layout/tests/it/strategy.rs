//! Strategies for ids and entries. Each is boxed, since strategies nested by value would overflow the stack of a test
//! thread.

use prodigy_storage_layout::{
    CheckpointKey, Document, DocumentKind, DocumentName, DocumentOwner, Entry, JobAddress, JobId, LockName,
    Phase, PhaseName, RepoName, SegmentForm, SegmentName, SessionId, Stamp, Timestamp,
};
use proptest::prelude::*;
use proptest::sample::select;

/// Texts that are often valid names, and often names that also have a meaning in paths.
pub fn text() -> BoxedStrategy<String> {
    let hard = select(vec![
        "session-",
        "session-session-1",
        "1",
        "2",
        "4",
        "state",
        "registry",
        "jobs",
        "mapreduce",
        "documents",
        "a.json",
        "a.lock",
        "items.json",
        "format.json",
        "repository",
        "events-20251115_073606",
        "a.",
        "a..b",
        "-",
        "a b",
        "quarantine",
        "setup-checkpoint.json",
        "größe",
        "数据",
        "e\u{301}",
        "CON",
        "con.x",
        "..",
        ".a",
        "a/b",
        "a\\b",
        "a\0",
        "\u{202e}",
        " a",
        "a ",
        "",
    ])
    .prop_map(str::to_owned);
    prop_oneof![
        3 => "[a-zA-Z0-9._-]{1,24}",
        2 => "[\\PC]{1,40}",
        1 => any::<String>(),
        1 => "[a-z]{120,136}",
        2 => hard,
    ]
    .boxed()
}

/// Valid names.
fn name() -> BoxedStrategy<String> {
    text()
        .prop_filter_map("no name", |text| RepoName::new(&text).is_ok().then_some(text))
        .boxed()
}

pub fn repo() -> BoxedStrategy<RepoName> {
    name().prop_map(|name| RepoName::new(name).unwrap()).boxed()
}

pub fn job() -> BoxedStrategy<JobAddress> {
    (repo(), name())
        .prop_map(|(repo, job)| JobAddress::new(repo, JobId::new(job).unwrap()))
        .boxed()
}

pub fn session() -> BoxedStrategy<SessionId> {
    (name(), any::<bool>())
        .prop_filter_map("empty without its prefix", |(name, prefixed)| {
            SessionId::new(if prefixed { format!("session-{name}") } else { name }).ok()
        })
        .boxed()
}

pub fn lock() -> BoxedStrategy<LockName> {
    prop::collection::vec(name(), 1..=4)
        .prop_map(|parts| LockName::new(parts.join("/")).unwrap())
        .boxed()
}

pub fn time() -> BoxedStrategy<Timestamp> {
    prop_oneof![
        any::<i64>(),
        0..4_000_000_000_000_000_000i64,
        (0..4_000_000_000i64).prop_map(|seconds| seconds * 1_000_000_000),
        select(vec![
            0,
            1,
            i64::MAX,
            i64::MAX - 1,
            999_999_999,
            1_000_000_000,
            951_782_400_000_000_000
        ]),
    ]
    .prop_map(Timestamp::from_nanos)
    .boxed()
}

/// Stamps in the forms of other programs.
pub fn foreign_stamp_text() -> BoxedStrategy<String> {
    let parts = (
        1970..2262,
        1..=12,
        1..=28,
        0..24,
        0..60,
        0..60,
        "[0-9]{1,12}",
        0..8,
    );
    let civil = parts.prop_map(|(y, mo, d, h, mi, s, fraction, form)| match form {
        0 => format!("{y:04}{mo:02}{d:02}_{h:02}{mi:02}{s:02}"),
        1 => format!("{y:04}{mo:02}{d:02}-{h:02}{mi:02}{s:02}"),
        2 => format!("{y:04}{mo:02}{d:02}T{h:02}{mi:02}{s:02}Z"),
        3 => format!("{y:04}{mo:02}{d:02}{h:02}{mi:02}{s:02}"),
        4 => format!("{y:04}-{mo:02}-{d:02}T{h:02}-{mi:02}-{s:02}Z"),
        5 => format!("{y:04}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}.{fraction}+00:00"),
        6 => format!("{y:04}{mo:02}{d:02}"),
        _ => format!("{y:04}{mo:02}{d:02}T{h:02}{mi:02}{s:02}.{fraction}Z"),
    });
    let unix = (
        100_000_000..=9_223_372_036i64,
        select(vec![1, 1_000, 1_000_000, 1_000_000_000]),
    )
        .prop_filter_map("too large", |(seconds, unit)| seconds.checked_mul(unit))
        .prop_map(|count| count.to_string());
    prop_oneof![4 => civil, 1 => unix].boxed()
}

pub fn stamp() -> BoxedStrategy<Stamp> {
    prop_oneof![
        time().prop_map(Stamp::from),
        foreign_stamp_text().prop_map(|text| Stamp::parse(&text).unwrap()),
    ]
    .boxed()
}

pub fn segment() -> BoxedStrategy<SegmentName> {
    prop_oneof![
        time().prop_map(|time| SegmentName::new(time, time)),
        (time(), time()).prop_map(|(lower, made)| SegmentName::new(lower, made)),
        foreign_stamp_text().prop_map(|text| SegmentName::from_stem(&format!("events-{text}")).unwrap()),
    ]
    .boxed()
}

/// Caller-defined documents.
fn own_document() -> BoxedStrategy<Document> {
    let owner = prop_oneof![
        job().prop_map(DocumentOwner::Job),
        repo().prop_map(DocumentOwner::Repo),
    ];
    (owner, name(), name())
        .prop_map(|(owner, kind, name)| {
            let (kind, name) = (DocumentKind::new(kind).unwrap(), DocumentName::new(name).unwrap());
            Document::Own(owner, kind, name)
        })
        .boxed()
}

pub fn phase() -> BoxedStrategy<Phase> {
    let own = prop_oneof![
        "[a-z][a-z0-9_-]{0,31}",
        select(vec!["v1", "checkpoint", "a-b", "map-", "reduce_"]).prop_map(str::to_owned),
    ];
    let own = own.prop_filter_map("no phase", |name| PhaseName::new(name).ok().map(Phase::Own));
    prop_oneof![select(Phase::ALL.to_vec()), own].boxed()
}

/// Stamps of checkpoints, some of them followed by a key.
fn keyed_stamp() -> BoxedStrategy<Stamp> {
    let hard = select(vec!["json", "a.json", "x-checkpoint-1", "20251115", "v1-"]).prop_map(str::to_owned);
    let key = prop_oneof![name(), hard].prop_map(|name| CheckpointKey::new(name).unwrap());
    (stamp(), prop::option::of(key))
        .prop_map(|(stamp, key)| stamp.with_key(key))
        .boxed()
}

pub fn document() -> BoxedStrategy<Document> {
    prop_oneof![
        (job(), phase(), keyed_stamp())
            .prop_map(|(job, phase, stamp)| Document::checkpoint(&job, phase, stamp)),
        job().prop_map(Document::Orphans),
        job().prop_map(Document::Finished),
        job().prop_map(Document::Fencing),
        repo().prop_map(Document::Repository),
        own_document(),
    ]
    .boxed()
}

pub fn entry() -> BoxedStrategy<Entry> {
    prop_oneof![
        3 => (job(), segment(), select(SegmentForm::ALL.to_vec()))
            .prop_map(|(job, segment, form)| Entry::Segment(job, segment, form)),
        1 => job().prop_map(Entry::Queue),
        1 => job().prop_map(Entry::QueueJournal),
        1 => job().prop_map(Entry::QueueLock),
        4 => document().prop_map(Entry::Document),
        1 => document().prop_filter_map("never compressed", |document| {
            document.may_be_packed().then_some(Entry::Compressed(document))
        }),
        2 => (repo(), session()).prop_map(|(repo, session)| Entry::Worktree(repo, session)),
        2 => lock().prop_map(Entry::Lock),
        1 => job().prop_map(Entry::StateLock),
        1 => repo().prop_map(Entry::DocumentsLock),
        1 => Just(Entry::RegistryLock),
        1 => job().prop_map(Entry::Tombstone),
        1 => repo().prop_map(Entry::DeletedLogs),
        1 => Just(Entry::Format),
    ]
    .boxed()
}
