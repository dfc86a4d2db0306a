//! From the body of a record to its event.

use std::fmt;
use std::sync::Arc;

use flatbuffers::{InvalidFlatbuffer, Vector, VerifierOptions};
use plimsoll_domain::limits::{
    DIMENSION_COUNT_MAX, HOLD_SECONDS_MAX, PARTITION_COUNT, REFERENCE_SIZE_MAX, RESERVATIONS_PER_PARTITION_MAX,
    UNITS_MAX,
};
use plimsoll_domain::{
    Event, Key, Moved, PartitionId, PoolDefined, PoolDefinition, PoolId, PoolRetired, ReleaseCause, Released,
    ReservationId, Reserved, ResizeCause, Resized, Swept, Timestamp, TurnedAway, Units, partition_of,
};

use crate::generated::plimsoll::journal as format;
use crate::{
    KIND_CONFIRMED, KIND_EXPIRED, KIND_POOL_CHANGED, KIND_POOL_CREATED, KIND_POOL_RESET, KIND_POOL_RETIRED,
    KIND_RELEASED, KIND_RESERVED, KIND_RESIZED, KIND_RESTORED, KIND_SWEPT, KIND_TURNED_AWAY, MOVED_SIZE,
    POOL_RETIRED_SIZE, RESERVED_SIZE, RESIZED_SIZE, RecordTag, SUM_SIZE, SWEPT_SIZE, TURNED_AWAY_SIZE, UNIT_SIZE,
    detail, reset,
};

/// A part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// The pool id.
    Pool,
    /// The pool's name, whose hash is its partition.
    Name,
    /// The reservation id.
    Reservation,
    /// The units of a reservation.
    Units,
    /// A pool's limits.
    Limits,
    /// A pool's overbooking allowances.
    Overbook,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Pool => "pool",
            Field::Name => "name",
            Field::Reservation => "reservation",
            Field::Units => "units",
            Field::Limits => "limits",
            Field::Overbook => "overbook",
        })
    }
}

/// Why a record is not an event. The bytes were written by another version or another program, or are damaged in spite of
/// their checksum: trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A kind that this version does not know; recovery stops rather than overlook an event.
    #[error("unknown kind {kind}")]
    UnknownKind {
        /// The record's kind.
        kind: u16,
    },
    /// Bits of the detail that this version does not know.
    #[error("unknown bits {bits:#010x} in the detail of kind {kind}")]
    UnknownDetail {
        /// The record's kind.
        kind: u16,
        /// The unknown bits.
        bits: u32,
    },
    /// The body's size is not the one that kind, dimensions and detail give.
    #[error("the body of kind {kind} has {found} bytes, expected {expected}")]
    BodySize {
        /// The record's kind.
        kind: u16,
        /// Bytes that the body should have.
        expected: usize,
        /// Bytes that it has.
        found: usize,
    },
    /// The FlatBuffers verifier rejects the table.
    #[error("the table of kind {kind} is not valid")]
    Table {
        /// The record's kind.
        kind: u16,
        /// What the verifier found.
        #[source]
        source: InvalidFlatbuffer,
    },
    /// A list by dimension has another length than the directory has dimensions.
    #[error("{field} has values for {found} dimensions, expected {expected}")]
    DimensionCount {
        /// Which list.
        field: Field,
        /// Dimensions of the directory.
        expected: usize,
        /// Values in the list.
        found: usize,
    },
    /// An amount above the greatest one.
    #[error("{field} of dimension {dimension} is {found}, at most {UNITS_MAX} expected")]
    UnitsOutOfRange {
        /// Which list.
        field: Field,
        /// Index of the dimension.
        dimension: usize,
        /// The amount.
        found: u32,
    },
    /// A hold longer than a day.
    #[error("a hold of {found} s, at most {HOLD_SECONDS_MAX} s expected")]
    HoldOutOfRange {
        /// Seconds.
        found: u32,
    },
    /// The detail names a size of the reference that no reference has.
    #[error("a reference of {found} bytes, at most {REFERENCE_SIZE_MAX} expected")]
    ReferenceSize {
        /// Bytes.
        found: usize,
    },
    /// The reference is not UTF-8.
    #[error("the reference is not UTF-8")]
    ReferenceNotUtf8 {
        /// Where it stops being UTF-8.
        #[source]
        source: std::str::Utf8Error,
    },
    /// A partition that does not exist.
    #[error("partition {found}, below {PARTITION_COUNT} expected")]
    PartitionOutOfRange {
        /// The partition in the record's header.
        found: u16,
    },
    /// The body belongs to another partition than the record's header says.
    #[error("{field} belongs to partition {found}, the record to {expected}")]
    PartitionMismatch {
        /// What tells the partition.
        field: Field,
        /// The partition in the record's header.
        expected: u16,
        /// The partition that the body tells.
        found: u16,
    },
    /// A state that no reservation had that is restored.
    #[error("state {found} before a reservation is restored, 0 to 2 expected")]
    StateOutOfRange {
        /// Its number.
        found: u8,
    },
    /// A reservation's slot that no table has.
    #[error("slot {found} of a reservation, below {RESERVATIONS_PER_PARTITION_MAX} expected")]
    SlotOutOfRange {
        /// The slot.
        found: u64,
    },
}

