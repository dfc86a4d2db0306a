//! The payload of operation 16, request: commands, read in place.

use crate::identifier::Halves;
use crate::limits::COMMAND_SIZE_BYTES;
use crate::payload::{self, PayloadError};
use crate::wire;
use crate::{Key, OCCURRED_AT_NONE, PoolId, ReservationId};

const _: () = assert!(size_of::<wire::Command>() == COMMAND_SIZE_BYTES);

/// What a reserve asks for, apart from its units and reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// From which pool.
    pub pool: PoolId,
    /// The caller's idempotency key.
    pub key: Key,
    /// Seconds until the hold expires, 1 to 86,400; 0 confirms at once.
    pub hold_seconds: u32,
    /// The caller's business time, microseconds since 1970.
    pub occurred_at: Option<i64>,
}

/// A resize: only if the reservation has the given version.
const FLAG_IF_VERSION: u8 = 1;

/// As a value among the units of a resize: the dimension stays as it is.
pub const UNITS_UNCHANGED: u32 = u32::MAX;

/// What a resize asks for, apart from its units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    /// Which reservation.
    pub reservation: ReservationId,
    /// The version that the change was made from; `None`: any.
    pub version: Option<u16>,
    /// Seconds from now until the hold expires, 1 to 86,400; 0 leaves the deadline as it is.
    pub hold_seconds: u32,
    /// The caller's business time, microseconds since 1970.
    pub occurred_at: Option<i64>,
}

impl wire::Command {
    /// A reserve. Its units stand beside it.
    #[must_use]
    pub fn reserve(reserve: Reserve) -> Self {
        let Halves { high, low } = reserve.key.halves();
        Self::new(
            wire::Action::reserve,
            0,
            0,
            reserve.hold_seconds,
            reserve.pool.0,
            high,
            low,
            reserve.occurred_at.unwrap_or(OCCURRED_AT_NONE),
        )
    }

    /// A release. `occurred_at` is the caller's business time, microseconds since 1970.
    #[must_use]
    pub fn release(reservation: ReservationId, occurred_at: Option<i64>) -> Self {
        Self::of_reservation(wire::Action::release, reservation, occurred_at)
    }

    /// A confirmation. `occurred_at` is the caller's business time, microseconds since 1970.
    #[must_use]
    pub fn confirm(reservation: ReservationId, occurred_at: Option<i64>) -> Self {
        Self::of_reservation(wire::Action::confirm, reservation, occurred_at)
    }

    /// A change of a reservation's units or deadline. The units, of which [`UNITS_UNCHANGED`] leaves a dimension as it is, stand
    /// beside it.
    #[must_use]
    pub fn resize(resize: Resize) -> Self {
        let Halves { high, low } = resize.reservation.halves();
        Self::new(
            wire::Action::resize,
            if resize.version.is_some() { FLAG_IF_VERSION } else { 0 },
            resize.version.unwrap_or_default(),
            resize.hold_seconds,
            0,
            high,
            low,
            resize.occurred_at.unwrap_or(OCCURRED_AT_NONE),
        )
    }

    /// The version that a resize was made from; `None`: any.
    #[must_use]
    pub fn expected_version(&self) -> Option<u16> {
        (self.flags() & FLAG_IF_VERSION != 0).then(|| self.version())
    }

    /// Whether bits are set that have no meaning for the action.
    #[must_use]
    pub fn has_unknown_bits(&self) -> bool {
        let known = if self.action() == wire::Action::resize {
            FLAG_IF_VERSION
        } else {
            0
        };
        self.flags() & !known != 0 || (self.version() != 0 && self.expected_version().is_none())
    }

    fn of_reservation(action: wire::Action, reservation: ReservationId, occurred_at: Option<i64>) -> Self {
        let Halves { high, low } = reservation.halves();
        Self::new(action, 0, 0, 0, 0, high, low, occurred_at.unwrap_or(OCCURRED_AT_NONE))
    }

    /// Whether units for each dimension belong to the command.
    #[must_use]
    pub fn takes_units(&self) -> bool {
        matches!(self.action(), wire::Action::reserve | wire::Action::resize)
    }

