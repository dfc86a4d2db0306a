//! Criterion benches of Plimsoll.
