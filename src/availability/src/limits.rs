//! The bounds of the table.

/// The characters of a location that count, and the longest coverage prefix, in bytes.
pub const LOCATION_SIZE_MAX: usize = plimsoll_domain::limits::COVERAGE_PREFIX_SIZE_MAX;
/// The most work of one query, counted in pools that are looked at. About 0.2 ms; past it the answer is cut short.
pub const EXAMINED_MAX: u32 = 65_536;
/// What it counts to begin a list of pools: one for each part, kind and length of window, and for each coverage that has a
/// prefix of the location.
pub const LIST_COST: u32 = 16;
/// The slots of a part are allocated so many bytes at a time.
pub const SLOT_CHUNK_SIZE: usize = 65_536;
/// The most former indexes that a writer keeps until no reader uses them any more, so that the memory is freed by the
/// writer. The oldest beyond that is left to its last reader.
pub const FORMER_INDEX_COUNT_MAX: usize = 16;
