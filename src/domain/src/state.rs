//! What one core knows.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use xxhash_rust::xxh3::Xxh3;

use crate::limits::PARTITION_COUNT;
use crate::partition::Partition;
use crate::{PartitionId, Pool, PoolDefined, PoolId, ReservationId, ReservationView, Timestamp};

/// How a state is set up.
#[derive(Clone, Copy, Debug)]
pub struct StateOptions {
    /// How many dimensions the directory has, 1 to 8.
    pub dimension_count: usize,
    /// How long an ended reservation and its key stay known, in microseconds.
    pub key_retention_micros: i64,
    /// Keeps callers from choosing keys that collide in the key table; shows in no result.
    pub hash_seed: u64,
}

/// What putting a pool leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// A pool of this name will exist.
    Created(PoolDefined),
    /// The pool will have another definition.
    Changed(PoolDefined),
    /// The pool has this definition already.
    Unchanged {
        /// The pool.
        pool: PoolId,
        /// The version that stands.
        version: u64,
    },
}

/// The pools and reservations of the partitions that one core owns.
pub struct State {
    pub(crate) options: StateOptions,
    partitions: Vec<Option<Box<Partition>>>,
    pub(crate) names: BTreeMap<Arc<str>, PoolId>,
}

impl State {
    /// An empty state.
    pub fn new(options: StateOptions) -> State {
        State {
            options,
            partitions: (0..PARTITION_COUNT).map(|_| None).collect(),
            names: BTreeMap::new(),
        }
    }

    #[inline]
    pub(crate) fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.partitions.get(id.index())?.as_deref()
    }

    #[inline]
    pub(crate) fn partition_mut(&mut self, id: PartitionId) -> &mut Partition {
        let options = self.options;
        self.partitions[id.index()]
            .get_or_insert_with(|| Box::new(Partition::new(id, options.dimension_count, options.hash_seed)))
    }

    /// The earliest end that is still remembered.
    #[inline]
    pub(crate) fn forget_before(&self, now: Timestamp) -> Timestamp {
        now.plus_micros(-self.options.key_retention_micros)
    }

    /// How many dimensions the directory has.
    pub fn dimension_count(&self) -> usize {
        self.options.dimension_count
    }

    /// How many pools there are.
    pub fn pool_count(&self) -> usize {
        self.names.len()
    }

    /// The pool of this name.
    pub fn pool_id(&self, name: &str) -> Option<PoolId> {
        self.names.get(name).copied()
    }

    /// The pool of this id.
    pub fn pool(&self, id: PoolId) -> Option<&Pool> {
        self.partition(id.partition())?.pool(id)
    }

    /// The pools after this name, in the byte order of their names.
    pub fn pools_after(&self, name: &str) -> impl Iterator<Item = (PoolId, &Pool)> {
        let bounds = (Bound::Excluded(name), Bound::Unbounded);
        self.names
            .range::<str, _>(bounds)
            .map(|(_, id)| (*id, self.pool(*id).expect("names lead to existing pools")))
    }

    /// The reservation of this id, ended ones too until they are forgotten.
    pub fn reservation(&self, id: ReservationId, now: Timestamp) -> Option<ReservationView> {
        let parts = id.parts();
        let partition = self.partition(parts.partition)?;
        let (slot, entry) = partition.reservations.find(&parts)?;
        if entry.state.is_ended() && entry.ended_at < self.forget_before(now) {
            return None;
        }
        Some(
            partition
                .reservations
                .view(partition.id, slot, partition.pool_id(entry.pool_slot)),
        )
    }

    /// The caller's own name for a reservation that exists.
    pub fn reference(&self, id: ReservationId) -> Option<&str> {
        let parts = id.parts();
        let partition = self.partition(parts.partition)?;
        let (slot, _) = partition.reservations.find(&parts)?;
        partition.references.get(&slot).map(|text| &**text)
    }

    /// Every reservation that is not forgotten.
    pub fn reservations(&self, now: Timestamp) -> impl Iterator<Item = ReservationView> {
        let forget_before = self.forget_before(now);
        self.partitions.iter().flatten().flat_map(move |partition| {
            partition
                .reservations
                .iter()
                .filter(move |(_, entry)| !(entry.state.is_ended() && entry.ended_at < forget_before))
                .map(|(slot, entry)| {
                    partition
                        .reservations
                        .view(partition.id, slot, partition.pool_id(entry.pool_slot))
                })
        })
    }

    /// A digest of everything that shows to callers at this time: equal for equal histories.
    pub fn digest(&self, now: Timestamp) -> u64 {
        let mut hash = Xxh3::new();
        for (name, id) in &self.names {
            let pool = self.pool(*id).expect("names lead to existing pools");
            hash.update(name.as_bytes());
            hash.update(&id.0.to_le_bytes());
            hash.update(&pool.version().to_le_bytes());
            for counters in [pool.held(), pool.confirmed(), &pool.remaining()] {
                for counter in counters.0 {
                    hash.update(&counter.to_le_bytes());
                }
            }
        }
        for partition in self.partitions.iter().flatten() {
            hash.update(&partition.sequence.to_le_bytes());
        }
        for reservation in self.reservations(now) {
            hash.update(&reservation.id.0.to_le_bytes());
            hash.update(&reservation.pool.0.to_le_bytes());
            hash.update(&[reservation.state as u8, u8::from(reservation.would_refuse)]);
            hash.update(&reservation.created_at.0.to_le_bytes());
            hash.update(&reservation.expires_at.unwrap_or(Timestamp::ABSENT).0.to_le_bytes());
            for unit in reservation.units.0 {
                hash.update(&unit.to_le_bytes());
            }
            hash.update(self.reference(reservation.id).unwrap_or_default().as_bytes());
        }
        hash.digest()
    }

    /// Checks in full that every pool's counters are the sum of its reservations.
    ///
    /// # Panics
    /// When they are not: the program has a bug.
    pub fn assert_counters(&self) {
        for partition in self.partitions.iter().flatten() {
            partition.assert_counters();
        }
    }
}
