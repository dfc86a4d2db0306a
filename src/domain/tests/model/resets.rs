//! Pools that go back to an earlier moment.

use std::collections::BTreeMap;

use plimsoll_domain::{
    Event, PastReservation, PoolDefined, PoolDefinition, PoolId, PoolReset, Refusal, ReleaseCause, Released,
    ReservationId, ReservationState, ResetTarget, Restored, Timestamp, Units,
};
use proptest::prelude::*;

use crate::Run;
use crate::faults::Fault;
use crate::naive::{Model, ModelReservation};
use crate::steps::Version;

/// What lived at some time.
pub(crate) struct Moment {
    at: i64,
    pools: BTreeMap<String, (PoolId, PoolDefinition, Vec<PastReservation>)>,
}

/// A part of a reset.
#[derive(Clone, Debug)]
enum Part {
    Mark { released: u32, restored: u32 },
    Define(PoolDefinition),
    Release(ReservationId),
    Restore(PastReservation),
}

impl ModelReservation {
    fn is_live(&self) -> bool {
        self.ended.is_none()
    }

    fn past(&self) -> PastReservation {
        PastReservation {
            reservation: self.id(),
            key: self.event.key,
            created_at: self.event.at,
            units: self.units,
            requested_units: self.event.units,
            hold_seconds: self.event.hold_seconds,
            expires_at: self.is_held().then_some(Timestamp(self.deadline)),
            version: self.version,
            would_refuse: self.would_refuse,
            reference: self.event.reference.clone(),
        }
    }

    /// What tells whether anything has changed.
    fn listing(&self) -> String {
        let deadline = self.is_held().then_some(self.deadline);
        format!(
            "{:?} {:?} {:?} {deadline:?} {}",
            self.id(),
            self.state,
            self.units,
            self.version
        )
    }
}

impl Model {
    pub(crate) fn moment(&self) -> Moment {
        let pools = self.pools.iter().map(|(name, pool)| {
            let live = self.live_in(pool.id).map(ModelReservation::past).collect();
            (name.clone(), (pool.id, pool.definition.clone(), live))
        });
        Moment {
            at: self.now,
            pools: pools.collect(),
        }
    }

    fn live_in(&self, pool: PoolId) -> impl Iterator<Item = &ModelReservation> {
        let all = self.reservations.iter().filter(|reservation| !reservation.is_husk);
        all.filter(move |reservation| reservation.is_live() && reservation.event.pool == pool)
    }

    fn listing(&self, pool: PoolId) -> String {
        let mut live: Vec<String> = self.live_in(pool).map(ModelReservation::listing).collect();
        live.sort_unstable();
        let version = self.pool(pool).map(|pool| pool.version);
        format!("{pool:?} {version:?} {live:?}")
    }

    fn plan(&self, pool: PoolId, target: &ResetTarget) -> Result<Vec<Part>, Refusal> {
        let definition = &self.pool(pool).ok_or(Refusal::PoolNotFound)?.definition;
        let is_over = |past: &PastReservation| {
            past.expires_at.is_some_and(|at| at.0 <= self.now) && !self.has(Fault::ResetOverlooksDeadlines)
        };
        let mut released: Vec<ReservationId> = self
            .live_in(pool)
            .map(ModelReservation::id)
            .filter(|id| {
                let past = target.reservations.iter().find(|past| past.reservation == *id);
                past.is_none_or(is_over)
            })
            .collect();
        released.sort_unstable();
        let restored: Vec<&PastReservation> = target
            .reservations
            .iter()
            .filter(|past| !is_over(past))
            .filter(|past| {
                let live = self.live_in(pool).find(|live| live.id() == past.reservation);
                live.is_none_or(|live| {
                    let now = live.past();
                    (now.units, now.expires_at) != (past.units, past.expires_at)
                })
            })
            .collect();
        let dead = restored
            .iter()
            .filter(|past| self.live_in(pool).all(|live| live.id() != past.reservation));
        let partition = &self.partitions[&pool.partition().0];
        let forgotten = self
            .in_slots(pool.partition())
            .filter(|reservation| self.is_past_retention(reservation));
        let room = self.bounds.reservation_count_max.saturating_sub(self.slot_count());
        if dead.count() > partition.free_slots.len() + forgotten.count() + room.min(1_000_000) {
            return Err(Refusal::Full);
        }
        let mut parts = Vec::new();
        parts.extend(
            target
                .definition
                .clone()
                .filter(|past| past != definition)
                .map(Part::Define),
        );
        let (released_count, restored_count) = (released.len() as u32, restored.len() as u32);
        parts.extend(released.into_iter().map(Part::Release));
        parts.extend(restored.into_iter().cloned().map(Part::Restore));
        if !parts.is_empty() {
            let mark = Part::Mark {
                released: released_count,
                restored: restored_count,
            };
            parts.insert(0, mark);
        }
        Ok(parts)
    }

