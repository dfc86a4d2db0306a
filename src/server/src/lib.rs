//! Pinned executors, sockets, dispatch and shutdown.
//!
//! [`Server::start`] checks the host, takes the data directory, starts an executor for each core and returns when every listener
//! accepts; [`Server::wait`] returns after [`Handle::shutdown`] or SIGTERM, when what was accepted is finished and synced.

mod admission;
mod archive;
mod availability;
mod background;
mod clock;
mod connection;
mod connections;
mod core;
mod core_count;
mod dispatch;
mod distribution;
mod encode;
mod fatal;
mod frames;
mod heartbeat;
mod history;
pub mod host;
mod host_watch;
mod limits;
mod listen;
mod mailbox;
mod memory;
mod options;
mod outgoing;
mod patience;
mod receive;
mod recovery;
mod requests;
mod runtime;
mod seldom;
mod server;
mod shared;
mod snapshot_file;
mod snapshots;
mod stats;
mod stats_answer;
mod sync;

pub use distribution::Distribution;
pub use fatal::{CatalogueEntry, Fatal};
pub use options::{ConnectionOptions, Cores, Options};
pub use recovery::SnapshotError;
pub use server::{Handle, Server};
pub use stats::{CommandTable, CoreStats, Stats};
