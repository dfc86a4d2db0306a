//! From a command to the event that it causes, to what already stands, or to a refusal.
//!
//! The order of the checks is part of the outward contract: key, pool known, pool's state and times, capacity.

use alloc::boxed::Box;

use crate::limits::{POOLS_PER_PARTITION_MAX, RESERVATIONS_PER_PARTITION_MAX};
use crate::partition::Partition;
use crate::{
    Command, Decision, Event, PoolDefined, PoolId, PutOutcome, PutPool, Refusal, Release, Released, ReservationId,
    ReservationParts, ReservationState, Reserve, Reserved, State, Timestamp, partition_of,
};

impl State {
    /// What the command leads to. The state does not change; the caller records the event and applies it.
    ///
    /// # Errors
    /// A refusal has no effect and leaves no trace.
    #[inline]
    pub fn decide(&self, command: &Command, now: Timestamp) -> Result<Decision, Refusal> {
        match command {
            Command::Reserve(reserve) => self.decide_reserve(reserve, now),
            Command::Release(release) => self.decide_release(release, now),
        }
    }

    fn decide_reserve(&self, reserve: &Reserve, now: Timestamp) -> Result<Decision, Refusal> {
        let partition = self.partition(reserve.pool.partition()).ok_or(Refusal::PoolNotFound)?;
        let forget_before = self.forget_before(now);
        if let Some((slot, entry)) = partition.find_key(reserve.key) {
            let forgotten = entry.state.is_ended() && entry.ended_at < forget_before;
            if !forgotten {
                return is_same_request(partition, slot, reserve)
                    .then(|| Decision::Standing(partition.reservations.view(partition.id, slot, reserve.pool)))
                    .ok_or(Refusal::KeyReused);
            }
        }
        let pool = partition.pool(reserve.pool).ok_or(Refusal::PoolNotFound)?;
        pool.check_selling(now)?;
        let short = pool.short_dimensions(&reserve.units);
        let would_refuse = short != 0;
        if would_refuse && !pool.is_shadow() {
            return Err(Refusal::InsufficientCapacity { short, remaining: pool.remaining() });
        }
        let free = partition
            .reservations
            .free_slot(forget_before)
            .filter(|free| (free.slot as usize) < RESERVATIONS_PER_PARTITION_MAX)
            .ok_or(Refusal::Full)?;
        let reservation = ReservationId::new(ReservationParts {
            partition: partition.id,
            slot: u64::from(free.slot),
            generation: free.generation,
            random: reserve.random & ((1 << 56) - 1),
        });
        Ok(Decision::Change(Event::Reserved(Reserved {
            sequence: partition.sequence + 1,
            at: now,
            key: reserve.key,
            reservation,
            pool: reserve.pool,
            units: reserve.units,
            hold_seconds: reserve.hold_seconds,
            occurred_at: reserve.occurred_at,
            would_refuse,
            reference: reserve.reference.clone(),
        })))
    }

    fn decide_release(&self, release: &Release, now: Timestamp) -> Result<Decision, Refusal> {
        let parts = release.reservation.parts();
        let partition = self.partition(parts.partition).ok_or(Refusal::ReservationNotFound)?;
        let (slot, entry) = partition.reservations.find(&parts).ok_or(Refusal::ReservationNotFound)?;
        let pool = partition.pool_id(entry.pool_slot);
        if entry.state.is_ended() {
            let forgotten = entry.ended_at < self.forget_before(now);
            return (!forgotten)
                .then(|| Decision::Standing(partition.reservations.view(partition.id, slot, pool)))
                .ok_or(Refusal::ReservationNotFound);
        }
        Ok(Decision::Change(Event::Released(Released {
            sequence: partition.sequence + 1,
            at: now,
            reservation: release.reservation,
            pool,
            units: partition.reservations.units(slot),
            was_confirmed: entry.state == ReservationState::Confirmed,
            occurred_at: release.occurred_at,
        })))
    }

    /// What putting the pool leads to; the caller has checked the definition's values.
    ///
    /// # Errors
    /// [`Refusal::ChangedMeanwhile`] when the expected version does not stand, [`Refusal::Full`] when the partition has no room.
    pub fn decide_put(&self, put: &PutPool) -> Result<PutOutcome, Refusal> {
        let definition = &put.definition;
        let Some(id) = self.pool_id(&definition.name) else {
            if put.expected_version.is_some_and(|version| version != PutPool::MUST_NOT_EXIST) {
                return Err(Refusal::ChangedMeanwhile);
            }
            let partition_id = partition_of(&definition.name);
            let (slot, sequence) = match self.partition(partition_id) {
                Some(partition) => (partition.pools.len(), partition.sequence + 1),
                None => (0, 1),
            };
            if slot >= POOLS_PER_PARTITION_MAX {
                return Err(Refusal::Full);
            }
            return Ok(PutOutcome::Created(PoolDefined {
                sequence,
                pool: PoolId::new(partition_id, slot as u32, 1),
                version: 1,
                definition: Box::new(definition.clone()),
            }));
        };
        let pool = self.pool(id).expect("names lead to existing pools");
        if put.expected_version.is_some_and(|version| version != pool.version()) {
            return Err(Refusal::ChangedMeanwhile);
        }
        if pool.definition() == definition {
            return Ok(PutOutcome::Unchanged { pool: id, version: pool.version() });
        }
        let partition = self.partition(id.partition()).expect("the partition of an existing pool");
        Ok(PutOutcome::Changed(PoolDefined {
            sequence: partition.sequence + 1,
            pool: id,
            version: pool.version() + 1,
            definition: Box::new(definition.clone()),
        }))
    }
}

/// "The same request" means the same pool, units, hold and reference.
fn is_same_request(partition: &Partition, slot: u32, reserve: &Reserve) -> bool {
    let entry = partition.reservations.get(slot).expect("the key table names existing slots");
    partition.pool_id(entry.pool_slot) == reserve.pool
        && partition.reservations.units(slot) == reserve.units
        && entry.hold_seconds == reserve.hold_seconds
        && partition.references.get(&slot).map(|text| &**text) == reserve.reference.as_deref()
}