    /// The pool of a reserve.
    #[must_use]
    pub fn pool_id(&self) -> PoolId {
        PoolId(self.pool())
    }

    /// The key of a reserve.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::from_halves(Halves {
            high: self.target_high(),
            low: self.target_low(),
        })
    }

    /// The reservation that any other command is about.
    #[must_use]
    pub fn reservation_id(&self) -> ReservationId {
        ReservationId::from_halves(Halves {
            high: self.target_high(),
            low: self.target_low(),
        })
    }

    /// The caller's business time, microseconds since 1970, when there is one.
    #[must_use]
    pub fn business_time(&self) -> Option<i64> {
        Some(self.occurred_at()).filter(|&time| time != OCCURRED_AT_NONE)
    }
}

impl From<&wire::ReservationId> for ReservationId {
    fn from(id: &wire::ReservationId) -> Self {
        Self::from_halves(Halves {
            high: id.high(),
            low: id.low(),
        })
    }
}

impl From<wire::ReservationId> for ReservationId {
    fn from(id: wire::ReservationId) -> Self {
        Self::from(&id)
    }
}

impl From<ReservationId> for wire::ReservationId {
    fn from(id: ReservationId) -> Self {
        let Halves { high, low } = id.halves();
        Self::new(high, low)
    }
}

/// The units of one command, a value for each dimension; empty for commands that take none. Read in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Units<'payload>(&'payload [u8]);

impl<'payload> Units<'payload> {
    /// How many values there are: the number of dimensions, or 0.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len() / size_of::<u32>()
    }

    /// Whether the command takes no units.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values, in the order of the dimensions.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> + use<'payload> {
        self.0.as_chunks().0.iter().map(|value| u32::from_le_bytes(*value))
    }

    /// Copies the values into the first places of `target` and returns that part of it. Values for which there is no
    /// place are left out.
    pub fn copy_to<'target>(&self, target: &'target mut [u32]) -> &'target mut [u32] {
        let count = self.len().min(target.len());
        for (place, value) in target.iter_mut().zip(self.iter()) {
            *place = value;
        }
        &mut target[..count]
    }
}

/// One command with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Command<'payload> {
    /// Its place in the frame.
    pub index: usize,
    /// The command. Its fields have not been checked: action, flags and hold may have any value.
    pub command: &'payload wire::Command,
    /// A value for each dimension when the command takes units. May be above [`UNITS_MAX`](crate::limits::UNITS_MAX).
    pub units: Units<'payload>,
    /// The caller's own name for what is reserved. May be longer than
    /// [`REFERENCE_SIZE_BYTES_MAX`](crate::limits::REFERENCE_SIZE_BYTES_MAX).
    pub reference: Option<&'payload str>,
}

/// A vector of references, as the generated code gives it.
type References<'payload> = flatbuffers::Vector<'payload, flatbuffers::ForwardsUOffset<wire::Reference<'payload>>>;

/// A payload `Commands` whose shape has been checked: as many commands as the header says, at least one, units for each
/// command that takes them, and references that name reserves in ascending order.
#[derive(Clone, Copy, Debug)]
pub struct CommandsView<'payload> {
    commands: flatbuffers::Vector<'payload, wire::Command>,
    units: &'payload [u8],
    references: Option<References<'payload>>,
    traceparent: Option<&'payload str>,
    dimensions: usize,
    reserves: usize,
}

