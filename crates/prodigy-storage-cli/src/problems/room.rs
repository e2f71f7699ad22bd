//! The command that frees space on a full disk.

use std::collections::BTreeMap;
use std::time::Duration;

use prodigy_storage::config::RetentionSettings;
use prodigy_storage::{CleanOptions, RemovalOutcome, Storage};

use crate::job::repositories;
use crate::output::bytes;
use crate::top::Top;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The number of areas and of jobs that the advice names.
const NAMED: usize = 3;
/// The largest number of jobs whose sizes are compared.
const JOBS: usize = 10_000;

/// The command that frees space, or shows what could be removed, and a text that names what takes the space.
pub(super) fn make(storage: &Storage, tool: &str) -> (String, String) {
    let (area, takes) = largest(storage);
    let takes = format!("it takes the space: {takes}");
    let old = RetentionSettings::default()
        .finished_jobs(Some(30 * DAY))
        .quarantine(Some(30 * DAY));
    if frees(storage, &old) {
        return (
            format!("{tool} clean --finished-jobs 30d --quarantine 30d --yes"),
            takes,
        );
    }
    if frees(storage, &old.idle_jobs(Some(30 * DAY))) {
        let hint = format!("this prints the plan, and `--yes` removes; {takes}");
        return (format!("{tool} clean --idle-jobs 30d"), hint);
    }
    match area.as_deref() {
        Some("quarantine") => (
            format!("{tool} clean --quarantine 0s --yes"),
            format!("nothing else is old enough to go; {takes}"),
        ),
        Some("other") => (
            format!("{tool} doctor"),
            format!(
                "move files that the store did not write to another disk: the doctor names them; {takes}"
            ),
        ),
        _ => (
            format!("{tool} usage --jobs --top 10"),
            format!("nothing is older than 30 days: delete a job with `{tool} job delete`; {takes}"),
        ),
    }
}

/// True if these rules would remove something.
fn frees(storage: &Storage, rules: &RetentionSettings) -> bool {
    let plan = storage.clean(CleanOptions::new().rules(rules.clone()).dry_run(true));
    plan.is_ok_and(|plan| {
        let mut removals = plan.removals.iter();
        removals.any(|removal| removal.count > 0 && !matches!(removal.outcome, RemovalOutcome::Kept { .. }))
    })
}

/// The largest area of the store, and a text that names the largest areas and jobs.
fn largest(storage: &Storage) -> (Option<String>, String) {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for area in storage.usage().map(|usage| usage.areas).unwrap_or_default() {
        *sums.entry(area.area).or_default() += area.bytes;
    }
    let mut areas: Vec<_> = sums.into_iter().collect();
    areas.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let mut jobs = Top::new(NAMED);
    let mut left = JOBS;
    for name in repositories(storage).flatten() {
        let Ok(repo) = storage.repo(name) else { continue };
        for row in repo.survey().flatten().flatten().take(left) {
            left -= 1;
            jobs.offer(row.bytes(), row);
        }
    }
    let area = areas.first().map(|(area, _)| area.clone());
    let areas = areas.into_iter().take(NAMED);
    let areas: Vec<_> = areas
        .map(|(area, size)| format!("{area} {}", bytes(size)))
        .collect();
    let jobs: Vec<_> = jobs
        .into_sorted()
        .map(|row| format!("{} {}", row.address, bytes(row.bytes())))
        .collect();
    let mut text = areas.join(", ");
    if !jobs.is_empty() {
        text.push_str(&format!("; the largest jobs: {}", jobs.join(", ")));
    }
    (area, text)
}
