//! Events at random, within the bounds of the domain.

use std::sync::Arc;

use plimsoll_domain::limits::{HOLD_SECONDS_MAX, RESERVATIONS_PER_PARTITION_MAX, UNITS_MAX};
use plimsoll_domain::{
    Event, Key, Moved, PartitionId, PoolDefined, PoolDefinition, PoolId, PoolReset, PoolRetired, ReleaseCause,
    Released, ReservationId, ReservationParts, ReservationState, Reserved, ResizeCause, Resized, Restored, Swept,
    Timestamp, TurnedAway, Units, partition_of,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// The time of events that do not say one.
pub(crate) const AT: Timestamp = Timestamp(1_700_000_000_123_456);

pub(crate) fn units(dimension_count: usize) -> impl Strategy<Value = Units> {
    let unit = prop_oneof![0..100_u32, Just(UNITS_MAX), 0..=UNITS_MAX];
    vec(unit, dimension_count).prop_map(|values| Units::from_slice(&values))
}

/// A pool id and a reservation id of one partition.
pub(crate) fn ids(partition: PartitionId) -> impl Strategy<Value = (PoolId, ReservationId)> {
    let slots = 0..RESERVATIONS_PER_PARTITION_MAX as u64;
    (0..1_u64 << 48, slots, any::<u16>(), 0..1_u64 << 56).prop_map(move |(pool, slot, generation, random)| {
        let parts = ReservationParts {
            partition,
            slot,
            generation,
            random,
        };
        let pool = PoolId(u64::from(partition.0) << 48 | pool);
        (pool, ReservationId::new(parts))
    })
}

pub(crate) fn any_ids() -> impl Strategy<Value = (PoolId, ReservationId)> {
    (0..1024_u16).prop_flat_map(|partition| ids(PartitionId(partition)))
}

prop_compose! {
    pub(crate) fn reserved(dimension_count: usize)(
        sequence: u64,
        at: i64,
        key: u128,
        (pool, reservation) in any_ids(),
        units in units(dimension_count),
        hold_seconds in prop_oneof![Just(0), 0..=HOLD_SECONDS_MAX],
        occurred_at: i64,
        would_refuse: bool,
        // At most 16 characters of at most 4 bytes.
        reference in proptest::option::of("\\PC{1,16}"),
    ) -> Event {
        Event::Reserved(Reserved {
            sequence,
            at: Timestamp(at),
            key: Key(key),
            reservation,
            pool,
            units,
            hold_seconds,
            occurred_at: Timestamp(occurred_at),
            would_refuse,
            reference: reference.map(String::into_boxed_str),
        })
    }
}

prop_compose! {
    pub(crate) fn released(dimension_count: usize)(
        sequence: u64,
        at: i64,
        (pool, reservation) in any_ids(),
        units in units(dimension_count),
        was_confirmed: bool,
        by_reset: bool,
        occurred_at: i64,
    ) -> Event {
        Event::Released(Released {
            sequence,
            at: Timestamp(at),
            reservation,
            pool,
            units,
            was_confirmed,
            cause: if by_reset { ReleaseCause::Reset } else { ReleaseCause::Asked },
            occurred_at: Timestamp(occurred_at),
        })
    }
}

prop_compose! {
    pub(crate) fn definition(dimension_count: usize)(
        name in "[A-Za-z0-9][A-Za-z0-9._:-]{0,127}",
        zone in "\\PC{1,16}",
        kind in "\\PC{1,16}",
        times: [i64; 4],
        coverage in vec("[!-~]{1,32}", 0..40),
        closed: bool,
        shadow: bool,
        limits in units(dimension_count),
        overbook in units(dimension_count),
    ) -> PoolDefinition {
        PoolDefinition {
            name: name.into(),
            zone: zone.into(),
            kind: kind.into(),
            starts_at: Timestamp(times[0]),
            ends_at: Timestamp(times[1]),
            opens_at: Timestamp(times[2]),
            closes_at: Timestamp(times[3]),
            coverage: coverage.into_iter().map(String::into_boxed_str).collect(),
            closed,
            shadow,
            limits,
            overbook,
        }
    }
}

prop_compose! {
    pub(crate) fn pool_defined(dimension_count: usize)(
        definition in definition(dimension_count),
        sequence: u64,
        at: i64,
        version: u64,
        pool in 0..1_u64 << 48,
        created: bool,
    ) -> Event {
        let event = PoolDefined {
            sequence,
            at: Timestamp(at),
            pool: PoolId(u64::from(partition_of(&definition.name).0) << 48 | pool),
            version,
            definition: Arc::new(definition),
        };
        if created { Event::PoolCreated(event) } else { Event::PoolChanged(event) }
    }
}

prop_compose! {
    fn moved(dimension_count: usize)(
        sequence: u64,
        at: i64,
        (pool, reservation) in any_ids(),
        units in units(dimension_count),
        occurred_at: i64,
        confirmed: bool,
    ) -> Event {
        let event = Moved {
            sequence,
            at: Timestamp(at),
            reservation,
            pool,
            units,
            occurred_at: Timestamp(occurred_at),
        };
        if confirmed { Event::Confirmed(event) } else { Event::Expired(event) }
    }
}

prop_compose! {
    fn resized(dimension_count: usize)(
        sequence: u64,
        at: i64,
        (pool, reservation) in any_ids(),
        units in units(dimension_count),
        previous_units in units(dimension_count),
        expires_at in proptest::option::of(any::<i64>().prop_filter("0 stands for none", |time| *time != 0)),
        version: u16,
        downtime: bool,
        would_refuse: bool,
        occurred_at: i64,
    ) -> Event {
        Event::Resized(Resized {
            sequence,
            at: Timestamp(at),
            reservation,
            pool,
            units,
            previous_units,
            expires_at: expires_at.map(Timestamp),
            version,
            cause: if downtime { ResizeCause::Downtime } else { ResizeCause::Asked },
            would_refuse,
            occurred_at: Timestamp(occurred_at),
        })
    }
}

prop_compose! {
    fn pool_retired()(sequence: u64, (pool, _) in any_ids()) -> Event {
        Event::PoolRetired(PoolRetired { sequence, pool })
    }
}

prop_compose! {
    fn swept()(partition in 0..1024_u16, sequence: u64, ended_before: i64, from: u32, count: u32) -> Event {
        Event::Swept(Swept {
            partition: PartitionId(partition),
            sequence,
            ended_before: Timestamp(ended_before),
            from,
            count,
        })
    }
}

prop_compose! {
    fn turned_away(dimension_count: usize)(
        sequence: u64,
        (pool, _) in any_ids(),
        since: i64,
        at: i64,
        refusals: u64,
        sums in vec(any::<u64>(), dimension_count),
    ) -> Event {
        let mut units = [0; 8];
        units[..dimension_count].copy_from_slice(&sums);
        Event::TurnedAway(TurnedAway {
            sequence,
            pool,
            since: Timestamp(since),
            at: Timestamp(at),
            refusals,
            units,
        })
    }
}

prop_compose! {
    fn pool_reset()(sequence: u64, at: i64, (pool, _) in any_ids(), to: i64, counts: [u32; 3]) -> Event {
        Event::PoolReset(PoolReset {
            sequence,
            at: Timestamp(at),
            pool,
            to: Timestamp(to),
            change_count: counts[0],
            released_count: counts[1],
            restored_count: counts[2],
        })
    }
}

prop_compose! {
    pub(crate) fn restored(dimension_count: usize)(
        (sequence, at, key, created_at) in any::<(u64, i64, u128, i64)>(),
        (pool, reservation) in any_ids(),
        (slot, generation, version) in (0..RESERVATIONS_PER_PARTITION_MAX as u32, any::<u16>(), any::<u16>()),
        all_units in [units(dimension_count), units(dimension_count), units(dimension_count)],
        hold_seconds in prop_oneof![Just(0), 0..=HOLD_SECONDS_MAX],
        expires_at: Option<i64>,
        (would_refuse, has_key) in any::<(bool, bool)>(),
        previous_state in proptest::option::of(prop_oneof![
            Just(ReservationState::Held),
            Just(ReservationState::Confirmed),
        ]),
        reference in proptest::option::of("\\PC{1,16}"),
    ) -> Restored {
        let [units, requested_units, previous_units] = all_units;
        Restored {
            sequence,
            at: Timestamp(at),
            reservation,
            pool,
            key: Key(key),
            slot,
            generation,
            created_at: Timestamp(created_at),
            units,
            requested_units,
            hold_seconds,
            expires_at: expires_at.map(Timestamp),
            version,
            would_refuse,
            has_key,
            previous_state,
            previous_units,
            reference: reference.map(String::into_boxed_str),
        }
    }
}

/// An event whose body is a struct and what follows it.
pub(crate) fn event_of_struct(dimension_count: usize) -> impl Strategy<Value = Event> {
    prop_oneof![
        reserved(dimension_count),
        released(dimension_count),
        moved(dimension_count),
        resized(dimension_count),
        pool_retired(),
        swept(),
        turned_away(dimension_count),
    ]
}

/// Any event, and how many dimensions its directory has.
pub(crate) fn event() -> impl Strategy<Value = (usize, Event)> {
    (1..=8_usize).prop_flat_map(|dimension_count| {
        let event = prop_oneof![
            7 => event_of_struct(dimension_count),
            2 => pool_defined(dimension_count),
            1 => pool_reset(),
            2 => restored(dimension_count).prop_map(|event| Event::Restored(Box::new(event))),
        ];
        (Just(dimension_count), event)
    })
}

/// The time that stands in the header of the event's record.
pub(crate) fn time(event: &Event) -> Timestamp {
    match event {
        Event::Reserved(event) => event.at,
        Event::Released(event) => event.at,
        Event::Confirmed(event) | Event::Expired(event) => event.at,
        Event::Resized(event) => event.at,
        Event::TurnedAway(event) => event.at,
        Event::PoolCreated(event) | Event::PoolChanged(event) => event.at,
        Event::PoolReset(event) => event.at,
        Event::Restored(event) => event.at,
        Event::PoolRetired(_) | Event::Swept(_) => AT,
    }
}
