//! The reservations of one partition.
//!
//! Invariants:
//! - A slot is used by one reservation at a time; `generation` counts its uses.
//! - An ended reservation is in the queue of ended ones, oldest first, until its slot is used again. The queue is in the order of time, since event times never go back.

use crate::chunked::Chunked;
use crate::{Key, PartitionId, PoolId, ReservationId, ReservationParts, Timestamp, Units};

/// Where a reservation stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReservationState {
    /// Takes units until its deadline.
    Held = 1,
    /// Takes units.
    Confirmed = 2,
    /// Ended at its caller's wish.
    Released = 3,
    /// Ended at its deadline.
    Expired = 4,
}

impl ReservationState {
    /// Whether it takes no units any more.
    pub fn is_ended(self) -> bool {
        matches!(self, ReservationState::Released | ReservationState::Expired)
    }
}

/// A reservation as callers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationView {
    /// Its id.
    pub id: ReservationId,
    /// The pool that its units come from.
    pub pool: PoolId,
    /// Its units.
    pub units: Units,
    /// Where it stands.
    pub state: ReservationState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the hold expires; `None` when it was confirmed at once.
    pub expires_at: Option<Timestamp>,
    /// Enforcement would have refused it.
    pub would_refuse: bool,
}

pub(crate) const NONE: u32 = u32::MAX;

/// One cache line for each reservation. `more_units` holds what does not fit, in directories with more than two dimensions.
#[derive(Clone)]
pub(crate) struct Reservation {
    pub(crate) key: Key,
    pub(crate) created_at: Timestamp,
    /// When it ended, if it did.
    pub(crate) ended_at: Timestamp,
    /// 56 bits.
    pub(crate) random: u64,
    first_units: [u32; 2],
    pub(crate) pool_slot: u32,
    pub(crate) hold_seconds: u32,
    /// The next one in the queue of ended reservations.
    next_ended: u32,
    pub(crate) generation: u16,
    pub(crate) state: ReservationState,
    pub(crate) would_refuse: bool,
}

const _: () = assert!(size_of::<Reservation>() == 64 || size_of::<Reservation>() == 80);

/// A slot and its generation, for the next reservation.
#[derive(Clone, Copy)]
pub(crate) struct FreeSlot {
    pub(crate) slot: u32,
    pub(crate) generation: u16,
}

pub(crate) struct Reservations {
    entries: Chunked<Reservation>,
    more_units: Option<Chunked<[u32; 6]>>,
    oldest_ended: u32,
    newest_ended: u32,
}

