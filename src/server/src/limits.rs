//! The bounds of the server.

use std::time::Duration;

use plimsoll_engine::limits::INBOX_COMMAND_COUNT_MAX;
use plimsoll_protocol::limits::FRAME_SIZE_BYTES_MAX;

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
/// So much is read of a file in which the kernel tells of the host; `/proc/interrupts` of a large machine has a megabyte.
pub(crate) const HOST_FILE_SIZE_MAX: u64 = 4 << 20;
/// Syncs on the core's own thread in a row, after which the runtime gets to look at its sockets.
pub(crate) const OWN_SYNCS_IN_A_ROW_MAX: u32 = 8;
/// The most connections for each core, where the limit of open files allows them.
pub(crate) const CONNECTION_COUNT_MAX: usize = 16 * 1024;
/// The most commands that one core has accepted and not answered; past that frames are refused by their header. As many as the engine of one core holds.
pub(crate) const ACCEPTED_COMMANDS_MAX: usize = INBOX_COMMAND_COUNT_MAX;
/// What each connection may have in flight whatever the others do, as long as the core accepts any.
pub(crate) const OWN_COMMANDS: usize = 1024;
/// The most requests of rare operations that one core has accepted and not answered: what they ask for is copied.
pub(crate) const ACCEPTED_REQUESTS_MAX: usize = 64;
/// A request of a rare operation counts as so many commands in its connection's window: its answer may take a whole frame.
pub(crate) const REQUEST_WEIGHT: usize = 2048;
/// The most commands in one message to another core.
pub(crate) const MESSAGE_COMMANDS_MAX: usize = 4096;
/// The most messages from one core to another that are not answered.
pub(crate) const MESSAGES_IN_FLIGHT_MAX: usize = 512;
/// The most messages of one mailbox that one pass takes.
pub(crate) const MESSAGES_PER_PASS_MAX: usize = 256;
/// The most that one read brings; larger frames are read in several. Each core has one buffer of this size for all its connections.
pub(crate) const READ_SIZE_MAX: usize = 64 * 1024;
/// A connection's own buffer, for a frame that has arrived in part, is a multiple of this.
pub(crate) const KEPT_SIZE_MIN: usize = 4096;
/// A connection that has taken so many frames, or so many bytes, without a pause lets the others go first.
pub(crate) const FRAMES_PER_TURN_MAX: usize = 512;
pub(crate) const BYTES_PER_TURN_MAX: usize = 256 * 1024;
/// A frame of a rare operation counts as so many frames of that.
pub(crate) const RARE_FRAME_WEIGHT: usize = 32;
/// Connections accepted in a row, after which the runtime gets to look at the others.
pub(crate) const ACCEPTS_IN_A_ROW_MAX: usize = 64;
/// Connections that are looked at in a row, for what is overdue: 16,384 are then seen within a second, also on an idle server, whose slices are as far apart as beats of the heartbeat.
pub(crate) const LOOKS_PER_SLICE_MAX: usize = 1024;
/// What a connection counts in its core's memory beside its buffers: two tasks, their stream and its polls (measured: 1.3 KiB).
pub(crate) const CONNECTION_SIZE: usize = 4096;
/// What each connection may hold in buffers whatever the others do.
pub(crate) const OWN_SIZE: usize = 8192;
/// A connection may hold one part in so many of what is free of three quarters of its core's memory for connections.
pub(crate) const SHARE_DIVISOR: usize = 8;
/// The least that a core may be given for its connections: a request of the largest frame and its answer then fit one of them.
pub(crate) const CONNECTION_MEMORY_MIN: usize = 32 << 20;
/// What a request of a rare operation counts as until it is answered: a frame.
pub(crate) const REQUEST_ANSWER_SIZE: usize = FRAME_SIZE_BYTES_MAX as usize;
/// Emptied messages that are kept for the next commands: up to 30 MiB.
pub(crate) const SPARE_MESSAGE_COUNT_MAX: usize = 64;
/// Answered frames whose memory is kept for the next ones.
pub(crate) const SPARE_FRAME_COUNT_MAX: usize = 4096;
/// Only small frames are kept: for a large one an allocation is nothing beside its commands.
pub(crate) const SPARE_FRAME_COMMANDS_MAX: usize = 64;
/// The most pools of one core: about 1 GiB.
pub(crate) const POOLS_PER_CORE_MAX: usize = 1 << 20;
/// What a reservation is reckoned to take of memory, in bytes: itself, its key and its hold (128), and some of a reference, of units past the second
/// dimension, and of the copy that a snapshot makes of it.
pub(crate) const RESERVATION_SIZE: u64 = 256;

/// The most requests of history in flight on the whole server, those of waiting feeds included: one thread answers them.
pub(crate) const HISTORY_REQUESTS_MAX: usize = 64;
/// The same of one core: less than its requests of all sorts, so that history never keeps a planner waiting.
pub(crate) const HISTORY_PER_CORE_MAX: usize = 48;
/// The same of one connection, so that no client keeps the others from asking.
pub(crate) const HISTORY_PER_CONNECTION_MAX: usize = 4;
/// The most feeds that wait for an event; one more is refused.
pub(crate) const FEEDS_WAITING_MAX: usize = 32;
/// The longest that a feed waits.
pub(crate) const FEED_WAIT_MAX: Duration = Duration::from_secs(10);
/// The most kinds that a feed may name.
pub(crate) const FEED_KINDS_MAX: usize = 64;
/// Work on one request of history is cut after this time, or so many bytes of records; the answer says where it goes on.
pub(crate) const HISTORY_WORK_TIME_MAX: Duration = Duration::from_millis(500);
pub(crate) const HISTORY_WORK_BYTES_MAX: u64 = 128 << 20;
/// A page of events ends above this many bytes: a core copies it into its connection's buffer.
pub(crate) const HISTORY_ANSWER_SIZE_MAX: usize = 256 * 1024;
/// Questions of the history thread to one engine that are not answered.
pub(crate) const HISTORY_LOOKUPS_MAX: usize = 4;
/// The most states of past moments that are kept for further pages: each holds the pools that lived then, about half a kilobyte each.
pub(crate) const PAST_STATES_MAX: usize = 2;
/// The most groups of forgotten reservations that are kept while it is read how they ended: each holds a page of them, and the reader of their pool's events.
pub(crate) const SETTLINGS_MAX: usize = 4;
/// Past pools are kept for further pages of a dry run, and for the reset behind it: so many, and of all of them so many reservations, each about 200 bytes. The
/// last one is kept whatever it has.
pub(crate) const RESET_TARGETS_MAX: usize = 256;
pub(crate) const RESET_TARGET_RESERVATIONS_MAX: usize = 1 << 18;
/// A page of a feed ends behind so many events, whether they are told or passed over: those behind the first that is told are kept to undo the counters.
pub(crate) const FEED_EVENTS_MAX: usize = 1 << 14;

const _: () = assert!(HISTORY_PER_CORE_MAX < ACCEPTED_REQUESTS_MAX && FEEDS_WAITING_MAX < HISTORY_PER_CORE_MAX);
const _: () =
    assert!(CONNECTION_MEMORY_MIN / 4 * 3 / SHARE_DIVISOR >= 2 * FRAME_SIZE_BYTES_MAX as usize + READ_SIZE_MAX);
const _: () = assert!(READ_SIZE_MAX < BYTES_PER_TURN_MAX);
