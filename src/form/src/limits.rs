//! The bounds of files.

/// The most errors of a file that are kept; the others are counted.
pub const ERROR_COUNT_KEPT_MAX: usize = 1000;

/// The most columns of a file.
pub const COLUMN_COUNT_MAX: usize = 1024;
