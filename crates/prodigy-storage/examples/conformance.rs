//! The conformance suite on every backend under every stack of layers, as a table; a team with a backend of its own
//! would add a column. `cargo run --example conformance -- --cases 16`
#![allow(
    clippy::print_stdout,
    unreachable_pub,
    missing_docs,
    reason = "an example shows what it does, and shares a module with the tests"
)]

#[path = "../tests/it/stacks/mod.rs"]
mod stacks;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use prodigy_storage_backend::conformance::{Failure, HarnessFactory, Outcome, properties, sequences};
use stacks::{Base, Factory, Stack};

/// Random sequences a column, unless told.
const CASES: u32 = 4;
/// Columns at once: they wait for the disk for most of their time.
const WORKERS: usize = 6;

/// What a backend under a stack came to.
struct Column {
    factory: Factory,
    /// By property, in their order.
    properties: Vec<Result<Outcome, Failure>>,
    sequences: Result<(), Failure>,
}

impl Column {
    fn run(factory: Factory, cases: u32) -> Self {
        Self {
            properties: properties().map(|property| property.run(&factory)).collect(),
            sequences: sequences(&factory, cases),
            factory,
        }
    }

    fn failures(&self) -> impl Iterator<Item = (&'static str, &Failure)> {
        properties()
            .zip(&self.properties)
            .map(|(property, result)| (property.name, result.as_ref().err()))
            .chain([("random sequences", self.sequences.as_ref().err())])
            .filter_map(|(name, failure)| Some((name, failure?)))
    }
}

const fn word<E>(result: &Result<Outcome, E>) -> &'static str {
    match result {
        Ok(Outcome::Skipped) => "skip",
        Ok(_) => "ok",
        Err(_) => "FAIL",
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let cases = match args.as_slice() {
        [] => Some(CASES),
        ["--cases", number] => number.parse().ok(),
        _ => None,
    };
    let Some(cases) = cases else {
        println!("usage: conformance [--cases NUMBER]");
        return ExitCode::from(2);
    };
    let begun = Instant::now();
    let columns = run(cases);
    print_table(&columns);

    let count = properties().count();
    let run = columns.iter().flat_map(|column| &column.properties);
    let (mut held, mut skipped, mut broken) = (0, 0, 0);
    for result in run {
        match result {
            Ok(Outcome::Skipped) => skipped += 1,
            Ok(_) => held += 1,
            Err(_) => broken += 1,
        }
    }
    println!(
        "\n{count} properties on {} stacks: {held} held, {skipped} skipped, {broken} failed",
        columns.len()
    );
    let failed = columns.iter().filter(|column| column.sequences.is_err()).count();
    println!(
        "{} random sequences of up to 60 calls, {cases} a stack: {failed} stacks failed",
        (columns.len() - failed) * cases as usize
    );
    println!("in {:.1} s", begun.elapsed().as_secs_f64());
    let mut passed = true;
    for column in &columns {
        for (name, failure) in column.failures() {
            passed = false;
            println!("\nFAIL {}: {name}\n  {failure}", column.factory.name());
        }
    }
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Every column, some at once, in their order.
fn run(cases: u32) -> Vec<Column> {
    let pairs: Vec<_> = Base::ALL
        .into_iter()
        .flat_map(|base| Stack::ALL.map(|stack| (base, stack)))
        .collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&(base, stack)) = pairs.get(place) else {
                        return;
                    };
                    let column = Column::run(Factory::new(base, stack), cases);
                    done.lock()
                        .unwrap_or_else(|done| done.into_inner())
                        .push((place, column));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|done| done.into_inner());
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, column)| column).collect()
}

fn print_table(columns: &[Column]) {
    let wide = properties()
        .map(|property| property.name.len())
        .max()
        .unwrap_or(0);
    let mut bases = format!("{:wide$}", "");
    let mut stacks = format!("{:wide$}", "");
    for (place, column) in columns.iter().enumerate() {
        let first = place % Stack::ALL.len() == 0;
        let bar = if first { " |" } else { "" };
        if first {
            bases.push_str(&format!(" | {:<29}", column.factory.base.name()));
        }
        stacks.push_str(&format!("{bar} {:<4}", short(column.factory.stack)));
    }
    println!("{}\n{}", bases.trim_end(), stacks.trim_end());
    let mut topic = "";
    for (row, property) in properties().enumerate() {
        if property.topic != topic {
            topic = property.topic;
            println!("{topic}");
        }
        let words = columns
            .iter()
            .map(|column| column.properties.get(row).map_or("", word));
        print_row(property.name, wide, words);
    }
    println!("random sequences");
    let words = columns
        .iter()
        .map(|column| word(&column.sequences.as_ref().map(|()| Outcome::Held)));
    print_row("agree_with_the_model", wide, words);
    let names: Vec<_> = Stack::ALL
        .into_iter()
        .map(|stack| format!("{} {}", short(stack), stack.name()))
        .collect();
    println!("\n{}", names.join(", "));
}

fn print_row(name: &str, wide: usize, words: impl Iterator<Item = &'static str>) {
    let mut line = format!("{name:wide$}");
    for (place, word) in words.enumerate() {
        let bar = if place % Stack::ALL.len() == 0 { " |" } else { "" };
        line.push_str(&format!("{bar} {word:<4}"));
    }
    println!("{}", line.trim_end());
}

/// The head of a column.
const fn short(stack: Stack) -> &'static str {
    match stack {
        Stack::Bare => "B",
        Stack::Retrying => "R",
        Stack::Limited => "L",
        Stack::Cached => "C",
        Stack::Full => "CRL",
        Stack::Faulty => "CRLx",
    }
}
