//! What an event does, if it is one that may follow what is known.

use std::sync::Arc;

use plimsoll_domain::{
    Event, Moved, PoolDefined, PoolRetired, Released, ReservationState, Reserved, ResizeCause, Resized, Swept,
    TurnedAway, Units, partition_of,
};

use super::{Model, ModelPool, ModelReservation, slot_of};
use crate::checkers::{Promise, Violation, hold, violation};

impl Model {
    /// Takes an event of this time.
    pub(crate) fn apply(&mut self, event: &Event, at: i64) -> Result<(), Violation> {
        let sequence = self.sequences.entry(event.partition().0).or_default();
        *sequence += 1;
        let expected = *sequence;
        hold(event.sequence() == expected, Promise::Order, || {
            format!(
                "event {} of partition {} comes as number {expected}",
                event.sequence(),
                event.partition().0
            )
        })?;
        match event {
            Event::Reserved(event) => self.apply_reserved(event),
            Event::Confirmed(event) => self.apply_confirmed(event),
            Event::Released(event) => self.apply_released(event),
            Event::Expired(event) => self.apply_expired(event),
            Event::Resized(event) => self.apply_resized(event),
            Event::PoolCreated(event) => self.apply_defined(event, true),
            Event::PoolChanged(event) => self.apply_defined(event, false),
            Event::PoolRetired(event) => self.apply_retired(event, at),
            Event::Swept(event) => self.apply_swept(event, at),
            Event::TurnedAway(event) => self.apply_turned_away(event, at),
            Event::PoolReset(event) => self.apply_reset(event),
            Event::Restored(event) => self.apply_restored(event),
        }
    }

    fn apply_reserved(&mut self, event: &Reserved) -> Result<(), Violation> {
        let id = event.reservation.0;
        hold(!self.reservations.contains_key(&id), Promise::OneEffect, || {
            format!("reservation {id:#x} is made twice")
        })?;
        let husk = self.husks.remove(&slot_of(id));
        hold(
            husk.is_none() || self.is_long_ago(husk, event.at.0),
            Promise::OneEffect,
            || format!("a reservation has the slot of one that ended at {husk:?}: {event:?}"),
        )?;
        for (what, earlier) in [
            ("key", self.keys.get(&(event.pool.partition().0, event.key.0))),
            ("slot", self.slots.get(&slot_of(id))),
        ] {
            if let Some(earlier) = earlier.and_then(|id| self.reservations.get(id)) {
                hold(self.is_gone(earlier, event.at.0), Promise::OneEffect, || {
                    format!("a second reservation has the {what} of {earlier:?}, which is not forgotten: {event:?}")
                })?;
            }
        }
        hold(
            event.reservation.parts().partition == event.pool.partition(),
            Promise::Order,
            || format!("the id of a reservation is not of its pool's partition: {event:?}"),
        )?;
        let Some(pool) = self.pools.get_mut(&event.pool.0) else {
            return violation(Promise::Order, || {
                format!("units of a pool that does not exist: {event:?}")
            });
        };
        let state = if event.hold_seconds == 0 {
            ReservationState::Confirmed
        } else {
            ReservationState::Held
        };
        add(pool.counters(state), &event.units);
        pool.last_event = event.at.0;
        hold_law(pool, &event.units, event.would_refuse, &event)?;
        let deadline = event.at.0 + i64::from(event.hold_seconds) * 1_000_000;
        if state == ReservationState::Held {
            self.held.insert((deadline, id));
        }
        self.keys.insert((event.pool.partition().0, event.key.0), id);
        self.slots.insert(slot_of(id), id);
        let reservation = ModelReservation {
            event: event.clone(),
            units: event.units,
            state,
            deadline,
            is_moved: false,
            ended_at: None,
            version: 0,
            would_refuse: event.would_refuse,
            slot: slot_of(id),
        };
        self.reservations.insert(id, reservation);
        Ok(())
    }

