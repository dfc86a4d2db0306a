//! The bounds of one core's engine.

/// The most commands that wait for a turn; past that messages are refused as overloaded. About 14 MiB.
pub const INBOX_COMMAND_COUNT_MAX: usize = 128 * 1024;
/// The most messages that wait for a turn.
pub const INBOX_MESSAGE_COUNT_MAX: usize = 16 * 1024;
/// A turn takes no further message after this many commands, so that a sync is never far away: about 1.5 MiB of records.
pub const TURN_COMMAND_COUNT_MAX: usize = 16 * 1024;
/// The most tickets whose sync has not finished. The second gathers what arrives while the first is on its way to the disk.
pub const TICKETS_IN_FLIGHT_MAX: usize = 2;
/// The most pools in one answer, and the most names or ids in one request.
pub const ITEM_COUNT_MAX: usize = 1000;
/// A page of pools, and the pools of one answer, are cut or refused above this, so that an answer fits a frame.
pub const ANSWER_SIZE_MAX: usize = 768 * 1024;
/// An idle second, in microseconds: then a commit record is written that proves all before it durable.
pub const IDLE_MICROS: i64 = 1_000_000;
/// For so many commands at once is read ahead what they will read; more than a core has misses in flight gains nothing.
pub const TOUCHED_AHEAD: usize = 16;
