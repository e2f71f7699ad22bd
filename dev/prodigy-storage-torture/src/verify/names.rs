//! Checks of names that could lead out of the root: each is refused with a clear error, and nothing is created.

use anyhow::{Result, ensure};

use super::{Bench, Seen, folder, snapshot};

/// Tries every name as a repository and as a job, for reads and writes.
pub(super) fn hostile(bench: &Bench) -> Result<Seen> {
    let place = folder(bench, "names")?;
    let tool = bench.tool("names")?.over(place.join("deep/down/store"));
    let before = snapshot(&place)?;
    let long = "n".repeat(4096);
    let names = [
        "",
        ".",
        "..",
        "../up",
        "a/b",
        "/abs",
        "a\\b",
        ".hidden",
        "a\u{1b}[31mred",
        "a\nb",
        "a\u{202e}b",
        "a\u{200b}b",
        "CON",
        "nul.txt",
        &long,
    ];
    let mut runs = 0;
    for name in names {
        let commands: [&[&str]; 5] = [
            &["events", "append", "--repo", name, "--job", "j"],
            &["events", "append", "--repo", "r", "--job", name],
            &["events", "cat", "--repo", "r", "--job", name],
            &[
                "checkpoint",
                "save",
                "--repo",
                "r",
                "--job",
                name,
                "--phase",
                "map",
            ],
            &["dlq", "push", "--repo", name, "--job", "j"],
        ];
        for arguments in commands {
            let answer = tool.run(arguments, b"{\"item_id\":\"i\",\"item_data\":1}\n")?;
            runs += 1;
            if !matches!(answer.code(), Some(1 | 2)) {
                return Err(answer.unexpected(&format!("{name:?} to be refused")));
            }
            let raw = answer
                .stderr
                .chars()
                .any(|char| char.is_control() && char != '\n');
            ensure!(
                !raw,
                "the message repeats control characters: {:?}",
                answer.stderr
            );
            ensure!(
                answer.stderr.len() < 4096,
                "the message on {name:.20?} has {} bytes",
                answer.stderr.len()
            );
            ensure!(!answer.stderr.trim().is_empty(), "nothing was said on {name:?}");
        }
    }
    ensure!(
        snapshot(&place)? == before && !place.join("deep").exists(),
        "something was created"
    );
    Ok(Seen::Holds(format!(
        "{} names refused in {runs} runs, nothing was created",
        names.len()
    )))
}
