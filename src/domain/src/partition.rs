//! One partition: its pools, their reservations, and the keys of these.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use crate::chunked::Chunked;
use crate::keys::KeyTable;
use crate::reservation::{Reservation, ReservationState, Reservations};
use crate::{Key, PartitionId, Pool, PoolId};

pub(crate) struct Partition {
    pub(crate) id: PartitionId,
    /// The number of the partition's last event.
    pub(crate) sequence: u64,
    pub(crate) pools: Chunked<Pool>,
    pub(crate) reservations: Reservations,
    pub(crate) keys: KeyTable,
    pub(crate) references: BTreeMap<u32, Box<str>>,
}

impl Partition {
    pub(crate) fn new(id: PartitionId, dimension_count: usize, hash_seed: u64) -> Partition {
        Partition {
            id,
            sequence: 0,
            pools: Chunked::new(),
            reservations: Reservations::new(dimension_count),
            keys: KeyTable::new(hash_seed),
            references: BTreeMap::new(),
        }
    }

    #[inline]
    pub(crate) fn pool(&self, id: PoolId) -> Option<&Pool> {
        self.pools
            .get(id.slot() as usize)
            .filter(|pool| pool.generation == id.generation())
    }

    #[inline]
    pub(crate) fn pool_mut(&mut self, id: PoolId) -> Option<&mut Pool> {
        self.pools
            .get_mut(id.slot() as usize)
            .filter(|pool| pool.generation == id.generation())
    }

    /// The current id of the pool in this slot.
    pub(crate) fn pool_id(&self, slot: u32) -> PoolId {
        let pool = self.pools.get(slot as usize).expect("reservations name existing pools");
        PoolId::new(self.id, slot, pool.generation)
    }

    #[inline]
    pub(crate) fn find_key(&self, key: Key) -> Option<(u32, &Reservation)> {
        let slot = self.keys.find(key, |slot| self.reservations.key_at(slot))?;
        Some((
            slot,
            self.reservations.get(slot).expect("the key table names existing slots"),
        ))
    }

    /// Every pool's counters equal the sum of its live reservations.
    pub(crate) fn assert_counters(&self) {
        let mut sums = alloc::vec![(crate::Counters::default(), crate::Counters::default()); self.pools.len()];
        for (slot, entry) in self.reservations.iter() {
            let (held, confirmed) = &mut sums[entry.pool_slot as usize];
            match entry.state {
                ReservationState::Held => held.add(&self.reservations.units(slot)),
                ReservationState::Confirmed => confirmed.add(&self.reservations.units(slot)),
                ReservationState::Released | ReservationState::Expired => {}
            }
        }
        for (pool, (held, confirmed)) in self.pools.iter().zip(&sums) {
            let name = &pool.definition().name;
            assert_eq!(
                pool.held(),
                held,
                "held units of pool {name} are the sum of its reservations"
            );
            assert_eq!(
                pool.confirmed(),
                confirmed,
                "confirmed units of pool {name} are the sum of its reservations"
            );
        }
    }
}
