//! Pieces of snapshots at random, within the bounds of the format.

use std::sync::Arc;

use plimsoll_domain::limits::{HOLD_SECONDS_MAX, RESERVATIONS_PER_PARTITION_MAX};
use plimsoll_domain::{
    Counters, Key, MovedPage, MovedReservation, PartitionId, PartitionImage, PoolImage, PoolPage, ReservationEnds,
    ReservationPage, SnapshotPiece, StoredReservation, Sweep, Timestamp,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::strategies::{definition, units};

fn partition() -> impl Strategy<Value = PartitionId> {
    (0..1024_u16).prop_map(PartitionId)
}

/// A slot, or all ones, which stands for none.
fn link() -> impl Strategy<Value = u32> {
    prop_oneof![Just(u32::MAX), any::<u32>()]
}

prop_compose! {
    fn image()(
        partition in partition(),
        sequence in 0..1_u64 << 63,
        began_at: u64,
        next: u32,
        pool_slot_count in 0..=1_u32 << 24,
        reservation_slot_count: u32,
        links in [link(), link(), link(), link()],
        retired in vec(any::<u32>(), 0..20),
    ) -> SnapshotPiece {
        let [first_free_pool, oldest_ended, newest_ended, first_free] = links;
        SnapshotPiece::Partition(PartitionImage {
            partition,
            sequence,
            pool_slot_count,
            first_free_pool,
            retired,
            reservation_slot_count,
            ends: ReservationEnds { oldest_ended, newest_ended, first_free },
            sweep: Sweep { next, began_at },
        })
    }
}

fn counters(dimension_count: usize) -> impl Strategy<Value = Counters> {
    vec(any::<i64>(), dimension_count).prop_map(|values| {
        let mut counters = Counters::default();
        counters.0[..values.len()].copy_from_slice(&values);
        counters
    })
}

prop_compose! {
    fn used_pool(dimension_count: usize)(
        generation in 0..1_u32 << 24,
        version in 0..1_u64 << 63,
        definition in definition(dimension_count),
        held in counters(dimension_count),
        confirmed in counters(dimension_count),
        last_event: i64,
    ) -> PoolImage {
        let (definition, last_event) = (Arc::new(definition), Timestamp(last_event));
        PoolImage::Used { generation, version, definition, held, confirmed, last_event }
    }
}

fn pool(dimension_count: usize) -> impl Strategy<Value = PoolImage> {
    let generation = || 0..1_u32 << 24;
    prop_oneof![
        used_pool(dimension_count),
        (generation(), any::<u64>()).prop_map(|(generation, sequence)| PoolImage::Retired { generation, sequence }),
        (generation(), link()).prop_map(|(generation, next)| PoolImage::Free { generation, next }),
    ]
}

fn pools(dimension_count: usize) -> impl Strategy<Value = SnapshotPiece> {
    let page = (partition(), 0..1_u32 << 20, vec(pool(dimension_count), 0..=16));
    page.prop_map(|(partition, page, images)| {
        let first_slot = page * 16;
        SnapshotPiece::Pools(partition, PoolPage { first_slot, images })
    })
}

prop_compose! {
    fn reservation(dimension_count: usize)(
        (key, created_at, moment) in any::<(u128, i64, i64)>(),
        random in prop_oneof![Just(u64::MAX), 0..1_u64 << 56],
        units in units(dimension_count),
        (pool_slot, generation, version) in any::<(u32, u16, u16)>(),
        hold_seconds in 0..=HOLD_SECONDS_MAX,
        (state, flags) in (1..=4_u32, 0..16_u32),
        link in link(),
    ) -> StoredReservation {
        StoredReservation {
            key: Key(key),
            created_at: Timestamp(created_at),
            moment: Timestamp(moment),
            random,
            first_units: [units.0[0], units.0[1]],
            pool_slot,
            bits: hold_seconds | state << 17 | flags << 20,
            link,
            generation,
            version,
        }
    }
}

fn reservations(dimension_count: usize) -> impl Strategy<Value = SnapshotPiece> {
    let slots = 0..RESERVATIONS_PER_PARTITION_MAX as u32 / 64;
    (partition(), slots, 0..=64_usize).prop_flat_map(move |(partition, page, count)| {
        let more_count = if dimension_count > 2 { count } else { 0 };
        let more_units = units(dimension_count.saturating_sub(2).max(1)).prop_map(|units| {
            let mut more = [0; 6];
            more.copy_from_slice(&units.0[..6]);
            more
        });
        let reference = ("\\PC{0,16}", any::<u32>()).prop_map(|(text, slot)| (slot, Arc::from(text)));
        let texts_max = count.min(8);
        let parts = (
            vec(reservation(dimension_count), count),
            vec(more_units, more_count),
            vec(reference, 0..=texts_max),
            vec((any::<u32>(), units(dimension_count)), 0..=texts_max),
        );
        parts.prop_map(move |(entries, more_units, references, first_requests)| {
            let first_slot = page * 64;
            let page = ReservationPage {
                first_slot,
                entries,
                more_units,
                references,
                first_requests,
            };
            SnapshotPiece::Reservations(partition, page)
        })
    })
}

fn moved() -> impl Strategy<Value = SnapshotPiece> {
    let one = any::<(u32, u32, u16)>().prop_map(|(slot, id_slot, id_generation)| MovedReservation {
        slot,
        id_slot,
        id_generation,
    });
    let slots = 0..RESERVATIONS_PER_PARTITION_MAX as u32 / 64;
    (partition(), slots, vec(one, 0..=64)).prop_map(|(partition, page, moved)| {
        let first_slot = page * 64;
        SnapshotPiece::Moved(partition, MovedPage { first_slot, moved })
    })
}

/// Any piece of a directory with so many dimensions.
pub(crate) fn piece(dimension_count: usize) -> impl Strategy<Value = SnapshotPiece> {
    prop_oneof![image(), pools(dimension_count), reservations(dimension_count), moved()]
}