    /// The live reservation that an event names, with its pool; the event must tell pool and units as they are.
    fn live(
        &mut self,
        id: u128,
        told: (u64, &Units),
        event: &dyn std::fmt::Debug,
    ) -> Result<(&mut ModelReservation, &mut ModelPool), Violation> {
        let reservation = self.reservations.get_mut(&id).filter(|found| found.ended_at.is_none());
        let Some(reservation) = reservation else {
            return violation(Promise::OneEffect, || format!("what does not live changes: {event:?}"));
        };
        let is_right = told == (reservation.event.pool.0, &reservation.units);
        hold(is_right, Promise::Oversold, || {
            format!("{event:?} does not tell what was taken: {reservation:?}")
        })?;
        match self.pools.get_mut(&told.0) {
            Some(pool) => Ok((reservation, pool)),
            None => violation(Promise::Oversold, || {
                format!("units of a pool that is retired: {event:?}")
            }),
        }
    }

    fn apply_confirmed(&mut self, event: &Moved) -> Result<(), Violation> {
        let id = event.reservation.0;
        let (found, pool) = self.live(id, (event.pool.0, &event.units), event)?;
        hold(
            found.state == ReservationState::Held && event.at.0 < found.deadline,
            Promise::Time,
            || format!("not a hold before its deadline is confirmed: {event:?}, {found:?}"),
        )?;
        found.state = ReservationState::Confirmed;
        let place = (found.deadline, id);
        subtract(&mut pool.held, &event.units);
        add(&mut pool.confirmed, &event.units);
        pool.last_event = event.at.0;
        self.held.remove(&place);
        Ok(())
    }

    fn apply_expired(&mut self, event: &Moved) -> Result<(), Violation> {
        let id = event.reservation.0;
        let (found, pool) = self.live(id, (event.pool.0, &event.units), event)?;
        hold(
            found.state == ReservationState::Held && found.deadline <= event.at.0,
            Promise::Time,
            || format!("not a hold past its deadline expires: {event:?}, {found:?}"),
        )?;
        (found.state, found.ended_at) = (ReservationState::Expired, Some(event.at.0));
        let place = (found.deadline, id);
        subtract(&mut pool.held, &event.units);
        pool.last_event = event.at.0;
        self.held.remove(&place);
        Ok(())
    }

    fn apply_released(&mut self, event: &Released) -> Result<(), Violation> {
        let id = event.reservation.0;
        let (found, pool) = self.live(id, (event.pool.0, &event.units), event)?;
        let state = found.state;
        hold(
            event.was_confirmed == (state == ReservationState::Confirmed),
            Promise::Oversold,
            || format!("{event:?} does not give back what was taken: {found:?}"),
        )?;
        (found.state, found.ended_at) = (ReservationState::Released, Some(event.at.0));
        let place = (found.deadline, id);
        subtract(pool.counters(state), &event.units);
        pool.last_event = event.at.0;
        self.held.remove(&place);
        Ok(())
    }

    fn apply_resized(&mut self, event: &Resized) -> Result<(), Violation> {
        let id = event.reservation.0;
        let grace_micros = self.rules.grace_micros;
        let (found, pool) = self.live(id, (event.pool.0, &event.previous_units), event)?;
        let is_held = found.state == ReservationState::Held;
        let is_over = is_held && found.deadline <= event.at.0;
        let is_right = match event.cause {
            ResizeCause::Asked => !is_over && event.version == found.version + 1,
            ResizeCause::Downtime => {
                is_over
                    && event.version == found.version
                    && event.units == event.previous_units
                    && event.expires_at.is_some_and(|time| time.0 == event.at.0 + grace_micros)
            }
        };
        hold(is_right && event.expires_at.is_some() == is_held, Promise::Time, || {
            format!("{event:?} does not follow {found:?}, with {grace_micros} us of grace")
        })?;
        let mut grown = event.units;
        for (unit, before) in grown.0.iter_mut().zip(event.previous_units.0) {
            *unit = unit.saturating_sub(before);
        }
        let counters = pool.counters(found.state);
        subtract(counters, &event.previous_units);
        add(counters, &event.units);
        pool.last_event = event.at.0;
        found.units = event.units;
        found.version = event.version;
        found.would_refuse |= event.would_refuse;
        let old_place = (found.deadline, id);
        if let Some(expires_at) = event.expires_at {
            found.is_moved |= found.deadline != expires_at.0;
            found.deadline = expires_at.0;
        }
        let place = (found.deadline, id);
        hold_law(pool, &grown, event.would_refuse, event)?;
        if is_held {
            self.held.remove(&old_place);
            self.held.insert(place);
        }
        Ok(())
    }

