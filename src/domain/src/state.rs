//! What one core knows.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use xxhash_rust::xxh3::Xxh3;

use crate::holds::Holds;
use crate::limits::PARTITION_COUNT;
use crate::partition::Partition;
use crate::snapshot::SnapshotCursor;
use crate::{Key, PartitionId, Pool, PoolDefined, PoolId, ReservationId, ReservationView, Timestamp};

/// How a state is set up. The options decide what is decided; what has been decided follows from the events alone.
#[derive(Clone, Copy, Debug)]
pub struct StateOptions {
    /// How many dimensions the directory has, 1 to 8.
    pub dimension_count: usize,
    /// How long an ended reservation and its key stay known, in microseconds.
    pub key_retention_micros: i64,
    /// How long a pool stays after its end and its last event, in microseconds; not less than the key retention.
    pub retire_after_micros: i64,
    /// The most reservations that are kept, live and ended; past that reserves are refused.
    pub reservation_count_max: usize,
    /// The most pools.
    pub pool_count_max: usize,
    /// Keeps callers from choosing keys that collide in the key table; shows in no result.
    pub hash_seed: u64,
}

impl StateOptions {
    /// With this many dimensions, a day of key retention, 35 days until pools retire, and no bounds but those of the
    /// ids.
    pub fn new(dimension_count: usize) -> StateOptions {
        StateOptions {
            dimension_count,
            key_retention_micros: 86_400_000_000,
            retire_after_micros: 35 * 86_400_000_000,
            reservation_count_max: usize::MAX,
            pool_count_max: usize::MAX,
            hash_seed: 0,
        }
    }
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
    pub(crate) partitions: Vec<Option<Box<Partition>>>,
    pub(crate) names: BTreeMap<Arc<str>, PoolId>,
    /// The timer wheel of all held reservations.
    pub(crate) holds: Holds,
    /// Pools by the time at which their lives may end, or an earlier one.
    pub(crate) pool_queue: BTreeSet<(Timestamp, PoolId)>,
    /// Partitions that have retired pools whose reservations have not all been forgotten.
    pub(crate) unswept: BTreeSet<PartitionId>,
    /// Slots for reservations in all partitions.
    pub(crate) slot_count: usize,
    /// Pools that events have changed since they were last collected.
    pub(crate) touched: Vec<PoolId>,
    /// Numbers the collections, one a turn: 32 bits would come round within days.
    pub(crate) touch_collection: u64,
    pub(crate) snapshot: Option<SnapshotCursor>,
}

impl State {
    /// An empty state.
    pub fn new(options: StateOptions) -> State {
        State {
            options,
            partitions: (0..PARTITION_COUNT).map(|_| None).collect(),
            names: BTreeMap::new(),
            holds: Holds::new(),
            pool_queue: BTreeSet::new(),
            unswept: BTreeSet::new(),
            slot_count: 0,
            touched: Vec::new(),
            touch_collection: 1,
            snapshot: None,
        }
    }

    #[inline]
    pub(crate) fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.partitions.get(id.index())?.as_deref()
    }

    #[inline]
    pub(crate) fn partition_mut(&mut self, id: PartitionId) -> &mut Partition {
        let (options, is_replaying) = (self.options, self.holds.stands_still());
        self.partitions[id.index()].get_or_insert_with(|| {
            let new = if is_replaying {
                Partition::without_keys
            } else {
                Partition::new
            };
            Box::new(new(id, options.dimension_count, options.hash_seed))
        })
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

    /// How many reservations are held.
    pub fn held_count(&self) -> usize {
        self.holds.len()
    }

    /// How many reservations are confirmed, those of retired pools that are not swept yet included. It looks at every partition.
    pub fn confirmed_count(&self) -> usize {
        let partitions = self.partitions.iter().flatten();
        partitions
            .map(|partition| partition.reservations.confirmed_count())
            .sum()
    }

    /// How many slots for reservations there are, in use or not: what their memory is in proportion to.
    pub fn reservation_slot_count(&self) -> usize {
        self.slot_count
    }

    /// Moves the pools that events have changed since the last call to the end of `pools`, each once. A retired one is
    /// among them.
    pub fn take_touched(&mut self, pools: &mut Vec<PoolId>) {
        pools.append(&mut self.touched);
        self.touch_collection += 1;
    }

    /// The pool of this name.
    pub fn pool_id(&self, name: &str) -> Option<PoolId> {
        self.names.get(name).copied()
    }

    /// The pool of this id.
    pub fn pool(&self, id: PoolId) -> Option<&Pool> {
        self.partition(id.partition())?.pools.get(id)
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
        let pool = partition.pool_of(entry)?;
        if entry.ended_before(self.forget_before(now)) {
            return None;
        }
        Some(partition.reservations.view(partition.id, slot, pool))
    }

    /// The caller's own name for a reservation that exists.
    pub fn reference(&self, id: ReservationId) -> Option<&str> {
        let parts = id.parts();
        let partition = self.partition(parts.partition)?;
        let (slot, _) = partition.reservations.find(&parts)?;
        partition.reservations.reference(slot)
    }

    /// How much a partition holds: its slots for pools and reservations.
    pub fn partition_load(&self, id: PartitionId) -> usize {
        self.partition(id)
            .map_or(0, |partition| partition.pools.len() + partition.reservations.len())
    }

    /// Whether the key of a reservation that exists leads to it; if not, another one has the key.
    pub fn has_key(&self, id: ReservationId) -> bool {
        let parts = id.parts();
        let partition = self.partition(parts.partition);
        let found = partition.and_then(|partition| partition.reservations.find(&parts));
        found.is_some_and(|(_, entry)| entry.has_key())
    }

    /// The key of a reservation that exists.
    pub fn key(&self, id: ReservationId) -> Option<Key> {
        let parts = id.parts();
        let (_, entry) = self.partition(parts.partition)?.reservations.find(&parts)?;
        Some(entry.key)
    }

    /// Every reservation that is not forgotten.
    pub fn reservations(&self, now: Timestamp) -> impl Iterator<Item = ReservationView> {
        let forget_before = self.forget_before(now);
        self.partitions.iter().flatten().flat_map(move |partition| {
            partition
                .reservations
                .iter()
                .filter(move |(_, entry)| !entry.ended_before(forget_before))
                .filter_map(|(slot, entry)| {
                    let pool = partition.pool_of(entry)?;
                    Some(partition.reservations.view(partition.id, slot, pool))
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
            pool.definition().digest(&mut hash);
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
            hash.update(&reservation.version.to_le_bytes());
            hash.update(&self.key(reservation.id).map_or(0, |key| key.0).to_le_bytes());
            hash.update(self.reference(reservation.id).unwrap_or_default().as_bytes());
            if !self.has_key(reservation.id) {
                hash.update(b"keyless");
            }
        }
        hash.digest()
    }

    /// Checks in full that every pool's counters are the sum of its reservations.
    ///
    /// # Errors
    /// The first partition of which they are not: its events came from a foreign journal, or the program has a bug.
    pub fn check_counters(&self) -> Result<(), PartitionId> {
        let mut partitions = self.partitions.iter().flatten();
        match partitions.find(|partition| partition.wrong_counters().next().is_some()) {
            Some(partition) => Err(partition.id),
            None => Ok(()),
        }
    }

    /// The same, of a state that nothing foreign went into.
    ///
    /// # Panics
    /// When they are not: the program has a bug.
    pub fn assert_counters(&self) {
        for partition in self.partitions.iter().flatten() {
            partition.assert_counters();
        }
    }
}
