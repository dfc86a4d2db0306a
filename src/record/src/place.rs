//! Where in a state an event will have its effect.

use plimsoll_domain::{PoolId, ReservationId};

use crate::decode::wide;
use crate::generated::plimsoll::journal as format;
use crate::{
    KIND_CONFIRMED, KIND_EXPIRED, KIND_RELEASED, KIND_RESERVED, KIND_RESIZED, MOVED_SIZE, RESERVED_SIZE, RESIZED_SIZE,
    RecordTag,
};

/// What the event of a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The reservation.
    pub reservation: ReservationId,
    /// Its pool.
    pub pool: PoolId,
}

/// The place of an event of one reservation, without a check of anything but the size: for whoever wants to read ahead
/// what an event will read, before it is decoded. `None` of all other records, those that are no events among them.
#[inline]
pub fn place(tag: RecordTag, body: &[u8]) -> Option<Place> {
    let (high, low, pool) = match tag.kind {
        KIND_RESERVED => {
            let fixed = format::Reserved(*body.first_chunk::<RESERVED_SIZE>()?);
            (fixed.reservation_high(), fixed.reservation_low(), fixed.pool())
        }
        KIND_CONFIRMED | KIND_RELEASED | KIND_EXPIRED => {
            let fixed = format::Moved(*body.first_chunk::<MOVED_SIZE>()?);
            (fixed.reservation_high(), fixed.reservation_low(), fixed.pool())
        }
        KIND_RESIZED => {
            let fixed = format::Resized(*body.first_chunk::<RESIZED_SIZE>()?);
            (fixed.reservation_high(), fixed.reservation_low(), fixed.pool())
        }
        _ => return None,
    };
    Some(Place {
        reservation: ReservationId(wide(high, low)),
        pool: PoolId(pool),
    })
}
