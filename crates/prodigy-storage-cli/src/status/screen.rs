//! The lines of `status --watch` that have room on the terminal.

use crate::output::width_of;
use crate::table::{Line, shortened};

/// The parts of the status, in the order in which they are shown.
pub(super) struct Screen {
    pub(super) head: Vec<Line>,
    pub(super) repositories: Vec<Line>,
    pub(super) jobs: Vec<Line>,
    pub(super) problems: Vec<Line>,
}

impl Screen {
    /// All lines, with an empty one between two parts.
    pub(super) fn lines(self) -> Vec<Line> {
        joined([self.head, self.repositories, self.jobs, self.problems])
    }

    /// The lines for a terminal of this size. The last row stays free for the cursor. Where not all lines have room, the problems
    /// come first, then the head, the repositories and the jobs, and the last line says how many are left out.
    pub(super) fn fitted(self, columns: usize, rows: usize) -> Vec<Line> {
        let room = rows.saturating_sub(1).max(1);
        let all: usize = [&self.head, &self.repositories, &self.jobs, &self.problems]
            .into_iter()
            .map(Vec::len)
            .sum();
        let whole = joined([&self.head, &self.repositories, &self.jobs, &self.problems].map(Clone::clone));
        if rows_of(&whole, columns) <= room {
            return whole;
        }
        // The line that says how many lines are left out takes a row.
        let mut left = room - 1;
        let problems = taken(self.problems, columns, &mut left);
        let head = taken(self.head, columns, &mut left);
        let repositories = taken(self.repositories, columns, &mut left);
        let jobs = taken(self.jobs, columns, &mut left);
        let mut lines = [head, repositories, jobs, problems].concat();
        let more = all - lines.len();
        let text = format!("{more} more lines: enlarge the terminal, or run `status` without --watch");
        lines.push(shortened(&text, columns).into());
        lines
    }
}

fn joined(parts: [Vec<Line>; 4]) -> Vec<Line> {
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(&Line::default())
}

/// The first lines that have room. A line that is wider than the terminal takes several rows.
fn taken(lines: Vec<Line>, columns: usize, left: &mut usize) -> Vec<Line> {
    let mut taken = Vec::new();
    for line in lines {
        let rows = rows_of(std::slice::from_ref(&line), columns);
        if rows > *left {
            *left = 0;
            break;
        }
        *left -= rows;
        taken.push(line);
    }
    taken
}

pub(super) fn rows_of(lines: &[Line], columns: usize) -> usize {
    let rows = |line: &Line| width_of(&line.text).div_ceil(columns.max(1)).max(1);
    lines.iter().map(rows).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen() -> Screen {
        let lines = |name: &str, count: usize| (0..count).map(|n| format!("{name} {n}").into()).collect();
        Screen {
            head: lines("head", 2),
            repositories: lines("repo", 3),
            jobs: lines("job", 9),
            problems: vec!["warning".to_owned().into(), "x".repeat(100).into()],
        }
    }

    fn texts(columns: usize, rows: usize) -> Vec<String> {
        let lines = screen().fitted(columns, rows);
        lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn what_is_left_out_is_counted_and_problems_come_first() {
        assert_eq!(texts(80, 40).len(), 2 + 3 + 9 + 2 + 3);
        assert_eq!(
            texts(80, 8),
            [
                "head 0",
                "head 1",
                "repo 0",
                "warning",
                &"x".repeat(100),
                "11 more lines: enlarge the terminal, or run `status` without --watch"
            ]
        );
    }

    #[test]
    fn no_size_of_a_terminal_scrolls() {
        for columns in 1..120 {
            for rows in 1..30 {
                let lines = screen().fitted(columns, rows);
                let taken = rows_of(&lines, columns);
                assert!(taken < rows.max(2), "{columns}x{rows}: {lines:?}");
            }
        }
    }
}
