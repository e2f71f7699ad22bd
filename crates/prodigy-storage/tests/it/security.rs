//! Stored data appears in no error and in no `tracing` event. A planted registry entry has no effect.

use std::fmt::{self, Debug, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prodigy_storage::{
    AppendOptions, DeadLetter, ErrorKind, Expected, Failure, Fence, ItemId, Job, LeaseToken,
    OrphanedWorktree, SaveOptions, Select, Storage,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tempfile::TempDir;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber};

use crate::support::{Fixture, builder, file_with, memory_with};

const SECRET: &str = "canary-f00d";

/// The `tracing` events of this thread, and the errors of its calls, as text.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<String>>);

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = writeln!(self.0, "{field}={value:?}");
    }
}

impl Subscriber for Told {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("prodigy_storage")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut Text(&mut self.0.lock()));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Text(&mut self.0.lock()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Text(&mut self.0.lock()));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Errors as text, in every form in which they may be shown.
#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    fn note<T>(&mut self, what: &str, result: prodigy_storage::Result<T>) {
        let Err(error) = result else {
            panic!("{what} should fail");
        };
        let mut text = format!("{what}: {error} | {error:?} | {error:#?} | {:?}", error.hint());
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
        while let Some(error) = cause {
            let _ = write!(text, " | {error} | {error:?}");
            cause = error.source();
        }
        self.0.push(text);
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Colour {
    Red,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only parsed")]
struct Other {
    known: u8,
}

fn letter(id: &str) -> DeadLetter<String> {
    let failure = Failure::new("timeout", format!("{SECRET} took too long"));
    DeadLetter::new(ItemId::new(id).unwrap(), SECRET.to_owned()).failure(failure)
}

fn events(job: &Job, failures: &mut Failures) {
    let events = job.events();
    let secret = serde_json::json!({ SECRET: SECRET });
    events.append(SECRET).unwrap();
    events
        .append_with(
            &secret,
            AppendOptions::default().correlation_id(SECRET).metadata(&secret),
        )
        .unwrap();
    failures.note("too large", events.append(&SECRET.repeat(1_000)));
    let deep = format!("{}\"{SECRET}\"{}", "[".repeat(200), "]".repeat(200));
    let deep: Box<RawValue> = serde_json::from_str(&deep).unwrap_or_else(|_| {
        let mut parser = serde_json::Deserializer::from_str(&deep);
        parser.disable_recursion_limit();
        Box::deserialize(&mut parser).unwrap()
    });
    failures.note("too deep", events.append(&deep));
    let lone = RawValue::from_string(format!("\"{SECRET}\\ud800\"")).unwrap();
    failures.note("no Unicode", events.append(&lone));
    for (what, error) in [
        ("as number", first_error::<u32>(job)),
        ("as enum", first_error::<Colour>(job)),
        ("as struct", first_error::<Other>(job)),
        ("as map", first_error::<std::collections::HashMap<u8, u8>>(job)),
    ] {
        failures.note(what, error);
    }
}

fn first_error<T: serde::de::DeserializeOwned + Debug>(job: &Job) -> prodigy_storage::Result<()> {
    for event in job.events().read::<T>()? {
        event?;
    }
    Ok(())
}

fn checkpoints(job: &Job, failures: &mut Failures) {
    let checkpoints = job.checkpoints();
    checkpoints.save_setup(&SECRET, SaveOptions::default()).unwrap();
    let saved = checkpoints.save_map(&SECRET, SaveOptions::default()).unwrap();
    failures.note("map as number", checkpoints.latest_map::<u32>());
    failures.note("map as enum", checkpoints.latest_map::<Colour>());
    failures.note("setup as struct", checkpoints.latest_setup::<Other>());
    failures.note("get", checkpoints.get::<Vec<u8>>(&saved.id));
    let stale = SaveOptions::new().expected_revision(Expected::Absent);
    failures.note("conflict", checkpoints.save_setup(&SECRET, stale));
    let fenced = |token| job.with_fence(Fence::unnamed(token).unwrap()).checkpoints();
    fenced(9).save_map(&SECRET, SaveOptions::new()).unwrap();
    failures.note("fenced", fenced(3).save_map(&SECRET, SaveOptions::new()));
}

fn dead_letters(job: &Job, failures: &mut Failures) {
    let dlq = job.dlq();
    dlq.push(&letter("item-1")).unwrap();
    dlq.push(&letter("item-1")).unwrap();
    dlq.push(&letter("item-2")).unwrap();
    let raw = |text: String| RawValue::from_string(text).unwrap();
    failures.note("no object", dlq.push_raw(&raw(format!("\"{SECRET}\""))));
    failures.note(
        "no id",
        dlq.push_raw(&raw(format!("{{\"item_data\":\"{SECRET}\"}}"))),
    );
    failures.note(
        "id is no text",
        dlq.push_raw(&raw(format!("{{\"item_id\":[\"{SECRET}\"]}}"))),
    );
    let large = format!("{{\"item_id\":\"x\",\"item_data\":\"{}\"}}", SECRET.repeat(1_000));
    failures.note("too large an item", dlq.push_raw(&raw(large)));
    let item = dlq.get(&ItemId::new("item-1").unwrap()).unwrap().unwrap();
    failures.note("data as number", item.data::<u32>());
    failures.note("letter as enum", item.letter::<Colour>());
    let taken = dlq.take(&Select::eligible(), 1, Duration::from_secs(60)).unwrap();
    failures.note("taken as struct", taken[0].data::<Other>());
    let tokens: Vec<LeaseToken> = taken.iter().map(|taken| taken.token().clone()).collect();
    dlq.release(&tokens, Duration::ZERO).unwrap();
    dlq.ack(&tokens).unwrap();
    dlq.by_signature(&Select::any()).unwrap();
}

fn orphans(job: &Job) {
    let mut orphan = OrphanedWorktree::new("agent", "item", "/somewhere", SECRET);
    orphan.extra.insert(SECRET.into(), SECRET.into());
    job.orphans().record(&orphan).unwrap();
    job.orphans().list().unwrap();
}

/// Damages every file below a folder: bytes in the middle, and the end.
fn spoil(root: &Path) -> Vec<PathBuf> {
    let mut spoilt = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut bytes = std::fs::read(&path).unwrap();
            let Some(at) = bytes
                .windows(SECRET.len())
                .position(|part| part == SECRET.as_bytes())
            else {
                continue;
            };
            bytes[at + SECRET.len()] ^= 1;
            bytes.extend_from_slice(format!("{{\"torn\":\"{SECRET}").as_bytes());
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            std::fs::write(&path, bytes).unwrap();
            spoilt.push(path);
        }
    }
    spoilt
}

