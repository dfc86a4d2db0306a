//! The Rust client of Plimsoll.
