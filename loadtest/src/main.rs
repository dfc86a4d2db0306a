//! The binary `plimsoll-loadtest`.
fn main() {}
