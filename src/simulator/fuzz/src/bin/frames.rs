//! Fuzz target: see `plimsoll_fuzz::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| plimsoll_fuzz::frames::check(input));