fn scenario(fixture: &Fixture) -> Failures {
    let mut failures = Failures::default();
    let job = fixture.job();
    events(&job, &mut failures);
    checkpoints(&job, &mut failures);
    dead_letters(&job, &mut failures);
    orphans(&job);
    failures
}

/// Uses a job whose files are damaged. The reports of the damage must not contain stored text.
fn damaged(folder: &TempDir) -> Failures {
    let mut failures = Failures::default();
    let root = folder.path().join("root");
    assert!(spoil(&root).len() >= 4);
    let open = |read_only| {
        let storage = small(builder(folder).base_dir(&root))
            .read_only(read_only)
            .open()
            .unwrap();
        storage.repo("shop").unwrap().job("job-1").unwrap()
    };
    for job in [open(true), open(false)] {
        let mut damage = 0;
        let mut lines = job.events().read_lines(Default::default()).unwrap();
        while let Some(item) = lines.next().unwrap() {
            if let prodigy_storage::ScanItem::Damage(found) = item {
                assert!(!format!("{found:?}").contains(SECRET));
                damage += 1;
            }
        }
        assert!(damage > 0);
        failures.note("damaged setup", job.checkpoints().latest_setup::<String>());
        failures.note("damaged maps", job.checkpoints().latest_map::<String>());
        failures.note("damaged orphans", job.orphans().list());
        for item in job.dlq().scan(&Select::any()).unwrap() {
            if let Err(error) = item {
                failures.note("damaged item", Err::<(), _>(error));
            }
        }
    }
    failures.note("read only", open(true).events().append(SECRET));
    let job = open(false);
    // These calls move damaged data to the quarantine.
    job.events().append(SECRET).unwrap();
    job.dlq().push(&letter("item-3")).unwrap();
    job.dlq().push(&letter("item-3")).unwrap();
    job.checkpoints()
        .save_map(&SECRET, SaveOptions::default())
        .unwrap();
    failures
}

fn small(builder: prodigy_storage::StorageBuilder) -> prodigy_storage::StorageBuilder {
    builder
        .set("backend_config.max_record_size", "4096")
        .set("durability", "relaxed")
}

