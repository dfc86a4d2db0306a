//! What one core must know, kept naively: maps of everything, and every rule checked where an event breaks it.
//!
//! Two uses: it decides each command once more, before the events of the turn are known; and it takes the events that the journal holds,
//! live and after a recovery, and is compared with the engine's state.

use std::collections::BTreeMap;

use plimsoll_domain::{
    Command, Counters, Event, PoolDefined, PoolDefinition, PutPool, Release, Released, ReservationState,
    ReservationView, Reserve, Reserved, State, Timestamp, partition_of,
};
use plimsoll_protocol::Status;

use crate::checkers::{Promise, Violation, hold, violation};

#[derive(Clone, Debug)]
pub(crate) struct ModelPool {
    pub(crate) name: Box<str>,
    pub(crate) definition: Box<PoolDefinition>,
    pub(crate) version: u64,
    pub(crate) held: [i64; 8],
    pub(crate) confirmed: [i64; 8],
}

impl ModelPool {
    fn ceiling(&self, dimension: usize) -> i64 {
        i64::from(self.definition.limits.0[dimension]) + i64::from(self.definition.overbook.0[dimension])
    }

    pub(crate) fn remaining(&self) -> [i64; 8] {
        std::array::from_fn(|dimension| self.ceiling(dimension) - self.held[dimension] - self.confirmed[dimension])
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ModelReservation {
    pub(crate) event: Reserved,
    pub(crate) ended_at: Option<i64>,
}

impl ModelReservation {
    pub(crate) fn state(&self) -> ReservationState {
        match (self.ended_at, self.event.hold_seconds) {
            (Some(_), _) => ReservationState::Released,
            (None, 0) => ReservationState::Confirmed,
            (None, _) => ReservationState::Held,
        }
    }

    pub(crate) fn view(&self) -> ReservationView {
        let event = &self.event;
        let deadline = event.at.0 + i64::from(event.hold_seconds) * 1_000_000;
        ReservationView {
            id: event.reservation,
            pool: event.pool,
            units: event.units,
            state: self.state(),
            created_at: event.at,
            expires_at: (event.hold_seconds != 0).then_some(Timestamp(deadline)),
            would_refuse: event.would_refuse,
        }
    }
}

/// What a command must lead to.
#[derive(Debug)]
pub(crate) enum Prediction {
    /// An event, if there is room for it.
    Change {
        would_refuse: bool,
    },
    Standing(ReservationView),
    Refused(Status),
    Insufficient {
        short: u8,
        remaining: [i64; 8],
    },
}

/// What a definition must lead to.
#[derive(Debug)]
pub(crate) enum PutPrediction {
    Change { is_new: bool, version: u64 },
    Unchanged { pool: u64, version: u64 },
    Refused(Status),
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    retention_micros: i64,
    pub(crate) pools: BTreeMap<u64, ModelPool>,
    names: BTreeMap<Box<str>, u64>,
    reservations: BTreeMap<u128, ModelReservation>,
    /// By partition and key.
    keys: BTreeMap<(u16, u128), u128>,
    /// By partition and slot.
    slots: BTreeMap<u64, u128>,
    sequences: BTreeMap<u16, u64>,
}

impl Model {
    pub(crate) fn new(retention_micros: i64) -> Model {
        Model {
            retention_micros,
            pools: BTreeMap::new(),
            names: BTreeMap::new(),
            reservations: BTreeMap::new(),
            keys: BTreeMap::new(),
            slots: BTreeMap::new(),
            sequences: BTreeMap::new(),
        }
    }

    pub(crate) fn reservation(&self, id: u128) -> Option<&ModelReservation> {
        self.reservations.get(&id)
    }

    /// The reservation, unless it is forgotten at this time.
    pub(crate) fn remembered(&self, id: u128, now: i64) -> Option<&ModelReservation> {
        let found = self.reservations.get(&id)?;
        let is_current = self.slots.get(&slot_of(id)) == Some(&id);
        (is_current && !self.is_forgotten(found, now)).then_some(found)
    }

    pub(crate) fn pool_id(&self, name: &str) -> Option<u64> {
        self.names.get(name).copied()
    }

    fn is_forgotten(&self, reservation: &ModelReservation, now: i64) -> bool {
        reservation
            .ended_at
            .is_some_and(|ended_at| ended_at < now.saturating_sub(self.retention_micros))
    }

    pub(crate) fn decide(&self, command: &Command, now: i64) -> Prediction {
        match command {
            Command::Reserve(reserve) => self.decide_reserve(reserve, now),
            Command::Release(release) => self.decide_release(release, now),
        }
    }

    fn decide_reserve(&self, reserve: &Reserve, now: i64) -> Prediction {
        let earlier = self
            .keys
            .get(&(reserve.pool.partition().0, reserve.key.0))
            .map(|id| &self.reservations[id]);
        if let Some(earlier) = earlier.filter(|earlier| !self.is_forgotten(earlier, now)) {
            let is_same = earlier.event.pool == reserve.pool
                && earlier.event.units == reserve.units
                && earlier.event.hold_seconds == reserve.hold_seconds
                && earlier.event.reference == reserve.reference;
            return if is_same {
                Prediction::Standing(earlier.view())
            } else {
                Prediction::Refused(Status::KeyReused)
            };
        }
        let Some(pool) = self.pools.get(&reserve.pool.0) else {
            return Prediction::Refused(Status::PoolNotFound);
        };
        let definition = &pool.definition;
        if definition.closed {
            return Prediction::Refused(Status::PoolClosed);
        }
        if now < definition.opens_at.0 {
            return Prediction::Refused(Status::PoolNotOpenYet);
        }
        if now >= definition.closes_at.0 {
            return Prediction::Refused(Status::PoolPastClosing);
        }
        let remaining = pool.remaining();
        let mut short = 0;
        for (dimension, units) in reserve.units.0.iter().enumerate() {
            if *units > 0 && i64::from(*units) > remaining[dimension] {
                short |= 1 << dimension;
            }
        }
        if short != 0 && !definition.shadow {
            return Prediction::Insufficient { short, remaining };
        }
        Prediction::Change {
            would_refuse: short != 0,
        }
    }

    fn decide_release(&self, release: &Release, now: i64) -> Prediction {
        match self.remembered(release.reservation.0, now) {
            None => Prediction::Refused(Status::ReservationNotFound),
            Some(found) if found.ended_at.is_some() => Prediction::Standing(found.view()),
            Some(_) => Prediction::Change { would_refuse: false },
        }
    }

    pub(crate) fn decide_put(&self, put: &PutPool) -> PutPrediction {
        let expected = put.expected_version;
        match self.pool_id(&put.definition.name) {
            None if expected.is_some_and(|version| version != PutPool::MUST_NOT_EXIST) => {
                PutPrediction::Refused(Status::ChangedMeanwhile)
            }
            None => PutPrediction::Change {
                is_new: true,
                version: 1,
            },
            Some(id) => {
                let pool = &self.pools[&id];
                if expected.is_some_and(|version| version != pool.version) {
                    PutPrediction::Refused(Status::ChangedMeanwhile)
                } else if *pool.definition == put.definition {
                    PutPrediction::Unchanged {
                        pool: id,
                        version: pool.version,
                    }
                } else {
                    PutPrediction::Change {
                        is_new: false,
                        version: pool.version + 1,
                    }
                }
            }
        }
    }

    /// Takes an event, if it is one that may follow what is known.
    pub(crate) fn apply(&mut self, event: &Event) -> Result<(), Violation> {
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
            Event::Released(event) => self.apply_released(event),
            Event::PoolCreated(event) => self.apply_defined(event, true),
            Event::PoolChanged(event) => self.apply_defined(event, false),
        }
    }

    fn apply_reserved(&mut self, event: &Reserved) -> Result<(), Violation> {
        let id = event.reservation.0;
        hold(!self.reservations.contains_key(&id), Promise::OneEffect, || {
            format!("reservation {id:#x} is made twice")
        })?;
        for (what, earlier) in [
            ("key", self.keys.get(&(event.pool.partition().0, event.key.0))),
            ("slot", self.slots.get(&slot_of(id))),
        ] {
            if let Some(earlier) = earlier.map(|id| &self.reservations[id]) {
                hold(self.is_forgotten(earlier, event.at.0), Promise::OneEffect, || {
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
        let sums = if event.hold_seconds == 0 {
            &mut pool.confirmed
        } else {
            &mut pool.held
        };
        let mut is_over = false;
        for (sum, units) in sums.iter_mut().zip(event.units.0) {
            *sum += i64::from(units);
        }
        for (dimension, units) in event.units.0.iter().enumerate() {
            is_over |= *units > 0 && pool.held[dimension] + pool.confirmed[dimension] > pool.ceiling(dimension);
        }
        let is_shadow = pool.definition.shadow;
        hold(
            is_over == event.would_refuse && (is_shadow || !is_over),
            Promise::Oversold,
            || {
                format!(
                    "pool {} is over its ceiling: {is_over}, in shadow mode: {is_shadow}; {pool:?}, {event:?}",
                    pool.name
                )
            },
        )?;
        self.keys.insert((event.pool.partition().0, event.key.0), id);
        self.slots.insert(slot_of(id), id);
        self.reservations.insert(
            id,
            ModelReservation {
                event: event.clone(),
                ended_at: None,
            },
        );
        Ok(())
    }

    fn apply_released(&mut self, event: &Released) -> Result<(), Violation> {
        let id = event.reservation.0;
        let Some(found) = self.reservations.get_mut(&id).filter(|found| found.ended_at.is_none()) else {
            return violation(Promise::OneEffect, || {
                format!("what does not live is released: {event:?}")
            });
        };
        let was_confirmed = found.event.hold_seconds == 0;
        hold(
            event.units == found.event.units && event.pool == found.event.pool && event.was_confirmed == was_confirmed,
            Promise::Oversold,
            || format!("{event:?} does not give back what was taken: {found:?}"),
        )?;
        found.ended_at = Some(event.at.0);
        let pool = self.pools.get_mut(&event.pool.0).expect("the pool of a reservation");
        let sums = if was_confirmed {
            &mut pool.confirmed
        } else {
            &mut pool.held
        };
        for (sum, units) in sums.iter_mut().zip(event.units.0) {
            *sum -= i64::from(units);
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
            let is_fresh = !self.pools.contains_key(&event.pool.0);
            hold(is_fresh, Promise::Order, || {
                format!("two pools have the id {:#x}", event.pool.0)
            })?;
            self.names.insert(name.clone(), event.pool.0);
            let pool = ModelPool {
                name: name.clone(),
                definition: event.definition.clone(),
                version: 1,
                held: [0; 8],
                confirmed: [0; 8],
            };
            self.pools.insert(event.pool.0, pool);
        } else {
            let pool = self.pools.get_mut(&event.pool.0).expect("a known pool");
            (pool.definition, pool.version) = (event.definition.clone(), event.version);
        }
        Ok(())
    }

    /// The state shows exactly what the model knows.
    pub(crate) fn compare(&self, state: &State) -> Result<(), Violation> {
        let differs = |what: &str, detail: String| {
            violation(Promise::Forgotten, || {
                format!("the state differs from what its events make, in {what}: {detail}")
            })
        };
        if state.pool_count() != self.pools.len() {
            return differs(
                "pools",
                format!("{} instead of {}", state.pool_count(), self.pools.len()),
            );
        }
        for (id, pool) in &self.pools {
            let id = plimsoll_domain::PoolId(*id);
            let found = state.pool(id).filter(|_| state.pool_id(&pool.name) == Some(id));
            let is_equal = found.is_some_and(|found| {
                *found.held() == Counters(pool.held)
                    && *found.confirmed() == Counters(pool.confirmed)
                    && found.version() == pool.version
                    && *found.definition() == *pool.definition
                    && found.remaining().0 == pool.remaining()
            });
            if !is_equal {
                return differs("a pool", format!("{found:?} instead of {pool:?}"));
            }
        }
        let mut count = 0;
        for view in state.reservations(Timestamp::ABSENT) {
            count += 1;
            let expected = self
                .reservations
                .get(&view.id.0)
                .filter(|_| self.slots.get(&slot_of(view.id.0)) == Some(&view.id.0));
            let reference = expected.and_then(|expected| expected.event.reference.as_deref());
            if expected.map(ModelReservation::view) != Some(view) || state.reference(view.id) != reference {
                return differs("a reservation", format!("{view:?} instead of {expected:?}"));
            }
        }
        if count != self.slots.len() {
            return differs("reservations", format!("{count} instead of {}", self.slots.len()));
        }
        Ok(())
    }
}

/// Partition and slot of a reservation id.
fn slot_of(id: u128) -> u64 {
    (id >> 72) as u64
}