    /// The event of a part, against what there is now.
    fn part_event(&self, pool: PoolId, target: &ResetTarget, part: &Part, part_count: usize) -> Event {
        let sequence = self.next_sequence(pool.partition());
        let at = Timestamp(self.now);
        match part {
            Part::Mark { released, restored } => Event::PoolReset(PoolReset {
                sequence,
                at,
                pool,
                to: target.to,
                change_count: part_count as u32 - 1,
                released_count: *released,
                restored_count: *restored,
            }),
            Part::Define(definition) => Event::PoolChanged(PoolDefined {
                sequence,
                at,
                pool,
                version: self.pool(pool).map_or(0, |pool| pool.version) + 1,
                definition: definition.clone().into(),
            }),
            Part::Release(id) => {
                let reservation = self.live_in(pool).find(|live| live.id() == *id).expect("it lives");
                Event::Released(Released {
                    sequence,
                    at,
                    reservation: *id,
                    pool,
                    units: reservation.units,
                    was_confirmed: !reservation.is_held(),
                    cause: ReleaseCause::Reset,
                    occurred_at: Timestamp::ABSENT,
                })
            }
            Part::Restore(past) => Event::Restored(Box::new(self.restored(pool, past))),
        }
    }

    fn restored(&self, pool: PoolId, past: &PastReservation) -> Restored {
        let known = self.reservation(past.reservation);
        let live = self.live_in(pool).find(|live| live.id() == past.reservation);
        let (slot, generation) = match live {
            Some(live) => (
                live.slot,
                self.partitions[&pool.partition().0].generations[live.slot as usize],
            ),
            None => self.next_slot(pool.partition()).expect("there is room"),
        };
        let holder = self.known().find(|other| {
            other.has_key && other.event.key == past.key && other.event.pool.partition() == pool.partition()
        });
        let version = past.version.max(known.map_or(0, |known| known.version));
        Restored {
            sequence: self.next_sequence(pool.partition()),
            at: Timestamp(self.now),
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
            version: version + u16::from(!self.has(Fault::RestoringKeepsVersion)),
            would_refuse: past.would_refuse,
            has_key: holder.is_none_or(|holder| holder.id() == past.reservation) || self.has(Fault::RestoringTakesKey),
            previous_state: live.map(|live| live.state),
            previous_units: live.map_or(Units::default(), |live| live.units),
            reference: past.reference.clone(),
        }
    }

    pub(crate) fn apply_restored(&mut self, event: &Restored) {
        let (slot, partition) = (event.slot, event.pool.partition());
        let forgets_key = self.has(Fault::RestoredKeyForgotten);
        let ended = self
            .reservations
            .iter()
            .position(|found| !found.is_husk && found.id() == event.reservation && !found.is_live());
        if let Some(place) = ended {
            let found = &mut self.reservations[place];
            if found.has_slot {
                let husk = ModelReservation {
                    is_husk: true,
                    event: found.event.clone(),
                    ..*found
                };
                self.reservations.push(husk);
            }
            self.take_slot(partition, slot, event.generation);
        }
        let reservation = self.reservation_mut(event.reservation);
        reservation.slot = slot;
        reservation.has_slot = true;
        reservation.has_key = event.has_key && !forgets_key;
        reservation.state = match event.expires_at {
            Some(_) => ReservationState::Held,
            None => ReservationState::Confirmed,
        };
        reservation.units = event.units;
        let first_deadline = event.created_at.0 + i64::from(event.hold_seconds) * 1_000_000;
        reservation.deadline = event.expires_at.map_or(first_deadline, |at| at.0);
        reservation.has_moved_deadline = reservation.deadline != first_deadline;
        reservation.version = event.version;
        reservation.would_refuse = event.would_refuse;
        reservation.ended = None;
    }
}

