//! Checks of events: they are returned as they were appended, by many writers, when sent twice, and after an invalid
//! line.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use prodigy_storage_backend::reference::Log;
use uuid::Uuid;

use super::{Bench, Seen};
use crate::acks::Appender;
use crate::input::{joined, same_value, with_id};
use crate::segment;
use crate::tool::Tool;

const REPO: &str = "shop";
/// The number of concurrent writers.
const WRITERS: usize = 8;
/// The least number of bytes per writer, which fill several segments.
const SHARE: usize = 256 << 10;

/// Starts `events append --ack` of a job with this input.
fn append(tool: &Tool, job: &str, more: &[&str], input: Vec<u8>) -> Result<Appender> {
    let fixed = ["events", "append", "--repo", REPO, "--job", job, "--ack"];
    Appender::start(tool.command(fixed.iter().chain(more)), input)
}

/// Appends this input, and returns the acknowledged ids in order.
fn append_all(tool: &Tool, job: &str, more: &[&str], input: Vec<u8>) -> Result<Vec<Uuid>> {
    let mut acknowledged = Vec::new();
    append(tool, job, more, input)?.end(&mut acknowledged)?.well()?;
    Ok(acknowledged)
}

/// Checks that the stored events of a job are exactly the acknowledged ones.
fn compare(expected: &Log<Uuid, &str>, tool: &Tool, job: &str) -> Result<()> {
    let answer = tool
        .run(["events", "cat", "--repo", REPO, "--job", job], b"")?
        .expect_code(0)?;
    let others = expected.check(segment::events(&answer)?, |id, sent, found| {
        sent.map_or(Ok(()), |sent| {
            same_value(&format!("event {id}"), sent.as_bytes(), found)
        })
    })?;
    ensure!(others == 0, "{others} events are stored that nobody sent");
    Ok(())
}

/// Appends the whole input event by event, and reads it back in the same order.
pub(super) fn round_trip(bench: &Bench) -> Result<Seen> {
    let tool = bench.tool("round-trip")?;
    let lines = bench.input.lines();
    let acknowledged = append_all(&tool, "all", &[], joined(lines.iter().map(String::as_str)))?;
    ensure!(
        acknowledged.len() == lines.len(),
        "{} of {} were acknowledged",
        acknowledged.len(),
        lines.len()
    );
    let ascending = acknowledged.is_sorted_by(|one, next| one < next);
    ensure!(ascending, "the ids of one writer do not ascend");
    let cat = ["events", "cat", "--repo", REPO, "--job", "all", "--payload"];
    let answer = tool.run(cat, b"")?.expect_code(0)?;
    let mut bytes = 0;
    let mut found = answer.lines();
    for (number, sent) in lines.iter().enumerate() {
        let found = found
            .next()
            .with_context(|| format!("only {number} events come back"))?;
        same_value(&format!("event {}", number + 1), sent.as_bytes(), found)?;
        bytes += found.len();
    }
    ensure!(found.next().is_none(), "more events come back than were sent");
    segment::check(tool.base(), REPO, "all")?;
    Ok(Seen::Holds(format!(
        "{} events, {bytes} bytes of payload, the same values in the same order",
        lines.len()
    )))
}

/// Eight processes append to one job, with small segments and compression: each acknowledged event is read once.
pub(super) fn many_writers(bench: &Bench) -> Result<Seen> {
    let tool = bench
        .tool("many-writers")?
        .with("PRODIGY__STORAGE__BACKEND_CONFIG__MAX_FILE_SIZE", "64KiB")
        .with("PRODIGY__STORAGE__BACKEND_CONFIG__ENABLE_COMPRESSION", "true");
    let count = bench.input.positions_for(WRITERS * SHARE);
    let shares: Vec<Vec<&str>> = (0..WRITERS)
        .map(|writer| {
            (writer..count)
                .step_by(WRITERS)
                .map(|position| bench.input.at(position))
                .collect()
        })
        .collect();
    let running = shares
        .iter()
        .map(|share| append(&tool, "busy", &["--batch", "4"], joined(share.iter().copied())))
        .collect::<Result<Vec<_>>>()?;
    let mut expected = Log::default();
    for (share, writer) in shares.iter().zip(running) {
        let mut acknowledged = Vec::new();
        writer.end(&mut acknowledged)?.well()?;
        ensure!(
            acknowledged.len() == share.len(),
            "a writer got {} of {}",
            acknowledged.len(),
            share.len()
        );
        for (id, sent) in acknowledged.into_iter().zip(share) {
            ensure!(expected.get(id).is_none(), "{id} was given to two events");
            expected.store(id, *sent)?;
        }
    }
    compare(&expected, &tool, "busy")?;
    let disk = segment::check(tool.base(), REPO, "busy")?;
    ensure!(disk.compressed > 0, "no segment was compressed: {disk:?}");
    Ok(Seen::Holds(format!(
        "{} events by {WRITERS} processes at once, each once; {} segments plain, {} compressed",
        expected.durable().len(),
        disk.plain,
        disk.compressed
    )))
}

/// A batch under given ids is sent, sent again, and sent by two processes at once: each event is stored once.
pub(super) fn same_batch(bench: &Bench) -> Result<Seen> {
    let tool = bench.tool("same-batch")?;
    let mut expected = Log::default();
    let mut text = Vec::new();
    for line in bench.input.lines() {
        let id = Uuid::now_v7();
        expected.store(id, line.as_str())?;
        text.extend_from_slice(&joined([with_id(id, line).as_str()]));
    }
    let more = ["--with-ids", "--batch", "16"];
    let first = append_all(&tool, "again", &more, text.clone())?;
    let second = append_all(&tool, "again", &more, text.clone())?;
    ensure!(
        first == second,
        "the second sending was acknowledged otherwise than the first"
    );
    compare(&expected, &tool, "again").context("sent one after the other")?;

    let running = [
        append(&tool, "at-once", &more, text.clone())?,
        append(&tool, "at-once", &more, text)?,
    ];
    for writer in running {
        let mut acknowledged = Vec::new();
        writer.end(&mut acknowledged)?.well()?;
        ensure!(
            acknowledged.iter().copied().collect::<BTreeSet<_>>()
                == expected.durable().map(|(id, _)| id).collect(),
            "not all were acknowledged"
        );
    }
    compare(&expected, &tool, "at-once").context("sent from two processes at once")?;
    Ok(Seen::Holds(format!(
        "{} events sent twice, and from two processes at once, each read once",
        expected.durable().len()
    )))
}

/// An invalid line stops the command with its line number; the events before it are stored.
pub(super) fn bad_line(bench: &Bench) -> Result<Seen> {
    let tool = bench.tool("bad-line")?;
    let input = b"{\"n\":1}\n\n{\"n\":2}\n{\"n\":\n{\"n\":4}\n";
    let arguments = ["events", "append", "--repo", REPO, "--job", "bad"];
    let answer = tool.run(arguments, input)?.expect_code(1)?;
    if !answer.stderr.contains("line 4") {
        return Err(answer.unexpected("`line 4` in the message"));
    }
    let cat = ["events", "cat", "--repo", REPO, "--job", "bad", "--payload"];
    let kept = tool.done(cat, b"")?;
    ensure!(
        kept == b"{\"n\":1}\n{\"n\":2}\n",
        "kept: {}",
        String::from_utf8_lossy(&kept)
    );
    Ok(Seen::Holds(
        "exit 1 with `line 4`, the two events before it are stored".to_owned(),
    ))
}
