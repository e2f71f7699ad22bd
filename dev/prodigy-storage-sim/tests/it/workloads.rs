//! Every workload survives a crash at each of its calls.

use prodigy_storage_sim::{Depth, WORKLOADS, explore};

fn survives(name: &str) {
    let workload = WORKLOADS
        .iter()
        .find(|workload| workload.name == name)
        .unwrap_or_else(|| panic!("there is no workload `{name}`"));
    let trace = workload.play().unwrap();
    let outcome = explore(&trace, workload.setup, Depth::quick(1));
    assert!(
        outcome.failures.is_empty(),
        "{} failures; the first:\n{}",
        outcome.failures.len(),
        outcome.failures.first().unwrap()
    );
    let counts = outcome.counts;
    assert_eq!(counts.calls, trace.journal.len());
    assert_eq!(
        counts.points,
        counts.calls + 1,
        "a point before and after each call"
    );
    assert!(counts.checked > counts.calls, "{counts:?}");
    assert!(counts.recoveries > 0 && counts.recovery_checked > 0, "{counts:?}");
}

macro_rules! workloads {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            survives($name);
        })*

        #[test]
        fn each_workload_has_its_test() {
            let tested = [$($name),*];
            let all: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
            assert_eq!(all, tested);
        }
    };
}

workloads! {
    events_survive_a_crash_at_every_call: "events",
    relaxed_events_survive_what_they_promise: "events-relaxed",
    given_ids_survive_a_crash_at_every_call: "given-ids",
    fencing_marks_survive_a_crash_at_every_call: "fenced",
    fenced_events_and_letters_survive_a_crash_at_every_call: "fenced-events",
    checkpoints_survive_a_crash_at_every_call: "checkpoints",
    relaxed_documents_survive_what_they_promise: "documents-relaxed",
    pushes_survive_a_crash_at_every_call: "push",
    merges_survive_a_crash_at_every_call: "merge",
    a_redrive_survives_a_crash_at_every_call: "redrive",
    relaxed_letters_survive_what_they_promise: "letters-relaxed",
    letters_over_blanks_survive_a_crash_at_every_call: "letters-over-blanks",
    adoption_survives_a_crash_at_every_call: "adoption",
    a_takeover_survives_a_crash_at_every_call: "takeover",
    two_processes_survive_a_crash_at_every_call: "two-processes",
    locks_survive_a_crash_at_every_call: "locks",
    the_first_use_survives_a_crash_at_every_call: "first-use",
    clocks_that_differ_survive_a_crash_at_every_call: "clocks",
    a_log_that_began_with_a_clock_ahead_survives_a_crash_at_every_call: "clock-ahead",
    leases_under_clocks_that_differ_survive_a_crash_at_every_call: "lease-clocks",
    a_deletion_survives_a_crash_at_every_call: "deletion",
    a_removal_of_old_events_survives_a_crash_at_every_call: "removal",
}
