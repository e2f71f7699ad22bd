//! The table of all keys. Parsing, variables, defaults, documentation and origins use it.

use crate::field::Field;
use crate::key::{KeySpec, VariableSpec};
use crate::kind::BackendKind::{File, Memory, Postgres};

/// The variable with the folder that is used instead of `~/.prodigy`.
pub(crate) const HOME_VARIABLE: &str = "PRODIGY_HOME";
/// The variable that names a configuration file.
pub(crate) const CONFIG_VARIABLE: &str = "PRODIGY_CONFIG";

/// The variable with which a fencing token is passed to a process.
pub const FENCE_VARIABLE: &str = "PRODIGY_STORAGE_FENCE";

const BASE_PATH: &str = "PRODIGY_STORAGE_BASE_PATH";

/// Variables of storage that do not set a key.
pub(crate) static OTHER_VARIABLES: &[VariableSpec] = &[
    VariableSpec {
        name: HOME_VARIABLE,
        instead: None,
        meaning: "a folder to use instead of `~/.prodigy`, both as the default of `backend_config.base_dir` and for the configuration file there",
    },
    VariableSpec {
        name: CONFIG_VARIABLE,
        instead: None,
        meaning: "a configuration file; one that is missing is an error",
    },
    VariableSpec {
        name: FENCE_VARIABLE,
        instead: None,
        meaning: "the fencing token that every write to a job carries, as `NAME=TOKEN`; `lock run` sets it for its command, and no file can set it",
    },
];

