//! The naive model: everything there ever was in plain lists, every question answered by going through all of them.

use std::collections::BTreeMap;

use plimsoll_domain::limits::DIMENSION_COUNT_MAX;
use plimsoll_domain::{
    Counters, PartitionId, PoolDefinition, PoolId, ReservationId, ReservationParts, ReservationState, ReservationView,
    Reserved, State, Sweep, Timestamp, Units,
};
use proptest::prelude::*;

use crate::faults::Fault;

pub(crate) const RETENTION_MICROS: i64 = 100;
pub(crate) const RETIRE_AFTER_MICROS: i64 = 2_000_000;
pub(crate) const START: i64 = 1_000_000_000;

#[derive(Clone)]
pub(crate) struct ModelReservation {
    /// What was asked for first.
    pub(crate) event: Reserved,
    pub(crate) state: ReservationState,
    /// What it takes, or took when it ended.
    pub(crate) units: Units,
    pub(crate) deadline: i64,
    pub(crate) has_moved_deadline: bool,
    pub(crate) version: u16,
    pub(crate) would_refuse: bool,
    /// When it ended, and how many had ended before it.
    pub(crate) ended: Option<(i64, usize)>,
    /// Where it lies, or lay.
    pub(crate) slot: u32,
    /// Whether its key leads to it.
    pub(crate) has_key: bool,
    /// What is left in the slot of an ended one that lives again in another.
    pub(crate) is_husk: bool,
    /// Whether its slot and its id still are its own.
    pub(crate) has_slot: bool,
}

impl ModelReservation {
    pub(crate) fn id(&self) -> ReservationId {
        self.event.reservation
    }

    pub(crate) fn is_held(&self) -> bool {
        self.state == ReservationState::Held
    }

