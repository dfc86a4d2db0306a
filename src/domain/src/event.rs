//! What happened. Events are the only way in which state changes.

use alloc::boxed::Box;

use crate::{Key, PartitionId, PoolDefinition, PoolId, ReservationId, Timestamp, Units};

/// A change of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A pool exists from now on.
    PoolCreated(PoolDefined),
    /// A pool has another definition from now on.
    PoolChanged(PoolDefined),
    /// Units were taken from a pool.
    Reserved(Reserved),
    /// A reservation ended at its caller's wish.
    Released(Released),
}

impl Event {
    /// The partition that the event changes.
    pub fn partition(&self) -> PartitionId {
        match self {
            Event::PoolCreated(event) | Event::PoolChanged(event) => event.pool.partition(),
            Event::Reserved(event) => event.pool.partition(),
            Event::Released(event) => event.pool.partition(),
        }
    }

    /// The partition's number for this event.
    pub fn sequence(&self) -> u64 {
        match self {
            Event::PoolCreated(event) | Event::PoolChanged(event) => event.sequence,
            Event::Reserved(event) => event.sequence,
            Event::Released(event) => event.sequence,
        }
    }
}

/// A pool's whole definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolDefined {
    /// The partition's number for this event.
    pub sequence: u64,
    /// The pool.
    pub pool: PoolId,
    /// Counts the definitions of this pool, from 1.
    pub version: u64,
    /// What holds from now on.
    pub definition: Box<PoolDefinition>,
}

/// Units were taken from a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// The partition's number for this event.
    pub sequence: u64,
    /// When: the owner's clock.
    pub at: Timestamp,
    /// The caller's key.
    pub key: Key,
    /// The new reservation's id.
    pub reservation: ReservationId,
    /// The pool.
    pub pool: PoolId,
    /// What was taken.
    pub units: Units,
    /// Seconds until the hold expires; 0: confirmed at once.
    pub hold_seconds: u32,
    /// The caller's business time.
    pub occurred_at: Timestamp,
    /// Enforcement would have refused it; only in shadow mode.
    pub would_refuse: bool,
    /// The caller's own name for what is reserved.
    pub reference: Option<Box<str>>,
}

/// A reservation ended at its caller's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// The partition's number for this event.
    pub sequence: u64,
    /// When: the owner's clock.
    pub at: Timestamp,
    /// The reservation.
    pub reservation: ReservationId,
    /// Its pool.
    pub pool: PoolId,
    /// What it gives back.
    pub units: Units,
    /// Whether they were confirmed, or only held.
    pub was_confirmed: bool,
    /// The caller's business time.
    pub occurred_at: Timestamp,
}
