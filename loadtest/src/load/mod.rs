//! Loads of any mixture, in an open or a closed loop.
//!
//! In an open loop commands are sent when they are due, whether or not answers have come, and latency counts from when they
//! were due.

pub(crate) mod account;
pub(crate) mod arguments;
pub(crate) mod choice;
pub(crate) mod detail;
pub(crate) mod driver;
mod line;
pub(crate) mod mix;
pub(crate) mod orders;
mod source;
mod taking;
pub(crate) mod work;
