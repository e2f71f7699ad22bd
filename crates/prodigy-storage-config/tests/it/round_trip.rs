//! A configuration that is written and read again is the same.

use std::path::PathBuf;
use std::time::Duration;

use prodigy_storage_config::{
    BackendKind, CacheSettings, CacheType, Durability, FileSettings, MAX_DURATION, MapEnvironment,
    MemorySettings, PostgresSettings, RetrySettings, StorageConfig,
};
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = u64> {
    prop_oneof![
        1..=u64::from(u32::MAX),
        Just(i64::MAX as u64),
        1..=i64::MAX as u64
    ]
}

fn count() -> impl Strategy<Value = usize> {
    bytes().prop_map(|count| usize::try_from(count).unwrap_or(usize::MAX))
}

fn duration() -> impl Strategy<Value = Duration> {
    (0..MAX_DURATION.as_secs(), 0..1_000_000_000_u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos))
}

fn period() -> impl Strategy<Value = Duration> {
    duration().prop_map(|period| period.max(Duration::from_nanos(1)))
}

/// Paths that would have another meaning in one of the formats if they were not quoted, and random paths.
fn path() -> impl Strategy<Value = PathBuf> {
    let odd = proptest::sample::select(vec![
        "~",
        "~/x",
        "null",
        "true",
        "12",
        "0x1F",
        "1.5",
        ".inf",
        "- a",
        "a: b",
        "a #b",
        "#",
        "&a",
        "*a",
        "<<",
        "{a}",
        "[a]",
        "!x",
        "%x",
        "@x",
        "`x`",
        "'",
        "\"",
        " a ",
        "\u{feff}",
        "é",
        "---",
        "...",
        "?",
        ":",
        "a\\nb",
        "",
        "yes",
        "2026-01-02",
        "\u{10ffff}",
    ]);
    let any = proptest::collection::vec(any::<char>(), 1..12).prop_map(|chars| {
        chars
            .into_iter()
            .filter(|c| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '$' | '%'))
            .collect::<String>()
    });
    prop_oneof![odd.prop_map(str::to_owned), any, "[a-z/.]{1,20}"].prop_map(|text| {
        let user = text.starts_with('~') && text != "~" && !text.starts_with("~/");
        PathBuf::from(if text.is_empty() || user {
            format!("/x{text}")
        } else {
            text
        })
    })
}

fn retry() -> impl Strategy<Value = RetrySettings> {
    (
        any::<u32>(),
        duration(),
        duration(),
        1.0..1e300_f64,
        any::<bool>(),
    )
        .prop_map(|(max_retries, a, b, backoff_multiplier, jitter)| {
            RetrySettings::default()
                .max_retries(max_retries)
                .initial_delay(a.min(b))
                .max_delay(a.max(b))
                .backoff_multiplier(backoff_multiplier)
                .jitter(jitter)
        })
}

fn cache() -> impl Strategy<Value = CacheSettings> {
    (count(), period(), bytes()).prop_map(|(max_entries, ttl, max_bytes)| {
        CacheSettings::default()
            .max_entries(max_entries)
            .ttl(ttl)
            .max_bytes(max_bytes)
            .cache_type(CacheType::Memory)
    })
}

fn file() -> impl Strategy<Value = FileSettings> {
    let queue = proptest::option::of(bytes());
    (path(), any::<[bool; 6]>(), bytes(), [bytes(), bytes()], queue).prop_map(
        |(base_dir, flags, max_file_size, [max_record_size, max_document_size], max_queue_size)| {
            let [
                use_global,
                enable_file_locks,
                enable_compression,
                allow_shared_root,
                allow_network_fs,
                allow_foreign_owner,
            ] = flags;
            FileSettings::default()
                // With `use_global: false` the root is not written, since it follows from the project.
                .base_dir(if use_global {
                    base_dir
                } else {
                    FileSettings::default().base_dir
                })
                .use_global(use_global)
                .enable_file_locks(enable_file_locks)
                .max_file_size(max_file_size)
                .enable_compression(enable_compression)
                .max_record_size(max_record_size)
                .max_document_size(max_document_size)
                .max_queue_size(max_queue_size)
                .allow_shared_root(allow_shared_root)
                .allow_network_fs(allow_network_fs)
                .allow_foreign_owner(allow_foreign_owner)
        },
    )
}

fn memory() -> impl Strategy<Value = MemorySettings> {
    (bytes(), any::<bool>(), proptest::option::of(path())).prop_map(
        |(max_memory, persist, persistence_path)| {
            MemorySettings::default()
                .max_memory(max_memory)
                .persist_to_disk(persist && persistence_path.is_some())
                .persistence_path(persistence_path)
        },
    )
}

