//! A pool goes back to an earlier moment.
//!
//! Nothing that was written is changed: new events make what was then the present. What must be known of the past comes
//! from outside, as the target. The events are decided one by one, each against the state that the one before it left;
//! the caller records them in one batch.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use xxhash_rust::xxh3::Xxh3;

use crate::limits::{HOLD_SECONDS_MAX, REFERENCE_SIZE_MAX, RESERVATIONS_PER_PARTITION_MAX, UNITS_MAX};
use crate::partition::Partition;
use crate::{
    Counters, Event, Key, Pool, PoolDefined, PoolDefinition, PoolId, PoolReset, Refusal, ReleaseCause, Released,
    ReservationId, ReservationState, Restored, State, Timestamp, Units,
};

/// What a pool is to go back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetTarget {
    /// The moment.
    pub to: Timestamp,
    /// The pool's definition, if that goes back too.
    pub definition: Option<PoolDefinition>,
    /// The reservations that lived then, held or confirmed, in any order.
    pub reservations: Vec<PastReservation>,
}

/// A reservation as it was at an earlier moment, at which it lived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastReservation {
    /// Its id.
    pub reservation: ReservationId,
    /// Its key.
    pub key: Key,
    /// When it was made.
    pub created_at: Timestamp,
    /// What it took.
    pub units: Units,
    /// What was asked for first.
    pub requested_units: Units,
    /// The hold that was asked for first, in seconds; 0: confirmed at once.
    pub hold_seconds: u32,
    /// Until when it was held; `None`: it was confirmed.
    pub expires_at: Option<Timestamp>,
    /// Its version.
    pub version: u16,
    /// Enforcement would have refused it.
    pub would_refuse: bool,
    /// The caller's own name for what is reserved.
    pub reference: Option<Box<str>>,
}

/// What a reset will do, as decided against one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetPlan {
    /// The pool.
    pub pool: PoolId,
    /// A digest of the pool and what lives in it before the reset: equal for equal definitions and reservations.
    pub version: u64,
    /// The definition from now on, if it changes.
    pub definition: Option<Arc<PoolDefinition>>,
    /// What happens to reservations, in this order.
    pub changes: Vec<ResetChange>,
    /// Held units before and after.
    pub held: (Counters, Counters),
    /// Confirmed units before and after.
    pub confirmed: (Counters, Counters),
}

impl ResetPlan {
    /// How many events it takes; none when the pool is what it was.
    pub fn event_count(&self) -> usize {
        match self.change_count() {
            0 => 0,
            count => 1 + count,
        }
    }

    fn change_count(&self) -> usize {
        usize::from(self.definition.is_some()) + self.changes.len()
    }
}

/// What a reset does to a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetChange {
    /// The reservation.
    pub reservation: ReservationId,
    /// What is done.
    pub action: ResetAction,
    /// Where it stands before; `None` of one that is forgotten.
    pub before: Option<Standing>,
    /// Where it stands afterwards.
    pub after: Standing,
    /// The caller's own name for what is reserved.
    pub reference: Option<Box<str>>,
}

/// What is done to a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetAction {
    /// It ends.
    Release,
    /// It becomes what it was: the target's reservation of this index.
    Restore(usize),
}

/// Where a reservation stands, and what it takes or took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where it stands.
    pub state: ReservationState,
    /// Its units.
    pub units: Units,
    /// When the hold expires or did; `None` of what never was a hold, was confirmed, or was released.
    pub expires_at: Option<Timestamp>,
}

impl PastReservation {
    fn standing(&self) -> Standing {
        Standing {
            state: match self.expires_at {
                Some(_) => ReservationState::Held,
                None => ReservationState::Confirmed,
            },
            units: self.units,
            expires_at: self.expires_at,
        }
    }

    /// Whether it was held until a moment that has come by now.
    fn is_over(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|deadline| deadline <= now)
    }

    /// Whether a reservation of this pool can have been like this.
    fn is_sound(&self, pool: PoolId, dimension_count: usize) -> bool {
        let parts = self.reservation.parts();
        let is_units = |units: &Units| {
            units.0.iter().all(|unit| *unit <= UNITS_MAX)
                && units.0[dimension_count..].iter().all(|unit| *unit == 0)
                && !units.is_zero()
        };
        let size = self.reference.as_ref().map_or(1, |reference| reference.len());
        parts.partition == pool.partition()
            && parts.slot < RESERVATIONS_PER_PARTITION_MAX as u64
            && is_units(&self.units)
            && is_units(&self.requested_units)
            && self.hold_seconds <= HOLD_SECONDS_MAX
            && (self.expires_at.is_none() || self.hold_seconds > 0)
            && (1..=REFERENCE_SIZE_MAX).contains(&size)
    }

    /// Whether the reservation in this slot is the same one: what never changes is equal.
    fn is_same(&self, partition: &Partition, slot: u32, pool: PoolId) -> bool {
        let reservations = &partition.reservations;
        reservations.get(slot).is_some_and(|entry| {
            partition.pool_of(entry) == Some(pool)
                && entry.key == self.key
                && entry.created_at == self.created_at
                && entry.hold_seconds() == self.hold_seconds
        }) && reservations.requested_units(slot) == self.requested_units
            && reservations.reference(slot) == self.reference.as_deref()
    }
}

