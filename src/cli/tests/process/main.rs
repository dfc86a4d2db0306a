//! The real binary: started, loaded, killed, started again, and fed with what it must not take.
#![allow(
    clippy::print_stderr,
    reason = "seeds and what was skipped are told to whoever runs the tests"
)]

mod again;
mod bad_input;
mod demo;
mod export;
mod feed;
mod flow;
mod history;
mod holds;
mod http;
mod http_bookings;
mod http_client;
mod http_events;
mod http_pools;
mod http_service;
mod kill;
mod lasting;
mod limits;
mod looking_back;
mod orders;
mod past;
mod rebuild;
mod repairs;
mod resets;
mod startup;
mod support;
mod tune;
mod versions;
