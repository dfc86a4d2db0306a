//! Reservations that lie in another slot than their id says: a reset brought them back when their old slot had another
//! one.
//!
//! Invariants:
//! - A reservation is in the table exactly if its bits say so, and no orphan is.
//! - No two have the same id, and none has the id of a reservation that lies where its id says.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use crate::ReservationParts;

/// A reservation in another slot than its id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovedReservation {
    /// Where it lies.
    pub slot: u32,
    /// The slot that its id names.
    pub id_slot: u32,
    /// The generation that its id names.
    pub id_generation: u16,
}

/// Those of neighbouring reservations that lie in another slot than their id says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedPage {
    /// The slot of the first one of the page of reservations; a multiple of 64.
    pub first_slot: u32,
    /// At least one, by slot.
    pub moved: Vec<MovedReservation>,
}

/// What a slot has of the id of the reservation in it.
#[derive(Clone, Copy)]
struct Origin {
    slot: u32,
    generation: u16,
    random: u64,
}

#[derive(Default)]
pub(crate) struct MovedTable {
    by_slot: BTreeMap<u32, Origin>,
    by_id: BTreeMap<(u32, u16, u64), u32>,
}

impl MovedTable {
    /// Where the reservation of this id lies.
    pub(crate) fn find(&self, parts: &ReservationParts) -> Option<u32> {
        let slot = u32::try_from(parts.slot).ok()?;
        self.by_id.get(&(slot, parts.generation, parts.random)).copied()
    }

    /// Slot and generation of the id of the reservation in this slot.
    pub(crate) fn origin(&self, slot: u32) -> Option<(u32, u16)> {
        self.by_slot.get(&slot).map(|origin| (origin.slot, origin.generation))
    }

    /// The reservation in the slot has this id from now on.
    pub(crate) fn insert(&mut self, moved: MovedReservation, random: u64) {
        let origin = Origin {
            slot: moved.id_slot,
            generation: moved.id_generation,
            random,
        };
        self.remove(moved.slot);
        self.by_id.insert((origin.slot, origin.generation, random), moved.slot);
        self.by_slot.insert(moved.slot, origin);
    }

    /// The slot has another reservation from now on, or none.
    pub(crate) fn remove(&mut self, slot: u32) {
        if let Some(origin) = self.by_slot.remove(&slot) {
            self.by_id.remove(&(origin.slot, origin.generation, origin.random));
        }
    }

    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.by_slot.contains_key(&slot)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_slot.len()
    }

    /// Those in a range of slots.
    pub(crate) fn range(&self, slots: Range<u32>) -> Vec<MovedReservation> {
        let all = self.by_slot.range(slots);
        all.map(|(slot, origin)| MovedReservation {
            slot: *slot,
            id_slot: origin.slot,
            id_generation: origin.generation,
        })
        .collect()
    }
}