fn standing_at(partition: &Partition, slot: u32, pool: PoolId) -> Standing {
    let view = partition.reservations.view(partition.id, slot, pool);
    Standing {
        state: view.state,
        units: view.units,
        expires_at: view.expires_at,
    }
}

/// The live reservations of a pool, in the order of their ids, with the slots where they lie.
fn live_in(partition: &Partition, pool: PoolId) -> Vec<(ReservationId, u32)> {
    let all = partition.reservations.iter();
    let mut live: Vec<_> = all
        .filter(|(_, entry)| entry.pool_slot == pool.slot() && !entry.state().is_ended())
        .map(|(slot, _)| (partition.reservations.id_at(partition.id, slot), slot))
        .collect();
    live.sort_unstable();
    live
}

/// A digest of a pool and of what lives in it.
fn version_of(partition: &Partition, id: PoolId, pool: &Pool, live: &[(ReservationId, u32)]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&id.0.to_le_bytes());
    hash.update(&pool.version().to_le_bytes());
    for (reservation, slot) in live {
        let view = partition.reservations.view(partition.id, *slot, id);
        hash.update(&reservation.0.to_le_bytes());
        hash.update(&[view.state as u8]);
        for unit in view.units.0 {
            hash.update(&unit.to_le_bytes());
        }
        hash.update(&view.expires_at.unwrap_or(Timestamp::ABSENT).0.to_le_bytes());
        hash.update(&view.version.to_le_bytes());
    }
    hash.digest()
}

/// Held and confirmed units.
#[derive(Clone, Copy)]
struct Sums {
    held: Counters,
    confirmed: Counters,
}

impl Sums {
    fn of(&mut self, state: ReservationState) -> Option<&mut Counters> {
        match state {
            ReservationState::Held => Some(&mut self.held),
            ReservationState::Confirmed => Some(&mut self.confirmed),
            ReservationState::Released | ReservationState::Expired => None,
        }
    }

    fn change(&mut self, before: Option<&Standing>, after: &Standing) {
        if let Some(before) = before
            && let Some(sums) = self.of(before.state)
        {
            sums.subtract(&before.units);
        }
        if let Some(sums) = self.of(after.state) {
            sums.add(&after.units);
        }
    }
}

impl State {
    /// What takes the pool back to the target. The state does not change; see [`State::reset_event`].
    ///
    /// Reads every reservation of the pool's partition: the work is in proportion to these.
    ///
    /// # Errors
    /// In this order: [`Refusal::PoolNotFound`]; [`Refusal::ChangedMeanwhile`] when the expected version is not the one
    /// that stands; [`Refusal::NotAPast`] when no moment of the pool was like the target; [`Refusal::Full`] when what
    /// is to live again finds no slot.
    pub fn plan_reset(
        &self,
        pool_id: PoolId,
        target: &ResetTarget,
        expected_version: Option<u64>,
        now: Timestamp,
    ) -> Result<ResetPlan, Refusal> {
        let pool = self.pool(pool_id).ok_or(Refusal::PoolNotFound)?;
        let partition = self.partition(pool_id.partition()).ok_or(Refusal::PoolNotFound)?;
        let live = live_in(partition, pool_id);
        let version = version_of(partition, pool_id, pool, &live);
        if expected_version.is_some_and(|expected| expected != version) {
            return Err(Refusal::ChangedMeanwhile);
        }
        self.check_target(pool_id, pool, target)?;
        let known = |slot: u32| {
            let entry = partition.reservations.get(slot)?;
            (!entry.ended_before(self.forget_before(now))).then(|| standing_at(partition, slot, pool_id))
        };
        let stays: BTreeSet<ReservationId> = target
            .reservations
            .iter()
            .filter(|past| !past.is_over(now))
            .map(|past| past.reservation)
            .collect();
        let mut sums = Sums {
            held: *pool.held(),
            confirmed: *pool.confirmed(),
        };
        let before = sums;
        let mut changes = Vec::new();
        for (reservation, slot) in live.iter().filter(|(reservation, _)| !stays.contains(reservation)) {
            let before = standing_at(partition, *slot, pool_id);
            let after = Standing {
                state: ReservationState::Released,
                expires_at: None,
                ..before
            };
            sums.change(Some(&before), &after);
            changes.push(ResetChange {
                reservation: *reservation,
                action: ResetAction::Release,
                before: Some(before),
                after,
                reference: partition.reservations.reference(*slot).map(Box::from),
            });
        }
        let mut slots_needed = 0;
        for (index, past) in target.reservations.iter().enumerate() {
            if past.is_over(now) {
                continue;
            }
            let found = partition.reservations.find(&past.reservation.parts());
            let before = found.and_then(|(slot, _)| known(slot));
            let after = past.standing();
            if before == Some(after) {
                continue;
            }
            slots_needed += usize::from(before.is_none_or(|before| before.state.is_ended()));
            sums.change(before.as_ref(), &after);
            changes.push(ResetChange {
                reservation: past.reservation,
                action: ResetAction::Restore(index),
                before,
                after,
                reference: past.reference.clone(),
            });
        }
        if !self.has_slots_for(partition, slots_needed, now) {
            return Err(Refusal::Full);
        }
        let definition = target.definition.as_ref().filter(|past| **pool.definition() != **past);
        Ok(ResetPlan {
            pool: pool_id,
            version,
            definition: definition.cloned().map(Arc::new),
            changes,
            held: (before.held, sums.held),
            confirmed: (before.confirmed, sums.confirmed),
        })
    }

