//! The bounds of a journal and of a data directory.

/// The size of a page: what a disk writes as a whole, and what a segment's size is a multiple of.
pub const PAGE_SIZE: usize = 4096;
/// The smallest segment, in bytes.
pub const SEGMENT_SIZE_MIN: usize = 64 * 1024;
/// The largest segment, in bytes.
pub const SEGMENT_SIZE_MAX: usize = 1024 * 1024 * 1024;
/// The size of a segment when nothing else is said, in bytes.
pub const SEGMENT_SIZE_DEFAULT: usize = 64 * 1024 * 1024;
/// The largest record, header and body, in bytes.
pub const RECORD_SIZE_MAX: usize = 1024 * 1024;
/// Segments that are prepared ahead when nothing else is said.
pub const RING_SEGMENT_COUNT_DEFAULT: usize = 3;
/// The fewest segments that are prepared ahead: below two, records of normal priority could never open a segment.
pub const RING_SEGMENT_COUNT_MIN: usize = 2;
/// The most segments that are prepared ahead.
pub const RING_SEGMENT_COUNT_MAX: usize = 64;
/// The largest chunk of a snapshot, in bytes.
pub const SNAPSHOT_CHUNK_SIZE_MAX: usize = 1024 * 1024;
/// The most snapshots that are kept for a journal: the newest, and the one before it in case the newest is damaged.
pub const SNAPSHOT_COUNT_MAX: usize = 2;
/// Records of an archive are compressed in frames of about so many bytes: what a reader brings into memory for one record.
pub const ARCHIVE_FRAME_SIZE: usize = 256 * 1024;
/// How many partitions a data directory has.
pub const PARTITION_COUNT: usize = 1024;
/// The most journals of a data directory: more would own no partition. Those that are only history count too.
pub const JOURNAL_COUNT_MAX: usize = 1024;
/// The most dimensions of a data directory.
pub const DIMENSION_COUNT_MAX: usize = 8;
/// The longest name of a dimension, in bytes.
pub const DIMENSION_NAME_SIZE_MAX: usize = 32;
/// The largest manifest, in bytes; a larger file is not read.
pub const MANIFEST_SIZE_MAX: u64 = 1024 * 1024;

/// Whether segments may have this size: a multiple of [`PAGE_SIZE`] from [`SEGMENT_SIZE_MIN`] to [`SEGMENT_SIZE_MAX`].
pub const fn is_segment_size(bytes: usize) -> bool {
    bytes >= SEGMENT_SIZE_MIN && bytes <= SEGMENT_SIZE_MAX && bytes.is_multiple_of(PAGE_SIZE)
}

const _: () = assert!(is_segment_size(SEGMENT_SIZE_DEFAULT));
const _: () = assert!(is_segment_size(SEGMENT_SIZE_MIN) && is_segment_size(SEGMENT_SIZE_MAX));
