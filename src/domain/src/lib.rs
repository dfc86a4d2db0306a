//! Pools and reservations: decide and apply, without any environment.
//!
//! [`State`] is what one core knows. [`State::decide`] takes a command and the time, and answers with the event that
//! the command causes, with what already stands, or with a refusal. [`State::apply`] takes the event into the state; it
//! cannot fail and reads neither clock nor random source, so that the same events always give the same state.
#![no_std]
extern crate alloc;

mod apply;
mod chunked;
mod command;
mod decide;
mod event;
mod fits;
mod holds;
mod id;
mod keys;
mod life;
pub mod limits;
mod moved;
mod partition;
mod pool;
mod pools;
mod refusal;
mod replay;
mod reservation;
mod reset;
mod restore;
mod snapshot;
mod stamps;
mod state;
mod stored;
mod touch;
mod units;

pub use command::{Command, Confirm, Decision, PutPool, Release, Reserve, Resize};
pub use event::{
    Event, Moved, PoolDefined, PoolReset, PoolRetired, ReleaseCause, Released, Reserved, ResizeCause, Resized,
    Restored, Swept, TurnedAway,
};
pub use id::{Key, PartitionId, PoolId, ReservationId, ReservationParts, Timestamp, partition_of};
pub use moved::{MovedPage, MovedReservation};
pub use partition::Sweep;
pub use pool::{DefinitionError, DefinitionField, Pool, PoolDefinition};
pub use refusal::Refusal;
pub use replay::Replaying;
pub use reservation::{ReservationEnds, ReservationState, ReservationView};
pub use reset::{PastReservation, ResetAction, ResetChange, ResetPlan, ResetTarget, Standing};
pub use restore::{RestoreError, Restoring};
pub use snapshot::{PartitionImage, PoolImage, PoolPage, ReservationPage, SnapshotPiece};
pub use state::{PutOutcome, State, StateOptions};
pub use stored::StoredReservation;
pub use units::{Counters, Units};
