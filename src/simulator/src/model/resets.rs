//! What taking a pool back to an earlier moment must lead to.

use std::collections::BTreeMap;
use std::sync::Arc;

use plimsoll_domain::{
    Counters, Event, PastReservation, PoolDefined, PoolDefinition, PoolId, PoolReset, ReleaseCause, Released,
    ReservationId, ReservationState, ResetAction, ResetChange, ResetTarget, Restored, Standing, Timestamp, Units,
};
use plimsoll_engine::ResetReport;
use plimsoll_protocol::Status;
use xxhash_rust::xxh3::Xxh3;

use super::{Model, ModelPool, ModelReservation, partition_of_slot};
use crate::checkers::{Promise, Violation, hold, violation};

/// What there was at some time.
#[derive(Clone)]
pub(crate) struct Moment {
    pub(crate) lsn: u64,
    pub(crate) at: i64,
    pub(crate) pools: BTreeMap<Box<str>, PastPool>,
}

/// A pool and what lived in it.
#[derive(Clone)]
pub(crate) struct PastPool {
    pub(crate) id: u64,
    pub(crate) definition: Arc<PoolDefinition>,
    pub(crate) reservations: Vec<PastReservation>,
}

/// An event of a reset, without its numbers.
pub(crate) enum Part {
    Mark,
    Define,
    Change(ResetChange),
}

/// What a reset must do.
pub(crate) struct ResetPrediction {
    pub(crate) report: ResetReport,
    pub(crate) parts: Vec<Part>,
    /// Slots that are found for certain, and those that may be found, are fewer than are needed.
    pub(crate) may_be_full: bool,
}

impl ModelReservation {
    fn past(&self) -> PastReservation {
        let event = &self.event;
        PastReservation {
            reservation: event.reservation,
            key: event.key,
            created_at: event.at,
            units: self.units,
            requested_units: event.units,
            hold_seconds: event.hold_seconds,
            expires_at: (self.state == ReservationState::Held).then_some(Timestamp(self.deadline)),
            version: self.version,
            would_refuse: self.would_refuse,
            reference: event.reference.clone(),
        }
    }

    fn standing(&self) -> Standing {
        let view = self.view();
        Standing {
            state: view.state,
            units: view.units,
            expires_at: view.expires_at,
        }
    }
}

fn standing_of(past: &PastReservation) -> Standing {
    Standing {
        state: past
            .expires_at
            .map_or(ReservationState::Confirmed, |_| ReservationState::Held),
        units: past.units,
        expires_at: past.expires_at,
    }
}

fn is_over(past: &PastReservation, now: i64) -> bool {
    past.expires_at.is_some_and(|deadline| deadline.0 <= now)
}

impl Model {
    /// Everything that lives.
    pub(crate) fn moment(&self, lsn: u64, at: i64) -> Moment {
        let pools = self.pools.iter().map(|(id, pool)| {
            let past = PastPool {
                id: *id,
                definition: Arc::clone(&pool.definition),
                reservations: self.live_in(*id).map(ModelReservation::past).collect(),
            };
            (pool.name.clone(), past)
        });
        Moment {
            lsn,
            at,
            pools: pools.collect(),
        }
    }

    /// In the order of their ids.
    fn live_in(&self, pool: u64) -> impl Iterator<Item = &ModelReservation> {
        let all = self.reservations.values();
        all.filter(move |found| found.ended_at.is_none() && found.event.pool.0 == pool)
    }

