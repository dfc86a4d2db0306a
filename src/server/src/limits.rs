//! The bounds of the server.

/// The most commands in one frame.
pub(crate) const COMMANDS_MAX: u16 = 8192;
/// The most commands in flight on one connection; the server reads no further while they are.
pub(crate) const WINDOW_COMMANDS: usize = 32 * 1024;
/// A connection whose unsent answers take more than this is not read either.
pub(crate) const UNSENT_SIZE_MAX: usize = 4 << 20;
/// Sent answers are dropped from a connection's buffer from this many bytes on, and an empty buffer keeps no more.
pub(crate) const SENT_KEPT_SIZE_MAX: usize = 256 * 1024;
/// The largest frame before hello is answered.
pub(crate) const FRAME_SIZE_BEFORE_HELLO_MAX: u32 = 4096;
/// Descriptors that are kept for journals and the runtime; connections get the rest.
pub(crate) const RESERVED_FILE_COUNT: usize = 64;
/// The same, for each core.
pub(crate) const RESERVED_FILE_COUNT_PER_CORE: usize = 64;
/// Syncs on the core's own thread in a row, after which the runtime gets to look at its sockets.
pub(crate) const OWN_SYNCS_IN_A_ROW_MAX: u32 = 8;
/// The most connections of one core, where the limit of open files allows them.
pub(crate) const CONNECTION_COUNT_MAX: usize = 16 * 1024;
/// The most commands that one core has accepted and not answered; past that frames are refused by their header. Four times what the
/// engines of two cores hold.
pub(crate) const ACCEPTED_COMMANDS_MAX: usize = 512 * 1024;
/// The most requests of rare operations that one core has accepted and not answered.
pub(crate) const ACCEPTED_REQUESTS_MAX: usize = 256;
/// A request of a rare operation counts as so many commands in its connection's window: its answer may take a whole frame.
pub(crate) const REQUEST_WEIGHT: usize = 2048;
/// The most commands in one message to another core.
pub(crate) const MESSAGE_COMMANDS_MAX: usize = 4096;
/// The most messages from one core to another that are not answered.
pub(crate) const MESSAGES_IN_FLIGHT_MAX: usize = 512;
/// The most messages of one mailbox that one pass takes.
pub(crate) const MESSAGES_PER_PASS_MAX: usize = 256;
/// What a connection's receive buffer starts with; it grows to the size of the frame that is on its way.
pub(crate) const RECEIVE_BUFFER_SIZE: usize = 64 * 1024;
/// Emptied messages that are kept for the next commands: up to 30 MiB.
pub(crate) const SPARE_MESSAGE_COUNT_MAX: usize = 64;
/// Answered frames whose memory is kept for the next ones.
pub(crate) const SPARE_FRAME_COUNT_MAX: usize = 4096;
/// Only small frames are kept: for a large one an allocation is nothing beside its commands.
pub(crate) const SPARE_FRAME_COMMANDS_MAX: usize = 64;
/// The most pools of one core: about 1 GiB.
pub(crate) const POOLS_PER_CORE_MAX: usize = 1 << 20;
/// What a reservation takes of memory at most, with its key and its hold, in bytes.
pub(crate) const RESERVATION_SIZE: u64 = 128;