/// The event of a record: `tag` and `at` come from its header, `body` is without padding and may lie at any address.
///
/// Whether the event fits the state is not checked here: ids may name what does not exist, numbers may leave gaps.
///
/// # Errors
/// [`DecodeError`]; trying again does not help.
///
/// # Panics
/// When `dimension_count`, which is the directory's and not the record's, is not 1 to 8.
#[inline]
pub fn decode(tag: RecordTag, at: Timestamp, body: &[u8], dimension_count: usize) -> Result<Event, DecodeError> {
    assert!(
        (1..=DIMENSION_COUNT_MAX).contains(&dimension_count),
        "{dimension_count} dimensions"
    );
    if usize::from(tag.partition) >= PARTITION_COUNT {
        return Err(DecodeError::PartitionOutOfRange { found: tag.partition });
    }
    match tag.kind {
        KIND_RESERVED => reserved(tag, at, body, dimension_count).map(Event::Reserved),
        KIND_RELEASED => released(tag, at, body, dimension_count).map(Event::Released),
        KIND_CONFIRMED => moved(tag, at, body, dimension_count).map(Event::Confirmed),
        KIND_EXPIRED => moved(tag, at, body, dimension_count).map(Event::Expired),
        KIND_RESIZED => resized(tag, at, body, dimension_count).map(Event::Resized),
        KIND_POOL_RETIRED => pool_retired(tag, body).map(Event::PoolRetired),
        KIND_SWEPT => swept(tag, body).map(Event::Swept),
        KIND_TURNED_AWAY => turned_away(tag, at, body, dimension_count).map(Event::TurnedAway),
        KIND_POOL_CREATED => pool_defined(tag, at, body, dimension_count).map(Event::PoolCreated),
        KIND_POOL_CHANGED => pool_defined(tag, at, body, dimension_count).map(Event::PoolChanged),
        KIND_POOL_RESET => reset::pool_reset(tag, at, body).map(Event::PoolReset),
        KIND_RESTORED => reset::restored(tag, at, body, dimension_count).map(|event| Event::Restored(Box::new(event))),
        kind => Err(DecodeError::UnknownKind { kind }),
    }
}

