//! Gathers the facts that the status shows.

use prodigy_storage::{
    Check, JobAddress, JobOverview, JobState, LockInfo, Moved, RepoName, Severity, Storage, escape,
};
use serde_json::{Value, json};

use super::recent::Recent;
use crate::app::App;
use crate::config::{self, Setting};
use crate::errors::{Failure, Result};
use crate::jobs::{RepoCounts, each_row};
use crate::output::{Table, counted};
use crate::shell::{as_word, tool};
use crate::signals::Stop;
use crate::time::{age, passed};
use crate::top::Top;

/// The largest number of jobs in the status: those with the newest writes.
const JOBS: usize = 10;
/// The largest number of repositories, and of locks, in the status.
const SHOWN: usize = 10;

/// The status of a store. Its size does not depend on the number of jobs.
pub(super) struct Gathered {
    /// The tool's name, with the flags that select this store.
    tool: String,
    backend: &'static str,
    root: Option<String>,
    settings: Vec<Setting>,
    checks: Vec<Check>,
    locks: Vec<LockInfo>,
    /// The marks of the jobs that were moved to another store.
    moved: Vec<Moved>,
    repos: Vec<(RepoName, RepoCounts)>,
    recent: Vec<Recent>,
    /// The number of jobs that have dead letters.
    with_letters: u64,
    most_letters: Option<(u64, JobAddress)>,
    /// True if some data of a job could not be counted.
    damaged: bool,
    /// True if a job could not be read.
    skipped: bool,
}

impl Gathered {
    /// Gathers the facts that need no job to be read.
    pub(super) fn begin(app: &App<'_>, storage: &Storage) -> Result<Self> {
        let capabilities = storage.capabilities();
        let mut locks = Vec::new();
        for lock in storage.locks() {
            let lock = lock?;
            if lock.held {
                locks.push(lock);
            }
        }
        Ok(Self {
            tool: tool(&app.global),
            backend: capabilities.backend,
            root: capabilities.root.map(|root| root.display().to_string()),
            settings: config::set(app),
            checks: storage.health()?.checks,
            locks,
            moved: storage
                .moved()
                .take(SHOWN + 1)
                .collect::<prodigy_storage::Result<_>>()?,
            repos: Vec::new(),
            recent: Vec::new(),
            with_letters: 0,
            most_letters: None,
            damaged: false,
            skipped: false,
        })
    }

    /// Reads each job, until a request to stop.
    pub(super) fn look_at_jobs(
        &mut self,
        app: &mut App<'_>,
        storage: &Storage,
        stop: Option<&Stop>,
    ) -> Result<()> {
        let mut recent = Top::new(JOBS);
        for name in storage.repositories() {
            let repo = storage.repo(name?)?;
            let mut counts = RepoCounts::default();
            each_row(app, &repo, |_, row| {
                if stop.is_some_and(Stop::asked) {
                    return Err(Failure::Closed);
                }
                counts.add(&row);
                self.count_letters(&row);
                let key = (row.status.state == JobState::Active, row.status.last_activity);
                recent.offer(key, row);
                Ok(())
            })?;
            self.repos.push((repo.name().clone(), counts));
        }
        (self.damaged, self.skipped) = (app.is_damaged(), app.is_skipped());
        let recent = recent.into_sorted();
        self.recent = recent.map(|row| Recent::new(storage, row)).collect();
        // The repository with the newest write comes first.
        self.repos
            .sort_by_key(|(_, counts)| std::cmp::Reverse(counts.last_activity()));
        Ok(())
    }

    fn count_letters(&mut self, row: &JobOverview) {
        let items = row.letters.items;
        if items == 0 {
            return;
        }
        self.with_letters += 1;
        if self.most_letters.as_ref().is_none_or(|(most, _)| items > *most) {
            self.most_letters = Some((items, row.address.clone()));
        }
    }

    /// The problems: severity, description, and remedy.
    fn problems(&self) -> Vec<(&'static str, String, Option<String>)> {
        let mut problems: Vec<_> = self
            .checks
            .iter()
            .filter(|check| check.severity > Severity::Ok)
            .map(|check| {
                let word = match check.severity {
                    Severity::Failure => "failure",
                    _ => "warning",
                };
                let what = format!("{}: {}", check.name, check.found);
                (word, what, check.hint.clone().filter(|hint| !hint.is_empty()))
            })
            .collect();
        for (found, what) in [(self.damaged, "is damaged"), (self.skipped, "can't be read")] {
            if found {
                let what = format!("data {what}: it is not in the counts above");
                problems.push(("failure", what, Some(format!("{} doctor", self.tool))));
            }
        }
        problems.sort_by_key(|(word, ..)| *word);
        if let Some((items, address)) = &self.most_letters {
            let jobs = counted(self.with_letters, "job");
            let what = format!("dead letters in {jobs}; {address} has {items}");
            let fix = format!(
                "{} dlq analyze --repo {} --job {}",
                self.tool,
                as_word(address.repo.as_str()),
                as_word(address.job.as_str())
            );
            problems.push(("warning", what, Some(fix)));
        }
        problems
    }

