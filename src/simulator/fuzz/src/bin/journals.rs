//! Fuzz target: see `plimsoll_fuzz::journals`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| plimsoll_fuzz::journals::check(input));
