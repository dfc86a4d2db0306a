//! One core's work without system calls.
//!
//! The seam to the world is small. Whoever owns an [`Engine`] (the server, or the simulator) calls
//! - [`Engine::submit`] with messages that have arrived,
//! - [`Engine::turn`] with the time, which decides, applies and appends, and may return a [`Ticket`](plimsoll_journal::Ticket) to sync,
//! - [`Engine::segment_synced`] and [`Engine::durable`] when a ticket's sync has finished, or [`Engine::sync_failed`],
//! - [`Engine::next_publication`] and then [`Engine::next_reply`] until they return nothing.
//!
//! Storage, time and randomness come in from outside, so that the simulator runs the production code.

mod engine;
pub mod limits;
mod lost_demand;
mod message;
mod process;
mod publication;
mod replay;
mod reset;

pub use engine::{Effects, Engine, EngineOptions, RecordError, Recovered, RecoveryBase, SnapshotMoment, event_of};
pub use message::{
    Answer, Batch, Call, Entry, Message, PoolReport, PutResult, Request, ReservationReport, ResetReport,
};
pub use process::wire_state;
pub use publication::{DefinedPool, Publication};
