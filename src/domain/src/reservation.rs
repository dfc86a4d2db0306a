//! The reservations of one partition.
//!
//! Invariants:
//! - A slot is used by one reservation at a time; `generation` counts its uses.
//! - An ended reservation is in the queue of ended ones, oldest first, until its slot is used again. The queue is in
//!   the order of time, since event times never go back.
//! - A slot that was swept is in the list of free ones until it is used again.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::chunked::{Aligned, Chunked};
use crate::snapshot::ReservationPage;
use crate::stamps::Stamps;
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
    /// When the hold expires or did; `None` of what never was a hold, was confirmed, or was released.
    pub expires_at: Option<Timestamp>,
    /// Counts its resizes, from 0.
    pub version: u16,
    /// Enforcement would have refused it.
    pub would_refuse: bool,
}

pub(crate) const NONE: u32 = u32::MAX;

/// What a free slot has in place of random bits: no id has it.
const FREE: u64 = u64::MAX;

/// Bits 0 to 16 of `bits`: the hold that was asked for first, in seconds.
const HOLD_SECONDS_MASK: u32 = (1 << 17) - 1;
/// Bits 17 to 19: the state.
const STATE_SHIFT: u32 = 17;
const STATE_MASK: u32 = 0b111 << STATE_SHIFT;
const WOULD_REFUSE: u32 = 1 << 20;
/// Its deadline is not the one that was asked for first.
const MOVED_DEADLINE: u32 = 1 << 21;

/// What a partition keeps of a reservation; one cache line. The units of dimensions past the second stand apart, and so
/// do the reference and, of one whose units were changed, the units that were asked for first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReservation {
    /// The caller's key.
    pub key: Key,
    /// When it was made.
    pub created_at: Timestamp,
    /// Held: the deadline. Ended: when. Confirmed: absent.
    pub moment: Timestamp,
    /// 56 bits of the id; all ones in a free slot.
    pub random: u64,
    /// Units of the first two dimensions.
    pub first_units: [u32; 2],
    /// The pool's slot in the partition; all ones of an ended one whose pool's slot may have another pool.
    pub pool_slot: u32,
    /// The hold that was asked for first, the state, and two flags.
    pub bits: u32,
    /// Ended: the next one in the queue. Free: the next one in the list. Held: its node in the timer wheel, which means
    /// nothing elsewhere.
    pub link: u32,
    /// Counts the uses of the slot.
    pub generation: u16,
    /// Counts the resizes.
    pub version: u16,
}

const _: () = assert!(size_of::<Aligned<StoredReservation>>() == 64);

impl StoredReservation {
    /// A reservation that is not in a table yet; `put` adds the units.
    pub(crate) fn new(event: &crate::Reserved) -> StoredReservation {
        let parts = event.reservation.parts();
        let (state, moment) = if event.hold_seconds == 0 {
            (ReservationState::Confirmed, Timestamp::ABSENT)
        } else {
            (ReservationState::Held, event.at.plus_seconds(event.hold_seconds))
        };
        StoredReservation {
            key: event.key,
            created_at: event.at,
            moment,
            random: parts.random,
            first_units: [0; 2],
            pool_slot: event.pool.slot(),
            bits: event.hold_seconds
                | (state as u32) << STATE_SHIFT
                | if event.would_refuse { WOULD_REFUSE } else { 0 },
            link: NONE,
            generation: parts.generation,
            version: 0,
        }
    }

    /// A free slot that was never used, for tables that are about to be filled.
    fn unused() -> StoredReservation {
        StoredReservation {
            key: Key(0),
            created_at: Timestamp(0),
            moment: Timestamp::ABSENT,
            random: FREE,
            first_units: [0; 2],
            pool_slot: 0,
            bits: 0,
            link: NONE,
            generation: 0,
            version: 0,
        }
    }

    /// Whether the slot is free.
    #[inline]
    pub fn is_free(&self) -> bool {
        self.random == FREE
    }

    /// Where the reservation stands.
    #[inline]
    pub(crate) fn state(&self) -> ReservationState {
        match (self.bits & STATE_MASK) >> STATE_SHIFT {
            1 => ReservationState::Held,
            2 => ReservationState::Confirmed,
            3 => ReservationState::Released,
            _ => ReservationState::Expired,
        }
    }

    /// Where the reservation stands, if its bits are ones that can be.
    pub(crate) fn known_state(&self) -> Option<ReservationState> {
        let is_known = (1..=4).contains(&((self.bits & STATE_MASK) >> STATE_SHIFT))
            && self.bits & !(HOLD_SECONDS_MASK | STATE_MASK | WOULD_REFUSE | MOVED_DEADLINE) == 0;
        is_known.then(|| self.state())
    }

