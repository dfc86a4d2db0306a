//! The bounds of the domain.

/// Shares of the pools by hash of their names; fixed for ever, see ARCHITECTURE.md.
pub const PARTITION_COUNT: usize = 1024;
/// The most dimensions of a data directory.
pub const DIMENSION_COUNT_MAX: usize = 8;
/// The most units of one dimension that a reserve may ask for and that a limit may grant: 2^31 - 1.
pub const UNITS_MAX: u32 = i32::MAX as u32;
/// The longest hold, in seconds: a day.
pub const HOLD_SECONDS_MAX: u32 = 86_400;
/// The longest reference, in bytes of UTF-8.
pub const REFERENCE_SIZE_MAX: usize = 64;
/// The longest name of a pool, in bytes.
pub const POOL_NAME_SIZE_MAX: usize = 128;
/// The longest name of a zone or a kind, in bytes.
pub const LABEL_SIZE_MAX: usize = 64;
/// The longest coverage prefix, in bytes.
pub const COVERAGE_PREFIX_SIZE_MAX: usize = 32;
/// The most coverage prefixes of one pool.
pub const COVERAGE_PREFIX_COUNT_MAX: usize = 1024;
/// The latest time that is accepted from outside: 9999-12-31T23:59:59Z, in microseconds since 1970.
pub const TIME_MAX: i64 = 253_402_300_799 * 1_000_000;
/// The most pools in one partition; the slot of a pool id has 24 bits.
pub const POOLS_PER_PARTITION_MAX: usize = 1 << 24;
/// The most reservations that one partition keeps, live and ended; the key table stores slots in 32 bits.
pub const RESERVATIONS_PER_PARTITION_MAX: usize = u32::MAX as usize;