    /// Whether the pool can have been what the target says: nothing contradicts what is known of it.
    fn check_target(&self, pool_id: PoolId, pool: &Pool, target: &ResetTarget) -> Result<(), Refusal> {
        let dimension_count = self.options.dimension_count;
        let partition = self.partition(pool_id.partition()).ok_or(Refusal::PoolNotFound)?;
        let is_definition = target.definition.as_ref().is_none_or(|past| {
            let units = [&past.limits, &past.overbook];
            let is_within = |units: &Units| units.0[dimension_count..].iter().all(|unit| *unit == 0);
            past.name == pool.definition().name && past.check().is_ok() && units.into_iter().all(is_within)
        });
        let mut ids = BTreeSet::new();
        let is_past = |past: &PastReservation| {
            let found = partition.reservations.find(&past.reservation.parts());
            ids.insert(past.reservation)
                && past.is_sound(pool_id, dimension_count)
                && found.is_none_or(|(slot, _)| past.is_same(partition, slot, pool_id))
        };
        if is_definition && target.reservations.iter().all(is_past) {
            Ok(())
        } else {
            Err(Refusal::NotAPast)
        }
    }

    /// Whether so many reservations more find slots: free ones, those of forgotten ones, or new ones.
    fn has_slots_for(&self, partition: &Partition, count: usize, now: Timestamp) -> bool {
        let reservations = &partition.reservations;
        let reusable = reservations.reusable_count(self.forget_before(now), count);
        let more = RESERVATIONS_PER_PARTITION_MAX.saturating_sub(reservations.len());
        let room = self.options.reservation_count_max.saturating_sub(self.slot_count);
        count <= reusable.saturating_add(more.min(room))
    }

    /// The event of this index of a reset, from 0, below [`ResetPlan::event_count`]. Each is decided against the state
    /// in which those before it are applied; against an earlier one it differs only in numbers, not in size.
    ///
    /// # Panics
    /// When the plan was made for another target or another state than the one before the reset.
    pub fn reset_event(&self, target: &ResetTarget, plan: &ResetPlan, index: usize, now: Timestamp) -> Event {
        let partition = self
            .partition(plan.pool.partition())
            .expect("the plan names an existing pool");
        let sequence = partition.sequence + 1;
        if index == 0 {
            let is_release = |change: &&ResetChange| change.action == ResetAction::Release;
            let released_count = plan.changes.iter().filter(is_release).count();
            let restored_count = plan.changes.len() - released_count;
            let count = |count: usize| u32::try_from(count).expect("slots fit 32 bits");
            return Event::PoolReset(PoolReset {
                sequence,
                at: now,
                pool: plan.pool,
                to: target.to,
                change_count: count(plan.change_count()),
                released_count: count(released_count),
                restored_count: count(restored_count),
            });
        }
        let place = match (&plan.definition, index - 1) {
            (Some(definition), 0) => {
                let pool = partition.pools.get(plan.pool).expect("the plan names an existing pool");
                return Event::PoolChanged(PoolDefined {
                    sequence,
                    at: now,
                    pool: plan.pool,
                    version: pool.version() + 1,
                    definition: Arc::clone(definition),
                });
            }
            (Some(_), place) => place - 1,
            (None, place) => place,
        };
        let change = &plan.changes[place];
        match change.action {
            ResetAction::Release => {
                let found = partition.reservations.find(&change.reservation.parts());
                let (slot, entry) = found.expect("the plan releases what lives");
                Event::Released(Released {
                    sequence,
                    at: now,
                    reservation: change.reservation,
                    pool: plan.pool,
                    units: partition.reservations.units(slot),
                    was_confirmed: entry.state() == ReservationState::Confirmed,
                    cause: ReleaseCause::Reset,
                    occurred_at: Timestamp::ABSENT,
                })
            }
            ResetAction::Restore(index) => {
                let past = &target.reservations[index];
                Event::Restored(Box::new(self.restored_event(partition, plan.pool, past, now)))
            }
        }
    }

