#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| prodigy_storage_fuzz::cursor(bytes));
