//! Why a command has no effect.

use crate::Counters;

/// A business refusal: the command has no effect and leaves no trace. When several apply, the order of this list
/// decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The key belongs to another request.
    KeyReused,
    /// No pool of this name or id.
    PoolNotFound,
    /// No reservation of this id, or it ended longer than the key retention ago.
    ReservationNotFound,
    /// The reservation was released.
    ReservationEnded,
    /// The hold's deadline has passed.
    HoldExpired,
    /// The version that the change was made from is not current.
    ChangedMeanwhile,
    /// What a pool is to go back to is nothing that it can have been.
    NotAPast,
    /// A confirmed reservation has no deadline to change.
    NotHeld,
    /// The reservation would take nothing at all: that is a release.
    NoUnits,
    /// It was resized 65,535 times.
    NoMoreVersions,
    /// The planner closed the pool.
    PoolClosed,
    /// Before the pool's opening time.
    PoolNotOpenYet,
    /// At the pool's closing time or later.
    PoolPastClosing,
    /// The units do not fit.
    InsufficientCapacity {
        /// Bit d is set where dimension d is short.
        short: u8,
        /// Limit plus allowance minus what is reserved; may be below zero.
        remaining: Counters,
    },
    /// There is no room for another pool or reservation.
    Full,
}
