//! Random sequences of calls, whose answers are compared with the model's.

use std::sync::atomic::Ordering;

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use proptest_state_machine::ReferenceStateMachine;

use super::failure::Failure;
use super::harness::HarnessFactory;
use super::model::Model;
use super::subject::Subject;

/// The number of calls in the longest sequence.
const LONGEST: usize = 60;

/// Runs random sequences of calls over two handles, each sequence on a fresh store and with restarts among the calls. A
/// failing sequence is shortened as far as possible.
///
/// # Errors
/// The shortest failing sequence that was found, and the difference.
pub fn sequences(factory: &dyn HarnessFactory, cases: u32) -> Result<(), Failure> {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let strategy = Model::sequential_strategy(1..LONGEST);
    let outcome = runner.run(&strategy, |(mut state, steps, seen)| {
        let fail = |what: Failure| TestCaseError::fail(what.to_string());
        let harness = factory.fresh();
        let mut subject = Subject::new(&*harness).map_err(fail)?;
        for (number, step) in steps.iter().enumerate() {
            // If a sequence fails, the test framework first drops the calls after the failed one. So it needs
            // their count.
            if let Some(seen) = &seen {
                seen.fetch_add(1, Ordering::SeqCst);
            }
            state = Model::apply(state, step);
            subject
                .apply(step, &state)
                .map_err(|what| TestCaseError::fail(format!("at call {number}, {step:?}: {what}")))?;
        }
        subject.finish(&state).map_err(fail)
    });
    match outcome {
        Ok(()) => Ok(()),
        Err(TestError::Fail(why, (_, steps, _))) => {
            let steps: Vec<String> = steps.iter().map(|step| format!("    {step:?}")).collect();
            Err(Failure::new(format!("{why}\n  after:\n{}", steps.join("\n"))))
        }
        Err(TestError::Abort(why)) => Err(Failure::new(format!("no sequences could be made: {why}"))),
    }
}

/// Runs [`sequences`].
///
/// # Panics
/// If a sequence fails: with the shortest failing sequence that was found, and the difference.
pub fn run_sequences(factory: &dyn HarnessFactory, cases: u32) {
    if let Err(failure) = sequences(factory, cases) {
        panic!("{}: {failure}", factory.name());
    }
}