    fn restored_event(&self, partition: &Partition, pool: PoolId, past: &PastReservation, now: Timestamp) -> Restored {
        let forget_before = self.forget_before(now);
        let reservations = &partition.reservations;
        let found = reservations.find(&past.reservation.parts());
        let live = found.filter(|(_, entry)| !entry.state().is_ended());
        let known_version = found
            .filter(|(_, entry)| !entry.ended_before(forget_before))
            .map_or(0, |(_, entry)| entry.version);
        let (slot, generation, previous_state, previous_units) = match live {
            Some((slot, entry)) => (slot, entry.generation, Some(entry.state()), reservations.units(slot)),
            None => {
                let next = reservations.next_slot(forget_before);
                let next = next.filter(|next| self.has_room_for(partition, next.slot));
                let next = next.expect("the plan has counted the slots");
                (next.slot, next.generation, None, Units::default())
            }
        };
        let has_key = partition.find_key(past.key).is_none_or(|(holder, entry, _)| {
            entry.ended_before(forget_before) || found.is_some_and(|(found, _)| found == holder)
        });
        Restored {
            sequence: partition.sequence + 1,
            at: now,
            reservation: past.reservation,
            pool,
            key: past.key,
            slot,
            generation,
            created_at: past.created_at,
            units: past.units,
            requested_units: past.requested_units,
            hold_seconds: past.hold_seconds,
            expires_at: past.expires_at,
            version: past.version.max(known_version).saturating_add(1),
            would_refuse: past.would_refuse,
            has_key,
            previous_state,
            previous_units,
            reference: past.reference.clone(),
        }
    }

    /// The law does not hold here: what was may be more than what is allowed now, and the pool sells nothing until it is
    /// below again.
    pub(crate) fn apply_restored(&mut self, event: &Restored) {
        let parts = event.reservation.parts();
        let slot = event.slot;
        let partition = self.partition_mut(parts.partition);
        let slot_count = partition.reservations.len();
        let earlier = partition
            .reservations
            .find(&parts)
            .map(|(slot, entry)| (slot, entry.link));
        let mut node_before = None;
        if event.previous_state.is_some() {
            let (earlier, link) = earlier.expect("what lived has a slot");
            assert_eq!(earlier, slot, "what lives stays where it lies");
            node_before = (event.previous_state == Some(ReservationState::Held)).then_some(link);
        } else {
            // It stays in the queue of ended ones until its turn comes, and nothing leads to it any more.
            if let Some((earlier, _)) = earlier.filter(|(earlier, _)| *earlier != slot) {
                partition.reservations.lose_key(earlier);
                partition.reservations.orphan(earlier);
                partition.keys.remove(event.key, earlier);
            }
            if let Some(key) = partition.reservations.vacate(slot) {
                partition.keys.remove(key, slot);
            }
        }
        partition.reservations.put_restored(event);
        if event.has_key {
            partition.give_key(event.key, slot);
        } else {
            partition.keys.remove(event.key, slot);
        }
        let slot_count_after = partition.reservations.len();
        self.slot_count += slot_count_after - slot_count;
        if let Some(node) = node_before {
            self.holds.remove(node);
        }
        if let Some(deadline) = event.expires_at {
            let node = self.holds.insert(deadline, parts.partition, slot);
            self.partition_mut(parts.partition).reservations.set_link(slot, node);
        }
        let pool = self.touch_pool(event.pool, event.at);
        match event.previous_state {
            Some(ReservationState::Held) => pool.held.subtract(&event.previous_units),
            Some(ReservationState::Confirmed) => pool.confirmed.subtract(&event.previous_units),
            Some(ReservationState::Released | ReservationState::Expired) => panic!("what has ended takes nothing"),
            None => {}
        }
        match event.expires_at {
            Some(_) => pool.held.add(&event.units),
            None => pool.confirmed.add(&event.units),
        }
    }
}
