//! Rounds: in each round, every work of a row is run once, with the same contents.

use anyhow::{Context, Result};

use crate::row::{Contestant, Sample, Turn};

/// The values of one work, one for each measured round.
#[derive(Debug, Default)]
pub(crate) struct Samples(pub(crate) Vec<Sample>);

/// The order of the works in a round. The first work and the direction change each round, because the work before may
/// affect the next one's time.
pub(crate) fn order(round: usize, works: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..works).map(|work| (work + round / 2) % works).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// The seed for the contents of a round, from the run's seed, the row and the round.
pub(crate) fn seed(run: u64, row: &str, round: usize) -> u64 {
    let text = format!("{run} {row} {round}");
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

/// Runs a round that is not measured, then the measured ones. Calls `before` ahead of each turn.
pub(crate) fn run(
    contestants: &mut [Contestant],
    rounds: usize,
    seed: impl Fn(usize) -> u64,
    mut before: impl FnMut() -> Result<()>,
) -> Result<Vec<Samples>> {
    let mut samples: Vec<Samples> = contestants.iter().map(|_| Samples::default()).collect();
    for round in 0..=rounds {
        let turn = Turn { seed: seed(round) };
        for at in order(round, contestants.len()) {
            let (Some(contestant), Some(samples)) = (contestants.get_mut(at), samples.get_mut(at)) else {
                continue;
            };
            before()?;
            let sample = (contestant.work)(turn)
                .with_context(|| format!("{}, round {round}, seed {}", contestant.name, turn.seed))?;
            anyhow::ensure!(
                sample.value.is_finite() && sample.value > 0.0,
                "{} measured {}",
                contestant.name,
                sample.value
            );
            if round > 0 {
                samples.0.push(sample);
            }
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::rc::Rc;

    use super::{order, run, seed};
    use crate::row::{Contestant, Role};

    #[test]
    fn every_work_runs_once_a_round() {
        for round in 0..9 {
            let mut order = order(round, 4);
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn every_work_comes_first_and_last_in_some_round() {
        let orders: Vec<_> = (0..6).map(|round| order(round, 3)).collect();
        let firsts: BTreeSet<_> = orders.iter().map(|order| order[0]).collect();
        let lasts: BTreeSet<_> = orders.iter().map(|order| order[2]).collect();
        assert_eq!(firsts.len(), 3);
        assert_eq!(lasts.len(), 3);
        assert_eq!(orders[..2], [vec![0, 1, 2], vec![2, 1, 0]]);
    }

    #[test]
    fn works_take_turns_on_the_same_contents_and_the_first_round_does_not_count() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let work = |name: &'static str| {
            let seen = Rc::clone(&seen);
            Contestant::new(Role::Peer, name, move |turn| {
                seen.borrow_mut().push((turn.seed, name));
                Ok(turn.seed as f64)
            })
        };
        let mut contestants = [work("one"), work("two")];
        let mut calls = 0;
        let samples = run(
            &mut contestants,
            2,
            |round| 10 + round as u64,
            || {
                calls += 1;
                Ok(())
            },
        )
        .unwrap();
        let wanted = [
            (10, "one"),
            (10, "two"),
            (11, "two"),
            (11, "one"),
            (12, "two"),
            (12, "one"),
        ];
        assert_eq!(*seen.borrow(), wanted);
        assert_eq!(calls, 6);
        for samples in samples {
            let values: Vec<f64> = samples.0.iter().map(|sample| sample.value).collect();
            assert_eq!(values, [11.0, 12.0]);
        }
    }

    #[test]
    fn a_value_that_is_no_time_ends_the_run() {
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut contestants = [Contestant::new(Role::Ours, "x", move |_| Ok(value))];
            assert!(run(&mut contestants, 1, |_| 1, || Ok(())).is_err());
        }
    }

    #[test]
    fn contents_differ_by_round_row_and_run() {
        let seeds: BTreeSet<u64> = [(1, "a", 0), (1, "a", 1), (1, "b", 0), (2, "a", 0)]
            .map(|(run, row, round)| seed(run, row, round))
            .into();
        assert_eq!(seeds.len(), 4);
        assert_eq!(seed(1, "a", 0), seed(1, "a", 0));
    }
}
