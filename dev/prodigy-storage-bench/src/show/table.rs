//! Tables in Markdown, which are readable on a terminal as well.

use std::fmt::Write;

use crate::bar::Verdict;
use crate::report::{Measured, Outcome, Report};
use crate::row::Role;
use crate::spread::Spread;

/// The header of the table that compares the rows with their bars.
pub(crate) const HEAD: &str = "\
| row | work | against | ours | theirs | figure (min to max) | bar | |
|---|---|---|---|---|---|---|---|
";

/// The table of bars.
pub(crate) fn bars(report: &Report) -> String {
    let mut text = HEAD.to_owned();
    for row in &report.rows {
        text.push_str(&bar_line(row, report.margin));
    }
    text
}

/// A line of the table, with its line end.
pub(crate) fn bar_line(row: &Measured, margin: f64) -> String {
    let bar = row.bar.words(&row.unit);
    let head = format!("| `{}` | {} | {}", row.key, row.work, row.against);
    match &row.outcome {
        Outcome::Skipped(why) => format!("{head} | | | skipped: {why} | {bar} | |\n"),
        Outcome::Failed(why) => format!("{head} | | | **failed**: {why} | {bar} | |\n"),
        Outcome::Works(_) => {
            let value = |role| {
                let spread = row.of(role).and_then(|work| work.spread());
                spread.map_or_else(String::new, |spread| {
                    format!("{} {}", number(spread.median), row.unit)
                })
            };
            let mut figure = row.figure().map_or_else(String::new, |figure| {
                let suffix = if row.bar.is_ratio() { "x" } else { "" };
                format!("**{}{suffix}** {}", number(figure.median), range(figure))
            });
            for (name, counts) in row.of(Role::Ours).iter().flat_map(|work| &work.beside) {
                if let Some(spread) = Spread::of(counts.iter().copied()) {
                    let _ = write!(figure, "; {name}: {} {}", count(spread.median), counted(spread));
                }
            }
            format!(
                "{head} | {} | {} | {figure} | {bar} | {} |\n",
                value(Role::Ours),
                value(Role::Against),
                match row.verdict(margin) {
                    Verdict::Free => "report",
                    verdict => verdict.word(),
                }
            )
        }
    }
}

/// A table of every work of the rows with more than two works: peers, other limits, other settings.
pub(crate) fn peers(report: &Report) -> String {
    let mut text = "\
| row | who | value (min to max) | as a multiple of `against` | ours is |
|---|---|---|---|---|
"
    .to_owned();
    for row in &report.rows {
        let beside = |role: Role| matches!(role, Role::Variant | Role::Limit | Role::Peer);
        if !row.works().iter().any(|work| beside(work.role)) {
            continue;
        }
        let ours = row.of(Role::Ours);
        for work in row.works() {
            let Some(spread) = work.spread() else { continue };
            let ratio = row
                .ratio_of(work)
                .filter(|_| work.role != Role::Against)
                .map_or_else(String::new, |ratio| format!("{}x", number(ratio.median)));
            let ahead = ours
                .filter(|_| work.role == Role::Peer)
                .and_then(|ours| Spread::of(crate::spread::ratios(&work.values, &ours.values)))
                .map_or_else(String::new, |ratio| compared(ratio.median));
            let name = match work.role {
                Role::Ours => format!("**{}**", work.name),
                Role::Against => format!("{} (against)", work.name),
                Role::Limit => format!("{} (limit)", work.name),
                Role::Variant | Role::Peer => work.name.clone(),
            };
            let _ = writeln!(
                text,
                "| `{}` | {name} | {} {} {} | {ratio} | {ahead} |",
                row.key,
                number(spread.median),
                row.unit,
                range(spread)
            );
        }
    }
    text
}

/// The rows in which a peer is faster than our side, as `row: peer, difference`. The largest difference comes first.
pub(crate) fn behind(report: &Report) -> String {
    let mut found: Vec<(f64, String)> = Vec::new();
    for row in &report.rows {
        let Some(ours) = row.of(Role::Ours) else { continue };
        for work in row.works().iter().filter(|work| work.role == Role::Peer) {
            let Some(ratio) = Spread::of(crate::spread::ratios(&ours.values, &work.values)) else {
                continue;
            };
            if ratio.median > 1.0 {
                let line = format!(
                    "- `{}`: {} is ahead, ours takes {}x its time ({} to {}).\n",
                    row.key,
                    work.name,
                    number(ratio.median),
                    number(ratio.low),
                    number(ratio.high)
                );
                found.push((ratio.median, line));
            }
        }
    }
    found.sort_by(|one, other| other.0.total_cmp(&one.0));
    if found.is_empty() {
        return "No peer is ahead of ours in a row of this run.\n".to_owned();
    }
    found.into_iter().map(|(_, line)| line).collect()
}

/// A ratio in words: `2.1x ahead`, `1.3x behind`.
fn compared(ratio: f64) -> String {
    if ratio >= 1.0 {
        format!("{}x ahead", number(ratio))
    } else {
        format!("{}x behind", number(1.0 / ratio))
    }
}

fn range(spread: Spread) -> String {
    format!("({} to {})", number(spread.low), number(spread.high))
}

fn counted(spread: Spread) -> String {
    format!("({} to {})", count(spread.low), count(spread.high))
}

/// A count, with a fraction only if it has one.
pub(crate) fn count(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        number(value)
    }
}

/// A number with three significant digits, without an exponent.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    let digits = if size >= 100.0 || size == 0.0 {
        0
    } else if size >= 10.0 {
        1
    } else if size >= 0.1 {
        2
    } else {
        // As many digits as the zeros after the decimal point, and two more.
        (1.0 - size.log10().floor()).clamp(2.0, 12.0) as usize
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::{bars, behind, number, peers};
    use crate::report::sample::report;

    #[test]
    fn numbers_keep_the_digits_that_count() {
        let shown = [1234.5, 99.94, 12.345, 1.234, 0.5, 0.0345, 0.000_341, 0.0].map(number);
        assert_eq!(
            shown,
            ["1234", "99.9", "12.3", "1.23", "0.50", "0.035", "0.00034", "0"]
        );
    }

    #[test]
    fn the_table_of_bars_shows_figures_and_what_was_not_measured() {
        insta::assert_snapshot!("bars", bars(&report()));
    }

    #[test]
    fn the_table_of_peers_shows_who_is_ahead() {
        insta::assert_snapshot!("peers", peers(&report()));
    }

    #[test]
    fn a_peer_ahead_is_told() {
        let mut report = report();
        assert_eq!(
            behind(&report),
            "No peer is ahead of ours in a row of this run.\n"
        );
        if let crate::report::Outcome::Works(works) = &mut report.rows[0].outcome {
            works[2].values = vec![0.5, 1.0, 1.0];
        }
        assert_eq!(
            behind(&report),
            "- `fast`: A & B is ahead, ours takes 2.00x its time (2.00 to 3.00).\n"
        );
    }
}
