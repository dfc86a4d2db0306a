//! Fuzz target: see `plimsoll_fuzz::snapshots`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| plimsoll_fuzz::snapshots::check(input));