/// All keys, in the order in which they are written and documented.
pub static KEYS: &[KeySpec] = &[
    KeySpec::new(
        "backend",
        "file",
        Field::Backend(|c| &mut c.backend),
        "Where data goes: `file` (also written `filesystem`) for production on one machine, `postgres` for many machines, `memory` for tests.",
    )
    .also(&[
        VariableSpec {
            name: "PRODIGY_STORAGE_TYPE",
            instead: None,
            meaning: "sets `backend`, in any case of letters",
        },
        VariableSpec {
            name: "PRODIGY_STORAGE_BACKEND",
            instead: Some("PRODIGY_STORAGE_TYPE"),
            meaning: "the same, as Prodigy reads it; only where the name before it is unset",
        },
    ])
    .weaker("memory"),
    KeySpec::new(
        "connection_pool_size",
        "10",
        Field::Count(|c| &mut c.connection_pool_size),
        "The largest number of backend operations that run at once, and of connections to a database. Appends to files do not count.",
    ),
    KeySpec::new(
        "timeout",
        "30s",
        Field::Period(|c| &mut c.timeout),
        "The longest duration of one call, including waits and retries.",
    ),
    KeySpec::new(
        "enable_locking",
        "true",
        Field::Bool(|c| &mut c.enable_locking),
        "True to take named locks between processes.",
    )
    .weaker("false"),
    KeySpec::new(
        "enable_cache",
        "false",
        Field::Bool(|c| &mut c.enable_cache),
        "True to cache documents in memory.",
    ),
    KeySpec::new(
        "durability",
        "strict",
        Field::Durability(|c| &mut c.durability),
        "What a finished write survives: power loss (`strict`), or the death of the process only (`relaxed`).",
    )
    .weaker("relaxed"),
    KeySpec::new(
        "backend_config.base_dir",
        "~/.prodigy",
        Field::Path(|c| &mut c.file.base_dir),
        "Root of all data. In a file, a relative path starts at the main worktree of the file's project, else at the file's folder.",
    )
    .of(File)
    .also(&[
        VariableSpec {
            name: BASE_PATH,
            instead: None,
            meaning: "sets `backend_config.base_dir`",
        },
        VariableSpec {
            name: "PRODIGY_STORAGE_DIR",
            instead: Some(BASE_PATH),
            meaning: "the same, read only where the name before it is unset",
        },
        VariableSpec {
            name: "PRODIGY_STORAGE_PATH",
            instead: Some(BASE_PATH),
            meaning: "the same, read only where the names before it are unset",
        },
    ]),
    KeySpec::new(
        "backend_config.use_global",
        "true",
        Field::Bool(|c| &mut c.file.use_global),
        "True to store data under `base_dir`; `false` puts it into `.prodigy/` of the current worktree.",
    )
    .of(File)
    .deprecated("`false` is deprecated: worktrees then share nothing"),
    KeySpec::new(
        "backend_config.enable_file_locks",
        "true",
        Field::Bool(|c| &mut c.file.enable_file_locks),
        "True to separate processes by locks of the operating system; `false` promises that a single process writes.",
    )
    .of(File)
    .weaker("false"),
    KeySpec::new(
        "backend_config.max_file_size",
        "104857600",
        Field::Bytes(|c| &mut c.file.max_file_size),
        "A log segment larger than this is rotated.",
    )
    .of(File),
    KeySpec::new(
        "backend_config.enable_compression",
        "false",
        Field::Bool(|c| &mut c.file.enable_compression),
        "True to compress sealed log segments.",
    )
    .of(File),
    KeySpec::new(
        "backend_config.max_record_size",
        "67108864",
        Field::Bytes(|c| &mut c.file.max_record_size),
        "A larger event or item is refused. A stored one that is larger, and larger than 64 MiB, is reported as too large and not given.",
    ),
    KeySpec::new(
        "backend_config.max_document_size",
        "67108864",
        Field::Bytes(|c| &mut c.file.max_document_size),
        "A larger checkpoint or document is refused. A stored one that is larger, and larger than 1 MiB, is not read.",
    ),
    KeySpec::new(
        "backend_config.max_queue_size",
        "none",
        Field::OptionalBytes(|c| &mut c.file.max_queue_size),
        "A push that would make a job's queue of dead letters larger is refused; `health` warns from 80 % on.",
    ),
    KeySpec::new(
        "backend_config.allow_shared_root",
        "false",
        Field::Bool(|c| &mut c.file.allow_shared_root),
        "True to accept a root that any user may write to.",
    )
    .of(File)
    .weaker("true"),
    KeySpec::new(
        "backend_config.allow_network_fs",
        "false",
        Field::Bool(|c| &mut c.file.allow_network_fs),
        "True to accept a network file system.",
    )
    .of(File)
    .weaker("true"),
    KeySpec::new(
        "backend_config.allow_foreign_owner",
        "false",
        Field::Bool(|c| &mut c.file.allow_foreign_owner),
        "True to write as another user than the owner of the root.",
    )
    .of(File)
    .weaker("true"),
    KeySpec::new(
        "backend_config.max_memory",
        "104857600",
        Field::Bytes(|c| &mut c.memory.max_memory),
        "Past this a write is refused.",
    )
    .of(Memory),
    KeySpec::new(
        "backend_config.persist_to_disk",
        "false",
        Field::Bool(|c| &mut c.memory.persist_to_disk),
        "True to write a snapshot on flush and on drop.",
    )
    .of(Memory),
    KeySpec::new(
        "backend_config.persistence_path",
        "none",
        Field::OptionalPath(|c| &mut c.memory.persistence_path),
        "Where the snapshot goes; needed with `persist_to_disk`. Relative paths as in `base_dir`.",
    )
    .of(Memory),
    KeySpec::new(
        "backend_config.url",
        "none",
        Field::Url(|c| &mut c.postgres.url),
        "The connection string of the database: a URL, or pairs of key and value. Better without a password: `PGPASSWORD`, `PGPASSFILE` and `~/.pgpass` count.",
    )
    .also(&[VariableSpec {
        name: "PRODIGY_STORAGE_URL",
        instead: None,
        meaning: "sets `backend_config.url`",
    }])
    .of(Postgres),
    KeySpec::new(
        "backend_config.schema",
        "prodigy",
        Field::Name(|c| &mut c.postgres.schema),
        "The schema that holds the tables. Several stores can be in one database.",
    )
    .of(Postgres),
    KeySpec::new(
        "backend_config.application_name",
        "prodigy-storage",
        Field::Name(|c| &mut c.postgres.application_name),
        "The name of the program in the server's list of sessions.",
    )
    .of(Postgres),
    KeySpec::new(
        "retry_policy.max_retries",
        "3",
        Field::Retries(|c| &mut c.retry_policy.max_retries),
        "Retries after the first try; 0 for none.",
    ),
    KeySpec::new(
        "retry_policy.initial_delay",
        "1s",
        Field::Delay(|c| &mut c.retry_policy.initial_delay),
        "The delay before the first retry; not above `max_delay`.",
    ),
    KeySpec::new(
        "retry_policy.max_delay",
        "30s",
        Field::Delay(|c| &mut c.retry_policy.max_delay),
        "The longest delay, including jitter.",
    ),
    KeySpec::new(
        "retry_policy.backoff_multiplier",
        "2.0",
        Field::Factor(|c| &mut c.retry_policy.backoff_multiplier),
        "Each delay is this many times the one before.",
    ),
    KeySpec::new(
        "retry_policy.jitter",
        "true",
        Field::Bool(|c| &mut c.retry_policy.jitter),
        "True to draw each delay at random between half of it and all of it.",
    ),
    KeySpec::new(
        "cache_config.max_entries",
        "1000",
        Field::Count(|c| &mut c.cache_config.max_entries),
        "The largest number of entries; the least recently used one is evicted first.",
    ),
    KeySpec::new(
        "cache_config.ttl",
        "1h",
        Field::Period(|c| &mut c.cache_config.ttl),
        "An older entry is not served.",
    ),
    KeySpec::new(
        "cache_config.max_bytes",
        "67108864",
        Field::Bytes(|c| &mut c.cache_config.max_bytes),
        "The largest total size of all entries.",
    ),
    KeySpec::new(
        "cache_config.cache_type",
        "memory",
        Field::CacheType(|c| &mut c.cache_config.cache_type),
        "Where entries are kept.",
    ),
    KeySpec::new(
        "retention.finished_jobs",
        "none",
        Field::OptionalPeriod(|c| &mut c.retention.finished_jobs),
        "`clean` deletes a finished job at this age, from the later of `finish` and the last write.",
    ),
    KeySpec::new(
        "retention.idle_jobs",
        "none",
        Field::OptionalPeriod(|c| &mut c.retention.idle_jobs),
        "`clean` deletes a job that never finished and is not active at this age, from the last write.",
    ),
    KeySpec::new(
        "retention.checkpoints.keep",
        "none",
        Field::OptionalCount(|c| &mut c.retention.checkpoints_keep),
        "The number of newest checkpoints of each phase that stay; without `max_age`, `clean` deletes the others.",
    ),
    KeySpec::new(
        "retention.checkpoints.max_age",
        "none",
        Field::OptionalPeriod(|c| &mut c.retention.checkpoints),
        "`clean` deletes a checkpoint at this age, unless it is one of the `keep` newest or the newest valid one.",
    ),
    KeySpec::new(
        "retention.events.max_age",
        "none",
        Field::OptionalPeriod(|c| &mut c.retention.events),
        "`clean` removes sealed segments of jobs that are not active at this age of their last event.",
    ),
    KeySpec::new(
        "retention.dead_letters.max_age",
        "none",
        Field::OptionalPeriod(|c| &mut c.retention.dead_letters),
        "`clean` removes a parked dead letter at this age of its last attempt.",
    ),
    KeySpec::new(
        "retention.orphans.max_age",
        "none",
        Field::OptionalPeriod(|c| &mut c.retention.orphans),
        "`clean` removes the record of an orphaned worktree at this age. The worktree stays.",
    ),
    KeySpec::new(
        "retention.quarantine.max_age",
        "none",
        Field::OptionalPeriod(|c| &mut c.retention.quarantine),
        "`clean` removes a file of the quarantine at this age.",
    )
    .of(File),
];

