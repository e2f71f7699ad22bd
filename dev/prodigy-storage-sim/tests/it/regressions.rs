//! Tests that reproduce losses after crashes, which earlier versions had, with few calls each.

use anyhow::Result;
use prodigy_storage_backend::Durability::{Relaxed, Strict};
use prodigy_storage_layout::{Document, Phase, RepoName};
use prodigy_storage_sim::{Depth, Doom, Setup, Stage, explore, id, job, record};

/// Crashes a run at each call, and each recovery as well.
fn survives(play: impl FnOnce(&mut Stage) -> Result<()>) {
    let setup = Setup::default();
    let trace = record(setup, play).unwrap();
    let depth = Depth {
        one_of: 1,
        ..Depth::quick(1)
    };
    let outcome = explore(&trace, setup, depth);
    assert!(outcome.failures.is_empty(), "{}", outcome.failures[0]);
    assert!(outcome.counts.recoveries > 0);
}

#[test]
fn a_relaxed_document_is_whole_or_absent_after_a_loss_of_power() {
    survives(|stage| {
        let who = stage.enter()?;
        stage.add(who, &job("one")?, Phase::Map, 700, Relaxed)?;
        let entry = Document::Repository(RepoName::new("shop")?);
        stage.put(who, &entry, true, 60, Relaxed)
    });
}

#[test]
fn a_relaxed_merge_takes_no_item_that_was_stored_strictly() {
    survives(|stage| {
        let job = job("one")?;
        let who = stage.enter()?;
        stage.push(who, &job, &["a", "b"], Strict)?;
        stage.push(who, &job, &["a"], Relaxed)
    });
}

#[test]
fn a_flush_makes_documents_and_dead_letters_durable() {
    survives(|stage| {
        let job = job("one")?;
        let finished = Document::Finished(job.clone());
        let who = stage.enter()?;
        stage.push(who, &job, &["a"], Relaxed)?;
        stage.push(who, &job, &["b"], Relaxed)?;
        stage.put(who, &finished, true, 30, Relaxed)?;
        stage.flush(who)?;
        stage.push(who, &job, &["a"], Relaxed)?;
        stage.delete(who, &finished, Relaxed)?;
        stage.flush(who)
    });
}

#[test]
fn a_strict_delete_of_what_was_deleted_relaxed_is_durable() {
    survives(|stage| {
        let finished = Document::Finished(job("one")?);
        let who = stage.enter()?;
        stage.put(who, &finished, true, 30, Strict)?;
        stage.delete(who, &finished, Relaxed)?;
        stage.delete(who, &finished, Strict)
    });
}

#[test]
fn a_flush_covers_a_duplicate_that_another_writer_stored_relaxed() {
    let (given, again) = (job("flushed").unwrap(), job("synced").unwrap());
    survives(|stage| {
        let (one, other) = (stage.enter()?, stage.enter()?);
        for (job, number) in [(&given, 1), (&again, 2)] {
            let ids = vec![id(stage, 0, number)];
            let event = stage.payloads(&[20]);
            stage.append_these(one, job, event.clone(), Some(ids.clone()), Relaxed)?;
            stage.append_these(other, job, event, Some(ids), Relaxed)?;
        }
        stage.flush(other)?;
        // The sync of a strict append also covers an event that another process stored before it with relaxed
        // durability.
        let ids = vec![id(stage, 0, 3)];
        let event = stage.payloads(&[20]);
        stage.append_these(one, &again, event.clone(), Some(ids.clone()), Relaxed)?;
        stage.append_these(other, &again, event, Some(ids), Relaxed)?;
        stage.append(other, &again, &[20], Strict)
    });
}

#[test]
fn a_flush_covers_what_another_process_had_deleted_or_pushed_relaxed() {
    survives(|stage| {
        let job = job("one")?;
        let finished = Document::Finished(job.clone());
        let (one, other) = (stage.enter()?, stage.enter()?);
        stage.put(one, &finished, true, 30, Strict)?;
        stage.delete(one, &finished, Relaxed)?;
        stage.delete(other, &finished, Relaxed)?;
        stage.push(one, &job, &["a"], Relaxed)?;
        stage.push(other, &job, &["a"], Relaxed)?;
        stage.flush(other)
    });
}

#[test]
fn what_a_dead_writer_left_unsynced_is_no_hole_below_the_next_ones() {
    survives(|stage| {
        let job = job("one")?;
        let one = stage.enter()?;
        stage.append(one, &job, &[20], Strict)?;
        // This event is complete with its line end, and never synced.
        let event = stage.payloads(&[30]);
        stage.dying(one, Doom::short_of("events/", 0), |stage| {
            stage.append_these(one, &job, event, None, Strict)
        })?;
        let other = stage.enter()?;
        stage.append(other, &job, &[40], Strict)
    });
}

#[test]
fn a_tail_is_mended_in_an_order_that_a_loss_of_power_keeps() {
    survives(|stage| {
        let job = job("one")?;
        let one = stage.enter()?;
        stage.append(one, &job, &[20], Strict)?;
        let event = stage.payloads(&[30]);
        // This event is complete except for its line end.
        stage.dying(one, Doom::short_of("events/", 1), |stage| {
            stage.append_these(one, &job, event, None, Strict)
        })?;
        let other = stage.enter()?;
        stage.append(other, &job, &[20], Strict)?;
        stage.dying(other, Doom::after_bytes("events/", 400), |stage| {
            stage.append(other, &job, &[500], Strict)
        })?;
        let third = stage.enter()?;
        stage.append(third, &job, &[20, 20], Strict)
    });
}

#[test]
fn half_an_item_never_stands_behind_the_bracket() {
    survives(|stage| {
        let job = job("one")?;
        let one = stage.enter()?;
        stage.push(one, &job, &["a"], Strict)?;
        stage.dying(one, Doom::after_bytes("dlq/", 180), |stage| {
            stage.push(one, &job, &["b", "c"], Strict)
        })?;
        let other = stage.enter()?;
        stage.push(other, &job, &["d"], Strict)
    });
}

#[test]
fn an_item_pushed_behind_an_unsynced_one_is_no_damage() {
    survives(|stage| {
        let job = job("one")?;
        let one = stage.enter()?;
        stage.push(one, &job, &["a"], Strict)?;
        stage.dying(one, Doom::short_of("dlq/", 1), |stage| {
            stage.push(one, &job, &["b", "c"], Strict)
        })?;
        let other = stage.enter()?;
        stage.push(other, &job, &["d"], Strict)
    });
}

#[test]
fn a_flush_does_not_begin_a_queue_again_that_another_process_deleted() {
    survives(|stage| {
        let job = job("one")?;
        let (one, other) = (stage.enter()?, stage.enter()?);
        stage.push(one, &job, &["a"], Strict)?;
        stage.delete_job(other, &job)?;
        stage.flush(one)
    });
}
