//! The bounds of one core's engine.

/// The most commands that wait for a turn; past that messages are refused as overloaded. About 14 MiB.
pub const INBOX_COMMAND_COUNT_MAX: usize = 128 * 1024;
/// The most messages that wait for a turn.
pub const INBOX_MESSAGE_COUNT_MAX: usize = 16 * 1024;
/// The most messages whose replies wait for their sync; past that a turn takes none.
pub const WAITING_MESSAGE_COUNT_MAX: usize = 16 * 1024;
/// A turn takes no further message while the replies to so many commands wait for their sync.
pub const WAITING_COMMAND_COUNT_MAX: usize = 128 * 1024;
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
/// So many events are replayed together: what they will read is read ahead for all of them.
pub const REPLAYED_TOGETHER: usize = 32;
/// The most holds that expire in one turn.
pub const EXPIRIES_PER_TURN_MAX: usize = 256;
/// The most pools that retire, and the most pools whose lost demand is recorded, in one turn.
pub const HOUSEKEEPING_PER_TURN_MAX: usize = 64;
/// When the refusals of so many pools are counted they are recorded before the minute is over.
pub const LOST_DEMAND_POOL_COUNT_MAX: usize = 4096;
/// Refusals are counted for a minute, in microseconds.
pub const LOST_DEMAND_MICROS: i64 = 60_000_000;
/// The most counts that wait to be recorded; past that, which takes a full disk, they are dropped.
pub const LOST_DEMAND_BACKLOG_MAX: usize = 64 * 1024;
/// A definition of a pool counts as so many commands of a turn: a thousand of them then take one.
pub const PUT_WEIGHT: usize = 16;
/// How long deadlines that passed during a downtime wait for a prepared segment before they expire as usual, in microseconds.
pub const EXTENDING_MICROS_MAX: i64 = 5_000_000;
/// The most reservations that one reset of a pool changes; their events, below 300 bytes each, are one batch.
pub const RESET_CHANGE_COUNT_MAX: usize = 200_000;
