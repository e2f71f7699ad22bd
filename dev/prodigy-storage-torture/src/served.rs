//! One handle that serves requests: each line of standard input is a request, each line of standard output an answer.
//!
//! A request is a word and JSON: `append`, `push` and `save` take the data to store, `orphan` a path. `finish`,
//! `latest`, `lock` and `unlock` take nothing; while the lock is held, events, dead letters and checkpoints are stored
//! under its token. The answer is `stored` with the id, the latest state or the lock's token; or `failed` with the kind
//! of the error and its message. After a failure the handle serves the next request:
//! `echo 'append {"n":1}' | PRODIGY_STORAGE_BASE_PATH=FOLDER torture-served`

use std::io::{BufRead, Write};
use std::process::ExitCode;

use prodigy_storage::{Job, OrphanedWorktree, SaveOptions, Storage, StorageError, StorageLock};
use serde_json::value::RawValue;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Write failures are ignored: standard error may be closed.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let storage = Storage::open()?;
    let job = storage.repo("crash")?.job("struck")?;
    let mut lock = None;
    let mut output = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let answer = match serve(&storage, &job, &mut lock, &line?) {
            Ok(id) => format!("stored {id}"),
            Err(error) => match error.downcast_ref::<StorageError>() {
                Some(error) => format!(
                    "failed {:?} {}",
                    error.kind(),
                    format!("{error:#}").replace('\n', " ")
                ),
                None => return Err(error),
            },
        };
        writeln!(output, "{}", answer.trim_end())?;
        output.flush()?;
    }
    Ok(())
}

/// Serves the request on a line.
fn serve(storage: &Storage, job: &Job, lock: &mut Option<StorageLock>, line: &str) -> Outcome<String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, "null"));
    let value: &RawValue = serde_json::from_str(rest)?;
    // Under the lock, each write carries the lock's token.
    let fenced = |lock: &Option<StorageLock>| match lock {
        Some(lock) => job.fenced(lock),
        None => Ok(job.clone()),
    };
    match word {
        "append" => Ok(fenced(lock)?.events().append(value)?.to_string()),
        "push" => fenced(lock)?
            .dlq()
            .push_raw(value)
            .map(|_| String::new())
            .map_err(Into::into),
        "save" => {
            let checkpoints = fenced(lock)?.checkpoints();
            Ok(checkpoints
                .save_map(value, SaveOptions::new())?
                .revision
                .to_string())
        }
        "latest" => {
            let latest = job.checkpoints().latest_map::<Box<RawValue>>()?;
            Ok(latest.map_or("nothing".to_owned(), |found| found.data.get().to_owned()))
        }
        "lock" => {
            *lock = None;
            let taken = lock.insert(storage.lock("crash/struck/gate")?);
            Ok(taken.fencing()?.token().to_string())
        }
        "unlock" => {
            if let Some(lock) = lock.take() {
                lock.release()?;
            }
            Ok(String::new())
        }
        "orphan" => {
            let path: String = serde_json::from_str(rest)?;
            job.orphans()
                .record(&OrphanedWorktree::new("agent", "item", path, "left behind"))?;
            Ok(String::new())
        }
        "finish" => job.finish().map(|()| String::new()).map_err(Into::into),
        other => Err(format!("no request is named `{other}`").into()),
    }
}
