//! The tables of a reset.
//!
//! They are written with all fields, also those that are 0, so that a table's size follows from the texts, the
//! dimensions and whether there is a deadline: a group of them is measured before it is numbered.

use flatbuffers::{FlatBufferBuilder, Follow, Verifiable};
use plimsoll_domain::limits::{HOLD_SECONDS_MAX, REFERENCE_SIZE_MAX, RESERVATIONS_PER_PARTITION_MAX};
use plimsoll_domain::{Key, PoolId, PoolReset, ReservationState, Restored, Timestamp};

use crate::decode::{check_detail, check_partition, reservation, table_options, units_from_table, wide};
use crate::encode::assert_units;
use crate::generated::plimsoll::journal as format;
use crate::{DecodeError, Field, RecordTag};

fn builder() -> FlatBufferBuilder<'static> {
    let mut builder = FlatBufferBuilder::new();
    builder.force_defaults(true);
    builder
}

pub(crate) fn encode_pool_reset(event: &PoolReset, body: &mut Vec<u8>) {
    let mut builder = builder();
    let args = format::PoolResetArgs {
        sequence: event.sequence,
        pool: event.pool.0,
        to: event.to.0,
        change_count: event.change_count,
        released_count: event.released_count,
        restored_count: event.restored_count,
    };
    let root = format::PoolReset::create(&mut builder, &args);
    builder.finish(root, None);
    body.extend_from_slice(builder.finished_data());
}

pub(crate) fn encode_restored(event: &Restored, dimension_count: usize, body: &mut Vec<u8>) {
    assert!(
        event.hold_seconds <= HOLD_SECONDS_MAX,
        "a hold of {} s",
        event.hold_seconds
    );
    if let Some(reference) = &event.reference {
        let size = reference.len();
        assert!((1..=REFERENCE_SIZE_MAX).contains(&size), "a reference of {size} bytes");
    }
    let mut builder = builder();
    let [units, requested_units, previous_units] =
        [&event.units, &event.requested_units, &event.previous_units].map(|units| {
            assert_units(units, dimension_count);
            Some(builder.create_vector(&units.0[..dimension_count]))
        });
    let args = format::RestoredArgs {
        sequence: event.sequence,
        reservation_high: (event.reservation.0 >> 64) as u64,
        reservation_low: event.reservation.0 as u64,
        pool: event.pool.0,
        key_high: (event.key.0 >> 64) as u64,
        key_low: event.key.0 as u64,
        slot: event.slot,
        generation: event.generation,
        created_at: event.created_at.0,
        expires_at: event.expires_at.map(|time| time.0),
        hold_seconds: event.hold_seconds,
        version: event.version,
        would_refuse: event.would_refuse,
        has_key: event.has_key,
        previous_state: event.previous_state.map_or(0, |state| {
            assert!(!state.is_ended(), "what had ended has no state before");
            state as u8
        }),
        units,
        requested_units,
        previous_units,
        reference: event
            .reference
            .as_ref()
            .map(|reference| builder.create_string(reference)),
    };
    let root = format::Restored::create(&mut builder, &args);
    builder.finish(root, None);
    body.extend_from_slice(builder.finished_data());
}

fn table<'body, T: Follow<'body, Inner = T> + Verifiable + 'body>(
    kind: u16,
    body: &'body [u8],
) -> Result<T, DecodeError> {
    flatbuffers::root_with_opts::<T>(&table_options(body), body).map_err(|source| DecodeError::Table { kind, source })
}

pub(crate) fn pool_reset(tag: RecordTag, at: Timestamp, body: &[u8]) -> Result<PoolReset, DecodeError> {
    check_detail(tag, 0)?;
    let table = table::<format::PoolReset<'_>>(tag.kind, body)?;
    let pool = PoolId(table.pool());
    check_partition(tag, Field::Pool, pool.partition())?;
    Ok(PoolReset {
        sequence: table.sequence(),
        at,
        pool,
        to: Timestamp(table.to()),
        change_count: table.change_count(),
        released_count: table.released_count(),
        restored_count: table.restored_count(),
    })
}

pub(crate) fn restored(
    tag: RecordTag,
    at: Timestamp,
    body: &[u8],
    dimension_count: usize,
) -> Result<Restored, DecodeError> {
    check_detail(tag, 0)?;
    let table = table::<format::Restored<'_>>(tag.kind, body)?;
    let pool = PoolId(table.pool());
    check_partition(tag, Field::Pool, pool.partition())?;
    let reservation = reservation(tag, table.reservation_high(), table.reservation_low())?;
    let slot = table.slot();
    if slot as usize >= RESERVATIONS_PER_PARTITION_MAX {
        return Err(DecodeError::SlotOutOfRange { found: u64::from(slot) });
    }
    let hold_seconds = table.hold_seconds();
    if hold_seconds > HOLD_SECONDS_MAX {
        return Err(DecodeError::HoldOutOfRange { found: hold_seconds });
    }
    let reference = table.reference();
    if let Some(reference) = reference
        && !(1..=REFERENCE_SIZE_MAX).contains(&reference.len())
    {
        return Err(DecodeError::ReferenceSize { found: reference.len() });
    }
    let previous_state = match table.previous_state() {
        0 => None,
        1 => Some(ReservationState::Held),
        2 => Some(ReservationState::Confirmed),
        found => return Err(DecodeError::StateOutOfRange { found }),
    };
    let units = |values| units_from_table(Field::Units, values, dimension_count);
    Ok(Restored {
        sequence: table.sequence(),
        at,
        reservation,
        pool,
        key: Key(wide(table.key_high(), table.key_low())),
        slot,
        generation: table.generation(),
        created_at: Timestamp(table.created_at()),
        units: units(table.units())?,
        requested_units: units(table.requested_units())?,
        hold_seconds,
        expires_at: table.expires_at().map(Timestamp),
        version: table.version(),
        would_refuse: table.would_refuse(),
        has_key: table.has_key(),
        previous_state,
        previous_units: units(table.previous_units())?,
        reference: reference.map(Into::into),
    })
}
