//! One partition: its pools, their reservations, and the keys of these.

use crate::keys::KeyTable;
use crate::pools::Pools;
use crate::reservation::{ReservationState, Reservations};
use crate::stored::StoredReservation;
use crate::{Counters, Key, PartitionId, Pool, PoolId, Swept, Timestamp};

pub(crate) struct Partition {
    pub(crate) id: PartitionId,
    /// The number of the partition's last event.
    pub(crate) sequence: u64,
    pub(crate) pools: Pools,
    pub(crate) reservations: Reservations,
    pub(crate) keys: KeyTable,
    pub(crate) sweep: Sweep,
}

/// How far what belongs to retired pools has been forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// The first reservation slot that has not been looked at in this round.
    pub next: u32,
    /// The event with which the round began: it sees to all pools that were retired before.
    pub began_at: u64,
}

impl Partition {
    pub(crate) fn new(id: PartitionId, dimension_count: usize, hash_seed: u64) -> Partition {
        Partition {
            id,
            sequence: 0,
            pools: Pools::new(),
            reservations: Reservations::new(dimension_count),
            keys: KeyTable::new(hash_seed),
            sweep: Sweep::default(),
        }
    }

    /// An empty one whose key table stands still.
    pub(crate) fn without_keys(id: PartitionId, dimension_count: usize, hash_seed: u64) -> Partition {
        Partition {
            keys: KeyTable::standing_still(hash_seed),
            ..Partition::new(id, dimension_count, hash_seed)
        }
    }

    /// The id of the pool that a reservation takes from; `None` once the pool is retired.
    #[inline]
    pub(crate) fn pool_of(&self, entry: &StoredReservation) -> Option<PoolId> {
        self.pools.id_at(self.id, entry.pool_slot)
    }

    /// The reservation of this key, unless its pool is retired.
    #[inline]
    pub(crate) fn find_key(&self, key: Key) -> Option<(u32, &StoredReservation, PoolId)> {
        let slot = self.keys.find(key, |slot| self.reservations.key_at(slot))?;
        let entry = self.reservations.get(slot).expect("the key table names existing slots");
        Some((slot, entry, self.pool_of(entry)?))
    }

    /// Makes the key lead to the reservation in this slot. Of those in memory with one key exactly one has it, so that
    /// the key table follows from the reservations.
    #[inline]
    pub(crate) fn give_key(&mut self, key: Key, slot: u32) {
        let earlier = self.keys.insert(key, slot, |slot| self.reservations.key_at(slot));
        if let Some(earlier) = earlier {
            self.reservations.lose_key(earlier);
        }
    }

    /// Forgets what belongs to retired pools in a range of slots, and as many of the reservations that ended longest
    /// ago. At the end of a round the slots of pools that were retired before it can be used again, since no
    /// reservation names them any more: none was made since, live ones were freed, and ended ones, which leave their
    /// queue in its order only, lost their pool's name.
    pub(crate) fn apply_swept(&mut self, event: &Swept) {
        assert_eq!(event.from, self.sweep.next, "a sweep goes on where it was");
        if event.from == 0 {
            self.sweep.began_at = event.sequence;
        }
        let mut ended_left = event.count;
        while ended_left > 0 && self.has_ended_before(event.ended_before) {
            self.free(self.reservations.ends().oldest_ended);
            ended_left -= 1;
        }
        let slot_count = self.reservations.len() as u32;
        let end = event.from.saturating_add(event.count).min(slot_count);
        for slot in event.from..end {
            let entry = self.reservations.get(slot).expect("slots below the count exist");
            if entry.is_free() || self.pool_of(entry).is_some() {
                continue;
            }
            if entry.state().is_ended() {
                self.reservations.orphan(slot);
            } else {
                self.free(slot);
            }
        }
        let is_through = end == slot_count
            && !self.has_ended_before(event.ended_before)
            && self.pools.free_retired(self.sweep.began_at, event.count);
        self.sweep.next = if is_through { 0 } else { end.max(1) };
    }

    fn has_ended_before(&self, time: Timestamp) -> bool {
        self.reservations
            .oldest_ended()
            .is_some_and(|oldest| oldest.moment < time)
    }

    fn free(&mut self, slot: u32) {
        let key = self.reservations.free(slot);
        self.keys.remove(key, slot);
    }

    /// Every pool's counters equal the sum of its live reservations.
    pub(crate) fn assert_counters(&self) {
        let confirmed = self.reservations.iter().filter(|(_, entry)| entry.is_confirmed());
        assert_eq!(
            self.reservations.confirmed_count(),
            confirmed.count(),
            "the count of confirmed reservations is that of its entries"
        );
        if let Some(wrong) = self.wrong_counters().next() {
            panic!(
                "counters of pool {} are the sum of its reservations: {:?} and {:?} where {:?} and {:?} belong",
                wrong.pool.definition().name,
                wrong.pool.held(),
                wrong.pool.confirmed(),
                wrong.held,
                wrong.confirmed
            );
        }
    }

    /// The pools whose counters are not the sum of their live reservations.
    pub(crate) fn wrong_counters(&self) -> impl Iterator<Item = WrongCounters<'_>> {
        let mut sums = alloc::vec![(Counters::default(), Counters::default()); self.pools.len()];
        for (slot, entry) in self.reservations.iter() {
            let state = entry.state();
            if state.is_ended() {
                continue;
            }
            let (held, confirmed) = &mut sums[entry.pool_slot as usize];
            let counters = if state == ReservationState::Held {
                held
            } else {
                confirmed
            };
            counters.add(&self.reservations.units(slot));
        }
        self.pools.iter().filter_map(move |(slot, pool)| {
            let (held, confirmed) = sums[slot as usize];
            let is_wrong = *pool.held() != held || *pool.confirmed() != confirmed;
            is_wrong.then_some(WrongCounters { pool, held, confirmed })
        })
    }
}

/// A pool, and the sums of its live reservations that its counters should be.
pub(crate) struct WrongCounters<'state> {
    pub(crate) pool: &'state Pool,
    pub(crate) held: Counters,
    pub(crate) confirmed: Counters,
}
