//! What a partition keeps of a reservation.

use crate::chunked::Aligned;
use crate::reservation::NONE;
use crate::{Key, ReservationState, Restored, Timestamp};

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
/// The key table does not lead from its key to it.
const KEYLESS: u32 = 1 << 22;
/// Its id names another slot, see `moved`.
const ELSEWHERE: u32 = 1 << 23;
const KNOWN_BITS: u32 = HOLD_SECONDS_MASK | STATE_MASK | WOULD_REFUSE | MOVED_DEADLINE | KEYLESS | ELSEWHERE;

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
    /// The hold that was asked for first, the state, and flags.
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

    /// A reservation that was restored and is not in its slot yet; the units are added there.
    pub(crate) fn restored(event: &Restored) -> StoredReservation {
        let parts = event.reservation.parts();
        let (state, moment) = match event.expires_at {
            Some(deadline) => (ReservationState::Held, deadline),
            None => (ReservationState::Confirmed, Timestamp::ABSENT),
        };
        let first_deadline = event.created_at.plus_seconds(event.hold_seconds);
        let is_elsewhere = (u64::from(event.slot), event.generation) != (parts.slot, parts.generation);
        let flags = [
            (event.would_refuse, WOULD_REFUSE),
            (
                event.expires_at.is_some_and(|deadline| deadline != first_deadline),
                MOVED_DEADLINE,
            ),
            (!event.has_key, KEYLESS),
            (is_elsewhere, ELSEWHERE),
        ];
        let flags = flags.iter().filter(|(is_set, _)| *is_set);
        StoredReservation {
            key: event.key,
            created_at: event.created_at,
            moment,
            random: parts.random,
            first_units: [0; 2],
            pool_slot: event.pool.slot(),
            bits: flags.fold(event.hold_seconds | (state as u32) << STATE_SHIFT, |bits, (_, flag)| {
                bits | flag
            }),
            link: NONE,
            generation: event.generation,
            version: event.version,
        }
    }

    /// A free slot that was never used, for tables that are about to be filled.
    pub(crate) fn unused() -> StoredReservation {
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

    /// Whether it is confirmed; a free slot is not.
    #[inline]
    pub(crate) fn is_confirmed(&self) -> bool {
        self.state() == ReservationState::Confirmed
    }

    /// Where the reservation stands.
    #[inline]
    pub fn state(&self) -> ReservationState {
        match (self.bits & STATE_MASK) >> STATE_SHIFT {
            1 => ReservationState::Held,
            2 => ReservationState::Confirmed,
            3 => ReservationState::Released,
            _ => ReservationState::Expired,
        }
    }

    /// Where the reservation stands, if its bits are ones that can be.
    pub(crate) fn known_state(&self) -> Option<ReservationState> {
        let is_known = (1..=4).contains(&((self.bits & STATE_MASK) >> STATE_SHIFT)) && self.bits & !KNOWN_BITS == 0;
        is_known.then(|| self.state())
    }

    pub(crate) fn set_state(&mut self, state: ReservationState) {
        self.bits = self.bits & !STATE_MASK | (state as u32) << STATE_SHIFT;
    }

    /// The hold that was asked for first.
    #[inline]
    pub(crate) fn hold_seconds(&self) -> u32 {
        self.bits & HOLD_SECONDS_MASK
    }

    /// Its deadline is not the one that was asked for first.
    pub(crate) fn has_moved_deadline(&self) -> bool {
        self.bits & MOVED_DEADLINE != 0
    }

    pub(crate) fn move_deadline(&mut self, deadline: Timestamp) {
        self.moment = deadline;
        self.bits |= MOVED_DEADLINE;
    }

    /// Whether the key table leads from its key to it.
    pub(crate) fn has_key(&self) -> bool {
        self.bits & KEYLESS == 0
    }

    /// The key leads to another reservation from now on.
    pub(crate) fn lose_key(&mut self) {
        self.bits |= KEYLESS;
    }

    /// Whether its id names another slot than the one where it lies.
    #[inline]
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.bits & ELSEWHERE != 0
    }

    /// No id leads to it any more.
    pub(crate) fn be_where_its_slot_says(&mut self) {
        self.bits &= !ELSEWHERE;
    }

    pub(crate) fn set_would_refuse(&mut self) {
        self.bits |= WOULD_REFUSE;
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
