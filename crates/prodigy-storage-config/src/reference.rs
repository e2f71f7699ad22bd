//! Writes the reference page of the configuration from the table of keys.

use std::fmt::Write;

use crate::key::{KeySpec, VARIABLE_PREFIX, VariableSpec};
use crate::keys::{KEYS, OTHER_VARIABLES, sections};

const INTRO: &str = "\
# Configuration

<!-- Generated from the table of keys in `prodigy-storage-config`. Change it there. -->

Every setting is under the top-level key `storage` of a YAML or TOML file, and every one has a default: an empty
file, a file without `storage` and no file at all are the defaults. Other top-level keys are left alone.

```yaml
storage:
  timeout: 30s
  backend_config:
    base_dir: ~/.prodigy
  retry_policy:
    max_retries: 5
```

```toml
[storage]
timeout = \"30s\"

[storage.backend_config]
base_dir = \"~/.prodigy\"

[storage.retry_policy]
max_retries = 5
```

An unknown key, a wrong type, an impossible value or combination is an error with its file, line and column, and all
errors of all sources come at once.

## Types

| type | written as |
|---|---|
| bool | `true` or `false`; in a variable or a flag also `1` or `0` |
| integer, float | a number without quotes |
| bytes | a whole number, or one with a unit: B, KB, MB, GB, TB, PB are powers of 1000, and KiB, MiB, GiB, TiB, PiB of 1024 |
| duration | numbers with units: `30s`, `500ms`, `1h 30m`; at most `100y` |
| path | text; `~` and `~/...` are expanded; `$VAR`, `%VAR%` and `file://` are errors |

A relative path in a file starts at the main worktree of the project that the file belongs to, so that all worktrees name
the same folder; outside of a repository it starts at the file's folder. In a bare repository the folder that holds the git
directory takes the main worktree's place. Where the file is a symbolic link, the place of the link counts. A relative
path in a variable is an error. A relative path in a flag starts at the current folder.
";

const SOURCES: &str = "\
## Sources

The later wins, key by key:

1. the defaults;
2. `config.yml`, `config.yaml` or `config.toml` in `~/.prodigy`, or in the folder that `PRODIGY_HOME` names;
3. the same in `.prodigy` at the root of the current worktree, else at that of the main worktree;
4. the file that `PRODIGY_CONFIG` names;
5. the file named in code or by `--config`;
6. the environment;
7. flags of the command line.

Only regular files of at most 1 MiB are read. A project's file that belongs neither to the current user nor to root is an
error: name the file in `PRODIGY_CONFIG` to use it on purpose. A notice reports what a project's file sets to weaken
durability or locking.

Prodigy reads the same file. Its keys `repository_grouping`, `base_path`, `compression_level`, `file` and `memory`, below
`storage` or `backend_config`, are ignored with a notice. A key of `storage` at the top level sets nothing, and is
reported; `config check` ends with 1 for it.

Two configuration files in one folder are an error. A key of one backend next to a `backend` that names the other one is
an error within one source; where a later source changes the backend, it is ignored with a notice. In the same way,
the later of `base_dir` and `use_global: false` counts.

## Environment

An empty variable counts as unset.

";

/// The reference page of the configuration in Markdown: every key with its type, default, meaning and variable.
#[must_use]
pub fn reference_markdown() -> String {
    let mut page = INTRO.to_owned();
    keys(&mut page, "Keys of `storage`", None);
    for section in sections() {
        keys(&mut page, &format!("Keys of `storage.{section}`"), Some(section));
    }
    page.push('\n');
    page.push_str(SOURCES);
    page.push_str("| variable | meaning |\n|---|---|\n");
    for variable in KEYS.iter().flat_map(|spec| spec.variables).chain(OTHER_VARIABLES) {
        row(&mut page, variable);
    }
    let example = KEYS
        .iter()
        .find(|spec| spec.section().is_some())
        .map(KeySpec::variable)
        .unwrap_or_default();
    let _ = writeln!(
        page,
        "| `{VARIABLE_PREFIX}<SECTION>__<KEY>` | any key: `{example}`; a key directly below `storage` has no section |"
    );
    page.push_str(
        "\nAny other name that starts with `PRODIGY__STORAGE__` or `PRODIGY_STORAGE_` is an error, except those that container\nplatforms set for a service whose name is or begins with `prodigy-storage`: `PRODIGY_STORAGE_SERVICE_*`,\n`PRODIGY_STORAGE_PORT*`, `PRODIGY_STORAGE_DB_SERVICE_HOST` and so on. Other\n`PRODIGY_` variables are left alone.\n",
    );
    page
}

fn keys(page: &mut String, title: &str, section: Option<&str>) {
    // Writing to a string never fails.
    let _ = write!(
        page,
        "\n## {title}\n\n| key | type | default | meaning |\n|---|---|---|---|\n"
    );
    for spec in KEYS.iter().filter(|spec| spec.section() == section) {
        let _ = write!(
            page,
            "| `{}` | {} | `{}` | ",
            spec.name(),
            spec.kind(),
            spec.default
        );
        if let Some(backend) = spec.backend {
            let _ = write!(page, "Backend `{backend}`. ");
        }
        page.push_str(spec.meaning);
        if let Some(why) = spec.deprecated {
            let _ = write!(page, " **Deprecated:** {why}.");
        }
        page.push_str(" |\n");
    }
}

fn row(page: &mut String, variable: &VariableSpec) {
    let _ = write!(page, "| `{}` | {}", variable.name, variable.meaning);
    if let Some(instead) = variable.instead {
        let _ = write!(page, "; **deprecated**, use `{instead}`");
    }
    page.push_str(" |\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_key_and_variable() {
        let page = reference_markdown();
        for spec in KEYS {
            let row = format!("| `{}` | {} | `{}` | ", spec.name(), spec.kind(), spec.default);
            assert!(page.contains(&row), "{row}");
            assert!(page.contains(spec.meaning));
            for variable in spec.variables {
                assert!(page.contains(&format!("| `{}` |", variable.name)));
            }
        }
        assert!(page.contains("`PRODIGY_HOME`") && page.contains("`PRODIGY_CONFIG`"));
        assert!(page.lines().all(|line| !line.ends_with(' ')));
    }
}