#[inline]
fn reserved(tag: RecordTag, at: Timestamp, body: &[u8], dimension_count: usize) -> Result<Reserved, DecodeError> {
    check_detail(tag, detail::RESERVED_BITS)?;
    let hold_seconds = tag.detail & detail::HOLD_SECONDS_MASK;
    if hold_seconds > HOLD_SECONDS_MAX {
        return Err(DecodeError::HoldOutOfRange { found: hold_seconds });
    }
    let size = tag.detail >> detail::REFERENCE_SIZE_SHIFT & detail::REFERENCE_SIZE_MASK;
    let reference_size = size as usize;
    if reference_size > REFERENCE_SIZE_MAX {
        return Err(DecodeError::ReferenceSize { found: reference_size });
    }
    let parts = split::<RESERVED_SIZE>(tag.kind, body, dimension_count * UNIT_SIZE, reference_size)?;
    let fixed = format::Reserved(*parts.fixed);
    let pool = PoolId(fixed.pool());
    check_partition(tag, Field::Pool, pool.partition())?;
    let reservation = reservation(tag, fixed.reservation_high(), fixed.reservation_low())?;
    let reference = if parts.rest.is_empty() {
        None
    } else {
        let text = std::str::from_utf8(parts.rest).map_err(|source| DecodeError::ReferenceNotUtf8 { source })?;
        Some(text.into())
    };
    Ok(Reserved {
        sequence: fixed.sequence(),
        at,
        key: Key(wide(fixed.key_high(), fixed.key_low())),
        reservation,
        pool,
        units: units_from_bytes(parts.units)?,
        hold_seconds,
        occurred_at: Timestamp(fixed.occurred_at()),
        would_refuse: tag.detail & detail::WOULD_REFUSE != 0,
        reference,
    })
}

#[inline]
fn released(tag: RecordTag, at: Timestamp, body: &[u8], dimension_count: usize) -> Result<Released, DecodeError> {
    check_detail(tag, detail::RELEASED_BITS)?;
    let parts = split::<MOVED_SIZE>(tag.kind, body, dimension_count * UNIT_SIZE, 0)?;
    let fixed = format::Moved(*parts.fixed);
    let pool = PoolId(fixed.pool());
    check_partition(tag, Field::Pool, pool.partition())?;
    Ok(Released {
        sequence: fixed.sequence(),
        at,
        reservation: reservation(tag, fixed.reservation_high(), fixed.reservation_low())?,
        pool,
        units: units_from_bytes(parts.units)?,
        was_confirmed: tag.detail & detail::WAS_CONFIRMED != 0,
        cause: match tag.detail & detail::RELEASE_CAUSE_MASK {
            detail::RELEASE_ASKED => ReleaseCause::Asked,
            _ => ReleaseCause::Reset,
        },
        occurred_at: Timestamp(fixed.occurred_at()),
    })
}

#[inline]
fn moved(tag: RecordTag, at: Timestamp, body: &[u8], dimension_count: usize) -> Result<Moved, DecodeError> {
    check_detail(tag, 0)?;
    let parts = split::<MOVED_SIZE>(tag.kind, body, dimension_count * UNIT_SIZE, 0)?;
    let fixed = format::Moved(*parts.fixed);
    let pool = PoolId(fixed.pool());
    check_partition(tag, Field::Pool, pool.partition())?;
    Ok(Moved {
        sequence: fixed.sequence(),
        at,
        reservation: reservation(tag, fixed.reservation_high(), fixed.reservation_low())?,
        pool,
        units: units_from_bytes(parts.units)?,
        occurred_at: Timestamp(fixed.occurred_at()),
    })
}

fn resized(tag: RecordTag, at: Timestamp, body: &[u8], dimension_count: usize) -> Result<Resized, DecodeError> {
    check_detail(tag, detail::RESIZED_BITS)?;
    let cause = match tag.detail & detail::CAUSE_MASK {
        detail::CAUSE_ASKED => ResizeCause::Asked,
        detail::CAUSE_DOWNTIME => ResizeCause::Downtime,
        bits => return Err(DecodeError::UnknownDetail { kind: tag.kind, bits }),
    };
    let units_size = dimension_count * UNIT_SIZE;
    let parts = split::<RESIZED_SIZE>(tag.kind, body, units_size, units_size)?;
    let fixed = format::Resized(*parts.fixed);
    let pool = PoolId(fixed.pool());
    check_partition(tag, Field::Pool, pool.partition())?;
    Ok(Resized {
        sequence: fixed.sequence(),
        at,
        reservation: reservation(tag, fixed.reservation_high(), fixed.reservation_low())?,
        pool,
        units: units_from_bytes(parts.units)?,
        previous_units: units_from_bytes(parts.rest)?,
        expires_at: Some(fixed.expires_at()).filter(|time| *time != 0).map(Timestamp),
        version: (tag.detail >> detail::VERSION_SHIFT & detail::VERSION_MASK) as u16,
        cause,
        would_refuse: tag.detail & detail::WOULD_REFUSE != 0,
        occurred_at: Timestamp(fixed.occurred_at()),
    })
}