    pub(super) fn json(&self) -> Value {
        let settings: Vec<Value> = self
            .settings
            .iter()
            .map(|setting| json!({"key": setting.key, "value": setting.value, "origin": setting.origin}))
            .collect();
        let moved: Vec<Value> = self
            .moved
            .iter()
            .map(|moved| json!({"repo": moved.part.repo(), "job": moved.part.job(), "to": moved.to, "at": moved.at}))
            .collect();
        let repos: Vec<Value> = self
            .repos
            .iter()
            .map(|(name, counts)| counts.json(name))
            .collect();
        let recent: Vec<Value> = self.recent.iter().map(Recent::json).collect();
        let problems: Vec<Value> = self
            .problems()
            .into_iter()
            .map(|(severity, found, fix)| json!({"severity": severity, "found": found, "fix": fix}))
            .collect();
        json!({
            "backend": self.backend,
            "root": self.root,
            "settings": settings,
            "checks": self.checks,
            "locks": self.locks,
            "moved": moved,
            "repositories": repos,
            "recent_jobs": recent,
            "problems": problems,
        })
    }

    /// Prints the facts about the store itself: its location, its settings, the free space.
    pub(super) fn print_head(&self, app: &mut App<'_>) -> Result<()> {
        let root = self.root.as_deref().map_or_else(|| "-".into(), escape);
        app.cut_line(&format!("root      {root} ({} backend)", self.backend))?;
        for setting in &self.settings {
            let text = format!(
                "setting   {}: {}  # {}",
                setting.key, setting.value, setting.origin
            );
            app.cut_line(&escape(&text))?;
        }
        if let Some(space) = self.checks.iter().find(|check| check.name == "space") {
            app.cut_line(&format!("space     {}", escape(&space.found)))?;
        }
        for lock in self.locks.iter().take(SHOWN) {
            let who = lock.holder.as_ref().map_or_else(
                || "unknown".to_owned(),
                |holder| {
                    let since = age(passed(holder.since));
                    format!(
                        "process {} on {} since {since}: {}",
                        holder.pid, holder.host, holder.purpose
                    )
                },
            );
            app.cut_line(&escape(&format!("lock      {}, held by {who}", lock.name)))?;
        }
        more(
            app,
            "          ",
            self.locks.len(),
            &format!("{} lock list", self.tool),
        )?;
        for moved in self.moved.iter().take(SHOWN) {
            let since = age(passed(moved.at));
            let text = format!(
                "moved     {}, to {}, since {since}: it takes no writes here",
                moved.part, moved.to
            );
            app.cut_line(&escape(&text))?;
        }
        if self.moved.len() > SHOWN {
            app.cut_line(&format!(
                "          and more: `{} job list --all-repos`",
                self.tool
            ))?;
        }
        Ok(())
    }

    pub(super) fn print_rest(&self, app: &mut App<'_>) -> Result<()> {
        app.line("")?;
        if self.repos.is_empty() {
            app.line("nothing is stored yet")?;
        } else {
            // The names are in the last column, so that only they are cut.
            let mut table = Table::new(&[&RepoCounts::HEADINGS[..], &["REPOSITORY"]].concat()).cut();
            for (name, counts) in self.repos.iter().take(SHOWN) {
                let name = name.to_string();
                table.row(app, counts.cells().into_iter().chain([name]))?;
            }
            table.print(app)?;
            more(app, "", self.repos.len(), &format!("{} repo list", self.tool))?;
        }
        if !self.recent.is_empty() {
            app.line("")?;
            let mut table = Table::new(&Recent::HEADINGS).cut();
            for recent in &self.recent {
                table.row(app, recent.cells())?;
            }
            table.print(app)?;
            let jobs: u64 = self.repos.iter().map(|(_, counts)| counts.jobs).sum();
            let others = jobs.saturating_sub(self.recent.len() as u64);
            if others > 0 {
                app.cut_line(&format!(
                    "and {others} more: `{} job list --all-repos`",
                    self.tool
                ))?;
            }
        }
        let problems = self.problems();
        app.line("")?;
        if problems.is_empty() {
            app.line("no problems")?;
        }
        for (word, what, fix) in problems {
            app.finding(word, &format!(" {}", escape(&what)))?;
            if let Some(fix) = fix {
                app.line(format!("          to do: {}", escape(&fix)))?;
            }
        }
        Ok(())
    }
}

/// Prints that more entries exist than were shown, and the command that lists them.
fn more(app: &mut App<'_>, indent: &str, all: usize, command: &str) -> Result<()> {
    match all.saturating_sub(SHOWN) {
        0 => Ok(()),
        more => app.cut_line(&format!("{indent}and {more} more: `{command}`")),
    }
}
