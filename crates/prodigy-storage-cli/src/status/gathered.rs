//! Gathers the facts that the status shows.

use std::borrow::Cow;
use std::path::Path;

use prodigy_storage::{
    Check, JobAddress, JobOverview, JobState, LockInfo, RepoName, Severity, Storage, escape,
};
use serde_json::{Value, json};

use super::recent::Recent;
use crate::app::{App, Met, RUN, detail, finding};
use crate::config::{self, Setting};
use crate::errors::{Failure, Result};
use crate::job::repositories;
use crate::jobs::{Marks, RepoCounts, each_row};
use crate::output::{counted, width_of, wrapped};
use crate::problems::{self, ALSO, Newest, Problem, TO_DO};
use crate::repo::is_gone;
use crate::shell::{doctor, flags_of, tool};
use crate::signals::Stop;
use crate::table::{Column, Line, Table, shortened, shortened_in_the_middle};
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
    /// The command that reads all data, if there is one.
    doctor: Option<String>,
    backend: &'static str,
    root: Option<String>,
    settings: Vec<Setting>,
    checks: Vec<Check>,
    problems: Vec<Problem>,
    locks: Vec<LockInfo>,
    /// The marks of the jobs that were moved to another store.
    marks: Marks,
    repos: Vec<(RepoName, RepoCounts)>,
    recent: Vec<Recent>,
    newest: Newest,
    /// The number of jobs that have dead letters.
    with_letters: u64,
    most_letters: Option<(u64, JobAddress)>,
    /// The data that could not be read, up to [`SHOWN`] reports, and the number of further reports.
    met: Vec<Met>,
    more_met: usize,
    most: Most,
}

/// The largest numbers of entries that the lists show.
#[derive(Clone, Copy)]
struct Most {
    /// Locks, and moved jobs.
    facts: usize,
    repos: usize,
    jobs: usize,
}

impl Gathered {
    /// Gathers the facts that need no job to be read.
    pub(super) fn begin(app: &mut App<'_>, storage: &Storage) -> Result<Self> {
        app.collect_reports();
        let capabilities = storage.capabilities();
        let mut locks = Vec::new();
        for lock in storage.locks() {
            match lock {
                Ok(lock) if lock.held => locks.push(lock),
                Ok(_) => {}
                Err(error) => {
                    app.pass_over(error)?;
                    break;
                }
            }
        }
        let checks = problems::checks(app, storage)?;
        Ok(Self {
            tool: tool(&app.global),
            doctor: doctor(&app.global, storage),
            backend: capabilities.backend,
            root: capabilities.root.map(|root| root.display().to_string()),
            settings: config::set(app),
            problems: problems::of(app, storage, &checks),
            checks,
            locks,
            marks: Marks::of(app, storage)?,
            repos: Vec::new(),
            recent: Vec::new(),
            newest: None,
            with_letters: 0,
            most_letters: None,
            met: Vec::new(),
            more_met: 0,
            most: Most {
                facts: SHOWN,
                repos: SHOWN,
                jobs: JOBS,
            },
        })
    }

    /// Shortens the lists of facts for a terminal with this number of rows.
    pub(super) fn fit_head(&mut self, rows: usize) {
        self.most.facts = (rows / 8).clamp(1, SHOWN);
    }

    /// Shortens the tables, so that a terminal with this number of free rows has room for them.
    pub(super) fn fit_tables(&mut self, rows: usize) {
        // A heading, and a line that says how many entries are left out.
        const BESIDE: usize = 2;
        const LEAST: usize = 2;
        let room = rows.saturating_sub(2 * BESIDE);
        let (repos, jobs) = (self.repos.len().min(SHOWN), self.recent.len());
        if repos + jobs > room {
            self.most.repos = repos.min((room / 3).max(LEAST));
            self.most.jobs = room.saturating_sub(self.most.repos).max(LEAST);
        }
    }

    /// True if a check failed.
    pub(super) fn has_failure(&self) -> bool {
        self.problems
            .iter()
            .any(|problem| problem.severity == Severity::Failure)
    }

