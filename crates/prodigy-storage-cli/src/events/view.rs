//! The columns of an event on a terminal.

use clap::builder::styling::Style;
use jiff::tz::{Offset, TimeZone};
use prodigy_storage::{JobAddress, Record, Timestamp, escape};

use super::facts::{Facts, message};
use super::shown::time_in;
use crate::app::App;
use crate::errors::Result;
use crate::output::{style_of, width_of};
use crate::table::{shortened, shortened_in_the_middle};

/// The width of a terminal that has room for dates with the year.
const WIDE: usize = 80;
/// The width that a terminal needs for a column of worktrees beside the others, with one job and with several.
const FOR_WORKTREES: [usize; 2] = [60, 80];
const GAP: &str = "  ";

/// The widths of the columns so far: a column is as wide as its widest name, and empty ones are left out.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    /// The offset of the local times that were printed last.
    offset: Option<Offset>,
    /// True if the events are of several repositories.
    pub(super) of_repos: bool,
    job: usize,
    kind: usize,
    worktree: usize,
}

/// The facts of an event that its line shows.
#[derive(Debug)]
pub(super) struct View {
    time: Timestamp,
    job: Option<JobAddress>,
    facts: Facts,
    message: String,
}

impl View {
    pub(super) fn new(record: &Record<'_>, job: Option<&JobAddress>, payload: &str) -> Self {
        Self {
            time: record.time(),
            job: job.cloned(),
            facts: Facts::of(payload),
            message: message(payload),
        }
    }

    /// Prints the event as one line. Before the first local time, and where the offset changes, a line of its own has the offset; times
    /// with a `Z` need none.
    pub(super) fn print(&self, app: &mut App<'_>) -> Result<()> {
        let width = app.width.unwrap_or(WIDE);
        let form = match width {
            WIDE.. => "%Y-%m-%d %H:%M:%S",
            _ => "%m-%d %H:%M:%S",
        };
        let (time, offset) = time_in(self.time, &TimeZone::system(), form);
        let shown = app.columns.offset.unwrap_or(Offset::UTC);
        if let Some(offset) = offset.filter(|offset| *offset != shown) {
            app.columns.offset = Some(offset);
            app.line(format!("-- local times, UTC{offset} --"))?;
        }
        let (line, styles) = app.columns.line(self, time, width);
        app.styled_line(&line, &styles)
    }
}

impl Columns {
    fn line(
        &mut self,
        view: &View,
        time: String,
        width: usize,
    ) -> (String, Vec<(std::ops::Range<usize>, Style)>) {
        let room = width.saturating_sub(width_of(&time));
        let mut line = time;
        let mut styles = Vec::new();
        let of_repos = self.of_repos;
        let job = view.job.as_ref().map(|job| match of_repos {
            true => job.to_string(),
            false => job.job.to_string(),
        });
        add(&mut line, &mut self.job, job.as_deref(), room / 5);
        let kind = add(&mut line, &mut self.kind, view.facts.kind.as_deref(), room / 3);
        let failed = style_of("failure").filter(|_| view.facts.failed);
        styles.extend(failed.map(|style| (kind, style)));
        let worktree = view.facts.worktree.as_deref();
        let [one, several] = FOR_WORKTREES;
        if width >= if view.job.is_some() { several } else { one } {
            add(&mut line, &mut self.worktree, worktree, room / 5);
        }
        line.push_str(GAP);
        line.push_str(&escape(&view.message));
        (shortened(line.trim_end(), width), styles)
    }
}

/// Adds a cell to the line, and returns its place. A column that has had no name yet takes no room.
fn add(line: &mut String, column: &mut usize, name: Option<&str>, most: usize) -> std::ops::Range<usize> {
    let name = shortened_in_the_middle(&escape(name.unwrap_or_default()), most.max(1));
    *column = width_of(&name).max(*column);
    if *column == 0 {
        return line.len()..line.len();
    }
    line.push_str(GAP);
    let start = line.len();
    line.push_str(&name);
    let end = line.len();
    line.push_str(&" ".repeat(*column - width_of(&name)));
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(job: Option<&str>, payload: &str) -> View {
        let repo = prodigy_storage::RepoName::new("shop").unwrap();
        View {
            time: Timestamp::MIN,
            job: job.map(|job| JobAddress::new(repo, prodigy_storage::JobId::new(job).unwrap())),
            facts: Facts::of(payload),
            message: message(payload),
        }
    }

    fn lines(width: usize, views: &[View]) -> Vec<String> {
        let mut columns = Columns::default();
        let line = |view| columns.line(view, "12:00:00".to_owned(), width).0;
        views.iter().map(line).collect()
    }

    const PROGRESS: &str = r#"{"event_type":"agent_progress","job_id":"j","agent_id":"a-7","worktree":"wt-0","step":"shell: make","pct":50}"#;

    #[test]
    fn an_event_is_shown_by_its_job_kind_worktree_and_message() {
        let events = [
            view(Some("nightly"), PROGRESS),
            view(
                Some("a"),
                r#"{"AgentFailed":{"message":"no disk","worktree":"wt-12","tries":[1,2]}}"#,
            ),
            view(Some("a"), "7"),
        ];
        assert_eq!(
            lines(100, &events),
            [
                r#"12:00:00  nightly  agent_progress  wt-0  agent_id=a-7 step="shell: make" pct=50"#,
                "12:00:00  a        AgentFailed     wt-12  no disk tries=[1,2]",
                "12:00:00  a                               7",
            ]
        );
        assert_eq!(lines(100, &[view(None, "7")]), ["12:00:00  7"]);
    }

    #[test]
    fn every_line_fits_and_a_narrow_terminal_shows_the_kind_before_the_rest() {
        for width in 30..200 {
            for line in lines(
                width,
                &[view(Some(&"j".repeat(60)), PROGRESS), view(None, PROGRESS)],
            ) {
                assert!(width_of(&line) <= width, "{width}: {line}");
            }
        }
        let narrow = lines(60, &[view(None, PROGRESS)]);
        assert!(
            narrow[0].starts_with("12:00:00  agent_progress  wt-0  agent_id=a-7"),
            "{narrow:?}"
        );
    }
}
