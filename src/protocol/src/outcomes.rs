//! The payload of operation 16, answer: outcomes, read in place.

use crate::identifier::Halves;
use crate::limits::OUTCOME_SIZE_BYTES;
use crate::payload::{self, PayloadError};
use crate::wire;
use crate::{ReservationId, Status, StatusNumber};

const _: () = assert!(size_of::<wire::Outcome>() == OUTCOME_SIZE_BYTES);

/// Bit 0 of an outcome's flags.
const FLAG_REPEATED: u8 = 1;

/// Bit 1 of an outcome's flags.
const FLAG_WOULD_REFUSE: u8 = 2;

/// What became of a command that has a reservation to speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applies {
    /// The reservation.
    pub reservation: ReservationId,
    /// Its state now.
    pub state: wire::State,
    /// Its version, for a resize.
    pub version: u16,
    /// Microseconds since 1970.
    pub created_at: i64,
    /// Microseconds since 1970; 0 where there is no deadline.
    pub expires_at: i64,
    /// An earlier attempt with this key took effect.
    pub repeated: bool,
    /// Enforcement would have refused it (shadow).
    pub would_refuse: bool,
}

impl wire::Outcome {
    /// The outcome of a command about a reservation: [`Status::Ok`], or a refusal that speaks of one.
    #[must_use]
    pub fn about(status: Status, applies: &Applies) -> Self {
        let Halves { high, low } = applies.reservation.halves();
        let repeated = if applies.repeated { FLAG_REPEATED } else { 0 };
        let would_refuse = if applies.would_refuse { FLAG_WOULD_REFUSE } else { 0 };
        Self::new(
            status.number(),
            applies.state,
            repeated | would_refuse,
            0,
            0,
            applies.version,
            high,
            low,
            applies.created_at,
            applies.expires_at,
        )
    }

    /// The outcome of a command that was refused, with no reservation to speak of.
    #[must_use]
    pub fn refused(status: Status) -> Self {
        Self::new(status.number(), wire::State::none, 0, 0, 0, 0, 0, 0, 0, 0)
    }

    /// The outcome of a reserve that does not fit; bit d of `short_dimensions` says that dimension d is short. What
    /// remains stands beside it.
    #[must_use]
    pub fn insufficient(short_dimensions: u8) -> Self {
        let status = Status::InsufficientCapacity.number();
        Self::new(status, wire::State::none, 0, short_dimensions, 0, 0, 0, 0, 0, 0)
    }

    /// The status.
    #[must_use]
    pub fn status_number(&self) -> StatusNumber {
        StatusNumber(self.status())
    }

    /// The reservation; 0 where there is none to speak of.
    #[must_use]
    pub fn reservation_id(&self) -> ReservationId {
        ReservationId::from_halves(Halves {
            high: self.reservation_high(),
            low: self.reservation_low(),
        })
    }

    /// Whether an earlier attempt with this key took effect.
    #[must_use]
    pub fn is_repeated(&self) -> bool {
        self.flags() & FLAG_REPEATED != 0
    }

    /// Whether enforcement would have refused it (shadow).
    #[must_use]
    pub fn would_refuse(&self) -> bool {
        self.flags() & FLAG_WOULD_REFUSE != 0
    }

    /// Whether a value for each dimension stands beside the outcome.
    #[must_use]
    pub fn has_remaining(&self) -> bool {
        self.status() == Status::InsufficientCapacity.number()
    }
}

/// What remains in each dimension; empty for outcomes that do not say. Read in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining<'payload>(&'payload [u8]);

impl<'payload> Remaining<'payload> {
    /// How many values there are: the number of dimensions, or 0.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len() / size_of::<i64>()
    }

    /// Whether the outcome does not say what remains.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values, in the order of the dimensions. They may be negative.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = i64> + use<'payload> {
        self.0.as_chunks().0.iter().map(|value| i64::from_le_bytes(*value))
    }
}

/// One outcome with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome<'payload> {
    /// Its place in the frame: that of its command.
    pub index: usize,
    /// The outcome.
    pub outcome: &'payload wire::Outcome,
    /// A value for each dimension when the units did not fit.
    pub remaining: Remaining<'payload>,
}

/// A payload `Outcomes` whose shape has been checked: as many outcomes as were expected, and what remains for each that
/// says so.
#[derive(Clone, Copy, Debug)]
pub struct OutcomesView<'payload> {
    outcomes: flatbuffers::Vector<'payload, wire::Outcome>,
    remaining: &'payload [u8],
    dimensions: usize,
}

impl<'payload> OutcomesView<'payload> {
    /// Checks a payload. `count` is that of the frame's header, `dimensions` how many the directory has.
    ///
    /// # Errors
    ///
    /// A [`PayloadError`]: what became of the commands cannot be told from this answer.
    pub fn new(payload: &'payload [u8], count: u16, dimensions: usize) -> Result<Self, PayloadError> {
        let count = usize::from(count);
        let table = payload::table::<wire::Outcomes>("Outcomes", payload)?;
        let outcomes = table.outcomes();
        if outcomes.len() != count {
            return Err(PayloadError::Count {
                what: "outcomes",
                expected: count,
                found: outcomes.len(),
            });
        }
        let owners = outcomes.iter().filter(|outcome| outcome.has_remaining()).count();
        let remaining = table.remaining().map_or(&[][..], |remaining| remaining.bytes());
        let expected = owners * dimensions;
        let found = remaining.len() / size_of::<i64>();
        if found != expected {
            return Err(PayloadError::Values {
                what: "remaining units",
                expected,
                dimensions,
                owners,
                found,
            });
        }
        Ok(Self {
            outcomes,
            remaining,
            dimensions,
        })
    }

    /// How many outcomes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// The outcomes, in the order of the commands.
    #[must_use]
    pub fn iter(&self) -> OutcomesIter<'payload> {
        OutcomesIter {
            outcomes: self.outcomes.iter(),
            index: 0,
            remaining: self.remaining,
            remaining_size: self.dimensions * size_of::<i64>(),
        }
    }
}

impl<'payload> IntoIterator for &OutcomesView<'payload> {
    type Item = Outcome<'payload>;
    type IntoIter = OutcomesIter<'payload>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The outcomes of a frame, in the order of the commands.
#[derive(Clone, Debug)]
pub struct OutcomesIter<'payload> {
    outcomes: flatbuffers::VectorIter<'payload, wire::Outcome>,
    index: usize,
    /// What has not been given out.
    remaining: &'payload [u8],
    /// Size of one outcome's values in bytes.
    remaining_size: usize,
}

impl<'payload> Iterator for OutcomesIter<'payload> {
    type Item = Outcome<'payload>;

    fn next(&mut self) -> Option<Self::Item> {
        let outcome = self.outcomes.next()?;
        let index = self.index;
        self.index += 1;
        let mut remaining = Remaining(&[]);
        if outcome.has_remaining() {
            // The view holds values for each of them.
            let (own, rest) = self.remaining.split_at(self.remaining_size.min(self.remaining.len()));
            remaining = Remaining(own);
            self.remaining = rest;
        }
        Some(Outcome {
            index,
            outcome,
            remaining,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.outcomes.size_hint()
    }
}

impl ExactSizeIterator for OutcomesIter<'_> {}
