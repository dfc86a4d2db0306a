//! The limits of the protocol. `ARCHITECTURE.md` (Frame) and `schemas/wire.fbs` state them for other languages.

/// Size of a frame's header in bytes.
pub const FRAME_HEADER_SIZE_BYTES: usize = 32;

/// Largest frame in bytes, header and padding included. A server may announce less in `Welcome`.
pub const FRAME_SIZE_BYTES_MAX: u32 = 1 << 20;

/// Frames are multiples of this many bytes, so that frames which follow one another stay aligned in a buffer.
pub const FRAME_ALIGNMENT_BYTES: usize = 8;

/// Most commands that the count in a frame's header can state. A server announces fewer in `Welcome`.
pub const COMMANDS_COUNT_MAX: usize = u16::MAX as usize;

/// Size of one command on the wire, without its units and reference.
pub const COMMAND_SIZE_BYTES: usize = 40;

/// Size of one outcome on the wire.
pub const OUTCOME_SIZE_BYTES: usize = 40;

/// Most dimensions of a directory.
pub const DIMENSIONS_COUNT_MAX: usize = 8;

/// Longest pool name in bytes.
pub const POOL_NAME_SIZE_BYTES_MAX: usize = 128;

/// Longest reference in bytes of UTF-8.
pub const REFERENCE_SIZE_BYTES_MAX: usize = 64;

/// Longest hold in seconds.
pub const HOLD_SECONDS_MAX: u32 = 86_400;

/// Most units of one dimension in one reserve.
pub const UNITS_MAX: u32 = i32::MAX as u32;

/// Longest text that a `Failure` carries, in bytes; longer ones are cut when they are encoded.
pub const FAILURE_DETAIL_SIZE_BYTES_MAX: usize = 1024;

/// Deepest nesting of tables in a payload (`Pools`, `Pool`, `PoolDefinition`), with one to spare for a later version.
pub const TABLE_DEPTH_MAX: usize = 4;

/// A table takes at least this many bytes of a payload that does not let two offsets point to one table: the offset
/// to it, and its own offset to its vtable.
pub const TABLE_SIZE_BYTES_MIN: usize = 8;

/// How many times its own size a payload may pretend to be, when what several offsets point to is counted for each of
/// them. It bounds the time that checking a hostile payload takes. Vtables and strings that an encoder shares between
/// the pools of one list stay far below it.
pub const APPARENT_SIZE_FACTOR: usize = 16;

const _: () = assert!((FRAME_SIZE_BYTES_MAX as usize).is_multiple_of(FRAME_ALIGNMENT_BYTES));
const _: () = assert!(FRAME_HEADER_SIZE_BYTES.is_multiple_of(FRAME_ALIGNMENT_BYTES));
