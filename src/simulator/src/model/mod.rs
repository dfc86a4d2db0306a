//! What one core must know, kept naively: maps of everything, and every rule checked where an event breaks it.
//!
//! Two uses: it decides each command once more, before the events of the turn are known; and it takes the events that the journal holds,
//! live and after a recovery, and is compared with the engine's state.

mod apply;
mod compare;
mod decide;
mod resets;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) use resets::{Moment, Part};

use plimsoll_domain::{PoolDefinition, ReservationState, ReservationView, Reserved, Timestamp, Units};
use plimsoll_protocol::Status;

/// What the engine was told, as far as it decides what happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) dimension_count: usize,
    pub(crate) retention_micros: i64,
    pub(crate) retire_after_micros: i64,
    pub(crate) grace_micros: i64,
    pub(crate) reservation_count_max: usize,
    pub(crate) pool_count_max: usize,
}

impl Rules {
    /// A pool stays this long after its end and its last event.
    pub(crate) fn pool_wait_micros(&self) -> i64 {
        self.retire_after_micros.max(self.retention_micros)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ModelPool {
    pub(crate) name: Box<str>,
    pub(crate) definition: Arc<PoolDefinition>,
    pub(crate) version: u64,
    pub(crate) held: [i64; 8],
    pub(crate) confirmed: [i64; 8],
    pub(crate) last_event: i64,
}

impl ModelPool {
    fn ceiling(&self, dimension: usize) -> i64 {
        i64::from(self.definition.limits.0[dimension]) + i64::from(self.definition.overbook.0[dimension])
    }

    pub(crate) fn remaining(&self) -> [i64; 8] {
        std::array::from_fn(|dimension| self.ceiling(dimension) - self.held[dimension] - self.confirmed[dimension])
    }

    /// Held and confirmed together.
    pub(crate) fn reserved(&self) -> [i64; 8] {
        std::array::from_fn(|dimension| self.held[dimension] + self.confirmed[dimension])
    }

    /// The dimensions in which so much more does not fit, a bit each.
    fn short(&self, units: &Units) -> u8 {
        let remaining = self.remaining();
        let mut short = 0;
        for (dimension, units) in units.0.iter().enumerate() {
            if *units > 0 && i64::from(*units) > remaining[dimension] {
                short |= 1 << dimension;
            }
        }
        short
    }

    fn counters(&mut self, state: ReservationState) -> &mut [i64; 8] {
        match state {
            ReservationState::Held => &mut self.held,
            _ => &mut self.confirmed,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ModelReservation {
    pub(crate) event: Reserved,
    pub(crate) units: Units,
    pub(crate) state: ReservationState,
    /// Of a hold.
    pub(crate) deadline: i64,
    /// The deadline is not the first one.
    is_moved: bool,
    pub(crate) ended_at: Option<i64>,
    pub(crate) version: u16,
    would_refuse: bool,
    /// Partition and slot where it lies.
    slot: u64,
}

impl ModelReservation {
    pub(crate) fn view(&self) -> ReservationView {
        let event = &self.event;
        let expires_at = match self.state {
            ReservationState::Held => Some(self.deadline),
            // When it ended, once the deadline is not the first one any more.
            ReservationState::Expired if self.is_moved => self.ended_at,
            ReservationState::Expired => Some(self.deadline),
            ReservationState::Confirmed | ReservationState::Released => None,
        };
        ReservationView {
            id: event.reservation,
            pool: event.pool,
            units: self.units,
            state: self.state,
            created_at: event.at,
            expires_at: expires_at.map(Timestamp),
            version: self.version,
            would_refuse: self.would_refuse,
        }
    }
}

/// Whether a reserve finds a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotRoom {
    Sure,
    /// What belonged to a retired pool may have been forgotten by now, or not.
    Maybe,
    None,
}

/// What a command must lead to.
#[derive(Debug)]
pub(crate) enum Prediction {
    Reserve {
        would_refuse: bool,
        slot_room: SlotRoom,
    },
    /// The hold's deadline has passed, and its end is recorded before that is told.
    Lapsed,
    /// A confirmation or a release.
    Move,
    Resize {
        units: Units,
        grows: bool,
        expires_at: Option<i64>,
        version: u16,
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
    pub(crate) rules: Rules,
    pub(crate) pools: BTreeMap<u64, ModelPool>,
    names: BTreeMap<Box<str>, u64>,
    retired: BTreeSet<u64>,
    reservations: BTreeMap<u128, ModelReservation>,
    /// By deadline.
    held: BTreeSet<(i64, u128)>,
    /// By partition and key.
    keys: BTreeMap<(u16, u128), u128>,
    /// By partition and slot; 0 where only a husk is.
    slots: BTreeMap<u64, u128>,
    /// By partition and slot, when that ended which a reset has brought back in another slot.
    husks: BTreeMap<u64, i64>,
    sequences: BTreeMap<u16, u64>,
}

impl Model {
    pub(crate) fn new(rules: Rules) -> Model {
        Model {
            rules,
            pools: BTreeMap::new(),
            names: BTreeMap::new(),
            retired: BTreeSet::new(),
            reservations: BTreeMap::new(),
            held: BTreeSet::new(),
            keys: BTreeMap::new(),
            slots: BTreeMap::new(),
            husks: BTreeMap::new(),
            sequences: BTreeMap::new(),
        }
    }

    pub(crate) fn reservation(&self, id: u128) -> Option<&ModelReservation> {
        self.reservations.get(&id)
    }

    /// The reservation, unless it is forgotten at this time.
    pub(crate) fn remembered(&self, id: u128, now: i64) -> Option<&ModelReservation> {
        let found = self.reservations.get(&id)?;
        let is_current = self.slots.get(&found.slot) == Some(&id);
        (is_current && !self.is_gone(found, now)).then_some(found)
    }

    pub(crate) fn pool_id(&self, name: &str) -> Option<u64> {
        self.names.get(name).copied()
    }

    /// The earliest deadline of a hold.
    pub(crate) fn first_deadline(&self) -> Option<i64> {
        self.held.first().map(|(deadline, _)| *deadline)
    }

    pub(crate) fn held_count(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn retired_count(&self) -> usize {
        self.retired.len()
    }

    /// A pool whose life is over and that is still there.
    pub(crate) fn overdue_pool(&self, now: i64) -> Option<&ModelPool> {
        self.pools.values().find(|pool| self.is_pool_over(pool, now))
    }

    fn is_pool_over(&self, pool: &ModelPool, now: i64) -> bool {
        let ended_at = pool.definition.ends_at.0.max(pool.last_event);
        pool.held == [0; 8] && ended_at.saturating_add(self.rules.pool_wait_micros()) < now
    }

    fn is_forgotten(&self, reservation: &ModelReservation, now: i64) -> bool {
        self.is_long_ago(reservation.ended_at, now)
    }

    fn is_long_ago(&self, ended_at: Option<i64>, now: i64) -> bool {
        ended_at.is_some_and(|ended_at| ended_at < now.saturating_sub(self.rules.retention_micros))
    }

    /// Whether what the slot has ended long enough ago.
    fn is_reusable(&self, slot: u64, id: u128, now: i64) -> bool {
        match self.reservations.get(&id) {
            Some(found) => self.is_forgotten(found, now),
            None => self.is_long_ago(self.husks.get(&slot).copied(), now),
        }
    }

    /// Forgotten, or its pool is retired.
    fn is_gone(&self, reservation: &ModelReservation, now: i64) -> bool {
        self.retired.contains(&reservation.event.pool.0) || self.is_forgotten(reservation, now)
    }
}

/// Partition and slot of a reservation id.
fn slot_of(id: u128) -> u64 {
    (id >> 72) as u64
}

/// The partition of a partition and slot.
fn partition_of_slot(slot: u64) -> u16 {
    (slot >> 40) as u16
}
