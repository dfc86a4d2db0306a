//! One core's work without system calls.
