//! Segments, group commit and recovery of opaque, checksummed records.
