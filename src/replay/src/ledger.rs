//! One pool, followed event by event.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use plimsoll_domain::{Counters, Event, PastReservation, PoolDefinition, PoolId, ReservationId, Timestamp, Units};

use crate::budget::{Budget, Step};
use crate::effect::After;
use crate::error::ReplayError;
use crate::history::{History, RecordedEvent, Selection};
use crate::keys::keys_of_pool;
use crate::kind::reservation_of;

/// A pool as its events leave it: its definition, its counters, and the reservations that take units. Ended ones are forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolLedger {
    /// The pool.
    pub pool: PoolId,
    /// What holds; nothing before the pool exists.
    pub definition: Option<Arc<PoolDefinition>>,
    /// Counts the definitions.
    pub version: u64,
    /// What is held.
    pub held: Counters,
    /// What is confirmed.
    pub confirmed: Counters,
    /// What takes units.
    pub reservations: BTreeMap<ReservationId, PastReservation>,
    /// Whether the pool has left memory.
    pub is_retired: bool,
}

impl PoolLedger {
    /// The pool before its first event.
    pub fn new(pool: PoolId) -> PoolLedger {
        PoolLedger {
            pool,
            definition: None,
            version: 0,
            held: Counters::default(),
            confirmed: Counters::default(),
            reservations: BTreeMap::new(),
            is_retired: false,
        }
    }

    /// The pool as of a time: after its last event that is not later.
    ///
    /// # Errors
    /// As for [`Forward::next`](crate::Forward::next).
    pub fn at(history: &History, pool: PoolId, time: Timestamp) -> Result<PoolLedger, ReplayError> {
        let mut ledger = PoolLedger::new(pool);
        ledger.follow(history, time, |_, _, _| ControlFlow::Continue(()))?;
        Ok(ledger)
    }

    /// The pool as of a time, as [`PoolLedger::at`], read in pieces: `budget` gives what the next piece may take, and nothing when it shall not go on;
    /// then there is no ledger either.
    ///
    /// # Errors
    /// As for [`Forward::next`](crate::Forward::next).
    pub fn at_within(
        history: &History,
        pool: PoolId,
        time: Timestamp,
        mut budget: impl FnMut() -> Option<Budget>,
    ) -> Result<Option<PoolLedger>, ReplayError> {
        let mut ledger = PoolLedger::new(pool);
        let mut events = history.events(events_of(pool, time))?;
        while let Some(mut piece) = budget() {
            loop {
                match events.next_within(history, &mut piece)? {
                    Step::Next(recorded) if recorded.event.pool() == Some(pool) => ledger.take(&recorded.event),
                    Step::Next(_) => {}
                    Step::Paused => break,
                    Step::End => return Ok(Some(ledger)),
                }
            }
        }
        Ok(None)
    }

    /// Takes all of the pool's events up to a time, or until `each` breaks off, and gives each to `each`: with the reference of the reservation that it is
    /// about, if that has one, and with what it leaves.
    ///
    /// # Errors
    /// As for [`Forward::next`](crate::Forward::next).
    pub fn follow(
        &mut self,
        history: &History,
        until: Timestamp,
        mut each: impl FnMut(&RecordedEvent, Option<&str>, &PoolLedger) -> ControlFlow<()>,
    ) -> Result<(), ReplayError> {
        let mut events = history.events(events_of(self.pool, until))?;
        while let Some(recorded) = events.next(history)? {
            if recorded.event.pool() == Some(self.pool) {
                let reference = match (&recorded.event, reservation_of(&recorded.event)) {
                    (Event::Reserved(reserved), _) => reserved.reference.clone(),
                    (Event::Restored(restored), _) => restored.reference.clone(),
                    (_, Some(id)) => self
                        .reservations
                        .get(&id)
                        .and_then(|reservation| reservation.reference.clone()),
                    _ => None,
                };
                self.take(&recorded.event);
                if each(&recorded, reference.as_deref(), self).is_break() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The counters as they are.
    pub fn after(&self) -> After {
        After {
            limits: self
                .definition
                .as_ref()
                .map_or(Units::default(), |definition| definition.limits),
            held: self.held,
            confirmed: self.confirmed,
        }
    }

    /// Takes an event of this pool. One that does not follow from those before it is taken as far as it goes: whether history is whole is [`crate::verify`]'s
    /// question.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::PoolCreated(defined) | Event::PoolChanged(defined) => {
                self.definition = Some(Arc::clone(&defined.definition));
                self.version = defined.version;
            }
            Event::PoolRetired(_) => {
                self.is_retired = true;
                self.reservations.clear();
                self.held = Counters::default();
                self.confirmed = Counters::default();
            }
            Event::Reserved(event) => {
                let is_held = event.hold_seconds > 0;
                self.put(PastReservation {
                    reservation: event.reservation,
                    key: event.key,
                    created_at: event.at,
                    units: event.units,
                    requested_units: event.units,
                    hold_seconds: event.hold_seconds,
                    expires_at: is_held.then(|| event.at.plus_seconds(event.hold_seconds)),
                    version: 0,
                    would_refuse: event.would_refuse,
                    reference: event.reference.clone(),
                });
            }
            Event::Confirmed(event) => {
                if let Some(mut reservation) = self.end(event.reservation) {
                    reservation.expires_at = None;
                    self.put(reservation);
                }
            }
            Event::Released(event) => {
                self.end(event.reservation);
            }
            Event::Expired(event) => {
                self.end(event.reservation);
            }
            Event::Resized(event) => {
                if let Some(mut reservation) = self.end(event.reservation) {
                    reservation.units = event.units;
                    reservation.expires_at = event.expires_at;
                    reservation.version = event.version;
                    // A mark of shadow mode stays.
                    reservation.would_refuse |= event.would_refuse;
                    self.put(reservation);
                }
            }
            Event::Restored(event) => {
                // One that had ended is not there.
                self.end(event.reservation);
                self.put(PastReservation {
                    reservation: event.reservation,
                    key: event.key,
                    created_at: event.created_at,
                    units: event.units,
                    requested_units: event.requested_units,
                    hold_seconds: event.hold_seconds,
                    expires_at: event.expires_at,
                    version: event.version,
                    would_refuse: event.would_refuse,
                    reference: event.reference.clone(),
                });
            }
            Event::PoolReset(_) | Event::Swept(_) | Event::TurnedAway(_) => {}
        }
    }

    fn put(&mut self, reservation: PastReservation) {
        self.counters(&reservation).add(&reservation.units);
        self.reservations.insert(reservation.reservation, reservation);
    }

    fn end(&mut self, id: ReservationId) -> Option<PastReservation> {
        let reservation = self.reservations.remove(&id)?;
        self.counters(&reservation).subtract(&reservation.units);
        Some(reservation)
    }

    fn counters(&mut self, of: &PastReservation) -> &mut Counters {
        match of.expires_at {
            Some(_) => &mut self.held,
            None => &mut self.confirmed,
        }
    }
}

/// Where the events of a pool up to a time are; others come along.
fn events_of(pool: PoolId, until: Timestamp) -> Selection {
    Selection {
        partition: Some(pool.partition()),
        keys: Some(keys_of_pool(pool)),
        ..Selection::until(until)
    }
}
