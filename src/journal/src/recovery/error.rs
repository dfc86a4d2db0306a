//! Why a journal does not open.

use std::fmt;

use crate::error::StorageError;
use crate::identifier::{JournalId, Lsn, Position, SegmentNumber};
use crate::recovery::table::Found;

/// Why recovery stopped. Nothing was changed when it is damage, a refusal or a record that was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError<E> {
    /// Something that was durable is not there any more. Starting would forget what was acknowledged: restore the file or the directory.
    #[error(transparent)]
    Damage(Damage),
    /// The journal is intact, and not for this program.
    #[error(transparent)]
    Refused(Refusal),
    /// The caller did not take a record.
    #[error("the record at LSN {lsn} was not taken")]
    Record {
        /// The record.
        lsn: Lsn,
        /// Why.
        #[source]
        source: E,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A record that the caller did not take.
#[derive(Clone, Copy, Debug)]
pub struct NotTaken<E> {
    /// The record.
    pub lsn: Lsn,
    /// Why.
    pub source: E,
}

/// Something durable that is not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which journal.
    pub journal: JournalId,
    /// What was found.
    pub found: Found,
    /// Where; segment 0 stands for the control page.
    pub position: Position,
    /// The highest LSN that is proven to have been durable.
    pub evidence: Lsn,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage {
            journal,
            found,
            position,
            evidence,
        } = self;
        write!(formatter, "journal {journal} is damaged: ")?;
        if position.segment == SegmentNumber(0) {
            return found.fmt(formatter);
        }
        write!(
            formatter,
            "{found} in {:010}.segment at offset {}, where LSN {} belongs; durable were records up to LSN {evidence} at least",
            position.segment.0, position.offset, position.lsn
        )
    }
}

impl std::error::Error for Damage {}

/// An intact journal that this program does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A control page of a newer program.
    #[error("the control page has format version {version}, which this program does not know")]
    UnknownControlVersion {
        /// Its version.
        version: u32,
    },
    /// A segment of a newer program.
    #[error("{:010}.segment has format version {version}, which this program does not know", segment.0)]
    UnknownVersion {
        /// The segment.
        segment: SegmentNumber,
        /// Its version.
        version: u32,
    },
    /// A segment of another journal.
    #[error("{:010}.segment belongs to journal {journal}", segment.0)]
    OtherJournal {
        /// The segment.
        segment: SegmentNumber,
        /// Its journal.
        journal: JournalId,
    },
    /// A record of one of the journal's own kinds that this program does not know.
    #[error("the record at LSN {} has kind {kind:#x}, which this program does not know", position.lsn)]
    UnknownKind {
        /// The record.
        position: Position,
        /// Its kind.
        kind: u16,
    },
}