fn pool_retired(tag: RecordTag, body: &[u8]) -> Result<PoolRetired, DecodeError> {
    check_detail(tag, 0)?;
    let parts = split::<POOL_RETIRED_SIZE>(tag.kind, body, 0, 0)?;
    let fixed = format::PoolRetired(*parts.fixed);
    let pool = PoolId(fixed.pool());
    check_partition(tag, Field::Pool, pool.partition())?;
    Ok(PoolRetired {
        sequence: fixed.sequence(),
        pool,
    })
}

fn swept(tag: RecordTag, body: &[u8]) -> Result<Swept, DecodeError> {
    check_detail(tag, 0)?;
    let parts = split::<SWEPT_SIZE>(tag.kind, body, 0, 0)?;
    let fixed = format::Swept(*parts.fixed);
    Ok(Swept {
        partition: PartitionId(tag.partition),
        sequence: fixed.sequence(),
        ended_before: Timestamp(fixed.ended_before()),
        from: fixed.from(),
        count: fixed.count(),
    })
}

fn turned_away(tag: RecordTag, at: Timestamp, body: &[u8], dimension_count: usize) -> Result<TurnedAway, DecodeError> {
    check_detail(tag, 0)?;
    let parts = split::<TURNED_AWAY_SIZE>(tag.kind, body, dimension_count * SUM_SIZE, 0)?;
    let fixed = format::TurnedAway(*parts.fixed);
    let pool = PoolId(fixed.pool());
    check_partition(tag, Field::Pool, pool.partition())?;
    let mut units = [0; DIMENSION_COUNT_MAX];
    let (values, _) = parts.units.as_chunks::<SUM_SIZE>();
    for (unit, value) in units.iter_mut().zip(values) {
        *unit = u64::from_le_bytes(*value);
    }
    Ok(TurnedAway {
        sequence: fixed.sequence(),
        pool,
        since: Timestamp(fixed.since()),
        at,
        refusals: fixed.refusals(),
        units,
    })
}

/// How a table in this body is verified.
pub(crate) fn table_options(body: &[u8]) -> VerifierOptions {
    // The verifier counts what it visits, a few bytes twice. The bound keeps a list of many offsets that all lead to one long
    // text from being unfolded into far more memory than the body has.
    VerifierOptions {
        max_apparent_size: 2 * body.len() + 64,
        ..VerifierOptions::default()
    }
}

/// Verifies a table `PoolDefined`.
pub(crate) fn pool_table(kind: u16, body: &[u8]) -> Result<format::PoolDefined<'_>, DecodeError> {
    let options = table_options(body);
    format::root_as_pool_defined_with_opts(&options, body).map_err(|source| DecodeError::Table { kind, source })
}

fn pool_defined(
    tag: RecordTag,
    at: Timestamp,
    body: &[u8],
    dimension_count: usize,
) -> Result<PoolDefined, DecodeError> {
    check_detail(tag, 0)?;
    let table = pool_table(tag.kind, body)?;
    let pool = PoolId(table.pool());
    check_partition(tag, Field::Pool, pool.partition())?;
    check_partition(tag, Field::Name, partition_of(table.name()))?;
    Ok(PoolDefined {
        sequence: table.sequence(),
        at,
        pool,
        version: table.version(),
        definition: Arc::new(definition(&table, dimension_count)?),
    })
}

/// The definition in a table `PoolDefined`.
pub(crate) fn definition(
    table: &format::PoolDefined<'_>,
    dimension_count: usize,
) -> Result<PoolDefinition, DecodeError> {
    Ok(PoolDefinition {
        name: table.name().into(),
        zone: table.zone().into(),
        kind: table.kind().into(),
        starts_at: Timestamp(table.starts_at()),
        ends_at: Timestamp(table.ends_at()),
        opens_at: Timestamp(table.opens_at()),
        closes_at: Timestamp(table.closes_at()),
        coverage: table.coverage().iter().map(Into::into).collect(),
        closed: table.closed(),
        shadow: table.shadow(),
        limits: units_from_table(Field::Limits, table.limits(), dimension_count)?,
        overbook: units_from_table(Field::Overbook, table.overbook(), dimension_count)?,
    })
}

