//! From a command on the wire to the domain's command and its owner, or to the outcome that it gets at once.

use plimsoll_domain::limits::{
    DIMENSION_COUNT_MAX, HOLD_SECONDS_MAX, PARTITION_COUNT, REFERENCE_SIZE_MAX, TIME_MAX, UNITS_MAX,
};
use plimsoll_domain::{
    Command, Confirm, Key, PartitionId, PoolId, Release, ReservationId, Reserve, Resize, Timestamp, Units,
};
use plimsoll_protocol::{OCCURRED_AT_NONE, Status, wire};

/// A command whose values are in their ranges, and whose partition exists.
pub(crate) struct Dispatched {
    pub(crate) partition: PartitionId,
    pub(crate) command: Command,
}

/// Checks the command's values.
///
/// # Errors
/// The status of its outcome.
#[inline]
pub(crate) fn dispatch(command: &plimsoll_protocol::Command<'_>, random: u64) -> Result<Dispatched, Status> {
    let wire = command.command;
    if wire.has_unknown_bits() {
        return Err(Status::Unsupported);
    }
    let occurred_at = occurred_at(wire.occurred_at())?;
    match wire.action() {
        wire::Action::reserve => {
            let pool = PoolId(wire.pool_id().0);
            let partition = existing(pool.partition(), Status::PoolNotFound)?;
            let mut units = Units::default();
            command.units.copy_to(&mut units.0);
            if units.is_zero() || units.0.iter().any(|unit| *unit > UNITS_MAX) {
                return Err(Status::Invalid);
            }
            if wire.hold_seconds() > HOLD_SECONDS_MAX {
                return Err(Status::Invalid);
            }
            if command
                .reference
                .is_some_and(|reference| reference.len() > REFERENCE_SIZE_MAX)
            {
                return Err(Status::Invalid);
            }
            let command = Command::Reserve(Reserve {
                pool,
                key: Key(wire.key().0),
                units,
                hold_seconds: wire.hold_seconds(),
                occurred_at,
                random,
                reference: command
                    .reference
                    .filter(|reference| !reference.is_empty())
                    .map(Box::from),
            });
            Ok(Dispatched { partition, command })
        }
        wire::Action::release => {
            let (reservation, partition) = named(wire)?;
            let command = Command::Release(Release {
                reservation,
                occurred_at,
            });
            Ok(Dispatched { partition, command })
        }
        wire::Action::confirm => {
            let (reservation, partition) = named(wire)?;
            let command = Command::Confirm(Confirm {
                reservation,
                occurred_at,
            });
            Ok(Dispatched { partition, command })
        }
        wire::Action::resize => {
            let (reservation, partition) = named(wire)?;
            let mut units = Units([Resize::UNCHANGED; DIMENSION_COUNT_MAX]);
            command.units.copy_to(&mut units.0);
            let is_in_range = |unit: &u32| *unit <= UNITS_MAX || *unit == Resize::UNCHANGED;
            if !units.0.iter().all(is_in_range) || wire.hold_seconds() > HOLD_SECONDS_MAX {
                return Err(Status::Invalid);
            }
            let command = Command::Resize(Resize {
                reservation,
                expected_version: wire.expected_version(),
                units,
                hold_seconds: wire.hold_seconds(),
                occurred_at,
            });
            Ok(Dispatched { partition, command })
        }
        _ => Err(Status::Unsupported),
    }
}

/// The reservation that a command names, and its partition.
#[inline]
fn named(wire: &wire::Command) -> Result<(ReservationId, PartitionId), Status> {
    let reservation = ReservationId(wire.reservation_id().0);
    let partition = existing(reservation.parts().partition, Status::ReservationNotFound)?;
    Ok((reservation, partition))
}

#[inline]
fn occurred_at(micros: i64) -> Result<Timestamp, Status> {
    if micros == OCCURRED_AT_NONE || (0..=TIME_MAX).contains(&micros) {
        Ok(Timestamp(micros))
    } else {
        Err(Status::Invalid)
    }
}

/// Ids from outside may name partitions that there are not.
#[inline]
pub(crate) fn existing(partition: PartitionId, not_found: Status) -> Result<PartitionId, Status> {
    if partition.index() < PARTITION_COUNT {
        Ok(partition)
    } else {
        Err(not_found)
    }
}
