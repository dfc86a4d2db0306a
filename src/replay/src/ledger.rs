//! One pool, followed event by event.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use plimsoll_domain::{
    Counters, Event, Key, PoolDefinition, PoolId, ReservationId, ReservationState, Timestamp, Units,
};

use crate::effect::After;
use crate::error::ReplayError;
use crate::history::{EventRange, History, RecordedEvent};
use crate::keys::keys_of_pool;
use crate::kind::reservation_of;

/// A reservation that takes units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerReservation {
    /// The caller's key.
    pub key: Key,
    /// When it was made.
    pub created_at: Timestamp,
    /// What it takes.
    pub units: Units,
    /// What was asked for first.
    pub requested_units: Units,
    /// The hold that was asked for first, in seconds; 0: confirmed at once.
    pub hold_seconds: u32,
    /// Held or confirmed.
    pub state: ReservationState,
    /// When a hold expires.
    pub expires_at: Option<Timestamp>,
    /// Counts its resizes.
    pub version: u16,
    /// Enforcement would have refused it.
    pub would_refuse: bool,
    /// The caller's own name for it.
    pub reference: Option<Box<str>>,
}

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
    pub reservations: BTreeMap<ReservationId, LedgerReservation>,
    /// Whether the pool has left memory.
    pub is_retired: bool,
}

/// All pools that lived at a time, each after its last event that is not later. Memory is in proportion to what lived then.
///
/// # Errors
/// As for [`crate::Events::next`].
pub fn ledgers_at(history: &History, time: Timestamp) -> Result<HashMap<PoolId, PoolLedger>, ReplayError> {
    let mut ledgers: HashMap<PoolId, PoolLedger> = HashMap::new();
    let mut events = history.events(&EventRange {
        until: time,
        ..EventRange::ALL
    })?;
    while let Some(recorded) = events.next()? {
        let Some(pool) = recorded.event.pool() else { continue };
        let ledger = ledgers.entry(pool).or_insert_with(|| PoolLedger::new(pool));
        ledger.take(&recorded.event);
        if ledger.is_retired {
            ledgers.remove(&pool);
        }
    }
    Ok(ledgers)
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
    /// As for [`crate::Events::next`].
    pub fn at(history: &History, pool: PoolId, time: Timestamp) -> Result<PoolLedger, ReplayError> {
        let mut ledger = PoolLedger::new(pool);
        ledger.follow(history, time, |_, _, _| ())?;
        Ok(ledger)
    }

    /// Takes all of the pool's events up to a time, and gives each to `each`: with the reference of the reservation that it is about, if that has one, and
    /// with what it leaves.
    ///
    /// # Errors
    /// As for [`crate::Events::next`].
    pub fn follow(
        &mut self,
        history: &History,
        until: Timestamp,
        mut each: impl FnMut(&RecordedEvent, Option<&str>, &PoolLedger),
    ) -> Result<(), ReplayError> {
        let mut events = history.events(&EventRange {
            until,
            partition: Some(self.pool.partition()),
            keys: Some(keys_of_pool(self.pool)),
            ..EventRange::ALL
        })?;
        while let Some(recorded) = events.next()? {
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
                each(&recorded, reference.as_deref(), self);
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
                let reservation = LedgerReservation {
                    key: event.key,
                    created_at: event.at,
                    units: event.units,
                    requested_units: event.units,
                    hold_seconds: event.hold_seconds,
                    state: if is_held {
                        ReservationState::Held
                    } else {
                        ReservationState::Confirmed
                    },
                    expires_at: is_held.then(|| event.at.plus_seconds(event.hold_seconds)),
                    version: 0,
                    would_refuse: event.would_refuse,
                    reference: event.reference.clone(),
                };
                self.put(event.reservation, reservation);
            }
            Event::Confirmed(event) => {
                if let Some(mut reservation) = self.end(event.reservation) {
                    reservation.state = ReservationState::Confirmed;
                    reservation.expires_at = None;
                    self.put(event.reservation, reservation);
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
                    // Shadow mode's mark is that of the last change that added units.
                    reservation.would_refuse |= event.would_refuse;
                    self.put(event.reservation, reservation);
                }
            }
            Event::Restored(event) => {
                // One that had ended is not there.
                self.end(event.reservation);
                let reservation = LedgerReservation {
                    key: event.key,
                    created_at: event.created_at,
                    units: event.units,
                    requested_units: event.requested_units,
                    hold_seconds: event.hold_seconds,
                    state: match event.expires_at {
                        Some(_) => ReservationState::Held,
                        None => ReservationState::Confirmed,
                    },
                    expires_at: event.expires_at,
                    version: event.version,
                    would_refuse: event.would_refuse,
                    reference: event.reference.clone(),
                };
                self.put(event.reservation, reservation);
            }
            Event::PoolReset(_) | Event::Swept(_) | Event::TurnedAway(_) => {}
        }
    }

    fn put(&mut self, id: ReservationId, reservation: LedgerReservation) {
        self.counters(reservation.state).add(&reservation.units);
        self.reservations.insert(id, reservation);
    }

    fn end(&mut self, id: ReservationId) -> Option<LedgerReservation> {
        let reservation = self.reservations.remove(&id)?;
        self.counters(reservation.state).subtract(&reservation.units);
        Some(reservation)
    }

    fn counters(&mut self, state: ReservationState) -> &mut Counters {
        if state == ReservationState::Held {
            &mut self.held
        } else {
            &mut self.confirmed
        }
    }
}