    fn apply_defined(&mut self, event: &PoolDefined, is_new: bool) -> Result<(), Violation> {
        let name = &event.definition.name;
        let known = self.names.get(name).copied();
        let version = known.map_or(0, |id| self.pools[&id].version);
        let is_right = known.is_none() == is_new
            && (is_new || known == Some(event.pool.0))
            && event.version == version + 1
            && event.pool.partition() == partition_of(name);
        hold(is_right, Promise::Order, || {
            format!("{event:?} follows version {version} of pool {known:?}")
        })?;
        if is_new {
            let is_fresh = !self.pools.contains_key(&event.pool.0) && !self.retired.contains(&event.pool.0);
            hold(is_fresh, Promise::Order, || {
                format!("two pools have the id {:#x}", event.pool.0)
            })?;
            self.names.insert(name.clone(), event.pool.0);
            let pool = ModelPool {
                name: name.clone(),
                definition: Arc::clone(&event.definition),
                version: 1,
                held: [0; 8],
                confirmed: [0; 8],
                last_event: event.at.0,
            };
            self.pools.insert(event.pool.0, pool);
        } else {
            let pool = self.pools.get_mut(&event.pool.0).expect("a known pool");
            (pool.definition, pool.version) = (Arc::clone(&event.definition), event.version);
            pool.last_event = event.at.0;
        }
        Ok(())
    }

    fn apply_retired(&mut self, event: &PoolRetired, at: i64) -> Result<(), Violation> {
        let Some(pool) = self.pools.remove(&event.pool.0) else {
            return violation(Promise::Order, || {
                format!("a pool that does not exist retires: {event:?}")
            });
        };
        hold(self.is_pool_over(&pool, at), Promise::Time, || {
            format!(
                "a pool retires at {at}, before its life is over: {pool:?}, {:?}",
                self.rules
            )
        })?;
        self.names.remove(&pool.name);
        self.retired.insert(event.pool.0);
        Ok(())
    }

    /// What it takes away shows when the state is compared: it must have been gone for everybody.
    fn apply_swept(&self, event: &Swept, at: i64) -> Result<(), Violation> {
        let forget_before = at.saturating_sub(self.rules.retention_micros);
        hold(event.ended_before.0 <= forget_before, Promise::OneEffect, || {
            format!("what ended after {forget_before} is forgotten at {at}: {event:?}")
        })
    }

    fn apply_turned_away(&self, event: &TurnedAway, at: i64) -> Result<(), Violation> {
        let is_right =
            self.pools.contains_key(&event.pool.0) && event.refusals > 0 && event.since <= event.at && event.at.0 == at;
        hold(is_right, Promise::LostDemand, || {
            format!("lost demand at {at} that nobody can have: {event:?}")
        })
    }
}

fn add(sums: &mut [i64; 8], units: &Units) {
    sums.iter_mut()
        .zip(units.0)
        .for_each(|(sum, units)| *sum += i64::from(units));
}

fn subtract(sums: &mut [i64; 8], units: &Units) {
    sums.iter_mut()
        .zip(units.0)
        .for_each(|(sum, units)| *sum -= i64::from(units));
}

/// What was added leaves an enforcing pool at its ceiling or below, and the event says whether it did.
fn hold_law(pool: &ModelPool, added: &Units, would_refuse: bool, event: &dyn std::fmt::Debug) -> Result<(), Violation> {
    let reserved = pool.reserved();
    let is_over = (0..8).any(|dimension| added.0[dimension] > 0 && reserved[dimension] > pool.ceiling(dimension));
    let is_shadow = pool.definition.shadow;
    hold(
        is_over == would_refuse && (is_shadow || !is_over),
        Promise::Oversold,
        || {
            format!(
                "pool {} is over its ceiling: {is_over}, in shadow mode: {is_shadow}; {pool:?}, {event:?}",
                pool.name
            )
        },
    )
}
