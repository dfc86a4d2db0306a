//! Fuzz target: see `plimsoll_fuzz::manifests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| plimsoll_fuzz::manifests::check(input));
