//! From an event to the body of its record.

use flatbuffers::FlatBufferBuilder;
use plimsoll_domain::limits::{DIMENSION_COUNT_MAX, HOLD_SECONDS_MAX, PARTITION_COUNT, REFERENCE_SIZE_MAX, UNITS_MAX};
use plimsoll_domain::{
    Event, Moved, PoolDefined, PoolDefinition, PoolId, ReleaseCause, Released, Reserved, ResizeCause, Resized, Units,
};

use crate::generated::plimsoll::journal as format;
use crate::{
    KIND_CONFIRMED, KIND_EXPIRED, KIND_POOL_CHANGED, KIND_POOL_CREATED, KIND_POOL_RESET, KIND_POOL_RETIRED,
    KIND_RELEASED, KIND_RESERVED, KIND_RESIZED, KIND_RESTORED, KIND_SWEPT, KIND_TURNED_AWAY, MOVED_SIZE, RESERVED_SIZE,
    RESIZED_SIZE, RecordTag, UNIT_SIZE, detail, reset,
};

/// Clears `body` and writes the event's body into it; says what belongs into the record's header. The event's time is not
/// part of the body: it is the record's.
///
/// Once `body` has room for 160 bytes, a reserved or released event allocates nothing.
///
/// # Panics
/// When the event breaks the bounds that commands are checked against, see [`plimsoll_domain::limits`]: a reference that is
/// empty or above 64 bytes, a hold above a day, units above their greatest value or in a dimension that the directory does
/// not have. So nothing is ever recorded that [`crate::decode`] would not take.
pub fn encode(event: &Event, dimension_count: usize, body: &mut Vec<u8>) -> RecordTag {
    assert!(
        (1..=DIMENSION_COUNT_MAX).contains(&dimension_count),
        "{dimension_count} dimensions"
    );
    body.clear();
    let partition = event.partition().0;
    assert!(usize::from(partition) < PARTITION_COUNT, "partition {partition}");
    let (kind, detail) = match event {
        Event::Reserved(event) => (KIND_RESERVED, reserved(event, dimension_count, body)),
        Event::Released(event) => (KIND_RELEASED, released(event, dimension_count, body)),
        Event::Confirmed(event) => (KIND_CONFIRMED, moved(event, dimension_count, body)),
        Event::Expired(event) => (KIND_EXPIRED, moved(event, dimension_count, body)),
        Event::Resized(event) => (KIND_RESIZED, resized(event, dimension_count, body)),
        Event::PoolRetired(event) => {
            let fixed = format::PoolRetired::new(event.sequence, event.pool.0);
            body.extend_from_slice(&fixed.0);
            (KIND_POOL_RETIRED, 0)
        }
        Event::Swept(event) => {
            let fixed = format::Swept::new(event.sequence, event.ended_before.0, event.from, event.count);
            body.extend_from_slice(&fixed.0);
            (KIND_SWEPT, 0)
        }
        Event::TurnedAway(event) => {
            let fixed = format::TurnedAway::new(event.sequence, event.pool.0, event.since.0, event.refusals);
            body.extend_from_slice(&fixed.0);
            for sum in &event.units[..dimension_count] {
                body.extend_from_slice(&sum.to_le_bytes());
            }
            (KIND_TURNED_AWAY, 0)
        }
        Event::PoolCreated(event) => {
            pool_defined(event, dimension_count, body);
            (KIND_POOL_CREATED, 0)
        }
        Event::PoolChanged(event) => {
            pool_defined(event, dimension_count, body);
            (KIND_POOL_CHANGED, 0)
        }
        Event::PoolReset(event) => {
            reset::encode_pool_reset(event, body);
            (KIND_POOL_RESET, 0)
        }
        Event::Restored(event) => {
            reset::encode_restored(event, dimension_count, body);
            (KIND_RESTORED, 0)
        }
    };
    RecordTag {
        kind,
        partition,
        detail,
    }
}

#[inline]
fn reserved(event: &Reserved, dimension_count: usize, body: &mut Vec<u8>) -> u32 {
    assert!(
        event.hold_seconds <= HOLD_SECONDS_MAX,
        "a hold of {} s",
        event.hold_seconds
    );
    let fixed = format::Reserved::new(
        event.sequence,
        (event.key.0 >> 64) as u64,
        event.key.0 as u64,
        (event.reservation.0 >> 64) as u64,
        event.reservation.0 as u64,
        event.pool.0,
        event.occurred_at.0,
    );
    fixed_part::<RESERVED_SIZE>(&fixed.0, &event.units, dimension_count, body);
    let mut detail = event.hold_seconds;
    if let Some(reference) = &event.reference {
        let size = reference.len();
        assert!((1..=REFERENCE_SIZE_MAX).contains(&size), "a reference of {size} bytes");
        body.extend_from_slice(reference.as_bytes());
        detail |= (size as u32) << detail::REFERENCE_SIZE_SHIFT;
    }
    if event.would_refuse {
        detail |= detail::WOULD_REFUSE;
    }
    detail
}

