//! Checks of refusals: absent roots, wrong settings, held locks.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::{Bench, Seen, folder};

/// Reading creates nothing, even if nothing exists.
pub(super) fn nothing_made(bench: &Bench) -> Result<Seen> {
    let place = folder(bench, "nothing-made")?;
    let tool = bench.tool("nothing-made")?.over(place.join("absent/store"));
    let readers: [&[&str]; 5] = [
        &["events", "cat", "--repo", "r", "--job", "j"],
        &["checkpoint", "list", "--repo", "r", "--job", "j"],
        &["dlq", "list", "--repo", "r", "--job", "j"],
        &["lock", "list"],
        &["usage"],
    ];
    for arguments in readers {
        let answer = tool.run(arguments, b"")?;
        if !matches!(answer.code(), Some(0 | 4)) {
            return Err(answer.unexpected("exit code 0 or 4 on a store that is not there"));
        }
        ensure!(
            !place.join("absent").exists(),
            "`{}` has created something",
            arguments.join(" ")
        );
    }
    Ok(Seen::Holds(format!(
        "{} reading commands on an absent root created nothing",
        readers.len()
    )))
}

/// All errors of a configuration are reported at once, with the most similar key.
pub(super) fn bad_config(bench: &Bench) -> Result<Seen> {
    let place = folder(bench, "bad-config")?;
    let tool = bench.tool("bad-config")?;
    let path = place.join("bad.yaml");
    std::fs::write(
        &path,
        "storage:\n  timeout: soon\n  retry_policy:\n    max_retrys: 5\n    backoff_multiplier: 0.5\n",
    )?;
    let path = path.to_string_lossy().into_owned();
    let answer = tool
        .run(["config", "check", "--config", &path], b"")?
        .expect_code(2)?;
    for word in [
        "bad.yaml",
        "timeout",
        "max_retrys",
        "`max_retries`",
        "backoff_multiplier",
    ] {
        if !answer.stderr.contains(word) {
            return Err(answer.unexpected(&format!("{word} in the message")));
        }
    }
    Ok(Seen::Holds(
        "three errors in one run, exit 2, the nearest name of a mistyped key".to_owned(),
    ))
}

/// A held lock gives exit code 3. The lock outlives the tool while the command under it runs.
pub(super) fn lock(bench: &Bench) -> Result<Seen> {
    let tool = bench.tool("lock")?;
    // The command under the lock ends when its input ends.
    let mut command = tool.command([
        "lock",
        "run",
        "shop/resume",
        "--",
        "sh",
        "-c",
        "echo held; read line",
    ]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = command.spawn().context("can't start the tool")?;
    let input = holder.stdin.take();
    let mut said = String::new();
    BufReader::new(holder.stdout.take().context("no output")?).read_line(&mut said)?;
    let attempt = ["lock", "run", "shop/resume", "--wait", "100ms", "--", "true"];
    let refused = tool.run(attempt, b"");
    holder.kill()?;
    holder.wait()?;
    let still = tool.run(attempt, b"");
    drop(input);
    ensure!(said == "held\n", "the command under the lock said {said:?}");
    let refused = refused?.expect_code(3)?;
    if !refused.stderr.contains("failed to acquire storage lock") {
        return Err(refused.unexpected("`failed to acquire storage lock`"));
    }
    still?
        .expect_code(3)
        .context("the tool was killed, its command runs")?;
    let patient = ["lock", "run", "shop/resume", "--wait", "20s", "--", "true"];
    tool.run(patient, b"")?.expect_code(0).context("both are gone")?;
    Ok(Seen::Holds(
        "exit 3 while the tool or its command lives, free when both are gone".to_owned(),
    ))
}
