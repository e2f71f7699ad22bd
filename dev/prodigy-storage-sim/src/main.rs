//! Crashes the file backend at every call of every workload, and prints the counts of the search.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use prodigy_storage_sim::{Counts, Depth, Setup, Step, WORKLOADS, Workload, explore, perform, record};
use serde::Serialize;

/// The number of random workloads in a full run.
const RANDOM: usize = 200;
/// The number of failing random workloads after which the run stops.
const MOST_FAILURES: usize = 3;

/// Crash the file backend at every call that it makes, on a simulated disk.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Check a sample of the disks.
    #[arg(long)]
    quick: bool,
    /// The seed of random choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these workloads, by name.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The number of additional random workloads; 200 if all workloads are run in full.
    #[arg(long)]
    random: Option<usize>,
    /// Print one line of JSON per workload, and one for the sums.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    workload: &'a str,
    #[serde(flatten)]
    counts: Counts,
    failures: usize,
}

#[expect(clippy::print_stderr, reason = "a program tells who runs it")]
fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a program tells who runs it")]
fn run(options: &Options) -> Result<bool> {
    for name in &options.only {
        ensure!(
            WORKLOADS.iter().any(|workload| workload.name == name),
            "there is no workload `{name}`"
        );
    }
    let depth = if options.quick {
        Depth::quick(options.seed)
    } else {
        Depth::full(options.seed)
    };
    if !options.json {
        println!(
            "{:18} {:>5} {:>6} {:>8} {:>7} {:>7} {:>10} {:>7} {:>8} {:>7} {:>7} {:>6}",
            "workload",
            "calls",
            "points",
            "disks",
            "checked",
            "cursors",
            "recoveries",
            "points",
            "disks",
            "checked",
            "drawn",
            "s"
        );
    }
    let began = Instant::now();
    let (mut sum, mut failures) = (Counts::default(), Vec::new());
    let wanted = |workload: &&Workload| {
        options.only.is_empty() || options.only.iter().any(|name| name == workload.name)
    };
    for workload in WORKLOADS.iter().filter(wanted) {
        let began = Instant::now();
        let trace = workload
            .play()
            .with_context(|| format!("workload `{}` does not even run", workload.name))?;
        let outcome = explore(&trace, workload.setup, depth);
        show(
            options,
            workload.name,
            &outcome.counts,
            outcome.failures.len(),
            began,
        )?;
        sum.add(&outcome.counts);
        failures.extend(outcome.failures.into_iter().map(|told| (workload.name, told)));
    }
    let random = options
        .random
        .unwrap_or(if options.quick || !options.only.is_empty() {
            0
        } else {
            RANDOM
        });
    if random > 0 {
        let began = Instant::now();
        let (counts, told) = drawn(options.seed, random);
        show(options, "random", &counts, told.len(), began)?;
        sum.add(&counts);
        failures.extend(told.into_iter().map(|told| ("random", told)));
    }
    show(options, "all", &sum, failures.len(), began)?;
    for (name, told) in &failures {
        println!("\n{name}: {told}");
    }
    Ok(failures.is_empty())
}

/// Crashes `count` random workloads.
fn drawn(seed: u64, count: usize) -> (Counts, Vec<String>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut sum, mut failures) = (Counts::default(), Vec::new());
    for _ in 0..count {
        let steps: Vec<_> = (0..random.usize(2..14))
            .map(|_| Step::draw(&mut random))
            .collect();
        let setup = Setup {
            max_file_size: random.u64(300..2_000),
            compression: random.bool(),
        };
        let depth = Depth::narrow(random.u64(..));
        match record(setup, |stage| perform(stage, &steps)) {
            Ok(trace) => {
                let outcome = explore(&trace, setup, depth);
                sum.add(&outcome.counts);
                let told = outcome.failures.into_iter();
                failures.extend(told.map(|told| format!("{steps:?} with {setup:?}: {told}")));
            }
            Err(error) => failures.push(format!("{steps:?} with {setup:?} does not even run: {error:#}")),
        }
        if failures.len() >= MOST_FAILURES {
            break;
        }
    }
    (sum, failures)
}

#[expect(clippy::print_stdout, reason = "a program tells who runs it")]
fn show(options: &Options, name: &str, counts: &Counts, failures: usize, began: Instant) -> Result<()> {
    if options.json {
        let line = Line {
            workload: name,
            counts: *counts,
            failures,
        };
        println!("{}", serde_json::to_string(&line)?);
        return Ok(());
    }
    println!(
        "{name:18} {:>5} {:>6} {:>8} {:>7} {:>7} {:>10} {:>7} {:>8} {:>7} {:>7} {:>6.1}{}",
        counts.calls,
        counts.points,
        counts.derived,
        counts.checked,
        counts.cursors,
        counts.recoveries,
        counts.recovery_points,
        counts.recovery_derived,
        counts.recovery_checked,
        counts.drawn,
        began.elapsed().as_secs_f64(),
        if failures > 0 {
            format!("  {failures} FAILED")
        } else {
            String::new()
        }
    );
    Ok(())
}