impl Reservations {
    pub(crate) fn new(dimension_count: usize) -> Reservations {
        Reservations {
            entries: Chunked::new(),
            more_units: (dimension_count > 2).then(Chunked::new),
            oldest_ended: NONE,
            newest_ended: NONE,
        }
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&Reservation> {
        self.entries.get(slot as usize)
    }

    #[inline]
    pub(crate) fn key_at(&self, slot: u32) -> Key {
        self.get(slot).expect("the key table names existing slots").key
    }

    /// The reservation that the id names, ended ones included.
    #[inline]
    pub(crate) fn find(&self, parts: &ReservationParts) -> Option<(u32, &Reservation)> {
        let slot = u32::try_from(parts.slot).ok()?;
        let entry = self.get(slot)?;
        (entry.generation == parts.generation && entry.random == parts.random).then_some((slot, entry))
    }

    #[inline]
    pub(crate) fn units(&self, slot: u32) -> Units {
        let entry = self.get(slot).expect("a slot in use");
        let mut units = Units::default();
        units.0[..2].copy_from_slice(&entry.first_units);
        if let Some(more) = &self.more_units {
            units.0[2..].copy_from_slice(more.get(slot as usize).expect("as many as entries"));
        }
        units
    }

    /// The reservation that ended longest ago, whose slot may be used next.
    #[inline]
    pub(crate) fn oldest_ended(&self) -> Option<&Reservation> {
        self.get(self.oldest_ended)
    }

    /// Where the next reservation goes: the slot of the reservation that ended longest ago if that was before `forget_before`, else a new one.
    #[inline]
    pub(crate) fn free_slot(&self, forget_before: Timestamp) -> Option<FreeSlot> {
        if let Some(oldest) = self.oldest_ended()
            && oldest.ended_at < forget_before
        {
            return Some(FreeSlot {
                slot: self.oldest_ended,
                generation: oldest.generation.wrapping_add(1),
            });
        }
        let slot = u32::try_from(self.entries.len()).ok().filter(|slot| *slot < NONE)?;
        Some(FreeSlot { slot, generation: 0 })
    }

    /// Takes the ended reservation in this slot, which is about to be used again, out of the queue, and returns its key.
    pub(crate) fn forget(&mut self, slot: u32) -> Option<Key> {
        let entry = self.entries.get(slot as usize)?;
        assert_eq!(
            slot, self.oldest_ended,
            "only the reservation that ended longest ago is forgotten"
        );
        self.oldest_ended = entry.next_ended;
        if self.oldest_ended == NONE {
            self.newest_ended = NONE;
        }
        Some(entry.key)
    }

    #[inline]
    pub(crate) fn put(&mut self, slot: u32, mut entry: Reservation, units: &Units) {
        entry.first_units.copy_from_slice(&units.0[..2]);
        let mut more = [0; 6];
        more.copy_from_slice(&units.0[2..]);
        let index = slot as usize;
        if let Some(place) = self.entries.get_mut(index) {
            *place = entry;
            if let Some(place) = self.more_units.as_mut().and_then(|units| units.get_mut(index)) {
                *place = more;
            }
        } else {
            assert_eq!(index, self.entries.len(), "slots are taken in order");
            self.entries.push(entry);
            if let Some(units) = &mut self.more_units {
                units.push(more);
            }
        }
    }

    /// Ends a live reservation and puts it at the end of the queue.
    pub(crate) fn end(&mut self, slot: u32, state: ReservationState, at: Timestamp) {
        let entry = self.entries.get_mut(slot as usize).expect("a slot in use");
        assert!(
            state.is_ended() && !entry.state.is_ended(),
            "a live reservation ends once"
        );
        entry.state = state;
        entry.ended_at = at;
        entry.next_ended = NONE;
        match self.newest_ended {
            NONE => self.oldest_ended = slot,
            newest => {
                let newest = self
                    .entries
                    .get_mut(newest as usize)
                    .expect("the queue names existing slots");
                newest.next_ended = slot;
            }
        }
        self.newest_ended = slot;
    }

    pub(crate) fn view(&self, partition: PartitionId, slot: u32, pool: PoolId) -> ReservationView {
        let entry = self.get(slot).expect("a slot in use");
        ReservationView {
            id: ReservationId::new(ReservationParts {
                partition,
                slot: u64::from(slot),
                generation: entry.generation,
                random: entry.random,
            }),
            pool,
            units: self.units(slot),
            state: entry.state,
            created_at: entry.created_at,
            expires_at: (entry.hold_seconds > 0).then(|| entry.created_at.plus_seconds(entry.hold_seconds)),
            would_refuse: entry.would_refuse,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Reservation)> {
        self.entries
            .iter()
            .enumerate()
            .map(|(slot, entry)| (slot as u32, entry))
    }
}

impl Reservation {
    /// A reservation that is not in a table yet; `put` adds the units.
    pub(crate) fn new(event: &crate::Reserved) -> Reservation {
        let parts = event.reservation.parts();
        Reservation {
            key: event.key,
            created_at: event.at,
            ended_at: Timestamp::ABSENT,
            random: parts.random,
            first_units: [0; 2],
            pool_slot: event.pool.slot(),
            hold_seconds: event.hold_seconds,
            next_ended: NONE,
            generation: parts.generation,
            state: if event.hold_seconds == 0 {
                ReservationState::Confirmed
            } else {
                ReservationState::Held
            },
            would_refuse: event.would_refuse,
        }
    }
}
