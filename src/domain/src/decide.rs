//! From a command to the event that it causes, to what already stands, or to a refusal.
//!
//! The order of the checks is part of the outward contract: key, pool known, pool's state and times, capacity.

use alloc::sync::Arc;

use crate::limits::{POOLS_PER_PARTITION_MAX, RESERVATIONS_PER_PARTITION_MAX, UNITS_MAX};
use crate::partition::Partition;
use crate::stored::StoredReservation;
use crate::{
    Command, Confirm, Decision, Event, Moved, PoolDefined, PoolId, PutOutcome, PutPool, Refusal, Release, ReleaseCause,
    Released, ReservationId, ReservationParts, ReservationState, Reserve, Reserved, Resize, ResizeCause, Resized,
    State, Timestamp, Units, partition_of,
};

/// A reservation that a command names, and where it stands.
struct Named<'state> {
    partition: &'state Partition,
    slot: u32,
    entry: &'state StoredReservation,
    pool: PoolId,
}

impl Named<'_> {
    fn standing(&self) -> Decision {
        Decision::Standing(
            self.partition
                .reservations
                .view(self.partition.id, self.slot, self.pool),
        )
    }

    fn units(&self) -> Units {
        self.partition.reservations.units(self.slot)
    }
}

impl State {
    /// What the command leads to. The state does not change; the caller records the event and applies it.
    ///
    /// # Errors
    /// A refusal has no effect and leaves no trace.
    #[inline]
    pub fn decide(&self, command: &Command, now: Timestamp) -> Result<Decision, Refusal> {
        match command {
            Command::Reserve(reserve) => self.decide_reserve(reserve, now),
            Command::Confirm(confirm) => self.decide_confirm(confirm, now),
            Command::Release(release) => self.decide_release(release, now),
            Command::Resize(resize) => self.decide_resize(resize, now),
        }
    }

    fn decide_reserve(&self, reserve: &Reserve, now: Timestamp) -> Result<Decision, Refusal> {
        let partition = self.partition(reserve.pool.partition()).ok_or(Refusal::PoolNotFound)?;
        let forget_before = self.forget_before(now);
        if let Some((slot, entry, pool)) = partition.find_key(reserve.key)
            && !entry.ended_before(forget_before)
        {
            return (pool == reserve.pool && is_same_request(partition, slot, entry, reserve))
                .then(|| Decision::Standing(partition.reservations.view(partition.id, slot, pool)))
                .ok_or(Refusal::KeyReused);
        }
        let pool = partition.pools.get(reserve.pool).ok_or(Refusal::PoolNotFound)?;
        pool.check_selling(now)?;
        let short = pool.short_dimensions(&reserve.units);
        let would_refuse = short != 0;
        if would_refuse && !pool.is_shadow() {
            return Err(Refusal::InsufficientCapacity {
                short,
                remaining: pool.remaining(),
            });
        }
        let next = partition
            .reservations
            .next_slot(forget_before)
            .filter(|next| self.has_room_for(partition, next.slot))
            .ok_or(Refusal::Full)?;
        let parts = ReservationParts {
            partition: partition.id,
            slot: u64::from(next.slot),
            generation: next.generation,
            random: reserve.random & ((1 << 56) - 1),
        };
        // A restored reservation elsewhere may have this id once the generations of the slot have gone round. The next
        // attempt comes with other random bits.
        if partition.reservations.is_taken(&parts) {
            return Err(Refusal::Full);
        }
        let reservation = ReservationId::new(parts);
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

    /// A slot that exists already takes no more memory.
    #[inline]
    pub(crate) fn has_room_for(&self, partition: &Partition, slot: u32) -> bool {
        let slot = slot as usize;
        slot < partition.reservations.len()
            || (slot < RESERVATIONS_PER_PARTITION_MAX && self.slot_count < self.options.reservation_count_max)
    }

    fn named(&self, id: ReservationId, now: Timestamp) -> Result<Named<'_>, Refusal> {
        let parts = id.parts();
        let partition = self.partition(parts.partition).ok_or(Refusal::ReservationNotFound)?;
        let (slot, entry) = partition
            .reservations
            .find(&parts)
            .filter(|(_, entry)| !entry.ended_before(self.forget_before(now)))
            .ok_or(Refusal::ReservationNotFound)?;
        let pool = partition.pool_of(entry).ok_or(Refusal::ReservationNotFound)?;
        Ok(Named {
            partition,
            slot,
            entry,
            pool,
        })
    }

    fn decide_confirm(&self, confirm: &Confirm, now: Timestamp) -> Result<Decision, Refusal> {
        let named = self.named(confirm.reservation, now)?;
        match named.entry.state() {
            ReservationState::Held if now < named.entry.moment => Ok(Decision::Change(Event::Confirmed(Moved {
                sequence: named.partition.sequence + 1,
                at: now,
                reservation: confirm.reservation,
                pool: named.pool,
                units: named.units(),
                occurred_at: confirm.occurred_at,
            }))),
            ReservationState::Confirmed => Ok(named.standing()),
            ReservationState::Held | ReservationState::Expired => Err(Refusal::HoldExpired),
            ReservationState::Released => Err(Refusal::ReservationEnded),
        }
    }