    /// Reads each job, until a request to stop.
    pub(super) fn look_at_jobs(
        &mut self,
        app: &mut App<'_>,
        storage: &Storage,
        stop: Option<&Stop>,
    ) -> Result<()> {
        let mut recent = Top::new(JOBS);
        for name in repositories(storage) {
            let name = match name {
                Ok(name) => name,
                Err(error) => {
                    app.pass_over(error)?;
                    break;
                }
            };
            let repo = storage.repo(name)?;
            let mut counts = RepoCounts::default();
            each_row(app, &repo, |_, row| {
                let newest = self.newest.take();
                self.newest = problems::later(newest, &row.address, row.status.last_activity);
                if stop.is_some_and(Stop::asked) {
                    return Err(Failure::Closed);
                }
                let is_moved = self.marks.place_of(&row.address).is_some();
                counts.add(&row, is_moved);
                // Nothing but reads of a moved job works here.
                if !is_moved {
                    self.count_letters(&row);
                }
                let key = (row.status.state == JobState::Active, row.status.last_activity);
                recent.offer(key, row);
                Ok(())
            })?;
            self.repos.push((repo.name().clone(), counts));
        }
        for row in recent.into_sorted() {
            let is_moved = self.marks.place_of(&row.address).is_some();
            self.recent.push(Recent::new(app, storage, row, is_moved)?);
        }
        self.problems.extend(problems::of_registry(app, storage));
        self.problems.extend(problems::of_newest(storage, &self.newest));
        self.met = app.collected_reports();
        self.more_met = self.met.len().saturating_sub(SHOWN);
        self.met.truncate(SHOWN);
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

    /// All problems, the failures first.
    fn problems(&self) -> Vec<Entry<'_>> {
        let found = self.problems.iter().map(|problem| Entry {
            word: problem.word(),
            what: format!("{}: {}", problem.name, problem.found),
            command: problem.command.as_deref().map(Cow::Borrowed),
            advice: problem.hint.as_deref(),
        });
        let mut problems: Vec<_> = found.collect();
        let mut met: Vec<String> = self
            .met
            .iter()
            .map(|Met { word, what }| format!("{word}, and not in the counts above: {what}"))
            .collect();
        if self.more_met > 0 {
            met.push(format!(
                "{} more places with damaged or skipped data",
                self.more_met
            ));
        }
        for what in met {
            problems.push(Entry {
                word: "failure",
                what,
                command: self.doctor.as_deref().map(Cow::from),
                advice: None,
            });
        }
        problems.sort_by_key(|problem| problem.word);
        if let Some((items, address)) = &self.most_letters {
            let jobs = counted(self.with_letters, "job");
            problems.push(Entry {
                word: "warning",
                what: format!("dead letters in {jobs}; {address} has {items}"),
                command: Some(format!("{} dlq analyze {}", self.tool, flags_of(address)).into()),
                advice: None,
            });
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
            .marks
            .of_data()
            .take(SHOWN + 1)
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
            .map(|problem| {
                let fix = problem.command.as_deref().or(problem.advice);
                json!({"severity": problem.word, "found": problem.what, "command": problem.command, "fix": fix})
            })
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

    /// The facts about the store itself: its location, its settings, the free space. Lines that fit this width.
    pub(super) fn head(&self, width: Option<usize>) -> Vec<Line> {
        let mut lines = Vec::new();
        let root = self.root.as_deref().map_or_else(|| "-".into(), escape);
        let backend = format!(" ({} backend)", self.backend);
        let room = width.map(|width| width.saturating_sub(LABEL + width_of(&backend)).max(LABEL));
        let root = room.map_or_else(|| root.to_string(), |room| shortened_in_the_middle(&root, room));
        lines.push(labelled("root", &format!("{root}{backend}"), width));
        for setting in &self.settings {
            let text = format!("{}: {}  # {}", setting.key, setting.value, setting.origin);
            lines.push(labelled("setting", &text, width));
        }
        if let Some(space) = self.checks.iter().find(|check| check.name == "space") {
            lines.push(labelled("space", &space.found, width));
        }
        for lock in self.locks.iter().take(self.most.facts) {
            let who = match (&lock.holder, lock.pid) {
                (Some(holder), _) => {
                    let since = age(passed(holder.since));
                    format!(
                        "process {} on {} since {since}: {}",
                        holder.pid, holder.host, holder.purpose
                    )
                }
                // A child that inherited the lock, say.
                (None, Some(pid)) => format!("process {pid}, which did not sign"),
                (None, None) => "unknown".to_owned(),
            };
            let text = format!("{}, held by {who}", lock.name);
            lines.push(labelled("lock", &text, width));
        }
        let list = format!("{} lock list", self.tool);
        lines.extend(more(self.locks.len(), self.most.facts, &list).map(|text| labelled("", &text, width)));
        for moved in self.marks.of_data().take(self.most.facts) {
            let since = age(passed(moved.at));
            let text = format!(
                "{}, to {}, since {since}: it takes no writes here",
                moved.part, moved.to
            );
            lines.push(labelled("moved", &text, width));
        }
        if self.marks.of_data().nth(self.most.facts).is_some() {
            let text = format!("and more: `{} job list --all-repos`", self.tool);
            lines.push(labelled("", &text, width));
        }
        lines
    }

    /// The table of the repositories.
    pub(super) fn repositories(&self, width: Option<usize>) -> Vec<Line> {
        if self.repos.is_empty() {
            return vec!["nothing is stored yet".to_owned().into()];
        }
        let name = [Column::name("REPOSITORY")];
        let mut table = Table::new(RepoCounts::columns().into_iter().chain(name));
        for (name, counts) in self.repos.iter().take(self.most.repos) {
            let name = name.to_string();
            table.add(counts.cells().into_iter().chain([name]));
        }
        let mut lines = table.lines(width);
        let list = format!("{} repo list", self.tool);
        lines.extend(more(self.repos.len(), self.most.repos, &list).map(|text| fitted(text, width)));
        lines
    }

    /// The table of the jobs that were written to last.
    pub(super) fn jobs(&self, width: Option<usize>) -> Vec<Line> {
        let mut table = Table::new(Recent::columns());
        let recent = self.recent.iter().take(self.most.jobs);
        let shown = recent.len() as u64;
        for recent in recent {
            table.add(recent.cells());
        }
        let mut lines = table.lines(width);
        let jobs: u64 = self.repos.iter().map(|(_, counts)| counts.jobs).sum();
        let others = jobs.saturating_sub(shown);
        if others > 0 {
            let text = format!("and {others} more: `{} job list --all-repos`", self.tool);
            lines.push(fitted(text, width));
        }
        lines
    }

    /// The problems. The descriptions are broken to fit this width, and the commands are whole.
    pub(super) fn remedies(&self, width: Option<usize>) -> Vec<Line> {
        let problems = self.problems();
        if problems.is_empty() && self.root.as_deref().is_some_and(|root| is_gone(Path::new(root))) {
            let text = format!(
                "the root does not exist: the first write creates it. If it should have data, `{} config show --origin` prints where \
                 its path comes from",
                self.tool
            );
            return wrapped(&text, width, 0).into_iter().map(Line::from).collect();
        }
        if problems.is_empty() {
            return vec![match &self.doctor {
                Some(doctor) => format!("no problems seen; `{doctor}` reads all data").into(),
                None => "no problems seen".to_owned().into(),
            }];
        }
        let mut lines = Vec::new();
        let mut problems = problems.into_iter().peekable();
        while let Some(problem) = problems.next() {
            lines.extend(finding(problem.word, &escape(&problem.what), width));
            // Several problems in a row with one command have it once, below the last of them.
            if problem.advice.is_none()
                && problems
                    .peek()
                    .is_some_and(|next| next.command == problem.command)
            {
                continue;
            }
            match (&problem.command, problem.advice) {
                (Some(command), also) => {
                    lines.extend(detail(RUN, &escape(command), width));
                    lines.extend(
                        also.into_iter()
                            .flat_map(|also| detail(ALSO, &escape(also), width)),
                    );
                }
                (None, Some(advice)) => lines.extend(detail(TO_DO, &escape(advice), width)),
                (None, None) => {}
            }
        }
        lines
    }
}

/// A problem in the status.
struct Entry<'a> {
    word: &'static str,
    what: String,
    command: Option<Cow<'a, str>>,
    advice: Option<&'a str>,
}

/// The width of the labels of facts.
const LABEL: usize = 10;

/// A fact with its label, cut to this width.
fn labelled(label: &str, text: &str, width: Option<usize>) -> Line {
    fitted(format!("{label:LABEL$}{}", escape(text)), width)
}

fn fitted(text: String, width: Option<usize>) -> Line {
    Line::from(match width {
        Some(width) => shortened(&text, width),
        None => text,
    })
}

/// The text that more entries exist than were shown, with the command that lists them.
fn more(all: usize, shown: usize, command: &str) -> Option<String> {
    match all.saturating_sub(shown) {
        0 => None,
        more => Some(format!("and {more} more: `{command}`")),
    }
}
