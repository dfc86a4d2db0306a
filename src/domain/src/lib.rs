//! Pools and reservations: decide and apply, without any environment.
//!
//! [`State`] is what one core knows. [`State::decide`] takes a command and the time, and answers with the event that the command
//! causes, with what already stands, or with a refusal. [`State::apply`] takes the event into the state; it cannot fail and reads neither
//! clock nor random source, so that the same events always give the same state.
#![no_std]
extern crate alloc;

mod apply;
mod chunked;
mod command;
mod decide;
mod event;
mod id;
mod keys;
pub mod limits;
mod partition;
mod pool;
mod refusal;
mod reservation;
mod state;
mod touch;
mod units;

pub use command::{Command, Decision, PutPool, Release, Reserve};
pub use event::{Event, PoolDefined, Released, Reserved};
pub use id::{Key, PartitionId, PoolId, ReservationId, ReservationParts, Timestamp, partition_of};
pub use pool::{DefinitionError, DefinitionField, Pool, PoolDefinition};
pub use refusal::Refusal;
pub use reservation::{ReservationState, ReservationView};
pub use state::{PutOutcome, State, StateOptions};
pub use units::{Counters, Units};
