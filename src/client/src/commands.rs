//! What callers ask for.

use std::time::Duration;

use plimsoll_protocol::{Key, PoolId, ReservationId};

/// Which pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolRef<'a> {
    /// By name. The client learns the id once and remembers it.
    Name(&'a str),
    /// By id, which [`Client::resolve`](crate::Client::resolve) gives.
    Id(PoolId),
}

impl<'a> From<&'a str> for PoolRef<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(name)
    }
}

impl<'a> From<&'a String> for PoolRef<'a> {
    fn from(name: &'a String) -> Self {
        Self::Name(name)
    }
}

impl From<PoolId> for PoolRef<'_> {
    fn from(id: PoolId) -> Self {
        Self::Id(id)
    }
}

/// How many units, 0 to 2^31-1 in each dimension, at least one above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units<'a> {
    /// By the dimensions' names; what is not named is 0.
    Named(&'a [(&'a str, u32)]),
    /// A value for each dimension, in the order of [`Client::dimensions`](crate::Client::dimensions).
    InOrder(&'a [u32]),
}

/// A reserve: units from one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve<'a> {
    /// From which pool.
    pub pool: PoolRef<'a>,
    /// How many units.
    pub units: Units<'a>,
    /// The caller's idempotency key. The same reserve with the same key has one effect, however often it is sent.
    pub key: Key,
    /// How long it is held: whole seconds from 1 to 86,400. `None` confirms at once.
    pub hold: Option<Duration>,
    /// The caller's own name for what is reserved, at most 64 bytes; need not be unique.
    pub reference: Option<&'a str>,
    /// The caller's business time, microseconds since 1970. It decides nothing and is kept with the event.
    pub occurred_at: Option<i64>,
}

impl<'a> Reserve<'a> {
    /// A reserve that is confirmed at once, without a reference.
    pub fn new(pool: impl Into<PoolRef<'a>>, units: Units<'a>, key: Key) -> Self {
        Self {
            pool: pool.into(),
            units,
            key,
            hold: None,
            reference: None,
            occurred_at: None,
        }
    }
}

/// A resize: other units, another deadline, or both.
///
/// ```
/// use plimsoll_client::{ReservationId, Resize};
/// use std::time::Duration;
///
/// let id: ReservationId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse()?;
/// let longer = Resize { hold: Some(Duration::from_secs(600)), ..Resize::new(id) };
/// let larger = Resize { units: &[("rooms", 2)], version: Some(0), ..Resize::new(id) };
/// assert_eq!((longer.units, larger.hold), (&[][..], None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize<'a> {
    /// Which reservation.
    pub reservation: ReservationId,
    /// The units that it has afterwards, 0 to 2^31-1, by the dimensions' names; what is not named stays. At least one
    /// dimension of the reservation stays above 0.
    pub units: &'a [(&'a str, u32)],
    /// From now on, how long it is held: whole seconds from 1 to 86,400. `None` leaves the deadline as it is.
    pub hold: Option<Duration>,
    /// Only when the reservation still has this version, which counts its resizes from 0. `None`: whatever it has.
    pub version: Option<u16>,
    /// The caller's business time, microseconds since 1970. It decides nothing and is kept with the event.
    pub occurred_at: Option<i64>,
}

impl Resize<'_> {
    /// A resize that changes nothing yet, of whatever version the reservation has.
    #[must_use]
    pub fn new(reservation: ReservationId) -> Self {
        Self {
            reservation,
            units: &[],
            hold: None,
            version: None,
            occurred_at: None,
        }
    }
}

/// A confirmation, for [`Ordered`](crate::Ordered), which has to know the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirm<'a> {
    /// The pool of the reservation. Only the order depends on it.
    pub pool: PoolRef<'a>,
    /// Which reservation.
    pub reservation: ReservationId,
    /// The caller's business time, microseconds since 1970. It decides nothing and is kept with the event.
    pub occurred_at: Option<i64>,
}

/// A release, for [`Ordered`](crate::Ordered), which has to know the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release<'a> {
    /// The pool of the reservation. Only the order depends on it.
    pub pool: PoolRef<'a>,
    /// Which reservation.
    pub reservation: ReservationId,
    /// The caller's business time, microseconds since 1970. It decides nothing and is kept with the event.
    pub occurred_at: Option<i64>,
}
