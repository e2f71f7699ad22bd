//! strace counts the system calls of a command by name.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The reason why strace can't be used, if there is one.
pub(super) fn lacking() -> Option<String> {
    let probe = Command::new("strace")
        .args(["-c", "-f", "-o", "/dev/null", "true"])
        .stdin(Stdio::null())
        .output();
    match probe {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!(
            "strace does not work here: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Some(format!(
            "strace can't be started: {error}; no system calls are counted"
        )),
    }
}

/// The number of system calls of all threads of a command, by name.
pub(super) fn calls(command: &Command) -> Result<BTreeMap<String, u64>> {
    let summary = tempfile::NamedTempFile::new()?;
    let mut strace = Command::new("strace");
    strace
        .args(["-c", "-f", "-o"])
        .arg(summary.path())
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null());
    let output = strace.output().context("can't start strace")?;
    ensure!(
        output.status.success(),
        "strace ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(parsed(&std::fs::read_to_string(summary.path())?))
}

/// Parses the table of `strace -c`: the fourth column is the count, the last is the name.
fn parsed(summary: &str) -> BTreeMap<String, u64> {
    let mut calls = BTreeMap::new();
    for line in summary.lines() {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (Some(count), Some(name)) = (columns.get(3), columns.last()) else {
            continue;
        };
        if let Ok(count) = count.parse()
            && *name != "total"
        {
            calls.insert((*name).to_owned(), count);
        }
    }
    calls
}

/// The additional calls of the second run by name, per additional operation; the most frequent first.
pub(super) fn difference(
    few: &BTreeMap<String, u64>,
    many: &BTreeMap<String, u64>,
    operations: f64,
) -> Vec<(String, f64)> {
    let names: BTreeSet<&String> = few.keys().chain(many.keys()).collect();
    let of =
        |calls: &BTreeMap<String, u64>, name: &String| calls.get(name).copied().unwrap_or_default() as f64;
    let mut calls: Vec<(String, f64)> = names
        .into_iter()
        .map(|name| (name.clone(), (of(many, name) - of(few, name)) / operations))
        .collect();
    calls.sort_by(|one, other| other.1.total_cmp(&one.1));
    calls
}

#[cfg(test)]
mod tests {
    use super::{difference, parsed};

    const SUMMARY: &str = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000060           1       101           write
 40.00    0.000040           2        20         3 openat
------ ----------- ----------- --------- --------- ----------------
100.00    0.000100           1       121         3 total
";

    #[test]
    fn a_summary_is_read_with_errors_and_without() {
        let calls = parsed(SUMMARY);
        assert_eq!(calls.len(), 2);
        assert_eq!((calls["write"], calls["openat"]), (101, 20));
    }

    #[test]
    fn what_is_called_once_falls_out() {
        let few = parsed(SUMMARY);
        let mut many = few.clone();
        many.insert("write".to_owned(), 301);
        many.insert("fdatasync".to_owned(), 50);
        let calls = difference(&few, &many, 100.0);
        let shown: Vec<_> = calls
            .iter()
            .map(|(name, times)| (name.as_str(), *times))
            .collect();
        assert_eq!(shown, [("write", 2.0), ("fdatasync", 0.5), ("openat", 0.0)]);
    }
}