impl Run {
    pub(crate) fn reset(
        &mut self,
        name: usize,
        moment: prop::sample::Index,
        has_definition: bool,
        version: Version,
    ) -> Result<(), TestCaseError> {
        if self.moments.is_empty() {
            return Ok(());
        }
        let pool = self.pool(name);
        let moment = &self.moments[moment.index(self.moments.len())];
        let past = moment.pools.get(&self.names[name]);
        let Some((_, definition, reservations)) = past.filter(|(id, ..)| *id == pool) else {
            return Ok(());
        };
        let target = ResetTarget {
            to: Timestamp(moment.at),
            definition: has_definition.then(|| definition.clone()),
            reservations: reservations.clone(),
        };
        let now = Timestamp(self.model.now);
        let plan = self.state.plan_reset(pool, &target, None, now);
        let parts = self.model.plan(pool, &target);
        let (plan, parts) = match (plan, parts) {
            (Ok(plan), Ok(parts)) => (plan, parts),
            (plan, parts) => {
                prop_assert_eq!(plan.err(), parts.err(), "of {:?}", target);
                return Ok(());
            }
        };
        // Equal versions mean equal pools, and the other way round.
        let listing = self.model.listing(pool);
        prop_assert_eq!(
            self.versions.entry(plan.version).or_insert_with(|| listing.clone()),
            &listing
        );
        let version_count = self.versions.values().filter(|earlier| **earlier == listing).count();
        prop_assert_eq!(version_count, 1, "two versions of one pool: {}", listing);
        let expected = match version {
            Version::Any | Version::MustNotExist => None,
            Version::Current => Some(plan.version),
            Version::Other => Some(plan.version ^ 1),
        };
        let again = self.state.plan_reset(pool, &target, expected, now);
        if matches!(version, Version::Other) {
            prop_assert_eq!(again, Err(Refusal::ChangedMeanwhile));
            return Ok(());
        }
        prop_assert_eq!(again.as_ref(), Ok(&plan));
        prop_assert_eq!(plan.event_count(), parts.len(), "{:?} instead of {:?}", plan, parts);
        prop_assert_eq!((plan.held.0, plan.confirmed.0), self.model.sums(pool));
        let listed = plan.changes.iter().map(|change| change.reservation);
        let expected = parts.iter().filter_map(|part| match part {
            Part::Release(id) => Some(*id),
            Part::Restore(past) => Some(past.reservation),
            Part::Mark { .. } | Part::Define(_) => None,
        });
        prop_assert!(listed.eq(expected), "{:?} instead of {:?}", plan.changes, parts);
        for change in &plan.changes {
            let view = self.state.reservation(change.reservation, now);
            prop_assert_eq!(change.before.map(|before| before.state), view.map(|view| view.state));
        }
        for (index, part) in parts.iter().enumerate() {
            let event = self.state.reset_event(&target, &plan, index, now);
            prop_assert_eq!(&event, &self.model.part_event(pool, &target, part, parts.len()));
            self.apply(event)?;
        }
        prop_assert_eq!((plan.held.1, plan.confirmed.1), self.model.sums(pool));
        for change in &plan.changes {
            let view = self
                .state
                .reservation(change.reservation, now)
                .expect("it has just changed");
            let after = change.after;
            prop_assert_eq!(
                (view.state, view.units, view.expires_at),
                (after.state, after.units, after.expires_at)
            );
        }
        let again = self.state.plan_reset(pool, &target, None, now);
        let left = again.map(|plan| plan.event_count());
        prop_assert_eq!(left, Ok(0), "a second reset finds something to do");
        Ok(())
    }
}