#[inline]
pub(crate) fn check_detail(tag: RecordTag, known: u32) -> Result<(), DecodeError> {
    let bits = tag.detail & !known;
    if bits == 0 {
        return Ok(());
    }
    Err(DecodeError::UnknownDetail { kind: tag.kind, bits })
}

#[inline]
pub(crate) fn check_partition(tag: RecordTag, field: Field, found: PartitionId) -> Result<(), DecodeError> {
    if found.0 == tag.partition {
        return Ok(());
    }
    Err(DecodeError::PartitionMismatch {
        field,
        expected: tag.partition,
        found: found.0,
    })
}

#[inline]
pub(crate) fn reservation(tag: RecordTag, high: u64, low: u64) -> Result<ReservationId, DecodeError> {
    let id = ReservationId(wide(high, low));
    let parts = id.parts();
    check_partition(tag, Field::Reservation, parts.partition)?;
    if parts.slot >= RESERVATIONS_PER_PARTITION_MAX as u64 {
        return Err(DecodeError::SlotOutOfRange { found: parts.slot });
    }
    Ok(id)
}

/// A body that begins with a struct.
struct Parts<'a, const SIZE: usize> {
    fixed: &'a [u8; SIZE],
    units: &'a [u8],
    rest: &'a [u8],
}

/// Takes a body apart that is exactly as long as its parts.
#[inline]
fn split<const SIZE: usize>(
    kind: u16,
    body: &[u8],
    units_size: usize,
    rest_size: usize,
) -> Result<Parts<'_, SIZE>, DecodeError> {
    let expected = SIZE + units_size + rest_size;
    match body.split_first_chunk::<SIZE>() {
        Some((fixed, rest)) if body.len() == expected => {
            let (units, rest) = rest.split_at(units_size);
            Ok(Parts { fixed, units, rest })
        }
        _ => Err(DecodeError::BodySize {
            kind,
            expected,
            found: body.len(),
        }),
    }
}

#[inline]
pub(crate) fn units_from_bytes(bytes: &[u8]) -> Result<Units, DecodeError> {
    let (values, _) = bytes.as_chunks::<UNIT_SIZE>();
    // One dimension or two are made in registers. Values that are stored one by one and then read as a block make the processor wait until all stores
    // before them have reached the cache.
    let units = match *values {
        [first] => Units([u32::from_le_bytes(first), 0, 0, 0, 0, 0, 0, 0]),
        [first, second] => {
            let (first, second) = (u32::from_le_bytes(first), u32::from_le_bytes(second));
            Units([first, second, 0, 0, 0, 0, 0, 0])
        }
        _ => {
            let mut units = Units::default();
            for (unit, value) in units.0.iter_mut().zip(values) {
                *unit = u32::from_le_bytes(*value);
            }
            units
        }
    };
    for (dimension, unit) in units.0.iter().enumerate() {
        checked(Field::Units, dimension, *unit)?;
    }
    Ok(units)
}

pub(crate) fn units_from_table(
    field: Field,
    values: Vector<'_, u32>,
    dimension_count: usize,
) -> Result<Units, DecodeError> {
    if values.len() != dimension_count {
        return Err(DecodeError::DimensionCount {
            field,
            expected: dimension_count,
            found: values.len(),
        });
    }
    let mut units = Units::default();
    for (dimension, (unit, value)) in units.0.iter_mut().zip(values).enumerate() {
        *unit = checked(field, dimension, value)?;
    }
    Ok(units)
}

#[inline]
fn checked(field: Field, dimension: usize, found: u32) -> Result<u32, DecodeError> {
    if found <= UNITS_MAX {
        return Ok(found);
    }
    Err(DecodeError::UnitsOutOfRange {
        field,
        dimension,
        found,
    })
}

#[inline]
pub(crate) fn wide(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}