    fn set_state(&mut self, state: ReservationState) {
        self.bits = self.bits & !STATE_MASK | (state as u32) << STATE_SHIFT;
    }

    /// The hold that was asked for first.
    #[inline]
    pub(crate) fn hold_seconds(&self) -> u32 {
        self.bits & HOLD_SECONDS_MASK
    }

    #[inline]
    pub(crate) fn would_refuse(&self) -> bool {
        self.bits & WOULD_REFUSE != 0
    }

    /// Whether it ended before this time.
    #[inline]
    pub(crate) fn ended_before(&self, time: Timestamp) -> bool {
        self.state().is_ended() && self.moment < time
    }
}

/// A slot and its generation, for the next reservation.
#[derive(Clone, Copy)]
pub(crate) struct FreeSlot {
    pub(crate) slot: u32,
    pub(crate) generation: u16,
}

/// Where the queue and the list begin and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationEnds {
    /// The reservation that ended longest ago.
    pub oldest_ended: u32,
    /// The reservation that ended last.
    pub newest_ended: u32,
    /// The first free slot.
    pub first_free: u32,
}

/// How many reservations a page has: 4 KiB.
pub(crate) const PAGE_ENTRY_COUNT: usize = 64;

pub(crate) struct Reservations {
    entries: Chunked<Aligned<StoredReservation>>,
    more_units: Option<Chunked<[u32; 6]>>,
    references: BTreeMap<u32, Arc<str>>,
    /// What was asked for first, of reservations whose units were changed.
    first_requests: BTreeMap<u32, Units>,
    ends: ReservationEnds,
    stamps: Stamps,
    /// Pages that were copied because they were about to be written to.
    preserved: Vec<ReservationPage>,
}

impl Reservations {
    pub(crate) fn new(dimension_count: usize) -> Reservations {
        Reservations {
            entries: Chunked::new(),
            more_units: (dimension_count > 2).then(Chunked::new),
            references: BTreeMap::new(),
            first_requests: BTreeMap::new(),
            ends: ReservationEnds {
                oldest_ended: NONE,
                newest_ended: NONE,
                first_free: NONE,
            },
            stamps: Stamps::default(),
            preserved: Vec::new(),
        }
    }

