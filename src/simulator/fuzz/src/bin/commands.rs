//! Fuzz target: see `plimsoll_fuzz::commands`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| plimsoll_fuzz::commands::check(input));