/// The description of the key at this path below `storage`.
#[must_use]
pub fn key(path: &str) -> Option<&'static KeySpec> {
    KEYS.iter().find(|spec| spec.path == path)
}

/// The paths of all sections below `storage`, in order. A section within another one has a dot in its path.
pub(crate) fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = None;
    KEYS.iter().filter_map(move |spec| {
        let section = spec.section();
        if section == last {
            return None;
        }
        last = section;
        section
    })
}

/// The sections directly within a section, or directly below `storage` for `None`. Each is given with its name and
/// its path.
pub(crate) fn sections_of(parent: Option<&str>) -> impl Iterator<Item = (&'static str, &'static str)> {
    sections().filter_map(move |path| {
        let (above, name) = path
            .rsplit_once('.')
            .map_or((None, path), |(above, name)| (Some(above), name));
        (above == parent).then_some((name, path))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::StorageConfig;

    #[test]
    fn the_documented_defaults_are_the_real_ones() {
        let mut config = StorageConfig::default();
        for spec in KEYS {
            assert_eq!(spec.field.text(&mut config), spec.default, "{}", spec.path);
        }
    }

    #[test]
    fn paths_are_unique_and_sections_stand_together() {
        let paths: HashSet<_> = KEYS.iter().map(|spec| spec.path).collect();
        assert_eq!(paths.len(), KEYS.len());
        assert_eq!(
            sections().collect::<Vec<_>>(),
            [
                "backend_config",
                "retry_policy",
                "cache_config",
                "retention",
                "retention.checkpoints",
                "retention.events",
                "retention.dead_letters",
                "retention.orphans",
                "retention.quarantine"
            ]
        );
        assert!(
            KEYS.iter()
                .all(|spec| key(spec.path).is_some_and(|found| std::ptr::eq(found, spec)))
        );
    }

    #[test]
    fn names_are_made_from_the_path() {
        let spec = key("retry_policy.max_retries").unwrap();
        assert_eq!(spec.variable(), "PRODIGY__STORAGE__RETRY_POLICY__MAX_RETRIES");
        assert_eq!(key("backend_config.base_dir").unwrap().flag(), "--base-dir");
        assert_eq!(
            (spec.section(), spec.name()),
            (Some("retry_policy"), "max_retries")
        );
    }
}
