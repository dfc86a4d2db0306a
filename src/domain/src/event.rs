//! What happened. Events are the only way in which state changes.

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::limits::DIMENSION_COUNT_MAX;
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
    /// A held reservation lasts from now on.
    Confirmed(Moved),
    /// A reservation ended at its caller's wish.
    Released(Released),
    /// A hold ended at its deadline.
    Expired(Moved),
    /// A reservation has other units or another deadline from now on.
    Resized(Resized),
    /// A pool has left memory, and its reservations with it.
    PoolRetired(PoolRetired),
    /// What belongs to retired pools was forgotten in a range of reservation slots.
    Swept(Swept),
    /// Refusals for want of capacity; nothing changes.
    TurnedAway(TurnedAway),
}

impl Event {
    /// The pool that the event is about; `None` of housekeeping in a partition.
    pub fn pool(&self) -> Option<PoolId> {
        match self {
            Event::PoolCreated(event) | Event::PoolChanged(event) => Some(event.pool),
            Event::Reserved(event) => Some(event.pool),
            Event::Confirmed(event) | Event::Expired(event) => Some(event.pool),
            Event::Released(event) => Some(event.pool),
            Event::Resized(event) => Some(event.pool),
            Event::PoolRetired(event) => Some(event.pool),
            Event::TurnedAway(event) => Some(event.pool),
            Event::Swept(_) => None,
        }
    }

    /// The partition that the event changes.
    pub fn partition(&self) -> PartitionId {
        match self {
            Event::PoolCreated(event) | Event::PoolChanged(event) => event.pool.partition(),
            Event::Reserved(event) => event.pool.partition(),
            Event::Confirmed(event) | Event::Expired(event) => event.pool.partition(),
            Event::Released(event) => event.pool.partition(),
            Event::Resized(event) => event.pool.partition(),
            Event::PoolRetired(event) => event.pool.partition(),
            Event::Swept(event) => event.partition,
            Event::TurnedAway(event) => event.pool.partition(),
        }
    }

    /// The partition's number for this event.
    pub fn sequence(&self) -> u64 {
        match self {
            Event::PoolCreated(event) | Event::PoolChanged(event) => event.sequence,
            Event::Reserved(event) => event.sequence,
            Event::Confirmed(event) | Event::Expired(event) => event.sequence,
            Event::Released(event) => event.sequence,
            Event::Resized(event) => event.sequence,
            Event::PoolRetired(event) => event.sequence,
            Event::Swept(event) => event.sequence,
            Event::TurnedAway(event) => event.sequence,
        }
    }
}

/// A pool's whole definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolDefined {
    /// The partition's number for this event.
    pub sequence: u64,
    /// When: the owner's clock.
    pub at: Timestamp,
    /// The pool.
    pub pool: PoolId,
    /// Counts the definitions of this pool, from 1.
    pub version: u64,
    /// What holds from now on.
    pub definition: Arc<PoolDefinition>,
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

/// A held reservation was confirmed, or it expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The partition's number for this event.
    pub sequence: u64,
    /// When: the owner's clock.
    pub at: Timestamp,
    /// The reservation.
    pub reservation: ReservationId,
    /// Its pool.
    pub pool: PoolId,
    /// Its units.
    pub units: Units,
    /// The caller's business time; absent of one that expired.
    pub occurred_at: Timestamp,
}

/// Why a reservation was resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResizeCause {
    /// Its caller asked for it.
    Asked,
    /// Its deadline passed while the server was down.
    Downtime,
}

/// A reservation has other units or another deadline from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resized {
    /// The partition's number for this event.
    pub sequence: u64,
    /// When: the owner's clock.
    pub at: Timestamp,
    /// The reservation.
    pub reservation: ReservationId,
    /// Its pool.
    pub pool: PoolId,
    /// What it takes from now on.
    pub units: Units,
    /// What it took before.
    pub previous_units: Units,
    /// When the hold expires from now on; `None` of a confirmed one.
    pub expires_at: Option<Timestamp>,
    /// The reservation's version from now on.
    pub version: u16,
    /// Why.
    pub cause: ResizeCause,
    /// Enforcement would have refused it; only in shadow mode.
    pub would_refuse: bool,
    /// The caller's business time.
    pub occurred_at: Timestamp,
}

/// A pool has left memory, and its reservations with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolRetired {
    /// The partition's number for this event.
    pub sequence: u64,
    /// The pool.
    pub pool: PoolId,
}

/// What belongs to retired pools was forgotten in a range of reservation slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// The partition.
    pub partition: PartitionId,
    /// The partition's number for this event.
    pub sequence: u64,
    /// Reservations that ended before this time may be forgotten.
    pub ended_before: Timestamp,
    /// The first slot.
    pub from: u32,
    /// How many slots, and at most how many ended reservations.
    pub count: u32,
}

/// Refusals of a pool for want of capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnedAway {
    /// The partition's number for this event.
    pub sequence: u64,
    /// The pool.
    pub pool: PoolId,
    /// From when on they were counted.
    pub since: Timestamp,
    /// When counting them ended.
    pub at: Timestamp,
    /// How many.
    pub refusals: u64,
    /// What they asked for, summed by dimension; saturates.
    pub units: [u64; DIMENSION_COUNT_MAX],
}