    /// What the engine's reports say as version.
    pub(crate) fn version_of(&self, id: u64, pool: &ModelPool) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(&id.to_le_bytes());
        hash.update(&pool.version.to_le_bytes());
        for found in self.live_in(id) {
            hash.update(&found.event.reservation.0.to_le_bytes());
            hash.update(&[found.state as u8]);
            found.units.0.iter().for_each(|unit| hash.update(&unit.to_le_bytes()));
            let deadline = found.view().expires_at.unwrap_or(Timestamp::ABSENT);
            hash.update(&deadline.0.to_le_bytes());
            hash.update(&found.version.to_le_bytes());
        }
        hash.digest()
    }

    pub(crate) fn decide_reset(
        &self,
        name: &str,
        target: &ResetTarget,
        expected_version: Option<u64>,
        now: i64,
    ) -> Result<ResetPrediction, Status> {
        let id = self.pool_id(name).ok_or(Status::PoolNotFound)?;
        let pool = &self.pools[&id];
        let version = self.version_of(id, pool);
        if expected_version.is_some_and(|expected| expected != version) {
            return Err(Status::ChangedMeanwhile);
        }
        let stays = |id: ReservationId| {
            let past = target.reservations.iter().find(|past| past.reservation == id);
            past.is_some_and(|past| !is_over(past, now))
        };
        let released = self.live_in(id).filter(|found| !stays(found.event.reservation));
        let mut changes: Vec<_> = released
            .map(|found| ResetChange {
                reservation: found.event.reservation,
                action: ResetAction::Release,
                before: Some(found.standing()),
                after: Standing {
                    state: ReservationState::Released,
                    expires_at: None,
                    ..found.standing()
                },
                reference: found.event.reference.clone(),
            })
            .collect();
        let mut slots_needed = 0;
        for (index, past) in target.reservations.iter().enumerate() {
            let before = self.remembered(past.reservation.0, now).map(ModelReservation::standing);
            let after = standing_of(past);
            if is_over(past, now) || before == Some(after) {
                continue;
            }
            slots_needed += usize::from(before.is_none_or(|before| before.state.is_ended()));
            changes.push(ResetChange {
                reservation: past.reservation,
                action: ResetAction::Restore(index),
                before,
                after,
                reference: past.reference.clone(),
            });
        }
        let (sure, maybe) = self.slots_for(PoolId(id), now);
        if slots_needed > sure + maybe {
            return Err(Status::Overloaded);
        }
        let definition = target.definition.as_ref().filter(|past| **past != *pool.definition);
        let definition_after = definition.map_or_else(|| Arc::clone(&pool.definition), |past| Arc::new(past.clone()));
        let (mut held, mut confirmed) = (pool.held, pool.confirmed);
        for change in &changes {
            for (standing, sign) in [(change.before, -1), (Some(change.after), 1)] {
                let Some(standing) = standing else { continue };
                let sums = match standing.state {
                    ReservationState::Held => &mut held,
                    ReservationState::Confirmed => &mut confirmed,
                    ReservationState::Released | ReservationState::Expired => continue,
                };
                let pairs = sums.iter_mut().zip(standing.units.0);
                pairs.for_each(|(sum, unit)| *sum += sign * i64::from(unit));
            }
        }
        let mut parts: Vec<Part> = definition.map(|_| Part::Define).into_iter().collect();
        parts.extend(changes.iter().cloned().map(Part::Change));
        if !parts.is_empty() {
            parts.insert(0, Part::Mark);
        }
        Ok(ResetPrediction {
            report: ResetReport {
                pool: PoolId(id),
                version,
                is_done: true,
                definition: (Arc::clone(&pool.definition), definition_after),
                changes,
                held: (Counters(pool.held), Counters(held)),
                confirmed: (Counters(pool.confirmed), Counters(confirmed)),
            },
            parts,
            may_be_full: slots_needed > sure,
        })
    }

    /// How many reservations of the pool's partition find slots, for certain and perhaps.
    fn slots_for(&self, pool: PoolId, now: i64) -> (usize, usize) {
        let mut sure = self.rules.reservation_count_max.saturating_sub(self.slots.len());
        let mut maybe = 0;
        for (slot, id) in &self.slots {
            if partition_of_slot(*slot) != pool.partition().0 {
                continue;
            }
            if self.is_reusable(*slot, *id, now) {
                sure = sure.saturating_add(1);
            } else if self.reservations.get(id).is_some_and(|found| self.is_gone(found, now)) {
                maybe += 1;
            }
        }
        (sure, maybe)
    }

    /// The event of a part as it must be now, but for the slot and its generation.
    pub(crate) fn part_event(&self, part: &Part, target: &ResetTarget, report: &ResetReport, now: i64) -> Event {
        let (pool, at) = (report.pool, Timestamp(now));
        let sequence = self.sequences.get(&pool.partition().0).map_or(1, |last| last + 1);
        match part {
            Part::Mark => {
                let is_release = |change: &&ResetChange| change.action == ResetAction::Release;
                let released_count = report.changes.iter().filter(is_release).count() as u32;
                let defined_count = u32::from(report.definition.0 != report.definition.1);
                Event::PoolReset(PoolReset {
                    sequence,
                    at,
                    pool,
                    to: target.to,
                    change_count: report.changes.len() as u32 + defined_count,
                    released_count,
                    restored_count: report.changes.len() as u32 - released_count,
                })
            }
            Part::Define => Event::PoolChanged(PoolDefined {
                sequence,
                at,
                pool,
                version: self.pools[&pool.0].version + 1,
                definition: Arc::clone(&report.definition.1),
            }),
            Part::Change(change) => match change.action {
                ResetAction::Release => Event::Released(Released {
                    sequence,
                    at,
                    reservation: change.reservation,
                    pool,
                    units: change.after.units,
                    was_confirmed: change
                        .before
                        .is_some_and(|before| before.state == ReservationState::Confirmed),
                    cause: ReleaseCause::Reset,
                    occurred_at: Timestamp::ABSENT,
                }),
                ResetAction::Restore(index) => {
                    let past = &target.reservations[index];
                    Event::Restored(Box::new(self.restored(sequence, pool, past, now)))
                }
            },
        }
    }

    fn restored(&self, sequence: u64, pool: PoolId, past: &PastReservation, now: i64) -> Restored {
        let known = self.remembered(past.reservation.0, now);
        let live = known.filter(|known| known.ended_at.is_none());
        let holder = self.keys.get(&(pool.partition().0, past.key.0));
        let is_held = holder.is_some_and(|id| {
            *id != past.reservation.0 && self.reservations.get(id).is_some_and(|found| !self.is_gone(found, now))
        });
        let version = past.version.max(known.map_or(0, |known| known.version));
        Restored {
            sequence,
            at: Timestamp(now),
            reservation: past.reservation,
            pool,
            key: past.key,
            slot: 0,
            generation: 0,
            created_at: past.created_at,
            units: past.units,
            requested_units: past.requested_units,
            hold_seconds: past.hold_seconds,
            expires_at: past.expires_at,
            version: version.saturating_add(1),
            would_refuse: past.would_refuse,
            has_key: !is_held,
            previous_state: live.map(|live| live.state),
            previous_units: live.map_or(Units::default(), |live| live.units),
            reference: past.reference.clone(),
        }
    }

    pub(super) fn apply_reset(&mut self, event: &PoolReset) -> Result<(), Violation> {
        match self.pools.get_mut(&event.pool.0) {
            Some(pool) => {
                pool.last_event = event.at.0;
                Ok(())
            }
            None => violation(Promise::Order, || {
                format!("a pool that does not exist is reset: {event:?}")
            }),
        }
    }

    pub(super) fn apply_restored(&mut self, event: &Restored) -> Result<(), Violation> {
        let (id, now) = (event.reservation.0, event.at.0);
        let partition = event.pool.partition().0;
        let place = u64::from(partition) << 40 | u64::from(event.slot);
        let Some(found) = self.reservations.get(&id).cloned() else {
            return violation(Promise::OneEffect, || format!("what never was is restored: {event:?}"));
        };
        let past = PastReservation {
            units: event.units,
            expires_at: event.expires_at,
            version: event.version,
            would_refuse: event.would_refuse,
            ..found.past()
        };
        let told = PastReservation {
            key: event.key,
            created_at: event.created_at,
            requested_units: event.requested_units,
            hold_seconds: event.hold_seconds,
            reference: event.reference.clone(),
            ..past.clone()
        };
        hold(
            past == told && event.pool == found.event.pool,
            Promise::OneEffect,
            || format!("{event:?} tells another reservation than {found:?}"),
        )?;
        let live = found.ended_at.is_none();
        let before = live.then_some((found.state, found.units));
        let told_before = event.previous_state.map(|state| (state, event.previous_units));
        hold(before == told_before, Promise::Oversold, || {
            format!("{event:?} does not follow {found:?}")
        })?;
        if live {
            hold(found.slot == place, Promise::OneEffect, || {
                format!("what lives changes its slot: {event:?}, {found:?}")
            })?;
        } else {
            if let Some(other) = self.slots.get(&place) {
                let is_free = self.is_reusable(place, *other, now)
                    || self
                        .reservations
                        .get(other)
                        .is_some_and(|other| self.is_gone(other, now));
                hold(is_free, Promise::OneEffect, || {
                    format!("{event:?} takes a slot that is not free")
                })?;
            }
            if self.slots.get(&found.slot) == Some(&id) {
                self.slots.insert(found.slot, 0);
                self.husks.insert(found.slot, found.ended_at.unwrap_or(now));
            }
            self.husks.remove(&place);
            self.slots.insert(place, id);
        }
        let holder = self.keys.get(&(partition, event.key.0)).filter(|holder| **holder != id);
        let is_taken = holder.is_some_and(|holder| !self.is_gone(&self.reservations[holder], now));
        hold(event.has_key != is_taken, Promise::OneEffect, || {
            format!("{event:?} tells who has the key, and {holder:?} is known to have it: {is_taken}")
        })?;
        if event.has_key {
            self.keys.insert((partition, event.key.0), id);
        }
        self.held.remove(&(found.deadline, id));
        let Some(pool) = self.pools.get_mut(&event.pool.0) else {
            return violation(Promise::Order, || {
                format!("units of a pool that does not exist: {event:?}")
            });
        };
        if live {
            let sums = pool.counters(found.state).iter_mut().zip(found.units.0);
            sums.for_each(|(sum, unit)| *sum -= i64::from(unit));
        }
        let state = standing_of(&told).state;
        let sums = pool.counters(state).iter_mut().zip(event.units.0);
        sums.for_each(|(sum, unit)| *sum += i64::from(unit));
        pool.last_event = now;
        let first_deadline = event.created_at.0 + i64::from(event.hold_seconds) * 1_000_000;
        let deadline = event.expires_at.map_or(first_deadline, |at| at.0);
        if state == ReservationState::Held {
            self.held.insert((deadline, id));
        }
        let restored = ModelReservation {
            units: event.units,
            state,
            deadline,
            is_moved: deadline != first_deadline,
            ended_at: None,
            version: event.version,
            would_refuse: event.would_refuse,
            slot: place,
            event: found.event,
        };
        self.reservations.insert(id, restored);
        Ok(())
    }
}
