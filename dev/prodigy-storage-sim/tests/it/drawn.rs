//! Random workloads, crashed at each of their calls.

use prodigy_storage_backend::Durability::{Relaxed, Strict};
use prodigy_storage_sim::{Compare, DOCUMENTS, Depth, FILES, Setup, Step, explore, perform, record, turn};
use proptest::prelude::*;

fn durability() -> impl Strategy<Value = prodigy_storage_backend::Durability> {
    prop_oneof![3 => Just(Strict), 1 => Just(Relaxed)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<u16>(), durability()).prop_map(|(size, durability)| Step::Append(size, durability)),
        2 => (0u8..6, durability()).prop_map(|(number, durability)| Step::Given(number, durability)),
        2 => Just(Step::Scan),
        2 => Just(Step::Follow),
        2 => (0u8..4, any::<i16>()).prop_map(|(kind, share)| Step::Turn(turn(kind, share))),
        1 => Just(Step::Seal),
        1 => Just(Step::Flush),
        1 => durability().prop_map(Step::Add),
        1 => (0..DOCUMENTS, any::<bool>(), durability()).prop_map(|(number, compare, durability)| {
            let compare = if compare { Compare::AndSet } else { Compare::Never };
            Step::Put(number, compare, durability)
        }),
        1 => (0..DOCUMENTS, durability()).prop_map(|(number, durability)| Step::Delete(number, durability)),
        3 => (any::<u8>(), durability()).prop_map(|(bits, durability)| Step::Push(bits, durability)),
        1 => (1u8..4).prop_map(Step::Take),
        1 => Just(Step::Ack),
        1 => Just(Step::Nack),
        1 => any::<u8>().prop_map(Step::Remove),
        1 => Just(Step::DeleteJob),
        1 => Just(Step::Lock),
        1 => (proptest::sample::select(&FILES[..]), 0u16..400).prop_map(|(file, bytes)| Step::Doom(file, bytes)),
        1 => Just(Step::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_workloads_survive_a_crash_at_every_call(
        steps in proptest::collection::vec((any::<bool>(), step()), 1..10),
        compression: bool,
        seed: u64,
    ) {
        let setup = Setup { max_file_size: 1_200, compression };
        let trace = record(setup, |stage| perform(stage, &steps)).unwrap();
        let outcome = explore(&trace, setup, Depth::narrow(seed));
        prop_assert!(outcome.failures.is_empty(), "{}", outcome.failures[0]);
        prop_assert_eq!(outcome.counts.points, trace.journal.len() + 1);
    }
}