    /// How many slots there are, used or not.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Where the queue and the list begin and end.
    pub(crate) fn ends(&self) -> ReservationEnds {
        self.ends
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&StoredReservation> {
        self.entries.get(slot as usize).map(|Aligned(entry)| entry)
    }

    /// The only way to an entry that is about to be changed.
    #[inline]
    fn entry_mut(&mut self, slot: u32) -> &mut StoredReservation {
        let page = slot as usize / PAGE_ENTRY_COUNT;
        if self.stamps.needs(page) {
            self.preserve(page);
        }
        &mut self.entries.get_mut(slot as usize).expect("a slot in use").0
    }

    #[inline]
    pub(crate) fn key_at(&self, slot: u32) -> Key {
        self.get(slot).expect("the key table names existing slots").key
    }

    /// The reservation that the id names, ended ones included.
    #[inline]
    pub(crate) fn find(&self, parts: &ReservationParts) -> Option<(u32, &StoredReservation)> {
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

    /// The units that were asked for first.
    pub(crate) fn requested_units(&self, slot: u32) -> Units {
        match self.first_requests.get(&slot) {
            Some(units) => *units,
            None => self.units(slot),
        }
    }

    /// The caller's own name for a reservation.
    pub(crate) fn reference(&self, slot: u32) -> Option<&str> {
        self.references.get(&slot).map(|text| &**text)
    }

    /// The reservation that ended longest ago, whose slot may be used next.
    #[inline]
    pub(crate) fn oldest_ended(&self) -> Option<&StoredReservation> {
        self.get(self.ends.oldest_ended)
    }

    /// Where the next reservation goes: a free slot, that of the reservation that ended longest ago if that was before
    /// `forget_before`, else a new one.
    #[inline]
    pub(crate) fn next_slot(&self, forget_before: Timestamp) -> Option<FreeSlot> {
        if let Some(free) = self.get(self.ends.first_free) {
            return Some(FreeSlot {
                slot: self.ends.first_free,
                generation: free.generation,
            });
        }
        if let Some(oldest) = self.oldest_ended()
            && oldest.moment < forget_before
        {
            return Some(FreeSlot {
                slot: self.ends.oldest_ended,
                generation: oldest.generation.wrapping_add(1),
            });
        }
        let slot = u32::try_from(self.entries.len()).ok().filter(|slot| *slot < NONE)?;
        Some(FreeSlot { slot, generation: 0 })
    }

    /// Takes whatever has this slot, which is about to be used again, out of the queue or the list, and returns the key
    /// of an ended reservation.
    pub(crate) fn vacate(&mut self, slot: u32) -> Option<Key> {
        let entry = self.get(slot)?;
        if entry.is_free() {
            assert_eq!(
                slot, self.ends.first_free,
                "free slots are used in the order of their list"
            );
            self.ends.first_free = entry.link;
            return None;
        }
        let key = entry.key;
        self.unqueue_oldest(slot);
        self.forget_texts(slot);
        Some(key)
    }

    fn unqueue_oldest(&mut self, slot: u32) {
        assert_eq!(
            slot, self.ends.oldest_ended,
            "only the reservation that ended longest ago is forgotten"
        );
        self.ends.oldest_ended = self.get(slot).expect("the queue names existing slots").link;
        if self.ends.oldest_ended == NONE {
            self.ends.newest_ended = NONE;
        }
    }

    fn forget_texts(&mut self, slot: u32) {
        if self.references.contains_key(&slot) || self.first_requests.contains_key(&slot) {
            // They belong to the page.
            self.entry_mut(slot);
            self.references.remove(&slot);
            self.first_requests.remove(&slot);
        }
    }

    /// Makes the slot free, whatever has it, and returns the key that it had. An ended one must be the first of the
    /// queue.
    pub(crate) fn free(&mut self, slot: u32) -> Key {
        if self.get(slot).expect("a slot in use").state().is_ended() {
            self.unqueue_oldest(slot);
        }
        self.forget_texts(slot);
        let first_free = self.ends.first_free;
        let entry = self.entry_mut(slot);
        let key = entry.key;
        *entry = StoredReservation {
            link: first_free,
            generation: entry.generation.wrapping_add(1),
            ..StoredReservation::unused()
        };
        self.ends.first_free = slot;
        key
    }

    /// From now on an ended reservation names no pool: nobody finds it, and its slot is used again in its turn.
    pub(crate) fn orphan(&mut self, slot: u32) {
        if self.get(slot).is_some_and(|entry| entry.pool_slot != NONE) {
            self.entry_mut(slot).pool_slot = NONE;
        }
    }

    #[inline]
    pub(crate) fn put(&mut self, slot: u32, entry: StoredReservation, units: &Units, reference: Option<&str>) {
        let index = slot as usize;
        if index < self.entries.len() {
            *self.entry_mut(slot) = entry;
        } else {
            assert_eq!(index, self.entries.len(), "slots are taken in order");
            self.push(entry);
        }
        self.set_units(slot, units);
        if let Some(reference) = reference {
            self.references.insert(slot, Arc::from(reference));
        }
    }

    fn push(&mut self, entry: StoredReservation) {
        let page = self.entries.len() / PAGE_ENTRY_COUNT;
        if page == self.stamps.page_count() {
            self.stamps.add_page();
        } else if self.stamps.needs(page) {
            self.preserve(page);
        }
        self.entries.push(Aligned(entry));
        if let Some(units) = &mut self.more_units {
            units.push([0; 6]);
        }
    }

    /// Changes the units only; the counters are the pool's.
    #[inline]
    fn set_units(&mut self, slot: u32, units: &Units) {
        self.entry_mut(slot).first_units.copy_from_slice(&units.0[..2]);
        if let Some(more) = &mut self.more_units {
            let place = more.get_mut(slot as usize).expect("as many as entries");
            place.copy_from_slice(&units.0[2..]);
        }
    }

    /// Tells a held reservation its node in the timer wheel.
    #[inline]
    pub(crate) fn set_link(&mut self, slot: u32, link: u32) {
        self.entry_mut(slot).link = link;
    }

    pub(crate) fn confirm(&mut self, slot: u32) {
        let entry = self.entry_mut(slot);
        entry.set_state(ReservationState::Confirmed);
        entry.moment = Timestamp::ABSENT;
        entry.link = NONE;
    }

    pub(crate) fn resize(&mut self, slot: u32, event: &crate::Resized) {
        if event.units != event.previous_units {
            // Before anything of the page changes.
            self.entry_mut(slot);
            self.first_requests.entry(slot).or_insert(event.previous_units);
            self.set_units(slot, &event.units);
        }
        let entry = self.entry_mut(slot);
        entry.version = event.version;
        if let Some(expires_at) = event.expires_at
            && expires_at != entry.moment
        {
            entry.moment = expires_at;
            entry.bits |= MOVED_DEADLINE;
        }
        if event.would_refuse {
            entry.bits |= WOULD_REFUSE;
        }
    }

    /// Ends a live reservation and puts it at the end of the queue.
    pub(crate) fn end(&mut self, slot: u32, state: ReservationState, at: Timestamp) {
        let entry = self.entry_mut(slot);
        assert!(
            state.is_ended() && !entry.state().is_ended(),
            "a live reservation ends once"
        );
        entry.set_state(state);
        entry.moment = at;
        entry.link = NONE;
        match self.ends.newest_ended {
            NONE => self.ends.oldest_ended = slot,
            newest => self.entry_mut(newest).link = slot,
        }
        self.ends.newest_ended = slot;
    }

    pub(crate) fn view(&self, partition: PartitionId, slot: u32, pool: PoolId) -> ReservationView {
        let entry = self.get(slot).expect("a slot in use");
        let expires_at = match entry.state() {
            ReservationState::Held => Some(entry.moment),
            ReservationState::Expired if entry.bits & MOVED_DEADLINE != 0 => Some(entry.moment),
            ReservationState::Expired => Some(entry.created_at.plus_seconds(entry.hold_seconds())),
            ReservationState::Confirmed | ReservationState::Released => None,
        };
        ReservationView {
            id: ReservationId::new(ReservationParts {
                partition,
                slot: u64::from(slot),
                generation: entry.generation,
                random: entry.random,
            }),
            pool,
            units: self.units(slot),
            state: entry.state(),
            created_at: entry.created_at,
            expires_at,
            version: entry.version,
            would_refuse: entry.would_refuse(),
        }
    }

    /// Every reservation, ended ones too, without free slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &StoredReservation)> {
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, Aligned(entry))| !entry.is_free())
            .map(|(slot, Aligned(entry))| (slot as u32, entry))
    }

    /// A snapshot begins: it will have everything as it is now.
    pub(crate) fn begin_snapshot(&mut self) {
        self.stamps.begin(self.entries.len());
    }

    /// Copies what the snapshot still needs of this page, if anything.
    pub(crate) fn copy_page(&mut self, page: usize) {
        if self.stamps.needs(page) {
            self.preserve(page);
        }
    }

    /// How many pages the snapshot has in all.
    pub(crate) fn snapshot_page_count(&self) -> usize {
        self.stamps.entry_count().div_ceil(PAGE_ENTRY_COUNT)
    }

    /// The pages that were copied since the last call.
    pub(crate) fn take_preserved(&mut self) -> Vec<ReservationPage> {
        core::mem::take(&mut self.preserved)
    }

    #[cold]
    fn preserve(&mut self, page: usize) {
        self.stamps.take(page);
        let first = page * PAGE_ENTRY_COUNT;
        let last = self.stamps.entry_count().min(first + PAGE_ENTRY_COUNT);
        let range = first as u32..last as u32;
        let more_units = match &self.more_units {
            Some(units) => (first..last).filter_map(|slot| units.get(slot).copied()).collect(),
            None => Vec::new(),
        };
        let entries = self.entries.slice(first, last).iter();
        self.preserved.push(ReservationPage {
            first_slot: first as u32,
            entries: entries.map(|Aligned(entry)| entry.clone()).collect(),
            more_units,
            references: self
                .references
                .range(range.clone())
                .map(|(slot, text)| (*slot, Arc::clone(text)))
                .collect(),
            first_requests: self
                .first_requests
                .range(range)
                .map(|(slot, units)| (*slot, *units))
                .collect(),
        });
    }

    /// Makes an empty table one with this many unused slots, to be filled from a snapshot.
    pub(crate) fn prepare(&mut self, count: usize, ends: ReservationEnds) {
        self.entries.reserve(count);
        if let Some(units) = &mut self.more_units {
            units.reserve(count);
        }
        for _ in 0..count {
            self.push(StoredReservation::unused());
        }
        self.ends = ends;
    }

    /// Fills slots from a snapshot. The caller has checked that they exist.
    pub(crate) fn restore(&mut self, page: &ReservationPage) {
        for (offset, entry) in page.entries.iter().enumerate() {
            let slot = page.first_slot + offset as u32;
            *self.entry_mut(slot) = entry.clone();
            if let Some(more) = &mut self.more_units {
                *more.get_mut(slot as usize).expect("as many as entries") = page.more_units[offset];
            }
        }
        self.references
            .extend(page.references.iter().map(|(slot, text)| (*slot, Arc::clone(text))));
        self.first_requests.extend(page.first_requests.iter().copied());
    }
}
