//! Why history cannot be read, or is not what it must be.

use std::path::PathBuf;

use plimsoll_domain::{PartitionId, RestoreError};
use plimsoll_journal::{DirectoryError, FileError, Lsn};
use plimsoll_record::DecodeError;

/// Why history cannot be read. What is damaged or not allowed is named with file, offset and LSN, and trying again does not help; errors of the operating
/// system may be retried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// There is no data directory, or its manifest cannot be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A file is damaged, or cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A record is whole, but not one that may stand where it stands.
    #[error("the record with LSN {lsn} in {} at offset {offset} {fault}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Bytes from the beginning of the file to the record, or to its frame in an archive.
        offset: u64,
        /// The record.
        lsn: Lsn,
        /// What is wrong with it.
        #[source]
        fault: RecordFault,
    },
    /// A snapshot is not the state that the journal leads to.
    #[error("snapshot {}: {fault}", path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        fault: SnapshotFault,
    },
    /// The journal of this core has no such LSN, or not yet.
    #[error("core {core} has no LSN {lsn}: its journal goes from 1 to {last}")]
    NoSuchLsn {
        /// The core.
        core: u16,
        /// What was asked for.
        lsn: Lsn,
        /// The last one that is durable.
        last: Lsn,
    },
    /// What was applied cannot be taken back.
    #[error("the moment lies before one that was reached")]
    Backwards,
    /// No journal belongs to this core.
    #[error("there is no core {core}: the directory has {count}")]
    NoSuchCore {
        /// The core.
        core: u16,
        /// How many there are.
        count: usize,
    },
}

impl ReplayError {
    /// Whether something is not what was written, or not known to this program: trying again does not help.
    pub fn is_damage(&self) -> bool {
        match self {
            ReplayError::Directory(DirectoryError::Control(error)) | ReplayError::File(error) => {
                matches!(error, FileError::Damaged(_))
            }
            ReplayError::Directory(DirectoryError::Manifest { .. } | DirectoryError::ManifestLost { .. })
            | ReplayError::Record { .. }
            | ReplayError::Snapshot { .. } => true,
            ReplayError::Directory(_)
            | ReplayError::NoSuchLsn { .. }
            | ReplayError::NoSuchCore { .. }
            | ReplayError::Backwards => false,
        }
    }
}

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordFault {
    /// It is no event that this program knows.
    #[error("is not one that this program knows: {0}")]
    Unknown(#[from] DecodeError),
    /// The state before it does not allow the event.
    #[error("does not fit what was before it: {0}")]
    DoesNotFit(&'static str),
    /// After it a pool's counters are not the sum of its reservations.
    #[error("leaves counters that are not the sum of the reservations, in partition {}", .0.0)]
    Counters(PartitionId),
    /// Its time is below that of the record before it.
    #[error("is older than the record before it")]
    TimeGoesBack,
    /// It has a key that does not lead to it: whoever looks for it by that will not find it.
    #[error("is not where the archive's index leads")]
    NotIndexed,
    /// The events of a reset are not one batch.
    #[error("stands where an event of the reset before it belongs")]
    ResetNotWhole,
    /// Another LSN belongs there.
    #[error("stands where LSN {0} belongs")]
    OutOfOrder(Lsn),
}

/// What is wrong with a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotFault {
    /// The file cannot be read, or is damaged.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its bytes are not pieces of a state.
    #[error(transparent)]
    Bytes(#[from] plimsoll_record::SnapshotError),
    /// Its pieces do not make a state.
    #[error(transparent)]
    State(#[from] RestoreError),
    /// The journal never had a commit record with its LSN.
    #[error("the journal has no batch that ends with LSN {0}")]
    NoSuchLsn(Lsn),
    /// The journal up to its LSN leads to another state of this partition.
    #[error("partition {} is not as the journal up to LSN {lsn} leaves it", partition.0)]
    Differs {
        /// The partition.
        partition: PartitionId,
        /// What the snapshot covers.
        lsn: Lsn,
    },
}
