//! callgrind counts the instructions of a command.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The reason why callgrind can't be used, if there is one.
pub(super) fn lacking() -> Option<String> {
    let probe = Command::new("valgrind")
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    match probe {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("valgrind does not work here: {}", output.status)),
        Err(error) => Some(format!(
            "valgrind can't be started: {error}; no instructions are counted"
        )),
    }
}

/// The number of instructions that all threads of a command execute in user space.
pub(super) fn instructions(command: &Command) -> Result<u64> {
    let profile = tempfile::NamedTempFile::new()?;
    let mut valgrind = Command::new("valgrind");
    let mut out = std::ffi::OsString::from("--callgrind-out-file=");
    out.push(profile.path());
    valgrind
        .args(["--tool=callgrind", "--quiet"])
        .arg(out)
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null());
    let output = valgrind.output().context("can't start valgrind")?;
    ensure!(
        output.status.success(),
        "valgrind ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    total(&std::fs::read_to_string(profile.path())?).context("callgrind told no total")
}

/// Parses the line `totals: N`, or `summary: N` of an older version.
fn total(profile: &str) -> Option<u64> {
    let named = |name: &str| profile.lines().find_map(|line| line.strip_prefix(name));
    let line = named("totals:").or_else(|| named("summary:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn the_total_of_a_profile_is_read() {
        assert_eq!(
            total("events: Ir\nsummary: 12\nfn=(1) x\n1 12\n\ntotals: 345\n"),
            Some(345)
        );
        assert_eq!(total("summary: 12 3\n"), Some(12));
        assert_eq!(total("events: Ir\n"), None);
    }
}
