//! Identifiers and times.

use core::fmt;

use crate::limits::PARTITION_COUNT;

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Later than any time: "never" for a closing time.
    pub const NEVER: Timestamp = Timestamp(i64::MAX);
    /// No time was given.
    pub const ABSENT: Timestamp = Timestamp(i64::MIN);

    /// This many seconds later; saturates.
    #[inline]
    pub fn plus_seconds(self, seconds: u32) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::from(seconds) * 1_000_000))
    }

    /// This many microseconds later; saturates.
    #[inline]
    pub fn plus_micros(self, micros: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(micros))
    }
}

/// One of the 1,024 fixed shares of the pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u16);

impl PartitionId {
    /// The index into an array of all partitions.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The partition of a pool: XXH3-64 with seed 0 of its name, modulo 1,024. ARCHITECTURE.md has test vectors.
pub fn partition_of(name: &str) -> PartitionId {
    let hash = xxhash_rust::xxh3::xxh3_64(name.as_bytes());
    PartitionId((hash % PARTITION_COUNT as u64) as u16)
}

/// Names a pool for as long as it exists: partition 16 bits, slot 24, generation 24. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(pub u64);

impl PoolId {
    /// The id of the pool in this slot; slot and generation have 24 bits.
    pub fn new(partition: PartitionId, slot: u32, generation: u32) -> PoolId {
        debug_assert!(slot < 1 << 24 && generation < 1 << 24);
        PoolId(u64::from(partition.0) << 48 | u64::from(slot) << 24 | u64::from(generation))
    }

    /// The partition that the pool belongs to; may be out of range in an id that came from outside.
    #[inline]
    pub fn partition(self) -> PartitionId {
        PartitionId((self.0 >> 48) as u16)
    }

    /// The index into the partition's pool table.
    #[inline]
    pub fn slot(self) -> u32 {
        (self.0 >> 24) as u32 & 0xFF_FFFF
    }

    #[inline]
    pub(crate) fn generation(self) -> u32 {
        self.0 as u32 & 0xFF_FFFF
    }
}

/// Names a reservation: home partition 16 bits, slot 40, generation 16, random 56.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationId(pub u128);

/// What a reservation id consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationParts {
    /// The partition whose table the slot indexes.
    pub partition: PartitionId,
    /// Index into the partition's reservation table, 40 bits.
    pub slot: u64,
    /// Counts the uses of the slot; wraps around.
    pub generation: u16,
    /// 56 bits that make ids hard to guess.
    pub random: u64,
}

impl ReservationId {
    /// Puts the parts together.
    #[inline]
    pub fn new(parts: ReservationParts) -> ReservationId {
        debug_assert!(parts.slot < 1 << 40 && parts.random < 1 << 56);
        ReservationId(
            u128::from(parts.partition.0) << 112
                | u128::from(parts.slot) << 72
                | u128::from(parts.generation) << 56
                | u128::from(parts.random),
        )
    }

    /// Takes the id apart; the partition may be out of range in an id that came from outside.
    #[inline]
    pub fn parts(self) -> ReservationParts {
        ReservationParts {
            partition: PartitionId((self.0 >> 112) as u16),
            slot: (self.0 >> 72) as u64 & 0xFF_FFFF_FFFF,
            generation: (self.0 >> 56) as u16,
            random: self.0 as u64 & 0xFF_FFFF_FFFF_FFFF,
        }
    }
}

impl fmt::Debug for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().fmt(f)
    }
}

/// The caller's 128-bit idempotency key of a reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_match_the_vectors_of_the_architecture_page() {
        for (name, partition) in [
            ("a", 543),
            ("slot-1", 192),
            ("resort:A:2015-07-01", 574),
            ("resort:H:2017-08-31", 264),
            ("zone.7:2026-12-24T08:00", 909),
        ] {
            assert_eq!(partition_of(name), PartitionId(partition), "{name}");
        }
    }

    #[test]
    fn ids_come_apart_as_they_were_put_together() {
        let parts = ReservationParts {
            partition: PartitionId(1023),
            slot: (1 << 40) - 2,
            generation: 65_535,
            random: (1 << 56) - 3,
        };
        assert_eq!(ReservationId::new(parts).parts(), parts);
        let pool = PoolId::new(PartitionId(1023), (1 << 24) - 1, 7);
        assert_eq!(
            (pool.partition(), pool.slot(), pool.generation()),
            (PartitionId(1023), (1 << 24) - 1, 7)
        );
    }
}