    pub(crate) fn view(&self) -> ReservationView {
        let event = &self.event;
        let expires_at = match self.state {
            ReservationState::Held => Some(self.deadline),
            ReservationState::Expired if self.has_moved_deadline => self.ended.map(|(at, _)| at),
            ReservationState::Expired => Some(event.at.0 + i64::from(event.hold_seconds) * 1_000_000),
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

pub(crate) struct ModelPool {
    pub(crate) id: PoolId,
    pub(crate) version: u64,
    pub(crate) last_event: i64,
    pub(crate) definition: PoolDefinition,
}

#[derive(Default)]
pub(crate) struct ModelPartition {
    pub(crate) sequence: u64,
    /// By slot of a reservation, the generation of its last use.
    pub(crate) generations: Vec<u16>,
    /// Slots that were swept; the last one is used first.
    pub(crate) free_slots: Vec<u32>,
    /// By slot of a pool, the generation of its last use.
    pub(crate) pool_generations: Vec<u32>,
    /// Slots of pools that can be used again; the last one is used first.
    pub(crate) free_pool_slots: Vec<u32>,
    /// Retired pools whose slots cannot be used again yet, with the events that retired them.
    pub(crate) retired: Vec<(PoolId, u64)>,
    pub(crate) sweep: Sweep,
}

/// How much the model and the state hold at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) reservation_count_max: usize,
    pub(crate) pool_count_max: usize,
}

pub(crate) struct Model {
    pub(crate) fault: Option<Fault>,
    pub(crate) dimension_count: usize,
    pub(crate) bounds: Bounds,
    pub(crate) now: i64,
    pub(crate) partitions: BTreeMap<u16, ModelPartition>,
    pub(crate) pools: BTreeMap<String, ModelPool>,
    /// In the order in which they were made.
    pub(crate) reservations: Vec<ModelReservation>,
    pub(crate) ended_count: usize,
}

impl Model {
    pub(crate) fn new(dimension_count: usize, bounds: Bounds, fault: Option<Fault>) -> Model {
        Model {
            fault,
            dimension_count,
            bounds,
            now: START,
            partitions: BTreeMap::new(),
            pools: BTreeMap::new(),
            reservations: Vec::new(),
            ended_count: 0,
        }
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(crate) fn next_sequence(&self, partition: PartitionId) -> u64 {
        self.partitions
            .get(&partition.0)
            .map_or(1, |partition| partition.sequence + 1)
    }

    pub(crate) fn partition_mut(&mut self, id: PartitionId) -> &mut ModelPartition {
        self.partitions.entry(id.0).or_default()
    }

    pub(crate) fn pool(&self, id: PoolId) -> Option<&ModelPool> {
        self.pools.values().find(|pool| pool.id == id)
    }

    pub(crate) fn pool_mut(&mut self, id: PoolId) -> &mut ModelPool {
        let mut pools = self.pools.values_mut();
        pools.find(|pool| pool.id == id).expect("events name existing pools")
    }

    pub(crate) fn is_past_retention(&self, reservation: &ModelReservation) -> bool {
        let early = i64::from(self.has(Fault::KeyForgottenOneMicrosecondEarly));
        reservation
            .ended
            .is_some_and(|(at, _)| self.now - at > RETENTION_MICROS - early)
    }

    fn is_known(&self, reservation: &ModelReservation) -> bool {
        let has_pool = self.pool(reservation.event.pool).is_some() || self.has(Fault::RetiredPoolStillFound);
        reservation.has_slot && !reservation.is_husk && has_pool && !self.is_past_retention(reservation)
    }

    /// The reservations that are not forgotten.
    pub(crate) fn known(&self) -> impl Iterator<Item = &ModelReservation> {
        self.reservations
            .iter()
            .filter(|reservation| self.is_known(reservation))
    }

    /// The reservation of this id, unless it is forgotten.
    pub(crate) fn reservation(&self, id: ReservationId) -> Option<&ModelReservation> {
        self.known().find(|reservation| reservation.id() == id)
    }

    /// The reservation that an event names.
    pub(crate) fn reservation_mut(&mut self, id: ReservationId) -> &mut ModelReservation {
        let mut all = self.reservations.iter_mut();
        all.find(|reservation| reservation.id() == id && !reservation.is_husk)
            .expect("events name reservations that were made")
    }

    /// Held and confirmed units of a pool.
    pub(crate) fn sums(&self, pool: PoolId) -> (Counters, Counters) {
        let (mut held, mut confirmed) = (Counters::default(), Counters::default());
        for reservation in &self.reservations {
            let counters = match reservation.state {
                ReservationState::Held => &mut held,
                ReservationState::Confirmed => &mut confirmed,
                _ if self.has(Fault::EndedStillCounts) => &mut held,
                _ => continue,
            };
            if reservation.event.pool == pool {
                for dimension in 0..DIMENSION_COUNT_MAX {
                    counters.0[dimension] += i64::from(reservation.units.0[dimension]);
                }
            }
        }
        (held, confirmed)
    }

    pub(crate) fn remaining(&self, pool: &ModelPool) -> Counters {
        let (held, confirmed) = self.sums(pool.id);
        let mut remaining = Counters::default();
        for dimension in 0..DIMENSION_COUNT_MAX {
            let allowance = match self.fault {
                Some(Fault::AllowanceOverlooked) => 0,
                _ => i64::from(pool.definition.overbook.0[dimension]),
            };
            remaining.0[dimension] =
                i64::from(pool.definition.limits.0[dimension]) + allowance - held.0[dimension] - confirmed.0[dimension];
        }
        remaining
    }

    /// How many slots for reservations there are.
    pub(crate) fn slot_count(&self) -> usize {
        let counts = self.partitions.values().map(|partition| partition.generations.len());
        counts.sum()
    }

    /// The reservations that have a slot in the partition.
    pub(crate) fn in_slots(&self, partition: PartitionId) -> impl Iterator<Item = &ModelReservation> {
        self.reservations
            .iter()
            .filter(move |reservation| reservation.has_slot && reservation.event.pool.partition() == partition)
    }

    /// Where the next reservation of the partition goes: slot and generation. `None` when there is no room.
    pub(crate) fn next_slot(&self, id: PartitionId) -> Option<(u32, u16)> {
        let step = u16::from(!self.has(Fault::GenerationStays));
        let partition = &self.partitions[&id.0];
        let free = match self.fault {
            Some(Fault::FreeSlotsOldestFirst) => partition.free_slots.first(),
            _ => partition.free_slots.last(),
        };
        let oldest = || {
            self.in_slots(id)
                .filter(|reservation| self.is_past_retention(reservation))
                .min_by_key(|reservation| reservation.ended)
                .map(|reservation| reservation.slot)
        };
        if let Some(slot) = free.copied().or_else(oldest) {
            return Some((slot, partition.generations[slot as usize].wrapping_add(step)));
        }
        let room = self.bounds.reservation_count_max + usize::from(self.has(Fault::OneReservationTooMany));
        (self.slot_count() < room).then_some((partition.generations.len() as u32, 0))
    }

    /// Whether the pool's life is over.
    pub(crate) fn may_retire(&self, pool: &ModelPool) -> bool {
        let is_held = self
            .reservations
            .iter()
            .any(|reservation| reservation.is_held() && reservation.event.pool == pool.id);
        let last_event = match self.fault {
            Some(Fault::RetirementOverlooksEvents) => i64::MIN,
            _ => pool.last_event,
        };
        let ended_at = pool.definition.ends_at.0.max(last_event);
        ended_at + RETIRE_AFTER_MICROS < self.now && (!is_held || self.has(Fault::HeldPoolRetires))
    }

    /// Everything that shows to callers.
    pub(crate) fn check_shown(&self, state: &State) -> Result<(), TestCaseError> {
        let now = Timestamp(self.now);
        prop_assert_eq!(state.pool_count(), self.pools.len());
        prop_assert_eq!(state.reservation_slot_count(), self.slot_count());
        let held_count = self.reservations.iter().filter(|reservation| reservation.is_held());
        prop_assert_eq!(state.held_count(), held_count.count());
        let names: Vec<&str> = state
            .pools_after("")
            .map(|(_, pool)| &*pool.definition().name)
            .collect();
        prop_assert!(names.iter().copied().eq(self.pools.keys()), "{:?}", names);
        for (name, expected) in &self.pools {
            prop_assert_eq!(state.pool_id(name), Some(expected.id));
            let pool = state.pool(expected.id).expect("the id of an existing pool");
            prop_assert_eq!(&**pool.definition(), &expected.definition);
            prop_assert_eq!(pool.version(), expected.version);
            prop_assert_eq!((*pool.held(), *pool.confirmed()), self.sums(expected.id));
            prop_assert_eq!(pool.remaining(), self.remaining(expected));
        }
        let mut shown: Vec<ReservationView> = state.reservations(now).collect();
        let mut expected: Vec<ReservationView> = self.known().map(ModelReservation::view).collect();
        shown.sort_by_key(|view| view.id);
        expected.sort_by_key(|view| view.id);
        prop_assert_eq!(shown, expected);
        for reservation in self.reservations.iter().filter(|reservation| !reservation.is_husk) {
            let id = reservation.id();
            let is_known = self.is_known(reservation);
            prop_assert_eq!(state.reservation(id, now), is_known.then(|| reservation.view()));
            // The slot where it lies makes no second id of it.
            let there = ReservationId::new(ReservationParts {
                slot: u64::from(reservation.slot),
                generation: self.partitions[&id.parts().partition.0].generations[reservation.slot as usize],
                ..id.parts()
            });
            if is_known && there != id {
                prop_assert_eq!(state.reservation(there, now), None);
            }
            if is_known {
                prop_assert_eq!(state.reference(id), reservation.event.reference.as_deref());
                prop_assert_eq!(state.key(id), Some(reservation.event.key));
                prop_assert_eq!(state.has_key(id), reservation.has_key);
            }
        }
        Ok(())
    }
}
