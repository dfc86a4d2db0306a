//! The reservations of one partition.
//!
//! Invariants:
//! - A slot is used by one reservation at a time; `generation` counts its uses.
//! - An ended reservation is in the queue of ended ones, oldest first, until its slot is used again. The queue is in
//!   the order of time, since event times never go back.
//! - A slot that was swept is in the list of free ones until it is used again.
//! - A reservation lies in the slot that its id names, or it is in the table of moved ones.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::chunked::{Aligned, Chunked};
use crate::moved::{MovedPage, MovedReservation, MovedTable};
use crate::snapshot::ReservationPage;
use crate::stamps::Stamps;
use crate::stored::StoredReservation;
use crate::{Key, PartitionId, PoolId, ReservationId, ReservationParts, Restored, Timestamp, Units};

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
    moved: MovedTable,
    ends: ReservationEnds,
    /// Entries that are confirmed, those of retired pools that are not swept yet included.
    confirmed_count: usize,
    stamps: Stamps,
    /// Pages that were copied because they were about to be written to.
    preserved: Vec<ReservationPage>,
    /// What belongs to those pages of the table of moved ones.
    preserved_moved: Vec<MovedPage>,
}

impl Reservations {
    pub(crate) fn new(dimension_count: usize) -> Reservations {
        Reservations {
            entries: Chunked::new(),
            more_units: (dimension_count > 2).then(Chunked::new),
            references: BTreeMap::new(),
            first_requests: BTreeMap::new(),
            moved: MovedTable::default(),
            ends: ReservationEnds {
                oldest_ended: NONE,
                newest_ended: NONE,
                first_free: NONE,
            },
            confirmed_count: 0,
            stamps: Stamps::default(),
            preserved: Vec::new(),
            preserved_moved: Vec::new(),
        }
    }

    /// How many slots there are, used or not.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many are confirmed, those of retired pools that are not swept yet included.
    pub(crate) fn confirmed_count(&self) -> usize {
        self.confirmed_count
    }

    /// An entry has changed from one state to another.
    #[inline]
    fn recount(&mut self, before: bool, after: bool) {
        self.confirmed_count += usize::from(after);
        self.confirmed_count -= usize::from(before);
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
        if let Ok(slot) = u32::try_from(parts.slot)
            && let Some(entry) = self.get(slot)
            && entry.generation == parts.generation
            && entry.random == parts.random
            && !entry.is_elsewhere()
            && entry.pool_slot != NONE
        {
            return Some((slot, entry));
        }
        self.find_moved(parts)
    }

    /// The reservation that the id names, if it lies in another slot.
    #[cold]
    pub(crate) fn find_moved(&self, parts: &ReservationParts) -> Option<(u32, &StoredReservation)> {
        let slot = self.moved.find(parts)?;
        Some((slot, self.get(slot)?))
    }

    /// Whether another reservation than one that lies in the slot of the id has this id.
    #[inline]
    pub(crate) fn is_taken(&self, parts: &ReservationParts) -> bool {
        self.moved.len() > 0 && self.moved.find(parts).is_some()
    }

