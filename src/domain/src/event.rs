//! What happened. Events are the only way in which state changes.

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::limits::DIMENSION_COUNT_MAX;
use crate::{Key, PartitionId, PoolDefinition, PoolId, ReservationId, ReservationState, Timestamp, Units};

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
    /// A reservation ended at its caller's wish, or by a reset of its pool.
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
    /// A pool goes back to an earlier moment, by the events that follow.
    PoolReset(PoolReset),
    /// A reservation is again what it was. Boxed, since it is far larger than what is frequent.
    Restored(Box<Restored>),
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
            Event::PoolReset(event) => Some(event.pool),
            Event::Restored(event) => Some(event.pool),
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
            Event::PoolReset(event) => event.pool.partition(),
            Event::Restored(event) => event.pool.partition(),
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
            Event::PoolReset(event) => event.sequence,
            Event::Restored(event) => event.sequence,
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

/// Why a reservation was released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseCause {
    /// Its caller asked for it.
    Asked,
    /// Its pool went back to a moment at which it did not live.
    Reset,
}

/// A reservation ended before its deadline, or without one.
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
    /// Why.
    pub cause: ReleaseCause,
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

/// A pool goes back to an earlier moment. The events that do it follow at once, in the same batch: all of them count, or
/// none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolReset {
    /// The partition's number for this event.
    pub sequence: u64,
    /// When: the owner's clock.
    pub at: Timestamp,
    /// The pool.
    pub pool: PoolId,
    /// The moment.
    pub to: Timestamp,
    /// How many events follow that belong to the reset.
    pub change_count: u32,
    /// How many of them release a reservation.
    pub released_count: u32,
    /// How many of them restore one.
    pub restored_count: u32,
}

/// A reservation is again what it was: one that had ended lives again, or one that lives is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The partition's number for this event.
    pub sequence: u64,
    /// When: the owner's clock.
    pub at: Timestamp,
    /// The reservation.
    pub reservation: ReservationId,
    /// Its pool.
    pub pool: PoolId,
    /// Its key.
    pub key: Key,
    /// The slot where it lies from now on, which its id need not name.
    pub slot: u32,
    /// The generation of that slot.
    pub generation: u16,
    /// When it was made.
    pub created_at: Timestamp,
    /// What it takes from now on.
    pub units: Units,
    /// What was asked for first.
    pub requested_units: Units,
    /// The hold that was asked for first, in seconds; 0: confirmed at once.
    pub hold_seconds: u32,
    /// When the hold expires from now on; `None`: it is confirmed.
    pub expires_at: Option<Timestamp>,
    /// The reservation's version from now on.
    pub version: u16,
    /// Enforcement would have refused it.
    pub would_refuse: bool,
    /// Its key leads to it; otherwise another reservation has the key by now.
    pub has_key: bool,
    /// Where it stood before; `None`: it had ended, or was forgotten.
    pub previous_state: Option<ReservationState>,
    /// What it took before; nothing if it had ended.
    pub previous_units: Units,
    /// The caller's own name for what is reserved.
    pub reference: Option<Box<str>>,
}
