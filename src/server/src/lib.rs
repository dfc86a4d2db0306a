//! Pinned executors, sockets, dispatch and shutdown.
//!
//! [`Server::start`] checks the host, takes the data directory, starts an executor for each core and returns when every listener
//! accepts; [`Server::wait`] returns after [`Handle::shutdown`] or SIGTERM, when what was accepted is finished and synced.

mod options;

pub use options::{Cores, Options};
