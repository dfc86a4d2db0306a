//! What events are called outside, and what they are about.

use plimsoll_domain::{Event, ReservationId};

/// The names of all kinds of events that concern a pool, as the outward contract has them, and of housekeeping.
pub const KINDS: [&str; 12] = [
    "pool_created",
    "pool_changed",
    "pool_reset",
    "pool_retired",
    "reserved",
    "confirmed",
    "resized",
    "released",
    "expired",
    "restored",
    "turned_away",
    "swept",
];

/// The name of the event's kind.
pub fn kind_of(event: &Event) -> &'static str {
    match event {
        Event::PoolCreated(_) => "pool_created",
        Event::PoolChanged(_) => "pool_changed",
        Event::PoolReset(_) => "pool_reset",
        Event::PoolRetired(_) => "pool_retired",
        Event::Reserved(_) => "reserved",
        Event::Confirmed(_) => "confirmed",
        Event::Resized(_) => "resized",
        Event::Released(_) => "released",
        Event::Expired(_) => "expired",
        Event::Restored(_) => "restored",
        Event::TurnedAway(_) => "turned_away",
        Event::Swept(_) => "swept",
    }
}

/// The reservation that the event is about.
pub fn reservation_of(event: &Event) -> Option<ReservationId> {
    match event {
        Event::Reserved(event) => Some(event.reservation),
        Event::Confirmed(event) | Event::Expired(event) => Some(event.reservation),
        Event::Released(event) => Some(event.reservation),
        Event::Resized(event) => Some(event.reservation),
        Event::Restored(event) => Some(event.reservation),
        Event::PoolCreated(_)
        | Event::PoolChanged(_)
        | Event::PoolReset(_)
        | Event::PoolRetired(_)
        | Event::TurnedAway(_)
        | Event::Swept(_) => None,
    }
}