fn config() -> impl Strategy<Value = StorageConfig> {
    let backend = prop_oneof![
        file().prop_map(|file| StorageConfig::default().file(file)),
        memory().prop_map(|memory| StorageConfig::default()
            .backend(BackendKind::Memory)
            .memory(memory)),
        ("[a-z:/@?=&%' ]{0,30}", "[a-z_]{1,20}").prop_map(|(url, name)| {
            let postgres = PostgresSettings::default().url(Some(format!("postgresql://{url}")));
            let postgres = postgres.schema(name.clone()).application_name(name);
            StorageConfig::default()
                .backend(BackendKind::Postgres)
                .postgres(postgres)
        }),
    ];
    let durability = prop_oneof![Just(Durability::Strict), Just(Durability::Relaxed)];
    (
        backend,
        count(),
        period(),
        any::<[bool; 2]>(),
        durability,
        retry(),
        cache(),
    )
        .prop_map(
            |(base, connection_pool_size, timeout, flags, durability, retry_policy, cache_config)| {
                base.connection_pool_size(connection_pool_size)
                    .timeout(timeout)
                    .enable_locking(flags[0])
                    .enable_cache(flags[1])
                    .durability(durability)
                    .retry_policy(retry_policy)
                    .cache_config(cache_config)
            },
        )
}

proptest! {
    #[test]
    fn any_valid_configuration_survives_both_formats(config in config()) {
        let yaml = config.to_yaml().unwrap();
        let read = StorageConfig::from_yaml(&yaml).map_err(|errors| TestCaseError::fail(format!("{errors}\n{yaml}")))?;
        prop_assert_eq!(&read, &config, "{}", yaml);
        let toml = config.to_toml().unwrap();
        let read = StorageConfig::from_toml(&toml).map_err(|errors| TestCaseError::fail(format!("{errors}\n{toml}")))?;
        prop_assert_eq!(&read, &config, "{}", toml);
    }

    #[test]
    fn any_valid_configuration_resolves_and_stays_so(config in config()) {
        let environment = MapEnvironment::new().with("HOME", "/home/ada");
        let project = Some(std::path::Path::new("/project"));
        let resolved = config.resolved(&environment, project).unwrap();
        prop_assert!(!resolved.file.base_dir.starts_with("~") || config.backend != BackendKind::File);
        // A resolved configuration needs neither the home folder nor the project.
        prop_assert_eq!(resolved.resolved(&MapEnvironment::new(), None).unwrap(), resolved);
    }
}

#[test]
fn resolving_names_everything_that_is_impossible() {
    let mut config = StorageConfig::default()
        .timeout(Duration::ZERO)
        .connection_pool_size(0);
    config.retry_policy.backoff_multiplier = f64::NAN;
    config.retry_policy.initial_delay = Duration::from_secs(31);
    config.file.base_dir = PathBuf::from("~bob/x");
    // The memory backend is not chosen, so its settings are not checked.
    config.memory.max_memory = 0;
    let errors = config.resolved(&MapEnvironment::new(), None).unwrap_err();
    let keys: Vec<_> = errors.iter().filter_map(|error| error.key_path()).collect();
    assert_eq!(
        keys,
        [
            "connection_pool_size",
            "timeout",
            "backend_config.base_dir",
            "retry_policy.backoff_multiplier",
            "retry_policy.initial_delay"
        ]
    );
}

#[test]
fn resolving_places_the_root() {
    let environment = MapEnvironment::new().with("HOME", "/home/ada");
    let base = |config: &StorageConfig, environment: &MapEnvironment| {
        config
            .resolved(environment, Some("/project".as_ref()))
            .unwrap()
            .file
            .base_dir
    };
    let mut config = StorageConfig::default();
    assert_eq!(base(&config, &environment), PathBuf::from("/home/ada/.prodigy"));
    let moved = environment.clone().with("PRODIGY_HOME", "~/elsewhere");
    assert_eq!(base(&config, &moved), PathBuf::from("/home/ada/elsewhere"));
    config.file.base_dir = PathBuf::from("/srv");
    assert_eq!(base(&config, &moved), PathBuf::from("/srv"));
    config = StorageConfig::default();
    config.file.use_global = false;
    assert_eq!(base(&config, &environment), PathBuf::from("/project/.prodigy"));
    let errors = StorageConfig::default()
        .resolved(&MapEnvironment::new(), None)
        .unwrap_err();
    assert!(errors.to_string().contains("home folder"), "{errors}");
}
