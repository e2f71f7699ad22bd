//! Workloads with dead letters.

use anyhow::Result;
use prodigy_storage_backend::Durability::{Relaxed, Strict};

use super::SECOND;
use crate::fs::Doom;
use crate::stage::{LONG, Stage, job};

pub(super) fn push(stage: &mut Stage) -> Result<()> {
    let job = job("letters")?;
    let (one, other) = (stage.enter()?, stage.enter()?);
    stage.push(one, &job, &["a"], Strict)?;
    stage.push(one, &job, &["b", "c"], Strict)?;
    stage.push(other, &job, &["d"], Strict)?;
    stage.push(one, &job, &["e"], Strict)?;
    stage.dying(one, Doom::after_bytes("dlq/", 90), |stage| {
        stage.push(one, &job, &["f", "g"], Strict)
    })?;
    stage.push(other, &job, &["h"], Strict)?;
    let again = stage.enter()?;
    stage.push(again, &job, &["i", "j", "k"], Strict)
}

pub(super) fn merge(stage: &mut Stage) -> Result<()> {
    let job = job("letters")?;
    let (one, other) = (stage.enter()?, stage.enter()?);
    stage.push(one, &job, &["a", "b"], Strict)?;
    stage.push(one, &job, &["a"], Strict)?;
    stage.push(other, &job, &["b", "c"], Strict)?;
    stage.push(one, &job, &["c", "d"], Strict)?;
    stage.push(other, &job, &["a", "b", "c", "d"], Strict)?;
    stage.dying(other, Doom::after_bytes("dlq/", 60), |stage| {
        stage.push(other, &job, &["a", "e"], Strict)
    })?;
    stage.push(one, &job, &["e", "a"], Strict)
}

pub(super) fn redrive(stage: &mut Stage) -> Result<()> {
    let job = job("letters")?;
    let (one, other) = (stage.enter()?, stage.enter()?);
    stage.push(one, &job, &["a", "b", "c", "d", "e"], Strict)?;
    stage.take(one, &job, 2)?;
    stage.take(other, &job, 2)?;
    stage.ack(one, &job, 1)?;
    stage.nack(other, &job, 1)?;
    stage.push(one, &job, &["f"], Strict)?;
    stage.extend(one, &job, 9)?;
    stage.remove(other, &job, &["e"])?;
    stage.take(one, &job, 2)?;
    stage.fail(one, &job, 1)?;
    stage.compact(other, &job)?;
    stage.ack(one, &job, 2)?;
    stage.push(one, &job, &["a"], Strict)?;
    stage.nack(other, &job, 1)?;
    stage.dying(other, Doom::after_bytes("dlq/", 0), |stage| {
        stage.take(other, &job, 1)
    })?;
    stage.take(one, &job, 9)?;
    stage.ack(one, &job, 9)?;
    stage.push(one, &job, &["z"], Strict)
}

pub(super) fn letters_relaxed(stage: &mut Stage) -> Result<()> {
    let job = job("letters")?;
    let (one, other) = (stage.enter()?, stage.enter()?);
    stage.push(one, &job, &["a", "b"], Strict)?;
    stage.push(one, &job, &["c"], Relaxed)?;
    stage.push(other, &job, &["d", "e"], Relaxed)?;
    stage.flush(other)?;
    stage.push(one, &job, &["a"], Relaxed)?;
    stage.push(other, &job, &["f"], Strict)?;
    stage.push(one, &job, &["a", "g"], Relaxed)?;
    stage.take(other, &job, 1)?;
    stage.push(one, &job, &["h"], Relaxed)?;
    stage.flush(one)?;
    stage.push(one, &job, &["a"], Relaxed)?;
    stage.push(one, &job, &["i"], Relaxed)
}

/// A long item grows the queue's files, so that unused blanks remain at the end of both.
pub(super) fn letters_over_blanks(stage: &mut Stage) -> Result<()> {
    let job = job("letters")?;
    let (one, other) = (stage.enter()?, stage.enter()?);
    stage.push(one, &job, &[LONG], Strict)?;
    stage.push(one, &job, &["a"], Strict)?;
    stage.push(other, &job, &["b", "c", "d"], Strict)?;
    stage.push(one, &job, &["e"], Relaxed)?;
    stage.push(other, &job, &["f"], Strict)?;
    stage.take(one, &job, 2)?;
    stage.take(other, &job, 3)?;
    stage.push(one, &job, &["g"], Relaxed)?;
    stage.ack(other, &job, 2)?;
    stage.push(one, &job, &["b"], Relaxed)?;
    stage.nack(one, &job, 2)?;
    stage.dying(one, Doom::after_bytes("dlq/", 90), |stage| {
        stage.push(one, &job, &["h", "i"], Strict)
    })?;
    stage.take(other, &job, 2)?;
    stage.push(other, &job, &["j"], Strict)
}

pub(super) fn lease_clocks(stage: &mut Stage) -> Result<()> {
    let job = job("leases")?;
    let (one, two) = (stage.enter()?, stage.enter()?);
    stage.set_clock(one, -50 * 60 * SECOND)?;
    stage.set_clock(two, 24 * 3_600 * SECOND)?;
    stage.push(one, &job, &["a", "b", "c", "d"], Strict)?;
    stage.take(one, &job, 2)?;
    // By this process's clock every lease has ended. Even so, it gets only the two items that are not leased.
    stage.take(two, &job, 9)?;
    stage.set_clock(one, 90 * 24 * 3_600 * SECOND)?;
    stage.take(one, &job, 9)?;
    stage.ack(one, &job, 1)?;
    stage.nack(two, &job, 1)?;
    stage.set_clock(two, -50 * 60 * SECOND)?;
    stage.take(one, &job, 9)?;
    stage.kill(one);
    let three = stage.enter()?;
    stage.set_clock(three, 90 * 24 * 3_600 * SECOND)?;
    stage.take(three, &job, 9)
}
