//! What callers ask for. Values are checked against `limits` before they get here.

use alloc::boxed::Box;

use crate::{Event, Key, PoolDefinition, PoolId, ReservationId, ReservationView, Timestamp, Units};

/// A command on a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Take units from a pool.
    Reserve(Reserve),
    /// Make a held reservation last.
    Confirm(Confirm),
    /// Change a reservation's units or deadline.
    Resize(Resize),
    /// Give a reservation's units back.
    Release(Release),
}

/// Take units from a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// The pool to take from.
    pub pool: PoolId,
    /// Makes a repetition harmless.
    pub key: Key,
    /// At least one above 0.
    pub units: Units,
    /// Seconds until the hold expires; 0 confirms at once.
    pub hold_seconds: u32,
    /// The caller's business time; decides nothing and is kept with the event.
    pub occurred_at: Timestamp,
    /// 56 random bits for the reservation's id.
    pub random: u64,
    /// The caller's own name for what is reserved.
    pub reference: Option<Box<str>>,
}

/// Make a held reservation last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// The reservation to confirm.
    pub reservation: ReservationId,
    /// The caller's business time.
    pub occurred_at: Timestamp,
}

/// Change a reservation's units or deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    /// The reservation to change.
    pub reservation: ReservationId,
    /// The version that the change was made from; `None`: any.
    pub expected_version: Option<u16>,
    /// What it takes from now on; [`Resize::UNCHANGED`] leaves a dimension as it is.
    pub units: Units,
    /// Seconds from now until the hold expires; 0 leaves the deadline as it is.
    pub hold_seconds: u32,
    /// The caller's business time.
    pub occurred_at: Timestamp,
}

impl Resize {
    /// As a value among the units: the dimension stays as it is.
    pub const UNCHANGED: u32 = u32::MAX;
}

/// Give a reservation's units back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// The reservation to end.
    pub reservation: ReservationId,
    /// The caller's business time.
    pub occurred_at: Timestamp,
}

/// Create a pool, or change it to this definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutPool {
    /// The whole definition.
    pub definition: PoolDefinition,
    /// The version that the change was made from; `None`: any.
    pub expected_version: Option<u64>,
}

/// What a command that is not refused leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This event, to be recorded and applied.
    Change(Event),
    /// Nothing new: an earlier attempt took effect, and this is the reservation as it is now.
    Standing(ReservationView),
}

impl PutPool {
    /// As `expected_version`: the pool must not exist.
    pub const MUST_NOT_EXIST: u64 = u64::MAX;
}
