//! Generated values as a person would type them.

use proptest::prelude::*;

fn near_miss() -> impl Strategy<Value = String> {
    let word = proptest::sample::select(vec![
        "s", "ns", "ms", "m", "h", "d", "y", "months", " ", "-", "+", ".", "e", "MiB", "KB", "true", "file",
        "memory", "~", "/", "$", "${", "%", "://", "\u{1b}", "\u{202e}", "\0", "é",
    ]);
    let piece = prop_oneof![
        word.prop_map(str::to_owned),
        any::<u64>().prop_map(|number| number.to_string())
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_value_reads_back_or_is_refused_by_name(text in prop_oneof![near_miss(), any::<String>()]) {
        prodigy_storage_fuzz::values(text.as_bytes());
    }
}
