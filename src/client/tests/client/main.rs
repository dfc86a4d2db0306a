//! The client against a peer that speaks the protocol over TCP and does what a test tells it to.

mod batches;
mod commands;
mod faults;
mod ordered;
mod peer;
mod pools;
