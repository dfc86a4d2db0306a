//! The limits of the client. Those of the protocol stand in [`plimsoll_protocol::limits`].

/// Most connections of one client.
pub const CONNECTIONS_COUNT_MAX: usize = 1024;

/// Commands that may wait on one connection, unless [`Options::queue_commands_max`](crate::Options::queue_commands_max)
/// says otherwise.
pub const QUEUE_COMMANDS_MAX_DEFAULT: usize = 65_536;

/// Pools whose ids, or whose names, zones and kinds are remembered, unless
/// [`Options::names_max`](crate::Options::names_max) says otherwise.
pub const NAMES_MAX_DEFAULT: usize = 65_536;

/// Frames from [`Client::batch`](crate::Client::batch) and the rare calls count against the queue of a connection as
/// one command for each of so many bytes.
pub const QUEUE_SLOT_SIZE_BYTES: usize = 64;

/// No further frame is put behind this many bytes before they have been written.
pub(crate) const OUT_SIZE_BYTES_TARGET: usize = 256 * 1024;

/// Size of a read buffer to begin with; it grows to the size of a frame when a larger one arrives.
pub(crate) const IN_SIZE_BYTES: usize = 64 * 1024;

/// Requests that are taken from a connection's channel at a time.
pub(crate) const TAKE_MAX: usize = 1024;

/// Calls in a row that go to one connection, so that they can share a frame and a write.
pub(crate) const CALLS_IN_A_ROW: usize = 16;

/// Rounds of reading, gathering and writing before a connection's task lets others run.
pub(crate) const ROUNDS_MAX: usize = 32;

/// Empty lists of waiting calls that are kept for use again.
pub(crate) const SPARE_CALLS_MAX: usize = 64;

/// Longest trace context in bytes; that of W3C version 00 has 55.
pub const TRACEPARENT_SIZE_BYTES_MAX: usize = 128;

/// Longest key text in characters.
pub const KEY_TEXT_SIZE_MAX: usize = 255;

/// Commands that an [`Ordered`](crate::Ordered) holds, waiting and in flight.
pub const ORDERED_COMMANDS_MAX: usize = 65_536;

/// Frames that an [`Ordered`](crate::Ordered) has in flight.
pub(crate) const ORDERED_FRAMES_MAX: usize = 16;

/// Pools that an [`Ordered`](crate::Ordered) remembers as blocked; past it, every pool is.
pub(crate) const ORDERED_BLOCKED_MAX: usize = 4096;
