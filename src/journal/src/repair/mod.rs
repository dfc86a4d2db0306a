//! What recovery refuses, mended on explicit request.
//!
//! First all is looked at as a start would: [`find_damage`] says what is wrong and what can be done, and changes nothing. What can be mended without a
//! loss is: a segment from its archive, an archive from its segment, a control page from what segments say. Only what is left makes a cut: the journal then
//! ends with the last whole batch before the damage.
//!
//! Invariants:
//! - Nothing is deleted or overwritten: what leaves its place lies in `damaged-<n>` in the journal's directory, where nothing else was before.
//! - A plan is read through as if it were carried out, before anything is changed.
//! - Until a cut is complete, the control page proves that something is missing, so a start in between is refused, and a repair in between finds the
//!   same.

mod act;
mod find;
mod history;
mod trial;

pub use act::repair;
#[cfg(test)]
pub(crate) use act::repair_in_steps;
pub use find::find_damage;

use std::collections::BTreeSet;
use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

use crate::control::ControlValues;
use crate::damage::{FileDamage, FileError, FileFault};
use crate::directory::{DirectoryError, DirectorySnapshot};
use crate::error::StorageError;
use crate::identifier::{JournalId, Lsn, SegmentNumber};
use crate::recovery::{Found, Refusal};

/// Why nothing can be said about a data directory, or a repair was broken off. A repair that was broken off may be begun again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// The manifest cannot be read or replaced.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A journal that is whole, and not for this program.
    #[error("the journal in {} is not damaged, but not for this program", directory.display())]
    Refused {
        /// The journal's directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: Refusal,
    },
    /// A snapshot or an archive of a newer program.
    #[error("a file is not damaged, but not for this program")]
    Newer(#[source] FileDamage),
    /// The operating system refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What is wrong with a data directory, and what a repair will do.
#[derive(Debug)]
pub struct RepairPlan {
    /// The journals that something is wrong with.
    pub journals: Vec<JournalRepair>,
}

/// What is wrong with a journal.
#[derive(Debug)]
pub struct JournalRepair {
    /// Which journal.
    pub journal: JournalId,
    /// The core that owns it; nothing if it is only history.
    pub core: Option<u16>,
    /// Where its files are.
    pub directory: PathBuf,
    /// What was found, in the order in which a start would.
    pub findings: Vec<Finding>,
    /// What is lost, if the journal has to be cut.
    pub cut: Option<CutAway>,
    pub(crate) index: usize,
    pub(crate) plan: Plan,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// Bytes from the beginning of the file to what is not valid.
    pub offset: u64,
    /// What is wrong.
    pub fault: Fault,
    /// What can be done.
    pub remedy: Remedy,
}

impl Finding {
    fn of(damage: FileDamage, remedy: Remedy) -> Finding {
        Finding {
            path: damage.path,
            offset: damage.offset,
            fault: Fault::File(damage.fault),
            remedy,
        }
    }
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Recovery stops here.
    Journal(Found),
    /// The file is not what was written.
    File(FileFault),
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Journal(found) => found.fmt(formatter),
            Fault::File(fault) => fault.fmt(formatter),
        }
    }
}

/// What a repair does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// The segment is written anew from its archive. Nothing is lost.
    FromArchive,
    /// The archive is put aside; the server makes it again from the segment. Nothing is lost.
    ArchivedAgain,
    /// The archive is put aside: the journal has no such segment. Nothing of the journal is lost.
    NotOfJournal,
    /// The snapshot is put aside; the one before it, or the journal, leads to the same state. Nothing is lost.
    WithoutSnapshot,
    /// The control page is made anew. Nothing is lost of what the segments hold; but what proved that the newest batches were durable is gone, so if
    /// they are missing too, nothing says so.
    ControlAnew,
    /// The journal is cut before it.
    Cut,
    /// Nothing: only a copy of the file from a backup helps.
    Backup,
}

/// What is lost of a journal that has to be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutAway {
    /// The last LSN that stays: that of a commit record, or 0.
    pub last_kept: Lsn,
    /// The last LSN that is lost, as far as anything proves it: records up to it were durable. The first one is behind
    /// [`CutAway::last_kept`].
    pub last_lost: Lsn,
    /// The segments that are put aside in full.
    pub segments: Vec<SegmentNumber>,
    /// The segment that is written anew up to the cut.
    pub shortened: Option<SegmentNumber>,
    /// The archives that are put aside.
    pub archives: Vec<SegmentNumber>,
    /// The snapshots that are put aside.
    pub snapshots: Vec<CutSnapshot>,
}

/// A snapshot that reaches further than a journal that has to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutSnapshot {
    /// The LSN that it covers.
    pub lsn: Lsn,
    /// Whether it is whole. Then it holds the state behind the cut, of which nothing else is left, and no start can go on from it.
    pub is_whole: bool,
}

impl RepairPlan {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.journals.is_empty()
    }

    /// Whether there is something that a repair can do.
    pub fn can_mend(&self) -> bool {
        let mut findings = self.journals.iter().flat_map(|journal| &journal.findings);
        findings.any(|finding| finding.remedy != Remedy::Backup)
    }
}

/// What is to be done with a journal's files.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// A control page in place of one that is not valid.
    control: Option<ControlValues>,
    archives_aside: Vec<SegmentNumber>,
    restored: BTreeSet<SegmentNumber>,
    snapshots: Vec<DirectorySnapshot>,
    cut: Option<PlannedCut>,
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.control.is_none()
            && self.archives_aside.is_empty()
            && self.restored.is_empty()
            && self.snapshots.is_empty()
            && self.cut.is_none()
    }
}

#[derive(Debug)]
struct PlannedCut {
    away: CutAway,
    /// Where the segment ends that is written anew.
    end: usize,
    control: ControlValues,
}

/// What is wrong with the file; files of a newer program are no damage.
fn damage_of(error: FileError) -> Result<FileDamage, RepairError> {
    match error {
        FileError::Damaged(damage) if matches!(damage.fault, FileFault::UnknownVersion(_)) => {
            Err(RepairError::Newer(damage))
        }
        FileError::Damaged(damage) => Ok(damage),
        FileError::Storage(StorageError::Io { path, source, .. }) if source.kind() == ErrorKind::NotFound => {
            Ok(FileDamage {
                path,
                offset: 0,
                fault: FileFault::Missing,
            })
        }
        FileError::Storage(error) => Err(error.into()),
        FileError::NotSealed { .. } => unreachable!("nothing here asks whether a segment is sealed"),
    }
}