#[inline]
fn released(event: &Released, dimension_count: usize, body: &mut Vec<u8>) -> u32 {
    let fixed = format::Moved::new(
        event.sequence,
        (event.reservation.0 >> 64) as u64,
        event.reservation.0 as u64,
        event.pool.0,
        event.occurred_at.0,
    );
    fixed_part::<MOVED_SIZE>(&fixed.0, &event.units, dimension_count, body);
    let cause = match event.cause {
        ReleaseCause::Asked => detail::RELEASE_ASKED,
        ReleaseCause::Reset => detail::RELEASE_RESET,
    };
    if event.was_confirmed {
        cause | detail::WAS_CONFIRMED
    } else {
        cause
    }
}

#[inline]
fn moved(event: &Moved, dimension_count: usize, body: &mut Vec<u8>) -> u32 {
    let fixed = format::Moved::new(
        event.sequence,
        (event.reservation.0 >> 64) as u64,
        event.reservation.0 as u64,
        event.pool.0,
        event.occurred_at.0,
    );
    fixed_part::<MOVED_SIZE>(&fixed.0, &event.units, dimension_count, body);
    0
}

fn resized(event: &Resized, dimension_count: usize, body: &mut Vec<u8>) -> u32 {
    let fixed = format::Resized::new(
        event.sequence,
        (event.reservation.0 >> 64) as u64,
        event.reservation.0 as u64,
        event.pool.0,
        event.occurred_at.0,
        event.expires_at.map_or(0, |time| time.0),
    );
    fixed_part::<RESIZED_SIZE>(&fixed.0, &event.units, dimension_count, body);
    fixed_part::<0>(&[], &event.previous_units, dimension_count, body);
    let cause = match event.cause {
        ResizeCause::Asked => detail::CAUSE_ASKED,
        ResizeCause::Downtime => detail::CAUSE_DOWNTIME,
    };
    let would_refuse = if event.would_refuse { detail::WOULD_REFUSE } else { 0 };
    cause | u32::from(event.version) << detail::VERSION_SHIFT | would_refuse
}

/// Appends a struct and the units.
#[inline]
fn fixed_part<const SIZE: usize>(fixed: &[u8; SIZE], units: &Units, dimension_count: usize, body: &mut Vec<u8>) {
    assert_units(units, dimension_count);
    body.extend_from_slice(fixed);
    // All eight are written at once, and the rest cut off: faster than a loop over the ones that count.
    let mut values = [0; DIMENSION_COUNT_MAX * UNIT_SIZE];
    for (place, unit) in values.chunks_exact_mut(UNIT_SIZE).zip(units.0) {
        place.copy_from_slice(&unit.to_le_bytes());
    }
    body.extend_from_slice(&values[..dimension_count * UNIT_SIZE]);
}

#[inline]
pub(crate) fn assert_units(units: &Units, dimension_count: usize) {
    for (dimension, unit) in units.0.iter().enumerate() {
        let most = if dimension < dimension_count { UNITS_MAX } else { 0 };
        assert!(*unit <= most, "{unit} units in dimension {dimension}");
    }
}

fn pool_defined(event: &PoolDefined, dimension_count: usize, body: &mut Vec<u8>) {
    definition(
        event.sequence,
        event.pool,
        event.version,
        &event.definition,
        dimension_count,
        body,
    );
}

/// Appends a table `PoolDefined`.
pub(crate) fn definition(
    sequence: u64,
    pool: PoolId,
    version: u64,
    definition: &PoolDefinition,
    dimension_count: usize,
    body: &mut Vec<u8>,
) {
    assert_units(&definition.limits, dimension_count);
    assert_units(&definition.overbook, dimension_count);
    let mut builder = FlatBufferBuilder::new();
    let coverage: Vec<_> = definition
        .coverage
        .iter()
        .map(|prefix| builder.create_string(prefix))
        .collect();
    let args = format::PoolDefinedArgs {
        sequence,
        pool: pool.0,
        version,
        name: Some(builder.create_string(&definition.name)),
        zone: Some(builder.create_string(&definition.zone)),
        kind: Some(builder.create_string(&definition.kind)),
        starts_at: definition.starts_at.0,
        ends_at: definition.ends_at.0,
        opens_at: definition.opens_at.0,
        closes_at: definition.closes_at.0,
        coverage: Some(builder.create_vector(&coverage)),
        closed: definition.closed,
        shadow: definition.shadow,
        limits: Some(builder.create_vector(&definition.limits.0[..dimension_count])),
        overbook: Some(builder.create_vector(&definition.overbook.0[..dimension_count])),
    };
    let root = format::PoolDefined::create(&mut builder, &args);
    format::finish_pool_defined_buffer(&mut builder, root);
    body.extend_from_slice(builder.finished_data());
}