impl<'payload> CommandsView<'payload> {
    /// Checks a payload. `count` is that of the frame's header, `dimensions` how many the directory has.
    ///
    /// # Errors
    ///
    /// A [`PayloadError`]: the frame is answered with [`Status::Malformed`](crate::Status::Malformed), and none of its
    /// commands has an effect.
    pub fn new(payload: &'payload [u8], count: u16, dimensions: usize) -> Result<Self, PayloadError> {
        let count = usize::from(count);
        if count == 0 {
            return Err(PayloadError::NoCommands);
        }
        let table = payload::table::<wire::Commands>("Commands", payload)?;
        let commands = table.commands();
        if commands.len() != count {
            return Err(PayloadError::Count {
                what: "commands",
                expected: count,
                found: commands.len(),
            });
        }
        let reserves = commands.iter().filter(|command| command.takes_units()).count();
        let units = table.units().map_or(&[][..], |units| units.bytes());
        let expected = reserves * dimensions;
        let found = units.len() / size_of::<u32>();
        if found != expected {
            return Err(PayloadError::Values {
                what: "units",
                expected,
                dimensions,
                owners: reserves,
                found,
            });
        }
        let references = table.references();
        if let Some(references) = references {
            check_references(commands, references)?;
        }
        Ok(Self {
            commands,
            units,
            references,
            traceparent: table.traceparent(),
            dimensions,
            reserves,
        })
    }

    /// How many commands there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Always false: a frame without commands is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// How many of the commands take units.
    #[must_use]
    pub fn reserve_count(&self) -> usize {
        self.reserves
    }

    /// The caller's trace context.
    #[must_use]
    pub fn traceparent(&self) -> Option<&'payload str> {
        self.traceparent
    }

    /// The commands, in their order.
    #[must_use]
    pub fn iter(&self) -> CommandsIter<'payload> {
        CommandsIter {
            commands: self.commands.iter(),
            index: 0,
            units: self.units,
            units_size: self.dimensions * size_of::<u32>(),
            references: self.references,
            reference_index: 0,
            reference_command: self.references.and_then(|all| command_of(all, 0)),
        }
    }
}

impl<'payload> IntoIterator for &CommandsView<'payload> {
    type Item = Command<'payload>;
    type IntoIter = CommandsIter<'payload>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The command that a reference belongs to; `None` behind the last reference.
fn command_of(references: References<'_>, index: usize) -> Option<u32> {
    (index < references.len()).then(|| references.get(index).command())
}

fn check_references(
    commands: flatbuffers::Vector<'_, wire::Command>,
    references: References<'_>,
) -> Result<(), PayloadError> {
    let mut previous: Option<u32> = None;
    for (index, reference) in references.iter().enumerate() {
        let found = reference.command();
        if found as usize >= commands.len() {
            return Err(PayloadError::ReferenceRange {
                index,
                commands: commands.len(),
                found,
            });
        }
        if let Some(previous) = previous.filter(|&previous| previous >= found) {
            return Err(PayloadError::ReferenceOrder { index, previous, found });
        }
        if !commands.get(found as usize).takes_units() {
            return Err(PayloadError::ReferenceAction { index, found });
        }
        previous = Some(found);
    }
    Ok(())
}

/// The commands of a frame, in their order.
#[derive(Clone, Debug)]
pub struct CommandsIter<'payload> {
    commands: flatbuffers::VectorIter<'payload, wire::Command>,
    index: usize,
    /// What has not been given out.
    units: &'payload [u8],
    /// Size of one command's units in bytes.
    units_size: usize,
    references: Option<References<'payload>>,
    /// The next reference, and the command that it belongs to.
    reference_index: usize,
    reference_command: Option<u32>,
}

impl<'payload> Iterator for CommandsIter<'payload> {
    type Item = Command<'payload>;

    fn next(&mut self) -> Option<Self::Item> {
        let command = self.commands.next()?;
        let index = self.index;
        self.index += 1;
        let mut units = Units(&[]);
        if command.takes_units() {
            // The view holds units for each of them.
            let (own, rest) = self.units.split_at(self.units_size.min(self.units.len()));
            units = Units(own);
            self.units = rest;
        }
        let mut reference = None;
        if let (Some(all), Some(at)) = (self.references, self.reference_command)
            && at as usize == index
        {
            reference = Some(all.get(self.reference_index).text());
            self.reference_index += 1;
            self.reference_command = command_of(all, self.reference_index);
        }
        Some(Command {
            index,
            command,
            units,
            reference,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.commands.size_hint()
    }
}

impl ExactSizeIterator for CommandsIter<'_> {}