    fn decide_release(&self, release: &Release, now: Timestamp) -> Result<Decision, Refusal> {
        let named = self.named(release.reservation, now)?;
        let state = named.entry.state();
        if state.is_ended() {
            return Ok(named.standing());
        }
        Ok(Decision::Change(Event::Released(Released {
            sequence: named.partition.sequence + 1,
            at: now,
            reservation: release.reservation,
            pool: named.pool,
            units: named.units(),
            was_confirmed: state == ReservationState::Confirmed,
            cause: ReleaseCause::Asked,
            occurred_at: release.occurred_at,
        })))
    }

    /// The order of the checks: the reservation's state, the version, the values, the pool's state and times, capacity.
    /// Shrinking and a longer hold need no pool that sells.
    fn decide_resize(&self, resize: &Resize, now: Timestamp) -> Result<Decision, Refusal> {
        let named = self.named(resize.reservation, now)?;
        let entry = named.entry;
        let is_held = match entry.state() {
            ReservationState::Held if now < entry.moment => true,
            ReservationState::Confirmed => false,
            ReservationState::Held | ReservationState::Expired => return Err(Refusal::HoldExpired),
            ReservationState::Released => return Err(Refusal::ReservationEnded),
        };
        if resize.expected_version.is_some_and(|version| version != entry.version) {
            return Err(Refusal::ChangedMeanwhile);
        }
        if resize.hold_seconds > 0 && !is_held {
            return Err(Refusal::NotHeld);
        }
        let previous_units = named.units();
        let mut units = previous_units;
        for (unit, asked) in units.0[..self.options.dimension_count].iter_mut().zip(resize.units.0) {
            if asked != Resize::UNCHANGED {
                *unit = asked;
            }
        }
        debug_assert!(units.0.iter().all(|unit| *unit <= UNITS_MAX));
        if units.is_zero() {
            return Err(Refusal::NoUnits);
        }
        let expires_at = is_held.then(|| match resize.hold_seconds {
            0 => entry.moment,
            seconds => now.plus_seconds(seconds),
        });
        if units == previous_units && resize.hold_seconds == 0 {
            return Ok(named.standing());
        }
        let grown = units.grown_from(&previous_units);
        let mut would_refuse = false;
        if !grown.is_zero() {
            let pool = named.partition.pools.get(named.pool).ok_or(Refusal::PoolNotFound)?;
            pool.check_selling(now)?;
            let short = pool.short_dimensions(&grown);
            would_refuse = short != 0;
            if would_refuse && !pool.is_shadow() {
                return Err(Refusal::InsufficientCapacity {
                    short,
                    remaining: pool.remaining(),
                });
            }
        }
        Ok(Decision::Change(Event::Resized(Resized {
            sequence: named.partition.sequence + 1,
            at: now,
            reservation: resize.reservation,
            pool: named.pool,
            units,
            previous_units,
            expires_at,
            version: entry.version.checked_add(1).ok_or(Refusal::NoMoreVersions)?,
            cause: ResizeCause::Asked,
            would_refuse,
            occurred_at: resize.occurred_at,
        })))
    }

    /// What putting the pool leads to; the caller has checked the definition's values.
    ///
    /// # Errors
    /// [`Refusal::ChangedMeanwhile`] when the expected version does not stand, [`Refusal::Full`] when the partition has
    /// no room.
    pub fn decide_put(&self, put: &PutPool, now: Timestamp) -> Result<PutOutcome, Refusal> {
        let definition = &put.definition;
        let Some(id) = self.pool_id(&definition.name) else {
            if put
                .expected_version
                .is_some_and(|version| version != PutPool::MUST_NOT_EXIST)
            {
                return Err(Refusal::ChangedMeanwhile);
            }
            let partition_id = partition_of(&definition.name);
            let (pool, sequence) = match self.partition(partition_id) {
                Some(partition) => {
                    let next = partition.pools.next_slot();
                    if next.slot as usize >= POOLS_PER_PARTITION_MAX {
                        return Err(Refusal::Full);
                    }
                    (
                        PoolId::new(partition_id, next.slot, next.generation),
                        partition.sequence + 1,
                    )
                }
                None => (PoolId::new(partition_id, 0, 1), 1),
            };
            if self.names.len() >= self.options.pool_count_max {
                return Err(Refusal::Full);
            }
            return Ok(PutOutcome::Created(PoolDefined {
                sequence,
                at: now,
                pool,
                version: 1,
                definition: Arc::new(definition.clone()),
            }));
        };
        let pool = self.pool(id).expect("names lead to existing pools");
        if put.expected_version.is_some_and(|version| version != pool.version()) {
            return Err(Refusal::ChangedMeanwhile);
        }
        if **pool.definition() == *definition {
            return Ok(PutOutcome::Unchanged {
                pool: id,
                version: pool.version(),
            });
        }
        let partition = self
            .partition(id.partition())
            .expect("the partition of an existing pool");
        Ok(PutOutcome::Changed(PoolDefined {
            sequence: partition.sequence + 1,
            at: now,
            pool: id,
            version: pool.version() + 1,
            definition: Arc::new(definition.clone()),
        }))
    }
}

/// "The same request" means the same pool, units, hold and reference.
fn is_same_request(partition: &Partition, slot: u32, entry: &StoredReservation, reserve: &Reserve) -> bool {
    partition.reservations.requested_units(slot) == reserve.units
        && entry.hold_seconds() == reserve.hold_seconds
        && partition.reservations.reference(slot) == reserve.reference.as_deref()
}

#[cfg(test)]
mod tests;
