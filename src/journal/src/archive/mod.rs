//! Archives.

/// The directory within a journal's directory that archives are in.
pub(crate) const ARCHIVE_DIRECTORY: &str = "archive";
