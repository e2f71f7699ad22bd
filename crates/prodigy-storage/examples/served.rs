//! One handle for many requests: a line of standard input is a request, a line of standard output its answer.
//!
//! A request is a word and JSON: `append`, `push` and `save` take what is to be stored, `orphan` a path, `finish` nothing.
//! The answer is `stored` and the id, if there is one, or `failed`, the kind of the error and what it says. After a
//! failure the same handle serves the next request:
//! `echo 'append {"n":1}' | cargo run --example served`

mod support;

use std::io::{BufRead, Write};
use std::process::ExitCode;

use prodigy_storage::{Job, OrphanedWorktree, SaveOptions, StorageError};
use serde_json::value::RawValue;
use support::Outcome;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Who can't be told is not told.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let (storage, _folder) = support::open()?;
    let job = storage.repo("crash")?.job("struck")?;
    let mut output = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let answer = match serve(&job, &line?) {
            Ok(id) => format!("stored {id}"),
            Err(error) => match error.downcast_ref::<StorageError>() {
                Some(error) => format!(
                    "failed {:?} {}",
                    error.kind(),
                    error.to_string().replace('\n', " ")
                ),
                None => return Err(error),
            },
        };
        writeln!(output, "{}", answer.trim_end())?;
        output.flush()?;
    }
    Ok(())
}

/// Does what a line asks for.
fn serve(job: &Job, line: &str) -> Outcome<String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, "null"));
    let value: &RawValue = serde_json::from_str(rest)?;
    match word {
        "append" => Ok(job.events().append(value)?.to_string()),
        "push" => job
            .dlq()
            .push_raw(value)
            .map(|_| String::new())
            .map_err(Into::into),
        "save" => Ok(job
            .checkpoints()
            .save_map(value, SaveOptions::default())?
            .revision
            .to_string()),
        "orphan" => {
            let path: String = serde_json::from_str(rest)?;
            job.orphans().record(&OrphanedWorktree::new(
                "agent",
                "item",
                path,
                "left by the example",
            ))?;
            Ok(String::new())
        }
        "finish" => job.finish().map(|()| String::new()).map_err(Into::into),
        other => Err(format!("no request is named `{other}`").into()),
    }
}
