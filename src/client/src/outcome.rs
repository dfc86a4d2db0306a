//! What became of a command.

use std::fmt;

use plimsoll_protocol::{Applied, ReservationId, Status, StatusNumber, wire};

use crate::error::UnknownCause;

/// What became of a reserve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserving {
    /// It is reserved, durably: now, or by an earlier attempt with the same key.
    Reserved(Reservation),
    /// It had no effect.
    Refused(Refusal),
    /// Nobody can tell. Send it again with the same key: then one of the two above holds for both attempts.
    Unknown(Unknown),
}

/// What became of a confirmation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirming {
    /// It is confirmed, durably: now or before.
    Confirmed(Reservation),
    /// It is not confirmed: the hold has ended, or there is no such reservation.
    Refused(Refusal),
    /// Nobody can tell. Confirm it again.
    Unknown(Unknown),
}

/// What became of a resize.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resizing {
    /// It has what was asked for, durably.
    Resized(Reservation),
    /// It had no effect that stands.
    Refused(Refusal),
    /// Nobody can tell. Read the reservation, then decide.
    Unknown(Unknown),
}

/// What became of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Releasing {
    /// It is released, durably: now or before.
    Released(Reservation),
    /// It had no effect.
    Refused(Refusal),
    /// Nobody can tell. Send it again.
    Unknown(Unknown),
}

/// What became of any command, as [`BatchOutcome::decided`](crate::BatchOutcome::decided) gives it. Never a guess.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// It took effect, durably: now, or by an earlier attempt.
    Applied(Reservation),
    /// It had no effect.
    Refused(Refusal),
    /// Nobody can tell.
    Unknown(Unknown),
}

/// What all kinds of outcomes say of themselves.
macro_rules! outcome {
    ($($outcome:ident::$done:ident),*) => {$(
        impl $outcome {
            /// Did it take effect?
            #[must_use]
            pub fn applied(&self) -> Applied {
                match self {
                    Self::$done(_) => Applied::Yes,
                    Self::Refused(_) => Applied::No,
                    Self::Unknown(_) => Applied::Unknown,
                }
            }

            /// Whether the same command, a reserve with the same key, may get another answer when it is sent again now.
            #[must_use]
            pub fn retryable(&self) -> bool {
                match self {
                    Self::$done(_) => false,
                    Self::Refused(refusal) => refusal.retryable(),
                    Self::Unknown(_) => true,
                }
            }
        }
    )*};
}

outcome!(
    Reserving::Reserved,
    Confirming::Confirmed,
    Resizing::Resized,
    Releasing::Released,
    Decided::Applied
);

/// The outcome of a command whose kind is known.
macro_rules! from_decided {
    ($($outcome:ident::$done:ident),*) => {$(
        impl From<Decided> for $outcome {
            fn from(decided: Decided) -> Self {
                match decided {
                    Decided::Applied(reservation) => Self::$done(reservation),
                    Decided::Refused(refusal) => Self::Refused(refusal),
                    Decided::Unknown(unknown) => Self::Unknown(unknown),
                }
            }
        }
    )*};
}

from_decided!(
    Reserving::Reserved,
    Confirming::Confirmed,
    Resizing::Resized,
    Releasing::Released
);

/// The state of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Held until a deadline.
    Held,
    /// Confirmed.
    Confirmed,
    /// Released: its units are free.
    Released,
    /// The hold's deadline passed: its units are free.
    Expired,
    /// A state that this version does not know.
    Other(u8),
}

impl From<wire::State> for State {
    fn from(state: wire::State) -> Self {
        match state {
            wire::State::held => Self::Held,
            wire::State::confirmed => Self::Confirmed,
            wire::State::released => Self::Released,
            wire::State::expired => Self::Expired,
            other => Self::Other(other.0),
        }
    }
}

impl State {
    pub(crate) fn on_wire(self) -> wire::State {
        match self {
            Self::Held => wire::State::held,
            Self::Confirmed => wire::State::confirmed,
            Self::Released => wire::State::released,
            Self::Expired => wire::State::expired,
            Self::Other(number) => wire::State(number),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => f.write_str("held"),
            Self::Confirmed => f.write_str("confirmed"),
            Self::Released => f.write_str("released"),
            Self::Expired => f.write_str("expired"),
            Self::Other(number) => write!(f, "state {number}"),
        }
    }
}

/// A reservation, as the answer to a command tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Its id.
    pub id: ReservationId,
    /// Its state now; a repeated reserve may find it ended.
    pub state: State,
    /// Counts its resizes, from 0.
    pub version: u16,
    /// Microseconds since 1970.
    pub created_at: i64,
    /// When the hold ends, microseconds since 1970.
    pub expires_at: Option<i64>,
    /// An earlier attempt with this key took effect.
    pub repeated: bool,
    /// Enforcement would have refused it: the pool is in shadow mode.
    pub would_refuse: bool,
}

impl From<&wire::Outcome> for Reservation {
    fn from(outcome: &wire::Outcome) -> Self {
        Self {
            id: outcome.reservation_id(),
            state: outcome.state().into(),
            version: outcome.version(),
            created_at: outcome.created_at(),
            expires_at: Some(outcome.expires_at()).filter(|&time| time != 0),
            repeated: outcome.is_repeated(),
            would_refuse: outcome.would_refuse(),
        }
    }
}

/// Why something had no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub status: StatusNumber,
    /// The dimensions that are short, for [`Status::InsufficientCapacity`]; otherwise empty.
    pub short: Vec<Short>,
    /// What remains in every dimension, in their order, for [`Status::InsufficientCapacity`]; otherwise empty.
    pub remaining: Vec<i64>,
    /// What the server says of it, when the frame as a whole was refused.
    pub detail: Option<String>,
}

/// A dimension in which the units do not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Short {
    /// The dimension's name.
    pub dimension: String,
    /// What remains of it; may be negative.
    pub remaining: i64,
}

impl Refusal {
    /// A refusal that says no more than its status.
    #[must_use]
    pub fn new(status: impl Into<StatusNumber>) -> Self {
        Self {
            status: status.into(),
            short: Vec::new(),
            remaining: Vec::new(),
            detail: None,
        }
    }

    /// Whether it is this one.
    #[must_use]
    pub fn is(&self, status: Status) -> bool {
        self.status == status.into()
    }

    /// Whether the same, sent again unchanged after a pause, may succeed.
    #[must_use]
    pub fn retryable(&self) -> bool {
        self.status.retryable()
    }

    /// Always [`Applied::No`].
    #[must_use]
    pub fn applied(&self) -> Applied {
        Applied::No
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.status.fmt(f)?;
        for (index, Short { dimension, remaining }) in self.short.iter().enumerate() {
            write!(
                f,
                "{}{dimension} ({remaining} left)",
                if index == 0 { ": " } else { ", " }
            )?;
        }
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

/// Nobody can tell whether it had an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Why.
    pub cause: UnknownCause,
    /// How often it was sent.
    pub attempts: u32,
}

impl Unknown {
    /// Always true: a reserve by its key, a confirmation and a release because they are the same a second time, a
    /// resize by its absolute values.
    #[must_use]
    pub fn retryable(&self) -> bool {
        true
    }

    /// Always [`Applied::Unknown`].
    #[must_use]
    pub fn applied(&self) -> Applied {
        Applied::Unknown
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (attempts: {})", self.cause, self.attempts)
    }
}