fn all() -> Failures {
    let options = prodigy_storage_memory::MemoryOptions::new().max_record_size(4096);
    let memory = prodigy_storage_memory::MemoryBackend::new(options).unwrap();
    let memory = memory_with(|b| b.backend(Arc::new(memory)));
    let mut failures = scenario(&memory);
    let Fixture { storage, folder } = file_with(small);
    let fixture = Fixture { storage, folder };
    failures.0.extend(scenario(&fixture).0);
    let Fixture { storage, folder } = fixture;
    drop(storage);
    failures.0.extend(damaged(&folder).0);
    failures
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

#[test]
fn no_payload_shows_in_an_error_or_in_a_tracing_event() {
    // Calls everything once before the subscriber is installed, so that other tests can't disable these events.
    all();
    let told = Told::default();
    let _second = Dispatch::new(Told::default());
    let failures = tracing::subscriber::with_default(told.clone(), all);
    assert!(failures.0.len() > 40, "{}", failures.0.len());
    for failure in &failures.0 {
        assert!(!failure.contains(SECRET), "{failure}");
    }
    let told = told.0.lock();
    for message in [
        "appended",
        "document written",
        "moved to quarantine",
        "queue compacted",
    ] {
        assert!(told.contains(message), "{message}");
    }
    assert!(
        !told.contains(SECRET),
        "{}",
        told.lines().find(|line| line.contains(SECRET)).unwrap()
    );
}

fn repository(at: &Path) {
    std::fs::create_dir_all(at.join(".git/objects")).unwrap();
    std::fs::create_dir_all(at.join(".git/refs")).unwrap();
    std::fs::write(at.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
}

#[test]
fn a_registry_entry_that_is_a_link_is_told_and_keeps_no_other_from_being_found() {
    let Fixture { storage, folder } = file_with(|b| b);
    let (shop, other) = (folder.path().join("shop"), folder.path().join("other"));
    for at in [&shop, &other] {
        repository(at);
        storage.repo_at(at).unwrap();
    }
    let entry = folder.path().join("root/state/shop/repository.json");
    let outside = folder.path().join("outside.json");
    std::fs::rename(&entry, &outside).unwrap();
    symlink(&outside, &entry).unwrap();
    let before = (
        std::fs::read(&outside).unwrap(),
        std::fs::metadata(&outside).unwrap().modified().unwrap(),
    );
    let error = storage.repo_at(&shop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("link"), "{error}");
    assert_eq!(
        storage.relink(&shop, "shop").unwrap_err().kind(),
        ErrorKind::Refused
    );
    assert_eq!(storage.repo_at(&other).unwrap().name().as_str(), "other");
    // A new repository is compared with all registered repositories.
    let new = folder.path().join("new");
    repository(&new);
    assert_eq!(storage.repo_at(&new).unwrap().name().as_str(), "new");
    let after = (
        std::fs::read(&outside).unwrap(),
        std::fs::metadata(&outside).unwrap().modified().unwrap(),
    );
    assert_eq!(after, before);
    assert!(std::fs::symlink_metadata(&entry).unwrap().is_symlink());
}

#[test]
fn a_checkpoint_that_is_a_link_is_not_taken_for_none() {
    let Fixture { storage, folder } = file_with(|b| b);
    let job = storage.repo("shop").unwrap().job("job-1").unwrap();
    job.checkpoints().save_map(&1, SaveOptions::default()).unwrap();
    job.checkpoints().save_setup(&1, SaveOptions::default()).unwrap();
    let newest = job.checkpoints().save_map(&2, SaveOptions::default()).unwrap();
    let jobs = folder.path().join("root/state/shop/mapreduce/jobs/job-1");
    let outside = folder.path().join("outside.json");
    for entry in std::fs::read_dir(&jobs).unwrap() {
        let path = entry.unwrap().path();
        let stamp = newest.id.time().unwrap().to_string();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.contains(&stamp) || name.starts_with("setup") {
            std::fs::rename(&path, &outside).unwrap();
            symlink(&outside, &path).unwrap();
        }
    }
    // A link at the path of a checkpoint is refused. It would be wrong to return an older checkpoint, or `None`,
    // after which a job would start again.
    for result in [
        job.checkpoints().latest_map::<u32>(),
        job.checkpoints().latest_setup::<u32>(),
    ] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Refused);
    }
}

#[test]
fn a_root_without_protection_is_refused_with_the_key_to_set() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o777)).unwrap();
    let open = |key: Option<&str>| {
        let builder = builder(&folder).base_dir(&root);
        let builder = match key {
            Some(key) => builder.set(key, "true"),
            None => builder,
        };
        builder.open()
    };
    let error = open(None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(
        error
            .hint()
            .unwrap()
            .contains("backend_config.allow_shared_root: true")
    );
    let storage: Storage = open(Some("backend_config.allow_shared_root")).unwrap();
    storage
        .repo("shop")
        .unwrap()
        .job("j")
        .unwrap()
        .events()
        .append("x")
        .unwrap();
}