    /// The id of the reservation in a slot.
    #[inline]
    pub(crate) fn id_at(&self, partition: PartitionId, slot: u32) -> ReservationId {
        let entry = self.get(slot).expect("a slot in use");
        let (id_slot, generation) = if entry.is_elsewhere() {
            self.moved
                .origin(slot)
                .expect("what lies elsewhere is in the table of moved ones")
        } else {
            (slot, entry.generation)
        };
        ReservationId::new(ReservationParts {
            partition,
            slot: u64::from(id_slot),
            generation,
            random: entry.random,
        })
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

    /// Whether the reservation takes these units.
    #[inline]
    pub(crate) fn takes(&self, slot: u32, units: &Units) -> bool {
        let entry = self.get(slot).expect("a slot in use");
        let more = match &self.more_units {
            Some(more) => *more.get(slot as usize).expect("as many as entries"),
            None => [0; 6],
        };
        entry.first_units == units.0[..2] && more == units.0[2..]
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

    /// How many reservations, at most `count`, find a slot that exists already.
    pub(crate) fn reusable_count(&self, forget_before: Timestamp, count: usize) -> usize {
        let mut found = 0;
        let mut free = self.ends.first_free;
        while found < count
            && let Some(entry) = self.get(free)
        {
            (found, free) = (found + 1, entry.link);
        }
        let mut ended = self.ends.oldest_ended;
        while found < count
            && let Some(entry) = self.get(ended)
            && entry.moment < forget_before
        {
            (found, ended) = (found + 1, entry.link);
        }
        found
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
        self.forget_beside(slot);
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

    /// Forgets what stands beside the entry.
    fn forget_beside(&mut self, slot: u32) {
        let is_any = self.references.contains_key(&slot) || self.first_requests.contains_key(&slot);
        if is_any || self.moved.contains(slot) {
            // They belong to the page.
            self.entry_mut(slot);
            self.references.remove(&slot);
            self.first_requests.remove(&slot);
            self.moved.remove(slot);
        }
    }

    /// Makes the slot free, whatever has it, and returns the key that it had. An ended one must be the first of the
    /// queue.
    pub(crate) fn free(&mut self, slot: u32) -> Key {
        if self.get(slot).expect("a slot in use").state().is_ended() {
            self.unqueue_oldest(slot);
        }
        self.forget_beside(slot);
        let first_free = self.ends.first_free;
        let entry = self.entry_mut(slot);
        let was_confirmed = entry.is_confirmed();
        let key = entry.key;
        *entry = StoredReservation {
            link: first_free,
            generation: entry.generation.wrapping_add(1),
            ..StoredReservation::unused()
        };
        self.recount(was_confirmed, false);
        self.ends.first_free = slot;
        key
    }

    /// From now on an ended reservation names no pool: nobody finds it, and its slot is used again in its turn.
    pub(crate) fn orphan(&mut self, slot: u32) {
        if self.get(slot).is_some_and(|entry| entry.pool_slot != NONE) {
            let entry = self.entry_mut(slot);
            entry.pool_slot = NONE;
            entry.be_where_its_slot_says();
            self.moved.remove(slot);
        }
    }

    /// The key table leads from the key of the reservation in this slot to another one from now on.
    pub(crate) fn lose_key(&mut self, slot: u32) {
        self.entry_mut(slot).lose_key();
    }

    /// Puts a restored reservation into its slot: its own one, or one that was vacated, or a new one.
    pub(crate) fn put_restored(&mut self, event: &Restored) {
        let slot = event.slot;
        let entry = StoredReservation::restored(event);
        let (random, is_elsewhere) = (entry.random, entry.is_elsewhere());
        self.put(slot, entry, &event.units, event.reference.as_deref());
        if event.reference.is_none() {
            self.references.remove(&slot);
        }
        if event.requested_units == event.units {
            self.first_requests.remove(&slot);
        } else {
            self.first_requests.insert(slot, event.requested_units);
        }
        self.moved.remove(slot);
        if is_elsewhere {
            let parts = event.reservation.parts();
            let moved = MovedReservation {
                slot,
                id_slot: u32::try_from(parts.slot).expect("slots fit 32 bits"),
                id_generation: parts.generation,
            };
            self.moved.insert(moved, random);
        }
    }

    #[inline]
    pub(crate) fn put(&mut self, slot: u32, mut entry: StoredReservation, units: &Units, reference: Option<&str>) {
        entry.first_units.copy_from_slice(&units.0[..2]);
        let index = slot as usize;
        let was_confirmed = self.get(slot).is_some_and(StoredReservation::is_confirmed);
        self.recount(was_confirmed, entry.is_confirmed());
        if index < self.entries.len() {
            *self.entry_mut(slot) = entry;
        } else {
            assert_eq!(index, self.entries.len(), "slots are taken in order");
            self.push(entry);
        }
        self.set_more_units(slot, units);
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
        self.set_more_units(slot, units);
    }

    /// Those that do not stand in the entry.
    #[inline]
    fn set_more_units(&mut self, slot: u32, units: &Units) {
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
        let was_confirmed = entry.is_confirmed();
        entry.set_state(ReservationState::Confirmed);
        entry.moment = Timestamp::ABSENT;
        entry.link = NONE;
        self.recount(was_confirmed, true);
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
            entry.move_deadline(expires_at);
        }
        if event.would_refuse {
            entry.set_would_refuse();
        }
    }

    /// Ends a live reservation and puts it at the end of the queue.
    pub(crate) fn end(&mut self, slot: u32, state: ReservationState, at: Timestamp) {
        let entry = self.entry_mut(slot);
        assert!(
            state.is_ended() && !entry.state().is_ended(),
            "a live reservation ends once"
        );
        let was_confirmed = entry.is_confirmed();
        entry.set_state(state);
        entry.moment = at;
        entry.link = NONE;
        self.recount(was_confirmed, false);
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
            ReservationState::Expired if entry.has_moved_deadline() => Some(entry.moment),
            ReservationState::Expired => Some(entry.created_at.plus_seconds(entry.hold_seconds())),
            ReservationState::Confirmed | ReservationState::Released => None,
        };
        ReservationView {
            id: self.id_at(partition, slot),
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

    /// The pages that were copied since the last call, and what belongs to them of the table of moved ones.
    pub(crate) fn take_preserved(&mut self) -> (Vec<ReservationPage>, Vec<MovedPage>) {
        (
            core::mem::take(&mut self.preserved),
            core::mem::take(&mut self.preserved_moved),
        )
    }

    #[cold]
    fn preserve(&mut self, page: usize) {
        self.stamps.take(page);
        let first = page * PAGE_ENTRY_COUNT;
        let last = self.stamps.entry_count().min(first + PAGE_ENTRY_COUNT);
        let range = first as u32..last as u32;
        let moved = self.moved.range(range.clone());
        if !moved.is_empty() {
            let first_slot = first as u32;
            self.preserved_moved.push(MovedPage { first_slot, moved });
        }
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
            let was_confirmed = self.get(slot).is_some_and(StoredReservation::is_confirmed);
            self.recount(was_confirmed, entry.is_confirmed());
            *self.entry_mut(slot) = entry.clone();
            if let Some(more) = &mut self.more_units {
                *more.get_mut(slot as usize).expect("as many as entries") = page.more_units[offset];
            }
        }
        self.references
            .extend(page.references.iter().map(|(slot, text)| (*slot, Arc::clone(text))));
        self.first_requests.extend(page.first_requests.iter().copied());
    }

    /// Takes in which of them lie elsewhere than their ids say, once all pages are there.
    pub(crate) fn restore_moved(&mut self, page: &MovedPage) {
        for moved in &page.moved {
            if let Some(random) = self.get(moved.slot).map(|entry| entry.random) {
                self.moved.insert(*moved, random);
            }
        }
    }

    /// Whether the table of moved ones is what one can be, in a table from outside.
    pub(crate) fn check_moved(&self) -> Result<(), &'static str> {
        let mut count = 0;
        for (slot, entry) in self.iter().filter(|(_, entry)| entry.is_elsewhere()) {
            let Some((id_slot, generation)) = self.moved.origin(slot) else {
                return Err("a reservation lies elsewhere than its id says, and where it says is missing");
            };
            let parts = ReservationParts {
                partition: PartitionId(0),
                slot: u64::from(id_slot),
                generation,
                random: entry.random,
            };
            if id_slot == NONE || entry.pool_slot == NONE || self.find(&parts).is_none_or(|(found, _)| found != slot) {
                return Err("two reservations have one id, or one has an id that none can have");
            }
            count += 1;
        }
        if count < self.moved.len() {
            return Err("a reservation lies where its id says, and elsewhere");
        }
        Ok(())
    }
}
