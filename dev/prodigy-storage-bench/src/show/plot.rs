//! Plots as SVG: bars of ratios with their range, and the row's bar as a line. The colours fit light and dark pages.

use std::fmt::Write;

use crate::bar::Bar;
use crate::report::{Measured, Report};
use crate::row::Role;
use crate::spread::Spread;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 300.0;
const RIGHT: f64 = 70.0;
const LINE: f64 = 20.0;
const HEAD: f64 = 46.0;
const FOOT: f64 = 34.0;
/// If the ratios differ by more than this factor, the axis is logarithmic.
const LINEAR: f64 = 6.0;

/// Colours for light and dark pages, by media query; classes let a page override them.
const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#1f2328}.quiet{fill:#59636e}.title{font-weight:600;font-size:14px}\
.axis{stroke:#d1d9e0;stroke-width:1}.ours{fill:#0969da}.against{fill:#818b98}.limit{fill:#afb8c1}.variant{fill:#54aeff}\
.peer{fill:#bc4c00}.range{stroke:#1f2328;stroke-width:1.2}.bar{stroke:#cf222e;stroke-width:2;stroke-dasharray:4 3}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.quiet{fill:#9198a1}.axis{stroke:#3d444d}.ours{fill:#4493f8}\
.against{fill:#656c76}.limit{fill:#484f58}.variant{fill:#1f6feb}.peer{fill:#f0883e}.range{stroke:#f0f6fc}.bar{stroke:#f85149}}";

/// The groups with something to plot, in the order of the rows.
pub(crate) fn groups(report: &Report) -> Vec<&str> {
    let mut groups: Vec<&str> = Vec::new();
    for row in report.rows.iter().filter(|row| plotted(row)) {
        if !groups.contains(&row.group.as_str()) {
            groups.push(&row.group);
        }
    }
    groups
}

/// True if the works of a row are times of the same thing, so that their ratio is meaningful.
fn plotted(row: &Measured) -> bool {
    row.bar.is_ratio() && row.figure().is_some()
}

/// A bar in the plot: a work's ratio, with its range.
#[derive(Debug)]
struct Stroke<'a> {
    name: &'a str,
    class: &'static str,
    ratio: Spread,
}

/// The plot of a group: for each row, its works as multiples of the row's reference.
pub(crate) fn group(report: &Report, group: &str) -> String {
    let rows: Vec<&Measured> = report
        .rows
        .iter()
        .filter(|row| row.group == group && plotted(row))
        .collect();
    let strokes: Vec<(&Measured, Vec<Stroke<'_>>)> = rows.iter().map(|row| (*row, strokes(row))).collect();
    let scale = Scale::over(&strokes);
    let lines: usize = strokes.iter().map(|(_, strokes)| strokes.len() + 1).sum();
    let height = HEAD + FOOT + lines as f64 * LINE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{group}: time as a multiple of what each row is held against\">\n<style>{STYLE}</style>\n\
         <text class=\"title\" x=\"8\" y=\"20\">{group}: time as a multiple of what the row is held against</text>\n\
         <text class=\"quiet\" x=\"8\" y=\"36\">shorter is better; line: minimum to maximum; dashed: the bar of ours{}</text>\n",
        if scale.logarithmic {
            "; logarithmic axis"
        } else {
            ""
        }
    );
    for tick in scale.ticks() {
        let x = scale.x(tick);
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{HEAD}\" y2=\"{:.1}\"/>\
             <text class=\"quiet\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}x</text>",
            height - FOOT,
            height - FOOT + 16.0
        );
    }
    let mut y = HEAD;
    for (row, strokes) in &strokes {
        let _ = writeln!(
            svg,
            "<text class=\"title\" x=\"8\" y=\"{:.1}\">{}</text>",
            y + 14.0,
            escaped(&row.work)
        );
        y += LINE;
        let top = y;
        for stroke in strokes {
            draw(&mut svg, &scale, stroke, y);
            y += LINE;
        }
        if let Some(bar) = bar_as_ratio(row.bar) {
            let x = scale.x(bar);
            let _ = writeln!(
                svg,
                "<line class=\"bar\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.1}\" y2=\"{y:.1}\"/>"
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, scale: &Scale, stroke: &Stroke<'_>, y: f64) {
    let (start, end) = (scale.x(scale.low), scale.x(stroke.ratio.median));
    let (low, high) = (scale.x(stroke.ratio.low), scale.x(stroke.ratio.high));
    let middle = y + LINE / 2.0;
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
         <rect class=\"{}\" x=\"{start:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>\
         <line class=\"range\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>\
         <text class=\"quiet\" x=\"{:.1}\" y=\"{:.1}\">{}x</text>",
        LEFT - 8.0,
        y + 14.0,
        escaped(stroke.name),
        stroke.class,
        y + 4.0,
        (end - start).max(1.0),
        LINE - 8.0,
        high.max(end) + 5.0,
        y + 14.0,
        super::table::number(stroke.ratio.median)
    );
}

fn strokes(row: &Measured) -> Vec<Stroke<'_>> {
    let works = row.works().iter().filter_map(|work| {
        Some(Stroke {
            name: &work.name,
            class: match work.role {
                Role::Ours => "ours",
                Role::Against => "against",
                Role::Variant => "variant",
                Role::Limit => "limit",
                Role::Peer => "peer",
            },
            ratio: row.ratio_of(work)?,
        })
    });
    works.collect()
}

/// The bar of a row as a multiple of the reference's time; `None` if it is no ratio.
fn bar_as_ratio(bar: Bar) -> Option<f64> {
    match bar {
        Bar::AtMost(bar) => Some(bar),
        Bar::AtLeast(bar) => Some(1.0 / bar),
        Bar::Below(_) | Bar::MoreBy(_) | Bar::None => None,
    }
}

/// The position of a ratio on the axis.
#[derive(Debug)]
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Scale {
    fn over(strokes: &[(&Measured, Vec<Stroke<'_>>)]) -> Self {
        let all = strokes.iter().flat_map(|(row, strokes)| {
            let ratios = strokes
                .iter()
                .flat_map(|stroke| [stroke.ratio.low, stroke.ratio.high]);
            ratios.chain(bar_as_ratio(row.bar))
        });
        let (low, high) = all.fold((1.0_f64, 1.0_f64), |(low, high), ratio| {
            (low.min(ratio), high.max(ratio))
        });
        if low >= 1.0 / LINEAR && high <= LINEAR {
            return Self {
                low: 0.0,
                high: high * 1.05,
                logarithmic: false,
            };
        }
        Self {
            low: 10f64.powf(low.log10().floor()),
            high: high * 1.2,
            logarithmic: true,
        }
    }

    fn x(&self, ratio: f64) -> f64 {
        let share = if self.logarithmic {
            (ratio.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (ratio - self.low) / (self.high - self.low)
        };
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let (mut tick, mut ticks) = (self.low, Vec::new());
            while tick <= self.high {
                ticks.push((tick * 1e9).round() / 1e9);
                tick *= 10.0;
            }
            return ticks;
        }
        let step = if self.high > 3.0 { 1.0 } else { 0.5 };
        let mut ticks = vec![0.0];
        while let Some(next) = ticks.last().map(|tick| tick + step)
            && next <= self.high
        {
            ticks.push(next);
        }
        ticks
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{group, groups};
    use crate::report::sample::report;

    #[test]
    fn a_plot_is_drawn_of_what_was_measured_alone() {
        let report = report();
        assert_eq!(groups(&report), ["append"]);
        let svg = group(&report, "append");
        assert!(svg.contains("A &amp; B") && !svg.contains("A & B"));
        assert!(!svg.contains("work of none"));
        // Our side, the limit and a peer, and the dashed line of the bar.
        assert_eq!(svg.matches("<rect").count(), 3);
        assert_eq!(svg.matches("class=\"bar\"").count(), 1);
        insta::assert_snapshot!("plot", without_style(&svg));
    }

    #[test]
    fn ratios_far_apart_get_a_logarithmic_axis() {
        let mut report = report();
        if let crate::report::Outcome::Works(works) = &mut report.rows[0].outcome {
            works[2].values = vec![400.0, 500.0, 600.0];
        }
        let svg = group(&report, "append");
        assert!(svg.contains("logarithmic axis") && svg.contains(">100x<"));
        assert!(!svg.contains("NaN"));
    }

    fn without_style(svg: &str) -> String {
        let (before, rest) = svg.split_once("<style>").unwrap();
        format!("{before}{}", rest.split_once("</style>\n").unwrap().1)
    }
}
