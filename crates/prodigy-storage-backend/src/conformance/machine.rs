//! Random sequences of calls, against the model.

use std::sync::atomic::Ordering;

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use proptest_state_machine::ReferenceStateMachine;

use super::failure::Failure;
use super::harness::HarnessFactory;
use super::model::Model;
use super::subject::Subject;

/// Calls of the longest sequence.
const LONGEST: usize = 60;

/// Drives two handles through random sequences, each on a fresh store, with restarts among the calls. A sequence
/// that fails is made as short as it gets.
///
/// # Errors
/// The shortest sequence that was found, and what differed.
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
            // Shrinking removes first the calls that a failed sequence never reached.
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
/// If one fails: with the shortest sequence that was found, and what differed.
pub fn run_sequences(factory: &dyn HarnessFactory, cases: u32) {
    if let Err(failure) = sequences(factory, cases) {
        panic!("{}: {failure}", factory.name());
    }
}
