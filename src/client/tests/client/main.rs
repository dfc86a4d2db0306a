//! The client against a peer that speaks the protocol over TCP and does what a test tells it to.

mod availability;
mod batches;
mod blocking;
mod commands;
mod faults;
mod holds;
mod ordered;
mod peer;
mod pools;
mod resizes;
